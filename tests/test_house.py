"""What must never be in the house: arrows against the flow, things declared twice, files that no page names."""

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

FOLDERS = ("data", "models", "evaluation", "demo", "scripts", "utils")
FILES = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py"))]
TREES = {path.relative_to(REPOSITORY).as_posix(): ast.parse(path.read_text("utf-8")) for path in FILES}
# What is declared once, and where; a second assignment of the name, or of the number in its place, is a fault.
DECLARED_ONCE = {
    "FPS": "data/video/frame_plan.py",
    "FIRST_STEP_FRAMES": "data/samples/words.py",
    "STEP_FRAMES": "data/samples/words.py",
    "SILENCE": "data/samples/words.py",
    "SIZE_FACTOR": "data/video/frame_plan.py",
    "PATCH": "data/samples/patches.py",
    "MERGE": "data/samples/patches.py",
    "IGNORED": "data/samples/conversation.py",
    "DEFAULT_QUERY": "models/streaming/options.py",
    "NANO_CHECKPOINT": "demo/arguments.py",
    "LIVE_MAX_PIXELS": "demo/arguments.py",
    "POSITION_MODES": "data/samples/positions.py",
}
TWO_MEANINGS = 20  # public names of classes and functions that may be defined in two files


def imports_of(path: str) -> Iterator[str]:
    """Modules that a file imports, those inside functions too."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(sources: str, *targets: str) -> list[str]:
    """Imports of modules that begin with one of `targets`, in files that begin with `sources`."""
    return [
        f"{path} imports {module}"
        for path in TREES
        if path.startswith(sources)
        for module in imports_of(path)
        if any(module == target or module.startswith(f"{target}.") for target in targets)
    ]


def test_data_imports_no_models():
    """Production apart, some of whose stages run one."""
    found = arrows("data/", "models", "evaluation", "demo", "scripts", "dev")
    assert [line for line in found if not line.startswith("data/production/")] == []
    assert arrows("data/production/", "evaluation", "demo", "scripts", "dev") == []


def test_models_import_neither_evaluation_nor_demo():
    assert arrows("models/", "evaluation", "demo", "scripts", "dev", "tests") == []


def test_utils_import_nothing_of_ours():
    assert arrows("utils/", "data", "models", "evaluation", "demo", "scripts", "dev", "tests") == []


def test_page_and_server_share_what_is_live_and_nothing_of_each_other():
    assert arrows("demo/web/", "demo.server") == arrows("demo/server/", "demo.web") == []
    assert arrows("demo/live/", "demo.web", "demo.server") == []


def test_nobody_imports_an_entry_point():
    entries = ["train", "demo.app", "demo.cli", "demo.serve", "evaluation.score", "evaluation.report"]
    found = [line for line in arrows("", *entries) if not line.startswith("scripts/profile_train.py")]
    assert found == []  # profile_train runs train.main, which is what it is for


def circles() -> set[tuple[str, ...]]:
    """Pairs of files that import each other while they load."""
    names = {path.removesuffix(".py").replace("/", "."): path for path in TREES}
    at_load = {
        path: {
            names[module]
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            if module in names
        }
        for path, tree in TREES.items()
    }
    return {tuple(sorted((a, b))) for a, targets in at_load.items() for b in targets if a in at_load[b] and a != b}


def test_no_two_files_import_each_other():
    assert circles() == set()


@pytest.mark.parametrize("name", DECLARED_ONCE)
def test_constants_are_declared_once(name):
    declared = [
        path
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id == name
    ]
    assert declared == [DECLARED_ONCE[name]]


def test_numbers_that_have_a_name_are_not_written_out():
    """The ignored label is IGNORED, and a visual token's pixels are SIZE_FACTOR squared."""
    code = {path: ast.unparse(tree) for path, tree in TREES.items()}
    assert [path for path, text in code.items() if re.search(r"(?<![\w.])-100\b", text)] == [DECLARED_ONCE["IGNORED"]]
    assert [path for path, text in code.items() if "28 * 28" in text] == []


def test_few_public_names_stand_for_two_things():
    places = defaultdict(list)
    for path, tree in TREES.items():
        for node in tree.body:
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef)
                and not node.name.startswith("_")
                and node.name != "main"
            ):
                places[node.name].append(path)
    twice = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert len(twice) < TWO_MEANINGS, f"{len(twice)} names: {twice}"


@pytest.mark.parametrize("folder", ["data", "models"])
def test_the_rooms_pages_have_a_line_for_each_file(folder):
    page = (REPOSITORY / folder / "README.md").read_text("utf-8")
    named = Counter(re.findall(r"\]\(([\w/]+\.py)\)", page))
    there = {
        path.relative_to(REPOSITORY / folder).as_posix()
        for path in (REPOSITORY / folder).rglob("*.py")
        if not path.name.startswith("__") and "production" not in path.relative_to(REPOSITORY).parts
    }
    assert set(named) == there and set(named.values()) == {1}


def test_the_glossary_names_files_that_exist():
    glossary = (REPOSITORY / "docs/glossary.md").read_text("utf-8")
    missing = [
        path
        for path in re.findall(r"`([\w/]+(?:\.py|/))` \|$", glossary, re.MULTILINE)
        if not Path(REPOSITORY, path).exists()
    ]
    assert missing == []


def test_every_package_is_tracked():
    """A folder that .gitignore hides would be missing from a clone."""
    hidden = subprocess.run(
        ["git", "status", "--ignored", "--porcelain", "--", *FOLDERS], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout
    assert [line for line in hidden.splitlines() if line.startswith("!!") and line.endswith(".py")] == []
