"""Folders and lines as people have them: each is a record, or a rejection that says why."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.production.inputs.folder_input import Files, FolderInput, FolderOptions, list_folder, rank_captions
from data.production.inputs.jsonl_input import JsonlInput, JsonlOptions, parse_line
from data.production.record import Record, from_line, to_line
from tests.captions import HAND_MADE_SRT, ROLLED_VTT, ROLLED_WORDS
from tests.test_production_captions import JSON
from tests.videos import make_video, truncate
from utils.errors import UserError

GERMAN_VTT = "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nund da ist das Tor für München\n"
GERMAN_WORDS = "und da ist das Tor für München"
SAID = {"de": "jetzt die Flanke", "en": "now the cross", "fr": "voilà le centre"}


@settings(max_examples=150, deadline=None)
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
        Files("a", ".mp4", "", (".srt",)), Files("a.en", ".mkv", "", (".en.srt", ".vtt")),
        Files("b", "", "", (".en.vtt",)), Files("b.c", ".webm", "", (".pt-BR.vtt",)),
    ]  # fmt: skip
    suffixes = [".de.vtt", ".en-GB.vtt", ".en-orig.json3", ".en.srt", ".en.vtt", ".vtt", ".eng.vtt"]
    assert rank_captions(suffixes, ["en"]) == [".en.vtt", ".en.srt", ".en-orig.json3", ".en-GB.vtt", ".vtt"]
    assert rank_captions(suffixes, ["de", "en"])[:3] == [".de.vtt", ".en.vtt", ".en.srt"]
    assert rank_captions(suffixes, ["en", "de"])[-2:] == [".de.vtt", ".vtt"]


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
