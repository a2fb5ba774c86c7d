"""A session's records, numbered: written by the engine's thread, read by any number of clients at their own pace."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import islice

RECORDS_KEPT = 2048
BEAT_S = 15.0


class EventLog:
    """The latest records of a session. Writing never waits: what a slow reader has not fetched in time is gone.

    A reader who asks for records that are gone gets {"type": "lost", "n": how many} in their place.

    records: of a log that goes on, whose numbers may have gaps; forgotten: the last of its records that was gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        n_kept: int = RECORDS_KEPT,
        last_seq: int = 0,
        records: Iterable[dict] = (),
        forgotten: int | None = None,
    ):
        self._loop, self._lock = loop, threading.Lock()
        self._records: deque[dict] = deque(records, maxlen=n_kept)
        first = self._records[0]["seq"] if self._records else last_seq + 1
        self.forgotten = first - 1 if forgotten is None else forgotten  # the last one that is gone
        self._readers: set[asyncio.Event] = set()
        self.last_seq = last_seq
        self.n_forgotten = 0
        self.ended = False

    @property
    def n_readers(self) -> int:
        """Readers that follow it now."""
        return len(self._readers)

    def append(self, record: dict) -> int:
        """Number a record and keep it; from any thread. A record of type "end" is the last. Returns its number."""
        with self._lock:
            self.last_seq += 1
            if len(self._records) == self._records.maxlen:
                self.forgotten = self._records[0]["seq"]
                self.n_forgotten += 1
            self._records.append({"seq": self.last_seq, **record})
            self.ended = self.ended or record["type"] == "end"
            seq, wake = self.last_seq, bool(self._readers)
        if wake:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the readers with it
                self._loop.call_soon_threadsafe(self._wake)
        return seq

    def after(self, seq: int, limit: int | None = None) -> list[dict]:
        """The records behind number `seq`, oldest first, at most `limit` of them."""
        with self._lock:
            n_new = self.last_seq - seq
            # Numbers may have gaps, records never stand out of order: look at the last n_new at most.
            late = islice(self._records, max(0, len(self._records) - n_new), None)
            records = [record for record in late if record["seq"] > seq]
            gone = self.forgotten - seq
        if gone > 0:
            records.insert(0, {"seq": seq + gone, "type": "lost", "n": gone})
        return records[:limit]

    async def follow(self, seq: int, beat_s: float = BEAT_S) -> AsyncIterator[dict | None]:
        """The records behind `seq` as they come, to the end; None when nothing has come for beat_s."""
        woken = asyncio.Event()
        self._readers.add(woken)
        try:
            while True:
                woken.clear()
                ended, records = self.ended, self.after(seq, limit=256)
                for record in records:
                    yield record
                    seq = record["seq"]
                if records:
                    continue
                if ended:
                    return
                try:
                    await asyncio.wait_for(woken.wait(), beat_s)
                except TimeoutError:
                    yield None
        finally:
            self._readers.discard(woken)

    async def until_ended(self, timeout_s: float) -> bool:
        """Wait for the last record; False where it did not come in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                async for _ in self.follow(self.last_seq):
                    pass
        return self.ended

    def _wake(self) -> None:
        for reader in list(self._readers):
            reader.set()
