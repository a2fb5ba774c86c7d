"""The page as Gradio Blocks: the controls are Gradio's, the player and all that moves with it is static/*.js.

No Gradio event reaches the server: what a control is set to goes to our script, and from there over the WebSocket.
"""

import os

from fastapi import FastAPI

from demo.web.settings import EAGERNESS, MOST_WORDS, QUALITY, QUERY_CHARACTERS, QUERY_EXAMPLES, has_qualities
from models.load import Checkpoint
from models.streaming.options import DEFAULT_QUERY

TITLE = "Live commentary"
HEAD = """\
<link rel="icon" href="/live/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/live/static/app.css">
<script type="module" src="/live/static/app.js"></script>"""
# Our script listens for this event: Gradio keeps what its controls are set to.
SETTLED = """(query, eagerness, words, quality) => { window.dispatchEvent(new CustomEvent("livecc-settings",
{ detail: { query, eagerness, words, quality } })); }"""
FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]
MONO = ["ui-monospace", "monospace"]
PLAIN = {"apply_default_css": False, "padding": False}
ONE_QUALITY = "The small model looks at one size of picture only."


def add_page(app: FastAPI, checkpoint: Checkpoint) -> None:
    """Mount the page at /."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read by gradio when it is imported
    import gradio as gr

    theme = gr.themes.Soft(primary_hue="emerald", neutral_hue="slate", font=FONTS, font_mono=MONO)
    gr.mount_gradio_app(
        app, make_blocks(has_qualities(checkpoint)), path="/", allowed_paths=[], show_error=False, ssr_mode=False,
        max_file_size=1, footer_links=["settings"], theme=theme, head=HEAD, mcp_server=False, enable_monitoring=False,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )  # fmt: skip


def make_blocks(has_qualities: bool):
    """The layout: places for static/*.js to fill, and Gradio's controls."""
    import gradio as gr

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        _place("head")
        with gr.Row(equal_height=False, elem_id="livecc-columns"):
            with gr.Column(scale=7, min_width=320):
                _place("stage")
                _place("sources")
                with gr.Accordion("How it comments", open=True, elem_id="livecc-controls"):
                    _add_controls(has_qualities)
            with gr.Column(scale=4, min_width=320):
                _place("transcript")
                _place("chat")
                _place("cost")
    return blocks


def _place(name: str) -> None:
    """An empty element that static/*.js fills."""
    import gradio as gr

    gr.HTML(f'<div id="livecc-{name}"></div>', elem_classes=["livecc", f"livecc-{name}"], **PLAIN)


def _add_controls(has_qualities: bool) -> None:
    import gradio as gr

    query = gr.Dropdown(
        list(QUERY_EXAMPLES), value=DEFAULT_QUERY, allow_custom_value=True, elem_id="livecc-query",
        label="What to do", info=f"Choose one, or write your own (up to {QUERY_CHARACTERS} letters)",
    )  # fmt: skip
    with gr.Row():
        eagerness = gr.Radio(
            list(EAGERNESS),
            value=next(iter(EAGERNESS)),
            label="Eagerness",
            info="How soon it speaks when little happens",
        )
        quality = gr.Radio(
            list(QUALITY), value="Balanced", label="Quality or speed", interactive=has_qualities,
            info="Sharper pictures show more and take longer" if has_qualities else ONE_QUALITY,
        )  # fmt: skip
    words = gr.Slider(
        0.5, MOST_WORDS, value=MOST_WORDS, step=0.5, label="Most words a second",
        info=f"People speak two to three; {MOST_WORDS} is no limit",
    )  # fmt: skip
    controls = [query, eagerness, words, quality]
    for event in (query.change, eagerness.change, words.release, quality.change):
        event(None, controls, None, js=SETTLED, show_progress="hidden", queue=False, api_visibility="private")
