"""Has a language model write a user's query in the style of each clip's commentary, and reject what is no commentary.

    python -m data.production.make_prompt clips.jsonl prompted.jsonl --model gpt-4o-mini-2024-07-18 --max_cost 20
    python -m data.production.make_prompt clips.jsonl prompted.jsonl --model NAME --api_base http://localhost:8000/v1

The model is behind any OpenAI-compatible endpoint; flags, environment and prices are those of the judge
(utils/endpoint.py). Replies are kept: a run that was killed, or reached its cap, goes on without asking or paying
twice, and counts what it has spent before. An answer that is not the JSON that the template asks for rejects the clip,
as does a query that repeats the transcript. No hardware; time and cost are the endpoint's: about 600 tokens in and 40
out for a clip of a minute.
"""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.record import Record
from data.production.stage import Stage, StopRun, Worker
from utils.budget import SharedAccount
from utils.endpoint import SEED, Endpoint, EndpointArguments, Reply, RequestFailed, connect, user_message
from utils.errors import UserError
from utils.fingerprint import digest
from utils.journal import Journal
from utils.templates import Templates

TEMPLATES = Path(__file__).with_name("templates")
MAX_REPLY_TOKENS = 256
FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL | re.IGNORECASE)


@dataclass
class PromptOptions(EndpointArguments):
    """Which model, and how strictly its answers are read."""

    model: str = field(default="gpt-4o-mini-2024-07-18", metadata={"help": "the model's name at the endpoint"})
    max_words: int = field(default=800, metadata={"help": "of the transcript that is shown: its first ones", "ge": 1})
    max_query_words: int = field(
        default=60, metadata={"help": "longest query; a longer one rejects the clip", "threshold": True}
    )
    max_shared_words: int = field(
        default=4,
        metadata={"help": "words in a row that query and transcript may share; 0 does not look", "threshold": True},
    )
    template_dir: str | None = field(
        default=None, metadata={"help": "folder whose make_prompt.txt replaces ours", "path": "folder"}
    )
    n_requests: int = field(default=8, metadata={"help": "requests at once", "side": True, "ge": 1})


class MakePrompt(Stage):
    """Sets the query and extra["prompt"] ("YES", "NO", or what was wrong with the answer)."""

    name, version, Options = "make_prompt", 1, PromptOptions
    batch_size = 64
    cpus = 0  # one worker on a machine, with one rate limit

    def check(self) -> None:
        """Prices, URL and key, and the template."""
        for name in ("max_words", "n_requests"):
            if getattr(self.options, name) < 1:
                raise UserError(f"--{name} {getattr(self.options, name)}: give a number from 1 on")
        connect(self.options.model, self.options)
        self._prompt(Record("check", words=[[0.0, 1.0, "word"]]))

    def fingerprint(self) -> str:
        """The template and the decoding decide the answers too."""
        self._prompt(Record("check"))
        return digest([self._templates.hashes, SEED, MAX_REPLY_TOKENS])

    @cached_property
    def _templates(self) -> Templates:
        return Templates(TEMPLATES, self.options.template_dir)

    def setup(self, worker: Worker) -> None:
        """Read the replies that were kept."""
        self._worker = worker
        self._journal = Journal(worker.side, "replies")
        # Only a cap needs to know at every request what the others do.
        account = None if self.options.max_cost is None else SharedAccount(worker.side)
        self._endpoint: Endpoint = connect(self.options.model, self.options, self._journal, account=account)
        self._noted: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(self.options.n_requests, thread_name_prefix="make_prompt")

    def process(self, records: list[Record]) -> list[list[Record]]:
        """Ask for all records at once; replies are kept as they come."""
        futures = [self._pool.submit(self._ask, record) for record in records]
        outcomes, ended = [], None
        for record, future in zip(records, futures, strict=True):
            try:
                outcomes.append([fill_in(record, future.result())])
            except RequestFailed as error:
                outcomes.append([record.reject(self.name, "no_reply", str(error), failed=True)])
            except UserError as error:  # the cap, a server that is gone, a full disk: what is in flight still comes in
                ended = ended or error
        self._note_spent()
        if ended:
            raise StopRun(str(ended)) from ended
        return outcomes

    def judge(self, record: Record) -> None:
        """Reject what the model rejected, what it did not answer, and queries that tell too much."""
        o, said = self.options, record.extra["prompt"]
        if said != "YES":
            record.reject(self.name, "not_commentary" if said == "NO" else said, record.extra.get("prompt_reply", ""))
            return
        n_words, shared = len(record.query.split()), shared_words(record.query, record.text)
        if n_words > o.max_query_words:
            record.reject(self.name, "query_too_long", f"{n_words} words, at most {o.max_query_words}")
        elif o.max_shared_words and len(shared) > o.max_shared_words:
            record.reject(self.name, "query_repeats_transcript", f"{' '.join(shared)!r}, {len(shared)} words")

    def teardown(self) -> None:
        """Close files and threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._journal.close()
        self._endpoint.budget.close()

    def _note_spent(self) -> None:
        """What was spent since the last note: batch by batch, since a worker may be killed."""
        spent = self._endpoint.budget
        now = {
            "requests": spent.n_requests, "cached": spent.n_cached, "tokens_in": spent.n_input,
            "tokens_out": spent.n_output, "dollars": spent.cost, "unsure_dollars": spent.unsure,
        }  # fmt: skip
        self._worker.note(**{name: round(total - self._noted.get(name, 0), 6) for name, total in now.items()})
        self._noted = now

    def _ask(self, record: Record) -> Reply:
        return self._endpoint.complete([user_message([self._prompt(record)])], MAX_REPLY_TOKENS)

    def _prompt(self, record: Record) -> str:
        words = [word[2] for word in record.words[: self.options.max_words]]
        # What stands between the tags must not close them.
        transcript = re.sub(r"</?transcript", "transcript", " ".join(words), flags=re.IGNORECASE)
        title = json.dumps(record.title, ensure_ascii=False)
        about = f"Title of the video, for the context: {title}\n" if record.title else ""
        return self._templates.fill("make_prompt", seconds=f"{record.seconds:.0f}", about=about, transcript=transcript)


def fill_in(record: Record, reply: Reply) -> Record:
    """The record with the reply's query, and what the reply said."""
    result, query = ("refused", "") if reply.refused else read_reply(reply.text)
    record.extra["prompt"] = result
    record.query = query
    if result not in ("YES", "NO"):
        record.extra["prompt_reply"] = reply.text[:200]
    return record


def read_reply(text: str) -> tuple[str, str]:
    """("YES", query), ("NO", ""), or what is wrong and "": "unparsable_reply", "contradictory_reply", "empty_query".

    Strict: the reply is one JSON object, alone or in a code fence, with "result" YES or NO and "query" a string.
    """
    fenced = FENCE.fullmatch(text.strip())
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return "unparsable_reply", ""
    if not isinstance(value, dict) or value.get("result") not in ("YES", "NO"):
        return "unparsable_reply", ""
    query = value.get("query", "")
    if value["result"] == "NO":
        return "NO", ""
    if not isinstance(query, str):
        return "unparsable_reply", ""
    query = " ".join(query.encode(errors="ignore").decode().split())
    return ("YES", query) if re.search(r"\w", query) else ("empty_query", "")


def shared_words(query: str, transcript: str) -> list[str]:
    """The longest run of words that stands in both texts, capitals and punctuation aside."""
    ours, theirs = _plain_words(query), _plain_words(transcript)
    match = SequenceMatcher(None, ours, theirs, autojunk=False).find_longest_match()
    return ours[match.a : match.a + match.size]


def _plain_words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower().replace("\u2019", "'"))


STAGE = MakePrompt

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
