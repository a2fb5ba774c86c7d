"""Kinds of files by their first bytes: what a file is that cannot be read as what it was taken for, and what to do."""

import os
import re
from dataclasses import dataclass

HEAD = 4096  # bytes that are looked at
SHOWN_BYTES = 60
REDOWNLOAD = "open it to see what the server said, and download the file again"
UNFINISHED = (".part", ".crdownload", ".download", ".partial", ".opdownload", ".aria2", ".ytdl", ".!ut", ".!qb")


@dataclass(frozen=True)
class FileKind:
    """What a file is, with its article, and the next step, "" where that depends on what is wanted of it.

    may_play: FFmpeg may find a video in it. is_image: Pillow reads such images. is_text: text in UTF-8, which may be
    JSON lines.
    """

    name: str
    remedy: str = ""
    may_play: bool = False
    is_image: bool = False
    is_text: bool = False

    def instead_of(self, wanted: str, remedy: str) -> str:
        """The end of a message: what the file is, what it is not, and its remedy or else the one given."""
        told = "the file is empty (0 bytes)" if self is EMPTY else f"this is {self.name}, not {wanted}"
        return f"{told}; {self.remedy or remedy}"


EMPTY = FileKind("an empty file", "download or copy it again")


def file_kind(path: str | os.PathLike) -> FileKind | None:
    """The kind of a file, None where its first bytes tell nothing. Raises OSError."""
    with open(path, "rb") as file:
        return kind_of(file.read(HEAD))


def kind_of(head: bytes) -> FileKind | None:
    """The kind of a file that begins with these bytes, HEAD of them or all."""
    if not head:
        return EMPTY
    if not head.strip(b"\0"):
        return FileKind("nothing but zeros", "its download was not finished: download it again", may_play=True)
    return _by_signature(head) or _of_encoding(head) or _of_text(head)


def is_unfinished(path: str | os.PathLike) -> bool:
    """Whether a file's name is that of a download in progress."""
    return os.fspath(path).lower().endswith(UNFINISHED)


def _packed(name: str, command: str) -> FileKind:
    return FileKind(name, f"unpack it first ({command} FILE), and give what was in it")


def _table(name: str) -> FileKind:
    return FileKind(name, "write its rows as JSON lines (pandas: to_json(OUT, orient='records', lines=True))")


def _played(name: str) -> FileKind:
    return FileKind(name, may_play=True)


def _image(name: str) -> FileKind:
    return FileKind(name, may_play=True, is_image=True)


ZIP = _packed("a zip archive", "unzip")
VIDEO_MP4 = _played("an MP4 or MOV video")
HEIC = FileKind("a HEIC photo", "convert it to JPEG or PNG")
SIGNATURES: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"\x1f\x8b", _packed("a gzip file", "gunzip, or tar xzf")),
    (0, b"\x28\xb5\x2f\xfd", _packed("a zstd file", "unzstd")),
    (0, b"BZh", _packed("a bzip2 file", "bunzip2")),
    (0, b"\xfd7zXZ\0", _packed("an xz file", "unxz")),
    (0, b"\x04\x22\x4d\x18", _packed("an lz4 file", "unlz4")),
    (0, b"PK\x03\x04", ZIP),
    (0, b"PK\x05\x06", ZIP),
    (0, b"7z\xbc\xaf\x27\x1c", _packed("a 7z archive", "7z x")),
    (0, b"Rar!\x1a\x07", _packed("a rar archive", "unrar x")),
    (257, b"ustar", _packed("a tar archive", "tar xf")),
    (0, b"PAR1", _table("a parquet file")),
    (0, b"ARROW1", _table("an Arrow file")),
    (0, b"\xff\xff\xff\xff", _table("an Arrow stream, as data sets are cached in")),
    (0, b"FEA1", _table("a Feather file")),
    (0, b"ORC", _table("an ORC file")),
    (0, b"SQLite format 3\0", _table("an SQLite database")),
    (0, b"\x89HDF\r\n", _table("an HDF5 file")),
    (0, b"\x93NUMPY", FileKind("a NumPy array")),
    (0, b"\x80\x02", FileKind("a Python pickle")),
    (0, b"\x80\x03", FileKind("a Python pickle")),
    (0, b"\x80\x04", FileKind("a Python pickle")),
    (0, b"\x80\x05", FileKind("a Python pickle")),
    (0, b"%PDF-", FileKind("a PDF document", "save its pages as PNG")),
    (0, b"\x89PNG\r\n", _image("a PNG image")),
    (0, b"\xff\xd8\xff", _image("a JPEG image")),
    (0, b"GIF8", _image("a GIF image")),
    (0, b"II*\0", _image("a TIFF image")),
    (0, b"MM\0*", _image("a TIFF image")),
    (0, b"\0\0\0\x0cJXL \r\n", FileKind("a JPEG XL image", "convert it to JPEG or PNG", may_play=True)),
    (8, b"WEBP", _image("a WebP image")),
    (8, b"AVI ", _played("an AVI video")),
    (8, b"WAVE", _played("a WAV sound")),
    (0, b"\x1a\x45\xdf\xa3", _played("a Matroska or WebM video")),
    (0, b"FLV\x01", _played("an FLV video")),
    (0, b"\0\0\x01\xba", _played("an MPEG program stream")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", _played("a WMV or WMA file")),
    (0, b"OggS", _played("an Ogg file")),
    (0, b"fLaC", _played("a FLAC sound")),
    (0, b"ID3", _played("an MP3 sound")),
    (0, b"\xff\xfb", _played("an MP3 sound")),
    (4, b"moov", VIDEO_MP4),
    (4, b"mdat", VIDEO_MP4),
    (4, b"wide", VIDEO_MP4),
)
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
# Text without a mark, as the zeros between its characters give it away: four of them in a row.
WIDE_TEXT = (
    (rb"(?:[\t\n\r -~]\0\0\0){4}", "UTF-32LE"),
    (rb"(?:\0\0\0[\t\n\r -~]){4}", "UTF-32BE"),
    (rb"(?:[\t\n\r -~]\0){4}", "UTF-16LE"),
    (rb"(?:\0[\t\n\r -~]){4}", "UTF-16BE"),
)
WEB_PAGE = re.compile(rb"<!doctype html|<html|<head|<script|<body", re.IGNORECASE)


def _by_signature(head: bytes) -> FileKind | None:
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        # mif1 is also the first brand of some AVIF images, which are read.
        is_heic = brand in HEIC_BRANDS and b"avif" not in head[: int.from_bytes(head[:4], "big")]
        return HEIC if is_heic else _image("an AVIF image") if brand in (b"avif", b"avis", b"mif1") else VIDEO_MP4
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
        return FileKind("an animated WebP image", "convert it to MP4 or GIF", is_image=True)
    if any(head[first : first + 377 : 188] == b"GGG" for first in (0, 4)):
        return _played("an MPEG transport stream")
    return next((kind for at, magic, kind in SIGNATURES if head.startswith(magic, at)), None)


def _of_encoding(head: bytes) -> FileKind | None:
    marked = (name for mark, name in BYTE_ORDER_MARKS if head.startswith(mark))
    found = next(marked, None) or next((name for form, name in WIDE_TEXT if re.match(form, head)), None)
    return FileKind(f"text in {found}", f"save it as UTF-8 (iconv -f {found} -t UTF-8 FILE)") if found else None


def _of_text(head: bytes) -> FileKind | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"version https://git-lfs", b"version https://hawser")):
        return FileKind("a Git LFS pointer without its file", "run `git lfs pull` in its repository")
    if text.startswith(b"/annex/objects/"):
        return FileKind("a git-annex pointer without its file", "run `git annex get` on it")
    if WEB_PAGE.match(text) or (text.startswith((b"<!--", b"<?xml")) and WEB_PAGE.search(text)):
        return FileKind("a web page", REDOWNLOAD)
    if text.startswith(b"<") and b"<svg" in text:
        return FileKind("an SVG drawing", "save it as PNG")
    start = head[:SHOWN_BYTES]
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start):
        return None
    name = "JSON text" if text[:1] in (b"{", b"[") else "text"
    shown = start.decode("utf-8", "replace").strip()
    return FileKind(f"{name} that begins {shown!r}", REDOWNLOAD, may_play=True, is_text=True)
