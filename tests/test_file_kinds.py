"""Files that are not what they are taken for: each is named for what it is, with what to do, wherever it is opened."""

import gzip
import io
import json
import os
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.samples.annotations import AnnotationFile
from data.samples.json_lines import JsonLines
from data.video.clip import VideoError, read_clip, read_image, read_packed
from data.video.frame_plan import VideoLimits
from data.video.images import decode_image
from evaluation.tasks.lines import read_benchmark
from tests.videos import frame_number, make_faststart, make_video, truncate
from utils.errors import UserError
from utils.file_kinds import HEAD, kind_of

LIMITS = VideoLimits(min_pixels=4 * 28 * 28, total_pixels=40 * 28 * 28)
ROW = [{"role": "user", "content": "Wer führt?"}, {"role": "assistant", "content": "Rot."}]
LINE = json.dumps(ROW, ensure_ascii=False) + "\n"
LLAVA = [{"id": i, "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]} for i in (1, 2)]
MESSAGES = {"messages": ROW, "videos": ["a.mp4"]}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(range(1, 200))
CENC = {f"encryption_{name}": "0123456789abcdef" * 2 for name in ("key", "kid")} | {"encryption_scheme": "cenc-aes-ctr"}


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jsonl", LINE)
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jsonl"))
    return file.getvalue()


# What a file of annotations may be instead, and what its one message says.
NOT_ANNOTATIONS = {
    "empty": (b"", "is empty"),
    "LFS pointer": (POINTER, "Git LFS pointer.*git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html><body>Sign in", "web page.*download"),
    "UTF-16": (LINE.encode("utf-16"), "text in UTF-16.*iconv"),
    "UTF-16 without a mark": (LINE.encode("utf-16-be"), "text in UTF-16BE"),
    "UTF-32": (LINE.encode("utf-32"), "text in UTF-32,"),
    "UTF-32 without a mark": (LINE.encode("utf-32-le"), "text in UTF-32LE"),
    "gzip": (gzip.compress(LINE.encode()), "gzip.*unpack"),
    "zstd": (b"\x28\xb5\x2f\xfd\x24\x01", "zstd.*unzstd"),
    "zip": (_zip(), "zip archive"),
    "tar": (_tar(), "tar archive"),
    "parquet": (b"PAR1\x15\x04\x15", "parquet.*JSON lines"),
    "Arrow": (b"ARROW1\0\0\xff\xff\xff\xff", "Arrow"),
    "pickle": (b"\x80\x04\x95\x10", "pickle"),
    "video": (b"\0\0\0\x20ftypisom\0\0\2\0", "MP4"),
    "image": (b"\x89PNG\r\n\x1a\n\0\0", "PNG"),
    "noise": (b"\x01\x02\x07" * 99, "binary data"),
    "table": (b"video,text\na.mp4,one\nb.mp4,two\n", "'video,text'"),
    "array": (json.dumps([ROW, ROW]).encode(), r"JSON array.*jq -c '\.\[\]'"),
    "array, pretty": (json.dumps([ROW, ROW], indent=2).encode(), "JSON array"),
    "array, a row a line": (b"[" + b",\n".join([LINE.strip().encode()] * 3) + b"]", "JSON array"),
    "array with a line of its own": (b"[\n" + b",\n".join([LINE.strip().encode()] * 3) + b"\n]", "JSON array"),
    "sample over lines": (json.dumps(ROW, indent=1).encode(), "JSON array|several lines"),
    "object over lines": (json.dumps({"data": [ROW]}, indent=4).encode(), "several lines"),
    "LLaVA": (json.dumps(LLAVA).encode(), "JSON array.*LLaVA.*looks like this"),
    "LLaVA, pretty": (json.dumps(LLAVA, indent=4).encode(), "JSON array.*LLaVA.*looks like this"),
    "LLaVA, lines": ("\n".join(map(json.dumps, LLAVA)).encode(), "LLaVA.*looks like this"),
    "conversations alone": (json.dumps(LLAVA[0]["conversations"]).encode(), "LLaVA"),
    "LLaMA-Factory": (json.dumps([MESSAGES], indent=2).encode(), "LLaMA-Factory.*looks like this"),
    "swift, lines": (json.dumps(MESSAGES).encode() + b"\n", "swift"),
    "whisperX": (json.dumps({"segments": [], "language": "en"}).encode(), "whisperX"),
    "records": (json.dumps({"id": "a", "video": "a.mp4", "words": [[0, 1, "so"]]}).encode(), "to_conversation"),
}


@pytest.mark.parametrize("name", NOT_ANNOTATIONS)
def test_what_is_no_annotation_file_is_named_once_when_it_is_opened(tmp_path, name):
    content, message = NOT_ANNOTATIONS[name]
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s)^{path}: .*({message})"):
        AnnotationFile(path)


def test_an_sqlite_database_is_named(tmp_path):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as database:
        database.execute("create table samples (line text)")
    with pytest.raises(UserError, match="SQLite"):
        AnnotationFile(path)


@pytest.mark.parametrize("damaged", ["x", '[{"role": "us', "[{", "[[]]", "{}", "# made by hand", "[", "null", "\u2028"])
def test_one_damaged_line_does_not_refuse_the_file(tmp_path, damaged):
    """It is a bad sample, counted; a file is named for what its first lines are only where they agree."""
    path = tmp_path / "a.jsonl"
    path.write_text(LINE + f"{damaged}\n" + LINE * 3, encoding="utf-8")
    assert AnnotationFile(path)[0].messages[0].role == "user"
    if damaged != "[":
        path.write_text(f"{damaged}\n" + LINE * 3, encoding="utf-8")
        assert len(AnnotationFile(path)) == 4


def test_records_of_production_are_json_lines_too(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"id": "a", "words": []}\n{"id": "b", "words": []}\n', encoding="utf-8")
    assert len(JsonLines(path)) == 2
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UserError, match="gzip"):
        JsonLines(path)


def test_benchmarks_may_be_arrays_and_are_named_otherwise(tmp_path):
    path = tmp_path / "a.json"
    for text in ('[{"id": 1}, {"id": 2}]', '[\n {"id": 1},\n {"id": 2}\n]', '\ufeff{"id": 1}\n{"id": 2}\n'):
        path.write_text(text, encoding="utf-8")
        assert [line["id"] for line in read_benchmark(path)] == [1, 2]
    path.write_text("".join(json.dumps(json.dumps({"id": i})) + "\n" for i in range(4)), encoding="utf-8")
    assert len(list(read_benchmark(path))) == 4
    path.write_bytes(POINTER)
    with pytest.raises(UserError, match="git lfs pull"):
        list(read_benchmark(path))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=120).map(str.encode)))
def test_any_bytes_have_a_kind_or_none(head):
    kind = kind_of(head)
    assert kind is None or (kind.name and "\n" not in kind.name)


def of_kind(kind: str, folder: Path) -> Path:
    """A file of some kind, named as a video."""
    path = folder / ("a.mp4.part" if kind == "unfinished" else "a.mp4")
    whole = folder / "whole.mp4"
    if kind in ("encrypted", "FairPlay"):
        make_video(path, 10, container_options=CENC)
        if kind == "FairPlay":
            path.write_bytes(path.read_bytes().replace(b"encv", b"drmi"))
    elif kind in ("cut short", "index missing"):
        truncate(make_video(whole, 10), 0.6, path)
        if kind == "index missing":
            data = path.read_bytes()
            at = data.index(b"mdat") - 4
            path.write_bytes(data[:at] + (len(data) - at).to_bytes(4, "big") + data[at + 4 :])
    elif kind == "cut in its index":
        truncate(make_faststart(whole, n_frames=10), 0.02, path)
    elif kind == "animated WebP":
        pictures = [Image.new("RGB", (60, 40), (40 * i, 0, 0)) for i in range(4)]
        pictures[0].save(path, "WEBP", save_all=True, append_images=pictures[1:])
    elif kind == "unfinished":
        path.write_bytes(os.urandom(64) * 40)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("encrypted", r"encrypted \(DRM\).*without protection"),
        ("FairPlay", r"encrypted \(DRM\)"),
        ("cut short", "cut short: its boxes take.*get the file again"),
        ("index missing", "index.*is missing.*get the file again"),
        ("cut in its index", "cut short"),
        ("animated WebP", "animated WebP.*MP4 or GIF"),
        ("unfinished", r"download in progress \(\.part\)"),
    ],
)
def test_a_video_that_cannot_be_read_is_named_for_what_it_is(tmp_path, kind, message):
    with pytest.raises(VideoError, match=f"(?s)a.mp4.*: .*{message}"):
        read_clip(of_kind(kind, tmp_path), limits=LIMITS)


NO_MEDIA = {
    "LFS pointer": (POINTER, "git lfs pull"),
    "git-annex pointer": (b"/annex/objects/SHA256E-s1--aa\n", "git annex get"),
    "web page": (b"<html>Not found</html>", "web page"),
    "a server's JSON": (b'{"error": "Access denied"}', "Access denied.*download"),
    "a server's text": (b"Entry not found", "Entry not found"),
    "HEIC": (HEIC, "HEIC.*JPEG or PNG"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG.*PNG"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
    "empty": (b"", "empty"),
    "zeros": (bytes(2 * HEAD), "zeros.*download"),
    "zip": (_zip(), "zip"),
}


@pytest.mark.parametrize("name", NO_MEDIA)
@pytest.mark.parametrize("read", [read_image, lambda path: read_clip(path, limits=LIMITS)], ids=["image", "video"])
def test_what_is_neither_image_nor_video_is_named(tmp_path, name, read):
    content, message = NO_MEDIA[name]
    path = tmp_path / "media.bin"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=rf"(?s)^{path}: .*{message}") as caught:
        read(path)
    assert "BytesIO" not in str(caught.value)


def test_a_packed_file_that_is_a_pointer_is_named(tmp_path):
    (tmp_path / "packed.bin").write_bytes(POINTER)
    with pytest.raises(VideoError, match=r"packed\.bin: .*git lfs pull"):
        read_packed(tmp_path / "packed.bin", [1000, 2000], limits=LIMITS)


def test_other_things_in_place_of_an_image_are_named(tmp_path):
    (tmp_path / "noise.png").write_bytes(bytes(range(1, 99)))
    make_video(tmp_path / "film.png.mp4", 10).rename(tmp_path / "film.png")
    (tmp_path / "folder.png").mkdir()
    messages = {"noise.png": "no image format", "film.png": "MP4", "folder.png": "a folder", "gone.png": "no such file"}
    for name, message in messages.items():
        with pytest.raises(VideoError, match=rf"{name}: .*{message}") as caught:
            read_image(tmp_path / name)
        assert "BytesIO" not in str(caught.value)


@pytest.mark.parametrize("name", ["Re: zero.mp4", "http:a.mp4", "pipe:1.mp4", "file:a.mp4"])
def test_a_name_with_a_colon_opens(tmp_path, monkeypatch, name):
    make_video(tmp_path / "a.mp4", 10).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert frame_number(read_clip(name, limits=LIMITS).frames[0]) == 0


@pytest.mark.parametrize(
    ("top", "dtype", "suffix"),
    [(65535, "uint16", "png"), (65535, "uint16", "tif"), (1, "float32", "tif"), (255, "float32", "tif"),
     (65535, "int32", "tif"), (255, "int32", "tif"), (1e6, "float32", "tif")],
)  # fmt: skip
def test_grey_of_any_depth_is_scaled(tmp_path, top, dtype, suffix):
    ramp = np.linspace(0, 1, 64)[None].repeat(30, axis=0)
    Image.fromarray((ramp * top).astype(dtype)).save(tmp_path / f"ramp.{suffix}")
    rgb = decode_image((tmp_path / f"ramp.{suffix}").read_bytes())
    assert rgb.shape == (30, 64, 3) and rgb.dtype == np.uint8
    np.testing.assert_allclose(rgb, (ramp * 255)[..., None].repeat(3, 2), atol=1.01)


def test_grey_that_is_no_number_is_black(tmp_path):
    Image.fromarray(np.array([[np.nan, -3, 1, np.inf]], np.float32)).save(tmp_path / "odd.tif")
    assert decode_image((tmp_path / "odd.tif").read_bytes())[0, :, 0].tolist() == [0, 0, 255, 0]
