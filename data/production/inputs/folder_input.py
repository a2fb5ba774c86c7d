"""Input: folders of videos, with the titles and captions that stand beside them, as yt-dlp and cameras leave them.

    python -m data.production.run CONFIG.yaml        # with  inputs: {folder_input: {folders: [datasets/videos]}}

For NAME.mp4 (.mkv, .webm, ...) the title, category, channel, language, height and length come from NAME.info.json, and
words from NAME.en.json3, .en.vtt, .en.srt or the same without a language, the first of them that can be read. Neither
is needed: speech recognition needs only the videos. Captions may stand in a folder of their own, under the same names
(caption_folder). folder_listing.py says which files belong together, caption_names.py which captions are the best.

Nothing that a file says is taken as a path. A broken file is a rejected record that names it; the others go on.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av

from data.production.inputs.caption_names import CaptionLabel, label_of, language_code, rank_captions
from data.production.inputs.folder_listing import VIDEO_SUFFIXES, Files, list_folder, same_name
from data.production.inputs.info_file import BadInfo, read_info
from data.production.record import Record
from data.production.stage import Input
from data.production.words.caption_files import SUFFIXES, BadCaptions, CaptionTranscript, read_captions
from data.production.words.section import cut_section
from data.video.container import FFMPEG_ERRORS, VideoError, decode_all, frame_ticks, open_video, video_stream
from data.video.file_clock import FileClock
from data.video.pixels import shown_hw
from utils.errors import UserError

SHOWN_FILES = 5  # in a message
SECTION_SLACK_S = 5.0  # captions of a section itself end so long behind it at most


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

    name, version, Options = "folder_input", 3, FolderOptions

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
                        list(entry) if _is_writable(entry.stem + entry.video) else ascii(entry.stem) for entry in files
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
        own = [folder / name for name in (files.video, files.info) if name]
        return own + [captions / name for name in files.captions]

    def _record(self, folder: Path, files: Files) -> Record:
        # "#" parts a clip's number from its video's name.
        name = (files.video or files.stem).replace("#", "%23")
        if len(self.options.folders) > 1:
            name = f"{folder.as_posix()}/{name}"
        path = folder / (files.video or files.info or "".join(files.captions[:1]))
        record = Record(name, source=str(path))
        try:
            if files.info:
                read_info(folder / files.info, record)
            self._read_words(folder, files, record)
            if files.video:
                record.video = str(path)
                if self.options.open_videos:
                    _read_size(path, record)
            elif self.options.videos_required:
                parts = [name for name in files.others if _is_video(name)]
                why = f"; yt-dlp has not merged {', '.join(parts)}: let it go on, or rename one" if parts else ""
                record.reject(self.name, "no_video", f"{path}: no video under this name{why}")
        except BadInfo as fault:
            record.reject(self.name, "malformed_info", str(fault))
        except BadCaptions as fault:
            record.reject(self.name, fault.reason, str(fault))
        except VideoError as fault:
            record.reject(self.name, "broken_video", str(fault))
        return record

    def _read_words(self, folder: Path, files: Files, record: Record) -> None:
        """The first captions that can be read, in the order of languages, then formats; where there are none,
        extra["no_captions"] says why of each file that lies there. Raises BadCaptions."""
        names = {same_name(name)[len(files.stem) :]: name for name in files.captions}
        fault: BadCaptions | None = None
        not_taken: dict[str, str] = {}
        for suffix in rank_captions(names, self.options.languages):
            path = Path(self.options.caption_folder or folder) / names[suffix]
            try:
                transcript = read_captions(path, self.options.caption_encoding)
            except BadCaptions as error:
                not_taken[names[suffix]] = str(error).removeprefix(f"{path}: ")
                # Anything may lie beside a video as .json.
                fault = fault if path.suffix.lower() == ".json" else fault or error
                continue
            _keep_transcript(record, transcript, label_of(suffix))
            record.extra["captions"] = suffix.lstrip("._- ")
            return
        if fault:
            raise fault
        wanted = ", ".join(self.options.languages)
        beside = [*files.captions, *(name for name in files.others if not _is_video(name))]
        others = {name: _why_not(files.stem, name, wanted) for name in beside}
        if not_taken := {**others, **not_taken}:
            record.extra["no_captions"] = _named(not_taken)
        if self.options.captions_required:
            why = record.extra.get("no_captions", "no file of captions lies beside it")
            raise BadCaptions("no_captions", f"{folder / files.stem}: no captions in {wanted}; {why}")


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def _why_not(stem: str, name: str, wanted: str) -> str:
    """Why a file that lies beside a video was not read as its captions."""
    before, suffix = os.path.splitext(same_name(name)[len(stem) :])
    label = label_of(before + suffix)
    if before.endswith(".live_chat"):
        return "a chat, no captions"
    if suffix.lower() not in SUFFIXES:
        return f"{suffix} is not read; make SubRip of it: ffmpeg -i FILE{suffix} FILE.en.srt"
    if label is None:
        return f"{before!r} names no language; name it {stem}.en{suffix}"
    return f"language {label.language}, wanted {wanted}"


def _named(reasons: dict[str, str]) -> str:
    named = [f"{name}: {why}" for name, why in sorted(reasons.items())]
    more = f"; and {len(named) - SHOWN_FILES} more" if len(named) > SHOWN_FILES else ""
    return "; ".join(named[:SHOWN_FILES]) + more


def _keep_transcript(record: Record, transcript: CaptionTranscript, label: CaptionLabel) -> None:
    record.words, record.captions = transcript.words, transcript.captions
    video_language = language_code(record.language).partition("-")[0]
    spoken = label.base or language_code(transcript.language).partition("-")[0]
    # What a machine has translated (en-de) is not in the language that is spoken.
    if spoken and spoken != video_language and not (video_language and label.variant == video_language):
        if record.language:
            record.extra["video_language"] = record.language
        record.language = spoken
    if transcript.left_out:
        record.extra["captions_left_out"] = transcript.left_out
    if "section" in record.extra:
        _cut_section(record, label)


def _cut_section(record: Record, label: CaptionLabel) -> None:
    """Put captions of a whole video on the clock of the section that was downloaded. Those that somebody made of the
    section itself name no language, and end with it."""
    section = record.extra["section"]
    entries = record.words or record.captions
    length_s = record.duration_s
    if not label.language and length_s is not None and entries and entries[-1][1] <= length_s + SECTION_SLACK_S:
        return
    record.words, n_words = cut_section(record.words, section["start_s"], section["end_s"])
    record.captions, n_in_captions = cut_section(record.captions, section["start_s"], section["end_s"])
    section["words_outside"] = n_words + n_in_captions
    if not (record.words or record.captions):
        record.extra["no_captions"] = f"all {section['words_outside']} words lie outside of its section"


def _read_size(path: Path, record: Record) -> None:
    """Height, width and length of a video's picture as it is. Raises VideoError where no frame can be decoded."""
    with open_video(path) as container:
        frame = next(iter(decode_all(container, path)), None)
        if frame is None:
            raise VideoError(f"{path}: no frame can be decoded; the file is truncated or damaged")
        record.height, record.width = shown_hw(frame, video_stream(container).sample_aspect_ratio)
        seconds = _picture_s(container, path)
        record.duration_s = record.duration_s if seconds is None else seconds


def _picture_s(container: av.container.InputContainer, path: Path) -> float | None:
    """When the last frame ends, on the file's clock; sound may go on for longer. None where no packet says it."""
    stream, clock = video_stream(container), FileClock(container, path)
    # What a stream states as its length may be the file's. Where the clock may jump, or nothing lies behind the seek,
    # all is read.
    ahead_s = 0 if clock.may_jump else (container.duration or 0) / av.time_base
    with contextlib.suppress(*FFMPEG_ERRORS):
        for at_s in dict.fromkeys((ahead_s, 0)):
            container.seek(int((at_s + clock.zero_s) / stream.time_base), stream=stream)
            timed = (packet for packet in clock.packets(stream) if packet.size and packet.pts is not None)
            end = max((packet.pts + (packet.duration or frame_ticks(stream)) for packet in timed), default=None)
            if end is not None:
                return float(end * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _is_writable(text: str) -> bool:
    """Whether a name of the file system can stand in a file of text."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


INPUT = FolderInput
