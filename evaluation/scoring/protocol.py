"""The four parts of a score, and whose each is: what makes two numbers comparable."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

Origin = Literal["authors'", "seed's", "ours"]
AUTHORS: Origin = "authors'"
SEED: Origin = "seed's"
OURS: Origin = "ours"
BUT = "-but-"


@dataclass(frozen=True)
class Parts:
    """Whose each part is: the benchmark's authors', the published code's that this project follows, or this project's.

    prompt: the words around question and options. frames: which are shown, and how large. reading: how an answer
    becomes right or wrong. denominator: which items count.
    """

    prompt: Origin
    frames: Origin
    reading: Origin
    denominator: Origin

    def changed(self, changes: Mapping[str, Origin]) -> "Parts":
        """The parts with those that a model or a flag makes its own way."""
        return replace(self, **changes)

    def name(self, asked: str) -> str:
        """Name of the protocol: `official` is said only where all four parts are the authors'."""
        others = [part for part, origin in asdict(self).items() if origin != AUTHORS]
        return f"{asked}{BUT}{'-'.join(others)}" if asked.startswith("official") and others else asked


def asked_protocol(name: str) -> str:
    """The protocol that was asked for, of a name that says what else it is."""
    return name.split(BUT)[0].split("-recent")[0]


def described(parts: Mapping[str, str]) -> str:
    """Parts in one line."""
    return ", ".join(f"{part} {origin}" for part, origin in parts.items()) or "whose its parts are is not recorded"
