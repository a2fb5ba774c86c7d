"""Scores as lines: aligned tables for a person, JSON for a program."""

import json
import sys
from collections.abc import Iterator, Sequence

from evaluation.scoring.protocol import described
from evaluation.scoring.results import BenchmarkRun
from evaluation.scoring.scored_runs import RunPair, ScoredRun, pairs_of
from evaluation.scoring.stats import Estimate, Score
from evaluation.scoring.tables import Table

HEADINGS = ("score", "95 % interval", "n", "failed", "floor")


def text_lines(scored: ScoredRun) -> Iterator[str]:
    """A run for a terminal: what it is, how it was asked, and its tables."""
    run = scored.run
    yield printable("  ".join(part for part in (run.benchmark, run.model, run.setting) if part))
    yield printable(f"parts: {described(run.parts)}")
    yield printable(f"protocol {run.protocol}" + (":" if scored.differences else ""))
    yield from (f"  - {difference}" for difference in scored.differences)
    if scored.n_failed:
        yield f"{scored.n_failed} of {len(run.results)} items have no answer"
    if scored.n_left_out:
        yield f"{scored.n_left_out} items are left out, as the authors leave them out"
    width = max((len(printable(row.name)) for table in scored.tables for row in table.rows), default=0) + 2
    for table in scored.tables:
        yield ""
        yield from _table_lines(table, width)


def pair_line(pair: RunPair) -> str:
    """Format a comparison as one line."""
    c = pair.comparison
    left_out = c.only_first + c.only_second
    names = f"{pair.second.name} against {pair.first.name}"
    parts = [
        f"{names}: {signed(c.difference.value)} {interval_of(c.difference)}".strip(),
        f"on {c.n} items: {c.wins} better, {c.losses} worse, {c.ties} alike",
        f"sign test p = {c.p_value:.2g}, by whole videos p = {c.flip_p_value:.2g}",
    ]
    if left_out:
        parts.append(f"{left_out} items are in one only and left out")
    if pair.unlike:
        parts.append(f"they differ in {', '.join(pair.unlike)}")
    return printable("; ".join(parts))


def records(scored: ScoredRun) -> Iterator[dict]:
    """A run for a program: one record of kind "result", and one of kind "score" for each row of its tables."""
    run = scored.run
    what = {name: getattr(run, name) for name in ("benchmark", "model", "setting", "protocol")}
    head = scored.headline
    yield {
        "kind": "result", **what, "parts": run.parts, "differences": scored.differences, "n": len(run.results),
        "n_failed": scored.n_failed, "n_left_out": scored.n_left_out, "score": head and head.value,
        "interval": head and head.interval, "note": scored.tables[0].note,
    }  # fmt: skip
    for table in scored.tables:
        for row in table.rows:
            floors = {floor.name: floor.value for floor in row.floors}
            cells = {name: getattr(row, name) for name in ("name", "value", "n", "n_failed", "interval")}
            yield {"kind": "score", **what, "table": table.title, **cells, "floors": floors}


def pair_record(pair: RunPair) -> dict:
    """Format a comparison as a record."""
    c = pair.comparison
    counts = ("n", "wins", "losses", "ties", "p_value", "flip_p_value", "only_first", "only_second")
    return {
        "kind": "comparison", "benchmark": pair.first.run.benchmark, "first": pair.first.name,
        "second": pair.second.name, "difference": c.difference.value, "interval": c.difference.interval,
        **{name: getattr(c, name) for name in counts}, "unlike": pair.unlike,
    }  # fmt: skip


def all_lines(scored: Sequence[ScoredRun], pairs: Sequence[RunPair], as_json: bool) -> Iterator[str]:
    """All lines about some runs."""
    if as_json:
        for one in scored:
            yield from (json.dumps(record) for record in records(one))
        yield from (json.dumps(pair_record(pair)) for pair in pairs)
        return
    for one in scored:
        yield from text_lines(one)
        yield ""
    if pairs:
        yield "Item by item"
        yield from (f"  {pair_line(pair)}" for pair in pairs)


def percent(value: float) -> str:
    """0.6411 -> "64.11"."""
    return f"{value * 100:.2f}"


def signed(value: float) -> str:
    """A difference in points."""
    return f"{value * 100:+.2f}"


def interval_of(found: Score | Estimate) -> str:
    """The 95 % interval of a score or an estimate in points; "" where there is none."""
    return f"[{percent(found.interval[0])}, {percent(found.interval[1])}]" if found.interval else ""


def floors_of(row: Score) -> str:
    """All floors of a row."""
    return ", ".join(f"{percent(floor.value)} {floor.name}" for floor in row.floors)


def printable(text: str) -> str:
    """Text without what could rewrite a terminal: names come with the data."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _table_lines(table: Table, width: int) -> Iterator[str]:
    title = table.title + (f" ({table.note})" if table.note else "")
    yield printable(title)
    yield f"  {'':<{width}}{HEADINGS[0]:>7}  {HEADINGS[1]:<16}{HEADINGS[2]:>7}{HEADINGS[3]:>8}  {HEADINGS[4]}".rstrip()
    for row in table.rows:
        cells = f"{percent(row.value):>7}  {interval_of(row) or '-':<16}{row.n:>7}{row.n_failed:>8}  {floors_of(row)}"
        yield printable(f"  {row.name:<{width}}{cells}".rstrip())


def print_runs(runs: Sequence[BenchmarkRun], as_json: bool | None = None) -> None:
    """Print the scores of runs, and their comparisons; as_json None: JSON where stdout is no terminal."""
    scored = [ScoredRun(run) for run in runs]
    for line in all_lines(scored, pairs_of(scored), not sys.stdout.isatty() if as_json is None else as_json):
        print(line)
