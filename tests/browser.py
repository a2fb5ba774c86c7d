"""The page of demo/app.py served by the tests' own process, which can look at its viewers."""

import contextlib
import threading
from collections.abc import Iterator

from demo.arguments import NANO_CHECKPOINT
from demo.live.graceful_server import bind
from demo.web.options import PageArguments, ViewerArguments
from demo.web.serving import make_page_server
from demo.web.tab_registry import TabRegistry
from models.load import load_checkpoint
from models.streaming.engine import Engine, EngineOptions
from tests.waiting import PATIENCE_S, until


@contextlib.contextmanager
def serving_page(checkpoint=None, js_monitor: bool = True, auth: str | None = None, **viewing) -> Iterator:
    """A page in this process on a free port: the server, with .address and .viewers."""
    checkpoint = checkpoint or load_checkpoint(NANO_CHECKPOINT, device="cpu", dtype="float32")
    options = ViewerArguments(**viewing)
    page = PageArguments(js_monitor=js_monitor, port=0, auth=auth)
    # On a busy machine a step is late, and none is dropped for that.
    engine = Engine(checkpoint, EngineOptions(3 * options.max_sessions, max_lag_s=PATIENCE_S))
    registry = TabRegistry(engine, options, js_monitor)
    listening = bind(page.host, page.port)
    server = make_page_server(registry, page)
    server.registry = registry
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listening.close()
        assert not thread.is_alive()
        assert not registry.videos.folder.exists(), "uploads were left behind"
