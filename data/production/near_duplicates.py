"""Rejects clips that say nearly the same as an earlier one: MinHash over runs of words.

    python -m data.production.near_duplicates clips.jsonl distinct.jsonl --min_similarity 0.7

Two texts are as similar as the share of their runs of three words that both have (Jaccard). datasketch makes a
signature of 128 numbers of each, and signatures that agree in one of 32 bands of four are compared. The first of a
group is kept. All clips are seen once, on one core, before any is decided; signatures lie in a temporary file in TMPDIR
(512 bytes a clip). Time and memory: dev/benchmarks/production.md.
"""

import re
import sys
import tempfile
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from datasketch import MinHash

from data.production.record import Record
from data.production.stage import Stage
from utils.errors import UserError

N_HASHES = 128
BAND = 4  # numbers; texts of similarity 0.7 agree in one of the 32 bands with probability 0.9998, of 0.3 with 0.23
ROWS = 1 << 16  # signatures that are read at once
SEED = 1
WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


@dataclass
class DuplicateOptions:
    """What counts as the same."""

    min_similarity: float = field(default=0.7, metadata={"help": "share of word runs in common from which on", "le": 1})
    n_words: int = field(default=3, metadata={"help": "words in a run", "ge": 1})


class NearDuplicates(Stage):
    """Sets scores["duplicate"], the similarity to the clip that is kept, of those that are rejected."""

    name, version, Options = "near_duplicates", 1, DuplicateOptions
    batch_size = 512

    def check(self) -> None:
        """Similarity is a share."""
        if not 0.3 <= self.options.min_similarity <= 1:
            raise UserError(f"--min_similarity {self.options.min_similarity}: give a share from 0.3 to 1")
        if self.options.n_words < 1:
            raise UserError(f"--n_words {self.options.n_words}: give a number from 1 on")

    def gather(self, shards: Iterable[Iterable[Record]]) -> dict[str, list]:
        """{id: [id of the clip that is kept, similarity]} of every clip that is too similar to an earlier one."""
        with Signatures() as signatures:
            for shard in shards:
                for record in shard:
                    signatures.append(record.id, shingles(record.text, self.options.n_words))
            return {
                signatures.id(i): [signatures.id(kept), round(similarity, 4)]
                for i, kept, similarity in find_duplicates(signatures.rows(), self.options.min_similarity)
            }

    def expand(self, record: Record) -> Iterable[Record]:
        """Reject the record if it was found to be one."""
        found = self.gathered.get(record.id)
        if found:
            record.scores["duplicate"] = found[1]
            record.reject(self.name, "near_duplicate", f"of {found[0]}, similarity {found[1]:.2f}")
        return [record]


class Signatures:
    """Signatures and ids on disk, in the order in which they come."""

    def __init__(self) -> None:
        self._rows: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self._ids: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        self._ends = array("Q")
        self._sketch = MinHash(N_HASHES, seed=SEED, hashfunc=zlib.crc32)

    def __enter__(self) -> "Signatures":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._ids.close()

    def append(self, name: str, runs: set[bytes]) -> None:
        """Add a text by its word runs; one without any is like no other."""
        self._sketch.clear()
        self._sketch.update_batch(sorted(runs or {f"\0{name}".encode()}))
        self._rows.write(self._sketch.hashvalues.astype("<u4").tobytes())
        self._ids.write(name.encode())
        self._ends.append(self._ids.tell())

    def rows(self) -> np.ndarray:
        """uint32 [n, 128], read from the file as they are needed."""
        self._rows.flush()
        if not self._ends:
            return np.zeros((0, N_HASHES), "<u4")
        return np.memmap(self._rows, "<u4", "r", shape=(len(self._ends), N_HASHES))

    def id(self, i: int) -> str:
        """The name of signature i."""
        start = self._ends[i - 1] if i else 0
        self._ids.seek(start)
        return self._ids.read(self._ends[i] - start).decode()


def shingles(text: str, n_words: int) -> set[bytes]:
    """Runs of n words, capitals and punctuation aside; a shorter text is one run."""
    words = WORD.findall(text.lower())
    if not words:
        return set()
    return {" ".join(words[i : i + n_words]).encode() for i in range(max(1, len(words) - n_words + 1))}


def find_duplicates(rows: np.ndarray, min_similarity: float) -> Iterator[tuple[int, int, float]]:
    """(row, earlier row that is kept, similarity) of every row that is similar enough to one, in order.

    Of the rows that agree in a band each is compared with the first one and with the one before it: so work stays
    linear where a hundred thousand texts share a phrase.
    """
    pairs = np.unique(np.concatenate([_band_pairs(rows, band) for band in range(N_HASHES // BAND)]), axis=0)
    kept_of: dict[int, int] = {}
    best: dict[int, tuple[float, int]] = {}
    last = -1
    for later, earlier in pairs:
        later, earlier = int(later), int(earlier)
        if later != last:
            _settle(last, best, kept_of)
            if last in kept_of:
                yield last, kept_of[last], best[last][0]
            best.pop(last, None)
            last = later
        root = kept_of.get(earlier, earlier)
        similarity = float(np.mean(rows[later] == rows[root]))
        if similarity >= min_similarity and (similarity, -root) > best.get(later, (0.0, 1)):
            best[later] = (similarity, -root)
    _settle(last, best, kept_of)
    if last in kept_of:
        yield last, kept_of[last], best[last][0]


def _settle(row: int, best: dict[int, tuple[float, int]], kept_of: dict[int, int]) -> None:
    if row in best:
        kept_of[row] = -best[row][1]


def _band_pairs(rows: np.ndarray, band: int) -> np.ndarray:
    """int64 [n, 2]: (later, earlier) rows that agree in a band."""
    keys = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS, band * BAND : (band + 1) * BAND].astype(np.uint64)
        # Keys are mixed to 64 bits (splitmix64's multipliers); a chance meeting costs one comparison.
        key = part[:, 0]
        for column in part.T[1:]:
            key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9) ^ column
            key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        keys[start : start + len(part)] = key
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    starts = np.flatnonzero(np.concatenate([[True], ~same])) if len(order) else np.zeros(0, np.int64)
    group = np.cumsum(np.concatenate([[False], ~same])) if len(order) else np.zeros(0, np.int64)
    later = np.flatnonzero(same) + 1
    first, before = order[starts[group[later]]], order[later - 1]
    return np.concatenate([np.stack([order[later], first], 1), np.stack([order[later], before], 1)])


STAGE = NearDuplicates

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
