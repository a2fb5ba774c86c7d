"""pyproject.toml and requirements.txt name the same packages with the same ranges."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def by_name(lines: list[str]) -> dict[str, set[str]]:
    """Package -> its ranges and conditions; a package with several extras counts once for each."""
    found: dict[str, set[str]] = {}
    for line in lines:
        wanted = Requirement(line)
        name = wanted.name.lower().replace("_", "-") + "".join(f"[{extra}]" for extra in sorted(wanted.extras))
        found.setdefault(name, set()).add(f"{wanted.specifier} {wanted.marker or ''}".strip())
    return found


def test_requirements_are_the_sum_of_the_extras():
    extras = [
        *PROJECT["dependencies"],
        *(line for lines in PROJECT["optional-dependencies"].values() for line in lines),
    ]
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [text for line in lines if (text := re.sub(r"(^|\s)#.*", "", line).strip())]
    assert by_name(extras) == by_name(wanted)
    assert all(len(ranges) == 1 for ranges in by_name(extras).values())


@pytest.mark.parametrize("extra", ["inference", "serving", "training", "evaluation", "production", "dev"])
def test_every_extra_is_there(extra):
    assert PROJECT["optional-dependencies"][extra]


def test_one_version_stands_everywhere():
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {PROJECT['version']}\n" in citation
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == PROJECT["version"]
