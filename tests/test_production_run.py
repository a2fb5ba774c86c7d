"""Runs of data.production: both engines and every kill end in the same bytes, and nothing is done twice."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from itertools import groupby
from pathlib import Path

import pytest
import yaml

from data.production.command import stage_main
from data.production.inputs.jsonl_input import parse_line
from data.production.run import RunnerArguments, locked, prune, run_config, say_result
from data.production.runner import runners
from data.production.runner.config import read_run_config
from data.production.runner.progress import RunResult
from data.production.runner.step import PipelineStep
from data.production.stage import INPUTS, STAGES
from data.samples.annotations import AnnotationFile
from tests.conftest import REPOSITORY
from tests.production import (
    CONFIG,
    command,
    contents,
    make_videos,
    measured,
    places_of,
    run,
    wait_for,
    write_config,
)
from utils.errors import UserError

N_VIDEOS, SHARD_SIZE = 40, 4
FAILING = ["v009#0001", "v012#0002"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return make_videos(tmp_path_factory.mktemp("videos") / "videos.jsonl", N_VIDEOS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, videos) -> Path:
    """An undisturbed run in this process."""
    folder = tmp_path_factory.mktemp("whole")
    run_here(write_config(folder, videos), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def cluster() -> str:
    """The address of a Ray cluster on this machine."""
    import ray

    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield context.address_info["gcs_address"]
    ray.shutdown()


def run_here(config: Path, output: Path, changes: list[str] | None = None, **more) -> RunResult:
    arguments = RunnerArguments(**{"num_workers": 1, **more})
    return run_config(read_run_config(config, changes), output, arguments, shown=False)


def ran(result: RunResult) -> dict[str, int]:
    """Records that each step has worked on in this run."""
    counts = zip(result.steps, result.progress.counts, strict=True)
    return {step.name: count.n_ran for step, count in counts if count.n_ran}


def test_output_is_what_training_reads(whole):
    file = AnnotationFile(whole / "made_with_seeks.jsonl")
    *lines, offsets = (whole / "made_with_seeks.jsonl").read_bytes().splitlines()
    assert len(file) == len(lines) == len(json.loads(offsets)) > 10
    data = (whole / "made_with_seeks.jsonl").read_bytes()
    for i, offset in enumerate(json.loads(offsets)):
        assert data[offset:].startswith(lines[i])
        assert file[i].is_stream and file[i].query.previous is not None
    held_out = AnnotationFile(whole / "made_held_out_with_seeks.jsonl")
    assert {s.video.video for s in map(held_out.__getitem__, range(len(held_out)))}.isdisjoint(
        s.video.video for s in map(file.__getitem__, range(len(file)))
    )


def test_every_word_is_in_the_output_once(whole, videos):
    """Over the whole run, shards, filters and files included."""
    given = [word for line in videos.open() for _, _, text in json.loads(line)["captions"] for word in text.split()]
    made = []
    for line in (whole / "rejected.jsonl").open():
        record = json.loads(line)
        captions = [word for _, _, text in record.get("captions", []) for word in text.split()]
        made += captions or [word for _, _, word in record.get("words", [])]
    for name in ("made_with_seeks.jsonl", "made_held_out_with_seeks.jsonl"):
        for line in (whole / name).read_text().splitlines()[:-1]:
            made += [word for _, _, word in json.loads(line)[1]["content"][0]["text_stream"]]
    assert sorted(made) == sorted(given)


def test_a_sample_says_what_its_video_says_there_and_before(whole, videos):
    rows = {row["video"]: row for row in map(json.loads, videos.open())}
    for name in ("made_with_seeks.jsonl", "made_held_out_with_seeks.jsonl"):
        for line in (whole / name).read_text().splitlines()[:-1]:
            (video, context), (said,) = (message["content"] for message in json.loads(line))
            row = rows[video["video"]]
            spoken = speech_of(row["captions"])
            n_before, words = len(context["previous"].split()), said["text_stream"]
            assert context["title"] == row["title"] and context["previous"].split() == spoken[:n_before]
            assert [word for _, _, word in words] == spoken[n_before : n_before + len(words)]
            assert (video["video_start"], video["video_end"]) == (words[0][0], words[-1][1])


def speech_of(captions: list) -> list[str]:
    """Captions without brackets and immediate repeats, as words."""
    texts = [text for _, _, text in captions if not set(text) & set("[](){}")]
    return [word for text, _ in groupby(texts) for word in text.split()]


@pytest.mark.parametrize("n_workers", [1, 3])
def test_killed_and_resumed_here(request, whole, videos, tmp_path, n_workers):
    kill_and_compare(request, whole, videos, tmp_path, ["--num_workers", str(n_workers)])
    n_kills = request.config.getoption("--kills")
    assert sum(repeats_by_shard(tmp_path / "out").values()) <= n_kills * n_workers, "a kill loses the shards in work"


@pytest.mark.slow
def test_killed_and_resumed_on_a_cluster(request, whole, videos, tmp_path, cluster):
    kill_and_compare(request, whole, videos, tmp_path, ["--engine", "ray", "--ray_address", cluster])
    places = places_of(tmp_path / "out", "tests.production")
    assert None not in places["actor"] and len(places["actor"]) > request.config.getoption("--kills")


def kill_and_compare(request, whole: Path, videos: Path, tmp_path: Path, flags: list[str]) -> None:
    """Kill a run at random moments, none of which can be after its end, and let it go on to its end."""
    n_kills = request.config.getoption("--kills")
    rng, most = random.Random(str(flags[:1])), sum(measured(whole).values()) // n_kills
    options = {"sleep_s": 0.01, "hold": [max(measured(whole))], "folder": str(tmp_path)}
    words = command(write_config(tmp_path, videos, options), tmp_path / "out", "--no_report", *flags)
    (tmp_path / "hold").touch()
    statuses = [kill_after(words, tmp_path, rng.randrange(most // 2, most), rng) for _ in range(n_kills)]
    assert statuses == [-signal.SIGKILL] * n_kills
    (tmp_path / "hold").unlink()
    run(words)
    assert contents(tmp_path / "out") == contents(whole)
    assert not list((tmp_path / "out").rglob(".*.partial"))


def kill_after(words: list[str], folder: Path, n_more: int, rng: random.Random) -> int:
    """Start a run and kill it, its processes too, a moment after it has measured so many records, or when it has come
    to one that it is held at; its status."""

    def n_measured() -> int:
        notes = (folder / "out" / "side" / "tests.production").glob("notes-*.jsonl")
        return sum(path.read_bytes().count(b'"measured"') for path in notes)

    (folder / "holding").unlink(missing_ok=True)
    wanted = n_measured() + n_more
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, cwd=REPOSITORY, start_new_session=True, **quiet)
    assert wait_for(lambda: n_measured() >= wanted or (folder / "holding").exists() or process.poll() is not None, 200)
    time.sleep(rng.random() * 0.03)
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def repeats_by_shard(output: Path) -> dict[int, int]:
    """How often the troublesome stage has begun each shard again."""
    repeats: dict[int, int] = {}
    for record, times in measured(output).items():
        shard = int(record[1:4]) // SHARD_SIZE
        repeats[shard] = max(repeats.get(shard, 0), times - 1)
    return repeats


def test_one_run_at_a_time_works_in_a_folder_and_its_workers_end_with_it(videos, tmp_path):
    (tmp_path / "hold").touch()
    config = write_config(tmp_path, videos, {"hold": ["v039#0001", "v000#0001"], "folder": str(tmp_path)})
    words = command(config, tmp_path / "out", "--num_workers", "2")
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: len(places_of(tmp_path / "out", "jsonl_input")["pid"] - {process.pid}) > 0, 100.0)
        (tmp_path / "other").mkdir()
        with pytest.raises(UserError, match="another run works there"):
            run_here(write_config(tmp_path / "other", videos), tmp_path / "out")
        workers = children_of(process.pid)
        assert len(workers) >= 2
    finally:
        process.kill()
        process.wait()
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers)), "workers outlive their run"
    with locked(tmp_path / "out"):
        pass


def children_of(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def step(name: str, gpus: float = 0.0, cpus: int = 1) -> PipelineStep:
    return PipelineStep(name, "process", None, "0" * 32, gpus, cpus)


def test_gpu_stages_have_a_worker_for_each_share(monkeypatch, tmp_path):
    monkeypatch.setattr(runners, "visible_gpus", lambda: ["3", "5"])
    setups = runners.LocalRunner(RunnerArguments())._setups({4: step("model", gpus=0.5)}, tmp_path)
    assert [setup.gpu for setup in setups] == ["3", "3", "5", "5"]
    monkeypatch.setattr(runners, "visible_gpus", lambda: [])
    for cpus, n in ((0, 1), (2, 3), (99, 1)):
        setups = runners.LocalRunner(RunnerArguments(num_workers=6))._setups({4: step("model", 1.0, cpus)}, tmp_path)
        assert [setup.gpu for setup in setups] == [None] * n


def test_stages_stream_together_only_where_all_have_room():
    chain = {i: made for i, made in enumerate([step("a"), step("b"), step("c", 1), step("d"), step("e", 1, 4)])}

    def has(cpu: float, gpu: float, machine: float) -> dict[str, float]:
        return {"CPU": cpu, "GPU": gpu, runners.MACHINE: machine}

    def waves(*total: float) -> list[list[int]]:
        return [list(wave) for wave in runners.waves_of(chain, has(*total))]

    assert waves(16, 8, 16) == [[0, 1, 2, 3, 4]]
    assert waves(16, 1, 16) == [[0, 1, 2, 3], [4]]  # one GPU: one model after the other
    assert waves(2, 0, 2) == [[0, 1, 2], [3], [4]]  # no GPU, two cores: models take cores
    assert waves(64, 0, 8) == [[0, 1, 2, 3], [4]]  # one that needs several cores of a machine finds them only alone
    assert runners.needs_of(chain[4], has(2, 0, 2)) == ({"CPU": 2, "GPU": 0.0}, 1)
    whole = step("model", 1.0, 0)
    assert runners.needs_of(whole, has(64, 0, 8)) == ({"CPU": 8, "GPU": 0.0}, 8)  # an actor has a machine at most


def test_what_all_records_decide_is_gathered_once(videos, tmp_path):
    twice = tmp_path / "twice.jsonl"
    rows = [json.loads(line) for line in videos.open()]
    again = [{**row, "id": f"again {row['id']}"} for row in rows]
    twice.write_text("".join(json.dumps(row) + "\n" for row in (*rows, *again)))
    text = CONFIG.replace("  - held_out_split", "  - near_duplicates\n  - held_out_split")
    config = write_config(tmp_path, twice, text=text)
    result = run_here(config, tmp_path / "out")
    ids = [json.loads(line)["id"] for path in result.kept for line in path.open()]
    assert ids and not any(name.startswith("again") for name in ids)
    assert ran(run_here(config, tmp_path / "out")) == {}
    more = run_here(config, tmp_path / "out", ["pretrain_to_clips.min_s=14"])
    assert "near_duplicates" in {name.partition(".")[0] for name in ran(more)}


def test_nothing_runs_twice_and_a_change_runs_what_depends_on_it(videos, tmp_path):
    config = write_config(tmp_path, videos)
    first = ran(run_here(config, tmp_path / "out"))
    assert set(first) == {
        "jsonl_input", "metadata_filter.judge", "pretrain_to_clips", "tests.production", "tests.production.judge",
        "held_out_split", "to_conversation",
    }  # fmt: skip
    assert ran(run_here(config, tmp_path / "out")) == {}
    # A threshold: the measurement stays, what is behind it runs again where the records have changed.
    tighter = ran(run_here(config, tmp_path / "out", ["tests.production.most_words=150"]))
    assert set(tighter) <= {"tests.production.judge"} and tighter["tests.production.judge"] == first["tests.production"]
    # Back: all of it is there.
    assert ran(run_here(config, tmp_path / "out")) == {}
    # One that changes no record ends there.
    same = ran(run_here(config, tmp_path / "out", ["metadata_filter.min_distinct_words=4"]))
    assert set(same) == {"metadata_filter.judge"}
    # A stage's option: it and what follows.
    shorter = ran(run_here(config, tmp_path / "out", ["pretrain_to_clips.min_s=12"]))
    assert {"pretrain_to_clips"} <= set(shorter) and not {"jsonl_input", "metadata_filter.judge"} & set(shorter)
    # Clips that were measured before are not measured again, though their shard has changed.
    assert shorter.get("tests.production", 0) < first["tests.production"]
    assert ran(run_here(config, tmp_path / "out", ["tests.production.sleep_s=0.0001"])) == {}


def test_prune_deletes_what_the_config_does_not_use_and_nothing_else(videos, whole, tmp_path):
    config = write_config(tmp_path, videos)
    text = CONFIG.replace("  - held_out_split", "  - near_duplicates\n  - held_out_split")
    (tmp_path / "other").mkdir()
    run_here(write_config(tmp_path / "other", videos, text=text), tmp_path / "out", ["pretrain_to_clips.min_s=12"])
    result = run_here(config, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out" / "work").iterdir()}
    prune(result)
    left = {path.name for path in (tmp_path / "out" / "work").iterdir()}
    assert left == {path.name for path in (whole / "work").iterdir()} < names
    assert ran(run_here(config, tmp_path / "out")) == {}
    assert contents(tmp_path / "out") == contents(whole)


def test_appended_lines_run_alone(videos, tmp_path):
    grown = tmp_path / "videos.jsonl"
    lines = videos.read_text().splitlines(keepends=True)
    grown.write_text("".join(lines[:36]))
    config = write_config(tmp_path, grown)
    run_here(config, tmp_path / "out")
    grown.write_text("".join(lines))
    again = ran(run_here(config, tmp_path / "out"))
    assert again["jsonl_input"] == 40  # reading is cheap
    assert 0 < again["metadata_filter.judge"] == 4


def test_failures_are_recorded_and_retried_alone(videos, whole, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    config = write_config(tmp_path, videos, {"fail": FAILING, "folder": str(tmp_path)})
    result = run_here(config, tmp_path / "out")
    failures = [json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").open()]
    assert [record["id"] for record in failures] == FAILING and result.n_failed == 2 and say_result(result) == 3
    assert failures[0]["rejection"] == {
        "stage": "tests.production", "reason": "broken_clip", "detail": "cannot read videos/v009.mp4", "failed": True
    }  # fmt: skip
    broken.unlink()
    assert ran(run_here(config, tmp_path / "out")) == {}
    retried = ran(run_here(config, tmp_path / "out", retry_failed=True))
    assert retried["tests.production"] == 2
    assert not (tmp_path / "out" / "failed.jsonl").exists()
    name = "made_with_seeks.jsonl"
    assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_that_lets_nothing_through_says_why_and_ends_with_its_own_status(videos, tmp_path, capsys):
    nothing = ["pretrain_to_clips.min_words_per_s=30", "pretrain_to_clips.max_words_per_s=40"]
    result = run_here(write_config(tmp_path, videos), tmp_path / "out", nothing)
    assert say_result(result) == 4
    most = max(
        (tally.records, f"{reason} ({step.name})")
        for step, count in zip(result.steps, result.progress.counts, strict=True)
        for reason, tally in count.reasons.items()
    )
    assert f"nothing came through: {most[0]} {most[1]}, " in capsys.readouterr().err
    assert stage_main("pretrain_to_clips", [str(videos), str(tmp_path / "clips.jsonl"), "--min_s", "1000"]) == 4
    assert "too_short (pretrain_to_clips)" in capsys.readouterr().err and not (tmp_path / "clips.jsonl").read_bytes()
    (tmp_path / "broken").touch()
    config = write_config(tmp_path, videos, {"fail": FAILING, "folder": str(tmp_path), "most_words": 0})
    assert say_result(run_here(config, tmp_path / "failed")) == 3, "what failed may come through another time"
    assert "too_many_words (tests.production)" in capsys.readouterr().err


def test_a_record_that_kills_its_process_fails_alone(videos, whole, tmp_path):
    config = write_config(tmp_path, videos, {"die": [FAILING[0]]})
    result = run_here(config, tmp_path / "out", num_workers=2)
    (failure,) = [json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").open()]
    assert (failure["id"], failure["rejection"]["reason"]) == (FAILING[0], "process_died")
    assert result.n_failed == 1
    assert ids_of(tmp_path / "out") == ids_of(whole) and len(set(ids_of(whole))) == len(ids_of(whole))


def ids_of(output: Path) -> list[str]:
    """The records that a run has ended with, kept or not."""
    kept = [line for path in output.glob("work/to_conversation-*/*.kept.jsonl") for line in path.open()]
    return sorted(json.loads(line)["id"] for line in [*kept, *(output / "rejected.jsonl").open()])


def test_kept_work_that_has_lost_its_end_is_made_again(whole, tmp_path):
    """As a disk that fills up, or a machine that goes down, leaves it."""
    shutil.copytree(whole, tmp_path / "out")
    config = read_run_config(whole.parent / "config.yaml")
    for name in ("pretrain_to_clips", "tests.production.judge"):
        path = sorted((tmp_path / "out" / "work").glob(f"{name}-*/*.kept.jsonl"))[3]
        path.write_bytes(path.read_bytes()[:-40])
    run_config(config, tmp_path / "out", RunnerArguments(num_workers=1), shown=False)
    assert contents(tmp_path / "out") == contents(whole)


def test_an_input_may_have_fields_named_like_ours(tmp_path):
    """`failed` and `conversation` of the input's own are no failure and no sample."""
    own = {"failed": True, "from": {"id": 1, "conversation": [{"role": "user"}]}}
    rows = [{"id": "rejected", "height": 100, **own}, {"id": "kept", "height": 720, **own}, {"id": "broken", **own}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "broken").touch()
    text = """
inputs: {{jsonl_input: {{paths: ["{videos}"]}}}}
stages:
  - metadata_filter: {{min_s: null, max_s: null, languages: [], min_distinct_words: null, unknown: keep}}
  - tests.production: {options}
output: {{name: made}}
"""
    options = {"fail": ["broken"], "folder": str(tmp_path), "length_s": 1.0}
    result = run_here(write_config(tmp_path, tmp_path / "in.jsonl", options, text), tmp_path / "out")
    files = {name: [json.loads(line)["id"] for line in (tmp_path / "out" / name).open()] for name in result.files}
    assert files == {"made.jsonl": ["kept"], "rejected.jsonl": ["rejected", "broken"], "failed.jsonl": ["broken"]}
    assert result.n_failed == 1
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "made.jsonl").open()]
    assert row["extra"] == own


@pytest.mark.slow
def test_a_record_that_kills_its_actor_fails_alone(videos, tmp_path, cluster):
    config = write_config(tmp_path, videos, {"die": [FAILING[0]]})
    run(command(config, tmp_path / "out", "--no_report", "--engine", "ray", "--ray_address", cluster), status=3)
    (failure,) = [json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").open()]
    assert (failure["id"], failure["rejection"]["reason"]) == (FAILING[0], "process_died")
    here = write_config(tmp_path, videos, {"die": [FAILING[0]]})
    run_here(here, tmp_path / "here", num_workers=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "here")


def test_too_many_failures_end_the_run(videos, tmp_path):
    (tmp_path / "broken").touch()
    every = [f"v{i:03d}#{k:04d}" for i in range(N_VIDEOS) for k in range(9)]
    config = write_config(tmp_path, videos, {"fail": every, "folder": str(tmp_path)})
    with pytest.raises(UserError, match=r"tests.production: \d+ of \d+ records failed, more than --max_failed 0.5"):
        run_here(config, tmp_path / "out")


def test_bad_lines_are_rejected_with_file_and_line(tmp_path):
    good = json.dumps({"id": "a", "captions": [[0, 1, "hello"]]})
    bad = {
        "malformed_json": '{"id": "b"',
        "malformed_record": '{"id": "c", "captions": [[0, "1", 2]]}',
        "bad_time": '{"id": "d", "captions": [[2, 1, "x"]]}',
        "out_of_order": '{"id": "e", "words": [[2, 3, "x"], [1, 2, "y"]]}',
        "no_id": '{"idd": "f"}',
    }
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join([good, "", *bad.values()]) + "\n")
    config = tmp_path / "c.yaml"
    config.write_text(f"inputs: {{jsonl_input: {{paths: ['{path}']}}}}\nstages: [held_out_split]\n")
    result = run_here(config, tmp_path / "out")
    rejected = [json.loads(line)["rejection"] for line in (tmp_path / "out" / "rejected.jsonl").open()]
    assert [r["reason"] for r in rejected] == list(bad)
    assert [r["detail"].partition(": ")[0] for r in rejected] == [f"{path}:{i}" for i in range(3, 8)]
    assert "did you mean 'idd'" in rejected[-1]["detail"]
    assert result.progress.counts[0].kept.records == 1


@pytest.mark.parametrize(
    "fields",
    ["extra: [1]", "scores: 3", "flags: {}", "conversation: x", "rejection: {why: x}", "source: 3", "height: true"],
)
def test_a_field_of_another_kind_is_rejected_with_its_name(fields):
    record = parse_line(json.dumps({"id": "a", **yaml.safe_load(fields)}).encode(), "in.jsonl", 4)
    assert record.rejection.reason == "malformed_record" and "in.jsonl:4" in record.rejection.detail
    assert fields.partition(":")[0] in record.rejection.detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inputs: {jsonl_input: {paths: [x]}}\nstagess: []\n", r"c.yaml:2: 'stagess' is no part .* mean 'stages'"),
        ("inputs: {jsonl_input: {paths: [x]}}\nstages: [to_conversatio]\n", r"c.yaml:2: .* mean 'to_conversation'"),
        (
            "inputs: {jsonl_input: {paths: [x]}}\nstages:\n  - metadata_filter: {min_hight: 3}\n",
            r"c.yaml:3: no option 'min_hight' there; did you mean 'min_height'",
        ),
        (
            "inputs: {jsonl_input: {paths: [x]}}\nstages:\n  - metadata_filter: {min_height: tall}\n",
            r"c.yaml:3: min_height: 'tall' is not of type int",
        ),
        ("inputs: {jsonl_input: {paths: [none.jsonl]}}\nstages: [to_conversation]\n", "none.jsonl"),
        ("inputs: [", r"c.yaml:1: not YAML"),
        ("stages: [to_conversation]\n", "no inputs"),
        ("", "empty"),
    ],
)
def test_bad_configs_are_named_with_file_and_line(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        run_here(tmp_path / "c.yaml", tmp_path / "out")


def test_a_bad_override_is_named(videos, tmp_path):
    config = write_config(tmp_path, videos)
    with pytest.raises(UserError, match=r"--set to_conversatin.x=1: no such stage|did you mean 'to_conversation'"):
        read_run_config(config, ["to_conversatin.x=1"])
    with pytest.raises(UserError, match=r"give STAGE\.OPTION=VALUE"):
        read_run_config(config, ["most_words"])


def test_a_stage_is_a_command(videos, tmp_path):
    words = ["-m", "data.production.pretrain_to_clips", str(videos), str(tmp_path / "clips.jsonl"), "--min_s", "12"]
    done = run([command(videos, videos)[0], *words, "--num_workers", "1"])
    clips = [json.loads(line) for line in (tmp_path / "clips.jsonl").open()]
    assert clips and all(clip["end_s"] - clip["start_s"] >= 12 for clip in clips)
    assert f"{N_VIDEOS} records in, {len(clips)} out" in done.stdout and "too_short" in done.stdout


def test_held_out_samples_of_a_command_lie_beside_its_output(videos, tmp_path):
    words = ["pretrain_to_clips", "held_out_split", "to_conversation"]
    paths = [videos, *(tmp_path / f"{word}.jsonl" for word in words)]
    flags = {"pretrain_to_clips": ["--min_s", "10"], "held_out_split": ["--share", "0.3"]}
    for word, given, made in zip(words, paths, paths[1:], strict=False):
        assert stage_main(word, [str(given), str(made), "--num_workers", "1", *flags.get(word, [])]) == 0
    marked = [json.loads(line) for line in paths[2].open()]
    clips_held_out = [clip for clip in marked if clip.get("split") == "held_out"]
    train, held_out = tmp_path / "to_conversation.jsonl", tmp_path / "to_conversation_held_out.jsonl"
    videos_of = [[json.loads(line)[0]["content"][0]["video"] for line in path.open()] for path in (train, held_out)]
    assert videos_of[1] == [clip["video"] for clip in clips_held_out] and set(videos_of[0]).isdisjoint(videos_of[1])
    assert len(videos_of[0]) + len(videos_of[1]) == len(marked) and all(videos_of)
    # Nothing is held out any more: the file of before goes, and only that.
    (tmp_path / "other_held_out.jsonl").touch()
    assert stage_main("held_out_split", [str(paths[1]), str(paths[2]), "--num_workers", "1", "--share", "0"]) == 0
    assert stage_main("to_conversation", [str(paths[2]), str(train), "--num_workers", "1"]) == 0
    assert not held_out.exists() and len(train.read_text().splitlines()) == len(marked)
    assert stage_main("to_conversation", [str(paths[2]), str(tmp_path / "other.jsonl"), "--num_workers", "1"]) == 0
    assert (tmp_path / "other_held_out.jsonl").exists(), "not of this command"


def test_seeks_are_bytes(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text('[{"é": 1}]\n\n[{"ü": 2}]\n[0, 7]\n', encoding="utf-8")
    run([command(source, source)[0], "-m", "data.production.append_jsonl_seeks", str(source)])
    assert (tmp_path / "a_with_seeks.jsonl").read_text(encoding="utf-8") == '[{"é": 1}]\n[{"ü": 2}]\n[0, 12]\n'


@pytest.mark.parametrize("name", ["pretrain", "sft"])
def test_shipped_configs_name_stages_and_options_that_are_there(name):
    config = read_run_config(REPOSITORY / "data/production/configs" / f"{name}.yaml")
    limits = {"pretrain": (1.5, 6.5), "sft": (1.5, 5.0)}[name]
    (loss,) = [stage.options for stage in config.stages if stage.name == "lm_loss"]
    assert (loss.min_loss, loss.max_loss) == limits and config.stages[-1].name == "to_conversation"


def test_every_stage_and_input_is_in_its_table():
    for folder, table, constant in (("", STAGES, "STAGE"), ("inputs", INPUTS, "INPUT")):
        texts = {path.stem: path.read_text() for path in (REPOSITORY / "data/production" / folder).glob("*.py")}
        assert list(table) == sorted(name for name, text in texts.items() if f"\n{constant} = " in text)
