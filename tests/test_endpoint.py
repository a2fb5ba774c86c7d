"""The endpoint against a server that fails, limits, hangs and lies: it ends, keeps to its cap, and counts right."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.judge_server import JudgeServer, Response
from tests.waiting import PATIENCE_S
from utils.budget import Budget, CapReached, Prices
from utils.endpoint import (
    Endpoint,
    EndpointArguments,
    EndpointStopped,
    RequestFailed,
    connect,
    user_message,
)
from utils.errors import UserError
from utils.journal import Journal
from utils.rate_limit import RetryPolicy, asked_wait_s

MODEL = "gpt-4o-2024-08-06"
KEY = "sk-secret-0123456789"
QUICK = RetryPolicy(max_retries=3, first_wait_s=0.01, longest_wait_s=0.02)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def endpoint_of(
    server: JudgeServer, patience: RetryPolicy = QUICK, replies: Journal | None = None, **flags
) -> Endpoint:
    return connect(MODEL, EndpointArguments(api_base=server.api_base, **flags), replies, patience)


def ask(endpoint: Endpoint, text: str = "Who?", max_tokens: int = 16):
    return endpoint.complete([user_message([text])], max_tokens)


def ask_many(endpoint: Endpoint, n: int, n_threads: int = 8) -> list:
    """Replies, or the errors in their places."""

    def one(number: int):
        try:
            return ask(endpoint, f"Question {number}?")
        except (RequestFailed, UserError) as error:
            return error

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(one, range(n)))


def test_a_request_is_sent_as_the_protocol_asks():
    with JudgeServer() as server:
        reply = ask(endpoint_of(server))
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    decoding = {"model": MODEL, "temperature": 0, "seed": 42, "max_tokens": 16}
    assert request["body"] == {"messages": [{"role": "user", "content": "Who?"}], **decoding}
    assert (reply.text, reply.model, reply.refused, reply.cached) == ("Commentary A", MODEL, False, False)
    assert (reply.n_input, reply.n_output) == (server.n_input, server.n_output)


def test_pictures_travel_as_data_urls():
    with JudgeServer() as server:
        endpoint_of(server).complete([user_message(["What is it?", b"\xff\xd8jpeg"])], 16)
    content = server.requests[0]["body"]["messages"][0]["content"]
    assert content[0] == {"type": "text", "text": "What is it?"}
    assert content[1]["image_url"]["url"] == "data:image/jpeg;base64,/9hqcGVn"


TROUBLES = {
    "server error": Response("down", status=500),
    "rate limit": Response("slow down", status=429, headers={"Retry-After": "0.02"}),
    "rate limit in ms": Response("slow down", status=429, headers={"retry-after-ms": "20"}),
    "no JSON": Response(b"<html>gateway</html>"),
    "no completion": Response({"choices": []}),
    "no object": Response({"choices": [{"message": 3}]}),
    "time-out": Response(hang_s=60.0),
}


def patience_with(trouble: str, short_s: float) -> float:
    """Short only where it is the trouble itself that no answer comes: a busy machine is no time-out."""
    return short_s if trouble == "time-out" else PATIENCE_S


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_that_passes_is_retried(trouble: str):
    with JudgeServer(lambda number, _: TROUBLES[trouble] if number < 2 else Response("Commentary B")) as server:
        endpoint = endpoint_of(server, timeout_s=patience_with(trouble, 1.5))
        assert ask(endpoint).text == "Commentary B"
        assert len(server.requests) == 3
        assert endpoint.budget.cost == pytest.approx(server.cost)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_that_stays_ends(trouble: str):
    with JudgeServer(lambda number, _: TROUBLES[trouble]) as server:
        endpoint = endpoint_of(server, timeout_s=patience_with(trouble, 0.4))
        with pytest.raises(RequestFailed, match=r"127\.0\.0\.1.*4 times"):
            ask(endpoint)
        assert len(server.requests) == 1 + QUICK.max_retries
        assert endpoint.budget.cost == 0


def test_the_number_of_retries_is_the_flags():
    with JudgeServer(lambda number, _: Response("down", status=500) if number < 2 else Response()) as server:
        arguments = EndpointArguments(api_base=server.api_base, max_retries=1)
        with pytest.raises(RequestFailed, match="2 times"):
            ask(connect(MODEL, arguments))
        assert len(server.requests) == 2


def test_a_bad_request_is_not_retried_and_a_filtered_one_is_a_refusal():
    filtered = {"error": {"message": "the prompt was filtered", "code": "content_filter"}}
    replies = [Response("too long", status=400), Response(filtered, status=400), Response("", refusal="I must not.")]
    with JudgeServer(lambda number, _: replies[number]) as server:
        endpoint = endpoint_of(server)
        with pytest.raises(RequestFailed, match=r"HTTP 400 .*too long"):
            ask(endpoint)
        assert ask(endpoint, "filtered").refused
        refused = ask(endpoint, "refused")
        assert (refused.refused, refused.text) == (True, "I must not.")
        assert len(server.requests) == 3


def test_failures_in_a_row_end_the_run():
    with JudgeServer(lambda number, _: Response("down", status=503)) as server:
        endpoint = endpoint_of(server, RetryPolicy(1, 0.01, 0.01, max_failures=5))
        replies = ask_many(endpoint, 100, n_threads=4)
        assert len(server.requests) <= 2 * (5 + 4)
    assert all(isinstance(reply, RequestFailed | EndpointStopped) for reply in replies)
    stopped = [str(reply) for reply in replies if isinstance(reply, EndpointStopped)]
    assert len(stopped) >= 95
    assert "the last 5 requests" in stopped[-1]
    assert "run again to go on" in stopped[-1]


def test_a_success_in_between_keeps_the_run_going():
    def behave(number: int, prompt: str) -> Response:
        return Response("down", status=500) if "3?" not in prompt else Response()

    with JudgeServer(behave) as server:
        endpoint = endpoint_of(server, RetryPolicy(0, max_failures=10))
        replies = ask_many(endpoint, 40, n_threads=1)
    assert sum(isinstance(reply, RequestFailed) for reply in replies) == 36


@pytest.mark.parametrize(
    ("response", "hint"),
    [
        (Response(f"Incorrect API key provided: {KEY}", status=401), "check the API key"),
        (Response("no such model", status=404), "check URL and model name"),
        (Response({"error": {"message": "pay first", "code": "insufficient_quota"}}, status=429), "no money left"),
    ],
)
def test_what_no_retry_mends_ends_the_run_at_once(response: Response, hint: str, capfd, caplog):
    caplog.set_level("DEBUG")
    with JudgeServer(lambda number, _: response) as server:
        endpoint = endpoint_of(server)
        with pytest.raises(EndpointStopped, match=hint) as raised:
            ask(endpoint)
        with pytest.raises(EndpointStopped, match=hint):
            ask(endpoint, "another")
        assert len(server.requests) == 1
    assert KEY not in str(raised.value) + caplog.text + "".join(capfd.readouterr())
    assert raised.value.__suppress_context__  # a traceback would show the server's words


def test_a_server_that_asks_for_an_hour_is_not_waited_for():
    with JudgeServer(lambda number, _: Response("later", status=429, headers={"Retry-After": "3600"})) as server:
        with pytest.raises(RequestFailed, match="asks to wait 3600 s"):
            ask(endpoint_of(server))
        assert len(server.requests) == 1


def test_waits_that_a_server_asks_for():
    assert asked_wait_s({"retry-after": "1.5"}) == 1.5
    assert asked_wait_s({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert asked_wait_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert asked_wait_s({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}) > 1e9
    assert asked_wait_s({"retry-after": "soon"}) is asked_wait_s({}) is asked_wait_s({"retry-after": "nan"}) is None


def test_waits_double_and_are_drawn():
    waits = [
        [RetryPolicy(first_wait_s=1, longest_wait_s=10).wait_s(attempt) for _ in range(50)] for attempt in range(6)
    ]
    for attempt, drawn in enumerate(waits):
        full = min(10, 2**attempt)
        assert full / 2 <= min(drawn) < max(drawn) <= full


def test_the_rate_limit_is_shared_by_threads():
    with JudgeServer() as server:
        endpoint = endpoint_of(server, requests_per_minute=1200)
        started = time.monotonic()
        ask_many(endpoint, 9)
        assert time.monotonic() - started >= 8 * 0.05 - 0.001


def test_all_threads_keep_a_pause():
    """After one refusal with Retry-After no other request goes out for that long."""
    times = []

    def behave(number: int, prompt: str) -> Response:
        times.append(time.monotonic())
        return Response("slow", status=429, headers={"Retry-After": "0.3"}) if number == 0 else Response()

    with JudgeServer(behave) as server:
        endpoint = endpoint_of(server)
        ask_many(endpoint, 1)
        assert times[1] - times[0] >= 0.3
        with ThreadPoolExecutor(2) as pool:
            server.requests.clear()
            times.clear()
            first = pool.submit(ask, endpoint, "first")
            while not times:
                time.sleep(0.005)
            while (
                endpoint._limiter._paused_until_s < time.monotonic() and not first.done()
            ):  # until it has read of the pause
                time.sleep(0.005)
            second = pool.submit(ask, endpoint, "second")
            assert first.result() and second.result()
        assert len(times) == 3
        assert min(times[1:]) - times[0] >= 0.3


def troubled(number: int, prompt: str) -> Response:
    """Every second request meets some trouble, a time-out among them."""
    return Response() if number % 2 else list(TROUBLES.values())[number // 2 % len(TROUBLES)]


def test_the_cost_is_the_servers_own_count():
    with JudgeServer(troubled) as server:
        endpoint = endpoint_of(server, RetryPolicy(20, 0.01, 0.02), timeout_s=2.0)
        replies = ask_many(endpoint, 60)
        assert all(reply.text == "Commentary A" for reply in replies)
        assert endpoint.budget.n_requests == 60
        assert (endpoint.budget.n_input, endpoint.budget.n_output) == (server.n_input, server.n_output)
        assert endpoint.budget.cost == pytest.approx(server.cost)
        assert "60 replies" in endpoint.budget.summary()
        assert "did not say what they cost" in endpoint.budget.summary()


@pytest.mark.parametrize("max_cost", [0.0, 0.0005, 0.003])
def test_the_cap_is_never_exceeded(max_cost: float):
    def behave(number: int, prompt: str) -> Response:
        return Response("Commentary A " * 4, hang_s=0.02)

    with JudgeServer(behave) as server:
        endpoint = endpoint_of(server, max_cost=max_cost)
        replies = ask_many(endpoint, 300, n_threads=16)
        n_done = sum(not isinstance(reply, Exception) for reply in replies)
        assert server.cost <= max_cost
        assert endpoint.budget.cost == pytest.approx(server.cost)
        assert n_done == endpoint.budget.n_requests < 300
        assert any(isinstance(reply, CapReached) for reply in replies)
        if max_cost:
            one = server.cost / n_done
            assert max_cost - server.cost < 6 * one + 64 * 2.5e-6  # a request is taken for its bytes and 64 tokens
        assert server.most_at_once > 1 or max_cost < 0.001


def test_an_estimate_that_was_too_low_is_corrected():
    """A reply that costs three times its estimate makes the next estimate three times as high."""
    spending = Budget(Prices(1.0, 1.0), max_cost=5.0)
    spending.reserve(500_000, 500_000).settle(1_500_000, 1_500_000)
    with pytest.raises(CapReached, match=r"\$3\.0000 spent and the next request may cost \$3\.0000"):
        spending.reserve(500_000, 500_000)


def test_requests_in_flight_together_correct_an_estimate_once():
    spending = Budget(Prices(1.0, 1.0), max_cost=100.0)
    for reservation in [spending.reserve(500_000, 500_000) for _ in range(10)]:
        reservation.settle(1_500_000, 1_500_000)
    spending.reserve(500_000, 500_000).settle(500_000, 500_000)
    assert spending.cost == 31.0


def test_requests_that_may_have_been_billed_count_for_the_cap():
    with JudgeServer(lambda number, _: Response(hang_s=60.0)) as server:
        endpoint = endpoint_of(server, RetryPolicy(9, 0.01, 0.01), timeout_s=0.2, max_cost=0.0015)
        with pytest.raises(CapReached, match=r"spent"):
            ask(endpoint)
        assert 1 < len(server.requests) < 10
    nobody = connect(MODEL, EndpointArguments(api_base=server.api_base, max_cost=0.0015), retries=QUICK)
    with pytest.raises(RequestFailed, match="connection failed"):
        ask(nobody)
    assert nobody.budget.unsure == 0


def test_replies_are_kept_and_free(tmp_path: Path):
    with JudgeServer() as server:
        first = endpoint_of(server, replies=Journal(tmp_path, "replies"))
        ask_many(first, 20)
        (file,) = tmp_path.glob("replies-*.jsonl")
        whole = file.read_bytes()
        file.write_bytes(whole[:-30])  # killed while the last row was written
        again = endpoint_of(server, replies=Journal(tmp_path, "replies"))
        replies = ask_many(again, 20)
        assert (again.budget.n_cached, again.budget.n_requests, len(server.requests)) == (19, 1, 21)
        assert {reply.text for reply in replies} == {"Commentary A"}
        # Other words, another limit or another model are other requests; another place is not.
        ask(again, "Question 0?", max_tokens=17)
        assert len(server.requests) == 22
        with JudgeServer() as elsewhere:
            assert ask(endpoint_of(elsewhere, replies=Journal(tmp_path, "replies")), "Question 0?").cached
            assert not elsewhere.requests
        fresh = endpoint_of(server, replies=Journal(tmp_path, "replies", fresh=True))
        assert not ask(fresh, "Question 0?").cached
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in kept
    assert "Question" not in kept


def test_a_broken_row_is_named(tmp_path: Path):
    (tmp_path / "replies-x-1-0.jsonl").write_text('{"key": "a"}\nnonsense\n')
    with pytest.raises(UserError, match=r"replies-x-1-0\.jsonl, line 2: not a row"):
        list(Journal(tmp_path, "replies").rows())


def test_processes_share_a_folder_but_no_file(tmp_path: Path):
    journals = [Journal(tmp_path, "rows") for _ in range(2)]
    for number, journal in enumerate(journals):
        journal.append({"number": number})
    assert len(list(tmp_path.iterdir())) == 2
    assert [row["number"] for row in journals[0].rows()] == [0, 1]


def test_azure_by_its_environment(monkeypatch):
    with JudgeServer() as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url)
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key-0123")
        monkeypatch.setenv("OPENAI_BASE_URL", "http://nowhere.invalid/v1")
        endpoint = connect(MODEL, EndpointArguments(), retries=QUICK)
        assert endpoint.is_openai
        assert ask(endpoint).text == "Commentary A"
    (request,) = server.requests
    assert request["path"] == f"/openai/deployments/{MODEL}/chat/completions?api-version=2024-10-21"
    assert request["headers"]["api-key"] == "azure-key-0123"
    assert KEY not in json.dumps(request["headers"])


def test_other_places_by_environment(monkeypatch):
    with JudgeServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.api_base)
        monkeypatch.delenv("OPENAI_API_KEY")
        endpoint = connect("my-model", EndpointArguments(), retries=QUICK)
        assert not endpoint.is_openai
        assert ask(endpoint).text == "Commentary A"
        assert endpoint.budget.dollars == "price unknown"
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert connect(MODEL, EndpointArguments()).place == "api.openai.com"


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="no API key: set OPENAI_API_KEY"):
        connect(MODEL, EndpointArguments())
    with pytest.raises(UserError, match=r"--api_base: no http:// or https:// URL"):
        connect(MODEL, EndpointArguments(api_base="localhost:8000"))
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "xxx")
    with pytest.raises(UserError, match="AZURE_OPENAI_ENDPOINT: no http:// or https:// URL"):
        connect(MODEL, EndpointArguments())
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://name.openai.azure.com")
    with pytest.raises(UserError, match="AZURE_OPENAI_API_KEY is not"):
        connect(MODEL, EndpointArguments())
    with pytest.raises(UserError, match="needs prices that are known"):
        connect("other", EndpointArguments(api_base="http://localhost:1", max_cost=1.0))
    with pytest.raises(UserError, match="belong together"):
        EndpointArguments(price_input=1.0)
    with pytest.raises(UserError, match="--timeout_s 0"):
        EndpointArguments(timeout_s=0)
    with pytest.raises(UserError, match="--requests_per_minute 0"):
        EndpointArguments(requests_per_minute=0)
    assert "OPENAI_API_KEY" not in os.environ
