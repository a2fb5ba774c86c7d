"""The repository as test_commands.py sees it: runnable files, and the commands and paths that pages name."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

CODE_FOLDERS = ("data", "demo", "evaluation", "models", "scripts", "utils")
SCRIPT_FOLDERS = (*CODE_FOLDERS, "dev")
# First parts of paths that commands write, users bring, or a hub serves: not files of the repository.
OUTSIDE = ("checkpoints", "datasets", "outputs", ".venv", "Qwen", "chenjoya", "lmms-lab", "stdKonjac")
PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/?")
RUNS_A_FILE = re.compile(r"\b(python|torchrun|bash)\b.*(\.py|\.sh|-m )")
SUFFIXES = (".py", ".sh", ".md", ".txt", ".json", ".toml", ".ini", ".mp4")


@dataclass(frozen=True)
class Script:
    """A runnable Python file, and its command as its docstring writes it: by path or as a module."""

    path: str
    as_module: bool

    def __str__(self) -> str:
        return self.path

    @property
    def module(self) -> str:
        return module_of(self.path)

    def arguments(self) -> list[str]:
        return ["-m", self.module] if self.as_module else [self.path]


@dataclass(frozen=True)
class Command:
    """A command found in a page or a shell script: what it runs and the flags it passes."""

    page: str
    text: str
    target: str
    flags: tuple[str, ...]


def module_of(path: str) -> str:
    """The name by which `python -m` runs a file."""
    return path.removesuffix(".py").removesuffix("/__main__").replace("/", ".")


def file_of(module: str) -> str:
    """The file that `python -m` runs for a name."""
    path = module.replace(".", "/")
    return f"{path}/__main__.py" if (Path(__file__).parents[1] / path).is_dir() else f"{path}.py"


def find_scripts(root: Path) -> list[Script]:
    """Every Python file with a main guard outside tests/, in a stable order."""
    in_folders = [file for folder in SCRIPT_FOLDERS for file in sorted((root / folder).rglob("*.py"))]
    scripts = []
    for file in [root / "train.py", *in_folders]:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if re.search(r"^if __name__ == .__main__.:", text, re.MULTILINE):
            path = file.relative_to(root).as_posix()
            scripts.append(Script(path, f"-m {module_of(path)}`" in text or f"-m {module_of(path)} " in text))
    return scripts


def find_pages(root: Path) -> list[Path]:
    """Markdown pages that describe the present; dev/ and CHANGELOG.md hold the record of the past."""
    in_folders = [page for folder in CODE_FOLDERS for page in sorted((root / folder).rglob("*.md"))]
    at_root = [page for page in sorted(root.glob("*.md")) if page.name != "CHANGELOG.md"]
    return [*at_root, *in_folders]


def code_blocks(page: Path, *languages: str) -> list[str]:
    """Contents of the fenced blocks of these languages."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [body for language, body in blocks if language in languages]


def commands_of(page: str, shell_text: str) -> list[Command]:
    """Commands of a piece of shell that run a file or a module of this repository."""
    lines = shell_text.replace("\\\n", " ").splitlines()
    commands = []
    for line in lines:
        if not RUNS_A_FILE.search(line) or line.lstrip().startswith("#"):
            continue
        words = shlex.split(line, comments=True)
        target, at = _target(words)
        if target:
            flags = tuple(word.split("=")[0] for word in words[at + 1 :] if re.match(r"--?[a-z]", word))
            commands.append(Command(page, line.strip(), target, flags))
    return commands


def _target(words: list[str]) -> tuple[str | None, int]:
    """The file that a command line runs (a module as its file), and its place among the words."""
    for at, word in enumerate(words):
        if word == "-m" and at and "python" in words[at - 1]:
            ours = words[at + 1].split(".")[0] in SCRIPT_FOLDERS
            return (file_of(words[at + 1]) if ours else None), at + 1
        if PATH.fullmatch(word) and word.endswith((".py", ".sh")):
            return word, at
    return None, 0


def documented_commands(root: Path) -> list[Command]:
    """Commands in the pages' shell blocks and in the shell scripts themselves."""
    commands = []
    for page in find_pages(root):
        for block in code_blocks(page, "bash", "sh", "shell"):
            commands += commands_of(page.relative_to(root).as_posix(), block)
    for script in sorted((root / "scripts").glob("*.sh")):
        commands += commands_of(script.relative_to(root).as_posix(), script.read_text(encoding="utf-8"))
    return commands


def paths_in_page(page: Path) -> set[str]:
    """Paths of the repository that a page names: relative links, and code spans that look like files."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    spans = [span for span in re.findall(r"`([^`\n]+)`", text) if PATH.fullmatch(span)]
    named = [span for span in spans if "/" in span or span.endswith(SUFFIXES)]
    return {path for path in [*links, *named] if path and path.split("/")[0] not in OUTSIDE}


def paths_in_tree(page: Path) -> list[str]:
    """Paths of the annotated tree under a heading "Layout": four spaces a level, one name a line, or several."""
    section = page.read_text(encoding="utf-8").split("\n## Layout\n")[1]
    block = re.search(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL).group(1)
    paths, parents = [], []
    for line in filter(str.strip, block.splitlines()):
        level = (len(line) - len(line.lstrip())) // 4
        names = [name for name in re.split(r"\s{2,}", line.strip())[0].split() if PATH.fullmatch(name)]
        for name in names:
            paths.append("/".join([*parents[:level], name.rstrip("/")]))
        parents[level:] = [names[-1].rstrip("/")]
    return paths
