"""What is seen of a training run: operations counted, the record of the run, held-out commentary, a profile."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import train
from models.load import load_checkpoint
from models.training.flops import FlopCounter, peak_flops
from models.training.held_out import SpokenStep
from models.training.held_out_page import write_page
from models.training.trainer import freeze_modules
from scripts import profile_train
from tests.samples import talk, write_samples
from tests.training import SIX_STEPS, log_of, losses, make_annotations, train_flags
from utils.errors import UserError
from utils.fingerprint import fingerprint

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def annotations(tmp_path_factory) -> Path:
    return make_annotations(tmp_path_factory.mktemp("streams"), n_samples=6)


@pytest.fixture
def run(tiny_checkpoint, annotations, monkeypatch):
    def run_train(output_dir: Path, *flags: object) -> Path:
        words = train_flags(tiny_checkpoint, annotations, output_dir, *SIX_STEPS, *flags)
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        train.main()
        return output_dir

    return run_train


def batch_of(model, n_text: int, n_supervised: int, grid_thw: tuple[int, int, int]) -> dict:
    n_patches = grid_thw[0] * grid_thw[1] * grid_thw[2]
    pads = torch.full((n_patches // 4,), model.config.video_token_id)
    ids = torch.cat((pads, torch.arange(n_text) % 100))[None]
    labels = torch.full_like(ids, -100)
    labels[0, -n_supervised:] = ids[0, -n_supervised:]
    positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
    patches = torch.randint(0, 256, (n_patches, 1176), dtype=torch.uint8)
    return dict(
        input_ids=ids, labels=labels, position_ids=positions, patches=patches, grid_thw=torch.tensor([grid_thw])
    )


@pytest.mark.parametrize("frozen", [[], ["visual"], ["merger"], ["language_model", "lm_head"]])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_are_those_that_torch_counts(tiny_checkpoint, frozen, checkpointing):
    """All products of the step, attention apart, which torch counts as a full square where it counts it at all."""
    model = load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32").model
    model.train()
    freeze_modules(model, frozen)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = batch_of(model, 90, 7, (2, 4, 6))
    with FlopCounterMode(display=False) as counted:
        model(**batch).loss.backward()
    products = sum(
        n for ops in [counted.get_flop_counts()["Global"]] for op, n in ops.items() if "attention" not in str(op)
    )
    counter = FlopCounter(model)
    counter.attention = counter.tower_attention = 0
    ours = counter.count([batch["input_ids"].shape[1]], 7, batch["grid_thw"])
    assert ours.hardware == pytest.approx(products, rel=0.02)
    assert (ours.hardware > ours.model) == checkpointing


def test_attention_is_half_of_the_square_in_text_and_whole_in_a_frame(tiny_checkpoint):
    model = load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32").model
    counter = FlopCounter(model)
    one, two = (counter.count([n], 0, None).model for n in (100, 200))
    text = model.config.get_text_config()
    square = 3 * 2 * text.hidden_size * text.num_hidden_layers
    assert two - 2 * one == square * (200**2 - 2 * 100**2)
    split = counter.count([100, 100], 0, None).model
    assert split == 2 * one
    small, large = (counter.count([1], 0, torch.tensor([[1, side, side]])).model for side in (4, 8))
    per_patch = small - counter.count([1], 0, None).model - 3 * counter.tower_attention * 16**2
    assert large - counter.count([1], 0, None).model == 4 * per_patch + 3 * counter.tower_attention * 64**2


@pytest.mark.parametrize(
    ("name", "peak"), [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 80GB HBM4", None), ("NVIDIA L40", None)]
)
def test_a_peak_is_a_data_sheets_of_exactly_that_device(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda"), torch.bfloat16) == peak
    assert peak_flops(torch.device("cuda"), torch.float32) is peak_flops(torch.device("cpu"), torch.bfloat16) is None


def test_logs_have_shares_and_memory(run, tmp_path):
    entry = log_of(run(tmp_path / "run"))[-1]
    assert 0 < entry["supervised_share"] < 1 and entry["memory_gb"] > 0.05 and "mfu" not in entry


def test_the_record_says_what_ran(run, tmp_path, annotations, tiny_checkpoint):
    output_dir = run(tmp_path / "run")
    run(output_dir)
    starts = json.loads((output_dir / "run.json").read_text())
    assert len(starts) == 2
    first = starts[0]
    assert first["arguments"]["training"]["learning_rate"] == 1e-3 and first["arguments"]["data"]["max_length"] == 32768
    assert first["data"][0]["path"] == str(annotations) and first["data"][0]["fingerprint"] == fingerprint(annotations)
    assert first["model"]["weights"] == {"model.safetensors": fingerprint(tiny_checkpoint / "model.safetensors")}
    assert first["versions"]["torch"] == torch.__version__.partition("+")[0] or first["versions"]["torch"]
    assert len(first["code"]["commit"] or "0" * 40) == 40 and first["machine"]["processes"] == 1
    run(output_dir, "--overwrite_output_dir", "True")
    assert len(json.loads((output_dir / "run.json").read_text())) == 1


def test_fingerprints_tell_changes_apart(tmp_path):
    path = tmp_path / "file"
    marks = set()
    for content in (b"", b"a", b"b", bytes(1 << 21), b"\1" + bytes((1 << 21) - 1), bytes((1 << 21) - 1) + b"\1"):
        path.write_bytes(content)
        marks.add(fingerprint(path))
        assert fingerprint(path) in marks
    assert len(marks) == 6


def test_held_out_commentary_changes_nothing_of_the_training(run, tmp_path, annotations):
    plain = run(tmp_path / "plain")
    flags = [
        "--held_out_annotations",
        annotations,
        "--held_out_steps",
        3,
        "--held_out_clips",
        1,
        "--report_to",
        "tensorboard",
    ]
    watched = run(tmp_path / "watched", *flags)
    assert losses(watched) == losses(plain)
    folder = watched / "held_out"
    assert [path.name for path in sorted(folder.glob("*.jsonl"))] == ["step_0000003.jsonl", "step_0000006.jsonl"]
    lines = [json.loads(line) for line in (folder / "step_0000006.jsonl").read_text().splitlines()]
    assert [(line["start_s"], line["end_s"]) for line in lines] == [(0.0, 3.0), (3.0, 4.0)]
    assert [line["wanted"] for line in lines] == ["red passes blue", ""]
    page = (folder / "step_0000006.html").read_text()
    assert page.count("data:image/jpeg") == 2 and "passes" in page
    assert "held_out/match.mp4, line 1/text_summary" in tensorboard_tags(watched)


def tensorboard_tags(output_dir: Path) -> list[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {path.parent for path in output_dir.rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    assert "train/tokens_per_second" in events.Tags()["scalars"]
    return events.Tags()["tensors"] + events.Tags()["images"]


def test_held_out_commentary_goes_to_wandb(run, tmp_path, annotations, wandb_folder):
    flags = ["--held_out_annotations", annotations, "--held_out_steps", 6, "--report_to", "wandb"]
    run(tmp_path / "run", *flags)
    assert list(wandb_folder.glob("offline-run-*/files/media/table/held_out*"))


def test_texts_on_the_page_are_text(tmp_path):
    frame = torch.zeros(3, 28, 28, dtype=torch.uint8)
    step = SpokenStep(0.0, 3.0, frame, "<script>alert(1)</script>", "<b>")
    write_page(tmp_path / "page.html", "<i>", {"<u>": [step]})
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page and "&lt;script" in page and "<b>" not in page and "default-src 'none'" in page


def test_held_out_files_without_streams_are_refused(run, tmp_path):
    path = write_samples(tmp_path / "text.jsonl", [talk(0)])
    with pytest.raises(UserError, match="no streams in its 1 lines"):
        run(tmp_path / "run", "--held_out_annotations", path)


def test_a_profile_shows_where_the_time_goes(tiny_checkpoint, annotations, tmp_path, monkeypatch, capsys):
    flags = ["--profile_dir", tmp_path / "profile", "--profile_steps", 2, "--profile_warmup", 1]
    words = train_flags(tiny_checkpoint, annotations, tmp_path / "run", *SIX_STEPS, *flags)
    monkeypatch.setattr(sys, "argv", ["profile_train.py", *words])
    profile_train.main()
    trace = json.loads((tmp_path / "profile" / "trace_rank0.json").read_text())
    names = {event.get("name", "") for event in trace["traceEvents"]}
    assert {"ProfilerStep#1", "ProfilerStep#2"} <= names and any("mm" in name for name in names)
    assert "aten::addmm" in (tmp_path / "profile" / "operations_rank0.txt").read_text()
    assert not list((tmp_path / "run").glob("checkpoint-*")) and "trace:" in capsys.readouterr().out
