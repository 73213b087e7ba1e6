"""Judge whether a sentence affirms, denies or doubts what it mentions.

The method is that of NegEx and ConText, with phrases for chest reports: a phrase such as "no" acts on the words behind
it, one such as "is not seen" on those before it, each up to a phrase that ends a clause, such as "but". A phrase such
as "no change" denies nothing, although it begins with "no".

Sources: NegEx, https://doi.org/10.1006/jbin.2001.1029; ConText, https://doi.org/10.1016/j.jbi.2009.05.002
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

AFFIRMED, NEGATED, UNCERTAIN = "affirmed", "negated", "uncertain"
_NO, _NOT_SEEN, _PERHAPS, _POSSIBLE, _EITHER = "no", "not seen", "perhaps", "is possible", "versus"
_PSEUDO, _END, _VERB, _COMMA = "no change", "but", "is", ","

# Each phrase by what it does. Of two that begin at one place, the longer one counts.
_PHRASES: dict[str, tuple[str, ...]] = {
    # denies what follows
    _NO: (
        *("no", "not", "without", "w/o", "nor", "neither", "never", "none of", "denies", "denied", "lack of", "lacks"),
        *("absence of", "free of", "clear of", "free from", "negative for", "resolution of", "interval resolution of"),
        *(
            f"no {seen}"
            for seen in ("visualized", "visualised", "identified", "demonstrated", "appreciated", "observed")
        ),
        *("nothing", "fails to", "failed to", "rather than", "instead of", "removal of", "no longer any"),
    ),
    # denies what precedes
    _NOT_SEEN: (
        *(f"not {seen}" for seen in ("seen", "identified", "noted", "visualized", "visualised", "present", "evident")),
        *(f"not {seen}" for seen in ("demonstrated", "appreciated", "detected", "observed", "found", "apparent")),
        *(
            "not demonstrable",
            "not definitely seen",
            "not definitely identified",
            "no longer seen",
            "no longer present",
        ),
        *("no longer identified", "no longer visualized", "no longer evident", "no longer demonstrated", "is absent"),
        *("are absent", "none", "ruled out", "has resolved", "have resolved", "has been resolved", "resolved"),
        *("has cleared", "have cleared", "excluded"),
    ),
    # doubts what follows
    _PERHAPS: (
        *("possible", "possibly", "probable", "probably", "perhaps", "may", "maybe", "might", "could", "suspected"),
        *("suspect", "suspicious for", "suspicion of", "suspicion for", "concern for", "concerning for"),
        *("worrisome for", "questionable", "question", "question of", "questioned", "equivocal", "suggest", "suggests"),
        *("suggesting", "suggestion of", "suggestive of", "favor", "favors", "favoring", "possibility of"),
        *("may be due to", "may be secondary to", "could be due to", "possibly due to", "probably due to"),
        *("cannot exclude", "can not exclude", "cannot rule out", "can not rule out", "can't exclude", "to exclude"),
        *("not exclude", "not rule out", "rule out", "r/o", "evaluate for", "evaluation for", "assess for"),
        *("differential diagnosis includes", "differential includes", "differential considerations include"),
        *("if there is", "whether there is", "low probability of", "difficult to exclude", "unlikely"),
    ),
    # doubts what precedes
    _POSSIBLE: (
        *(
            "is possible",
            "are possible",
            "is suspected",
            "are suspected",
            "is questioned",
            "cannot be excluded",
            "cannot be ruled out",
        ),
        *("can not be excluded", "can not be ruled out", "could not be excluded", "not be excluded", "not excluded"),
        *("not entirely excluded", "not completely excluded", "difficult to exclude", "not ruled out"),
        *(
            "is unlikely",
            "are unlikely",
            "considered unlikely",
            "is less likely",
            "not well seen",
            "not well visualized",
            "not well evaluated",
            "cannot be assessed",
        ),
        *("would be difficult to exclude", "should be considered", "is a consideration", "are considerations"),
    ),
    _EITHER: ("versus", "vs", "vs."),  # doubts both
    # looks like one of these, and does nothing
    _PSEUDO: (
        *("no change", "no changes", "no significant change", "no significant interval change", "no interval change"),
        *("no definite change", "no increase", "no interval increase", "no decrease", "no interval improvement"),
        *("no improvement", "no progression", "no significant interval increase", "no worsening", "not only"),
        *("not necessarily", "not significantly changed", "not changed", "not increased", "not decreased"),
        *("without change", "without significant change", "without interval change", "without increase"),
        *("without significant interval change", "without improvement", "no comparison", "no comparisons", "no prior"),
        *("no priors", "no previous", "not as", "not unexpected", "not unchanged", "seen to suggest", "not well"),
    ),
    # ends a clause
    _END: (
        *("but", "however", "although", "though", "except", "except for", "aside from", "apart from", "other than"),
        *("with the exception of", "besides", "nevertheless", "nonetheless", "yet", "whereas", "while", "which"),
        *("there is", "there are", "there has", "there have", "and the", "secondary to", "due to", "because of"),
        *("seen", "identified", "noted", "visualized", "visualised", "demonstrated", "evident", "appreciated"),
        *("detected", "observed"),
    ),
    _VERB: ("is", "are", "was", "were", "has", "have", "had", "shows", "demonstrates", "reveals", "remains", "appears"),
}
_SIGNS = {",": _COMMA, ";": _END}


def _write(phrase: str) -> str:
    return r"\s+".join(map(re.escape, phrase.split()))


_KINDS: dict[str, set[str]] = {}
for _kind, _phrases in _PHRASES.items():
    for _phrase in _phrases:
        _KINDS.setdefault(_phrase, set()).add(_kind)
_ALL = "|".join(map(_write, sorted(_KINDS, key=len, reverse=True)))
_EVENT = re.compile(rf"(?<![a-z0-9])(?:{_ALL})(?![a-z0-9])|,\s+the(?![a-z0-9])|[,;]")


@dataclass(frozen=True)
class _Event:
    """A phrase of a sentence at `[start, end)`, and what it does."""

    start: int
    end: int
    kinds: frozenset[str]


def judge_mentions(sentence: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """Judges the mentions in a sentence.

    Args:
        sentence: str.
        spans: sequence of `(start, end)`: `sentence[start:end]` is a mention.

    Returns:
        list of `AFFIRMED`, `NEGATED` or `UNCERTAIN`, one for each mention. A mention that is both denied and doubted
        counts as denied.

    Example:
        >>> text = "No pneumothorax, possible small effusion but stable mass"
        >>> judge_mentions(text, [(3, 15), (32, 40), (52, 56)])
        ['negated', 'uncertain', 'affirmed']
    """
    if not spans:
        return []
    events = _find_events(sentence)
    return [_judge(events, start, end) for start, end in spans]


@lru_cache(maxsize=256)  # the rules of all labels judge a sentence one after the other
def _find_events(sentence: str) -> tuple[_Event, ...]:
    found = []
    for match in _EVENT.finditer(sentence.lower()):
        text = " ".join(match[0].split())
        kinds = {_END} if text.startswith(",") and text != "," else {_SIGNS[text]} if text in _SIGNS else _KINDS[text]
        found.append(_Event(*match.span(), frozenset(kinds)))
    return tuple(found)


def _judge(events: Sequence[_Event], start: int, end: int) -> str:
    before = [event for event in events if event.end <= start]
    after = [event for event in events if event.start >= end]
    found = {_look_back(before), _look_ahead(after)}
    return next((status for status in (NEGATED, UNCERTAIN) if status in found), AFFIRMED)


def _look_back(before: Sequence[_Event]) -> str:
    """Judges by the phrases before a mention, nearest first. A denial in front of a doubt counts, as in "nothing to
    suggest", unless a comma divides them."""
    doubted = comma = False
    for event in reversed(before):
        if _END in event.kinds:
            break
        if _NO in event.kinds:
            return UNCERTAIN if doubted and comma else NEGATED
        comma = comma or (doubted and _COMMA in event.kinds)
        doubted = doubted or bool(event.kinds & {_PERHAPS, _EITHER})
    return UNCERTAIN if doubted else AFFIRMED


def _look_ahead(after: Sequence[_Event]) -> str:
    """Judges by the phrases behind a mention. Two verbs between them belong to different clauses."""
    verbs = 0
    for event in after:
        verbs += _VERB in event.kinds
        if verbs > 1 or _END in event.kinds or _NO in event.kinds:
            break
        if _NOT_SEEN in event.kinds:
            return NEGATED
        if event.kinds & {_POSSIBLE, _EITHER}:
            return UNCERTAIN
        if _PERHAPS in event.kinds:  # of what follows it
            break
    return AFFIRMED
