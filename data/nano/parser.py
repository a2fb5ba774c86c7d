"""Parser of event lines: free wordings of a five-a-side event -> kind, team, zone, score."""

import re
from dataclasses import dataclass

from data.nano.commentator import NUMBERS
from data.nano.palette import KITS

_IT = r"(?:it|that|the ball|the pass|possession|them|one)"
# Tried in this order: a saved shot is a save, a goal kick is no goal, a corner that is won is no tackle.
_KIND_PATTERNS: tuple[tuple[str, str], ...] = (
    ("goal kick", r"\bgoal ?kicks?\b|\b(?:restarts?|starts? again|plays? on) from (?:the )?goal\b|\bsix yard\b"),
    ("kick-off", r"\bkick(?:s|ing|ed)? ?off\b|\bunder ?way\b|\b(?:gets?|gets? us|got us) going\b"),
    ("kick-off", r"\b(?:begins?|began|starts?|starting|started)\b|\b(?:centre|center) (?:spot|circle)\b"),
    ("throw-in", r"\bthrow(?:s|ing|n)?(?: ?ins?)?\b"),
    ("corner", r"(?<!top )(?<!bottom )(?<!far )(?<!near )\bcorners?\b"),
    ("save", r"\bsav(?:e|es|ed|ing)\b|\bkept out\b|\bdenie[sd]\b|\bstopped by\b|\bparried\b|\bparry\b"),
    ("save", r"\bkeeper (?!.*(?:beaten|no chance))\w+|\bcaught by\b|\bgathered by\b|\bblocked by\b"),
    ("goal", r"\bscor(?:e|es|ed|ing)\b|\bnet(?:s|ted)?\b|\b(?:it's|it is|its) in\b|\bin for\b|\bkeeper beaten\b"),
    ("goal", r"\b(?:put|puts|tap|taps|slot|slots|tuck|tucks|knock|knocks) (?:it|the ball) (?:in|home|away)\b(?! mid)"),
    ("goal", r"(?<!at )(?<!on )(?<!for )(?<!towards )(?<!toward )\bgoal\b|\btop corner\b|\bbottom corner\b"),
    ("shot", r"\bshoots?\b|\bshots?\b|\bshooting\b|\b(?:have|has|having|take|takes) a (?:go|crack|pop)\b"),
    ("shot", r"\btr(?:y|ies) their luck\b"),
    ("shot", r"\bstrikes?\b|\blets? fly\b|\bfires?\b|\beffort\b|\bblasts?\b|\b(?:at|on|for|towards?) goal\b"),
    ("shot", r"\battempt\b"),
    ("interception", r"\bintercept(?:s|ed|ion)?\b|\bcuts? (?:\w+ )?(?:\w+ )?out\b|\bpick(?:s|ed)? (?:\w+ ){0,2}off\b"),
    ("interception", rf"\breads? {_IT}\b|\bsteps? in\b|\bste?als?\b|\bstole\b|\bstolen\b|\bsteals?\b|\bcut out\b"),
    ("interception", r"\b(?:gets?|got) in the way\b|\bsnaps? up\b|\bpounces?\b|\banticipat\w+\b|\bgives? it away\b"),
    ("tackle", r"\btackl\w+\b|\bchallenges?\b|\bslid(?:es?|ing) in\b|\bdig(?:s)? (?:it|the ball) out\b"),
    ("tackle", r"\bdispossess\w*\b"),
    ("tackle", rf"\b(?:wins?|won) {_IT}\b|\b(?:takes?|took) (?:it|the ball) off\b|\brobs?\b|\brobbed\b|\bnicks? it\b"),
    ("tackle", r"\bstrips?\b|\bwins? the duel\b|\bmuscles?\b|\bback from\b"),
    ("pass", rf"\bpass(?:es|ed|ing)?\b|\bfinds?\b|\b(?:keeps?|moves?|plays?|rolls?|works?|knocks?) {_IT}\b"),
    ("pass", r"\bball (?:from|by|to|through|for)\b|\b(?:good|nice|neat|lovely|clever|fine|simple|long|short) ball\b"),
    ("pass", r"\bswitch(?:es)?\b"),
    ("pass", r"\bfeeds?\b|\blays? it\b|\bexchange\b|\blinks? up\b|\bcombine\b|\bteam ?mate\b|\bpicks? out\b"),
)
KIND_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _KIND_PATTERNS)
ZONE_WORDS = {
    "left": "left",
    "right": "right",
    "midfield": "middle",
    "middle": "middle",
    "centre": "middle",
    "center": "middle",
    "central": "middle",
    "centrally": "middle",
    "top": "top",
    "upper": "top",
    "bottom": "bottom",
    "lower": "bottom",
}
_COLOUR = "|".join(KITS)
_NAMED_BY = re.compile(rf"\b(?:by|to|for|with) (?:the )?({_COLOUR})s?\b")
_NAMED = re.compile(rf"\b({_COLOUR})s?\b")
_DIGITS = {word: number for number, word in enumerate(NUMBERS)} | {str(n): n for n in range(10)}
_NUMBER = "|".join(_DIGITS)
_SCORE = re.compile(rf"\b({_NUMBER}) (?:to )?({_NUMBER}|all|each|apiece)\b")


@dataclass(frozen=True)
class ParsedLine:
    """What a line says. zone and score are None where it says nothing of them."""

    kind: str
    team: str  # colour
    zone: str | None
    score: tuple[int, int] | None


def parse_event_line(text: str) -> ParsedLine | None:
    """Kind and team of an event line, with zone and score if spoken; None for a line that names no event or team."""
    plain = " ".join(re.sub(r"[^\w' ]", " ", text.lower()).split())
    kind = next((kind for kind, pattern in KIND_PATTERNS if pattern.search(plain)), None)
    team = _NAMED_BY.search(plain) or _NAMED.search(plain)
    if kind is None or team is None:
        return None
    return ParsedLine(kind, team.group(1), _zone(plain, kind), _score(plain))


def _zone(plain: str, kind: str) -> str | None:
    """The zone that fits the kind: a flank for balls from the edge, none at a goal or the centre spot, else a third."""
    if kind in ("kick-off", "save", "goal", "goal kick"):
        return None
    named = [ZONE_WORDS[word] for word in plain.split() if word in ZONE_WORDS]
    wanted = ("top", "bottom") if kind in ("corner", "throw-in") else ("left", "middle", "right")
    return next((zone for zone in named if zone in wanted), named[0] if named else None)


def _score(plain: str) -> tuple[int, int] | None:
    found = _SCORE.search(plain)
    if found is None:
        return None
    home, away = found.groups()
    first = _DIGITS[home]
    return (first, _DIGITS.get(away, first))
