"""Judging of commentary pairs by closeness to the human's: both orders, verdicts read strictly, rows kept.

A judge is anything that is called with a pair and returns its verdict's text: a model behind an endpoint (ApiJudge), an
open model in this process (evaluation/judge/local_judge.py), or rules (the nano world's). What it thought before is no
verdict. A reply that was cut off or says nothing is a failure.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tqdm import tqdm

from evaluation.scoring.preference import DECIDED, ORDERS
from evaluation.scoring.results import ItemResult
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import final_answer
from utils.endpoint import SEED, Endpoint, RequestFailed, user_message
from utils.errors import UserError
from utils.fingerprint import digest
from utils.journal import Journal

MAX_VERDICT_TOKENS = 64
Verdict = Literal["A", "B", "tie", "refusal", "unparsable"]

_LABEL = re.compile(r"\bcommentary\s+([ab])\b", re.IGNORECASE)
# A line that is nothing but the verdict, such as "Commentary A" or "**Verdict: Commentary B.**".
_VERDICT_LINE = re.compile(
    r"\W*(?:(?:the |my |final )*(?:verdict|answer|winner|choice|decision|better one)(?: is)?\W+)?"
    r"commentary\s+([ab])[^\w:]*(?:(?:wins|is better|is closer)\W*)?",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:not|no|neither|nor|never|cannot|less|worse)\b|n['’]t\b", re.IGNORECASE)
_TIE = re.compile(
    r"\b(?:tie|tied|draw|equal|equally|both|neither|same|no (?:clear )?(?:winner|difference))\b", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|as an ai|unable to|refuse|decline|(?:can|could|will|would)(?: ?not|n['’]t)"
    r" (?:help|assist|comply|judge|decide|compare|provide|do|answer|evaluate|fulfil\w*))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class CommentaryPair:
    """Input of a judge: two commentaries in an order, and the human's words. id: the event's."""

    id: str
    first: str
    second: str
    human: str


class JudgeRefusal(Exception):
    """Raised where the judge declines, with its words."""


class Judge(Protocol):
    """settings: all that decides its verdicts, as JSON.

    A call returns the verdict's text, which must name "Commentary A" (the first) or "Commentary B". It raises
    JudgeRefusal, or RequestFailed, RuntimeError or ValueError where there is no answer; a UserError ends the run.
    """

    settings: dict[str, Any]

    def __call__(self, pair: CommentaryPair) -> str: ...


@dataclass(frozen=True)
class Contest:
    """One event: what model, baseline and human said. problem: why it cannot be judged, else empty."""

    id: str
    video_id: str
    commentary: str
    baseline: str
    human: str
    problem: str = ""
    shown: dict[str, Any] = field(default_factory=dict)


def judge_prompt(templates: PromptTemplates, pair: CommentaryPair) -> str:
    """The request for a verdict, from template judge.txt."""
    return templates.fill("judge", commentary_a=pair.first, commentary_b=pair.second, human=pair.human)


class ApiJudge:
    """A model behind an endpoint."""

    def __init__(self, endpoint: Endpoint, templates: PromptTemplates, max_tokens: int = MAX_VERDICT_TOKENS):
        self.endpoint, self.templates, self.max_tokens = endpoint, templates, max_tokens
        judge_prompt(templates, CommentaryPair("", "", "", ""))  # an unfit template is an error now
        self.settings = {
            "judge": endpoint.model, "templates": templates.hashes, "temperature": 0, "seed": SEED,
            "max_tokens": max_tokens, **({"extra_body": endpoint.extra} if endpoint.extra else {}),
        }  # fmt: skip

    def __call__(self, pair: CommentaryPair) -> str:
        reply = self.endpoint.complete([user_message([judge_prompt(self.templates, pair)])], self.max_tokens)
        if reply.refused:
            raise JudgeRefusal(reply.text)
        return final_answer(reply.text, reply.cut, more_tokens(self.max_tokens))


def more_tokens(max_tokens: int) -> str:
    """What to do about verdicts that were cut off."""
    return f"raise --max_verdict_tokens {max_tokens}"


def read_verdict(text: str) -> Verdict:
    """Who won, by a strict rule.

    1. Lines that hold nothing but a verdict decide, if they all name the same commentary.
    2. Else an answer that names exactly one of "Commentary A" and "Commentary B", and denies nothing ("not", "worse",
       ...), names the winner.
    3. Else nobody won: a refusal if it declines, a tie if it speaks of one, unparsable otherwise.
    """
    lines = (_VERDICT_LINE.fullmatch(line.strip()) for line in text.splitlines())
    alone = {match[1].upper() for match in lines if match}
    named = {name.upper() for name in _LABEL.findall(text)}
    if len(alone) == 1:
        return alone.pop()
    if not alone and len(named) == 1 and not _NEGATION.search(text):
        return named.pop()
    if _REFUSAL.search(text):
        return "refusal"
    return "tie" if _TIE.search(text) and not alone else "unparsable"


class Judging:
    """The contests of one model with one baseline before one judge, and the rows that come of them.

    A row has the published fields (video_event_id, ab_winner, ba_winner: a name, or "tie"), and ours: ab_end and ba_end
    ("model", "baseline", or why nobody won), the verdicts as they were written, error, and the key of all that decided
    it. Orders: "ab" shows the model first, "ba" the baseline, as in the published files. Rows of `journal` under the
    same key are not judged again; an event without an answer in one order has failed, and is tried again.
    """

    def __init__(self, judge: Judge, model: str, baseline: str, journal: Journal):
        if model == baseline or "tie" in (model, baseline):
            raise UserError(f"model {model!r} and baseline {baseline!r}: two names that differ, and none of them 'tie'")
        self.judge, self.journal = judge, journal
        self.names = {"model": model, "baseline": baseline}
        self._rows: dict[str, dict[str, Any]] = {}
        for row in journal.rows():
            if row["error"] is None or row["key"] not in self._rows:
                self._rows[row["key"]] = row

    def key(self, contest: Contest) -> str:
        """Key of a row: the judge with all its settings, the names and the three texts."""
        texts = [contest.commentary, contest.baseline, contest.human]
        return digest([self.judge.settings, self.names, contest.id, texts])

    def run(
        self,
        contests: Sequence[Contest],
        n_threads: int = 1,
        status: Callable[[], str] = lambda: "",
        stop: Callable[[], object] = lambda: None,
    ) -> list[dict[str, Any]]:
        """A row for every contest, in their order; those that failed are tried once more at the end.

        status: what the progress bar says beside its count; stop: called when the run ends early, to end waits.
        """
        for description in ("judging", "once more"):
            left = [contest for contest in contests if not contest.problem and not self._is_done(contest)]
            if not left:
                break
            with tqdm(total=len(contests), initial=len(contests) - len(left), unit="event", desc=description) as bar:
                for _ in self._judge_all(left, n_threads, stop):
                    bar.set_postfix_str(status(), refresh=False)
                    bar.update()
        return [self._row(contest) for contest in contests]

    def results(self, contests: Sequence[Contest], rows: Sequence[dict[str, Any]]) -> list[ItemResult]:
        """Results of the rows, as evaluation/scoring/preference.py counts them."""
        return [self._result(contest, row) for contest, row in zip(contests, rows, strict=True)]

    def _judge_all(self, contests: list[Contest], n_threads: int, stop: Callable[[], object]) -> Iterator[None]:
        pool = ThreadPoolExecutor(n_threads, thread_name_prefix="judge")
        try:
            for future in as_completed([pool.submit(self._judge, contest) for contest in contests]):
                yield future.result()
        except BaseException:  # also Ctrl-C: what is in flight is kept, what waits is not sent
            stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _judge(self, contest: Contest) -> None:
        orders = {"ab": (contest.commentary, contest.baseline), "ba": (contest.baseline, contest.commentary)}
        ends, verdicts, errors = {}, {}, []
        for order, texts in orders.items():
            try:
                verdicts[order] = self.judge(CommentaryPair(contest.id, *texts, contest.human))
                read = read_verdict(verdicts[order])
                roles = ("model", "baseline") if order == "ab" else ("baseline", "model")
                ends[order] = dict(zip("AB", roles, strict=True)).get(read, read)
            except JudgeRefusal as refusal:
                verdicts[order], ends[order] = str(refusal), "refusal"
            except (RequestFailed, RuntimeError, ValueError) as error:
                verdicts[order], ends[order] = "", "failed"
                errors.append(f"{order}: {type(error).__name__}: {error}")
        row = self._made(contest, ends, verdicts, "; ".join(errors) or None)
        self._rows[row["key"]] = row
        self.journal.append(row)

    def _made(
        self, contest: Contest, ends: dict[str, str], verdicts: dict[str, str], error: str | None
    ) -> dict[str, Any]:
        winners = {order: "tie" if error else self.names.get(ends[order], "tie") for order in ORDERS}
        return {
            "video_event_id": contest.id, **{f"{order}_winner": winners[order] for order in ORDERS},
            **{f"{order}_end": ends[order] for order in ORDERS},
            **{f"{order}_verdict": verdicts[order] for order in ORDERS}, "error": error, "key": self.key(contest),
        }  # fmt: skip

    def _is_done(self, contest: Contest) -> bool:
        row = self._rows.get(self.key(contest))
        return row is not None and row["error"] is None

    def _row(self, contest: Contest) -> dict[str, Any]:
        if contest.problem:
            nothing = dict.fromkeys(ORDERS, "")
            return self._made(contest, dict.fromkeys(ORDERS, "failed"), nothing, contest.problem)
        return self._rows[self.key(contest)]

    def _result(self, contest: Contest, row: dict[str, Any]) -> ItemResult:
        failed = row["error"] is not None
        ends = dict.fromkeys(ORDERS, "failed") if failed else {order: row[f"{order}_end"] for order in ORDERS}
        agreed = "agree" if ends["ab"] == ends["ba"] else "differ"
        decided = all(end in DECIDED for end in ends.values())
        return ItemResult(
            contest.id,
            contest.video_id,
            0.0 if failed else sum(end == "model" for end in ends.values()) / len(ORDERS),
            failed,
            {"orders": agreed if decided else "undecided"},
            contest.commentary,
            shown={
                **ends, "commentary": contest.commentary, "baseline": contest.baseline, "reference": contest.human,
                "n_words": len(contest.commentary.split()), "n_words_baseline": len(contest.baseline.split()),
                "verdicts": [row[f"{order}_verdict"] for order in ORDERS], "error": row["error"], **contest.shown,
            },
        )  # fmt: skip
