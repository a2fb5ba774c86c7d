"""What the steps of a run have made, on disk: for each shard the records that go on, those that do not, and a marker.

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
from data.production.runner.shard_files import PART_TYPE, ShardFiles, put
from data.production.runner.step import Step


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
class Marker:
    """What a step made of a shard: the content of its marker. input, digest: of the records before and after it."""

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


class WorkStore:
    """The kept work of one output folder; any number of processes may use it at once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._markers: dict[Path, dict[int, list[Path]]] = {}

    def find(self, step: Step, shard: int, input_digest: str) -> Marker | None:
        """What the step made of this input; None where it has not, or where a file was lost since."""
        try:
            marker = _read_marker(self._base(step, shard, input_digest, ".done.json"))
            return marker if self._is_whole(step, shard, marker) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def open(self, step: Step, shard: int) -> ShardFiles:
        """Files for what the step makes of a shard now. Raises UserError where the disk does not take them."""
        return ShardFiles(self._folder(step) / f"{shard:06d}", with_parts=step.part == "process")

    def keep(self, step: Step, shard: int, marker: Marker, files: ShardFiles) -> None:
        """Make the files the shard's own, with their marker. Raises UserError where the disk does not take them."""
        files.move(self._base(step, shard, marker.input, f".{marker.attempt}"))
        put(self._base(step, shard, marker.input, ".done.json"), orjson.dumps(marker))
        if marker.attempt:
            self._remove(self._base(step, shard, marker.input, f".{marker.attempt - 1}"))

    def knows(self, step: Step, shard: int) -> bool:
        """Whether the step had made anything of the shard, whatever its input, when its folder was first looked at."""
        return bool(self._markers_of(step, shard))

    def kept_path(self, step: Step, shard: int, marker: Marker) -> Path:
        """The file of records that go on."""
        return self._base(step, shard, marker.input, f".{marker.attempt}.kept.jsonl")

    def dropped_path(self, step: Step, shard: int, marker: Marker) -> Path:
        """The file of records that do not."""
        return self._base(step, shard, marker.input, f".{marker.attempt}.dropped.jsonl")

    def earlier(self, step: Step, shard: int, before: Marker | None) -> "PreviousResults":
        """What the step has made of records of this shard: `before`, else of the newest other input, if any."""
        if before:
            return PreviousResults(self, step, shard, before)
        for path in sorted(self._markers_of(step, shard), key=lambda at: at.stat().st_mtime_ns, reverse=True):
            try:
                marker = _read_marker(path)
                if self._is_whole(step, shard, marker):
                    return PreviousResults(self, step, shard, marker)
            except (OSError, ValueError, TypeError, KeyError):
                continue
        return PreviousResults(self, step, shard, None)

    def _markers_of(self, step: Step, shard: int) -> list[Path]:
        """Markers of a shard when the folder was first looked at: a run needs none of those that it adds itself, and a
        folder of many thousand shards takes long to list."""
        folder = self._folder(step)
        if folder not in self._markers:
            found = self._markers.setdefault(folder, {})
            for path in folder.glob("*.done.json"):
                found.setdefault(int(path.name.partition("-")[0]), []).append(path)
        return self._markers[folder].get(shard, [])

    def parts(self, step: Step, shard: int, marker: Marker) -> np.ndarray:
        """Which lines came from which record."""
        return np.fromfile(self._base(step, shard, marker.input, f".{marker.attempt}.parts"), PART_TYPE)

    def _is_whole(self, step: Step, shard: int, marker: Marker) -> bool:
        """Whether the kept file is as long as it was. Raises OSError where it is gone."""
        return self.kept_path(step, shard, marker).stat().st_size == marker.size

    def _folder(self, step: Step) -> Path:
        return self.folder / f"{step.name}-{step.spec[:16]}"

    def _base(self, step: Step, shard: int, input_digest: str, suffix: str) -> Path:
        return self._folder(step) / f"{shard:06d}-{input_digest[:16]}{suffix}"

    @staticmethod
    def _remove(base: Path) -> None:
        for suffix in (".kept.jsonl", ".dropped.jsonl", ".parts"):
            base.with_name(base.name + suffix).unlink(missing_ok=True)


class PreviousResults:
    """Results of single records from an earlier state of a shard; those that failed are left out."""

    def __init__(self, store: WorkStore, step: Step, shard: int, marker: Marker | None):
        self._results: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
        if marker is None:
            return
        kept = read_lines(store.kept_path(step, shard, marker))
        dropped = read_lines(store.dropped_path(step, shard, marker))
        for part in store.parts(step, shard, marker):
            result = ([next(kept) for _ in range(part["n_kept"])], [next(dropped) for _ in range(part["n_dropped"])])
            if not any(map(has_failed, result[1])):
                self._results[part["digest"].tobytes()] = result

    def get(self, digest: bytes) -> tuple[list[bytes], list[bytes]] | None:
        """Kept and dropped lines of a record of the input, by the digest of its line."""
        return self._results.get(digest)


def _read_marker(path: Path) -> Marker:
    value = orjson.loads(path.read_bytes())
    value["kept"] = Tally(**value["kept"])
    for name in ("reasons", "categories"):
        value[name] = {key: Tally(**tally) for key, tally in value[name].items()}
    return Marker(**{f.name: value[f.name] for f in fields(Marker)})
