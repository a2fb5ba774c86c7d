"""A checkpoint that answers: each item from its own file and window, once read for all questions, by its own logits."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from data.video.clip import VideoFile
from evaluation.livesports3kqa import distributed_evaluate_livesports3kqa as sports
from evaluation.predictors import checkpoint as checkpoint_predictor
from evaluation.predictors.captioner import Captioner
from evaluation.predictors.checkpoint import CheckpointPredictor
from evaluation.predictors.clip_writer import ClipWriter
from evaluation.predictors.predictor_arguments import CaptionerArguments, PredictorArguments
from evaluation.tasks.item import Answer, Choice, ClipPlan, Commentary, Item, Written
from models.streaming.prefix import PrefixReader
from models.streaming.session import Step
from tests.asking import run_main, write_lines
from tests.videos import frame_number, make_video, numbered_frame
from utils.fingerprint import checkpoint_fingerprint

pytestmark = pytest.mark.usefixtures("small")
QUESTIONS = ("Who has the ball?", "Who wins?", "Which colour is it, and why?")
LETTERS = ("A", "B", "C")


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint) -> CheckpointPredictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDEO_MIN_PIXELS", "784")
        patch.setenv("VIDEO_MAX_PIXELS", "31360")
        return CheckpointPredictor.load(PredictorArguments(model_name_or_path=str(tiny_checkpoint), device="cpu"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> tuple[str, str]:
    """Two films of different pictures, lengths and sizes."""
    folder = tmp_path_factory.mktemp("videos")
    first = make_video(folder / "plain.mp4", 50)
    return str(first), str(make_video(folder / 'quote\'s "é".mp4', 88, size_hw=(96, 112), rotation=90))


def choice(name: str, plan: ClipPlan, question: str = QUESTIONS[0]) -> Item:
    return Item(name, "001", Choice(question, "Answer:", LETTERS), "A", plan)


def logits(predictor, items: list[Item]) -> dict[str, dict[str, float]]:
    return {item.id: answer.logits for item, answer in predictor.answer(items)}


def test_items_of_one_video_id_are_answered_from_their_own_files(predictor, videos):
    """Also where a clip is a file of its own, and where they take turns."""
    plans = [ClipPlan(path, end_s=end_s) for end_s in (None, 1.0) for path in videos]
    items = [choice(f"q{i}", plan) for i, plan in enumerate(plans)]
    together = logits(predictor, items)
    for item in items:
        assert together[item.id] == pytest.approx(logits(predictor, [item])[item.id], abs=1e-4)
    assert len({tuple(found.values()) for found in together.values()}) == 4


class FrameSizes(ClipWriter):
    """Writes how large the frames are that it is shown."""

    def write(self, clip, ask):
        return str(tuple(clip.frames.shape[-2:]))


def test_captions_of_one_video_id_are_of_their_own_files(predictor, videos):
    writer = FrameSizes("sizes", predictor.checkpoint.limits)
    items = [Item(str(i), "001", Written("", 1), None, ClipPlan(path)) for i, path in enumerate(videos)]
    first, second = (answer.response for _, answer in writer.answer(items))
    assert (first, second) == tuple(response.response for item in items for _, response in writer.answer([item]))
    assert first != second


def test_a_clip_is_read_once_for_all_its_questions_and_each_keeps_its_answer(predictor, videos, monkeypatch):
    n_read, readers, frames = [], [], []
    real_clip, real_reader = VideoFile.clip, PrefixReader.__init__

    def read(self, *arguments, **more):
        n_read.append(arguments)
        return real_clip(self, *arguments, **more)

    def made(self, *arguments):
        readers.append(self)
        real_reader(self, *arguments)

    items = [choice(f"{i}-{j}", ClipPlan(path), q) for i, path in enumerate(videos) for j, q in enumerate(QUESTIONS)]
    alone = {item.id: logits(predictor, [item])[item.id] for item in items}
    monkeypatch.setattr(VideoFile, "clip", read)
    monkeypatch.setattr(PrefixReader, "__init__", made)
    real_encode = predictor.encode
    monkeypatch.setattr(predictor, "encode", lambda given: frames.append(given) or real_encode(given))
    together = logits(predictor, items)
    assert (len(n_read), len(frames), len(readers)) == (2, 2, 2)
    for reader in readers:
        n_visual, n_prompt = reader.block.n_tokens, len(reader.read)
        assert n_visual > 30 and reader.n_prefilled < n_prompt + 3 * (n_prompt - n_visual)
    for name, found in together.items():
        assert found == pytest.approx(alone[name], abs=1e-4)
    assert len({tuple(found.values()) for found in together.values()}) == len(items)


def test_a_clip_holds_the_frames_of_its_window(predictor, videos, tmp_path):
    with VideoFile(videos[0]) as video:
        shown = predictor.read(ClipPlan(videos[0], 0.5, 1.5), video)
        few = predictor.read(ClipPlan(videos[0], max_frames=2), video)
        streamed = predictor.read(ClipPlan(videos[0], 0.5, 1.9, rule="stream"), video)
    numbers = [frame_number(frame) for frame in shown.frames.numpy()]
    assert 12 <= min(numbers) < max(numbers) <= 38
    assert len(few.frames) == 2
    assert streamed.times_s.tolist()[:3] == pytest.approx([0.5, 1.0, 1.5], abs=0.03)
    for number in range(9):
        Image.fromarray(numbered_frame(number, 72, 160)).save(tmp_path / f"{number + 1:05d}.jpg")
    plan = ClipPlan(str(tmp_path), 1.0, 2.0, folder_fps=3.0)
    assert {frame_number(frame) for frame in predictor.read(plan, None).frames.numpy()} == {3, 4, 5, 6}


@pytest.mark.parametrize(("options", "spaced"), [(LETTERS, True), (tuple("0123456789"), False)])
def test_options_are_weighed_as_transformers_weighs_them(predictor, tiny_checkpoint, videos, options, spaced):
    """Its own model, fed by its own processor, with the beginning of the answer and each option behind the prompt."""
    plan, theirs = (
        ClipPlan(videos[1]),
        Captioner.load(CaptionerArguments(model_name_or_path=str(tiny_checkpoint), device="cpu")),
    )
    with VideoFile(plan.video) as video:
        clip = predictor.read(plan, video)
    for question in QUESTIONS:
        item = Item("q", "001", Choice(question, "Answer:", options, spaced), "A", plan)
        ours = logits(predictor, [item])["q"]
        given = theirs.inputs(clip, question)
        texts = {option: f" {option}" if spaced else option for option in options}
        found = {option: weights_of(theirs, given, "Answer:", text) for option, text in texts.items()}
        assert {len(said) > 1 for said, _ in found.values()} == ({True, False} if spaced else {False})
        # Where an option is several tokens, all are weighed by their log-likelihoods.
        expected = {option: sum(said) if spaced else logit for option, (said, logit) in found.items()}
        assert ours == pytest.approx(expected, abs=1e-3)
        assert max(expected.values()) - min(expected.values()) > 0.1


@torch.inference_mode()
def weights_of(theirs: Captioner, given: dict, prefix: str, option: str) -> tuple[list[float], float]:
    """Log-likelihoods of an option's tokens behind a prompt and a prefix, and the logit of its first."""
    tokens = theirs.processor.tokenizer
    begun, ids = (tokens(text, add_special_tokens=False, return_tensors="pt").input_ids for text in (prefix, option))
    added = torch.cat([begun, ids], 1)
    more = {
        "input_ids": added,
        "attention_mask": torch.ones_like(added),
        "position_ids": given["position_ids"][:, :, -1:] + torch.arange(1, added.shape[1] + 1),
        "mm_token_type_ids": torch.zeros_like(added),
    }
    inputs = {name: torch.cat([value, more[name]], -1) if name in more else value for name, value in given.items()}
    n = ids.shape[1]
    logits = theirs.model(**inputs).logits[0, -n - 1 : -1]
    return logits.log_softmax(-1)[torch.arange(n), ids[0]].tolist(), float(logits[0, ids[0, 0]])


def test_the_answer_is_the_option_with_the_highest_logit(predictor, videos):
    items = [choice(str(i), ClipPlan(path, end_s=end_s)) for i, path in enumerate(videos) for end_s in (None,)]
    for _, answer in predictor.answer(items):
        assert answer.response == sorted(answer.logits, key=answer.logits.get)[-1]
        assert sorted(answer.logits) == list(LETTERS)


def test_decoding_of_a_commentary_is_as_asked(predictor, videos):
    def said(**decoding) -> Answer:
        ask = Commentary("Describe the video.", **{"max_new_tokens": 8, "repetition_penalty": 1.0, **decoding})
        ((_, answer),) = predictor.answer([Item("c", "001", ask, None, ClipPlan(videos[0], rule="stream"))])
        return answer

    plain, penalised, short = said(), said(repetition_penalty=3.0), said(max_new_tokens=2)
    assert plain.steps != penalised.steps and plain.steps != short.steps
    n_tokens = [len(predictor.checkpoint.chat.text_ids(text)) for _, _, text in short.steps]
    assert max(n_tokens) <= 3 and [step[:2] for step in plain.steps] == [step[:2] for step in short.steps]


def test_a_commentary_is_its_steps_without_their_pauses(predictor, videos, monkeypatch):
    texts = ["Red pass ...", " ...", "and a goal ...", "at last."]
    steps = [Step(float(i), i + 1.0, text, [], {}, 0) for i, text in enumerate(texts)]
    shown = []
    monkeypatch.setattr(checkpoint_predictor, "comment", lambda session, source: shown.extend(source) or steps)
    plan = ClipPlan(videos[0], 0.5, 1.5, rule="stream")
    ((_, answer),) = predictor.answer([Item("c", "001", Commentary("Describe."), None, plan)])
    assert answer.response == "Red pass  and a goal at last...."  # a silent second leaves two spaces, as published
    assert answer.steps == [(step.start_s, step.end_s, step.text) for step in steps]
    assert [frame.time_s for frame in shown][:2] == pytest.approx([0.5, 1.0], abs=0.03)


def change(checkpoint: Path, tensor: str) -> None:
    """Make one tensor of a checkpoint another."""
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    tensors[tensor] = tensors[tensor] * -0.5
    save_file(tensors, path, metadata={"format": "pt"})


def test_every_tensor_is_in_the_fingerprint(tiny_checkpoint, tmp_path):
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    names = list(load_file(copy / "model.safetensors"))
    assert len(names) > 40
    seen = [checkpoint_fingerprint(copy)]
    for name in names:
        change(copy, name)  # and those before it
        seen.append(checkpoint_fingerprint(copy))
    assert len(set(seen)) == len(seen)


def test_new_weights_under_an_old_name_are_asked_anew(tiny_checkpoint, videos, tmp_path, monkeypatch):
    row = {"video": videos[0], "video_id": "v", "q_type": "What", "OCR": 0, "question": "Who?", "answer": "B"}
    rows = [{**row, "question_id": i, "options": ["A. Red.", "B. Blue.", "C. No."]} for i in range(2)]
    path = write_lines(tmp_path / "qa.jsonl", rows)
    asked = []
    real = checkpoint_predictor.CheckpointPredictor.answer

    def answer(self, items):
        asked.extend(item.id for item in items)
        return real(self, items)

    monkeypatch.setattr(checkpoint_predictor.CheckpointPredictor, "answer", answer)
    changed = Path(shutil.copytree(tiny_checkpoint, tmp_path / tiny_checkpoint.name))
    change(changed, "model.norm.weight")
    n_asked = []
    for model in (tiny_checkpoint, tiny_checkpoint, changed):
        flags = ("--model_name_or_path", model, "--benchmark_path", path, "--video_dir", Path(videos[0]).parent)
        asked.clear()
        run_main(sports.main, monkeypatch, *flags, "--device", "cpu", "--output_dir", tmp_path / "results")
        n_asked.append(len(asked))
    assert n_asked == [2, 0, 2]
