"""A run's clips as parquet files with a data card, as the hub shows data sets.

    python -m data.production.run CONFIG.yaml        # with  output: {parquet: true}

parquet/train-00000.parquet ... hold up to 50,000 clips each, one a row: video, window, words, context, scores, and the
sample's messages as JSON. README.md is the card: counts, columns, and how the data were made. Upload the folder with
`huggingface-cli upload NAME FOLDER --repo-type dataset`; videos are not part of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data.production.record import Record, from_line, read_record_lines
from data.production.runner.config import OutputOptions
from data.production.runner.counts import Tally
from utils.files import partial_file, write_whole

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
    counts = {}
    for split, name in SPLITS.items():
        for old in folder.glob(f"{name}-*.parquet"):
            old.unlink()
        counts[split] = _write_split(folder, name, _records(kept, split))
    write_whole(folder / "README.md", data_card(options, counts))


def _write_split(folder: Path, name: str, records: Iterator[Record]) -> Tally:
    """Write files of up to ROWS_PER_FILE rows; each is moved into place whole."""
    folder.mkdir(parents=True, exist_ok=True)
    count = Tally()
    for first in records:
        rest = chain([first], islice(records, ROWS_PER_FILE - 1))
        path = folder / f"{name}-{count.records // ROWS_PER_FILE:05d}.parquet"
        with partial_file(path) as partial, pq.ParquetWriter(partial, SCHEMA, compression="zstd") as file:
            while batch := list(islice(rest, ROWS_AT_ONCE)):
                file.write_table(pa.Table.from_pylist(list(map(_row, batch)), schema=SCHEMA))
                count.add_all([(record.n_words, record.seconds) for record in batch])
    return count


def data_card(options: OutputOptions, counts: dict[str, Tally]) -> str:
    """The data card."""
    there = {split: count for split, count in counts.items() if count.records}
    files = "".join(f"  - split: {SPLITS[split]}\n    path: {SPLITS[split]}-*.parquet\n" for split in there)
    table = "".join(
        f"| {SPLITS[split]} | {count.records:,} | {count.words:,} | {count.seconds / 3600:,.1f} |\n"
        for split, count in there.items()
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


def _records(kept: Iterable[Path], split: str) -> Iterator[Record]:
    for path in kept:
        for line in read_record_lines(path):
            record = from_line(line)
            if record.split == split:
                yield record


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
