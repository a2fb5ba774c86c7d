"""What only a GPU runs; scripts/gpu_check.sh runs this file where there is one."""

import itertools
import json
import subprocess
import sys

import pytest
import torch

from data.loading.collate import collate, pack
from data.samples.conversation import Turn
from data.samples.encoder import Example
from models.load import load_checkpoint
from models.loss import fused_sums_by_sample, sums_by_sample, token_losses
from models.packed_attention import use_packed_attention
from models.streaming.engine import Engine
from models.streaming.options import RetentionOptions, StreamOptions
from models.streaming.prefix import PrefixReader
from models.streaming.requests import VisionRequest
from models.streaming.session import StreamingSession, comment, timed_frames
from models.training.lora import merge
from models.training.loss_average import weigh_losses
from models.training.optimizer import orthogonalize
from tests.conftest import REPOSITORY
from tests.graph_decoding import decode_both_ways
from tests.operations import compare, compare_models
from tests.pictures import noise
from tests.recorder import Recorder, record, spread
from tests.samples import text_example

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
WINDOW = RetentionOptions("window", sink_tokens=64, text_tokens=60, vision_s=4.0)


def said(checkpoint, retention, frames) -> list[list[int]]:
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=5, retention=retention))
    return [step.token_ids for step in comment(session, timed_frames(frames))]


def assert_captured(recorder: Recorder) -> None:
    """Single tokens came from replays of graphs that were captured on this device."""
    graphs = recorder.decode.graphs
    assert graphs and all(isinstance(graph, torch.cuda.CUDAGraph) for graph, _ in graphs.values())
    assert recorder.n_in_graph > 0


@pytest.mark.parametrize("retention", [RetentionOptions(), WINDOW], ids=["full", "window"])
def test_a_gpu_computes_what_a_cpu_does(tiny_checkpoint, retention):
    """The same words put into both mouths: logits of every token, prefilled and decoded in a graph, within 1e-3."""
    recorders = {}
    for device in ("cpu", "cuda"):
        checkpoint = load_checkpoint(tiny_checkpoint, device=device, dtype="float32")
        options = StreamOptions(max_new_tokens=5, retention=retention)
        say = itertools.cycle(range(300, 337)).__next__
        session, recorders[device] = record(checkpoint, options, say, graph=device == "cuda")
        list(comment(session, timed_frames(noise(40, 1))))
    assert_captured(recorders["cuda"])
    on_cpu, on_gpu = (torch.cat(recorders[device].calls) for device in ("cpu", "cuda"))
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=0)
    assert spread(on_cpu) > 1e-2


@pytest.mark.parametrize("retention", [RetentionOptions(), WINDOW], ids=["full", "window"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.1)])
def test_a_captured_graph_computes_what_the_layers_do(tiny_checkpoint, retention, dtype, tolerance):
    """Of three streams with different pasts. In bfloat16 logits that spread by 1 are rounded at each of 2 layers."""
    checkpoint = load_checkpoint(tiny_checkpoint, device="cuda", dtype=dtype)
    decoded = decode_both_ways(checkpoint, retention)
    assert_captured(decoded.recorder)
    torch.testing.assert_close(decoded.graph, decoded.eager, atol=tolerance, rtol=0)
    assert spread(decoded.eager) > 3 * tolerance  # so another stream's row is not within it


def test_bfloat16_is_the_default_and_speaks(tiny_checkpoint):
    checkpoint = load_checkpoint(tiny_checkpoint, device="cuda")
    assert checkpoint.model.dtype == torch.bfloat16
    assert len(said(checkpoint, WINDOW, noise(20, 2))) == 8


def test_a_shared_prefix_is_a_cpus(tiny_checkpoint):
    logits = {}
    for device in ("cpu", "cuda"):
        checkpoint = load_checkpoint(tiny_checkpoint, device=device, dtype="float32")
        block, features = checkpoint.batch.execute([VisionRequest(noise(20, 3))])[0]
        reader, chat = PrefixReader(checkpoint, block, features), checkpoint.chat
        for question in ("Who has the ball?", "Who wins?"):
            turn = chat.turn_ids(Turn("user", [block, question]))
            ids = [*chat.system_ids(), *turn, *chat.header_ids("assistant")]
            logits[device, question] = reader.logits(ids).cpu()
    for question in ("Who has the ball?", "Who wins?"):
        torch.testing.assert_close(logits["cuda", question], logits["cpu", question], atol=1e-3, rtol=1e-3)


def test_streams_together_say_what_each_says_alone(tiny_checkpoint):
    checkpoint = load_checkpoint(tiny_checkpoint, device="cuda", dtype="float32")
    films, heard = [noise(20, seed) for seed in range(4)], [[] for _ in range(4)]
    engine, options = Engine(checkpoint), StreamOptions(max_new_tokens=5, retention=WINDOW)
    threads = []
    for film, records in zip(films, heard, strict=True):
        threads.append(engine.watch(engine.open(records.append, options, realtime=False), timed_frames(film)))
    for thread in threads:
        thread.join()
    while engine.stats()["streams"]:
        pass
    engine.close()
    assert engine.batch.graphs.graphs  # tokens were decoded in graphs
    session_words = []
    for film in films:
        session = StreamingSession(checkpoint, options)
        session_words.append([step.text for step in comment(session, timed_frames(film))])
        session.close()
    assert len(set(map(tuple, session_words))) == len(films)
    spoken = [[record["text"] for record in records if record["type"] == "step"] for records in heard]
    assert all(ours[0] == alone[0] for ours, alone in zip(spoken, session_words, strict=True))
    # Greedy words part for good where two logits tie, which may befall one of the four.
    assert sum(ours == alone for ours, alone in zip(spoken, session_words, strict=True)) >= len(films) - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["rms_norm", "silu_mul", "rotate", "layer_norm"])
def test_ligers_operations_are_the_eager_ones(name, dtype):
    pytest.importorskip("liger_kernel")
    compare(name, "cuda", dtype)


def test_a_model_on_ligers_operations_computes_the_same(tiny_checkpoint):
    pytest.importorskip("liger_kernel")
    compare_models(tiny_checkpoint, "cuda")


def test_qlora_trains_and_merges(tiny_checkpoint, tmp_path):
    pytest.importorskip("bitsandbytes")
    flags = ["--lora_rank", "4", "--lora_bits", "4", "--bf16", "True", "--gradient_checkpointing", "True"]
    train_on_an_image(tiny_checkpoint, tmp_path, flags)
    merge(tiny_checkpoint, tmp_path / "out").save(tmp_path / "merged")
    assert len(said(load_checkpoint(tmp_path / "merged"), WINDOW, noise(20, 2))) == 8


def test_muon_brings_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalize(torch.randn(3, 128, 64, device="cuda")).float())
    assert float(values.min()) > 0.5 and float(values.max()) < 1.5


@pytest.mark.parametrize(
    "flags",
    [
        ["--bf16", "True", "--tf32", "True"],
        ["--use_liger_kernel", "True"],
        ["--use_liger_kernel", "True", "--bf16", "True", "--gradient_checkpointing", "True"],
        ["--lora_rank", "4", "--bf16", "True", "--use_liger_kernel", "True"],
    ],
    ids=str,
)
def test_training_runs(tiny_checkpoint, tmp_path, flags):
    train_on_an_image(tiny_checkpoint, tmp_path, flags)


def train_on_an_image(tiny_checkpoint, tmp_path, flags):
    sample = [
        {
            "role": "user",
            "content": [{"type": "image", "image": str(REPOSITORY / "tests/golden/images/grad_320x200.png")}],
        },
        {"role": "assistant", "content": "A slope of grey."},
    ]
    (tmp_path / "a.jsonl").write_text((json.dumps(sample) + "\n") * 8)
    command = [
        sys.executable, "train.py", "--pretrained_model_name_or_path", str(tiny_checkpoint), "--annotation_paths",
        str(tmp_path / "a.jsonl"), "--output_dir", str(tmp_path / "out"), "--max_steps", "6", "--report_to", "none",
        "--per_device_train_batch_size", "2", "--learning_rate", "1e-3", *flags,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "out" / "train_summary.json").read_text())["steps"] == 6


def loss_and_gradients(model, batches) -> tuple[float, dict[str, torch.Tensor]]:
    """Of the mean over samples, as the Trainer weighs them."""
    n_samples = sum(len(batch["supervised"]) for batch in batches)
    weigh_losses(batches, "sample", lambda local: local, 1)
    model.zero_grad()
    total = 0.0
    for batch in batches:
        tensors = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in batch.items() if k != "sources"}
        loss = model(**tensors).loss / len(batches)
        loss.backward()
        total += float(loss.detach())
    assert n_samples == 3
    return total, {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}


def text_examples() -> list[Example]:
    """Three samples of 40, 300 and 7 tokens."""
    generator = torch.Generator().manual_seed(0)
    return [text_example(torch.randint(20, 200, (length,), generator=generator)) for length in (40, 300, 7)]


@pytest.mark.parametrize(
    ("attention", "dtype"), [("sdpa", "float32"), ("sdpa", "bfloat16"), ("flash_attention_2", "bfloat16")]
)
def test_packed_equals_alone(tiny_checkpoint, attention, dtype):
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    model = load_checkpoint(tiny_checkpoint, device="cuda", dtype=dtype, attn_implementation=attention).model.train()
    use_packed_attention(model)
    examples = text_examples()
    alone = loss_and_gradients(model, [collate([example], 0) for example in examples])
    packed = loss_and_gradients(model, [pack(examples)])
    tolerance = 1e-4 if dtype == "float32" else 3e-2
    assert packed[0] == pytest.approx(alone[0], rel=tolerance)
    for name, gradient in alone[1].items():
        largest = float(gradient.abs().max())
        assert float((gradient - packed[1][name]).abs().max()) <= tolerance * max(largest, 1e-3), name


def test_ligers_sums_by_sample_are_the_plain_ones():
    pytest.importorskip("liger_kernel")
    generator = torch.Generator().manual_seed(0)
    rows, weight = (torch.randn(*shape, generator=generator).cuda() for shape in ((9, 64), (300, 64)))
    targets = torch.randint(0, 300, (9,), generator=generator).cuda()
    found = []
    for sums_of in (fused_sums_by_sample, lambda r, w, t, c: sums_by_sample(token_losses(r, w, t)[0], c)):
        inputs = [tensor.clone().requires_grad_() for tensor in (rows, weight)]
        sums = sums_of(*inputs, targets, [4, 0, 5])
        (sums * torch.tensor([0.5, 3.0, 0.1], device="cuda")).sum().backward()
        found.append([sums.detach(), *(tensor.grad for tensor in inputs)])
    for fused, plain in zip(*found, strict=True):
        assert torch.allclose(fused, plain, rtol=1e-4, atol=1e-5)
