"""Samples of every kind as examples and batches; what cannot be used comes out with its cause."""

import io
import json
import pickle
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.loading.collate import collate
from data.loading.dataset import AnnotationDataset, BadSample, DataArguments, Example, SampleEncoder
from data.loading.loader import LoaderOptions, SampleLoader
from data.loading.mixing import MixedOrder
from data.nano.tokenizer import train_tokenizer
from data.preview.model_view import frames_from_patches, view_turns
from data.samples.conversation import IGNORED, ChatFormat
from data.samples.elements import TextElement
from data.samples.patches import cut_patches
from data.samples.vision_cache import VisionCache
from data.video.decode_cache import DecodeCache
from data.video.frame_plan import VideoLimits
from tests.videos import frame_number, make_video, numbered_frame, read_with_opencv
from utils.arguments import parse_arguments
from utils.errors import UserError

LIMITS = VideoLimits(min_pixels=4 * 28 * 28, total_pixels=120 * 28 * 28)
VIDEO, OTHER, IMAGE = "videos/odd9_320x180.mp4", "videos/bikes.mp4", "images/grad_320x200.png"
SPEECH = [[0.2, 0.6, "red"], [1.0, 1.4, "passes"], [4.0, 4.4, "..."], [4.6, 5.2, "saved"], [50, 51, "later"]]


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(train_tokenizer())


@pytest.fixture
def open_samples(tmp_path, repository, chat):
    """Write samples to a file beside the golden media and open it; keyword arguments go to the encoder."""
    for name in ("videos", "images"):
        (tmp_path / name).symlink_to(repository / "tests/golden" / name)

    def open_them(*samples, **settings) -> AnnotationDataset:
        path = tmp_path / "samples.jsonl"
        path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
        return AnnotationDataset([str(path)], SampleEncoder(chat, LIMITS, "mrope", **settings))

    return open_them


def talk(*content, answer="Yes.") -> list:
    return [{"role": "user", "content": list(content)}, {"role": "assistant", "content": answer}]


def video(path=VIDEO, **fields) -> dict:
    return {"type": "video", "video": path, **fields}


def image(path=IMAGE) -> dict:
    return {"type": "image", "image": path}


def text(words: str, **fields) -> dict:
    return {"type": "text", "text": words, **fields}


def stream(*content, words=SPEECH) -> list:
    content = content or (video(), text("Describe."))
    spoken = {"type": "text_stream", "text_stream": words}
    return [{"role": "user", "content": list(content)}, {"role": "assistant", "content": [spoken]}]


def trained(example: Example, chat: ChatFormat) -> str:
    return chat.tokenizer.decode(example.labels[example.labels != IGNORED])


def check(example: Example, chat: ChatFormat) -> None:
    """What holds for every example, whatever its kind."""
    n_tokens, n_patches = len(example.input_ids), len(example.patches)
    assert example.labels.shape == (n_tokens,) and example.position_ids.shape == (3, n_tokens)
    assert example.patches.shape == (n_patches, 1176) and example.patches.dtype == torch.uint8
    assert example.grid_thw.shape == (len(example.kinds), 3)
    assert int(example.grid_thw.prod(1).sum()) == n_patches
    pads = {"image": chat.image_pad, "video": chat.video_pad}
    for kind, pad in pads.items():
        grids = [grid for k, grid in zip(example.kinds, example.grid_thw, strict=True) if k == kind]
        assert int((example.input_ids == pad).sum()) == sum(int(grid.prod()) // 4 for grid in grids)
    is_trained = example.labels != IGNORED
    assert bool(is_trained.any())
    assert torch.equal(example.labels[is_trained], example.input_ids[is_trained])


MIX = {
    "stream": (
        stream(),
        ["video"] * 4,
        "red passes ...<|im_end|> ...<|im_end|> ...<|im_end|>saved ...<|im_end|>",
    ),
    "window": (stream(video(video_start=1.0, video_end=6.0)), ["video"] * 3, None),
    "video question": (talk(video(), text("Which?")), ["video"], "Yes.<|im_end|>"),
    "part of a video": (talk(video(video_start=2, video_end=4), text("Which?")), ["video"], "Yes.<|im_end|>"),
    "two videos": (talk(video(), text("or"), video(OTHER)), ["video", "video"], "Yes.<|im_end|>"),
    "image": (talk(image(), text("What?")), ["image"], "Yes.<|im_end|>"),
    "images and a video": (talk(image(), image(), video()), ["image", "image", "video"], "Yes.<|im_end|>"),
    "text": (talk(text("Hi")), [], "Yes.<|im_end|>"),
    "turns": (
        [*talk(video(), text("a")), *talk(text("b"), answer="No.")],
        ["video"],
        "Yes.<|im_end|>No.<|im_end|>",
    ),
    "system": ([{"role": "system", "content": "Be terse."}, *talk(text("Hi"))], [], "Yes.<|im_end|>"),
    "stream with system": ([{"role": "system", "content": "Be terse."}, *stream()], ["video"] * 4, None),
}


@pytest.mark.parametrize("name", MIX)
def test_every_kind_of_sample_becomes_an_example(name, open_samples, chat):
    sample, kinds, spoken = MIX[name]
    example = open_samples(sample)[0]
    assert isinstance(example, Example), example
    check(example, chat)
    assert example.kinds == kinds
    assert spoken is None or trained(example, chat) == spoken
    assert chat.tokenizer.decode(example.input_ids).startswith("<|im_start|>system\n")


def test_each_turn_shows_its_own_pictures(open_samples, chat, tmp_path):
    """Pictures, films and windows over several turns, all of one size: every block holds its own frames."""
    for number in (5, 9):
        Image.fromarray(numbered_frame(number, 84, 168)).save(tmp_path / f"Bild ß{number}.png")
    films = [make_video(tmp_path / f"Spiel {n}.mp4", 100, size_hw=(84, 168), first=n) for n in (0, 300)]
    first, later = (read_with_opencv(film) for film in films)
    question = [image("Bild ß9.png"), image("Bild ß5.png"), text("a")]
    sample = talk(*question) + talk(video("Spiel 300.mp4", video_start=1.0, video_end=2.0), text("b"))
    sample += talk(video("Spiel 0.mp4", video_start=2.0, video_end=3.0), image("Bild ß5.png"), text("c"))
    turns = view_turns(open_samples(sample)[0], chat)
    shown = [[frame.numpy() for frame in block.frames] for turn in turns for block in turn.blocks]
    five, nine = (numbered_frame(number, 84, 168).transpose(2, 0, 1) for number in (5, 9))
    expected = [[nine], [five], later[[25, 33, 42, 50]], first[[50, 58, 67, 75]], [five]]
    assert all(np.array_equal(one, other) for one, other in zip(shown, expected, strict=True))
    assert [len(turn.blocks) for turn in turns] == [0, 2, 0, 1, 0, 2, 0]


def test_an_example_is_what_the_librarys_processor_makes(open_samples, repository, tmp_path):
    """transformers' own template, tokens, grids and patches, for two turns with pictures and films of several sizes."""
    from data.samples.checkpoint_config import load_processor  # here, for spawned workers import this file
    from models.vision import normalize_patches

    processor, _ = load_processor(repository / "tests/golden/tiny_model")
    for number, size_hw in ((5, (84, 168)), (9, (56, 84))):
        Image.fromarray(numbered_frame(number, *size_hw)).save(tmp_path / f"{number}.png")
    make_video(tmp_path / "a.mp4", 100, size_hw=(56, 112))
    make_video(tmp_path / "b.mp4", 75, size_hw=(112, 56), first=300)
    sample = talk(image("5.png"), video("a.mp4"), text("Wer führt?")) + talk(
        video("b.mp4"), image("9.png"), text("Und?")
    )
    dataset = open_samples(sample)
    dataset.encoder.chat = ChatFormat(processor.tokenizer)
    example = dataset[0]
    frames = [read_with_opencv(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    chosen = [
        film[np.linspace(0, len(film) - 1, n).round().astype(int)] for film, n in zip(frames, (8, 6), strict=True)
    ]
    pictures = [Image.open(tmp_path / name) for name in ("5.png", "9.png")]
    written = processor.apply_chat_template(as_the_library_has_it(sample), tokenize=False)
    assert example.chat_text == written
    made = processor(text=[written], images=pictures, videos=chosen, do_resize=False, do_sample_frames=False)
    assert example.input_ids.tolist() == np.asarray(made["input_ids"])[0].tolist()
    sizes = example.grid_thw.prod(1).tolist()
    pieces = dict(zip(range(4), example.patches.split(sizes), strict=True))
    for kind, places, name in (("image", (0, 3), "pixel_values"), ("video", (1, 2), "pixel_values_videos")):
        assert [example.kinds[place] for place in places] == [kind, kind]
        assert example.grid_thw[list(places)].tolist() == np.asarray(made[f"{kind}_grid_thw"]).tolist()
        ours = normalize_patches(torch.cat([pieces[place] for place in places]), torch.float32)
        assert torch.allclose(ours, torch.as_tensor(np.asarray(made[name])), atol=1e-5)


def as_the_library_has_it(sample: list) -> list:
    """The messages with their contents as lists of elements."""
    return [
        {**message, "content": [text(content)] if isinstance(content := message["content"], str) else content}
        for message in sample
    ]


def test_a_stream_in_detail(open_samples, chat):
    example = open_samples(stream())[0]
    assert example.grid_thw[:, 0].tolist() == [3, 1, 1, 1]
    assert example.chat_text.count("Time=") == 4 and "Time=5.0-6.0s" in example.chat_text
    assert example.counts["dots"] == 1 and example.counts["outside"] == 1 and example.counts["spoken"] == 3
    assert example.counts["frames_used"] == 12 < example.counts["frames"] == len(example.frame_times_s)
    assert example.frame_times_s[:4].tolist() == [0.0, 0.5, 1.0, 1.5]


def test_questions_are_asked_when_the_clip_has_ended(open_samples, chat):
    """Trained on as the streaming loop asks them: after every step, silent ones included, one user turn each."""
    asked = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Red."}]
    plain, example = open_samples(stream(), [*stream(), *asked])
    assert example.counts["frames_used"] == example.counts["frames"] > plain.counts["frames_used"]
    assert example.chat_text.startswith(plain.chat_text)
    assert example.chat_text.endswith(
        " ...<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nRed.<|im_end|>\n"
    )
    assert trained(example, chat).endswith(" ...<|im_end|>Red.<|im_end|>")
    check(example, chat)


def asked(*questions, words=SPEECH) -> list:
    """A stream with questions in mid-stream: (time, question, answer)."""
    sample = stream(words=words)
    sample[1]["content"][0]["qa_stream"] = [[i, *question] for i, question in enumerate(questions)]
    return sample


def test_a_question_in_mid_stream_is_asked_at_its_time(open_samples, chat):
    """After the last step that has ended by then, as a turn of text, and its answer is trained on."""
    example = open_samples(asked((4.0, "Who?", "Red."), (4.9, "Where?", "Left."), (0.5, "What?", "A game.")))[0]
    assert trained(example, chat) == (
        "red passes ...<|im_end|>A game.<|im_end|> ...<|im_end|>Red.<|im_end|>Left.<|im_end|> ...<|im_end|>"
        "saved ...<|im_end|>"
    )
    assert (
        "Time=3.0-4.0s<|vision_start|><|video_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\n ...<|im_end|>\n"
        "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nRed.<|im_end|>\n<|im_start|>user\nWhere?"
    ) in example.chat_text
    assert example.counts["questions"] == 3 and example.counts["questions_outside"] == 0
    check(example, chat)


def test_silence_is_kept_up_to_the_last_question(open_samples, chat):
    plain, late, silent = open_samples(
        stream(), asked((8.0, "Over?", "No.")), asked((4.0, "Who?", "Red."), words=[[1, 2, "..."]])
    )
    assert late.counts["steps"] == 6 > plain.counts["steps"]
    assert trained(late, chat) == trained(plain, chat) + " ...<|im_end|>" * 2 + "No.<|im_end|>"
    assert trained(silent, chat) == " ...<|im_end|> ...<|im_end|>Red.<|im_end|>"


def test_questions_outside_the_clip_are_counted(open_samples):
    sample = asked((0.5, "Early?", "Yes."), (5.0, "In time?", "Yes."), (60.0, "Late?", "Yes."))
    sample[0]["content"][0].update(video_start=2.0, video_end=8.0)
    example = open_samples(sample)[0]
    assert (example.counts["questions"], example.counts["questions_outside"]) == (1, 2)
    assert "In time?" in example.chat_text and "Late?" not in example.chat_text and "Early?" not in example.chat_text
    only_late = asked((60.0, "Late?", "Yes."), words=[[1, 2, "..."]])
    assert open_samples(only_late)[0].cause == "no_words"


def frames_shown(example: Example) -> int:
    return int(example.grid_thw[0, 0]) * 2


def test_qwens_keys_choose_frames_and_their_size(open_samples, chat):
    """Without keys a question about this film of 9 s gets 18 frames."""
    keys = (
        {}, {"fps": 1.0}, {"nframes": 7}, {"fps": 1, "max_frames": 5}, {"fps": 0.1, "min_frames": 5},
        {"max_pixels": 5 * 28 * 28}, {"min_pixels": 60 * 28 * 28, "total_pixels": 10**7},
        {"resized_height": 60, "resized_width": 85},
    )  # fmt: skip
    examples = open_samples(*(talk(video(**asked_for), text("Which?")) for asked_for in keys))
    shown = [
        (frames_shown(example), *(example.grid_thw[0, 1:] * 14).tolist())
        for example in map(examples.__getitem__, range(8))
    ]
    assert [n for n, _, _ in shown] == [18, 8, 8, 4, 6, 18, 18, 18]
    sizes = [h * w for _, h, w in shown]
    assert sizes[5] <= 5 * 28 * 28 < sizes[0] < 60 * 28 * 28 <= sizes[6] and shown[7][1:] == (56, 84)
    bad = open_samples(talk(video(nframes=500), text("Which?")), talk(video(resized_height=2000, resized_width=2000)))
    assert bad[0].cause == bad[1].cause == "broken_video"
    assert "nframes 500" in bad[0].message and "1988x1988" in bad[1].message


def test_an_image_is_as_large_as_its_element_says(open_samples):
    asked_for = (
        {},
        {"max_pixels": 4 * 28 * 28},
        {"min_pixels": 400 * 28 * 28},
        {"resized_height": 60, "resized_width": 90},
    )
    dataset = open_samples(*(talk({**image(), **keys}) for keys in asked_for))
    sizes = [(dataset[i].grid_thw[0, 1:] * 14).tolist() for i in range(4)]
    assert sizes[1] == [28, 56] and sizes[3] == [56, 84] and sizes[2][0] * sizes[2][1] >= 400 * 28 * 28
    assert sizes[1][0] < sizes[0][0] < sizes[2][0]


def numbers(example: Example, chat: ChatFormat) -> list[int]:
    """The numbers of the frames that a sample shows."""
    blocks = [block for turn in view_turns(example, chat) for block in turn.blocks]
    return [frame_number(frame.numpy()) for block in blocks for frame in block.frames]


def test_frames_may_lie_in_a_folder_or_be_listed(open_samples, chat, tmp_path):
    (tmp_path / "frames").mkdir()
    for number in range(20):
        Image.fromarray(numbered_frame(number, 56, 112)).save(tmp_path / f"frames/{number}.png")
    listed = [f"frames/{number}.png" for number in (3, 9, 12)]
    words = [[0.2, 0.6, "red"], [3.1, 3.4, "wins"]]
    samples = (
        talk(video("frames"), text("Which?")),
        talk(video("frames", sample_fps=4), text("Which?")),
        talk(video("frames", sample_fps=1, video_start=2, video_end=7.5, nframes=2), text("Which?")),
        talk(video(listed), text("Which?")),
        stream(video("frames", sample_fps=4), words=words),
        stream(video(listed[:2] * 4, sample_fps=2), words=words),
    )
    dataset = open_samples(*samples)
    shown = [numbers(dataset[i], chat) for i in range(6)]
    assert shown[0] == list(range(20))
    assert shown[1] == [0, 2, 4, 6, 8, 11, 13, 15, 17, 19]  # 5 s
    assert shown[2] == [2, 7]
    assert shown[3] == [3, 9, 12, 12]  # all, made even
    assert shown[4] == list(range(0, 16, 2)) and shown[5] == [3, 9] * 4
    cached = VisionCache(tmp_path / "cache", tower="0" * 16, dtype=torch.float32, hidden=8)
    kept = open_samples(*samples, vision_cache=cached)
    before = [kept[i].parts[0].made_of for i in range(6)]
    Image.fromarray(numbered_frame(1, 56, 112)).save(tmp_path / "frames/3.png")
    assert all(kept[i].parts[0].made_of["request"] != before[i]["request"] for i in range(6))
    (tmp_path / "frames/3.png").unlink()
    assert kept[3].cause == "missing_file" and "frames/3.png" in kept[3].message


def test_a_folder_without_images_is_a_bad_sample(open_samples, tmp_path):
    (tmp_path / "nothing").mkdir()
    bad = open_samples(talk(video("nothing"), text("Which?")), talk(image("nothing")))
    assert bad[0].cause == "broken_video" and "holds no image" in bad[0].message
    assert bad[1].cause == "missing_file" and "is a folder" in bad[1].message


def test_media_of_all_files_are_in_the_media_root(tmp_path, repository, chat):
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(talk(image("grad_320x200.png"))) + "\n")
    encoder = SampleEncoder(chat, LIMITS, "mrope")
    assert AnnotationDataset([str(path)], encoder)[0].cause == "missing_file"
    root = repository / "tests/golden/images"
    assert isinstance(AnnotationDataset([str(path)], encoder, str(root))[0], Example)


def test_a_short_clip_is_one_step(open_samples):
    example = open_samples(stream(video(video_start=0, video_end=0.9)))[0]
    assert example.grid_thw[:, 0].tolist() == [1]
    assert "Time=0.0-3.0s" in example.chat_text and "<|im_start|>assistant\nred ...<|im_end|>" in example.chat_text
    assert example.counts["outside"] == 3


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"video_start": 2.0, "video_end": 7.0}, "4 of 11 words lie outside the clip, which runs from 2 s to"),
        ({"video_start": 0.0, "video_end": 2.9}, "5 of 11 words lie outside the clip, which runs from 0 s to"),
    ],
    ids=["times from the clip's start", "times behind its end"],
)
def test_words_of_another_minute_are_refused(open_samples, window, message):
    """Words a half second each: some fall into the clip by chance, and would be taught beside the wrong picture."""
    words = [[i / 2, i / 2 + 0.4, f"w{i}"] for i in range(11)]  # the film has 6 s
    bad = open_samples(stream(video(**window), text("Describe."), words=words))[0]
    assert bad.cause == "words_outside_clip" and message in bad.message and "add it" in bad.message


def test_packed_frames_are_read(open_samples, chat, tmp_path):
    images = [io.BytesIO() for _ in range(3)]
    for number, file in enumerate(images, 5):
        Image.fromarray(numbered_frame(number, 56, 112)).save(file, "PNG")
    (tmp_path / "packed.bin").write_bytes(b"".join(file.getvalue() for file in images))
    ends = np.cumsum([len(file.getvalue()) for file in images]).tolist()
    example = open_samples(talk(video("packed.bin", pos=ends), text("What?")))[0]
    assert isinstance(example, Example), example
    check(example, chat)
    assert example.kinds == ["video"]
    (block,) = view_turns(example, chat)[1].blocks
    assert [frame_number(frame.numpy()) for frame in block.frames] == [5, 7]  # two of three: an even number


def test_context_joins_the_query(open_samples):
    query = text("Go on.", previous="earlier speech", title="Bikes")
    titled = text("Go on.", title="Bikes")
    plain = open_samples(stream(video(), query))[0]
    assert "<|vision_end|>Go on.<|im_end|>" in plain.chat_text
    both = open_samples(stream(video(), query), stream(video(), titled), with_context=True)
    assert "<|vision_end|>Go on.\n\nearlier speech<|im_end|>" in both[0].chat_text
    assert "<|vision_end|>Go on.\nBikes<|im_end|>" in both[1].chat_text


def test_earlier_speech_is_cut_at_words_to_fit(open_samples):
    previous = " ".join(f"word{i}" for i in range(400))
    sample = stream(video(), text("Go on.", previous=previous))
    whole = open_samples(sample, with_context=True)[0]
    limit = len(whole.input_ids) - 500
    short = open_samples(sample, with_context=True, max_length=limit)[0]
    assert limit - 12 < len(short.input_ids) <= limit
    n_cut = short.counts["previous_words_cut"]
    kept = previous.split(" ")[n_cut:]
    assert 0 < n_cut < 400 and f"Go on.\n\n{' '.join(kept)}<|im_end|>" in short.chat_text
    assert whole.counts.get("previous_words_cut", 0) == 0


def test_a_sample_too_long_without_earlier_speech_is_bad(open_samples):
    sample = stream(video(), text("Go on.", previous="earlier speech"))
    for settings in ({"with_context": True}, {}):
        bad = open_samples(sample, max_length=60, **settings)[0]
        assert isinstance(bad, BadSample) and bad.cause == "too_long"
        assert "over the limit of 60" in bad.message and "--max_length" in bad.message


BROKEN = {
    "missing_file": stream(video("videos/none.mp4")),
    "broken_video": stream(video(IMAGE.replace("images", "broken"))),
    "broken_image": talk(image("broken/grad_320x200.png")),
    "words_outside_clip": stream(words=[[90, 91, "late"]]),
    "no_words": stream(words=[[1, 2, "..."], [2, 3, " "]]),
    "words_out_of_order": stream(words=[[2, 3, "b"], [1, 2, "a"]]),
    "no_answer": [{"role": "user", "content": "Hi"}],
}


@pytest.mark.parametrize("cause", BROKEN)
def test_a_bad_sample_says_where_and_why(cause, open_samples, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/grad_320x200.png").write_bytes(b"not a picture")
    dataset = open_samples(talk(text("Hi")), BROKEN[cause])
    bad = dataset[1]
    assert isinstance(bad, BadSample)
    assert (bad.cause, bad.line_no, Path(bad.path).name) == (cause, 2, "samples.jsonl")
    assert bad.message.startswith(f"{bad.path}:2: ")
    assert isinstance(dataset[0], Example)


def test_a_blind_example_differs_in_its_pixels_only(open_samples):
    seeing = open_samples(stream(), talk(image()))[0]
    dataset = open_samples(stream(), stream(), blind=True)
    blind, other = dataset[0], dataset[1]
    assert torch.equal(seeing.input_ids, blind.input_ids)
    assert torch.equal(seeing.grid_thw, blind.grid_thw)
    assert torch.equal(blind.patches, dataset[0].patches)
    assert not torch.equal(blind.patches, other.patches)
    assert blind.patches.shape == seeing.patches.shape
    assert abs(blind.patches.float().mean().item() - 127.5) < 2


def test_decoded_frames_can_be_kept(open_samples, tmp_path):
    cache = DecodeCache(tmp_path / "cache")
    dataset = open_samples(stream(), talk(video(), text("Which?")), decode_cache=cache)
    plain = [dataset[0], dataset[1]]
    for example, again in zip(plain, (dataset[0], dataset[1]), strict=True):
        assert torch.equal(example.patches, again.patches)
        assert torch.equal(example.frame_times_s, again.frame_times_s)
    assert len([file for file in (tmp_path / "cache").rglob("*") if file.is_file()]) == 2


def test_several_files_follow_each_other(tmp_path, chat):
    for name, count in (("a", 2), ("b", 3)):
        lines = [json.dumps(talk(text(f"{name}{i}"))) for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    paths = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    dataset = AnnotationDataset(paths, SampleEncoder(chat, LIMITS, "mrope"))
    texts = [dataset.sample(i).messages[0].elements[0] for i in range(len(dataset))]
    assert texts == [TextElement(name) for name in ("a0", "a1", "b0", "b1", "b2")]
    assert collate([dataset[i] for i in (0, 4, 1, 2)], chat.pad)["sources"] == [0, 1, 0, 1]
    for i in (-1, 5):
        with pytest.raises(IndexError):
            dataset[i]
    with pytest.raises(UserError, match=r"none\.jsonl"):
        AnnotationDataset([*paths, "none.jsonl"], dataset.encoder)


def test_two_files_come_as_they_are_mixed_from_two_workers(tmp_path, chat):
    sizes, paths = (4, 6), [tmp_path / "Erste.jsonl", tmp_path / "Zweite ü.jsonl"]
    for path, size in zip(paths, sizes, strict=True):
        samples = [talk(text(f"{path.stem} {i}.")) for i in range(size)]
        samples[1] = talk(video("none.mp4"), text("Which?"))
        path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    dataset = AnnotationDataset(paths, SampleEncoder(chat, LIMITS, "mrope"))
    order = MixedOrder(sizes, (1.0, 2.0), seed=3)
    loader = SampleLoader(dataset, order, list, LoaderOptions(2, num_workers=2, max_bad_samples=0.9))
    drawn = [example for batch in islice(loader, 5) for example in batch]
    loader.close()
    names = [f"{path.stem} {i}." for path, size in zip(paths, sizes, strict=True) for i in range(size)]
    expected = [names[i] for i in islice(order.from_position(0), 40) if i not in (1, 5)][:10]
    assert [re.search(r"user\n(.*)<", example.chat_text)[1] for example in drawn] == expected
    assert [example.source for example in drawn] == [int(name.startswith("Zweite")) for name in expected]
    assert len({name.split()[0] for name in expected}) == 2 and loader.bad.by_cause().keys() == {"missing_file"}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_make_the_same_examples(open_samples, method):
    dataset = open_samples(stream(), talk(image(), text("What?")), stream(words=[[90, 91, "late"]]))
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=method, collate_fn=as_it_is)
    here, there = [dataset[i] for i in range(3)], list(loader)
    assert here[2] == there[2]
    for a, b in zip(here[:2], there[:2], strict=True):
        assert torch.equal(a.input_ids, b.input_ids) and torch.equal(a.patches, b.patches)
        assert a.counts == b.counts


def as_it_is(item):
    """A collate function that a spawned worker can import."""
    return item


def test_a_batch_is_padded_on_the_right(open_samples, chat):
    dataset = open_samples(stream(), talk(image(), text("What?")), talk(text("Hi")))
    examples = [dataset[i] for i in range(3)]
    batch = collate(examples, chat.pad)
    longest = max(len(example.input_ids) for example in examples)
    assert batch["input_ids"].shape == batch["labels"].shape == (3, longest)
    assert batch["position_ids"].shape == (3, 3, longest) and batch["position_ids"].is_contiguous()
    for i, example in enumerate(examples):
        n = len(example.input_ids)
        assert torch.equal(batch["input_ids"][i, :n], example.input_ids)
        assert torch.equal(batch["position_ids"][:, i, :n], example.position_ids)
        assert bool((batch["input_ids"][i, n:] == chat.pad).all())
        assert bool((batch["labels"][i, n:] == IGNORED).all())
    assert torch.equal(batch["patches"], torch.cat([example.patches for example in examples]))
    assert batch["grid_thw"].tolist() == [grid for e in examples for grid in e.grid_thw.tolist()]


def test_a_text_only_batch_has_no_patches(open_samples, chat):
    batch = collate([open_samples(talk(text("Hi")))[0]], chat.pad)
    assert batch["patches"].shape == (0, 1176) and batch["grid_thw"].shape == (0, 3)


def test_examples_can_be_viewed_from_ids_and_patches(open_samples, chat):
    example = open_samples(stream())[0]
    turns = view_turns(example, chat)
    assert [turn.role for turn in turns] == ["system"] + ["user", "assistant"] * 4
    assert [part.text for part in turns[2].texts] == ["red passes ..."]
    assert turns[2].n_trained == len(turns[2].texts[0].ids) + 1
    assert [len(turn.blocks[0].frames) for turn in turns[1::2]] == [6, 2, 2, 2]
    assert turns[3].blocks[0].times_s == [3.0, 3.5]
    assert sum(turn.n_tokens for turn in turns) == len(example.input_ids)


def test_patches_are_put_together_again():
    frames = torch.randint(0, 256, (4, 3, 56, 84), dtype=torch.uint8)
    patches, grid = cut_patches(frames)
    assert torch.equal(frames_from_patches(patches, grid), frames)


def test_arguments_have_the_published_defaults():
    (arguments,) = parse_arguments(DataArguments, description="", argv=["--annotation_paths", "a.jsonl", "b.jsonl"])
    assert arguments.annotation_paths == ["a.jsonl", "b.jsonl"]
    assert (arguments.with_context, arguments.max_length, arguments.frame_times) == (False, 32768, "grid")
    assert pickle.loads(pickle.dumps(arguments)) == arguments
