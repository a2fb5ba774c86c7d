"""A mutation: one promise, one edit that breaks it, and the tests of which at least one must then fail."""

from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError


@dataclass(frozen=True)
class Mutation:
    """In `file` the text `old`, which stands there once, becomes `new`; then one of `tests` must fail.

    name: words joined by underscores, what the broken program does. promise: the sentence that no longer holds.
    tests: node ids of pytest (a file, or FILE::NAME), together under two minutes alone on one core.
    quick: one of those that every run of the tests applies (tests/test_mutations.py): a few seconds.
    """

    name: str
    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    quick: bool = False

    def apply(self, tree: Path) -> None:
        """Edit the file below `tree`. Raises UserError where the text is not there once, or the result is no Python."""
        path = tree / self.file
        path.write_text(self.mutated(tree), encoding="utf-8")

    def mutated(self, tree: Path) -> str:
        """The file's text as the mutation leaves it."""
        path = tree / self.file
        if not path.is_file():
            raise UserError(f"mutation {self.name}: {self.file} does not exist; name the file that has the code now")
        source = path.read_text(encoding="utf-8")
        if (n := source.count(self.old)) != 1:
            raise UserError(
                f"mutation {self.name}: its text stands {n} times in {self.file}, not once; "
                f"bring `old` up to date with the code:\n{self.old}"
            )
        changed = source.replace(self.old, self.new)
        if path.suffix == ".py":
            try:
                compile(changed, str(path), "exec")
            except SyntaxError as error:
                raise UserError(f"mutation {self.name}: {self.file}:{error.lineno} is no Python: {error.msg}") from None
        return changed
