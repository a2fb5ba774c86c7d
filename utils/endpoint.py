"""Any OpenAI-compatible endpoint (OpenAI, Azure, vLLM, a server on this machine): asked by many threads, with retries,
a rate limit, a spending cap, and replies kept on disk so that no request is paid for twice.

The openai package sends the requests, without its own retries: they would pass the rate limit and the cap by, wait at
most 8 s, and go on when an account has no money left.
"""

import base64
import json
import logging
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx2
import openai

from utils.budget import KNOWN_PRICES, Account, Budget, CapReached, Prices
from utils.errors import UserError
from utils.fingerprint import digest
from utils.flag_values import check_values
from utils.journal import Journal
from utils.rate_limit import RateLimiter, RetryPolicy, asked_wait_s

log = logging.getLogger(__name__)

AZURE_API_VERSION = "2024-10-21"  # unless OPENAI_API_VERSION names another
SEED = 42
MAX_IMAGE_TOKENS = 1445  # 768 x 2048 pixels, the most that gpt-4o counts for a picture
OVERHEAD_TOKENS = 64  # a chat template's own words
OPENAI_HOST = "api.openai.com"
OPTIONAL = ("max_tokens", "temperature", "seed", "top_logprobs", "logprobs")  # fields that a request can do without
REFUSED_FIELD = re.compile(
    r"unsupported|support|unrecognized|unexpected|unknown|permitted|allowed|must be|invalid|extra", re.IGNORECASE
)


def _place(default: Any, text: str, **limits: float) -> Any:
    """A field that changes no answer: production makes nothing again for it."""
    return field(default=default, metadata={"help": text, "side": True, **limits})


@dataclass
class EndpointArguments:
    """Where the model is served, and what it may cost."""

    api_base: str | None = _place(
        None,
        "URL of an OpenAI-compatible server, such as http://localhost:8000/v1; default: AZURE_OPENAI_ENDPOINT, else "
        "OPENAI_BASE_URL, else OpenAI",
    )
    max_cost: float | None = _place(None, "dollars that this run may spend, resumed ones included; default: no cap")
    price_input: float | None = _place(None, "dollars per million input tokens; known for gpt-4o-2024-08-06: 2.50")
    price_output: float | None = _place(None, "dollars per million output tokens")
    requests_per_minute: float | None = _place(None, "rate limit of a process; default: none", gt=0)
    max_retries: int = _place(6, "of a request that failed")
    timeout_s: float = _place(120.0, "of a request", gt=0)
    extra_body: str | None = field(
        default=None,
        metadata={
            "help": "further fields of every request, as JSON, such as "
            '\'{"chat_template_kwargs": {"enable_thinking": false}}\' or \'{"reasoning_effort": "low"}\''
        },
    )

    def __post_init__(self) -> None:
        check_values(self)
        if (self.price_input is None) != (self.price_output is None):
            raise UserError("--price_input and --price_output belong together; give both")
        self.extra_fields  # noqa: B018  # a bad --extra_body is an error now

    @property
    def extra_fields(self) -> dict[str, Any]:
        """Fields of --extra_body. Raises UserError where it is no JSON object."""
        try:
            fields = json.loads(self.extra_body or "{}")
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise UserError(
                f'--extra_body {self.extra_body!r}: give a JSON object, such as {{"reasoning_effort": "low"}}'
            )
        return fields

    def prices(self, model: str) -> Prices | None:
        """The prices given, else the known ones of OpenAI's models."""
        return KNOWN_PRICES.get(model) if self.price_input is None else Prices(self.price_input, self.price_output)


@dataclass(frozen=True)
class Reply:
    """What the model said. model: the name that the endpoint gave itself; refused: it declined to answer; cut: the
    limit of tokens ended it; logprobs: of the likeliest first tokens, where they were asked for and given."""

    text: str
    n_input: int
    n_output: int
    model: str = ""
    refused: bool = False
    cut: bool = False
    logprobs: dict[str, float] | None = None
    cached: bool = False


class RequestFailed(Exception):
    """No answer to this request; others may have one."""


class EndpointStopped(UserError):
    """No further request makes sense."""


class _TryAgain(Exception):
    def __init__(self, message: str, asked_s: float | None = None):
        super().__init__(message)
        self.asked_s = asked_s


class Endpoint:
    """One model behind one endpoint; threads share it.

    client: made by `connect`, which reads flags and environment. secret: the key, struck out of every message.
    replies: where replies are kept, by model, messages and decoding, wherever they came from. extra: further fields of
    every request.
    """

    def __init__(
        self,
        client: openai.OpenAI,
        model: str,
        budget: Budget,
        limiter: RateLimiter | None = None,
        retries: RetryPolicy | None = None,
        replies: Journal | None = None,
        secret: str = "",
        extra: dict[str, Any] | None = None,
    ):
        self.model, self.budget, self.extra = model, budget, extra or {}
        self.served: set[str] = set()  # names that the endpoint gave its model
        self._client, self._secret = client, secret
        self._limiter, self._retries = limiter or RateLimiter(), retries or RetryPolicy()
        self._journal = replies
        self._replies: dict[str, dict[str, Any]] = {}
        for row in replies.rows() if replies else ():
            self._replies[row["key"]] = row
            if budget.is_shared and not row.get("in_ledger"):
                budget.count_before(self._price_of(row))
        self._refused: set[str] = set()  # fields that the endpoint does not take
        self._n_failures, self._stop_reason = 0, ""
        self._lock = threading.Lock()

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return self._client.base_url.netloc.decode()

    @property
    def is_openai(self) -> bool:
        """Whether OpenAI or Azure serve it, whose model names have dates."""
        return self.place == OPENAI_HOST or isinstance(self._client, openai.AzureOpenAI)

    def complete(self, messages: list[dict[str, Any]], max_tokens: int, n_logprobs: int = 0) -> Reply:
        """The reply to a conversation, at temperature 0 where the endpoint takes one.

        n_logprobs: of how many likeliest first tokens the log-probabilities are wanted. Raises RequestFailed where this
        request got no reply, CapReached or EndpointStopped where none will.
        """
        request = {"model": self.model, "messages": messages, "temperature": 0, "seed": SEED, "max_tokens": max_tokens}
        request |= {"logprobs": True, "top_logprobs": n_logprobs} if n_logprobs else {}
        request |= {"extra_body": self.extra} if self.extra else {}
        key = digest(request)
        kept = self._replies.get(key)
        if kept is not None:
            self.budget.count_cached()
            reply = Reply(**kept["reply"], cached=True)
        else:
            reply = self._ask(request)
            said = {name: value for name, value in asdict(reply).items() if name != "cached"}
            row = {"key": key, "asked": self.model, "reply": said}
            if reply.text or reply.refused:  # an empty reply is not kept: the next try may say something
                self._replies[key] = row
            if self._journal is not None and key in self._replies:
                self._journal.append(row | ({"in_ledger": True} if self.budget.is_shared else {}))
        if reply.model:
            self.served.add(reply.model)
        return reply

    def stop(self, reason: str) -> None:
        """End the waits of all threads; every further request raises EndpointStopped."""
        with self._lock:
            self._stop_reason = self._stop_reason or self._without_secret(reason)
        self._limiter.stop()

    def _price_of(self, row: dict[str, Any]) -> float:
        """Dollars of a reply that was kept."""
        own = self.budget.prices
        prices = own if row["asked"] == self.model else KNOWN_PRICES.get(row["asked"], own)
        return prices.cost(row["reply"]["n_input"], row["reply"]["n_output"]) if prices else 0.0

    def _ask(self, request: dict[str, Any]) -> Reply:
        for attempt in range(self._retries.max_retries + 1):
            self._limiter.wait()
            if self._stop_reason:
                raise EndpointStopped(self._stop_reason)
            try:
                reply = self._send(request)
            except _TryAgain as problem:
                message, asked_s = str(problem), problem.asked_s
            except CapReached as reached:
                self.stop(str(reached))
                raise
            else:
                with self._lock:
                    self._n_failures = 0
                return reply
            if asked_s is not None and asked_s > self._retries.longest_asked_s:
                self._fail(f"{message}; it asks to wait {asked_s:.0f} s")
            if attempt < self._retries.max_retries:
                # Those who were sent away together do not come back together.
                self._limiter.pause(asked_s or 0.0)
                self._limiter.sleep((asked_s or 0.0) + self._retries.wait_s(attempt))
        self._fail(f"{message}, {self._retries.max_retries + 1} times")

    def _send(self, request: dict[str, Any]) -> Reply:
        """One attempt. Raises _TryAgain where another may fare better."""
        with self.budget.reserve(_most_input_tokens(request["messages"]), request["max_tokens"]) as reservation:
            try:
                completion = self._client.chat.completions.create(**(sent := self._taken(request)))
            except openai.APIStatusError as error:
                reservation.release()
                if self._learn(error, sent):
                    return self._send(request)
                return self._judge_status(error)
            except openai.APIConnectionError as error:  # time-outs among them
                if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout):
                    reservation.release()
                late = isinstance(error, openai.APITimeoutError)
                what = f"no answer in {self._client.timeout:g} s" if late else "connection failed"
                raise _TryAgain(what) from None
            except (openai.OpenAIError, ValueError) as error:
                raise _TryAgain(f"an answer that cannot be read ({type(error).__name__})") from None
            usage = getattr(completion, "usage", None)
            n_input, n_output = (getattr(usage, f"{side}_tokens", None) for side in ("prompt", "completion"))
            if isinstance(n_input, int) and isinstance(n_output, int):
                reservation.settle(n_input, n_output)
            reply = self._read(completion, n_input or 0, n_output or 0)
        if reply is None:
            raise _TryAgain("an answer that is no chat completion")
        return reply

    def _taken(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request in the fields that the endpoint takes."""
        taken = {name: value for name, value in request.items() if name not in self._refused}
        if "max_tokens" in self._refused:
            taken["max_completion_tokens"] = request["max_tokens"]
        return taken

    def _learn(self, error: openai.APIStatusError, sent: dict[str, Any]) -> bool:
        """Whether the endpoint refuses a field that a request can do without; it is left out from now on.

        Models that reason take max_completion_tokens in place of max_tokens, and no temperature but their own.
        """
        said = f"{error.code} {getattr(error, 'param', '')} {error.message}"
        if error.status_code not in (400, 422) or not REFUSED_FIELD.search(said):
            return False
        refused = next((name for name in OPTIONAL if name in sent and re.search(rf"(?<!\w){name}(?!\w)", said)), None)
        if refused is None:
            return False
        with self._lock:
            if refused not in self._refused:
                log.warning("%s takes no %s for %s: it is left out", self.place, refused, self.model)
            self._refused |= {"logprobs", "top_logprobs"} if "logprobs" in refused else {refused}
        return True

    def _judge_status(self, error: openai.APIStatusError) -> Reply:
        """A refusal's reply; raises for every other status."""
        status, code = error.status_code, str(error.code or "")
        said = self._without_secret(" ".join(str(error.message).split()))[:300]
        if status == 400 and "content_filter" in code:  # Azure's way of declining
            return Reply(said, 0, 0, refused=True)
        if status in (401, 403, 404) or code in ("insufficient_quota", "billing_hard_limit_reached"):
            advice = {401: "check the API key", 403: "check the key's rights", 404: "check URL and model name"}
            hint = advice.get(status, "its account has no money left")
            self.stop(f"{self.place} refuses {self.model}: {said}; {hint}. What is done is kept: run again to go on")
            raise EndpointStopped(self._stop_reason) from None
        if status in (408, 409, 429) or status >= 500:
            hint = "; lower --num_workers or set --requests_per_minute" if status == 429 else ""
            raise _TryAgain(f"HTTP {status} ({said}{hint})", asked_wait_s(error.response.headers)) from None
        self._fail(f"HTTP {status} ({said})")

    def _fail(self, message: str) -> NoReturn:
        with self._lock:
            self._n_failures += 1
            n_failures = self._n_failures
        if n_failures >= self._retries.max_failures:
            self.stop(
                f"{self.place}: the last {n_failures} requests to {self.model} all failed, retries included; the "
                f"latest: {message}. What is done is kept: run again to go on"
            )
            raise EndpointStopped(self._stop_reason) from None
        raise RequestFailed(self._without_secret(f"{self.place}: {message}")) from None

    def _read(self, completion: Any, n_input: int, n_output: int) -> Reply | None:
        """The first choice of a completion; None where it has none that can be read."""
        try:
            choice = completion.choices[0]
            text, refusal = choice.message.content, choice.message.refusal
            said = self._without_secret(text or refusal or "").encode(errors="replace").decode()
            refused = bool(refusal) or choice.finish_reason == "content_filter"
            cut = choice.finish_reason == "length"
            return Reply(said, n_input, n_output, str(completion.model or ""), refused, cut, _first_logprobs(choice))
        except (AttributeError, TypeError, IndexError):
            return None

    def _without_secret(self, text: str) -> str:
        return text.replace(self._secret, "[key]") if len(self._secret) >= 8 else text


def _first_logprobs(choice: Any) -> dict[str, float] | None:
    """Log-probabilities of the likeliest first tokens of a choice; None where it has none."""
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    return {found.token: found.logprob for found in content[0].top_logprobs} if content else None


def connect(
    model: str,
    arguments: EndpointArguments,
    replies: Journal | None = None,
    retries: RetryPolicy | None = None,
    account: Account | None = None,
) -> Endpoint:
    """The endpoint that flags and environment name; those with one account share the cap, and kept replies that do not
    stand in it count too. Raises UserError where URL or key is missing."""
    client, secret = _client(arguments)
    return Endpoint(
        client,
        model,
        Budget(arguments.prices(model), arguments.max_cost, account),
        RateLimiter(arguments.requests_per_minute),
        retries or RetryPolicy(max_retries=arguments.max_retries),
        replies,
        secret,
        arguments.extra_fields,
    )


def user_message(parts: Sequence[str | bytes]) -> dict[str, Any]:
    """A user's turn of texts and JPEG pictures, in their order."""
    if len(parts) == 1 and isinstance(parts[0], str):
        return {"role": "user", "content": parts[0]}
    return {"role": "user", "content": [_part(part) for part in parts]}


def _part(part: str | bytes) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = f"data:image/jpeg;base64,{base64.b64encode(part).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _client(arguments: EndpointArguments) -> tuple[openai.OpenAI, str]:
    common = {"max_retries": 0, "timeout": arguments.timeout_s}
    azure = os.environ.get("AZURE_OPENAI_ENDPOINT")
    if azure and not arguments.api_base:
        secret = os.environ.get("AZURE_OPENAI_API_KEY", "")
        _check_url("AZURE_OPENAI_ENDPOINT", azure, "https://NAME.openai.azure.com")
        if not secret:
            raise UserError("AZURE_OPENAI_ENDPOINT is set and AZURE_OPENAI_API_KEY is not; set it to the Azure key")
        version = os.environ.get("OPENAI_API_VERSION", AZURE_API_VERSION)
        return openai.AzureOpenAI(azure_endpoint=azure, api_key=secret, api_version=version, **common), secret
    given = arguments.api_base or os.environ.get("OPENAI_BASE_URL")
    if given:
        _check_url("--api_base" if arguments.api_base else "OPENAI_BASE_URL", given, "http://localhost:8000/v1")
    secret = os.environ.get("OPENAI_API_KEY", "")
    if not secret and (not given or urlsplit(given).hostname == OPENAI_HOST):
        raise UserError(
            "no API key: set OPENAI_API_KEY for OpenAI, AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_API_KEY for Azure, or "
            "give --api_base http://HOST:PORT/v1 for a server of your own"
        )
    return openai.OpenAI(base_url=given or f"https://{OPENAI_HOST}/v1", api_key=secret or "none", **common), secret


def _check_url(name: str, url: str, example: str) -> None:
    if not re.match(r"https?://[^/\s]", url):
        raise UserError(f"{name}: no http:// or https:// URL; give one such as {example}")


def _most_input_tokens(messages: list[dict[str, Any]]) -> int:
    """No tokenizer makes more tokens than there are bytes; pictures count as the largest."""
    n_tokens = OVERHEAD_TOKENS
    for message in messages:
        content = message["content"]
        for part in [{"text": content}] if isinstance(content, str) else content:
            n_tokens += len(part["text"].encode()) if "text" in part else MAX_IMAGE_TOKENS
    return n_tokens
