"""Folders and lines as people have them: each is a record, or a rejection that says why."""

import json
import os
import shutil
import unicodedata
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.production.inputs.caption_names import rank_captions
from data.production.inputs.folder_input import FolderInput, FolderOptions
from data.production.inputs.folder_listing import Files, list_folder
from data.production.inputs.jsonl_input import JsonlInput, JsonlOptions, parse_line
from data.production.metadata_filter import MetadataFilter, MetadataOptions
from data.production.record import Record, from_line, to_line
from tests.captions import HAND_MADE_SRT, ROLLED_VTT, ROLLED_WORDS, srt
from tests.test_production_captions import JSON
from tests.videos import make_video, numbered_frame, truncate
from utils.errors import UserError

GERMAN_VTT = "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nund da ist das Tor für München\n"
GERMAN_WORDS = "und da ist das Tor für München"
SAID = {"de": "jetzt die Flanke", "en": "now the cross", "fr": "voilà le centre"}


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(data=st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode())))
def test_any_line_is_a_record_or_a_rejection(data: bytes):
    record = parse_line(data, "videos.jsonl", 7)
    if record.rejection is not None:
        assert "videos.jsonl:7" in record.rejection.detail
    assert from_line(to_line(record)) == record


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder as yt-dlp leaves it, with all that goes wrong in one."""
    folder = tmp_path_factory.mktemp("videos")
    name = "A #1 title [abc_-123456]"
    make_video(folder / f"{name}.mp4")
    info = {"id": "abc_-123456", "title": " A  title\u200b", "categories": ["Sports"], "channel": "Somebody",
            "duration": 99, "height": 1080, "language": "en-US", "license": None, "_type": "video"}  # fmt: skip
    (folder / f"{name}.info.json").write_text(json.dumps(info))
    (folder / f"{name}.de.vtt").write_text(GERMAN_VTT)
    (folder / f"{name}.en.vtt").write_text(ROLLED_VTT)
    (folder / f"{name}.en.json3").write_text("broken")
    (folder / f"{name}.live_chat.json").write_text("{}")
    make_video(folder / "Fußball 进球.mp4")
    for language, said in SAID.items():
        (folder / f"Fußball 进球.{language}.srt").write_text(f"1\n00:00:01,000 --> 00:00:02,500\n{said}\n")
    (folder / "plain").mkdir()
    shutil.copy(folder / f"{name}.mp4", folder / "plain" / "b.mp4")
    truncate(folder / f"{name}.mp4", 0.2, folder / "plain" / "cut.mp4")
    (folder / "plain" / "c.mp4.part").write_bytes(b"x")
    (folder / "plain" / "c.f137.mp4").write_bytes(b"x")
    (folder / "plain" / ".hidden.mp4").write_bytes(b"x")
    (folder / "orphan.en.srt").write_text(HAND_MADE_SRT)
    (folder / "playlist.info.json").write_text('{"_type": "playlist", "title": "all"}')
    (folder / "odd.info.json").write_text('{"title": 3}')
    with open(os.fsencode(folder) + b"/name\xff.mp4", "wb") as file:
        file.write(b"x")
    return folder


def read_all(*folders: Path, size: int = 2, **options) -> list[Record]:
    source = FolderInput(FolderOptions([str(folder) for folder in folders], **options))
    shards = [json.loads(json.dumps(shard)) for shard in source.shards(size)]
    return [from_line(to_line(record)) for shard in shards for record in source.read(shard)]


def test_a_folder_of_yt_dlp_works_as_it_is(videos: Path):
    records = read_all(videos)
    whole = records[0]
    assert whole.id == "A %231 title [abc_-123456].mp4" and whole.video == str(videos / "A #1 title [abc_-123456].mp4")
    assert (whole.title, whole.category, whole.channel, whole.language) == ("A title", "Sports", "Somebody", "en-US")
    assert (whole.height, whole.width, whole.duration_s) == (72, 160, 3.0), "the file knows better than its .info.json"
    assert whole.text == ROLLED_WORDS != GERMAN_WORDS and whole.extra["captions"] == "en.vtt"
    assert whole.extra["captions_left_out"] == {"bleeped": 1, "sound": 1}
    assert len({record.id for record in records}) == len(records) == 8
    fates = {record.id: record.rejection and record.rejection.reason for record in records[1:]}
    reasons = [
        fates.pop(name) for name in ("Fußball 进球.mp4", "odd", "orphan", "plain/b.mp4", "plain/cut.mp4", "playlist")
    ]
    assert reasons == [None, "malformed_info", "no_video", None, "broken_video", "playlist"]
    assert list(fates.values()) == ["bad_name"]


def test_options_of_a_folder(videos: Path, tmp_path: Path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "b.en-GB.srt").write_text(HAND_MADE_SRT)
    by_id = {r.id: r for r in read_all(videos, caption_folder=str(tmp_path), open_videos=False)}
    assert by_id["plain/b.mp4"].captions[0] == [1.0, 2.0, "Goal!"] and by_id["plain/b.mp4"].language == "en"
    assert by_id["plain/cut.mp4"].rejection is None, "videos are not opened"
    assert by_id["A %231 title [abc_-123456].mp4"].height == 1080
    by_id = {r.id: r for r in read_all(videos, captions_required=True, languages=["de"])}
    whole = by_id["A %231 title [abc_-123456].mp4"]
    assert whole.extra["captions"] == "de.vtt" and [text for _, _, text in whole.captions] == [GERMAN_WORDS]
    assert by_id["plain/b.mp4"].rejection.reason == "no_captions"
    orphan = {r.id: r for r in read_all(videos, videos_required=False)}["orphan"]
    assert orphan.rejection is None and orphan.video == "" and orphan.captions


@pytest.mark.parametrize("languages", [["en", "de"], ["de", "en"], ["ja", "fr", "en"], ["fr"], ["fr", "de", "en"]])
def test_the_first_language_of_which_there_are_captions_is_read(videos: Path, languages: list[str]):
    (record,) = [record for record in read_all(videos, languages=languages) if record.id == "Fußball 进球.mp4"]
    best = next(language for language in languages if language in SAID)
    assert record.captions == [[1.0, 2.5, SAID[best]]] and record.language == best
    whole = {"en": ROLLED_WORDS, "de": GERMAN_WORDS}
    (record,) = [record for record in read_all(videos, languages=languages) if record.title == "A title"]
    text = record.text or " ".join(text for _, _, text in record.captions)
    assert text == next((whole[language] for language in languages if language in whole), "")


def test_shards_know_when_a_file_has_changed(videos: Path, tmp_path: Path):
    copy = Path(shutil.copytree(videos / "plain", tmp_path / "copy"))
    source = FolderInput(FolderOptions([str(copy)]))
    first = list(source.shards(10))
    assert list(source.shards(10)) == first
    (copy / "b.en.vtt").write_text(ROLLED_VTT)
    assert list(source.shards(10)) != first


def test_folders_that_cannot_work(videos: Path, tmp_path: Path):
    for folders, options, message in [
        ([], {}, "no folders"), ([tmp_path / "none"], {}, "no such folder"), ([tmp_path], {}, "no video"),
        ([videos, videos / "plain"], {}, "overlap"), ([videos], {"caption_encoding": "utf-99"}, "encoding"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message):
            read_all(*folders, **options)


def test_captions_are_found_by_name_and_ranked(tmp_path: Path):
    names = ["a.mp4", "a.en.mkv", "a.en.vtt", "a.en.en.srt", "a.srt", "b.c.webm", "b.c.pt-BR.vtt", "b.en.vtt"]
    for name in names:
        (tmp_path / name).touch()
    assert list_folder(tmp_path) == [
        Files("a", "a.mp4", "", ("a.srt",)), Files("a.en", "a.en.mkv", "", ("a.en.en.srt", "a.en.vtt")),
        Files("b", "", "", ("b.en.vtt",)), Files("b.c", "b.c.webm", "", ("b.c.pt-BR.vtt",)),
    ]  # fmt: skip
    suffixes = [".de.vtt", ".en-GB.vtt", ".en-orig.json3", ".en.srt", ".en.vtt", ".vtt", ".eng.vtt"]
    assert rank_captions(suffixes, ["en"]) == [".en.vtt", ".eng.vtt", ".en.srt", ".en-orig.json3", ".en-GB.vtt", ".vtt"]
    assert rank_captions(suffixes, ["de", "en"])[:3] == [".de.vtt", ".en.vtt", ".eng.vtt"]
    assert rank_captions(suffixes, ["en", "de"])[-2:] == [".de.vtt", ".vtt"]


NAMES = [
    # name of a caption file of NAME.mp4, and of whom it is in English
    ("NAME.en-_a--bcdEfG0.vtt", True), ("NAME.en-x8k2Q-Zm4p-.vtt", True), ("NAME.eng-US.vtt", True),
    ("NAME.eng.srt", True), ("NAME.en.sdh.srt", True), ("NAME.en.hi.srt", True), ("NAME.sdh.en.srt", True),
    ("NAME.en.forced.srt", True), ("NAME.a.en.vtt", True), ("NAME_en.srt", True), ("NAME.English.srt", True),
    ("NAME.en_GB.VTT", True), ("NAME-en.srt", True), ("NAME.auto.srt", True), ("NAME.hi.srt", False),
    ("NAME.zh-Hans.srt", False), ("NAME.pt-BR.srt", False), ("NAME.ger.srt", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "is_english"), NAMES)
def test_names_of_captions(tmp_path: Path, name: str, is_english: bool):
    for file in ("NAME.mp4", "NAME 2.mp4", "NAME.day.mp4", name):
        (tmp_path / file).touch()
    (found,) = [files for files in list_folder(tmp_path) if files.captions]
    assert (found.stem, found.video, found.captions) == ("NAME", "NAME.mp4", (name,))
    assert bool(rank_captions([name.removeprefix("NAME")], ["en"])) == is_english


def test_captions_by_people_come_first_and_those_of_foreign_speech_last():
    suffixes = [".en.forced.srt", ".en-GB.srt", ".a.en.json3", ".en.cc.vtt", ".en.srt", ".pt_BR.srt"]
    assert rank_captions(suffixes, ["eng", "pt"]) == [
        ".en.srt", ".en.cc.vtt", ".a.en.json3", ".en-GB.srt", ".en.forced.srt", ".pt_BR.srt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "suffix", [".OGV", ".f4v", ".mk3d", ".3g2", ".divx", ".MTS", ".m2ts", ".VOB", ".unknown_video"]
)
def test_files_of_cameras_and_all_that_yt_dlp_writes_are_videos(tmp_path: Path, suffix: str):
    (tmp_path / f"00001{suffix}").touch()
    (tmp_path / "00001.en.vtt").touch()
    assert list_folder(tmp_path) == [Files("00001", f"00001{suffix}", "", ("00001.en.vtt",))]


def test_unmerged_parts_are_told_from_titles_that_end_like_them(tmp_path: Path):
    for name in ["a.fhls-1080p-0.mp4", "a.info.json", "b.fdash-video=4500000.mp4", "b.en.vtt", "c.f137.mp4", "c.mp4",
                 "truck.f150.mp4", "truck.f150.en.vtt", "race.f1.mp4", "match.final.mp4", "match.mp4"]:  # fmt: skip
        (tmp_path / name).write_text("{}")
    videos = {files.video for files in list_folder(tmp_path)} - {""}
    assert videos == {"c.mp4", "truck.f150.mp4", "race.f1.mp4", "match.final.mp4", "match.mp4"}
    by_id = {record.id: record for record in read_all(tmp_path, open_videos=False)}
    assert by_id["a"].rejection.reason == "no_video" and "a.fhls-1080p-0.mp4" in by_id["a"].rejection.detail


def test_names_in_both_forms_of_unicode_are_one(tmp_path: Path):
    composed, parted = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    for name in (f"{composed}.mp4", f"{parted}.en.vtt", f"{parted}.info.json"):
        (tmp_path / name).touch()
    assert list_folder(tmp_path) == [
        Files(composed, f"{composed}.mp4", f"{parted}.info.json", (f"{parted}.en.vtt",)),
    ]  # fmt: skip


def test_a_video_says_which_captions_lie_there_and_why_none_was_taken(tmp_path: Path):
    for name, text in {
        "a.mp4": "", "a.de.vtt": GERMAN_VTT, "a.en.lrc": "[00:01.00]la", "a.live_chat.json": "{}", "a.json": "{}",
        "a.Finale.srt": HAND_MADE_SRT,
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    by_id = {record.id: record for record in read_all(tmp_path, open_videos=False)}
    why = by_id["a.mp4"].extra["no_captions"]
    for part in ("a.de.vtt: language de, wanted en", "a.en.lrc: .lrc is not read; make SubRip", "json: a chat",
                 "a.json: no transcript", "a.Finale.srt: '.Finale' names no language; name it a.en.srt"):  # fmt: skip
        assert part in why
    by_id["a.mp4"].language = ""
    MetadataFilter(MetadataOptions(min_height=None, min_s=None, max_s=None)).judge(by_id["a.mp4"])
    assert (by_id["a.mp4"].rejection.reason, by_id["a.mp4"].rejection.detail) == ("no_captions", why)
    required = {record.id: record for record in read_all(tmp_path, open_videos=False, captions_required=True)}
    assert why in required["a.mp4"].rejection.detail
    assert by_id["a.Finale"].rejection.reason == "no_video"


@pytest.mark.parametrize(
    ("video", "name", "language", "kept"),
    [
        ("de", "a.en.vtt", "en", "de"), ("en", "a.de.vtt", "de", "en"), ("en-US", "a.en.vtt", "en-US", None),
        ("de", "a.en-de.vtt", "de", None), (None, "a.deu.vtt", "de", None), ("en", "a.vtt", "en", None),
    ],
)  # fmt: skip
def test_the_language_is_that_of_the_captions_but_of_a_translation(tmp_path: Path, video, name, language, kept):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.info.json").write_text(json.dumps({"title": "A", "language": video}))
    (tmp_path / name).write_text(GERMAN_VTT)
    (record,) = read_all(tmp_path, open_videos=False, languages=["en", "de"])
    assert record.captions and (record.language, record.extra.get("video_language")) == (language, kept)


def test_captions_of_a_section_are_on_its_clock(tmp_path: Path):
    lines = [(1000 * i, 1000 * i + 1000, f"word{i} more") for i in range(120)]
    for name, captions in (("a", ".en.srt"), ("own", ".srt"), ("whole", ".srt")):
        (tmp_path / f"{name}.mp4").touch()
        info = {"title": "A", "duration": 120, "section_start": 60.5, "section_end": 65.0}
        (tmp_path / f"{name}.info.json").write_text(json.dumps(info))
        (tmp_path / f"{name}{captions}").write_bytes(srt(lines[:5] if name == "own" else lines))
    by_id = {record.id: record for record in read_all(tmp_path, open_videos=False)}
    cut = by_id["a.mp4"]
    assert cut.captions == [[0.0, 0.5, "more"], *([i + 0.5, i + 1.5, f"word{i + 61} more"] for i in range(4))]
    assert cut.extra["section"] == {"start_s": 60.5, "end_s": 65.0, "words_outside": 231} and cut.duration_s == 4.5
    assert by_id["whole.mp4"].captions == cut.captions
    assert by_id["own.mp4"].captions[0] == [0.0, 1.0, "word0 more"], "speech recognition heard the section itself"
    (tmp_path / "a.en.srt").write_bytes(srt(lines[:5]))
    (record,) = [record for record in read_all(tmp_path, open_videos=False) if record.id == "a.mp4"]
    assert record.extra["no_captions"] == "all 10 words lie outside of its section"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv", ".ts"])
def test_a_video_is_as_long_as_its_picture(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"preset": "veryfast"})
        video.height, video.width, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=44100, layout="mono")
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i, 64, 64), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8 * 44100), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    (record,) = read_all(tmp_path)
    assert record.duration_s == pytest.approx(2.0, abs=0.1) and record.height == 64


def test_videos_of_records_may_be_relative_to_a_media_root(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "video": "films/a.mp4"}\n{"id": "b", "video": "/b.mp4"}\n{"id": "c"}\n')
    stage = JsonlInput(JsonlOptions([str(path)], "root"))
    (shard,) = stage.shards(10)
    read = list(stage.read_lines(shard))
    assert [record.video for record, _ in read] == ["root/films/a.mp4", "/b.mp4", ""]
    assert [json.loads(line)["video"] for _, line in read[:2]] == ["root/films/a.mp4", "/b.mp4"]


def test_a_word_without_a_time_is_explained():
    line = b'{"id": "a", "words": [[0, 1, "so"], [null, null, "9"]]}'
    record = parse_line(line, "a.jsonl", 3)
    assert record.rejection.reason == "bad_time" and "words[1] has no time" in record.rejection.detail
