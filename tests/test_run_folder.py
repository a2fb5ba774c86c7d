"""The folder of a training run: nothing in it is lost, damage falls back, a resume is compared with its record."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import train
from models.training import checkpoints, output_folder
from tests.samples import talk, write_samples
from tests.training import ROOT, log_of, losses, train_flags
from utils.errors import UserError

pytestmark = pytest.mark.usefixtures("small")
FLAGS = {"--max_steps": 6, "--save_steps": 2, "--per_device_train_batch_size": 2}


@pytest.fixture(scope="module")
def annotations(tmp_path_factory) -> Path:
    return write_samples(tmp_path_factory.mktemp("annotations") / "talk.jsonl", [talk(i) for i in range(6)])


@pytest.fixture
def run(tiny_checkpoint, annotations, tmp_path, monkeypatch):
    """Run train.py in this process with FLAGS and what is given; return output_dir."""

    def run_train(*flags: object, data: Path = annotations, model: Path = tiny_checkpoint, to: str = "run") -> Path:
        words = [word for name, value in FLAGS.items() if name not in flags for word in (name, value)]
        monkeypatch.setattr(sys, "argv", ["train.py", *train_flags(model, data, tmp_path / to, *words, *flags)])
        train.main()
        return tmp_path / to

    return run_train


@pytest.fixture(scope="module")
def finished(tiny_checkpoint, annotations, tmp_path_factory, request) -> Path:
    """A run of six steps with checkpoints at 2, 4 and 6, to be copied."""
    output_dir = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        words = [word for pair in FLAGS.items() for word in pair]
        patch.setattr(sys, "argv", ["train.py", *train_flags(tiny_checkpoint, annotations, output_dir, *words)])
        for name, value in (("VIDEO_MIN_PIXELS", "784"), ("VIDEO_MAX_PIXELS", "31360")):
            patch.setenv(name, value)
        train.main()
    return output_dir


@pytest.fixture
def done(finished, tmp_path) -> Path:
    """That run, finished, in this test's folder."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def stopped(done) -> Path:
    """That run as a kill after step 4 leaves it."""
    shutil.rmtree(done / "checkpoint-6")
    for name in ("model.safetensors", "train_summary.json"):
        (done / name).unlink()
    starts = json.loads((done / "run.json").read_text())
    del starts[-1]["finished_at"]
    (done / "run.json").write_text(json.dumps(starts))
    return done


@pytest.mark.parametrize("sign", ["SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT", "--resume_from_checkpoint"])
def test_a_continuation_removes_nothing(run, stopped, finished, monkeypatch, caplog, sign):
    more = [sign, "True"] if sign.startswith("--") else []
    if not more:
        monkeypatch.setenv(sign, "1")
    run("--overwrite_output_dir", "True", *more)
    assert "going on from" in caplog.text and "is not followed" in caplog.text
    assert losses(stopped) == losses(finished) and not list(stopped.glob("old-*"))


def test_the_command_that_began_a_run_goes_on_with_it(run, stopped, finished, tiny_checkpoint, annotations, caplog):
    words = [word for pair in FLAGS.items() for word in pair] + ["--overwrite_output_dir", "True"]
    starts = json.loads((stopped / "run.json").read_text())
    starts[-1]["command"] = ["train.py", *train_flags(tiny_checkpoint, annotations, stopped, *words)]
    (stopped / "run.json").write_text(json.dumps(starts))
    run("--overwrite_output_dir", "True")
    assert "same command" in caplog.text and losses(stopped) == losses(finished)


def test_a_run_follows_its_own_line_and_keeps_the_others(run, done):
    old = load_file(done / "checkpoint-6" / "model.safetensors")
    branch = ["--resume_from_checkpoint", done / "checkpoint-2", "--save_total_limit", 1, "--save_steps", 1]
    run(*branch, "--max_steps", 5)
    assert sorted(checkpoints.read_marks(done)) == [2, 5, 6]  # the other run's 2 and 6, and this one's last
    (aside,) = done.glob("old-*")
    assert [path.name for path in aside.iterdir()] == ["checkpoint-4"]
    run("--max_steps", 5)
    result, own = (load_file(folder / "model.safetensors") for folder in (done, done / "checkpoint-5"))
    assert all(result[name].equal(own[name]) for name in own) and any(not own[name].equal(old[name]) for name in own)


def test_a_job_started_again_goes_on_beyond_the_checkpoint_named(run, done, monkeypatch, caplog):
    run("--resume_from_checkpoint", done / "checkpoint-2", "--max_steps", 5, "--save_steps", 1)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run("--resume_from_checkpoint", done / "checkpoint-2", "--max_steps", 5, "--save_steps", 1)
    assert "already trained" in caplog.text


def test_a_result_without_checkpoints_is_moved_aside(run, tmp_path):
    once = run("--save_strategy", "no", "--max_steps", 1)
    before = (once / "model.safetensors").read_bytes()
    run("--save_strategy", "no", "--max_steps", 1, "--learning_rate", 0.1)
    (aside,) = once.glob("old-*")
    assert (aside / "model.safetensors").read_bytes() == before


def test_two_runs_in_one_folder_are_refused(tmp_path, tiny_checkpoint):
    output_folder.claim(tmp_path / "run", str(tiny_checkpoint))
    claim = f"from models.training.output_folder import claim; claim({str(tmp_path / 'run')!r}, 'other')"
    done = subprocess.run([sys.executable, "-c", claim], cwd=ROOT, capture_output=True, text=True)
    assert "another run trains there (process" in done.stderr and "give another folder" in done.stderr


def test_the_folder_of_the_model_is_not_the_output(run, tiny_checkpoint, tmp_path):
    (tmp_path / "run").symlink_to(tiny_checkpoint)
    before = sorted(path.name for path in tiny_checkpoint.iterdir())
    with pytest.raises(UserError, match="the run would overwrite"):
        run()
    assert sorted(path.name for path in tiny_checkpoint.iterdir()) == before


def test_an_output_that_cannot_be_made_is_said(run, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match=r"--output_dir .*cannot be written to .*give another folder"):
        run()


DAMAGE = {
    "weights_cut": ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-9])),
    "optimizer_empty": ("optimizer.pt", lambda path: path.write_bytes(b"")),
    "optimizer_gone": ("optimizer.pt", Path.unlink),
    "mark_empty": ("complete.json", lambda path: path.write_bytes(b"")),
    "state_empty": ("trainer_state.json", lambda path: path.write_bytes(b"")),
    "data_state_gone": ("data_state_rank0.json", Path.unlink),
    "bits": ("optimizer.pt", lambda path: path.write_bytes(bytes(path.stat().st_size))),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(run, done, finished, caplog, damage):
    name, break_it = DAMAGE[damage]
    break_it(done / "checkpoint-6" / name)
    run()
    (aside,) = done.glob("damaged-*")
    assert f"checkpoint-6 is damaged ({name}" in caplog.text and str(aside) in caplog.text
    assert "going on from checkpoint-4" in caplog.text and (aside / "checkpoint-6").is_dir()
    assert losses(done) == losses(finished)


def test_without_a_whole_checkpoint_there_is_a_message(run, done):
    for step in (2, 4, 6):
        (done / f"checkpoint-{step}" / "optimizer.pt").unlink()
    with pytest.raises(UserError, match=r"no checkpoint there is whole .*checkpoint-4: optimizer.pt is missing"):
        run()
    assert sorted(checkpoints.read_marks(done)) == [2, 4, 6]


def test_a_damaged_checkpoint_that_is_named_is_refused_with_a_whole_one(run, done):
    (done / "checkpoint-6" / "optimizer.pt").write_bytes(b"")
    for folder in (done / "checkpoint-6", done):
        with pytest.raises(UserError, match=r"not a complete checkpoint .*give .*checkpoint-4"):
            run("--resume_from_checkpoint", folder)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--freeze_modules", "visual"], r"--freeze_modules .*visual.*was trained with \(none\)|\[\]"),
        (["--optim", "adafactor"], "--optim adafactor: .*was trained with adamw_torch"),
        (["--muon_learning_rate", 0.02], "--muon_learning_rate 0.02"),
        (["--lora_rank", 4], "--lora_rank 4: .*was trained with 0"),
    ],
)
def test_what_a_state_does_not_fit_is_refused(run, stopped, flags, message):
    with pytest.raises(UserError, match=message):
        run(*flags)


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
def test_a_change_is_refused_unless_it_is_allowed(run, stopped, caplog, name):
    flags = [f"--{name}", 0.5]
    with pytest.raises(UserError, match=f"--allow_changes {name}"):
        run(*flags)
    run(*flags, "--allow_changes", name)
    assert f"--allow_changes {name}: 0.5 from here on" in caplog.text
    if name == "learning_rate":
        assert [entry["learning_rate"] for entry in log_of(stopped)][-2:] == pytest.approx([0.5 * 2 / 6, 0.5 / 6])


def test_other_data_and_other_weights_are_refused(run, stopped, tmp_path, tiny_checkpoint):
    other = write_samples(tmp_path / "other.jsonl", [talk(i + 9) for i in range(6)])
    with pytest.raises(UserError, match=r"--annotation_paths .*other.jsonl"):
        run(data=other)
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="other weight files"):
        run(model=model)


def test_a_finished_run_that_is_made_longer_follows_the_new_schedule(run, done, caplog):
    run("--max_steps", 10)
    assert "the learning rate follows the new length" in caplog.text
    rates = [entry["learning_rate"] for entry in log_of(done)]
    assert rates[6:] == pytest.approx([1e-3 * (10 - step) / 10 for step in range(6, 10)])


def test_a_run_made_shorter_than_its_checkpoints_is_refused(run, done):
    before = (done / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"the run has 4 steps .*stands at step 6"):
        run("--max_steps", 4)
    assert (done / "model.safetensors").read_bytes() == before
