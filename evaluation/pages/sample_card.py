"""One item on a page: its frames and question, and each model's answer beside the truth or the human's words."""

import math
from collections.abc import Sequence
from html import escape

from evaluation.pages.report_samples import SampleView
from evaluation.scoring.preference import DECIDED
from evaluation.scoring.results import ItemResult
from evaluation.scoring.score_lines import percent
from evaluation.scoring.scored_runs import ScoredRun

TEXT_LENGTH = 6000  # characters of any one text
SHOWN_TAGS = 6


def sample_card(sample: SampleView) -> str:
    """The item as HTML."""
    _, first = sample.answers[0]
    tags = " \u00b7 ".join(_text(f"{name} {value}") for name, value in list(first.tags.items())[:SHOWN_TAGS])
    film = "".join(
        f'<figure><img src="{frame.address}" alt="frame at {frame.time_s:.1f} s">'
        f"<figcaption>{frame.time_s:.1f} s</figcaption></figure>"
        for frame in sample.frames
    )
    note = f'<p class="notes">{_text(sample.note)}</p>' if sample.note else ""
    answers = "".join(_answer(scored, result) for scored, result in sample.answers)
    return f"""<article><h4>{_text(sample.id)} <small>{tags}</small></h4>
<div class="film">{film}</div>{note}{_question(first)}<div class="beside">{answers}{_reference(first)}</div></article>
"""


def _question(result: ItemResult) -> str:
    question, options = result.shown.get("question"), result.shown.get("options")
    parts = [f'<p class="question">{_text(question)}</p>' if question else ""]
    if isinstance(options, list | tuple):
        parts.append(f'<ul class="options">{"".join(_option(option, result.truth) for option in options)}</ul>')
    elif result.truth is not None:
        parts.append(f'<p class="options">truth: <span class="good">{_text(result.truth)}</span></p>')
    return "".join(parts)


def _option(option: object, truth: object) -> str:
    right = truth is not None and (str(option) == str(truth) or str(option).startswith(f"{truth}."))
    return f'<li class="good">{_text(option)} \u2713</li>' if right else f"<li>{_text(option)}</li>"


def _answer(scored: ScoredRun, result: ItemResult) -> str:
    """What one model said, and what it was worth."""
    kind = "bad" if result.value < 0.5 else "good"
    head = f'<span class="who">{_text(scored.name)}</span> <span class="{kind}">{_worth(result)}</span>'
    if result.failed:
        return f'<div class="answer">{head} no answer: {_text(result.shown.get("error", ""))}</div>'
    verdict = ", ".join(
        f"{order}: {_text(result.shown[name])}{' won' if result.shown[name] in DECIDED else ''}"
        for name, order in (("ab", "shown first"), ("ba", "shown second"))
        if name in result.shown
    )
    judged = f" <small>{verdict}</small>" if verdict else ""
    return f'<div class="answer">{head}{_confidence(result)}{judged}{_said(result)}</div>'


def _worth(result: ItemResult) -> str:
    words = ("lost", "won") if "ab" in result.shown else ("wrong", "right")
    return {0.0: words[0], 1.0: words[1]}.get(result.value) or percent(result.value)


def _said(result: ItemResult) -> str:
    steps = result.shown.get("steps")
    if isinstance(steps, list) and steps and all(isinstance(step, list) and len(step) == 3 for step in steps):
        return _steps(steps)
    said = result.shown.get("commentary", result.answer)
    return f"<p>{_text(said)}</p>" if said is not None else ""


def _steps(steps: Sequence) -> str:
    """A commentary step by step; silent steps are left out."""
    rows = [
        f"<li><time>{_second(start_s)}\u2013{_second(end_s)} s</time> {_text(text)}</li>"
        for start_s, end_s, text in steps
        if str(text).strip(" .")
    ]
    return f'<ol class="steps">{"".join(rows)}</ol>' if rows else '<p class="notes">said nothing</p>'


def _second(time_s: object) -> str:
    return f"{time_s:.0f}" if isinstance(time_s, int | float) else _text(time_s)


def _confidence(result: ItemResult) -> str:
    """The probability of the chosen option among the options."""
    logits = result.shown.get("logits")
    if not isinstance(logits, dict) or result.answer not in logits:
        return ""
    highest = max(logits.values())
    total = sum(math.exp(value - highest) for value in logits.values())
    share = math.exp(logits[result.answer] - highest) / total
    return f" <small>probability {share:.2f} among {len(logits)} options</small>"


def _reference(result: ItemResult) -> str:
    """The human's words, and the captions that a judge compared with."""
    parts = [
        f'<div class="answer"><span class="who">{label}</span><p>{_text(result.shown[name])}</p></div>'
        for name, label in (("reference", "human"), ("baseline", "baseline"))
        if result.shown.get(name)
    ]
    return "".join(parts)


def _text(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH] + " \u2026")
