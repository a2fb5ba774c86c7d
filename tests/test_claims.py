"""dev/claims.md: what it names exists, what it quotes stands in its page, and no page is left out."""

import ast
import re
from dataclasses import dataclass
from functools import cache

import pytest

from dev.mutations.catalogue import MUTATIONS
from tests.commands import commands_of, find_pages
from tests.conftest import REPOSITORY

CLAIMS = "dev/claims.md"
COLUMNS = ["promise", "shown by", "under which conditions", "mutation"]
NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[[^`]*\])?`")
NOT_SHOWN = "not shown"
# Pages whose promises are of behaviour: each that a test shows has a mutation that breaks it. Measured tables have not.
MEASURED = "dev/benchmarks/"
# Those that cannot have one, by their first quotation, and why.
WITHOUT_MUTATION = {
    "with GStreamer's server": "says with which servers it was tried; what reading them promises has rows of its own",
    "bash scripts/gpu_check.sh": "what it runs needs a GPU; here the script is only parsed",
    "are deleted when another is chosen, a minute after the tab is closed": "tests wait 180 s for it, mutations 120",
    "Run on hand-made windows over the shipped matches only": "says how little was tried",
}
# The words with which a page says that it does not know.
SAYS_SO = re.compile(r"\b(not|no|never|neither|only)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Claim:
    """A row: its page, its line in the file, and its cells."""

    page: str
    line: int
    promise: str
    shown_by: str
    conditions: str
    mutation: str

    def __str__(self) -> str:
        return f"{CLAIMS}:{self.line}"

    @property
    def quotations(self) -> list[str]:
        return re.findall(r'"([^"]+)"', self.promise)


def read_claims(text: str) -> list[Claim]:
    """All rows below a heading for each page."""
    claims, page = [], None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("## "):
            page = line.removeprefix("## ")
        elif line.startswith("|") and not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
            assert len(cells) == len(COLUMNS), f"{CLAIMS}:{number} has {len(cells)} cells, not {len(COLUMNS)}"
            if cells != COLUMNS:
                claims.append(Claim(page, number, *cells))
    return claims


TEXT = (REPOSITORY / CLAIMS).read_text(encoding="utf-8")
ALL = read_claims(TEXT)


def plain(text: str) -> str:
    """Text without code marks, links and line ends, in which a quotation is looked for."""
    text = re.sub(r"\]\([^)\s]*\)", "", text).replace("[", "").replace("]", "")
    return re.sub(r"\s+", " ", re.sub(r"[`*]", "", text))


@cache
def functions_of(path: str) -> frozenset[str]:
    """Names of the functions at the top of a file, found without importing it."""
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def pages() -> list[str]:
    """Pages whose promises are listed: those for readers, and the measured tables."""
    measured = sorted((REPOSITORY / "dev" / "benchmarks").glob("*.md"))
    return [page.relative_to(REPOSITORY).as_posix() for page in [*find_pages(REPOSITORY), *measured]]


def commands_in(cell: str) -> list[str]:
    return [span for span in re.findall(r"`([^`]+)`", cell) if "::" not in span]


def test_every_page_has_its_claims():
    assert {claim.page for claim in ALL} == set(pages())
    assert len(ALL) >= 120


def test_no_row_leaves_out_what_shows_it():
    for claim in ALL:
        assert claim.quotations and claim.shown_by and claim.conditions, f"{claim} is not complete"
        named = NODE.search(claim.shown_by) or commands_in(claim.shown_by)
        assert bool(named) != (claim.shown_by == NOT_SHOWN), f'{claim}: name a test, a command, or say "{NOT_SHOWN}"'


def test_promises_stand_in_their_pages():
    texts = {page: plain((REPOSITORY / page).read_text(encoding="utf-8")) for page in pages()}
    missing = [f"{c}: {q}" for c in ALL for q in c.quotations if plain(q) not in texts[c.page]]
    assert not missing, "the pages no longer say:\n" + "\n".join(missing)


def test_tests_that_are_named_exist():
    missing = [
        f"{CLAIMS}:{number}: {path}::{name}"
        for number, line in enumerate(TEXT.splitlines(), start=1)
        for path, name in NODE.findall(line)
        if not (REPOSITORY / path).is_file() or name not in functions_of(path)
    ]
    assert not missing, "\n".join(missing)


def test_commands_that_are_named_run_files_that_exist():
    for claim in ALL:
        for text in commands_in(claim.shown_by):
            (command,) = commands_of(CLAIMS, text)
            assert (REPOSITORY / command.target).is_file(), f"{claim}: {command.target} is not there"


def test_mutations_that_are_named_exist():
    known = {mutation.name for mutation in MUTATIONS}
    for claim in ALL:
        assert not re.sub(r"`\w+`|[,; ]", "", claim.mutation), f"{claim}: name mutations as `NAME`, `NAME`"
        unknown = set(re.findall(r"`(\w+)`", claim.mutation)) - known
        assert not unknown, f"{claim}: dev/mutations has no {', '.join(sorted(unknown))}"


def test_what_a_test_shows_has_a_mutation_that_breaks_it():
    shown = [c for c in ALL if NODE.search(c.shown_by) and not c.page.startswith(MEASURED)]
    without = {claim.quotations[0] for claim in shown if not claim.mutation}
    assert without == set(WITHOUT_MUTATION), "name a mutation of dev/mutations, or say why there can be none"


def test_what_is_not_shown_says_so_where_it_stands():
    silent = [str(claim) for claim in ALL if claim.shown_by == NOT_SHOWN and not SAYS_SO.search(claim.promise)]
    assert not silent, f"quote the words with which the page says that it was not tried: {silent}"


@pytest.mark.parametrize("line", ["| a | b |", "| a | b | c | d | e |"])
def test_a_row_of_another_shape_is_refused(line: str):
    with pytest.raises(AssertionError, match="cells"):
        read_claims(f"## README.md\n{line}")
