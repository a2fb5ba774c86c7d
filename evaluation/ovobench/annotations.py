"""OVO-Bench's annotations: as published, one entry a video and question, and as asked, one line a query time."""

from collections.abc import Iterator
from typing import Any

from evaluation.ovobench.scores import GROUPS
from evaluation.tasks.lines import BenchmarkLine
from utils.errors import UserError

TASK_GROUPS = {task: group for group, tasks in GROUPS.items() for task in tasks}
# What a forward task's lines say besides their time: fields of the entry; the field of a query that holds its truth.
FORWARD_FIELDS = {"REC": (("activity",), "count"), "SSR": ((), "type"), "CRR": (("question", "ask_time"), "type")}


def queries_of(entry: BenchmarkLine) -> Iterator[dict[str, Any]]:
    """The lines of one entry: the entry's id, task, group and video, the query's time, and what is asked.

    realtime: seconds. Backward and real-time tasks have question, options and answer (a letter). The forward tasks have
    a line for each query of test_info and no options: REC has activity, SSR step, CRR question and ask_time; answer is
    a count, or Yes or No. Raises UserError where a field is missing or wrong.
    """
    task = ovobench_task(entry)
    common = {"id": str(entry["id"]), "task": task, "group": TASK_GROUPS[task], "video": str(entry["video"])}
    if task not in FORWARD_FIELDS:
        options = [str(option) for option in entry["options"]]
        yield common | {
            "realtime": entry.seconds("realtime"),
            "question": entry["question"],
            "options": options,
            "answer": _letter(entry, len(options)),
        }
        return
    fields, truth = FORWARD_FIELDS[task]
    shared = {name: entry[name] for name in fields}
    for number, info in enumerate(entry["test_info"]):
        query = BenchmarkLine(entry.path, entry.number, info)
        step = {"step": query["step"]} if task == "SSR" else {}
        yield common | {
            "id": f"{common['id']}_{number}",
            "realtime": query.seconds("realtime"),
            **shared,
            **step,
            "answer": str(_whole(query, truth)) if task == "REC" else ("No", "Yes")[_whole(query, truth, most=1)],
        }


def ovobench_task(line: BenchmarkLine) -> str:
    """The task of an entry or a line. Raises UserError for one that is none of the twelve."""
    if line["task"] not in TASK_GROUPS:
        raise UserError(f"{line.where}: task {line['task']!r} is none of {', '.join(TASK_GROUPS)}")
    return line["task"]


def _letter(entry: BenchmarkLine, n_options: int) -> str:
    """`gt`, the place of the right option, as its letter."""
    return chr(ord("A") + _whole(entry, "gt", most=n_options - 1))


def _whole(line: BenchmarkLine, name: str, most: int | None = None) -> int:
    value = line[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or (most is not None and value > most):
        limit = "" if most is None else f" to {most}"
        raise UserError(f"{line.where}: {name} is {value!r}; it must be a whole number from 0{limit}")
    return value
