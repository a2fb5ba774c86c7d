"""Commands work from a path with a space in it; commands, flags and paths that the pages name are real."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import (
    SCRIPT_FOLDERS,
    Command,
    Script,
    commands_of,
    documented_commands,
    find_pages,
    find_scripts,
    paths_in_page,
    paths_in_tree,
)
from tests.conftest import REPOSITORY

SCRIPTS = find_scripts(REPOSITORY)
# Published scripts are called by their paths; a stage runs as a module too, as its docstring writes it.
BY_PATH = [Script(s.path, as_module=False) for s in SCRIPTS if s.as_module and s.path.startswith("data/production/")]
COMMANDS = documented_commands(REPOSITORY)
SHELL_SCRIPTS = [*sorted((REPOSITORY / "scripts").glob("*.sh")), REPOSITORY / ".ci" / "run"]
FROZEN = Path(__file__).with_name("command_lines.json")
NOT_COPIED = (
    ".git",
    ".venv",
    "outputs",
    "checkpoints",
    "wandb",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "*.log",
)
# In the worker a file runs as by `python FILE` or `python -m MODULE`, the first entry of sys.path included.
# Between scripts the worker forgets its path and the project's modules, and keeps the libraries it has loaded.
DRIVER = """
import contextlib, io, json, multiprocessing, os, runpy, sys

def run_help(words):
    path = list(sys.path)
    sys.path.insert(0, os.getcwd() if words[0] == "-m" else os.path.dirname(os.path.abspath(words[0])))
    sys.argv = [words[-1], "--help"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        (runpy.run_module if words[0] == "-m" else runpy.run_path)(words[-1], run_name="__main__")
    sys.path[:] = path
    for name in [name for name in sys.modules if name.split(".")[0] in PROJECT]:
        del sys.modules[name]
    return printed.getvalue()

if __name__ == "__main__":
    scripts, way, answer = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    if way == "spawned":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            helps = pool.map(run_help, scripts)
    else:
        helps = [run_help(words) for words in scripts]
    with open(answer, "w") as file:
        json.dump(helps, file)
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in a folder with a space in its name."""
    target = tmp_path_factory.mktemp("copies") / "live commentary"
    return Path(shutil.copytree(REPOSITORY, target, ignore=shutil.ignore_patterns(*NOT_COPIED)))


def run(words: list[str], folder: Path) -> str:
    """Standard output of a command that must succeed, run in `folder` without PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def flags_in_help(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", text))


@pytest.mark.parametrize("script", [*SCRIPTS, *BY_PATH], ids=lambda script: " ".join(script.arguments()))
def test_help_lists_every_documented_and_frozen_flag(script: Script, copied: Path):
    known = flags_in_help(run([sys.executable, *script.arguments(), "--help"], copied))
    for command in COMMANDS:
        if command.target == script.path:
            unknown = [flag for flag in command.flags if flag.startswith("--") and flag not in known]
            assert not unknown, f"{command.page}: {command.text}: {script} does not know {unknown}"
    frozen = set(json.loads(FROZEN.read_text()).get(script.path, ()))
    assert frozen, f"{FROZEN.name} freezes the command line of every script; add {script}: {sorted(known)}"
    assert not frozen - known, f"{script} lost flags that users may pass; if that is meant, change {FROZEN.name}"


@pytest.mark.parametrize("way", ["torchrun", "spawned"])
def test_help_in_a_worker(copied: Path, tmp_path: Path, way: str):
    driver, answer, scripts = tmp_path / "driver.py", tmp_path / "helps.json", [*SCRIPTS, *BY_PATH]
    driver.write_text(f"PROJECT = {SCRIPT_FOLDERS}\n{DRIVER}")
    python = [sys.executable]
    if way == "torchrun":
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    run([*python, str(driver), json.dumps([script.arguments() for script in scripts]), way, str(answer)], copied)
    helps = json.loads(answer.read_text())
    without = [str(script) for script, text in zip(scripts, helps, strict=True) if "usage:" not in text]
    assert not without, f"no help from {without} in a worker that was started by {way}"


def test_train_under_torchrun(copied: Path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    assert "usage: train.py" in run([*torchrun, "train.py", "--help"], copied)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_runnable_file_opens_with_its_command(script: Script):
    opening = (REPOSITORY / script.path).read_text(encoding="utf-8").split('"""')[1]
    own = (f"python {script.path}", f"python -m {script.module}", f" {script.path}")
    assert any(command in opening for command in own), f"the docstring of {script} does not show how to run it"


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse_and_open_with_their_command(script: Path):
    run(["bash", "-n", str(script)], REPOSITORY)
    assert script.read_text().splitlines()[1].startswith("# "), f"{script} does not say what it is"
    assert os.access(script, os.X_OK), f"{script} is not executable"


@pytest.mark.parametrize("name", ["setup", "test", "quickstart"])
def test_shell_scripts_have_help(name: str, copied: Path):
    assert f"bash scripts/{name}.sh" in run(["bash", f"scripts/{name}.sh", "--help"], copied)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}: {command.text[:60]}")
def test_documented_commands_run_files_that_exist(command: Command):
    assert (REPOSITORY / command.target).is_file(), f"{command.page} runs {command.target}, which is not there"


@pytest.mark.parametrize("page", find_pages(REPOSITORY), ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_pages_name_paths_that_exist(page: Path):
    missing = [
        path
        for path in sorted(paths_in_page(page))
        if not any((at / path).exists() for at in (page.parent, REPOSITORY))
    ]
    assert not missing, f"{page.name} names {missing}, not in the repository"


def test_readme_tree_is_true():
    missing = [path for path in paths_in_tree(REPOSITORY / "README.md") if not (REPOSITORY / path).exists()]
    assert not missing, f"README's tree shows {missing}, not in the repository"


def test_commands_are_read_from_shell_text():
    text = "# python no.py --x\nA=1 torchrun --nproc_per_node=8 train.py \\\n  --lr $lr --do_train True\n"
    first, second = commands_of("page", text + "python -m data.preview FILE")
    assert (first.target, first.flags) == ("train.py", ("--lr", "--do_train"))
    assert (second.target, second.flags) == ("data/preview/__main__.py", ())
