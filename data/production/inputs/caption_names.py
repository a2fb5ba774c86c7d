"""What the names of caption files say behind the video's name: the language, and what kind of captions they are.

    NAME.en.vtt   NAME.en-US.json3   NAME.eng.sdh.srt   NAME.a.en.vtt   NAME_en.srt   NAME.English.srt   NAME.srt

yt-dlp puts an id of YouTube's behind a language where a video has several captions in it (en-nP7-2PuUl7o), and the
language that was translated from (en-de).
"""

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from data.production.words.caption_files import SUFFIXES

LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:[-_]([\w-]*))?")
# Kinds, the best first: written for all to read, for the deaf, by a machine, of foreign speech alone.
KINDS = {
    "default": 0, "full": 0, "manual": 0, "sdh": 1, "hi": 1, "cc": 1, "dub": 1, "a": 2, "auto": 2, "asr": 2,
    "generated": 2, "forced": 3, "foreign": 3,
}  # fmt: skip
# ISO 639-2 (both of its codes where there are two), and names, to ISO 639-1.
CODES = dict(
    re.findall(
        r"(\w+):(\w+)",
        """
        afr:af alb:sq amh:am ara:ar arm:hy aze:az baq:eu bel:be ben:bn bos:bs bul:bg bur:my cat:ca ces:cs chi:zh cmn:zh
        cym:cy cze:cs dan:da deu:de dut:nl ell:el eng:en est:et eus:eu fas:fa fil:tl fin:fi fra:fr fre:fr geo:ka ger:de
        gle:ga glg:gl gre:el guj:gu heb:he hin:hi hrv:hr hun:hu hye:hy ice:is ind:id isl:is ita:it iw:he jpn:ja kan:kn
        kat:ka kaz:kk khm:km kor:ko kur:ku lao:lo lat:la lav:lv lit:lt mac:mk mal:ml mar:mr may:ms mkd:mk mon:mn msa:ms
        mya:my nep:ne nld:nl nno:nn nob:nb nor:no pan:pa per:fa pol:pl por:pt ron:ro rum:ro rus:ru sin:si slk:sk slo:sk
        slv:sl som:so spa:es sqi:sq srp:sr swa:sw swe:sv tam:ta tel:te tgl:tl tha:th tur:tr ukr:uk urd:ur uzb:uz vie:vi
        wel:cy yid:yi zho:zh zul:zu
        arabic:ar chinese:zh czech:cs danish:da dutch:nl english:en finnish:fi french:fr german:de greek:el hebrew:he
        hindi:hi hungarian:hu indonesian:id italian:it japanese:ja korean:ko norwegian:no persian:fa polish:pl
        portuguese:pt romanian:ro russian:ru spanish:es swedish:sv thai:th turkish:tr ukrainian:uk vietnamese:vi
        """,
    )
)
KNOWN = frozenset([*CODES, *CODES.values()])


class CaptionLabel(NamedTuple):
    """language: in small letters, its first part of two letters where ISO 639-1 has it, "" where none is named."""

    language: str
    kinds: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The language without its region."""
        return self.language.partition("-")[0]

    @property
    def variant(self) -> str:
        """What stands behind the language: a region, "orig", an id of YouTube's, a language that was translated."""
        return self.language.partition("-")[2]


def language_code(text: str) -> str:
    """A language as it is compared: "eng_US" is "en-us"."""
    base, *rest = re.split("[-_]", text.lower(), maxsplit=1)
    return "-".join([CODES.get(base, base), *(part.replace("_", "-") for part in rest if part)])


def read_label(between: str) -> CaptionLabel | None:
    """What stands between a video's name and a format's suffix; None where it is something else."""
    if between and not between.startswith("."):
        label = read_label(f".{between[1:].strip(' -')}") if between[0] in "_- " else None
        return label if label and label.base in KNOWN else None
    parts = between.split(".")[1:]
    languages = [part for part in parts if part.lower() not in KINDS]
    kinds = [part.lower() for part in parts if part.lower() in KINDS]
    if not languages and "hi" in kinds:
        kinds.remove("hi")  # Hindi, where no other language is named
        languages = ["hi"]
    if len(languages) > 1 or not all(LANGUAGE.fullmatch(part) or part.lower() in CODES for part in languages):
        return None
    return CaptionLabel(language_code(languages[0]) if languages else "", tuple(kinds))


def label_of(suffix: str) -> CaptionLabel | None:
    """What ".en.vtt" says."""
    return read_label(os.path.splitext(f"_{suffix}")[0][1:])


def rank_captions(suffixes: Iterable[str], languages: list[str]) -> list[str]:
    """Captions in one of the languages, or in none that is named, the best first: the language as asked for, as it was
    spoken (en-orig), of a region (en-GB), not named; by people before by machines; and of each the format that says
    most."""

    def rank(suffix: str) -> tuple | None:
        label = label_of(suffix)
        if label is None:
            return None
        kind = max((KINDS[kind] for kind in label.kinds), default=0)
        if not label.language:
            return len(languages), False, 0, kind, _format(suffix), suffix
        for place, wanted in enumerate(map(language_code, languages)):
            exact = [wanted, f"{wanted}-orig"]
            if label.language in exact or label.language.startswith(f"{wanted}-"):
                variant = exact.index(label.language) if label.language in exact else 2
                return place, kind == KINDS["forced"], variant, kind, _format(suffix), suffix
        return None

    return sorted((suffix for suffix in suffixes if rank(suffix) is not None), key=rank)


def _format(suffix: str) -> int:
    return SUFFIXES.index(os.path.splitext(f"_{suffix}")[1].lower())
