"""Input: folders of videos, with the titles and captions that stand beside them, as yt-dlp leaves them.

    python -m data.production.run CONFIG.yaml        # with  inputs: {folder_input: {folders: [datasets/videos]}}

For NAME.mp4 (.mkv, .webm, ...) the title, category, channel, language, height and length come from NAME.info.json, and
words from NAME.en.json3, .en.vtt, .en.srt or the same without a language, the first of them that can be read. Neither
is needed: speech recognition needs only the videos. Captions may stand in a folder of their own, under the same names
(caption_folder). Subfolders are read too; hidden, partial and unmerged files (.part, .f137.mp4) are not.

Nothing that a file says is taken as a path. A broken file is a rejected record that names it; the others go on.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from data.production.record import Record
from data.production.stage import Input
from data.production.words.caption_files import INVISIBLE, SUFFIXES, BadCaptions, Transcript, read_captions
from data.video.container import VideoError, decode_all, open_video, video_stream
from data.video.pixels import upright_hw
from utils.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".flv", ".ts", ".mpg", ".mpeg", ".3gp", ".wmv")
INFO_SUFFIX = ".info.json"
UNFINISHED = re.compile(r"\.(?:part|ytdl|temp|tmp|f\d{1,4}(?:-\w+)?)$")  # of a name without its suffix
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,12})*")
MAX_INFO_BYTES = 64 << 20  # yt-dlp's own have 1 MB; with comments some more
MAX_TEXT = 1000  # characters of a title


class BadInfo(Exception):
    """A .info.json that cannot be used."""


class Files(NamedTuple):
    """What there is of one video: suffixes behind its stem, "" and () for what is not there."""

    stem: str  # relative to the folder
    video: str
    info: str
    captions: tuple[str, ...]


@dataclass
class FolderOptions:
    """Which folders, and what is read there."""

    folders: list[str] = field(default_factory=list, metadata={"help": "folders of videos"})
    caption_folder: str | None = field(
        default=None, metadata={"help": "folder of the captions, under the videos' names; default: beside the videos"}
    )
    languages: list[str] = field(
        default_factory=lambda: ["en"], metadata={"help": "captions in these, the first the best; en takes en-US too"}
    )
    caption_encoding: str = field(
        default="utf-8", metadata={"help": "of captions that are neither marked nor UTF-8, such as cp1252"}
    )
    captions_required: bool = field(default=False, metadata={"help": "reject videos without captions"})
    videos_required: bool = field(
        default=True, metadata={"help": "reject captions and .info.json files without a video"}
    )
    open_videos: bool = field(
        default=True, metadata={"help": "decode a frame of each, for size and length; else .info.json alone says them"}
    )


class FolderInput(Input):
    """Videos by their names: a shard is a run of names of one folder."""

    name, version, Options = "folder_input", 2, FolderOptions

    def shards(self, size: int) -> Iterator[dict]:
        """Runs of `size` videos, in the order of their names."""
        self._check()
        n_found = 0
        for number, folder in enumerate(self.options.folders):
            found = list_folder(Path(folder), self.options.caption_folder and Path(self.options.caption_folder))
            n_found += len(found)
            for start in range(0, len(found), size):
                files = found[start : start + size]
                yield {
                    "folder": number,
                    "files": [
                        list(entry) if _is_writable("".join(entry[:2])) else ascii(entry.stem) for entry in files
                    ],
                    "identity": self._identity(folder, files),
                }
        if not n_found:
            kinds = " ".join(VIDEO_SUFFIXES)
            raise UserError(f"folder_input: no video in {', '.join(self.options.folders)}; it looks for {kinds}")

    def read(self, shard: dict) -> Iterator[Record]:
        """The records of a run of names."""
        folder = Path(self.options.folders[shard["folder"]])
        for entry in shard["files"]:
            if isinstance(entry, str):
                record = Record(f"{folder.as_posix()}/{entry}", source=f"{folder / entry}")
                yield record.reject(self.name, "bad_name", f"{record.source}: its name is not UTF-8; rename it")
            else:
                yield self._record(folder, Files(*entry))

    def _check(self) -> None:
        o = self.options
        if not o.folders:
            raise UserError("folder_input: no folders; give folders: [FOLDER, ...]")
        for folder in [*o.folders, *([o.caption_folder] if o.caption_folder else [])]:
            if not Path(folder).is_dir():
                raise UserError(
                    f"folder_input: {folder}: no such folder; put videos there, or name another one: "
                    "--set folder_input.folders=[FOLDER]"
                )
        resolved = [Path(folder).resolve() for folder in o.folders]
        for i, path in enumerate(resolved):
            inside = [other for other in resolved[:i] if path.is_relative_to(other) or other.is_relative_to(path)]
            if inside:
                raise UserError(f"folder_input: {path} and {inside[0]} overlap; name the outer one only")
        try:
            "".encode(o.caption_encoding)
        except LookupError:
            raise UserError(f"folder_input: caption_encoding {o.caption_encoding!r}: no such encoding") from None

    def _identity(self, folder: str, files: Iterable[Files]) -> str:
        """Digest of the sizes and times of all files that are read."""
        digest = hashlib.blake2b(digest_size=16)
        for entry in files:
            for path in self._paths(Path(folder), entry):
                try:
                    info = path.stat()
                    digest.update(f"{info.st_size} {info.st_mtime_ns}\n".encode())
                except (OSError, ValueError):
                    digest.update(b"-\n")
        return digest.hexdigest()

    def _paths(self, folder: Path, files: Files) -> list[Path]:
        captions = Path(self.options.caption_folder or folder)
        own = [_with(folder, files.stem, suffix) for suffix in (files.video, files.info) if suffix]
        return own + [_with(captions, files.stem, suffix) for suffix in files.captions]

    def _record(self, folder: Path, files: Files) -> Record:
        # "#" parts a clip's number from its video's name.
        name = (files.stem + files.video).replace("#", "%23")
        if len(self.options.folders) > 1:
            name = f"{folder.as_posix()}/{name}"
        path = _with(folder, files.stem, files.video or files.info or "".join(files.captions[:1]))
        record = Record(name, source=str(path))
        try:
            if files.info:
                read_info(_with(folder, files.stem, files.info), record)
            self._read_words(folder, files, record)
            if files.video:
                record.video = str(path)
                if self.options.open_videos:
                    _read_size(path, record)
            elif self.options.videos_required:
                record.reject(self.name, "no_video", f"{path}: no video under this name")
        except BadInfo as fault:
            record.reject(self.name, "malformed_info", str(fault))
        except BadCaptions as fault:
            record.reject(self.name, fault.reason, str(fault))
        except VideoError as fault:
            record.reject(self.name, "broken_video", str(fault))
        return record

    def _read_words(self, folder: Path, files: Files, record: Record) -> None:
        """The first captions that can be read, in the order of languages, then formats. Raises BadCaptions."""
        fault: BadCaptions | None = None
        for suffix in rank_captions(files.captions, self.options.languages):
            path = _with(Path(self.options.caption_folder or folder), files.stem, suffix)
            try:
                transcript = read_captions(path, self.options.caption_encoding)
            except BadCaptions as error:
                fault = fault or error
                continue
            _keep_transcript(record, transcript, language_of(suffix) or transcript.language)
            record.extra["captions"] = suffix.lstrip(".")
            return
        if fault:
            raise fault
        if self.options.captions_required:
            where = f"{folder / files.stem}"
            raise BadCaptions("no_captions", f"{where}: no captions in {', '.join(self.options.languages)}")


def list_folder(folder: Path, caption_folder: Path | None = None) -> list[Files]:
    """What there is of each video of a folder and its subfolders, in the order of their names; what has no video of its
    own stands among them."""
    infos, videos = set(), set()
    for prefix, name in _walk(folder):
        stem, suffix = os.path.splitext(name)
        if name.endswith(INFO_SUFFIX):
            infos.add(prefix + name.removesuffix(INFO_SUFFIX))
        elif suffix.lower() in VIDEO_SUFFIXES and not UNFINISHED.search(stem):
            videos.add((prefix + stem, suffix))
    stems = infos | {stem for stem, _ in videos}
    captions: dict[str, list[str]] = {}
    for prefix, name in _walk(caption_folder or folder):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in SUFFIXES:
            owner, suffix = _owner(prefix + stem, suffix, stems)
            captions.setdefault(owner, []).append(suffix)
    without_video = (stems | captions.keys()) - {stem for stem, _ in videos}
    everything = [*videos, *((stem, "") for stem in without_video)]
    return sorted(
        Files(stem, video, INFO_SUFFIX if stem in infos else "", tuple(sorted(captions.get(stem, ()))))
        for stem, video in everything
    )


def _owner(stem: str, suffix: str, stems: set[str]) -> tuple[str, str]:
    """Whose captions a file holds: NAME and ".en.vtt" of NAME.en.vtt, unless there is a video NAME.en."""
    name, dot, language = stem.rpartition(".")
    if stem in stems or not (dot and LANGUAGE.fullmatch(language)):
        return stem, suffix
    return name, f".{language}{suffix}"


def rank_captions(suffixes: Iterable[str], languages: list[str]) -> list[str]:
    """Captions in one of the languages, or in none that is named, the best first: the language as asked for, as it was
    spoken (en-orig), of a region (en-GB), not named; and of each the format that says most."""

    def rank(suffix: str) -> tuple[int, int, int, str] | None:
        language = language_of(suffix).lower().replace("_", "-")
        for place, wanted in enumerate(languages):
            wanted = wanted.lower().replace("_", "-")
            exact = [wanted, f"{wanted}-orig"]
            if language in exact or language.startswith(f"{wanted}-"):
                return place, (exact.index(language) if language in exact else 2), _format(suffix), suffix
        return (len(languages), 0, _format(suffix), suffix) if not language else None

    return sorted((suffix for suffix in suffixes if rank(suffix) is not None), key=rank)


def language_of(suffix: str) -> str:
    """The language in ".en.vtt"; "" where there is none."""
    return suffix[1:].rpartition(".")[0]


def read_info(path: Path, record: Record) -> None:
    """Fill in what yt-dlp's .info.json says. Raises BadInfo."""
    if not path.is_file():
        raise BadInfo(f"{path}: not a file any more")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_INFO_BYTES + 1)
        if len(data) > MAX_INFO_BYTES:
            raise BadInfo(f"{path}: over {MAX_INFO_BYTES} bytes; leave out comments (--no-write-comments)")
        info = orjson.loads(data)
    except OSError as error:
        raise BadInfo(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise BadInfo(f"{path}: not JSON ({error}); get it again, or delete it") from None
    if not isinstance(info, dict):
        raise BadInfo(f"{path}: an object is needed, not {str(info)[:60]!r}")
    categories = _value(path, info, "categories", list) or []
    if info.get("_type") == "playlist":
        record.reject("folder_input", "playlist", f"{path} is about a playlist, not a video")
    record.title = _text(path, info, "title")
    record.category = _clean(categories[0]) if categories and isinstance(categories[0], str) else ""
    record.channel = _text(path, info, "channel") or _text(path, info, "uploader")
    record.language = _text(path, info, "language")
    record.duration_s = _number(path, info, "duration")
    height, width = _number(path, info, "height"), _number(path, info, "width")
    record.height, record.width = height and int(height), width and int(width)
    kept = {"video_id": "id", "channel_id": "channel_id", "license": "license", "upload_date": "upload_date"}
    record.extra |= {name: text for name, key in kept.items() if (text := _text(path, info, key))}


def _keep_transcript(record: Record, transcript: Transcript, language: str) -> None:
    record.words, record.captions = transcript.words, transcript.captions
    record.language = record.language or re.sub(r"[-_].*", "", language)
    if transcript.left_out:
        record.extra["captions_left_out"] = transcript.left_out


def _read_size(path: Path, record: Record) -> None:
    """Height, width and length of a video as it is. Raises VideoError where no frame can be decoded."""
    with open_video(path) as container:
        stream = video_stream(container)
        if container.duration:
            record.duration_s = container.duration / 1e6
        elif stream.duration and stream.time_base:
            record.duration_s = float(stream.duration * stream.time_base)
        frame = next(iter(decode_all(container, path)), None)
        if frame is None:
            raise VideoError(f"{path}: no frame can be decoded; the file is truncated or damaged")
        record.height, record.width = upright_hw(frame)


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """(folder relative to `folder` with a slash, or "", name) of every file that is not hidden, in order."""
    for at, folders, names in os.walk(folder, onerror=_not_listed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(at, folder)
        prefix = "" if inside == "." else f"{inside}/"
        yield from ((prefix, name) for name in sorted(names) if not name.startswith("."))


def _not_listed(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); check its rights")


def _with(folder: Path, stem: str, suffix: str) -> Path:
    return folder / (stem + suffix)


def _format(suffix: str) -> int:
    return SUFFIXES.index(os.path.splitext(f"_{suffix}")[1].lower())


def _is_writable(text: str) -> bool:
    """Whether a name of the file system can stand in a file of text."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _value(path: Path, info: dict[str, Any], key: str, kind: type | tuple) -> Any:
    value = info.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise BadInfo(f"{path}: {key} is {str(value)[:60]!r}; another type is needed there")
    return value


def _text(path: Path, info: dict[str, Any], key: str) -> str:
    return _clean(_value(path, info, key, str) or "")


def _number(path: Path, info: dict[str, Any], key: str) -> float | None:
    value = _value(path, info, key, (int, float))
    if value is not None and not 0 <= value < 1e7:
        raise BadInfo(f"{path}: {key} is {value}; a number from 0 on is needed there")
    return value


def _clean(text: str) -> str:
    return " ".join(INVISIBLE.sub("", text).split())[:MAX_TEXT]


INPUT = FolderInput
