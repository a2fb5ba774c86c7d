"""The live page (demo/app.py): tabs on the engine, behind a password, in front of a Gradio page."""
