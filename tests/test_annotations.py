"""Annotation files: access by offset, and a clear message for every malformed sample."""

import json
import logging
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest

from data.samples.annotations import AnnotationError, AnnotationFile, parse_sample, resolve_media
from data.samples.elements import ImageElement, TextElement, VideoElement
from data.samples.questions import Question
from data.samples.words import Word
from utils.errors import UserError

ANSWER = {"role": "assistant", "content": "Yes."}
WORDS = [[0.5, 1.0, "so"], [1.0, 1.5, "here"]]


def chat_line(question: str) -> str:
    return json.dumps([{"role": "user", "content": question}, ANSWER], ensure_ascii=False)


def stream(words=WORDS, **video) -> list:
    user = [{"type": "video", "video": "a.mp4", **video}, {"type": "text", "text": "Describe."}]
    return [
        {"role": "user", "content": user},
        {"role": "assistant", "content": [{"type": "text_stream", "text_stream": words}]},
    ]


def user_with(*elements) -> list:
    return [{"role": "user", "content": list(elements)}, ANSWER]


def asking(*questions, listed: bool = True) -> list:
    """A stream with questions in mid-stream."""
    value = stream()
    value[1]["content"][0]["qa_stream"] = list(questions) if listed else questions[0]
    return value


def write(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.write_bytes(("\n".join(lines) + end).encode())
    return path


def questions(file: AnnotationFile) -> list[str]:
    return [file[i].messages[0].elements[0].text for i in range(len(file))]


def parse(value) -> object:
    line = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_sample(line, "data.jsonl", 6, 7)


TEXTS = [f"question {i} \u2014 \u4f60\u597d" for i in range(200)]


@pytest.mark.parametrize("end", ["", "\n", "\n\n  \n"])
def test_samples_are_found_by_byte_offset(tmp_path, end):
    file = AnnotationFile(write(tmp_path / "a.jsonl", [chat_line(text) for text in TEXTS], end))
    assert questions(file) == TEXTS
    assert [file.line_no(i) for i in (0, 63, 64, 199)] == [1, 64, 65, 200]
    with pytest.raises(IndexError):
        file[200]


@pytest.mark.parametrize("n_samples", [1, 63, 64, 65, 127, 128])
def test_blocks_of_the_index_end_anywhere(tmp_path, n_samples):
    lines = [chat_line(text) for text in TEXTS[:n_samples]]
    file = AnnotationFile(write(tmp_path / "a.jsonl", lines))
    assert questions(file) == TEXTS[:n_samples]
    seeks = write(tmp_path / "b.jsonl", [*lines, json.dumps(list(range(n_samples)))])
    assert questions(AnnotationFile(seeks)) == TEXTS[:n_samples]


def test_blank_lines_count_as_lines_only(tmp_path):
    lines = ["", chat_line("a"), "  ", "\t", chat_line("b"), chat_line("c"), ""]
    file = AnnotationFile(write(tmp_path / "a.jsonl", lines))
    assert questions(file) == ["a", "b", "c"]
    assert [file.line_no(i) for i in range(3)] == [2, 5, 6]
    assert file[1].line_no == 5 and file[1].index == 1
    for start, stop in ((0, 3), (1, 2), (1, 3)):
        assert file.lines(start, stop) == [(file.line_no(i), file.line(i)) for i in range(start, stop)]


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{chat_line('a')}\r\n\r\n{chat_line('b')}\r\n".encode())
    assert questions(AnnotationFile(path)) == ["a", "b"]


@pytest.mark.parametrize("counted", ["bytes", "characters"])
def test_published_seek_lines_are_left_out_whatever_they_count(tmp_path, counted):
    lines = [chat_line(text) for text in TEXTS[:5]]
    sizes = [len(line.encode() if counted == "bytes" else line) + 1 for line in lines]
    seeks = [sum(sizes[:i]) for i in range(5)]
    file = AnnotationFile(write(tmp_path / "a.jsonl", [*lines, json.dumps(seeks)], end=""))
    assert questions(file) == TEXTS[:5]


def test_a_seek_line_that_does_not_fit_is_reported(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        file = AnnotationFile(write(tmp_path / "a.jsonl", [chat_line("a"), "[0, 80, 160]"]))
    assert len(file) == 1
    assert "lists 3 samples, but the file has 1" in caplog.text


def test_a_seek_line_within_the_file_is_an_error(tmp_path):
    file = AnnotationFile(write(tmp_path / "a.jsonl", [chat_line("a"), "[0]", chat_line("b")]))
    with pytest.raises(AnnotationError, match=r"a\.jsonl:2: .*delete this line"):
        file[1]


def test_the_index_is_reused_and_follows_changes_of_the_file(tmp_path):
    path = write(tmp_path / "a.jsonl", [chat_line("a"), chat_line("b")])
    AnnotationFile(path)
    sidecar = tmp_path / "a.jsonl.index"
    built = sidecar.stat().st_mtime_ns
    assert len(AnnotationFile(path)) == 2
    assert sidecar.stat().st_mtime_ns == built
    times = path.stat()
    write(path, [chat_line("b"), chat_line("a")])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size and time: the ends tell
    assert questions(AnnotationFile(path)) == ["b", "a"]
    write(path, [chat_line("c")])
    assert questions(AnnotationFile(path)) == ["c"]


@pytest.mark.parametrize("damage", [b"", b"JSONLIX1", b"\0" * 500])
def test_a_damaged_index_is_rebuilt(tmp_path, damage):
    path = write(tmp_path / "a.jsonl", [chat_line("a"), chat_line("b")])
    AnnotationFile(path)
    (tmp_path / "a.jsonl.index").write_bytes(damage)
    assert questions(AnnotationFile(path)) == ["a", "b"]
    assert [entry.name for entry in tmp_path.iterdir() if "index" in entry.name] == ["a.jsonl.index"]


def test_an_index_cut_short_is_rebuilt(tmp_path):
    path = write(tmp_path / "a.jsonl", [chat_line(text) for text in TEXTS])
    AnnotationFile(path)
    sidecar = tmp_path / "a.jsonl.index"
    sidecar.write_bytes(sidecar.read_bytes()[:-100])
    assert questions(AnnotationFile(path)) == TEXTS


def test_a_read_only_folder_has_its_index_in_the_cache(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "published"
    folder.mkdir()
    path = write(folder / "a.jsonl", [chat_line("a")])
    folder.chmod(0o555)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING):
        assert questions(AnnotationFile(path)) == ["a"]
    assert "read-only" in caplog.text and str(tmp_path / "cache") in caplog.text
    assert [entry.name for entry in folder.iterdir()] == ["a.jsonl"]
    caplog.clear()
    assert questions(AnnotationFile(path)) == ["a"]
    assert not caplog.text
    folder.chmod(0o755)


def test_a_file_without_line_ends_is_one_sample(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"x" * (3 << 20))
    with pytest.raises(AnnotationError, match=r"a\.json:1: not JSON"):
        AnnotationFile(path)[0]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"[0, 10]\n"])
def test_a_file_without_samples_is_refused(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match="holds no samples"):
        AnnotationFile(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such annotation file"):
        AnnotationFile(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="is not a file"):
        AnnotationFile(tmp_path)


def _first_question(file: AnnotationFile) -> str:
    return questions(file)[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_it(tmp_path, method):
    file = AnnotationFile(write(tmp_path / "a.jsonl", [chat_line("a"), chat_line("b")]))
    assert questions(file) == ["a", "b"]
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_first_question, (file,)) == "a"


def test_a_file_that_changed_before_a_worker_opens_it_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", [chat_line("a")])
    state = pickle.dumps(AnnotationFile(path))
    write(path, [chat_line("b"), chat_line("a")])
    with pytest.raises(UserError, match="changed while it was in use"):
        pickle.loads(state)


def test_a_stream_is_parsed():
    value = stream(video_start=1, video_end=9.5)
    value[0]["content"][1].update(previous="before", title="Bikes", category=None)
    sample = parse(value)
    assert sample.is_stream and sample.where == "data.jsonl:7"
    assert sample.video == VideoElement("a.mp4", 1.0, 9.5)
    assert sample.query == TextElement("Describe.", "before", "Bikes")
    assert sample.words.words == [Word(0.5, 1.0, "so"), Word(1.0, 1.5, "here")]


def test_questions_may_follow_a_stream():
    asked = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Red."}]
    sample = parse([{"role": "system", "content": "Be terse."}, *stream(), *asked])
    assert sample.is_stream and sample.query.text == "Describe."
    assert [message.elements[0].text for message in sample.questions] == ["Who?", "Red."]
    assert parse(stream()).questions == []


def test_published_forms_of_elements_are_read():
    packed = {"type": "video", "video": "a.bin", "pos": [100, 250]}
    sample = parse(
        [
            {"role": "system", "content": "Be terse."},
            {"role": "user", "content": [packed, {"image": "b.png"}, {"text": "Hm?", "type": "text"}]},
            ANSWER,
        ]
    )
    assert not sample.is_stream
    expected = [VideoElement("a.bin", pos=[100, 250]), ImageElement("b.png"), TextElement("Hm?")]
    assert sample.messages[1].elements == expected


NAN = float("nan")
MALFORMED = {
    "cut line": (b'[{"role": "us', "malformed_json", "not JSON.*near"),
    "latin-1": ("[{'é".encode("latin-1"), "malformed_json", "not UTF-8"),
    "deep": (b"[" * 200_000, "malformed_json", "cannot be read"),
    "long number": (b"[" + b"9" * 5000 + b"]", "malformed_json", "cannot be read"),
    "half a character": (b'[{"role":"user","content":"\\ud83d"}]', "malformed_json", "surrogate"),
    "object": ({"messages": []}, "malformed_sample", "list of messages"),
    "no messages": ([], "empty_conversation", "empty"),
    "no roles": ([{"content": "a"}], "malformed_sample", "role of message 0.*None"),
    "unknown role": ([{"role": "human", "content": "a"}], "malformed_sample", "'human'"),
    "no content": ([{"role": "user", "content": None}, ANSWER], "malformed_sample", "content of message 0"),
    "no elements": ([{"role": "user", "content": []}, ANSWER], "malformed_sample", "content of message 0"),
    "says nothing": (
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}],
        "empty_message",
        "1",
    ),
    "no answer": ([{"role": "user", "content": "a"}], "no_answer", "nothing to learn"),
    "late system": ([ANSWER, {"role": "system", "content": "a"}], "malformed_sample", "only be the first"),
    "audio": (user_with({"type": "audio", "audio": "a.wav"}), "unknown_element", "'audio'"),
    "list as type": (
        user_with({"type": ["text"], "text": "a"}),
        "unknown_element",
        "type of message 0, element 0",
    ),
    "text is a number": (
        user_with({"type": "text", "text": 3}),
        "malformed_sample",
        "text must be a string: 3",
    ),
    "video is missing": (user_with({"type": "video"}), "malformed_sample", "video must be a string: None"),
    "empty path": (user_with({"type": "image", "image": ""}), "malformed_sample", "path of a file"),
    "address": (user_with({"type": "image", "image": "https://x/a.png"}), "malformed_sample", "download"),
    "shown by assistant": (
        [{"role": "assistant", "content": [{"type": "image", "image": "a"}]}],
        "malformed_sample",
        "only a user",
    ),
    "pos shrinks": (user_with({"type": "video", "video": "a", "pos": [5, 5]}), "malformed_sample", "growing"),
    "pos of text": (user_with({"type": "video", "video": "a", "pos": ["5"]}), "malformed_sample", "growing"),
    "start after end": (stream(video_start=5, video_end=4), "bad_time", r"\[5\.0, 4\.0\]"),
    "start is text": (stream(video_start="5"), "malformed_sample", "video_start.*number of seconds: '5'"),
    "start is NaN": (stream(video_start=NAN), "bad_time", "nan"),
    "end is infinite": (stream(video_end=float("inf")), "bad_time", "inf"),
    "end is huge": (stream(video_end=10**400), "bad_time", "video_end"),
    "start is true": (stream(video_start=True), "malformed_sample", "True"),
    "negative word": (stream([[-1, 0.5, "a"]]), "bad_time", "start of .*word 0.*-1"),
    "word is NaN": (stream([[0, NAN, "a"]]), "bad_time", "end of .*word 0.*nan"),
    "word ends early": (stream([[0, 1, "a"], [2, 1, "b"]]), "bad_time", "word 1 must not end before"),
    "words disordered": (
        stream([[0, 1, "a"], [2, 3, "b"], [1, 2, "c"]]),
        "words_out_of_order",
        "word 2 .*'c'",
    ),
    "word is a pair": (stream([[0, 1]]), "malformed_sample", r"word 0 must be \[start, end, word\]"),
    "word is a number": (stream([[0, 1, 2]]), "malformed_sample", "must be a string: 2"),
    "no words": (stream([]), "no_words", "no words"),
    "words as text": (stream("so here"), "malformed_sample", "list of"),
    "stream without video": (
        [{"role": "user", "content": "a"}, stream()[1]],
        "malformed_sample",
        "one video",
    ),
    "stream of images": (
        [{"role": "user", "content": [{"type": "image", "image": "a"}]}, stream()[1]],
        "malformed_sample",
        "one video",
    ),
    "stream in turns": ([*stream(), *stream()], "malformed_sample", "only questions and answers of text"),
    "stream asked in vain": ([*stream(), {"role": "user", "content": "Who?"}], "malformed_sample", "in turn"),
    "stream after talk": ([user_with({"text": "a"})[0], ANSWER, *stream()], "malformed_sample", "one video"),
    "packed stream": (stream(pos=[10, 20]), "malformed_sample", "packed"),
    "row of another form": ({"conversations": [], "videos": []}, "malformed_sample", "list of messages.*LLaVA"),
    "messages of another form": ([{"from": "human", "value": "a"}], "malformed_sample", "LLaVA"),
    "key of a message": (
        [{"role": "user", "content": "a", "contents": "b"}, ANSWER],
        "unknown_key",
        "'contents'.*did you mean 'content'",
    ),
    "key of a video": (stream(vidoe_start=3), "unknown_key", "'vidoe_start'.*did you mean 'video_start'.*3"),
    "key of a text": (user_with({"type": "text", "text": "a", "titel": "b"}), "unknown_key", "did you mean 'title'"),
    "key of an image": (user_with({"type": "image", "image": "a", "fps": 2}), "unknown_key", "'fps'"),
    "weight": ([{**user_with({"text": "a"})[0], "weight": 0}, ANSWER], "unknown_key", "annotation_weights"),
    "raw rate": (user_with({"type": "video", "video": "a", "raw_fps": 30}), "unknown_key", "sample_fps"),
    "image by address": (user_with({"type": "image_url", "image_url": "a"}), "unknown_element", "mean 'image'"),
    "fps and nframes": (
        user_with({"type": "video", "video": "a", "fps": 1.0, "nframes": 8}),
        "malformed_sample",
        "fps or nframes",
    ),
    "no fps": (user_with({"type": "video", "video": "a", "fps": 0}), "malformed_sample", "fps must be .* above 0.*: 0"),
    "fps is NaN": (user_with({"type": "video", "video": "a", "fps": NAN}), "malformed_sample", "nan"),
    "nframes is true": (user_with({"type": "video", "video": "a", "nframes": True}), "malformed_sample", "True"),
    "half a frame": (user_with({"type": "video", "video": "a", "nframes": 2.5}), "malformed_sample", "whole number"),
    "one side": (user_with({"type": "image", "image": "a", "resized_width": 56}), "malformed_sample", "go together"),
    "frames of a stream": (stream(nframes=8), "malformed_sample", "2 frames a second.*leave out nframes.*8"),
    "fps of a stream": (stream(fps=1), "malformed_sample", "leave out fps.*1"),
    "list without a rate": (
        [stream()[0] | {"content": [{"type": "video", "video": ["a.png"]}]}, stream()[1]],
        "malformed_sample",
        "sample_fps",
    ),
    "window of a list": (
        user_with({"type": "video", "video": ["a.png"], "video_end": 3}),
        "malformed_sample",
        "video_end is not used with a list",
    ),
    "number in a list": (
        user_with({"type": "video", "video": ["a.png", 3]}),
        "malformed_sample",
        "frame 1 .*string: 3",
    ),
    "empty list": (user_with({"type": "video", "video": []}), "malformed_sample", "string"),
    "word as whisperX has it": (stream([{"word": "so", "start": 1}]), "malformed_sample", "whisperX"),
    "word without a time": (stream([[0, 1, "a"], [None, None, "9"]]), "bad_time", "word 1 has no time.*whisperX"),
    "question of three": (asking([5, "Who?", "Red."]), "malformed_sample", r"\[number, time, question, answer\]"),
    "question without an answer": (asking([0, 5, "Who?", " "]), "empty_message", "remove it"),
    "question at no time": (asking([0, None, "Who?", "Red."]), "malformed_sample", "time of .*question 0.*seconds"),
    "questions as text": (asking("Who?", listed=False), "malformed_sample", "qa_stream must be a list"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_sample_has_its_message(name):
    value, cause, pattern = MALFORMED[name]
    with pytest.raises(AnnotationError, match=rf"(?s)^data\.jsonl:7: .*{pattern}") as caught:
        parse(value)
    assert caught.value.cause == cause
    assert len(str(caught.value)) < 400
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.cause, again.line_no) == (str(caught.value), cause, 7)


def test_media_lie_beside_the_file_or_under_the_working_directory(tmp_path, monkeypatch):
    folder, work = tmp_path / "data", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    line = json.dumps(stream()).encode()
    sample = parse_sample(line, str(folder / "a.jsonl"), 0, 3)
    with pytest.raises(AnnotationError) as caught:
        resolve_media("a.mp4", sample)
    assert caught.value.cause == "missing_file"
    assert all(str(place / "a.mp4") in str(caught.value) for place in (folder, work))
    (work / "a.mp4").touch()
    assert resolve_media("a.mp4", sample) == "a.mp4"
    (folder / "a.mp4").touch()
    assert resolve_media("a.mp4", sample) == str(folder / "a.mp4")
    assert resolve_media(str(work / "a.mp4"), sample) == str(work / "a.mp4")


@pytest.mark.parametrize(
    "mark",
    [
        "<video>",
        "<image>",
        "<|video_pad|>",
        "<|image_pad|>",
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<image_1>",
    ],
)
def test_marks_of_media_left_in_texts_are_refused(mark):
    """They would be trained on as text. Words that end a turn are the tokenizer's business: they stay plain text."""
    answer = {"role": "assistant", "content": f"See {mark}"}
    for sample in (
        user_with({"text": f"{mark}\nWhat?"}),
        [user_with({"text": "What?"})[0], answer],
        stream([[0, 1, mark]]),
    ):
        with pytest.raises(AnnotationError, match=r"would be read as text.*element") as caught:
            parse(sample)
        assert caught.value.cause == "media_mark"


@pytest.mark.parametrize(
    "text", ["The `<video>` tag", "<image><url>a.png</url></image>", "a < b > c", "<videos>", "<|im_end|>", "<br>"]
)
def test_tags_that_are_spoken_of_are_text(text):
    assert parse(user_with({"text": text})).messages[0].elements == [TextElement(text)]


def test_keys_of_tables_that_hold_nothing_are_no_keys():
    """Rows of different forms in one table have every column: null where they have no use for it."""
    nulls = {"image": None, "text": None, "fps": None, "whatever": None}
    sample = parse(
        user_with({**nulls, "type": "video", "video": "a.mp4"}, {"video": None, "type": "text", "text": "a"})
    )
    assert sample.messages[0].elements == [VideoElement("a.mp4"), TextElement("a")]


def test_context_may_stand_beside_the_video():
    value = stream(previous="before", title="Bikes")
    assert parse(value).query == TextElement("Describe.", "before", "Bikes")
    value[0]["content"][1]["title"] = "Races"
    assert parse(value).query == TextElement("Describe.", "before", "Races")
    del value[0]["content"][1]
    assert parse(value).query == TextElement("", "before", "Bikes")


def test_questions_in_mid_stream_are_parsed_in_the_order_of_their_times():
    sample = parse(asking([1, 5, "Who?", "Red."], ["", 2.5, "Where?", "Left."]))
    assert sample.words.questions == [Question(2.5, "Where?", "Left."), Question(5.0, "Who?", "Red.")]
    silent = asking([0, 5, "Who?", "Red."])
    silent[1]["content"][0]["text_stream"] = []
    assert parse(silent).words.words == []


def test_qwens_keys_are_read():
    asked = {"fps": 1.0, "min_frames": 4, "max_frames": 8, "max_pixels": 50176.0, "total_pixels": 10**6}
    video = parse(user_with({"type": "video", "video": "a.mp4", **asked})).messages[0].elements[0]
    assert video.asked.given == asked
    frames = parse(user_with({"type": "video", "video": ["a.png", "b.png"], "sample_fps": 1})).messages[0].elements[0]
    assert (frames.video, frames.frames, frames.sample_fps) == ("a.png", ("a.png", "b.png"), 1)
    assert parse(stream(fps=2, max_pixels=50176)).video.asked.given == {"fps": 2, "max_pixels": 50176}


def test_a_media_root_that_is_no_folder_is_refused_at_once(tmp_path):
    path = write(tmp_path / "a.jsonl", [json.dumps(stream())])
    with pytest.raises(UserError, match=r"--media_root .*none: no such folder"):
        AnnotationFile(path, tmp_path / "none")


def test_media_are_looked_for_in_the_media_root_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("root", "data"):
        (tmp_path / folder / "films").mkdir(parents=True)
        (tmp_path / folder / "films/a.mp4").touch()
    (tmp_path / "data/b.mp4").touch()
    path = write(tmp_path / "data/a.jsonl", [json.dumps(stream())])
    sample, plain = AnnotationFile(path, "root")[0], AnnotationFile(path)[0]
    assert resolve_media("films/a.mp4", sample) == "root/films/a.mp4"
    assert resolve_media("films/a.mp4", plain) == str(tmp_path / "data/films/a.mp4")
    assert resolve_media("b.mp4", sample) == str(tmp_path / "data/b.mp4")
    with pytest.raises(AnnotationError, match=rf"{tmp_path}/root/c.mp4 and {tmp_path}/data/c.mp4.*--media_root"):
        resolve_media("c.mp4", sample)
    again = pickle.loads(pickle.dumps(AnnotationFile(path, "root")))
    assert again[0].media_root == "root" and resolve_media("films", again[0], folders=True) == "root/films"


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("file://{here}/my%20film.mp4", "my film.mp4"),
        ("file://localhost{here}/a.mp4", "a.mp4"),
        ("file:{here}/a.mp4", "a.mp4"),
        ("file://a.mp4", "a.mp4"),
        ("file://{here}/100%.mp4", "100%.mp4"),
        ("a%20b.mp4", "a%20b.mp4"),
        ("~/a.mp4", "a.mp4"),
        ("films\\a.mp4", "films/a.mp4"),
        ("caf\u00e9.mp4", "cafe\u0301.mp4"),
        ("cafe\u0301.mp4", "caf\u00e9.mp4"),
    ],
)
def test_names_are_looked_for_as_they_may_be_meant(tmp_path, monkeypatch, written, stored):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / stored).parent.mkdir(exist_ok=True)
    (tmp_path / stored).touch()
    sample = parse_sample(json.dumps(stream()).encode(), str(tmp_path / "a.jsonl"), 0, 1)
    assert Path(resolve_media(written.format(here=tmp_path), sample)) == tmp_path / stored


def test_what_was_tried_in_vain_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    sample = parse_sample(json.dumps(stream()).encode(), str(tmp_path / "a.jsonl"), 0, 1)
    for media, message in (
        ("C:\\data\\a.mp4", "a path of Windows"),
        ("file:///D:/a%20b.mp4", "/D:/a b.mp4.*a path of Windows"),
        ("folder", "is a folder"),
        ("~/none.mp4", f"{Path.home()}/none.mp4"),
    ):
        with pytest.raises(AnnotationError, match=message) as caught:
            resolve_media(media, sample)
        assert caught.value.cause == "missing_file"
