"""Read-ahead: a thread reads an iterator while its earlier items are being used."""

import threading
from collections.abc import Iterable, Iterator
from queue import Full, Queue
from typing import TypeVar

Item = TypeVar("Item")
POLL_S = 0.1  # how soon the thread notices that nobody listens any more
LEAVE_S = 2.0  # how long its end is waited for: more than a frame takes


def read_ahead(items: Iterable[Item], n_ahead: int) -> Iterator[Item]:
    """The items in order, up to `n_ahead` of them read by a thread before they are asked for.

    What reading raises is raised here, after the items before it. The thread ends when this iterator is closed.
    """
    queue: Queue[tuple[bool, object]] = Queue(n_ahead)  # (whether it is an item, item or how it ended)
    left = threading.Event()
    thread = threading.Thread(target=_read, args=(items, queue, left), daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = queue.get()
            if not is_item and value is not None:
                raise value
            if not is_item:
                return
            yield value
    finally:
        left.set()
        # A thread that still decodes when the interpreter ends can abort it; one that waits for a source is left.
        thread.join(LEAVE_S)


def _read(items: Iterable[Item], queue: Queue, left: threading.Event) -> None:
    end = None
    try:
        for item in items:
            if not _put(queue, (True, item), left):
                return
    except BaseException as error:  # it belongs to whoever asked for the items
        end = error
    _put(queue, (False, end), left)


def _put(queue: Queue, entry: tuple, left: threading.Event) -> bool:
    """Wait for room; False when nobody will take it."""
    while not left.is_set():
        try:
            queue.put(entry, timeout=POLL_S)
            return True
        except Full:
            continue
    return False
