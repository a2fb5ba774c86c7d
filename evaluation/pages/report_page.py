"""Report of runs as an HTML page: for each benchmark its scores, plots, comparisons, failures and samples.

One file that works offline. Texts come from strangers: the template escapes all of them, and the page's policy allows
no script and no address.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data.preview.page import POLICY
from data.preview.page import STYLE as SHARED_STYLE
from evaluation.pages import report_samples
from evaluation.pages.report_plot import COLOURS, plot
from evaluation.pages.report_samples import SampleView
from evaluation.scoring.protocol import described
from evaluation.scoring.results import causes_of
from evaluation.scoring.score_lines import floors_of, interval_of, percent, signed
from evaluation.scoring.scored_runs import ScoredRun, pairs_of
from evaluation.scoring.stats import Score
from evaluation.scoring.tables import Table

FOLDER = Path(__file__).parent
TEXT_LENGTH = 6000  # characters of any one text


def report_page(title: str, groups: dict[str, list[ScoredRun]], samples: dict[str, list[SampleView]]) -> str:
    """The page. groups, samples: by benchmark."""
    style = "\n".join(path.read_text(encoding="utf-8") for path in (SHARED_STYLE, FOLDER / "report_page.css"))
    html = _environment().get_template("report_page.html").render(
        title=title, style=Markup(style), policy=Markup(POLICY), colours=COLOURS, length=TEXT_LENGTH,
        benchmarks=[_benchmark(name, scored, samples.get(name, [])) for name, scored in groups.items()],
    )  # fmt: skip
    return html.strip().encode("utf-8", "replace").decode() + "\n"  # texts may hold halves of surrogate pairs


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "percent": percent, "signed": signed, "interval": interval_of, "floors": floors_of, "thousands": "{:,}".format,
        "worth": report_samples.worth, "confidence": report_samples.confidence, "verdict": report_samples.verdict,
        "steps": report_samples.spoken_steps, "described": described,
    }  # fmt: skip
    environment.tests |= {"listed": lambda value: isinstance(value, list | tuple), "right": report_samples.is_right}
    return environment


def _benchmark(name: str, scored: Sequence[ScoredRun], samples: Sequence[SampleView]) -> dict[str, Any]:
    # A series for each run with one score alone, so that every run has its own row and its own colour.
    alone = [[one.headline if i == j else None for j in range(len(scored))] for i, one in enumerate(scored)]
    return {
        "name": name,
        "headline": next((one.headline.name for one in scored if one.headline), "score"),
        "scored": scored,
        "plot": Markup(plot([one.name for one in scored], alone)),
        "protocols": {one.run.protocol: one.differences for one in scored if one.differences},
        "tables": list(_tables(scored)),
        "pairs": pairs_of(scored),
        "failures": [(i, cause) for i, one in enumerate(scored) for cause in causes_of(one.run.results)],
        "samples": samples,
    }


def _tables(scored: Sequence[ScoredRun]) -> Iterator[dict[str, Any]]:
    """Each table of the benchmark with all runs side by side; the headline has its own."""
    for title in dict.fromkeys(table.title for one in scored for table in one.tables[1:]):
        found = [next((table for table in one.tables if table.title == title), None) for one in scored]
        names = list(dict.fromkeys(row.name for table in found if table for row in table.rows))
        series = [[_row(table, name) for name in names] for table in found]
        yield {
            "title": title,
            "notes": [(i, table.note) for i, table in enumerate(found) if table and table.note],
            "plot": Markup(plot(names, series)),
            "rows": [(n, j, scores[i]) for i, n in enumerate(names) for j, scores in enumerate(series) if scores[i]],
        }


def _row(table: Table | None, name: str) -> Score | None:
    return next((row for row in table.rows if row.name == name), None) if table else None
