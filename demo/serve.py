"""Serve live commentary over HTTP and WebSocket.

    python demo/serve.py                                   the shipped nano model on http://127.0.0.1:8000
    python demo/serve.py --model_name_or_path chenjoya/LiveCC-7B-Instruct --save_dir DIR
    LIVECC_TOKEN=... python demo/serve.py --host 0.0.0.0 --allow_host video.example.org
    python demo/serve.py --allow_source demo/sources rtsp://camera.local/

Hardware: two CPU cores for the nano model, a 24 GB GPU for a 7B model in bfloat16. Runs until SIGTERM or Ctrl-C, then
saves its sessions in --save_dir, or finishes what has come.
Exit status: 0 after SIGTERM, 1 where a session could not be saved, 2 for bad input, 130 after Ctrl-C.
The routes are on the page /docs, which takes its looks from a public server (the form itself:
/openapi.json).
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import logging
from dataclasses import dataclass

from demo.arguments import MemoryArguments
from demo.live.engine import LOOPBACK, StreamEngineArguments
from demo.server.options import ServerOptions
from utils.arguments import helped, parse_arguments
from utils.errors import run_command


@dataclass
class ListenArguments:
    """Address of the server."""

    host: str = helped("127.0.0.1", "address to listen on; 0.0.0.0 is every network that this machine is in")
    port: int = helped(8000, "0 takes a free one", le=65535)


def main() -> int:
    """Run the command; return its exit status."""
    where, model, memory, options = parse_arguments(
        ListenArguments, StreamEngineArguments, MemoryArguments, ServerOptions, description=__doc__.split("\n")[0]
    )
    check_server(where, model, memory, options)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    # torch, transformers and FastAPI load only now: --help and a mistyped flag need not wait for them.
    from demo.live.graceful_server import bind
    from demo.server.app import create_app
    from demo.server.serving import listen
    from demo.server.sessions import open_sessions

    listening = bind(where.host, where.port)  # first: a port in use is told before the model is loaded
    sessions = open_sessions(model, memory, options)
    if sessions.saved.folder is not None:
        print(f"{len(sessions.saved)} saved sessions in {sessions.saved.folder} can be continued", flush=True)
    listen(create_app(sessions, options, (where.host,)), sessions, options, listening)
    return 1 if sessions.n_unsaved else 0


def check_server(
    listening: ListenArguments, model: StreamEngineArguments, memory: MemoryArguments, options: ServerOptions
) -> None:
    """Raise UserError for values that cannot work, before anything is loaded."""
    options.check()
    memory.options()
    has_token = options.secret() is not None
    if not has_token and listening.host not in LOOPBACK:
        print(
            f"warning: everybody who reaches {listening.host} can use this server: set LIVECC_TOKEN, and put a proxy "
            "that speaks TLS in front of it",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run_command(main)
