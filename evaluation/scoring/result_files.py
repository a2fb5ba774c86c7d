"""Finding results on disk: the files that evaluations write, and what others have published."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evaluation.scoring.benchmarks import benchmark_names, scores_of
from evaluation.scoring.outcome import Outcome
from evaluation.scoring.result import Result
from utils.errors import UserError

PATTERN = "*.result.json"


def read_results(paths: Sequence[str | Path], benchmark: str | None = None) -> list[Result]:
    """The results in files and folders, in the order given; published files count as `benchmark`'s.

    A folder is searched for *.result.json, and where it holds none, for published files: those of `benchmark`, or of
    whatever benchmark has files of that name. Raises UserError where there is nothing to read, or a result that is of
    another benchmark, empty, or has two outcomes of one name.
    """
    results = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; give *.result.json files or published results")
        found = find(path, benchmark) if path.is_dir() else [(path, benchmark)]
        results += [_checked(file, _read(file, of), benchmark) for file, of in found]
    return results


def find(folder: Path, benchmark: str | None) -> list[tuple[Path, str | None]]:
    """The files of results under a folder, each with the benchmark that it counts as (None: it says so itself)."""
    ours = sorted(folder.rglob(PATTERN))
    if ours:
        return [(path, benchmark) for path in ours]
    names = [benchmark] if benchmark else benchmark_names()
    patterns = {name: scores_of(name).PUBLISHED for name in names}
    published = [
        (path, name)
        for path in sorted(folder.rglob("*"))
        for name, globs in patterns.items()
        if any(path.match(glob) for glob in globs)
    ]
    if not published:
        what = f" and nothing that {benchmark} publishes" if benchmark else ""
        raise UserError(f"{folder}: no {PATTERN} in it{what}; run an evaluation first, or give its --output_dir")
    return published


def _read(path: Path, benchmark: str | None) -> Result:
    if path.name.endswith(PATTERN.removeprefix("*")):
        return Result.read(path)
    if benchmark is None:
        raise UserError(f"{path}: not called {PATTERN}, and no benchmark is named whose published file it could be")
    return scores_of(benchmark).read(path)


def _is_sound(outcome: Outcome) -> bool:
    """Whether the fields are what statistics take them for."""
    is_share = isinstance(outcome.value, int | float) and 0 <= outcome.value <= 1
    are_names = all(isinstance(name, str) for name in (outcome.id, outcome.cluster))
    are_tags = isinstance(outcome.tags, dict) and all(isinstance(tag, str) for tag in outcome.tags.values())
    return is_share and are_names and are_tags and isinstance(outcome.shown, dict)


def _checked(path: Path, result: Result, benchmark: str | None) -> Result:
    if benchmark not in (None, result.benchmark):
        raise UserError(f"{path}: a result of {result.benchmark}, not of {benchmark}")
    if not result.outcomes:
        raise UserError(f"{path}: no outcomes in it; nothing can be scored")
    for outcome in result.outcomes:
        if not _is_sound(outcome):
            raise UserError(
                f"{path}: outcome {outcome.id!r}: value must be 0 to 1, cluster text, tags and shown objects"
            )
    name, n_times = Counter(outcome.id for outcome in result.outcomes).most_common(1)[0]
    if n_times > 1:
        raise UserError(f"{path}: {n_times} outcomes are called {name!r}; each item must be in it once")
    return result
