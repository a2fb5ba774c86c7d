"""Functions that lmms-eval calls for LiveSports-3K: it loads this file in its own environment."""

import json
import re

from lmms_eval.tasks._task_utils.file_utils import generate_submission_file

FAILED = "[LMMS_EVAL_REQUEST_FAILED"  # stands in the place of a reply that never came


def messages(doc, lmms_eval_specific_kwargs=None):
    """The event's window of the video, then the request."""
    video = {"type": "video", "url": doc["video"], "start_time": doc["start_s"], "end_time": doc["end_s"]}
    return [{"role": "user", "content": [video, {"type": "text", "text": doc["prompt"]}]}]


def visual(doc):
    """The video; models that are given it alone see all of it, so use chat models."""
    return [doc["video"]]


def text(doc, lmms_eval_specific_kwargs=None):
    """The request."""
    return doc["prompt"]


def question_result(doc, results):
    """1 where the first letter that stands alone in the answer is the right one."""
    said = "" if results[0].startswith(FAILED) else results[0]
    found = re.search(rf"(?<![A-Za-z0-9])([{doc['letters']}])(?![A-Za-z0-9])", said)
    letter = found[1] if found else ""
    kept = {name: doc[name] for name in ("id", "video_id", "q_type", "ocr", "answer")}
    return {"livesports3k_qa": {**kept, "pred_answer": letter, "score": float(letter == doc["answer"])}}


def accuracy(results):
    """The share of right answers."""
    return sum(result["score"] for result in results) / len(results)


def caption_result(doc, results):
    """A line of the published format of predictions."""
    event = int(doc["event_id"]) if doc["event_id"].isdecimal() else doc["event_id"]
    named = {name: doc[name] for name in ("video_id", "begin", "end")}
    said = "" if results[0].startswith(FAILED) else results[0].strip()
    return {"livesports3k_cc": {**named, "event_id": event, "pred": said}}


def predictions(results, args):
    """Write the captions for llm_judge.py; the share of events that have one is all there is to count here."""
    path = generate_submission_file("livesports3k_cc.jsonl", args)
    written = [result for result in results if result["pred"]]
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(result) + "\n" for result in written)
    print(f"{len(written)} captions of {len({result['video_id'] for result in written})} videos -> {path}")
    return len(written) / len(results)
