"""The parser on lines that no program wrote, and on every wording of the commentator."""

import csv
from itertools import product
from pathlib import Path

import pytest

from data.nano.commentator import HELD_OUT_WORDINGS, WORDINGS, ZONE_PHRASES, score_phrase
from data.nano.parser import ParsedLine, parse_event_line
from data.nano.world import FLANKS, ZONES

LINES = Path(__file__).with_name("nano_lines.tsv")


def read_lines() -> list[dict]:
    with LINES.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def expected(row: dict) -> ParsedLine | None:
    if row["kind"] == "none":
        return None
    score = None if row["score"] == "-" else tuple(int(goals) for goals in row["score"].split("-"))
    return ParsedLine(row["kind"], row["team"], None if row["zone"] == "-" else row["zone"], score)


def test_there_are_two_hundred_lines():
    assert len(read_lines()) >= 200


@pytest.mark.parametrize("row", read_lines(), ids=lambda row: row["line"])
def test_hand_written_line(row):
    assert parse_event_line(row["line"]) == expected(row)


@pytest.mark.parametrize("wordings", [WORDINGS, HELD_OUT_WORDINGS], ids=["training", "held out"])
def test_commentators_wordings(wordings):
    for kind, score in product(wordings, [(0, 0), (2, 1), (3, 3)]):
        for wording in wordings[kind]:
            zones = (FLANKS if kind in ("corner", "throw-in") else ZONES) if "{z}" in wording else (None,)
            for zone in zones:
                line = wording.format(T="White", t="white", z=ZONE_PHRASES.get(zone, ""), s=score_phrase(score))
                assert parse_event_line(line) == ParsedLine(kind, "white", zone, score if "{s}" in wording else None)
