"""What runs of weeks rest on: packed mixes that are killed and resumed, two processes in step, reports over both."""

import json
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import train
from scripts.kill_and_resume import compare_runs, make_data, run_with_kills, train_to_end, training_flags
from tests.samples import stream, stream_of_one_length, talk, write_media, write_samples
from tests.training import log_of, run, train_flags
from utils.errors import UserError

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Two annotation files: eight streams; eight conversations, of which one has no picture any more."""
    folder = write_media(tmp_path_factory.mktemp("files"))
    talks = [talk(i, *["pitch.png"] * (i % 3)) for i in range(7)] + [talk(7, "gone.png")]
    return [
        write_samples(folder / "streams.jsonl", [stream(i, 3 + i % 4) for i in range(8)]),
        write_samples(folder / "talks.jsonl", talks),
    ]


def arguments(model: Path, output_dir: Path, files: list[Path], *flags: object) -> list[str]:
    return train_flags(model, files, output_dir, "--save_strategy", "no", "--per_device_train_batch_size", 1, *flags)


def train_here(monkeypatch, words: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    train.main()


def test_a_packed_mix_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path):
    flags = training_flags(make_data(tmp_path / "data"), steps=24)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_to_end([*flags, "--output_dir", str(whole)])
    steps = run_with_kills(flags, killed, 2, 24, random.Random(5))
    assert len(steps) == 2 and 0 < steps[0] < 24
    assert compare_runs(whole, killed) is None
    log = log_of(whole)
    assert len(log) == 24 and all({"loss/streams", "loss/answers"} & line.keys() for line in log)
    # What compare_runs() would miss is no comparison at all.
    (killed / "train_log.jsonl").write_text(
        (killed / "train_log.jsonl").read_text().replace('"step": 5,', '"step": 6,')
    )
    assert "lost or repeated" in compare_runs(whole, killed)


RUNS = ("token", "sample", "packed", "weighted")


@pytest.fixture(scope="module")
def two_ranks(tiny_checkpoint, files, tmp_path_factory):
    """Runs of two gloo processes, by name."""
    folder, (streams, _) = tmp_path_factory.mktemp("ranks"), files
    bad = ["--max_bad_samples", 0.5]
    packed = ["--max_tokens_per_batch", 300, "--max_length", 300, *bad, "--gradient_accumulation_steps", 2]
    flags = {
        "token": [[streams], "--loss_average", "token", "--max_steps", 4],
        "sample": [[streams], "--max_steps", 4],
        "packed": [files, *packed, "--num_train_epochs", 3],
        "weighted": [files, *packed, "--annotation_weights", 1, 3, "--max_steps", 5, "--dataloader_num_workers", 1],
    }
    runs = [arguments(tiny_checkpoint, folder / name, *given) for name, given in flags.items()]
    (folder / "runs.json").write_text(json.dumps(runs))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run([*launch, "tests/two_ranks.py", str(folder / "runs.json")], timeout_s=600)
    return folder


@pytest.mark.parametrize("average", ["token", "sample"])
def test_two_processes_are_one_that_accumulates(two_ranks, tiny_checkpoint, files, tmp_path, average, monkeypatch):
    """Rank r's place p is place 2 * p + r of the common order, so the same two samples make an update."""
    flags = ["--loss_average", average, "--max_steps", 4, "--gradient_accumulation_steps", 2]
    train_here(monkeypatch, arguments(tiny_checkpoint, tmp_path / "one", files[:1], *flags))
    one, two = log_of(tmp_path / "one"), log_of(two_ranks / average)
    for name in ("loss", "grad_norm", "loss/streams", "samples_seen", "supervised_tokens"):
        np.testing.assert_allclose([line[name] for line in one], [line[name] for line in two], rtol=2e-5, err_msg=name)


def test_the_two_averages_are_two_runs(two_ranks):
    losses = [[line["loss"] for line in log_of(two_ranks / average)] for average in ("token", "sample")]
    assert not np.allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize("name", ["packed", "weighted"])
def test_packed_ranks_stay_in_step(two_ranks, name):
    log, summary = log_of(two_ranks / name), json.loads((two_ranks / name / "train_summary.json").read_text())
    assert [line["step"] for line in log] == list(range(1, summary["steps"] + 1)) and summary["processes"] == 2
    assert log[-1]["samples_seen"] == summary["samples"] > 2 * 2 * summary["steps"]  # more than one sample a row
    assert all(np.isfinite(line[key]) for line in log for key in line if key.startswith("loss"))
    if name == "packed":
        assert 2.2 < log[-1]["epoch"] < 3.8 and 2.2 * 16 < summary["samples"] < 3.8 * 16


def test_a_report_is_merged_over_the_ranks(two_ranks):
    report = json.loads((two_ranks / "weighted" / "bad_samples.json").read_text())
    assert report["by_cause"] == {"missing_file": report["bad_samples"]} and report["bad_samples"] > 1
    (line,) = report["samples"]
    assert line["path"].endswith("talks.jsonl") and line["line_no"] == 8 and line["times"] == report["bad_samples"]
    summary = json.loads((two_ranks / "weighted" / "train_summary.json").read_text())
    assert report["samples_seen"] >= report["bad_samples"] + summary["samples"]  # what is held was seen too
    assert log_of(two_ranks / "weighted")[-1]["skipped_samples"] == report["bad_samples"]
    assert not list((two_ranks / "weighted").glob("bad_samples_rank*"))


def test_weights_change_what_is_drawn(two_ranks):
    by_size, weighted = (log_of(two_ranks / name) for name in ("packed", "weighted"))
    assert {"loss/streams", "loss/talks"} <= {key for line in by_size for key in line}
    visual_share = [log[-1]["visual_tokens"] / log[-1]["tokens"] for log in (by_size, weighted)]
    assert visual_share[1] < visual_share[0]  # three quarters are conversations, which have fewer frames


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_tokens_per_batch", 100], r"--max_tokens_per_batch 100 is less than --max_length 32768"),
        (["--annotation_weights", 1], "1 numbers for 2 annotation files"),
        (["--prefetch_mb", 0], "--prefetch_mb 0: must be at least 1"),
        (
            ["--max_tokens_per_batch", 300, "--max_length", 300, "--attn_implementation", "eager"],
            "samples in one row would see each other",
        ),
    ],
)
def test_impossible_flags_are_refused(tiny_checkpoint, files, tmp_path, flags, message, monkeypatch):
    with pytest.raises(UserError, match=message):
        train_here(monkeypatch, arguments(tiny_checkpoint, tmp_path / "run", files, *flags))


def test_a_packed_row_is_the_update_of_its_samples_alone(tiny_checkpoint, files, tmp_path, monkeypatch):
    """Eight samples of one length: a wide row takes them in order, which as accumulated batches are one update."""
    data = write_samples(files[0].with_name("equal.jsonl"), [stream_of_one_length(i) for i in range(8)])
    row = ["--max_tokens_per_batch", 10**5, "--max_length", 10**5, "--gradient_checkpointing", "True"]
    for name, flags in {"row": row, "eight": ["--gradient_accumulation_steps", 8]}.items():
        train_here(monkeypatch, arguments(tiny_checkpoint, tmp_path / name, [data], "--max_steps", 2, *flags))
    for one, eight in zip(log_of(tmp_path / "row"), log_of(tmp_path / "eight"), strict=True):
        for name in ("loss", "grad_norm", "loss/equal", "samples_seen", "tokens"):
            assert one[name] == pytest.approx(eight[name], rel=1e-4 if name == "grad_norm" else 1e-5), name


@pytest.mark.slow
def test_what_is_used_together_is_one_update(tiny_checkpoint, tmp_path, monkeypatch):
    """Two ranks, two workers each, packed rows, bfloat16, gradient checkpointing, Liger's kernels, a head of its own.

    The update is that of the same samples alone in float32, and all that was asked for ran. The kernels are run by
    Triton's interpreter, for which the samples are small.
    """
    data = write_samples(write_media(tmp_path / "Übung") / "four.jsonl", [one_look(i) for i in range(4)])
    monkeypatch.setenv("VIDEO_MAX_PIXELS", "3136")
    flags = [[data], "--max_steps", 1, "--gradient_accumulation_steps"]
    train_here(monkeypatch, arguments(tiny_checkpoint, tmp_path / "alone", *flags, 4))
    packed = ["--max_tokens_per_batch", 500, "--max_length", 500, "--dataloader_num_workers", 2]
    packed += ["--bf16", True, "--gradient_checkpointing", True, "--use_liger_kernel", True]
    together = arguments(tiny_checkpoint, tmp_path / "together", *flags, 1, *packed)
    (tmp_path / "runs.json").write_text(json.dumps([together]))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    settings = {"TRITON_INTERPRET": 1, "VIDEO_MAX_PIXELS": 3136}
    run([*launch, "tests/two_ranks.py", str(tmp_path / "runs.json")], timeout_s=600, **settings)
    (one,), (other,) = log_of(tmp_path / "together"), log_of(tmp_path / "alone")
    assert one["samples_seen"] == 4 and one["tokens"] == other["tokens"]
    assert one["loss"] == pytest.approx(other["loss"], rel=0.01) and one["loss"] != other["loss"]
    assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.05)
    for rank in range(2):
        seen = Counter(json.loads((tmp_path / f"watched_rank{rank}.json").read_text()))
        # One row of two samples. Layers, two of them, are computed twice, the norm after them and the tower's once; the
        # loss of each sample, as it is one of several, twice.
        assert (seen["batches"], seen["samples"], seen["layer"], seen["torch.bfloat16"]) == (1, 2, 2, 2)
        assert (seen["rotate"], seen["silu_mul"], seen["rms_norm"], seen["loss"]) == (4, 4, 9, 4)
        assert seen["layer_norm"] >= 5
    ran = json.loads((tmp_path / "together" / "train_summary.json").read_text())["ran"]
    assert (ran["engine"], ran["attention"]) == ("DistributedDataParallel", "packed_sdpa")
    assert ran["computed_in"] == "bfloat16" and ran["liger"]


def one_look(i: int) -> list:
    """Two frames and two words of a stream, all of one length."""
    sample, start_s = stream(i), 0.5 * i
    sample[0]["content"][0] |= {"video": "match.mp4", "video_start": start_s, "video_end": start_s + 0.9}
    first, second = ("red", "blue") if i % 2 else ("blue", "red")
    words = [[start_s + 0.1, start_s + 0.3, first], [start_s + 0.4, start_s + 0.6, second]]
    sample[1]["content"][0]["text_stream"] = words
    return sample
