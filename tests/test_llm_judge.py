"""LiveSports-3K-CC judged by an endpoint's model: a report that shows the bias, troubles, costs and kills."""

import functools
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.judge.judge import ApiJudge
from evaluation.livesports3kcc import llm_judge
from evaluation.livesports3kcc.events import load_events
from evaluation.livesports3kcc.llm_judge import JudgeArguments, judge_events, report_judgements
from evaluation.livesports3kcc.scores import read as read_published
from evaluation.runner.run import FAILED
from evaluation.scoring.preference import summary
from evaluation.scoring.results import BenchmarkRun
from evaluation.tasks.prompts import PromptTemplates
from tests.conftest import REPOSITORY
from tests.contests import write_event_files
from tests.judge_server import JudgeServer, Response, prefers_first, prefers_good, shown_texts
from utils.endpoint import EndpointArguments, connect
from utils.errors import UserError
from utils.rate_limit import RetryPolicy

KEY = "azure-secret-0123456789"
QUICK = RetryPolicy(max_retries=2, first_wait_s=0.01, longest_wait_s=0.02)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def judged(server: JudgeServer, arguments: JudgeArguments, **flags) -> BenchmarkRun:
    return judge_events(arguments, EndpointArguments(api_base=server.api_base, **flags), QUICK)


def lines_of(path: str | Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def table(result: BenchmarkRun, number: int) -> dict[str, float]:
    return {row.name: round(row.value, 4) for row in summary(result.results)[number].rows}


def test_a_judge_that_prefers_the_first_is_seen(tmp_path: Path, capsys):
    arguments = write_event_files(tmp_path, 40)
    with JudgeServer(prefers_first) as server:
        result = judged(server, arguments)
        assert len(server.requests) == 80
        cost = server.cost
    assert table(result, 0) == {"win rate": 0.5}
    assert table(result, 1) == {
        "the one shown first wins": 1.0,
        "both orders agree": 0.0,
        "model wins when first": 1.0,
        "model wins when second": 0.0,
    }
    assert f"{server.n_input} tokens in, {server.n_output} out: ${cost:.4f}" in capsys.readouterr().err
    assert report_judgements(result, "GPT-4o") == 0
    printed = capsys.readouterr()
    assert "the one shown first wins" in printed.out
    assert "Winning Rate for ours vs. GPT-4o: 50.00%" in printed.err


def test_a_judge_that_reads_is_not_biased_and_files_are_as_published(tmp_path: Path):
    arguments = write_event_files(tmp_path, 40)

    def reads(number: int, prompt: str) -> Response:
        first, second = shown_texts(prompt)
        return Response("Commentary A" if "good" in first or "dull" in second else "Commentary B")

    with JudgeServer(reads) as server:
        result = judged(server, arguments)
    # Each event in both orders, each with its own human's words.
    asked = [request["body"]["messages"][-1]["content"] for request in server.requests]
    texts = {i: (row["pred"], f"a man plays ball {i}") for i, row in enumerate(lines_of(arguments.prediction_jsonl))}
    expected = [(f"goal {i}", *order) for i, pair in texts.items() for order in (pair, pair[::-1])]
    shown = [(prompt.split("Human commentary:\n")[1].split("\n")[0], *shown_texts(prompt)) for prompt in asked]
    assert sorted(shown) == sorted(expected)
    assert table(result, 0) == {"win rate": 0.5}
    assert table(result, 1)["the one shown first wins"] == 0.5
    assert table(result, 1)["both orders agree"] == 1.0
    assert len(table(result, 2)) == 4  # by length
    path = tmp_path / "judges" / "GPT-4o_ours.jsonl"
    rows = lines_of(path)
    assert [row["video_event_id"] for row in rows] == [f"v{i // 4}_{i}" for i in range(40)]
    assert [row["ab_winner"] for row in rows] == [row["ba_winner"] for row in rows] == ["GPT-4o", "ours"] * 20
    scored = read_published(path)  # the published layout, by the reader of published files
    assert [outcome.value for outcome in scored.results] == [outcome.value for outcome in result.results]
    kept = BenchmarkRun.read(tmp_path / "judges" / "ours_vs-GPT-4o_livecc.result.json")
    assert [outcome.value for outcome in kept.results] == [outcome.value for outcome in result.results]
    assert kept.settings["judge"] == "gpt-4o-2024-08-06"
    shown = kept.results[1].shown
    assert (shown["reference"], shown["n_words"], shown["n_words_baseline"]) == ("goal 1", 6, 5)


def test_a_server_with_every_trouble(tmp_path: Path, capsys):
    """Failures, limits, time-outs, nonsense, refusals, answers that name both, and a liking for the first."""
    arguments = write_event_files(tmp_path, 40)
    troubles = [
        Response("down", status=500),
        Response("slow", status=429, headers={"Retry-After": "0.01"}),
        Response(hang_s=60.0),
        Response(b"<html>"),
    ]
    talk = {1: "Commentary A or Commentary B?", 4: "I'm sorry, I can't assist with that.", 7: "a tie", 10: "banana"}

    def behave(number: int, prompt: str) -> Response:
        return Response(talk.get(number % 60, "Commentary A")) if number % 3 else troubles[number // 3 % 4]

    patient = replace(QUICK, max_retries=30)
    with JudgeServer(behave) as server:
        at = EndpointArguments(api_base=server.api_base, timeout_s=2.0)
        result = judge_events(arguments, at, patient)
        said, n_requests = capsys.readouterr().err, len(server.requests)
        assert f"80 replies, 0 more from the cache, {server.n_input} tokens in" in said
        assert f"${server.cost:.4f}" in said
        assert judge_events(arguments, at, patient) == result
        assert len(server.requests) == n_requests
    assert len(result.results) == 40
    assert not any(outcome.failed for outcome in result.results)
    judge_table = table(result, 1)
    assert judge_table["the one shown first wins"] == 1.0
    assert judge_table["both orders agree"] == 0.0
    assert {name for name in judge_table if "no winner" in name} == {
        "no winner: tie", "no winner: refusal", "no winner: unparsable",
    }  # fmt: skip


def test_events_that_fail_are_said_and_tried_again(tmp_path: Path, capsys):
    arguments = write_event_files(tmp_path, 12)
    bad = "a man plays ball 3\n"  # in the prompts of one event

    def behave(number: int, prompt: str) -> Response:
        return Response("down", status=500) if bad in prompt else prefers_good(number, prompt)

    with JudgeServer(behave) as server:
        result = judged(server, replace(arguments, num_workers=1))
        assert report_judgements(result, "GPT-4o") == 3
        said = capsys.readouterr().err
        assert "1 of 12 events have no judgement and count as no win (v0_3: ab: RequestFailed" in said
        assert sum(bad in request["body"]["messages"][0]["content"] for request in server.requests) == 2 * 2 * 3
        server.behave, n_before = prefers_good, len(server.requests)
        assert report_judgements(judged(server, arguments), "GPT-4o") == 0
        assert len(server.requests) == n_before + 2


def test_a_capped_run_keeps_to_the_cap_and_goes_on(tmp_path: Path, capsys):
    arguments = write_event_files(tmp_path, 60)
    with JudgeServer(prefers_good) as server:
        with pytest.raises(UserError, match=r"--max_cost 0\.02 reached.*What is done is kept"):
            judged(server, arguments, max_cost=0.02)
        first = len(server.requests)
        assert 0 < server.cost <= 0.02
        assert f"${server.cost:.4f}" in capsys.readouterr().err
        assert not (tmp_path / "judges" / "GPT-4o_ours.jsonl").exists()
        assert len(judged(server, arguments).results) == 60
        assert 0 < first < len(server.requests) == 120


def test_a_run_stops_when_the_server_is_down(tmp_path: Path):
    arguments = write_event_files(tmp_path, 60)
    with JudgeServer(lambda number, _: Response("down", status=503)) as server:
        with pytest.raises(UserError, match="the last 8 requests to gpt-4o-2024-08-06 all failed"):
            judged(server, arguments)
        assert len(server.requests) <= (8 + 16) * 3


THOUGHT = "<think>First I look at Commentary A. It names the goal.</think>\n"


@pytest.mark.parametrize(
    ("response", "cause"),
    [
        (
            Response("<think>Let me see. First I look at Commentary A", finish="length"),
            "cut off at its limit of tokens",
        ),
        (Response("Commentary A", finish="length"), "raise --max_verdict_tokens 64"),
        (Response(""), "says nothing at all"),
        (Response(THOUGHT), "says nothing after what it thought"),
    ],
)
def test_a_verdict_that_was_cut_off_or_is_empty_is_a_failure_and_no_vote(tmp_path: Path, capsys, response, cause):
    arguments = write_event_files(tmp_path, 6)
    with JudgeServer(lambda number, prompt: response) as server:
        result = judged(server, arguments)
        assert report_judgements(result, "GPT-4o") == FAILED
    assert all(outcome.failed and outcome.value == 0 and cause in outcome.shown["error"] for outcome in result.results)
    said = capsys.readouterr()
    assert "No winning rate for ours vs. GPT-4o: 100.0% of the judgements have no verdict" in said.err
    assert "Winning Rate" not in said.err
    record = json.loads(said.out.splitlines()[0])
    assert record["score"] is None and "no win rate" in record["note"]
    assert not any(row.get("name") == "win rate" for row in map(json.loads, said.out.splitlines()))


def test_a_judge_that_thinks_is_heard_after_its_thoughts(tmp_path: Path, capsys):
    arguments = replace(write_event_files(tmp_path, 8), max_verdict_tokens=4096)

    def thinks(number: int, prompt: str) -> Response:
        return replace(prefers_good(number, prompt), body=THOUGHT + str(prefers_good(number, prompt).body))

    with JudgeServer(thinks) as server:
        result = judged(server, arguments, extra_body='{"chat_template_kwargs": {"enable_thinking": true}}')
        assert report_judgements(result, "GPT-4o") == 0
        bodies = [request["body"] for request in server.requests]
    assert {body["max_tokens"] for body in bodies} == {4096}
    assert all(body["chat_template_kwargs"] == {"enable_thinking": True} for body in bodies)
    assert table(result, 0) == {"win rate": 0.75}  # as without its thoughts, which always name A first
    assert "GPT-4o wins 25.00%" in capsys.readouterr().err
    assert result.settings["max_tokens"] == 4096 and "chat_template_kwargs" in result.settings["extra_body"]


def test_a_judge_that_takes_other_parameters(tmp_path: Path):
    """As models that reason: max_completion_tokens, and no temperature but their own."""
    arguments = write_event_files(tmp_path, 12)

    def behave(number: int, prompt: str) -> Response:
        body = server.requests[number]["body"]
        for name, said in (
            ("max_tokens", "Use 'max_completion_tokens' instead"),
            ("temperature", "Only 1 is supported"),
        ):
            if name in body:
                return Response(f"Unsupported parameter: '{name}' is not supported with this model. {said}", status=400)
        return prefers_good(number, prompt)

    with JudgeServer(behave) as server:
        result = judged(server, replace(arguments, num_workers=4))
        taken = [request["body"] for request in server.requests if "max_completion_tokens" in request["body"]]
    assert not any(outcome.failed for outcome in result.results)
    assert len(taken) >= 24 and taken[-1]["max_completion_tokens"] == 64 and "temperature" not in taken[-1]


def test_above_a_few_per_cent_without_a_verdict_there_is_no_headline(tmp_path: Path, capsys):
    arguments = write_event_files(tmp_path, 40)
    for n_silent, status in ((2, 0), (3, FAILED)):  # of 80 judgements: 2.5 and 3.75 %
        behave = functools.partial(mumbles, n_silent)
        with JudgeServer(behave) as server:
            result = judged(server, replace(arguments, num_workers=1, output_dir=str(tmp_path / f"{n_silent}")))
            assert report_judgements(result, "GPT-4o") == status
        assert ("Winning Rate for ours" in capsys.readouterr().err) == (status == 0)


def mumbles(n_silent: int, number: int, prompt: str) -> Response:
    """Name nobody a few times."""
    return Response("banana") if number < n_silent else prefers_good(number, prompt)


def test_another_judge_and_fewer_events_replace_nothing(tmp_path: Path):
    arguments = write_event_files(tmp_path, 8)
    with JudgeServer(prefers_good) as server:
        judged(server, arguments)
        judged(server, replace(arguments, judge_model="other-2026-01-01"))
        judged(server, replace(arguments, limit=3))
    folder = tmp_path / "judges"
    assert sorted(len(BenchmarkRun.read(path).results) for path in folder.glob("*.result.json")) == [3, 8, 8]
    assert sorted(len(lines_of(path)) for path in folder.glob("GPT-4o_ours*.jsonl")) == [3, 8, 8]
    assert len(BenchmarkRun.read(folder / "ours_vs-GPT-4o_livecc.result.json").results) == 8


def run_command(arguments: JudgeArguments, server: JudgeServer, monkeypatch, *more: str) -> subprocess.Popen:
    """The seed's command, with Azure's environment."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    words = [sys.executable, "evaluation/livesports3kcc/llm_judge.py", "--model_id", arguments.model_id]
    words += ["--prediction_jsonl", arguments.prediction_jsonl, "--output_dir", arguments.output_dir]
    words += ["--num_workers", "16", "--baseline_jsonl", arguments.baseline_jsonl]
    words += ["--annotations", arguments.annotations, *more]
    return subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_and_run_again_it_ends_as_if_undisturbed(tmp_path: Path, monkeypatch):
    arguments = write_event_files(tmp_path, 60)
    undisturbed = tmp_path / "undisturbed"
    with JudgeServer(prefers_good) as server:
        judged(server, replace(arguments, output_dir=str(undisturbed)))
    with JudgeServer(prefers_good) as server:
        killed: list[subprocess.Popen] = []

        def kill_in_the_middle(number: int, prompt: str) -> Response:
            if number == 50:
                killed[0].send_signal(signal.SIGKILL)
            return prefers_good(number, prompt)

        server.behave = kill_in_the_middle
        killed.append(run_command(arguments, server, monkeypatch))
        killed[0].communicate(timeout=240)
        assert killed[0].returncode == -signal.SIGKILL
        server.behave = prefers_good
        again = run_command(arguments, server, monkeypatch)
        out, err = again.communicate(timeout=240)
        assert again.returncode == 0, err
        # What was in flight when it was killed is all that is asked twice.
        assert 120 <= len(server.requests) <= 120 + 16 + 1
        assert {request["headers"].get("api-key") for request in server.requests} == {KEY}
    for name in ("GPT-4o_ours.jsonl", "ours_vs-GPT-4o_livecc.result.json"):
        assert (tmp_path / "judges" / name).read_text() == (undisturbed / name).read_text()
    written = "".join(path.read_text() for path in (tmp_path / "judges").rglob("*") if path.is_file())
    assert KEY not in written + out + err
    assert "Winning Rate for ours vs. GPT-4o: 75.00%" in err


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_a_wrong_key_is_one_message_without_the_key(tmp_path: Path, monkeypatch, debug: tuple[str, ...]):
    arguments = write_event_files(tmp_path, 4)
    with JudgeServer(lambda number, _: Response(f"wrong key {KEY}", status=401)) as server:
        process = run_command(arguments, server, monkeypatch, *debug)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert err.count("\nerror: ") == 1
    assert "check the API key" in err
    assert KEY not in out + err


def test_undated_names_are_refused_where_openai_serves_them(tmp_path: Path, monkeypatch):
    arguments = replace(write_event_files(tmp_path, 4), judge_model="gpt-4o")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(UserError, match="an undated name stands for another model from time to time"):
        judge_events(arguments, EndpointArguments())
    with JudgeServer() as server:
        assert len(judged(server, arguments).results) == 4


def test_what_is_missing_is_said_with_the_command_that_gets_it(tmp_path: Path, monkeypatch, capsys):
    arguments = write_event_files(tmp_path, 4)
    at = EndpointArguments(api_base="http://127.0.0.1:1/v1")
    for changed, message in (
        ({"baseline_jsonl": str(tmp_path / "no.jsonl")}, r"distributed_generate_caption\.py --api_model"),
        ({"annotations": str(tmp_path / "no.jsonl")}, r"hf download stdKonjac/LiveSports-3K --repo-type dataset"),
        ({"prediction_jsonl": str(tmp_path / "no.jsonl")}, r"no\.jsonl: cannot be read"),
        ({"template_dir": str(tmp_path / "no")}, "--template_dir"),
    ):
        with pytest.raises(UserError, match=message):
            judge_events(replace(arguments, **changed), at)
    with pytest.raises(UserError, match="no API key"):
        judge_events(arguments, EndpointArguments())
    for flags, message in (
        ({"judge": "local"}, "--judge_model_path"),
        ({"model_id": "a/b"}, "--model_id 'a/b'"),
        ({"num_workers": 0}, "--num_workers 0"),
    ):
        with pytest.raises(UserError, match=message):
            replace(arguments, **flags)
    (tmp_path / "others.jsonl").write_text('{"video_id": "x", "event_id": 1, "pred": ""}\n')
    with pytest.raises(UserError, match="none of its 1 lines is about one of the 4 events"):
        judge_events(replace(arguments, prediction_jsonl=str(tmp_path / "others.jsonl")), at)
    (tmp_path / "twice.jsonl").write_text('{"video_id": "x", "event_id": 1, "pred": ""}\n' * 2)
    with pytest.raises(UserError, match=r"line 2: a second line for event x_1"):
        judge_events(replace(arguments, prediction_jsonl=str(tmp_path / "twice.jsonl")), at)


def test_an_event_without_a_prediction_is_a_row(tmp_path: Path):
    arguments = write_event_files(tmp_path, 8)
    path = Path(arguments.prediction_jsonl)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with JudgeServer(prefers_good) as server:
        result = judged(server, arguments)
        assert len(server.requests) == 14
    assert (result.results[0].failed, result.results[0].shown["error"]) == (True, "no commentary")
    assert len(result.results) == 8
    with JudgeServer(prefers_good) as server:
        assert len(judged(server, replace(arguments, limit=3)).results) == 3
        assert not server.requests


def test_a_users_template(tmp_path: Path):
    arguments = write_event_files(tmp_path, 2)
    (tmp_path / "judge.txt").write_text("$human / $commentary_a / $commentary_b")
    with JudgeServer() as server:
        result = judged(server, replace(arguments, template_dir=str(tmp_path), num_workers=1))
    assert server.requests[0]["body"]["messages"][0]["content"] == "goal 0 / a dull goal 0 / a man plays ball 0"
    assert (
        result.settings["templates"]
        != ApiJudge(connect("m", EndpointArguments(api_base="http://127.0.0.1:1")), PromptTemplates()).settings[
            "templates"
        ]
    )
    (tmp_path / "judge.txt").write_text("$human $video")
    with pytest.raises(UserError, match=r"template judge\.txt"):
        judged(server, replace(arguments, template_dir=str(tmp_path)))


def test_a_commentary_may_hold_anything(tmp_path: Path):
    """Dollar signs and braces of a commentary are shown as they are."""
    arguments = write_event_files(tmp_path, 1)
    odd = "costs $human ${5} {x} \\n Commentary B:"
    Path(arguments.prediction_jsonl).write_text(json.dumps({"video_id": "v0", "event_id": 0, "pred": odd}) + "\n")
    with JudgeServer() as server:
        judged(server, arguments)
    assert f"Commentary A:\n{odd}\n" in server.requests[0]["body"]["messages"][0]["content"]


def test_events_of_every_source(tmp_path: Path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    write_event_files(tmp_path, 5)
    expected = load_events(str(tmp_path / "events.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (tmp_path / "events.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "events.parquet")
    copy = tmp_path / "LiveSports-3K"
    copy.mkdir()
    (copy / "LiveSports-3K-CC.json").write_text(json.dumps(rows))
    (copy / "README.md").write_text(
        "---\nconfigs:\n- config_name: LiveSports_3K_CC\n  data_files:\n  - split: test\n"
        "    path: LiveSports-3K-CC.json\n---\n"
    )
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name in ("events.json", "events.parquet", "LiveSports-3K"):
        assert load_events(str(tmp_path / name)) == expected
        assert load_events(str(tmp_path / name), limit=2) == expected[:2]
    assert (expected[4].id, expected[4].video, expected[4].begin) == ("v1_4", "v1.mp4", 4.0)


def test_the_command_line_reads_the_seeds_flags(tmp_path: Path, monkeypatch):
    seen = []
    monkeypatch.setattr(llm_judge, "judge_events", lambda *arguments: seen.append(arguments))
    monkeypatch.setattr(llm_judge, "report_judgements", lambda result, baseline: 0)
    words = "--model_id LiveCC-7B-Instruct --prediction_jsonl p.jsonl --output_dir judges --num_workers 16"
    assert llm_judge.main(words.split()) == 0
    ((arguments, endpoint),) = seen
    assert (arguments.judge_model, arguments.baseline_id, arguments.num_workers) == ("gpt-4o-2024-08-06", "GPT-4o", 16)
    assert endpoint.max_cost is None
