"""Polling: whether the moment has come is asked again and again, each time about the clip up to then."""

import dataclasses
import time
from collections.abc import Callable

from evaluation.tasks.item import Answer, ClipPlan, Polled, Written

YES_TOKENS = 8
Write = Callable[[ClipPlan, Written], str]  # what a model writes about a plan's frames


def poll(plan: ClipPlan, ask: Polled, write: Write) -> Answer:
    """Ask until the model says yes, as the authors read it: anywhere in its answer, in any letters."""
    started, steps = time.perf_counter(), []
    for time_s in ask.times_s:
        seen = dataclasses.replace(plan, end_s=time_s)
        has_come = "yes" in write(seen, Written(ask.text, YES_TOKENS)).lower()
        steps.append((time_s, time_s, "yes" if has_come else "no"))
        if has_come:
            said = write(seen, Written(ask.then, ask.max_new_tokens))
            return Answer(said or "yes", steps=steps, seconds=round(time.perf_counter() - started, 4))
    return Answer("no", steps=steps, seconds=round(time.perf_counter() - started, 4))
