"""The live page (demo/app.py): viewers on the engine, behind a gate, in front of a Gradio page."""
