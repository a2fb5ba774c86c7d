"""The words of a section that was cut out of a video, on the section's own clock."""

from collections.abc import Iterable

from data.production.words.packed_words import Timed


def cut_section(entries: Iterable[Timed], start_s: float, end_s: float | None) -> tuple[list[Timed], int]:
    """Words or captions that begin from start_s up to end_s, with times behind start_s, and how many words lie outside.

    The words of a caption share its time evenly, as pretrain_to_clips has it.
    """
    kept: list[Timed] = []
    n_outside = 0
    until_s = float("inf") if end_s is None else end_s
    for begins, ends, text in entries:
        words = text.split()
        step = (ends - begins) / max(len(words), 1)
        inside = [k for k in range(len(words)) if start_s <= begins + step * k < until_s]
        n_outside += len(words) - len(inside)
        if inside:
            edges = begins + step * inside[0], min(begins + step * (inside[-1] + 1), until_s)
            said = " ".join(words[inside[0] : inside[-1] + 1])
            kept.append([*(round(edge - start_s, 3) for edge in edges), said])
    return kept, n_outside
