"""Video-MME-v2's scores: groups of four questions, worth more than the sum of their answers; and plain accuracy.

A group of kind `relevance` is worth the square of its share of right answers. In one of kind `logic` the answers must
be right from the first on, along the group's structure. Restated from evaluation/test_video_mme_v2.py of the
benchmark's repository, where an answer without a letter is -1: it takes from a sum, and does not break a chain.
"""

import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.stats import score
from evaluation.scoring.tables import Category, Table, by_categories, overall
from evaluation.tasks.reading import videommev2_letter
from utils.errors import UserError

PROTOCOLS = {
    "livecc": ("frames up to the checkpoint's own limit", "the answer is the option letter with the highest logit"),
    "official": ("64 frames", "the answer is written, and the first of A to H in it counts, wherever it stands"),
}
MEAN_OVER = ()
PUBLISHED = ()
RELEVANCE = (0.0, 1 / 16, 4 / 16, 9 / 16, 1.0)  # by right answers
CHAINS = {  # structure of a group -> worth by the length of the chain
    "[1, 2, 3, 4]": RELEVANCE,
    "[1, [2, 3], 4]": (0.0, 1 / 12, 4 / 12, 7 / 12, 1.0),
    "[[1, 2], 3, 4]": (0.0, 1 / 10, 2 / 10, 5 / 10, 1.0),
}
CATEGORIES = (
    Category("group_type", "Kind of group", ("relevance", "logic")),
    Category("level", "Level", ("1", "2", "3")),
    Category("second_head", "Ability"),
    Category("third_head", "Skill"),
)


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """The mean worth of groups; by kind, level, ability and skill; the accuracy of single questions."""
    groups = groups_of(results)
    if not groups:
        return [overall("accuracy", results)]
    head = overall("groups", groups, note="mean worth of groups of four questions")
    head.rows.append(score("accuracy of questions", results))
    return [head, *by_categories(groups, CATEGORIES)]


def groups_of(results: Sequence[ItemResult]) -> list[ItemResult]:
    """A result for each group: its worth, under the tags of its last question."""
    members: dict[str, list[ItemResult]] = {}
    for result in results:
        if "group" in result.tags:
            members.setdefault(result.tags["group"], []).append(result)
    return [
        replace(
            inside[-1], id=name, value=worth_of(inside), failed=all(one.failed for one in inside), truth=None, shown={}
        )
        for name, inside in members.items()
    ]


def worth_of(group: Sequence[ItemResult]) -> float:
    """Worth of a group, 0 to 1."""
    marks = [mark_of(result) for result in group]
    if group[-1].tags["group_type"] == "relevance":
        n_right = sum(marks)
        return RELEVANCE[n_right] if 0 <= n_right < len(RELEVANCE) else 0.0
    structure = str(ast.literal_eval(group[-1].tags["group_structure"]))
    if structure not in CHAINS:
        raise UserError(f"group_structure {structure} is none of {', '.join(CHAINS)}")
    length = next((i for i, mark in enumerate(marks) if not mark), len(marks))
    if structure == "[1, [2, 3], 4]" and length == 1 and len(marks) > 2 and marks[2]:
        length = 2  # of two questions that do not build on each other, the other one is right
    if structure == "[[1, 2], 3, 4]" and length == 0 and len(marks) > 1 and marks[1]:
        length = 1
    return CHAINS[structure][length]


def mark_of(result: ItemResult) -> int:
    """1 right, 0 wrong, -1 without a letter."""
    return int(result.value) if videommev2_letter(str(result.answer or "")) else -1


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: Video-MME-v2 has no published result format here; give a *.result.json")
