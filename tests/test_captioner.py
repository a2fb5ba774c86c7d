"""Captions: by any model of transformers' Auto classes, and by one behind an endpoint."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from data.nano.tokenizer import train_tokenizer
from data.samples.conversation import VisualBlock
from data.samples.positions import PositionTracker
from data.video.clip import VideoFile
from data.video.frame_plan import VideoLimits
from evaluation.livesports3kcc import distributed_generate_caption
from evaluation.predictors.api_captioner import ApiCaptioner
from evaluation.predictors.captioner import Captioner
from evaluation.predictors.checkpoint import CheckpointPredictor
from evaluation.predictors.predictor_arguments import CaptionerArguments, PredictorArguments
from evaluation.runner.run import FAILED
from evaluation.tasks.item import Answer, ClipPlan, Item, Written
from models.load import CHAT_TEMPLATE
from tests.events import NANO, PREVIOUS, TITLE, VIDEOS, read_rows, rows, run_main, write_rows
from tests.judge_server import JudgeServer, Response
from utils.endpoint import EndpointArguments, EndpointStopped
from utils.errors import UserError

LIMITS = {"VIDEO_MIN_PIXELS": "784", "VIDEO_MAX_PIXELS": "200000"}
MATCH = str(VIDEOS / "match_1.mp4")


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LIMITS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)


@pytest.fixture(scope="module")
def qwen2_5_vl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2.5-VL of two layers with the nano world's tokenizer, which always writes five tokens at least."""
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2.5-vl"
    tokenizer = train_tokenizer()
    special = tokenizer.convert_tokens_to_ids
    end, pad = special("<|im_end|>"), special("<|endoftext|>")
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32768,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            tie_word_embeddings=False, bos_token_id=pad, eos_token_id=end, pad_token_id=pad,
        ),
        vision_config=dict(
            depth=2, hidden_size=64, intermediate_size=128, out_hidden_size=64, num_heads=2, patch_size=14,
            fullatt_block_indexes=[1], window_size=112, tokens_per_second=2,
        ),
        tie_word_embeddings=False, image_token_id=special("<|image_pad|>"), video_token_id=special("<|video_pad|>"),
        vision_start_token_id=special("<|vision_start|>"), vision_end_token_id=special("<|vision_end|>"),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=[end], pad_token_id=pad, min_new_tokens=5)
    model.save_pretrained(folder)
    image, video = Qwen2VLImageProcessor(), Qwen2VLVideoProcessor()
    Qwen2_5_VLProcessor(image, tokenizer, video, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    return folder


def load(path: Path, **flags) -> Captioner:
    return Captioner.load(CaptionerArguments(model_name_or_path=str(path), device="cpu", **flags))


def item(start_s: float, end_s: float, text: str = "Describe the video.", n_tokens: int = 12) -> Item:
    return Item(f"i{start_s}", "v", Written(text, n_tokens), None, ClipPlan(MATCH, start_s, end_s))


def responses(predictor, *items: Item) -> list[str]:
    return [answer.response for _, answer in predictor.answer(items)]


def test_another_architecture_answers_from_the_frames(qwen2_5_vl: Path):
    captioner = load(qwen2_5_vl)
    assert captioner.name == "tiny-qwen2.5-vl" and captioner.settings["dtype"] == "float32"
    first = responses(captioner, item(2, 9), item(12, 20))
    assert all(first) and first == responses(captioner, item(2, 9), item(12, 20))
    clip = VideoFile(MATCH).clip(2, 9, limits=captioner.limits, rule="question")
    given = captioner.inputs(clip, "Describe the video.")
    # Every frame of the one reader arrives as it is: no second sampling, no second resize.
    n_frames, _, height, width = clip.frames.shape
    assert given["video_grid_thw"].tolist() == [[n_frames // 2, height // 14, width // 14]]
    assert float(given["second_per_grid_ts"][0]) == pytest.approx(2 * 7 / (n_frames - 1), rel=0.05)
    with torch.inference_mode():
        blank = {**given, "pixel_values_videos": torch.zeros_like(given["pixel_values_videos"])}
        assert not torch.allclose(captioner.model(**given).logits, captioner.model(**blank).logits)


def test_text_after_a_long_video_stands_after_all_of_it(qwen2_5_vl: Path):
    captioner = load(qwen2_5_vl)
    clip = VideoFile(MATCH).clip(2, 28, limits=captioner.limits, rule="question")  # longer than it is wide
    given = captioner.inputs(clip, "Describe the video.")
    text, *axes = given["position_ids"][:, 0]
    assert text.tolist() == list(range(given["input_ids"].shape[1]))
    pads = (given["input_ids"][0] == captioner.model.config.video_token_id).nonzero().flatten()
    after = int(pads[-1]) + 1
    largest = max(int(axis[pads].max()) for axis in axes)
    assert largest == int(axes[0][pads].max()) > int(axes[1][pads].max())  # a time
    for axis in axes:
        assert axis[after:].tolist() == list(range(largest + 1, largest + 1 + len(text) - after))


def test_a_qwen2_vl_says_the_same_as_through_this_projects_own_loop():
    ask = "You are an expert commentator. Say what happens in the video."
    items = [item(start, end, ask, 24) for start, end in ((2, 9), (12, 18), (0, 28))]
    ours = CheckpointPredictor.load(PredictorArguments(model_name_or_path=str(NANO), device="cpu"))
    by_item = {asked.id: answer.response for asked, answer in ours.answer(items)}
    assert responses(load(NANO), *items) == [by_item[asked.id] for asked in items]
    assert len(set(by_item.values())) > 1 and max(len(text.split()) for text in by_item.values()) > 3


def test_a_qwen2_vl_keeps_its_position_mode():
    captioner = load(NANO)
    clip = VideoFile(MATCH).clip(2, 9, limits=captioner.limits, rule="question")
    for mode in ("mrope", "sequential"):
        captioner.position_mode = mode
        given = captioner.inputs(clip, "Describe the video.")
        block = VisualBlock("video", tuple(given["video_grid_thw"][0].tolist()))
        config = captioner.model.config
        pads = {"video": config.video_token_id, "image": config.image_token_id}
        expected = PositionTracker(mode).extend(given["input_ids"][0], [block], pads)
        assert torch.equal(given["position_ids"][1:, 0], expected)


def test_a_processor_without_video_gets_pictures(qwen2_5_vl: Path):
    loaded = load(qwen2_5_vl)
    processor = loaded.processor
    processor.video_processor = None
    captioner = Captioner(loaded.model, processor, str(qwen2_5_vl), max_images=4)
    assert captioner.limits.max_frames == 4 and not captioner.takes_video
    clip = VideoFile(MATCH).clip(2, 9, limits=captioner.limits, rule="question")
    assert len(captioner.inputs(clip, "Describe the video.")["image_grid_thw"]) == 4
    assert responses(captioner, item(2, 9))[0]


def test_one_bad_clip_leaves_the_others(qwen2_5_vl: Path):
    captioner = load(qwen2_5_vl)
    beyond, good = item(100, 110), item(2, 6)
    said = {asked.id: answer for asked, answer in captioner.answer([beyond, good])}
    assert "no frame in the window" in str(said[beyond.id]) and isinstance(said[good.id], Answer)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "give --model_name_or_path or --api_model"),
        ({"model_name_or_path": "a", "api_model": "b"}, "not both"),
        ({"api_model": "b", "max_images": 1}, "--max_images 1"),
        ({"model_name_or_path": "a", "dtype": "int8"}, "--dtype int8"),
    ],
)
def test_flags_that_cannot_work_are_refused(flags: dict, message: str):
    with pytest.raises(UserError, match=message):
        CaptionerArguments(**flags)


def test_a_folder_that_is_no_model_is_said(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be loaded as an image-text-to-text model"):
        load(tmp_path)


def test_the_seed_command_writes_captions(qwen2_5_vl: Path, tmp_path: Path, monkeypatch, capsys):
    annotations = write_rows(tmp_path / "events.jsonl", rows())
    flags = ["--model_name_or_path", qwen2_5_vl, "--output_dir", tmp_path / "captions", "--num_workers", 1]
    flags += ["--annotations", annotations, "--video_dir", VIDEOS, "--device", "cpu", "--max_new_tokens", 8]
    assert run_main(distributed_generate_caption.main, monkeypatch, *flags) == FAILED
    captions = read_rows(tmp_path / "captions" / "tiny-qwen2.5-vl.jsonl")
    assert [(row["video_id"], row["event_id"]) for row in captions] == [("match_1", 4), ("match_1", 11), ("match_2", 7)]
    assert all(row["pred"] for row in captions)
    assert "--baseline_jsonl" in capsys.readouterr().out


def test_an_endpoint_is_sent_the_event_as_pictures(tmp_path: Path, monkeypatch, capsys):
    annotations = write_rows(tmp_path / "events.jsonl", rows()[:3])
    out = tmp_path / "captions"
    with JudgeServer(lambda number, prompt: Response(f"Caption {number}.")) as server:
        flags = ["--api_model", "org/some-model", "--api_base", server.api_base, "--max_images", 6]
        flags += ["--output_dir", out, "--annotations", annotations, "--video_dir", VIDEOS, "--num_workers", 1]
        assert run_main(distributed_generate_caption.main, monkeypatch, *flags) == 0
        # Again: everything is at hand.
        assert run_main(distributed_generate_caption.main, monkeypatch, *flags) == 0
    assert [row["pred"] for row in read_rows(out / "some-model.jsonl")] == ["Caption 0.", "Caption 1.", "Caption 2."]
    assert len(server.requests) == 3
    body = server.requests[0]["body"]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("org/some-model", 0, 512)
    *pictures, text = body["messages"][-1]["content"]
    assert len(pictures) == 6 and TITLE in text["text"] and PREVIOUS in text["text"]
    limits = VideoLimits.from_environment({**LIMITS, "FPS_MAX_FRAMES": "6"})
    frames = VideoFile(MATCH).clip(2.0, 9.5, limits=limits, rule="question").frames.permute(0, 2, 3, 1).numpy()
    for i, picture in enumerate(pictures):
        kind, data = picture["image_url"]["url"].split(",", 1)
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), int)
        assert kind == "data:image/jpeg;base64"
        assert np.abs(frames - shown).mean((1, 2, 3)).argmin() == i
    assert "3 replies" in capsys.readouterr().out


def test_an_endpoint_that_declines_or_fails_leaves_an_error(tmp_path: Path, monkeypatch, capsys):
    annotations = write_rows(tmp_path / "events.jsonl", rows()[:3])

    def behave(number: int, prompt: str) -> Response:
        if TITLE not in prompt:
            return Response("", refusal="I cannot describe this.")
        return Response("no such field", status=400) if PREVIOUS in prompt else Response("Fine.")

    with JudgeServer(behave) as server:
        flags = ["--api_model", "m", "--api_base", server.api_base, "--output_dir", tmp_path, "--num_workers", 1]
        flags += ["--annotations", annotations, "--video_dir", VIDEOS]
        assert run_main(distributed_generate_caption.main, monkeypatch, *flags) == FAILED
    assert [row["event_id"] for row in read_rows(tmp_path / "m.jsonl")] == [11]
    said = capsys.readouterr().err
    assert "Declined: I cannot describe this." in said and "HTTP 400" in said


def test_processes_share_the_money():
    arguments = CaptionerArguments(api_model="gpt-4o-2024-08-06")
    endpoint = EndpointArguments(api_base="http://127.0.0.1:9/v1", max_cost=8.0, requests_per_minute=60)
    captioner = ApiCaptioner.connect(arguments, endpoint, n_processes=4)
    assert captioner.endpoint.budget.max_cost == 2.0


def test_an_endpoint_that_refuses_the_key_ends_the_run(tmp_path: Path, monkeypatch):
    annotations = write_rows(tmp_path / "events.jsonl", rows()[:3])
    with JudgeServer(lambda number, prompt: Response("bad key", status=401)) as server:
        flags = ["--api_model", "m", "--api_base", server.api_base, "--output_dir", tmp_path, "--num_workers", 1]
        flags += ["--annotations", annotations, "--video_dir", VIDEOS]
        with pytest.raises(EndpointStopped, match="check the API key"):
            run_main(distributed_generate_caption.main, monkeypatch, *flags)
    assert len(server.requests) == 1 and not (tmp_path / "m.jsonl").exists()
