"""The engine behind the server and the page: a model that speaks for many streams at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo.arguments import NANO_CHECKPOINT, LiveModelArguments
from utils.arguments import helped

if TYPE_CHECKING:
    from models.streaming.engine import Engine

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MEASURED_HW = (360, 640)  # of the picture on which the cost of a step is measured


@dataclass
class StreamEngineArguments(LiveModelArguments):
    """Model that speaks, how it runs, and how much is asked of it."""

    max_lag_s: float = helped(2.0, "frames that wait longer are dropped where newer ones have come", gt=0)
    max_load: float = helped(
        0.9, "share of the time that the model may work; then others are refused or have to wait", gt=0
    )


@contextmanager
def started_engine(model: StreamEngineArguments, n_streams: int) -> Iterator["Engine"]:
    """Load the model and start an engine; it is closed where what is then built on it fails."""
    import transformers

    from models.load import load_checkpoint
    from models.streaming.engine import Engine, EngineOptions
    from models.streaming.threads import use_threads

    transformers.utils.logging.disable_progress_bar()
    checkpoint = load_checkpoint(
        model.model_name_or_path or NANO_CHECKPOINT, device=model.device, dtype=model.dtype,
        position_mode=model.position_mode,
    )  # fmt: skip
    use_threads(checkpoint.model)
    engine = Engine(checkpoint, EngineOptions(n_streams, model.max_lag_s, model.max_load))
    try:
        yield engine
    except BaseException:  # passed on; its thread must not outlive what it was started for
        engine.close()
        raise
