"""What yt-dlp's NAME.info.json says of a video."""

from pathlib import Path
from typing import Any

import orjson

from data.production.record import Record
from data.production.words.cues import INVISIBLE

MAX_INFO_BYTES = 64 << 20  # yt-dlp's own have 1 MB; with comments some more
MAX_TEXT = 1000  # characters of a title
KEPT = {
    "video_id": "id",
    "channel_id": "channel_id",
    "license": "license",
    "upload_date": "upload_date",
}  # in extra: key of the file


class BadInfo(Exception):
    """A .info.json that cannot be used."""


def read_info(path: Path, record: Record) -> None:
    """Fill in what it says. Raises BadInfo.

    Where only a section of the video was downloaded (--download-sections), extra["section"] has its start_s and end_s;
    words_outside is added by who reads the captions, which are of the whole video.
    """
    info = _read(path)
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
    record.extra |= {name: text for name, key in KEPT.items() if (text := _text(path, info, key))}
    start_s, end_s = _number(path, info, "section_start"), _number(path, info, "section_end")
    if start_s is not None or end_s is not None:
        end_s = record.duration_s if end_s is None else end_s
        record.extra["section"] = {"start_s": start_s or 0, "end_s": end_s}
        record.duration_s = None if end_s is None else max(end_s - (start_s or 0), 0)


def _read(path: Path) -> dict[str, Any]:
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
    return info


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
