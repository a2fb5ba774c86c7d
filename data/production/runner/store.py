"""What the links of a run have made, on disk: for each shard the records that go on, those that do not, and a marker.

    work/LINK-SPEC/000012-INPUT.0.kept.jsonl       records that go on
                   000012-INPUT.0.dropped.jsonl    records rejected here, with their reason
                   000012-INPUT.0.parts            which lines came from which record, where a stage worked on them
                   000012-INPUT.done.json          written last: without it, the files do not count

INPUT is the digest of the shard's input, 0 the attempt that the marker names. Every file is moved into place whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import orjson

from data.production.record import has_failed, read_lines
from data.production.runner.link import Link
from data.production.runner.shard_files import PART_TYPE, ShardFiles, put


@dataclass
class Tally:
    """Numbers of records, of their words, and their seconds."""

    records: int = 0
    words: int = 0
    seconds: float = 0.0

    def add_all(self, numbers: Sequence[tuple[int, float]]) -> None:
        """Count records by their numbers of words and seconds."""
        words, seconds = zip(*numbers, strict=True) if numbers else ((), ())
        self.add(len(numbers), sum(words), sum(seconds))

    def add(self, records: int, words: int, seconds: float) -> None:
        """Count more; seconds are whole milliseconds, so that sums are the same in any order."""
        self.records += records
        self.words += words
        self.seconds = round(self.seconds + seconds, 3)


@dataclass
class Done:
    """What a link made of a shard: the content of its marker. input, digest: of the records before and after it."""

    input: str
    digest: str
    attempt: int
    n_in: int
    size: int  # bytes of the kept file
    kept: Tally
    reasons: dict[str, Tally]  # of dropped records
    n_failed: int
    categories: dict[str, Tally] = field(default_factory=dict)  # of kept records

    @property
    def n_dropped(self) -> int:
        """Records that do not go on."""
        return sum(tally.records for tally in self.reasons.values())


class Store:
    """The kept work of one output folder; any number of processes may use it at once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._markers: dict[Path, dict[int, list[Path]]] = {}

    def find(self, link: Link, shard: int, input_digest: str) -> Done | None:
        """What the link made of this input; None where it has not, or where a file was lost since."""
        try:
            done = _read_done(self._base(link, shard, input_digest, ".done.json"))
            return done if self._is_whole(link, shard, done) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def open(self, link: Link, shard: int) -> ShardFiles:
        """Files for what the link makes of a shard now. Raises UserError where the disk does not take them."""
        return ShardFiles(self._folder(link) / f"{shard:06d}", with_parts=link.part == "process")

    def keep(self, link: Link, shard: int, done: Done, files: ShardFiles) -> None:
        """Make the files the shard's own, with their marker. Raises UserError where the disk does not take them."""
        files.move(self._base(link, shard, done.input, f".{done.attempt}"))
        put(self._base(link, shard, done.input, ".done.json"), orjson.dumps(done))
        if done.attempt:
            self._remove(self._base(link, shard, done.input, f".{done.attempt - 1}"))

    def knows(self, link: Link, shard: int) -> bool:
        """Whether the link had made anything of the shard, whatever its input, when its folder was first looked at."""
        return bool(self._markers_of(link, shard))

    def kept_path(self, link: Link, shard: int, done: Done) -> Path:
        """The file of records that go on."""
        return self._base(link, shard, done.input, f".{done.attempt}.kept.jsonl")

    def dropped_path(self, link: Link, shard: int, done: Done) -> Path:
        """The file of records that do not."""
        return self._base(link, shard, done.input, f".{done.attempt}.dropped.jsonl")

    def earlier(self, link: Link, shard: int, before: Done | None) -> "Earlier":
        """What the link has made of records of this shard: `before`, else of the newest other input, if any."""
        if before:
            return Earlier(self, link, shard, before)
        for marker in sorted(self._markers_of(link, shard), key=lambda path: path.stat().st_mtime_ns, reverse=True):
            try:
                done = _read_done(marker)
                if self._is_whole(link, shard, done):
                    return Earlier(self, link, shard, done)
            except (OSError, ValueError, TypeError, KeyError):
                continue
        return Earlier(self, link, shard, None)

    def _markers_of(self, link: Link, shard: int) -> list[Path]:
        """Markers of a shard when the folder was first looked at: a run needs none of those that it adds itself, and a
        folder of many thousand shards takes long to list."""
        folder = self._folder(link)
        if folder not in self._markers:
            found = self._markers.setdefault(folder, {})
            for path in folder.glob("*.done.json"):
                found.setdefault(int(path.name.partition("-")[0]), []).append(path)
        return self._markers[folder].get(shard, [])

    def parts(self, link: Link, shard: int, done: Done) -> np.ndarray:
        """Which lines came from which record."""
        return np.fromfile(self._base(link, shard, done.input, f".{done.attempt}.parts"), PART_TYPE)

    def used_folders(self, links: Sequence[Link]) -> set[str]:
        """Names of the folders that these links keep their work in."""
        return {self._folder(link).name for link in links}

    def _is_whole(self, link: Link, shard: int, done: Done) -> bool:
        """Whether the kept file is as long as it was. Raises OSError where it is gone."""
        return self.kept_path(link, shard, done).stat().st_size == done.size

    def _folder(self, link: Link) -> Path:
        return self.folder / f"{link.name}-{link.spec[:16]}"

    def _base(self, link: Link, shard: int, input_digest: str, suffix: str) -> Path:
        return self._folder(link) / f"{shard:06d}-{input_digest[:16]}{suffix}"

    @staticmethod
    def _remove(base: Path) -> None:
        for suffix in (".kept.jsonl", ".dropped.jsonl", ".parts"):
            base.with_name(base.name + suffix).unlink(missing_ok=True)


class Earlier:
    """Results of single records from an earlier state of a shard; those that failed are left out."""

    def __init__(self, store: Store, link: Link, shard: int, done: Done | None):
        self._results: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
        if done is None:
            return
        kept = read_lines(store.kept_path(link, shard, done))
        dropped = read_lines(store.dropped_path(link, shard, done))
        for part in store.parts(link, shard, done):
            result = ([next(kept) for _ in range(part["n_kept"])], [next(dropped) for _ in range(part["n_dropped"])])
            if not any(map(has_failed, result[1])):
                self._results[part["digest"].tobytes()] = result

    def get(self, digest: bytes) -> tuple[list[bytes], list[bytes]] | None:
        """Kept and dropped lines of a record of the input, by the digest of its line."""
        return self._results.get(digest)


def _read_done(path: Path) -> Done:
    value = orjson.loads(path.read_bytes())
    value["kept"] = Tally(**value["kept"])
    for name in ("reasons", "categories"):
        value[name] = {key: Tally(**tally) for key, tally in value[name].items()}
    return Done(**{f.name: value[f.name] for f in fields(Done)})
