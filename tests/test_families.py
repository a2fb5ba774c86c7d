"""Qwen2.5-VL through the whole line: tower, positions, tokens, loss, streams and files equal transformers' own."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import train
from data.loading.collate import collate, pack
from data.loading.dataset import AnnotationDataset
from data.samples.checkpoint_config import read_config
from data.samples.conversation import Turn, VisualBlock
from data.samples.encoder import SampleEncoder
from data.samples.patches import cut_patches
from data.samples.words import step_slices
from data.video.frame_plan import VideoLimits
from models.load import load_checkpoint
from models.packed_attention import use_packed_attention
from models.streaming.options import RetentionOptions, StreamOptions
from models.streaming.prefix import PrefixReader
from models.streaming.requests import VisionRequest
from models.streaming.session import StreamingSession, comment, timed_frames
from models.training.liger import exchange_all
from models.training.lora import target_layers
from models.vision import encode_patches, normalize_patches
from tests.operations import WRITTEN_DOWN
from tests.pictures import noise
from tests.recorder import record, spread
from tests.samples import stream, talk, write_media, write_samples
from tests.test_retention import Witness, check_runs
from tests.training import make_annotations, train_flags
from utils.errors import UserError

WIDE = (168, 140)  # 6 x 5 visual tokens: windows of 4 x 4, 4 x 1, 2 x 4 and 2 x 1
LIMITS = VideoLimits(min_pixels=784, total_pixels=31360, max_frames=6)


@pytest.fixture(scope="module")
def checkpoint(qwen2_5_checkpoint):
    return load_checkpoint(qwen2_5_checkpoint, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def library(qwen2_5_checkpoint):
    return AutoModelForImageTextToText.from_pretrained(qwen2_5_checkpoint, dtype=torch.float32).eval()


def cut(*films: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches and grids of several films."""
    patches, grids = zip(*map(cut_patches, films), strict=True)
    return torch.cat(patches), torch.tensor(grids)


def far(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def test_features_equal_the_library(checkpoint, library):
    """Over frames of one window, of cut windows, and of several sizes."""
    patches, grids = cut(noise(6, 1, WIDE), noise(2, 2), noise(2, 3, (112, 224)), noise(4, 4, (28, 252)))
    with torch.no_grad():
        theirs = library.model.visual(normalize_patches(patches, torch.float32), grids).pooler_output
        ours = encode_patches(checkpoint.model.model.visual, patches, grids)
    assert far(ours, theirs) < 1e-6 and spread(theirs) > 1e-2


@torch.no_grad()
def test_windows_show(checkpoint):
    """Blocks that see the whole frame in their place give other features, so the test above can tell."""
    visual = checkpoint.model.model.visual
    patches, grids = cut(noise(2, 1, WIDE))
    windowed, kept = encode_patches(visual, patches, grids), visual.fullatt_block_indexes
    visual.fullatt_block_indexes = [0, 1]
    whole = encode_patches(visual, patches, grids)
    visual.fullatt_block_indexes = kept
    assert far(whole, windowed) > 1e-2


def defined_positions(ids: list[int], video_pad: int, grids, steps) -> torch.Tensor:
    """Qwen2.5-VL's definition token by token [3, 1, T]: no word stands inside a video before it."""
    rows, at, blocks = [], 0, iter(zip(grids, steps, strict=True))
    for is_pad, run in itertools.groupby(ids, lambda token: token == video_pad):
        if not is_pad:
            rows += [(at + i,) * 3 for i, _ in enumerate(run)]
        else:
            (t, h, w), step = next(blocks)
            rows += [
                (at + int(i * step), at + y, at + x) for i in range(t) for y in range(h // 2) for x in range(w // 2)
            ]
            assert len(list(run)) == t * h * w // 4
        at = max(max(row) for row in rows) + 1
    return torch.tensor(rows).T[:, None]


@torch.no_grad()
def whole(library, ids: list[int], films, steps) -> torch.Tensor:
    """The library's logits [T, V] of a whole conversation at the defined positions."""
    patches, grids = cut(*films)
    pad = library.config.video_token_id
    kinds = (torch.tensor([ids]) == pad).int() * 2
    return library(
        input_ids=torch.tensor([ids]),
        mm_token_type_ids=kinds,
        pixel_values_videos=normalize_patches(patches, torch.float32),
        video_grid_thw=grids,
        position_ids=defined_positions(ids, pad, grids.tolist(), steps),
        use_cache=False,
    ).logits[0]


WIDE_WINDOW = RetentionOptions("window", sink_tokens=10**6, text_tokens=10**6, vision_s=1e6)


@pytest.mark.parametrize("retention, graph", [(RetentionOptions(), False), (WIDE_WINDOW, True)])
def test_a_stream_equals_one_pass(checkpoint, library, retention, graph):
    """Over 16 turns, in float32, below 1e-4; the first step's three grids stand at 0, 2 and 4."""
    frames = noise(6 + 2 * 15, 1)
    session, recorder = record(checkpoint, StreamOptions(max_new_tokens=4, retention=retention), graph=graph)
    assert len(list(comment(session, timed_frames(frames)))) == 16
    films = [frames[window] for window in step_slices(len(frames))]
    theirs = whole(library, recorder.fed, films, [2.0] * len(films))
    ours = torch.stack([row for _, row in recorder.rows])
    assert float((theirs[[at for at, _ in recorder.rows]] - ours).abs().max()) < 1e-4 and spread(ours) > 1e-2


def test_what_a_window_keeps_is_exact(checkpoint):
    """After evictions every kept key is its token's own, turned to where the token now is."""
    window = RetentionOptions("window", sink_tokens=64, text_tokens=60, vision_s=4.0)
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=4, retention=window))
    witness, sizes = Witness(session.state), []
    for _ in comment(session, timed_frames(noise(36, 1))):
        witness.note_new()
        check_runs(session.state)
        sizes.append(session.state.n_tokens)
    assert len(sizes) == 16 and sizes[-1] <= max(sizes[:8]) and witness.largest_error() < 1e-5


@pytest.fixture(scope="module")
def examples(checkpoint, tmp_path_factory):
    """Streams, images and a clip of 4 s that is cut to 6 frames, so its grids are 4/3 s apart."""
    folder = write_media(tmp_path_factory.mktemp("families"))
    encoder = SampleEncoder(checkpoint.chat, LIMITS, checkpoint.position_mode, family=checkpoint.family)
    samples = [stream(0), talk(1, "pitch.png", "pitch.png"), talk(2), talk(3, "match.mp4"), stream(3, 3)]
    dataset = AnnotationDataset([write_samples(folder / "all.jsonl", samples)], encoder)
    return [dataset[i] for i in range(len(dataset))]


def pads_of(library) -> dict[str, int]:
    return {"image": library.config.image_token_id, "video": library.config.video_token_id}


def batch_of(*examples, collated=collate) -> dict:
    batch = collated(examples, 0) if collated is collate else collated(examples)
    return {name: value for name, value in batch.items() if name != "sources"}


@pytest.mark.parametrize("number, steps", [(0, [2.0, 2.0]), (1, [1.0, 1.0]), (2, []), (3, [8 / 3]), (4, [2.0])])
def test_a_samples_loss_and_positions_are_the_definitions(checkpoint, library, examples, number, steps):
    example = examples[number]
    kind = {*example.kinds} & {"image", "video"}
    pads = pads_of(library)
    pad = pads[kind.pop()] if kind else None
    positions = defined_positions(example.input_ids.tolist(), pad, example.grid_thw.tolist(), steps)
    assert example.position_ids.tolist() == positions[:, 0].tolist()
    given = {"position_ids": positions, "input_ids": example.input_ids[None], "labels": example.labels[None]}
    if pad:
        images, videos = ("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw")
        names = images if pad == pads["image"] else videos
        given |= zip(names, (normalize_patches(example.patches, torch.float32), example.grid_thw), strict=True)
    with torch.no_grad():
        assert float(checkpoint.model(**batch_of(example)).loss - library(**given).loss) == pytest.approx(0, abs=1e-4)


def loss_and_gradients(model, *batches) -> tuple[float, dict[str, torch.Tensor]]:
    """Of the sum of all supervised tokens' losses."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model(**batch, loss_weights=[1.0] * len(batch["supervised"])).loss
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("liger", [False, True])
def test_packed_equals_alone(qwen2_5_checkpoint, examples, liger):
    """Under layers computed twice and on modules that take Liger's operations too."""
    model = load_checkpoint(qwen2_5_checkpoint, device="cpu", dtype="float32").model.train()
    alone = loss_and_gradients(model, *(batch_of(example) for example in examples))
    use_packed_attention(model)
    if liger:
        exchange_all(model, WRITTEN_DOWN)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    packed = loss_and_gradients(model, batch_of(*examples, collated=pack))
    assert packed[0] == pytest.approx(alone[0], rel=1e-5) and packed[1].keys() == alone[1].keys()
    assert "model.visual.blocks.0.attn.qkv.weight" in packed[1]
    assert max(far(gradient, alone[1][name]) for name, gradient in packed[1].items()) < 1e-4


def test_adapters_of_the_text_model_are_not_the_towers(checkpoint):
    """Both have a gate_proj; frozen, the tower is no contradiction."""
    found = target_layers(checkpoint.model, ["q_proj", "gate_proj", "blocks.0.mlp.gate_proj"], [])
    layers = [f"model.language_model.layers.{i}" for i in range(2)]
    wanted = [f"{layer}.{end}" for end in ("self_attn.q_proj", "mlp.gate_proj") for layer in layers]
    assert found == [*wanted, "model.visual.blocks.0.mlp.gate_proj"]
    assert target_layers(checkpoint.model, ["gate_proj"], ["visual"]) == wanted[2:]


@pytest.mark.usefixtures("small")
def test_a_run_goes_on_and_its_model_is_the_librarys(qwen2_5_checkpoint, tmp_path, monkeypatch):
    """Features of the frozen tower from the vision cache, a resume, and weights that plain transformers loads whole."""
    data, whole, cut = make_annotations(tmp_path, 6), tmp_path / "whole", tmp_path / "cut"
    frozen = ["--freeze_modules", "visual", "--vision_cache", tmp_path / "features"]

    def run(output_dir: Path) -> Path:
        flags = train_flags(qwen2_5_checkpoint, data, output_dir, "--max_steps", 4, "--save_steps", 2, *frozen)
        monkeypatch.setattr(sys, "argv", ["train.py", *flags])
        train.main()
        return output_dir

    shutil.copytree(run(whole) / "checkpoint-2", cut / "checkpoint-2")
    loaded = [AutoModelForImageTextToText.from_pretrained(path, output_loading_info=True) for path in (whole, run(cut))]
    assert not any(report["missing_keys"] or report["unexpected_keys"] for _, report in loaded)
    weights, others = (model.state_dict() for model, _ in loaded)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    begun = AutoModelForImageTextToText.from_pretrained(qwen2_5_checkpoint).state_dict()
    changed = {"visual" in name for name in weights if not torch.equal(weights[name], begun[name])}
    assert changed == {False}


def test_a_saved_checkpoint_is_the_librarys(checkpoint, library, tmp_path, examples):
    checkpoint.save(tmp_path)
    again, report = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert type(again) is type(library) and again.config.architectures == library.config.architectures
    assert not report["missing_keys"] and not report["unexpected_keys"]
    text = examples[2].input_ids[None]
    with torch.no_grad():
        assert torch.equal(again.eval()(text).logits, library(text).logits)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is type(checkpoint.processor)


@pytest.mark.parametrize("n_frames, frame_s", [(4, 0.5), (20, 0.5), (6, 0.8), (2, 3.0)])
def test_prompts_and_answers_are_the_librarys(checkpoint, library, n_frames, frame_s):
    """Token ids by the processor's own template, its seconds a grid, and greedy answers token by token."""
    frames, chat = noise(n_frames, n_frames), checkpoint.chat
    block, features = checkpoint.batch.execute([VisionRequest(frames, frame_s)])[0]
    user = [{"type": "video"}, {"type": "text", "text": "Who has the ball?"}]
    prompt = checkpoint.processor.apply_chat_template([{"role": "user", "content": user}], add_generation_prompt=True)
    metadata = {"fps": 1 / frame_s, "total_num_frames": n_frames, "frames_indices": list(range(n_frames))}
    options = {"do_sample_frames": False, "do_resize": False, "return_tensors": "pt"}
    given = checkpoint.processor(text=[prompt], videos=[frames], video_metadata=[metadata], **options)
    turns = [*chat.turn_ids(Turn("user", [block, "Who has the ball?"])), *chat.header_ids("assistant")]
    ids = [*chat.system_ids(), *turns]
    assert given["input_ids"][0].tolist() == ids
    step = 2 * float(given["second_per_grid_ts"][0])
    assert block == VisualBlock("video", tuple(given["video_grid_thw"][0].tolist()), pytest.approx(step))
    said = PrefixReader(checkpoint, block, features).write(ids, 8)
    logits = whole(library, [*ids, *said], [frames], [step])[len(ids) - 1 :]
    logits[:, list(pads_of(library).values())] = -torch.inf
    *greedy, after = logits.argmax(-1).tolist()
    assert said == greedy and (len(said) == 8 or after in checkpoint.eos_ids)
    session = StreamingSession(checkpoint, StreamOptions(query="", max_answer_tokens=8, repetition_penalty=1.0))
    assert "".join(session.watch(frames, "Who has the ball?", frame_s)) == chat.decode(said).rstrip("\ufffd")


@pytest.mark.parametrize("kind", ["qwen3_vl", "qwen3_vl_moe", "qwen2_5_omni"])
def test_families_that_are_not_whole_are_refused(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UserError, match=f"{kind}.*only 'qwen2_vl' and 'qwen2_5_vl'"):
        read_config(str(tmp_path))
