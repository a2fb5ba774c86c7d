"""Interface of every source of frames."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from queue import SimpleQueue

from data.video.live import TimedFrame


class Source(AbstractContextManager):
    """Frames uint8 [3, H, W] with their times, on a grid of 2 a second, all of one size.

    name: what people read; it holds no password.
    is_live: the source keeps its own time, `now()`, and waits for nobody. Else frames come as fast as they are asked
        for, with times from the start of the video.
    events: short messages for people (str), put there as things happen: "lost: ...", "back after 7.2 s".
    n_dropped: frames of the grid that the source gave up because nobody took them in time.
    Iterating raises VideoError where the source cannot be read.
    """

    is_live = False

    def __init__(self, name: str):
        self.name = name
        self.events: SimpleQueue[str] = SimpleQueue()
        self.n_dropped = 0

    @abstractmethod
    def __iter__(self) -> Iterator[TimedFrame]: ...

    @abstractmethod
    def close(self) -> None:
        """Close the source, from any thread: an iteration that is under way stops within a second."""

    def __exit__(self, *exception) -> None:
        self.close()
