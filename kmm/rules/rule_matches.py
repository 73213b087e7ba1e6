"""Apply a rule to a study: which entries its text has, what the sentences say of them, and the label that follows."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kmm.data.study import SECTIONS, Study
from kmm.rules.negation import AFFIRMED, NEGATED, UNCERTAIN, judge_mentions
from kmm.rules.rule_file import MESH, TEXT, Rule, compile_entry
from kmm.text.clean import compose
from kmm.text.redaction import SPACED
from kmm.text.sentences import find_sentence_ends

ABSENT, UNKNOWN, EXCEPT = "absent", "unknown", "except"
_SPACED = re.compile(SPACED)


@dataclass(frozen=True)
class Match:
    """What a rule found in a study.

    Attributes:
        value: float, the label: 0.0, 1.0 or NaN.
        found: frozenset of `(kind, entry, status)`: the entries that the text has, by the kind of the list that they
            are in, with what their sentences say of them: `"affirmed"`, `"negated"` or `"uncertain"` for `mentions`,
            else the kind.
        read: bool. Whether the study has any text that the rule reads.
    """

    value: float
    found: frozenset[tuple[str, str, str]]
    read: bool


def split_sources(study: Study, sources: Sequence[str]) -> tuple[str, ...]:
    """Splits what a rule reads of a study into sentences, composed by Unicode's rules and with underscores as spaces;
    each MeSH term is one of its own.

    Args:
        study: `Study`.
        sources: names, as `kmm.rules.rule_file.Rule.read`.

    Example:
        >>> from kmm.data.study import Report
        >>> study = Study("1", "1", report=Report(findings="No mass. Clear."), mesh_major=("Opacity/lung",))
        >>> split_sources(study, ("findings", "mesh"))
        ('No mass.', 'Clear.', 'Opacity lung')
    """
    return tuple(sentence for source in sources for sentence in _list_sentences(study, source))


def _list_sentences(study: Study, source: str) -> Iterator[str]:
    if source == MESH:
        yield from (_clean(term.replace("/", " ")) for term in study.mesh_major)
        return
    if source in SECTIONS:
        text = _clean("" if study.report is None else getattr(study.report, source))
    else:
        text = _clean(study.texts.get(source.removeprefix(TEXT), ""))
    start = 0
    for end in [*find_sentence_ends(text), len(text)]:
        if sentence := text[start:end].strip():
            yield sentence
        start = end


def _clean(text: str) -> str:
    return _SPACED.sub(" ", compose(text))


def apply_rule(rule: Rule, sentences: Sequence[str]) -> Match:
    """Decides the label of a study by what its sentences say.

    A mention that a sentence affirms makes the label 1, whatever the others say. Else a doubted mention, or an entry of
    `unknown`, makes it unknown; else a denied one, or an entry of `absent`, makes it 0. Without any of them the rule's
    `unmentioned` decides. A study without text is unknown.

    Args:
        rule: `Rule`.
        sentences: of `split_sources`.

    Returns:
        `Match`.

    Example:
        >>> rule = Rule("Mass", ("findings",), {"mentions": ("mass",), "except": (), "absent": (), "unknown": ()})
        >>> [apply_rule(rule, [text]).value for text in ("A mass.", "No mass.", "Possible mass.", "Clear.")]
        [1.0, 0.0, nan, 0.0]
    """
    if not sentences:
        return Match(math.nan, frozenset(), read=False)
    found: set[tuple[str, str, str]] = set()
    for sentence in sentences:
        found |= _match_sentence(rule, sentence)
    statuses = {status for _, _, status in found}
    if AFFIRMED in statuses:
        value = 1.0
    elif statuses & {UNCERTAIN, UNKNOWN}:
        value = math.nan
    elif statuses & {NEGATED, ABSENT}:
        value = 0.0
    else:
        value = rule.unmentioned
    return Match(value, frozenset(found), read=True)


def _match_sentence(rule: Rule, text: str) -> set[tuple[str, str, str]]:
    found: set[tuple[str, str, str]] = set()
    mentions = [(entry, span) for entry in rule.entries["mentions"] for span in _find(entry, text)]
    if mentions:
        mentions, excepted = _take_out(rule, mentions, text)
        found |= {(EXCEPT, entry, EXCEPT) for entry in excepted}
        statuses = judge_mentions(text, [span for _, span in mentions])
        found |= {("mentions", entry, status) for (entry, _), status in zip(mentions, statuses, strict=True)}
    for entry in rule.entries[ABSENT]:
        if any(status == AFFIRMED for status in judge_mentions(text, _find(entry, text))):
            found.add((ABSENT, entry, ABSENT))
    found |= {(UNKNOWN, entry, UNKNOWN) for entry in rule.entries[UNKNOWN] if _find(entry, text)}
    return found


def _take_out(rule, mentions, text):
    """Returns the mentions that lie in no exception, and the exceptions that took out others."""
    spans = [(span, entry) for entry in rule.entries[EXCEPT] for span in _find(entry, text)]
    kept, excepted = [], set()
    for entry, (start, end) in mentions:
        holder = next((name for (low, high), name in spans if low <= start and high >= end), None)
        if holder is None:
            kept.append((entry, (start, end)))
        else:
            excepted.add(holder)
    return kept, excepted


def _find(entry: str, text: str) -> list[tuple[int, int]]:
    return [match.span() for match in compile_entry(entry).finditer(text)]
