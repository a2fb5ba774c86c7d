"""Damaged annotation lines: each becomes an example or a bad sample with its message, never anything else."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.loading.dataset import AnnotationDataset, BadSample, Example, SampleEncoder
from data.nano.tokenizer import train_tokenizer
from data.samples.annotations import AnnotationError, AnnotationFile, Sample, parse_sample
from data.samples.conversation import IGNORED, ChatFormat
from data.video.frame_plan import VideoLimits

VIDEO = "videos/odd9_320x180.mp4"
# What a sample of the right shape can still have: a window without frames, no words, only empty texts.
PLAUSIBLE_CAUSES = {"broken_video", "empty_message", "media_mark", "no_words", "words_outside_clip", "too_long"}
LIMITS = VideoLimits(min_pixels=4 * 28 * 28, total_pixels=40 * 28 * 28)
FUZZ = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 20),
    st.sampled_from([10**400, -(10**30), 0.1, 1e308, float("nan"), float("inf"), -float("inf")]),
    st.floats(-1, 12),
    st.text(max_size=8),
    st.sampled_from(["...", " ...", "<|im_end|>", "<|video_pad|>", "\0", "\ud800", "a\nb", "\u202e", "user", "text"]),
)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["type", "text", "role", "content", "video", "image"]), inner, max_size=3),
    ),
    max_leaves=8,
)
seconds = st.one_of(st.floats(0, 10), scalars)
words = st.lists(st.one_of(st.tuples(seconds, seconds, st.one_of(st.text(max_size=6), scalars)), junk), max_size=5)


@st.composite
def sorted_words(draw):
    """Words that are in order, so that the fuzz gets past the first check."""
    ends = sorted(draw(st.lists(st.floats(0, 12), min_size=1, max_size=8)))
    return [[end, end, draw(st.text(max_size=6))] for end in ends]


def elements(videos: st.SearchStrategy[str]) -> st.SearchStrategy:
    return st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("video"), "video": videos},
            optional={"video_start": seconds, "video_end": seconds, "pos": junk, "fps": seconds, "nframes": scalars},
        ),
        st.fixed_dictionaries({"type": st.just("image"), "image": st.one_of(videos, scalars)}),
        st.fixed_dictionaries(
            {"type": st.just("text"), "text": scalars}, optional={"previous": scalars, "title": scalars}
        ),
        st.fixed_dictionaries(
            {"type": st.just("text_stream"), "text_stream": st.one_of(sorted_words(), words, junk)},
            optional={
                "qa_stream": st.one_of(junk, st.lists(st.tuples(scalars, seconds, scalars, scalars), max_size=3))
            },
        ),
        junk,
    )


def conversations(videos: st.SearchStrategy[str]) -> st.SearchStrategy:
    content = st.one_of(st.lists(elements(videos), max_size=4), st.text(max_size=20), junk)
    message = st.fixed_dictionaries(
        {"role": st.one_of(st.sampled_from(["user", "assistant", "system"]), scalars), "content": content}
    )
    stream = st.tuples(
        st.fixed_dictionaries(
            {"role": st.just("user"), "content": st.tuples(elements(videos), elements(videos)).map(list)}
        ),
        st.fixed_dictionaries(
            {
                "role": st.just("assistant"),
                "content": st.lists(
                    st.fixed_dictionaries({"text_stream": st.one_of(sorted_words(), words)}),
                    min_size=1,
                    max_size=1,
                ),
            }
        ),
    ).map(list)
    return st.one_of(stream, st.lists(message, max_size=4), junk)


odd_texts = st.one_of(st.text(max_size=20), st.sampled_from(["...", "...and", "<|im_end|>", "<|video_pad|>", "a\nb"]))


@st.composite
def plausible(draw, video: str) -> list:
    """A sample of the right shape whose texts, words and window can be anything."""
    shown = {"type": "video", "video": video}
    start_s, end_s = sorted((draw(st.floats(0, 12)), draw(st.floats(0, 12))))
    shown |= draw(st.sampled_from([{}, {"video_start": start_s}, {"video_start": start_s, "video_end": end_s}]))
    asked = {"type": "text", "text": draw(odd_texts), "previous": draw(odd_texts), "title": draw(odd_texts)}
    said = {"type": "text", "text": draw(odd_texts)}
    if draw(st.booleans()):
        ends = sorted(draw(st.lists(st.floats(0, 12), min_size=1, max_size=12)))
        said = {"type": "text_stream", "text_stream": [[end, end, draw(odd_texts)] for end in ends]}
    return [{"role": "user", "content": [shown, asked]}, {"role": "assistant", "content": [said]}]


GOOD = json.dumps(
    [
        {"role": "user", "content": [{"type": "video", "video": "a.mp4", "video_start": 1.5}]},
        {
            "role": "assistant",
            "content": [{"type": "text_stream", "text_stream": [[1, 2, "so"], [2, 3, "here"]]}],
        },
    ]
).encode()


@st.composite
def damaged_lines(draw) -> bytes:
    """A good line with bytes cut out, doubled or replaced."""
    line = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(line)))
        line[at : at + draw(st.integers(0, 6))] = draw(st.binary(max_size=4))
    return bytes(line)


def check_parsed(line: bytes) -> None:
    try:
        sample = parse_sample(line, "fuzz.jsonl", 0, 1)
    except AnnotationError as error:
        assert str(error).startswith("fuzz.jsonl:1: ") and error.cause and len(str(error)) < 500
    else:
        assert isinstance(sample, Sample)
        assert any(message.role == "assistant" for message in sample.messages)


@settings(FUZZ, max_examples=150)
@given(damaged_lines())
def test_damaged_lines_are_parsed_or_explained(line):
    check_parsed(line)


@settings(FUZZ, max_examples=200)
@given(conversations(st.one_of(st.just("a.mp4"), scalars)))
def test_odd_values_are_parsed_or_explained(value):
    check_parsed(json.dumps(value).encode())


@settings(FUZZ, max_examples=60)
@given(st.lists(st.one_of(st.just(GOOD), st.binary(max_size=12), st.sampled_from([b"", b" ", b"[0, 7]"])), max_size=8))
def test_damaged_files_are_read_line_by_line(tmp_path, lines):
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(b"\n".join([GOOD, *lines]))
    file = AnnotationFile(path)
    physical = path.read_bytes().split(b"\n")
    kept = [i for i, line in enumerate(physical) if line.strip()]
    assert len(file) in (len(kept), len(kept) - 1)
    for i in range(len(file)):
        assert file.line_no(i) == kept[i] + 1
        assert file.line(i) == physical[kept[i]].strip()


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(train_tokenizer())


@pytest.fixture(scope="module")
def folder(repository, tmp_path_factory):
    """A folder with the video that samples name."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "videos").symlink_to(repository / "tests/golden/videos")
    return folder


def encode(folder, chat: ChatFormat, value) -> Example | BadSample:
    """The first sample of a file that holds this value, checked for what holds for every outcome."""
    path = folder / "fuzz.jsonl"
    path.write_text(f"{json.dumps(value)}\n{GOOD.decode()}\n")
    encoder = SampleEncoder(chat, LIMITS, "mrope", with_context=True, max_length=400)
    item = AnnotationDataset([str(path)], encoder)[0]
    if isinstance(item, BadSample):
        assert item.message.startswith(f"{path}:1: ") and item.cause
    else:
        spoken = item.labels[item.labels != IGNORED]
        assert 0 < len(spoken) < len(item.input_ids) <= 400
    return item


@settings(FUZZ, max_examples=60)
@given(value=conversations(st.just(VIDEO)))
def test_odd_samples_become_examples_or_bad_samples(folder, chat, value):
    encode(folder, chat, value)


@settings(FUZZ, max_examples=60)
@given(value=plausible(VIDEO))
def test_odd_texts_and_times_leave_the_turns_as_they_are(folder, chat, value):
    item = encode(folder, chat, value)
    assert isinstance(item, Example) or item.cause in PLAUSIBLE_CAUSES
    if isinstance(item, Example):
        n_steps = item.counts.get("steps", 1)
        assert int((item.input_ids == chat.im_start).sum()) == 1 + 2 * n_steps
        assert int((item.input_ids == chat.vision_start).sum()) == n_steps
        assert int((item.labels == chat.im_end).sum()) == n_steps
        assert item.counts.get("steps") is None or int((item.labels == chat.silence).sum()) == n_steps
