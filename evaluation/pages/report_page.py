"""Results as an HTML page: for each benchmark its scores, plots, comparisons, failures and samples.

One file that works offline. Texts come from strangers: all of them are escaped, and the page's policy allows no script
and no address.
"""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from data.preview.page import POLICY
from data.preview.page import STYLE as SHARED_STYLE
from evaluation.pages.report_plot import COLOURS, plot
from evaluation.pages.report_samples import SampleView
from evaluation.pages.sample_card import sample_card
from evaluation.scoring.results import causes_of
from evaluation.scoring.score_lines import floors_of, interval_of, percent, signed
from evaluation.scoring.scored_runs import RunPair, ScoredRun, pairs_of
from evaluation.scoring.stats import Estimate, Score

STYLE = Path(__file__).with_name("report_page.css")


def report_page(title: str, groups: dict[str, list[ScoredRun]], samples: dict[str, list[SampleView]]) -> str:
    """The page. groups, samples: by benchmark."""
    style = "\n".join(path.read_text(encoding="utf-8") for path in (SHARED_STYLE, STYLE))
    links = "".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in groups)
    body = "".join(_benchmark(name, scored, samples.get(name, [])) for name, scored in groups.items())
    html = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation: {escape(title)}</title><style>{style}</style></head><body>
<header><h1>Evaluation</h1><p class="path">{escape(title)}</p>
<p>Scores in per cent, each with the 95 % interval clustered by video, the number of items, those without an answer
(they count as wrong), and the floor: what is reached without looking at a video. A plot's thin mark is the highest
floor.</p><nav>{links}</nav></header>
<main>{body}</main></body></html>
"""
    return html.encode("utf-8", "replace").decode()  # texts may hold halves of surrogate pairs


def _benchmark(name: str, scored: Sequence[ScoredRun], samples: Sequence[SampleView]) -> str:
    parts = [_headlines(scored), _protocols(scored), *_tables(scored), _pairs(pairs_of(scored)), _failures(scored)]
    cards = "".join(sample_card(sample) for sample in samples)
    shown = f"<h3>Samples</h3>{cards}" if cards else ""
    return f'<section id="{escape(name)}"><h2>{escape(name)}</h2>{"".join(parts)}{shown}</section>\n'


def _headlines(scored: Sequence[ScoredRun]) -> str:
    rows = [
        [
            _key(i) + escape(one.run.model), escape(one.run.setting), escape(one.run.protocol),
            *_cells(one.headline), escape(floors_of(one.headline)),
        ]
        for i, one in enumerate(scored)
    ]  # fmt: skip
    names = (
        "model",
        "setting",
        "protocol",
        escape(scored[0].headline.name),
        "95 % interval",
        "items",
        "no answer",
        "floor",
    )
    drawing = plot([one.name for one in scored], [_alone(i, one.headline, len(scored)) for i, one in enumerate(scored)])
    return _grid(names, rows) + f'<div class="plot">{drawing}</div>'


def _alone(place: int, found: Score, n: int) -> list[Score | None]:
    """A series with one score, so that every result has its own row and its own colour."""
    return [found if i == place else None for i in range(n)]


def _protocols(scored: Sequence[ScoredRun]) -> str:
    differences = {one.run.protocol: one.differences for one in scored if one.differences}
    return "".join(
        f'<div class="notes">protocol {escape(name)}:'
        f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul></div>"
        for name, texts in differences.items()
    )


def _tables(scored: Sequence[ScoredRun]) -> Iterable[str]:
    """A plot and a table for each table of the benchmark, all results side by side; the headline has its own."""
    titles = dict.fromkeys(table.title for one in scored for table in one.tables[1:])
    for title in titles:
        found = [next((table for table in one.tables if table.title == title), None) for one in scored]
        names = list(dict.fromkeys(row.name for table in found if table for row in table.rows))
        series = [[_row(table, name) for name in names] for table in found]
        notes = [(i, table.note) for i, table in enumerate(found) if table and table.note]
        said = "".join(f'<p class="notes">{_key(i)}{escape(note)}</p>' for i, note in notes)
        yield (
            f'<h3>{escape(title)}</h3>{said}<div class="plot">{plot(names, series)}</div>'
            f"<details><summary>numbers</summary>{_side_by_side(names, series, scored)}</details>"
        )


def _row(table, name: str) -> Score | None:
    return next((row for row in table.rows if row.name == name), None) if table else None


def _side_by_side(names: Sequence[str], series: Sequence[Sequence[Score | None]], scored: Sequence[ScoredRun]) -> str:
    rows = []
    for i, name in enumerate(names):
        for j, scores in enumerate(series):
            found = scores[i]
            if found:
                rows.append([escape(name), _key(j) + escape(scored[j].name), *_cells(found), escape(floors_of(found))])
    return _grid(("", "result", "score", "95 % interval", "items", "no answer", "floor"), rows)


def _pairs(pairs: Sequence[RunPair]) -> str:
    if not pairs:
        return ""
    rows = []
    for pair in pairs:
        c = pair.comparison
        rows.append([
            escape(f"{pair.second.name} against {pair.first.name}"), signed(c.difference.value),
            _interval(c.difference), f"{c.n:,}", f"{c.wins:,}", f"{c.losses:,}", f"{c.ties:,}", f"{c.p_value:.2g}",
            f"{c.only_first + c.only_second:,}", escape(", ".join(pair.unlike)),
        ])  # fmt: skip
    names = (
        "", "difference", "95 % interval", "items", "better", "worse", "alike", "sign test p", "in one only",
        "differ in",
    )  # fmt: skip
    return f"<h3>Item by item</h3>{_grid(names, rows)}"


def _failures(scored: Sequence[ScoredRun]) -> str:
    rows = [
        [_key(i) + escape(one.name), f"{cause.n:,}", escape(cause.text), escape(", ".join(cause.items))]
        for i, one in enumerate(scored)
        for cause in causes_of(one.run.results)
    ]
    if not rows:
        return ""
    return f'<h3 class="bad">Items without an answer</h3>{_grid(("result", "items", "cause", "such as"), rows)}'


def _cells(found: Score) -> list[str]:
    failed = f'<b class="bad">{found.n_failed:,}</b>' if found.n_failed else "0"
    return [f"<b>{percent(found.value)}</b>", _interval(found), f"{found.n:,}", failed]


def _interval(found: Score | Estimate) -> str:
    return f'<span class="whole">{interval_of(found)}</span>'


def _key(place: int) -> str:
    """The colour that a result has in the plots."""
    return f'<i class="colour" style="background:{COLOURS[place % len(COLOURS)]}"></i>'


def _grid(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="grid"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
