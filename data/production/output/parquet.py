"""A run's clips as parquet files with a data card, as the hub shows data sets.

    python -m data.production.run CONFIG.yaml        # with  output: {parquet: true}

parquet/train-00000.parquet ... hold up to 50,000 clips each, one a row: video, window, words, context, scores, and the
sample's messages as JSON. README.md is the card: counts, columns, and how the data were made. Upload the folder with
`huggingface-cli upload NAME FOLDER --repo-type dataset`; videos are not part of it.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data.production.record import Record, from_line, read_record_lines
from data.production.runner.config import OutputOptions
from utils.files import write_whole

ROWS_PER_FILE = 50_000
ROWS_AT_ONCE = 2_000
# Lists of structs, since the hub's own library reads no maps.
SCORE = pa.struct([("name", pa.string()), ("value", pa.float64())])
WORD = pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("text", pa.string())])
SCHEMA = pa.schema([
    ("id", pa.string()), ("video", pa.string()), ("video_start", pa.float64()), ("video_end", pa.float64()),
    ("title", pa.string()), ("category", pa.string()), ("channel", pa.string()), ("language", pa.string()),
    ("query", pa.string()), ("previous", pa.string()), ("words", pa.list_(WORD)), ("flags", pa.list_(pa.string())),
    ("scores", pa.list_(SCORE)), ("messages", pa.string()),
])  # fmt: skip
SPLITS = {"": "train", "held_out": "test"}


def write_parquet(folder: Path, kept: Sequence[Path], options: OutputOptions) -> None:
    """Write the files of every split, and the card. What was there before is replaced."""
    counts = {split: [0, 0, 0.0] for split in SPLITS}
    for split, name in SPLITS.items():
        for old in folder.glob(f"{name}-*.parquet"):
            old.unlink()
        writer = _Writer(folder, name)
        for batch in _batches(_records(kept, split)):
            writer.add([_row(record) for record in batch])
            counts[split][0] += len(batch)
            counts[split][1] += sum(record.n_words for record in batch)
            counts[split][2] += sum(record.seconds for record in batch)
        writer.finish()
    write_whole(folder / "README.md", data_card(options, counts))


def data_card(options: OutputOptions, counts: dict[str, list]) -> str:
    """The data card."""
    there = {split: count for split, count in counts.items() if count[0]}
    files = "".join(f"  - split: {SPLITS[split]}\n    path: {SPLITS[split]}-*.parquet\n" for split in there)
    table = "".join(
        f"| {SPLITS[s]} | {n:,} | {words:,} | {sec / 3600:,.1f} |\n" for s, (n, words, sec) in there.items()
    )
    columns = "".join(f"- `{field.name}`: {field.type}\n" for field in SCHEMA)
    return f"""---
license: {options.license}
task_categories:
- video-text-to-text
configs:
- config_name: default
  data_files:
{files}---

# {options.name}

Clips of videos with what is said in them, word by word with its time in seconds, for streaming commentary.

| split | clips | words | hours |
|---|---|---|---|
{table}
The test split holds whole channels of which nothing is in the train split. Videos are not part of the data; `video`,
`video_start` and `video_end` say which part of which file a row is about. `previous` is all that was said in the video
before. `messages` is the training sample as JSON.

## Columns

{columns}
## How it was made

`python -m data.production.run`; report.html of the run shows every stage, its thresholds, what it rejected and why.
"""


class _Writer:
    """Files of up to ROWS_PER_FILE rows; each is moved into place whole."""

    def __init__(self, folder: Path, name: str):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._n_files, self._n_rows = folder, name, 0, 0
        self._file: pq.ParquetWriter | None = None

    def add(self, rows: list[dict]) -> None:
        if self._file is None:
            self._file = pq.ParquetWriter(self._partial, SCHEMA, compression="zstd")
        self._file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        self._n_rows += len(rows)
        if self._n_rows >= ROWS_PER_FILE:
            self.finish()

    def finish(self) -> None:
        if self._file is not None:
            self._file.close()
            os.replace(self._partial, self._folder / f"{self._name}-{self._n_files:05d}.parquet")
            self._file, self._n_rows, self._n_files = None, 0, self._n_files + 1

    @property
    def _partial(self) -> Path:
        return self._folder / f".{self._name}.{os.getpid()}.partial"


def _records(kept: Iterable[Path], split: str) -> Iterator[Record]:
    for path in kept:
        for line in read_record_lines(path):
            record = from_line(line)
            if record.split == split:
                yield record


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _row(record: Record) -> dict:
    said = record.conversation[0]["content"][1] if record.conversation else {}
    return {
        "id": record.id,
        "video": record.video,
        "video_start": record.start_s,
        "video_end": record.end_s,
        "title": record.title,
        "category": record.category,
        "channel": record.channel,
        "language": record.language,
        "query": record.query,
        "previous": said.get("previous", record.previous),
        "words": [{"start_s": start_s, "end_s": end_s, "text": text} for start_s, end_s, text in record.spoken],
        "flags": record.flags,
        "scores": [{"name": name, "value": value} for name, value in sorted(record.scores.items())],
        "messages": orjson.dumps(record.conversation).decode() if record.conversation else "",
    }
