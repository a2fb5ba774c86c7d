"""The live demo: a page where a video plays and the commentary appears in time with it.

    python demo/app.py --js_monitor                        the shipped nano model and its matches, on this machine only
    python demo/app.py                                     the server's clock leads: for slow connections
    python demo/app.py --model_name_or_path chenjoya/LiveCC-7B-Instruct --examples FILE.mp4 --js_monitor
    LIVECC_AUTH=USER:PASSWORD python demo/app.py --js_monitor --host 0.0.0.0 --allow_host video.example.org

Hardware: two CPU cores for the nano model and a few viewers, a 24 GB GPU for a 7B model in bfloat16. Opens in about
10 s and then runs until Ctrl-C or SIGTERM. Exit status: 0 after SIGTERM, 2 for bad input, 130 after Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import asyncio
import logging

from demo.arguments import NANO_NOTE
from demo.live.engine import LOOPBACK, MEASURED_HW, StreamEngineArguments, started_engine
from demo.web.options import PageArguments, ViewerArguments
from utils.arguments import parse_arguments
from utils.errors import run_command


def main() -> int:
    """Run the command; return its exit status."""
    page, model, viewing = parse_arguments(
        PageArguments, StreamEngineArguments, ViewerArguments, description=__doc__.split("\n")[0]
    )
    check_page(page, model, viewing)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    # torch, transformers and Gradio load only now: --help and a mistyped flag need not wait for them.
    from demo.live.graceful_server import bind
    from demo.web.serving import listen

    listening = bind(page.host, page.port)  # first: a port in use is told before the model is loaded
    registry = open_registry(page, model, viewing)
    if model.model_name_or_path is None:
        print(NANO_NOTE.replace("demo/cli.py", "demo/app.py --js_monitor").replace("--video", "--examples"), flush=True)
    asyncio.run(listen(registry, page, listening))
    return 0


def check_page(page: PageArguments, model: StreamEngineArguments, viewing: ViewerArguments) -> None:
    """Raise UserError for values that cannot work, before anything is loaded; warn of doors left open."""
    page.check()
    viewing.check()
    if page.credentials() is None and (page.share or page.host not in LOOPBACK):
        where = "the public address" if page.share else page.host
        advice = "--auth USER:PASSWORD asks first"
        print(f"warning: everybody who reaches {where} can use this page; {advice}", file=sys.stderr)


def open_registry(page: PageArguments, model: StreamEngineArguments, viewing: ViewerArguments):
    """Load the model and start an engine: the TabRegistry."""
    from demo.web.tab_registry import TabRegistry

    # Twice the places: a commentary that starts anew and a conversation are streams of their own.
    with started_engine(model, 3 * viewing.max_sessions) as engine:
        registry = TabRegistry(engine, viewing, page.js_monitor)
        engine.measure(engine.checkpoint.limits.size_hw(*MEASURED_HW, engine.checkpoint.limits.max_frames))
    return registry


if __name__ == "__main__":
    run_command(main)
