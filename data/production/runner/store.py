"""What the steps of a run have made, on disk: for each shard the records that go on, those that do not, and a marker.

    work/LINK-SPEC/000012-INPUT.0.kept.jsonl       records that go on
                   000012-INPUT.0.dropped.jsonl    records rejected here, with their reason
                   000012-INPUT.0.parts            which lines came from which record, where a stage worked on them
                   000012-INPUT.done.json          written last: without it, the files do not count

INPUT is the digest of the shard's input, 0 the attempt that the marker names. Every file is moved into place whole.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import orjson

from data.production.record import has_failed, read_record_lines
from data.production.runner.counts import StepCount, Tally
from data.production.runner.shard_files import PART_TYPE, ShardFiles, put
from data.production.runner.step import PipelineStep

# Kept and dropped lines of a record of the input, by the digest of its line.
EarlierResults = dict[bytes, tuple[list[bytes], list[bytes]]]


@dataclass
class Marker(StepCount):
    """What a step made of a shard: the content of its marker. input, digest: of the records before and after it."""

    input: str = ""
    digest: str = ""
    attempt: int = 0
    size: int = 0  # bytes of the kept file


class WorkStore:
    """The kept work of one output folder; any number of processes may use it at once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._markers: dict[Path, dict[int, list[Path]]] = {}

    def find(self, step: PipelineStep, shard: int, input_digest: str) -> Marker | None:
        """What the step made of this input; None where it has not, or where a file was lost since."""
        try:
            marker = _read_marker(self._base(step, shard, input_digest, ".done.json"))
            return marker if self._is_whole(step, shard, marker) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def open(self, step: PipelineStep, shard: int) -> ShardFiles:
        """Files for what the step makes of a shard now. Raises UserError where the disk does not take them."""
        return ShardFiles(self._folder(step) / f"{shard:06d}", with_parts=step.part == "process")

    def keep(self, step: PipelineStep, shard: int, marker: Marker, files: ShardFiles) -> None:
        """Make the files the shard's own, with their marker. Raises UserError where the disk does not take them."""
        files.move(self._base(step, shard, marker.input, f".{marker.attempt}"))
        put(self._base(step, shard, marker.input, ".done.json"), orjson.dumps(marker))
        if marker.attempt:
            self._remove(self._base(step, shard, marker.input, f".{marker.attempt - 1}"))

    def knows(self, step: PipelineStep, shard: int) -> bool:
        """Whether the step had made anything of the shard, whatever its input, when its folder was first looked at."""
        return bool(self._markers_of(step, shard))

    def kept_path(self, step: PipelineStep, shard: int, marker: Marker) -> Path:
        """The file of records that go on."""
        return self._base(step, shard, marker.input, f".{marker.attempt}.kept.jsonl")

    def dropped_path(self, step: PipelineStep, shard: int, marker: Marker) -> Path:
        """The file of records that do not."""
        return self._base(step, shard, marker.input, f".{marker.attempt}.dropped.jsonl")

    def earlier(self, step: PipelineStep, shard: int, before: Marker | None) -> EarlierResults:
        """What the step has made of single records of this shard, without those that failed: `before`, else of the
        newest other input, if any."""
        if before:
            return self._results(step, shard, before)
        for path in sorted(self._markers_of(step, shard), key=lambda at: at.stat().st_mtime_ns, reverse=True):
            try:
                marker = _read_marker(path)
                if self._is_whole(step, shard, marker):
                    return self._results(step, shard, marker)
            except (OSError, ValueError, TypeError, KeyError):
                continue
        return {}

    def _results(self, step: PipelineStep, shard: int, marker: Marker) -> EarlierResults:
        results = {}
        kept = read_record_lines(self.kept_path(step, shard, marker))
        dropped = read_record_lines(self.dropped_path(step, shard, marker))
        parts = np.fromfile(self._base(step, shard, marker.input, f".{marker.attempt}.parts"), PART_TYPE)
        for part in parts:
            result = ([next(kept) for _ in range(part["n_kept"])], [next(dropped) for _ in range(part["n_dropped"])])
            if not any(map(has_failed, result[1])):
                results[part["digest"].tobytes()] = result
        return results

    def _markers_of(self, step: PipelineStep, shard: int) -> list[Path]:
        """Markers of a shard when the folder was first looked at: a run needs none of those that it adds itself, and a
        folder of many thousand shards takes long to list."""
        folder = self._folder(step)
        if folder not in self._markers:
            found = self._markers.setdefault(folder, {})
            for path in folder.glob("*.done.json"):
                found.setdefault(int(path.name.partition("-")[0]), []).append(path)
        return self._markers[folder].get(shard, [])

    def _is_whole(self, step: PipelineStep, shard: int, marker: Marker) -> bool:
        """Whether the kept file is as long as it was. Raises OSError where it is gone."""
        return self.kept_path(step, shard, marker).stat().st_size == marker.size

    def _folder(self, step: PipelineStep) -> Path:
        return self.folder / f"{step.name}-{step.spec[:16]}"

    def _base(self, step: PipelineStep, shard: int, input_digest: str, suffix: str) -> Path:
        return self._folder(step) / f"{shard:06d}-{input_digest[:16]}{suffix}"

    @staticmethod
    def _remove(base: Path) -> None:
        for suffix in (".kept.jsonl", ".dropped.jsonl", ".parts"):
            base.with_name(base.name + suffix).unlink(missing_ok=True)


def _read_marker(path: Path) -> Marker:
    value = orjson.loads(path.read_bytes())
    value["kept"] = Tally(**value["kept"])
    for name in ("reasons", "categories"):
        value[name] = {key: Tally(**tally) for key, tally in value[name].items()}
    return Marker(**{f.name: value[f.name] for f in fields(Marker)})
