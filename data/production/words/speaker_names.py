"""Names of speakers before a colon at the start of a line: "Christina Miller: and they kick off".

A label of one to five words before a colon is a name where it

- stands in brackets or behind @: "[SPEAKER_00]:", "@Bob:";
- is a word for a speaker, or one with a number: "Commentator:", "Speaker 1:", "Male Voice:";
- is in capitals, with a line behind it that is not: "JOHN: it's in";
- is written as names are ("Jean-Luc Picard", "Ursula von der Leyen"), and stands there twice in the file, or half of
  the file's cues have such a label, or a mark of a change of speakers (>> or a dash) stands before it.

It is none where it has a word of ORDINARY ("Note:", "Final Score:"), or one that the file has in small letters as well.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

WORD = r"\w[\w.'\u2019&()-]*"
LABEL = rf"(?P<label>[@\[(]?{WORD}(?: {WORD}){{0,4}}[\])]?)[ ]?(?::(?=\s|$)|\uff1a)"
# A name alone, or the marks of a change of speakers, a name behind them or not.
PREFIX = re.compile(
    rf"(?:^[^\S\n]*|(?P<mark>(?<!\S)>>+[^\S\n]*|^[^\S\n]*[-\u2010-\u2015]+(?=\s|[^\W\d])[^\S\n]*)){LABEL}", re.MULTILINE
)
MARK = re.compile(r"(?<!\S)>>+|^[^\S\n]*[-\u2010-\u2015]+(?=\s|[^\W\d])", re.MULTILINE)
BRACKETED = re.compile(r"\[.*\]|\(.*\)|@.*")
SPEAKER = re.compile(
    r"(?:(?:[Ff]irst|[Ss]econd|[Mm]ale|[Ff]emale|[Cc]o|[Uu]nknown|[Mm]ain)[ -])?"
    r"(?:speaker|spk|commentator|announcer|narrator|interviewer|interviewee|reporter|presenter|moderator|host|participant"
    r"|pundit|analyst|referee|voice|voiceover|man|woman|male|female|boy|girl|sprecher|kommentator|moderatorin|reporterin)"
    r"(?:[ _#-]?(?:\d{1,3}|[A-Za-z]))?",
    re.IGNORECASE,
)
PARTICLES = frozenset(
    re.findall(r"\w+", "da de del della den der di do dos du el la le ten ter van von und and y e bin al")
)
ORDINARY = frozenset(
    re.findall(
        r"\w+",
        """
        a an the this that these those i you he she it we they my your his her our their its in on at for with
        from of to by as is are was were be so and but or then now well look listen here there what who why how
        when where which yes no okay ok note notes warning caution attention important remember reminder tip
        example score scores scoreline time times result results update updates final finally first second third
        fourth half full last next goal goals assist corner penalty question questions answer answers breaking
        news live today tonight tomorrow yesterday fact facts problem solution reason reasons rule rules option
        options step part chapter round game games match matches set lap minute minutes hour hours day week year
        number team teams group home away winner winners coming weather summary conclusion verdict var ps re via
        subject title topic source subtitles captions translation credit credits music lyrics kick off stoppage
        added extra possession shots line lineup lineups formation substitution yellow red card cards record
        standings table meanwhile plus also however because
        """,
    )
)
LABELLED_SHARE = 0.5  # of the cues, from which on every label that is written like a name is one


class SpeakerNames:
    """The labels of a file that are names."""

    def __init__(self, texts: Sequence[str]):
        self._seen = Counter(label for text in texts for label in _name_like(text))
        n_labelled = self._seen.total()
        self._all = n_labelled > 1 and n_labelled >= LABELLED_SHARE * len(texts)
        self._small = _words_in_small_letters(texts) if self._seen else frozenset()

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where names, and marks of a change of speakers, stand in a text."""
        for match in PREFIX.finditer(text):
            if self._is_name(match, text):
                yield match.span()
        for match in MARK.finditer(text):
            yield match.span()

    def _is_name(self, match: re.Match, text: str) -> bool:
        label = match["label"]
        if BRACKETED.fullmatch(label) or SPEAKER.fullmatch(label):
            return True
        words = {word.lower() for word in label.split()}
        if words & ORDINARY:
            return False
        rest = text[match.end() :].partition("\n")[0]
        if label.isupper() and len(label) > 1 and label.isascii() and any(letter.islower() for letter in rest):
            return True
        if not is_like_a_name(label) or words - PARTICLES <= self._small:
            return False
        return self._all or bool(match["mark"]) or (self._seen[label] > 1 and not _has_no_case(label))


def is_like_a_name(label: str) -> bool:
    """Whether every word has a capital, but for particles, or the script has none."""
    words = label.split()
    first = words[0][0]
    rest = (word[0].isupper() or word[0] in "(&" or word.isdigit() or word in PARTICLES for word in words[1:])
    return _has_no_case(label) or (first.isupper() and all(rest))


def _has_no_case(label: str) -> bool:
    return label.lower() == label.upper() and not label[0].isdigit()


def _name_like(text: str) -> Iterator[str]:
    for match in PREFIX.finditer(text):
        label = match["label"]
        if is_like_a_name(label) and not {word.lower() for word in label.split()} & ORDINARY:
            yield label


def _words_in_small_letters(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(word.strip(".,;:!?\"'") for text in texts for word in text.split() if word.islower())
