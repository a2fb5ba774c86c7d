"""What lies in a folder of videos: which files belong to which video, by their names.

Names are compared as Unicode's form C, since macOS writes them in form D. What yt-dlp has not finished is no video:
NAME.mp4.part, NAME.temp.mp4, and parts that wait to be merged (NAME.f137.mp4, NAME.fhls-1080p-0.mp4), which are told
from a title that ends so by files under the name without the code.
"""

import os
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data.production.inputs.caption_names import read_label
from data.production.words.caption_files import SUFFIXES, UNREAD_SUFFIXES
from utils.errors import UserError

# yt-dlp's list of 2026, the names that camcorders, DVDs and recorders of broadcasts use, and other forms of these.
VIDEO_SUFFIXES = (
    ".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".flv", ".ts", ".mpg", ".mpeg", ".3gp", ".wmv", ".3g2", ".f4v",
    ".mk3d", ".divx", ".ogv", ".mts", ".m2ts", ".m2t", ".vob", ".mxf", ".asf", ".ogm", ".qt", ".rm", ".rmvb", ".mpe",
    ".mpv", ".m1v", ".m2v", ".mp4v", ".mp2v", ".mpeg4", ".ismv", ".dv", ".mod", ".tod", ".trp", ".tp", ".wtv", ".xvid",
    ".nut", ".amv", ".unknown_video",
)  # fmt: skip
INFO_SUFFIX = ".info.json"
UNFINISHED = re.compile(r"\.(?:part|ytdl|temp|tmp)$")  # of a name without its suffix
FORMAT_CODE = re.compile(r"\.f(?:\d|(?:hls|dash|https?|rtmp|m3u8|mpd|ism|hds|mss|audio|video)(?![a-z]))[\w=+-]*$")


class Files(NamedTuple):
    """What there is of one video: names relative to the folder, "" and () for what is not there.

    others: files that look like captions of it and are not read, and parts of it that were not merged.
    """

    stem: str
    video: str
    info: str
    captions: tuple[str, ...]
    others: tuple[str, ...] = ()


def list_folder(folder: Path, caption_folder: Path | None = None) -> list[Files]:
    """What there is of each video of a folder and its subfolders, in the order of their names; what has no video of its
    own stands among them."""
    names = list(_walk(folder))
    by_name = sorted(map(same_name, names))
    infos, videos, parts = {}, [], []
    for name in names:
        stem, suffix = os.path.splitext(same_name(name))
        if name.endswith(INFO_SUFFIX):
            infos[same_name(name).removesuffix(INFO_SUFFIX)] = name
        elif suffix.lower() in VIDEO_SUFFIXES and not UNFINISHED.search(stem):
            is_part = _is_unmerged(stem, by_name)
            (parts if is_part else videos).append((FORMAT_CODE.sub("", stem) if is_part else stem, name))
    stems = {*infos, *(stem for stem, _ in videos)}
    captions, others = _captions_of(names if caption_folder is None else _walk(caption_folder), stems)
    for stem, name in parts:
        others[stem].append(name)
    without_video = (stems | captions.keys()) - {stem for stem, _ in videos}
    return sorted(
        Files(stem, video, infos.get(stem, ""), tuple(sorted(captions.get(stem, ()))), tuple(sorted(others[stem])))
        for stem, video in [*videos, *((stem, "") for stem in without_video)]
    )


def same_name(name: str) -> str:
    """A name as it is compared."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _is_unmerged(stem: str, by_name: Sequence[str]) -> bool:
    """Whether a name ends with a format's code, and something else lies under the name without it."""
    code = FORMAT_CODE.search(stem)
    if code is None:
        return False
    begins = f"{stem[: code.start()]}."
    for name in by_name[bisect_left(by_name, begins) :]:
        if not name.startswith(begins):
            return False
        if not name.startswith(f"{stem}."):
            return True
    return False


def _captions_of(
    names: Iterator[str] | list[str], stems: set[str]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Captions, and files that look like them, by the name of their video."""
    captions: dict[str, list[str]] = defaultdict(list)
    others: dict[str, list[str]] = defaultdict(list)
    for name in names:
        stem, suffix = os.path.splitext(same_name(name))
        suffix = suffix.lower()
        if suffix not in SUFFIXES + UNREAD_SUFFIXES or name.endswith(INFO_SUFFIX):
            continue
        owners = list(_prefixes(stem, stems))
        owner = next((owner for owner in owners if read_label(stem[len(owner) :]) is not None), None)
        if owner is not None and suffix in SUFFIXES:
            captions[owner].append(name)
            continue
        if owners and (suffix != ".json" or stem.endswith(".live_chat")):
            others[owner or owners[0]].append(name.encode("utf-8", "backslashreplace").decode())
        if suffix in SUFFIXES and suffix != ".json":
            captions[_without_label(stem)].append(name)
    return captions, others


def _prefixes(stem: str, stems: set[str]) -> Iterator[str]:
    """The names of videos that a name begins with, the longest first."""
    for end in range(len(stem), 0, -1):
        if (end == len(stem) or stem[end] in "._- ") and stem[:end] in stems:
            yield stem[:end]


def _without_label(stem: str) -> str:
    """The name of the video that captions without one are about."""
    name, dot, last = stem.rpartition(".")
    return _without_label(name) if dot and name and read_label(f".{last}") is not None else stem


def _walk(folder: Path) -> Iterator[str]:
    """Every file that is not hidden, by its name relative to `folder`, in order."""
    for at, folders, names in os.walk(folder, onerror=_not_listed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(at, folder)
        prefix = "" if inside == "." else f"{inside}/"
        yield from (prefix + name for name in sorted(names) if not name.startswith("."))


def _not_listed(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); check its rights")
