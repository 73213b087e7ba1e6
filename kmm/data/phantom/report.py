"""Compose the reports of the phantom set: random sentences in the style of a radiologist.

In the tables below, `[...]` marks the words that name a lesion and `{...}` is a placeholder.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kmm.data.study import SECTIONS, Report

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Lesion:
    """A lesion of a study: its finding (a key of `FINDINGS`), side (left, right) and zone (upper, middle, lower)."""

    finding: str
    side: str
    zone: str


@dataclass(frozen=True)
class Finding:
    """The wording of a finding: its MeSH term, sentences that state it, and nouns for sentences that deny it."""

    mesh: str
    stated: tuple[str, ...]
    denied: tuple[str, ...]


FINDINGS = {
    "Nodule": Finding(
        "Nodule/lung/{zone} lobe/{side}",
        (
            "There is a {size} [nodule] in the {place}.",
            "A [nodular density] projects over the {place}.",
            "{size} [rounded nodule] overlying the {place}.",
            "A {number} mm [nodule] is noted in the {place}.",
            "[Nodule] in the {place} measuring {number} mm.",
            "{size} {side} lung [nodule].",
        ),
        ("pulmonary nodule", "suspicious nodule", "mass"),
    ),
    "Opacity": Finding(
        "Opacity/lung/{zone} lobe/{side}",
        (
            "There is a [patchy opacity] in the {place}.",
            "{size} area of [consolidation] in the {place}.",
            "[Airspace disease] is present in the {place}.",
            "[Hazy infiltrate] is seen in the {place}.",
            "{place} [consolidation].",
            "[Ill defined opacity] over the {place}.",
        ),
        ("focal consolidation", "focal airspace disease", "consolidation in the {place}"),
    ),
    "Effusion": Finding(
        "Pleural Effusion/{side}/small",
        (
            "There is a {size} {side} [pleural effusion].",
            "{size} {side} sided [effusion] is seen.",
            "[Blunting] of the {side} [costophrenic angle].",
            "[Layering effusion] on the {side}.",
            "{side} [pleural effusion].",
            "A {size} [effusion] is present at the {side} base.",
        ),
        ("pleural effusion", "{side} pleural effusion", "large effusion"),
    ),
    "Atelectasis": Finding(
        "Pulmonary Atelectasis/{zone} lobe/{side}",
        (
            "[Linear atelectasis] in the {place}.",
            "There is {size} [bandlike atelectasis] in the {place}.",
            "{place} [atelectasis].",
            "[Subsegmental atelectasis] is noted in the {place}.",
            "{size} [platelike atelectasis] in the {place}.",
        ),
        ("atelectasis", "lobar collapse"),
    ),
    "Cardiomegaly": Finding(
        "Cardiomegaly/mild",
        (
            "The heart is [enlarged].",
            "The cardiac silhouette is mildly [enlarged].",
            "There is mild [cardiomegaly].",
            "Mildly [enlarged] heart.",
            "[Cardiomegaly] is present.",
        ),
        ("cardiomegaly", "cardiac enlargement"),
    ),
}
ALSO_DENIED = (
    "pneumothorax",
    "acute fracture",
    "pulmonary edema",
    "free air",
    "adenopathy",
    "rib fracture",
    "hiatal hernia",
    "acute bony abnormality",
)
DENIALS = (
    "No {first}, {second}, or {third}.",
    "There is no {first} or {second}.",
    "No evidence of {first}.",
    "Negative for {first} or {second}.",
    "Without {first}, {second} or {third}.",
    "No {first} is seen.",
    "Neither {first} nor {second} is present.",
    "There are no signs of {first}, {second} or {third}.",
)
HEART_NORMAL = (
    "Heart size is normal.",
    "The heart is not enlarged.",
    "The cardiac silhouette is within normal limits.",
    "Cardiac and mediastinal contours are unremarkable.",
    "Normal heart size and vascularity.",
)
LUNGS_NORMAL = (
    "The lungs are clear.",
    "Lungs are well expanded and clear.",
    "Both lungs are clear bilaterally.",
    "Clear lungs.",
    "The lungs are adequately inflated.",
    "The {side} lung is clear.",
    "The lungs are of normal volume.",
)
LUNGS_PARTIAL = (
    "The {other} lung is clear.",
    "The {other} costophrenic angle is sharp.",
    "The lungs are adequately inflated.",
    "The lungs are of normal volume.",
)
# Harmless things get places, sides, sizes and similar words as often as lesions do, so that only the words that name a
# lesion reveal it.
HARMLESS = (
    "There is a skin fold in the {place}.",
    "A {size} surgical clip projects over the {place}.",
    "A {number} mm button artifact is noted in the {place}.",
    "{size} {side} sided port with its tip over the {place}.",
    "{side} nipple shadow measuring {number} mm is present.",
    "Overlying lead is seen in the {place}.",
    "{size} area of overlying soft tissue in the {place}.",
    "{place} monitor wire.",
    "A {size} vessel seen on end is noted in the {place}.",
    "{size} {side} sided breast shadow is present.",
    "Sharp {side} costophrenic angle.",
    "Mildly prominent {side} first rib.",
    "The patient is mildly rotated to the {side}.",
    "Layering of clothing over the {side} base.",
)
NEUTRAL = (
    "Bony structures are intact.",
    "The visualized skeleton is unremarkable.",
    "{size} degenerative spurs are present in the spine.",
    "The trachea is midline.",
    "Pulmonary vascularity is normal.",
)
IMPRESSION_NORMAL = (
    "No acute cardiopulmonary disease.",
    "No acute abnormality.",
    "Normal chest.",
    "No active disease in the chest.",
    "No acute process identified.",
    "Unremarkable radiographs of the chest.",
)
IMPRESSION_END = ("", "", "Otherwise no change.", "Clinical correlation is suggested.", "Stable examination.")
SYMPTOMS = ("cough", "shortness of breath", "fever", "chest pain", "weakness", "dyspnea and cough")
OCCASIONS = ("preoperative evaluation", "positive TB test", "employment", "back pain", "dizziness", "follow up")
COMPARISONS = ("None.", "None available.", "XXXX.", "Chest radiograph dated XXXX.", "XXXX, XXXX.", "")
SIZES = ("small", "moderate", "mild", "subtle", "faint", "large")
MISSPELLINGS = {
    "nodule": "noduel", "opacity": "opactiy", "effusion": "effussion", "atelectasis": "atelectesis",
    "consolidation": "consoldation", "cardiomegaly": "cardiomegally", "enlarged": "enlargd", "pleural": "plueral",
    "pneumothorax": "pnuemothorax", "silhouette": "silouette", "unremarkable": "unremarkble", "normal": "nromal",
    "lungs": "lugns", "infiltrate": "infiltarte", "costophrenic": "costophernic", "acute": "actue",
}  # fmt: skip
KEPT = {"no", "not", "without", "negative", "neither", "nor", "clear", "normal"}


def compose_report(
    lesions: Sequence[Lesion], rng: np.random.Generator, *, abnormal: bool
) -> tuple[Report, tuple[str, ...]]:
    """Composes a report that mentions the given lesions and no others.

    Args:
        lesions: list of `Lesion`; an empty list gives the report of a normal film.
        rng: `numpy.random.Generator`.
        abnormal: bool. The study's label, to which the indication is weakly correlated.

    Returns:
        (report, words): a `Report`, and the words that name the lesions, lower case, in order of first use.

    Example:
        >>> report, words = compose_report([Lesion("Nodule", "left", "upper")], np.random.default_rng(1), abnormal=True)
        >>> all(word in report.body for word in words)
        True
    """
    reason = _pick(SYMPTOMS if rng.random() < (0.62 if abnormal else 0.46) else OCCASIONS, rng)
    person = _pick(("XXXX year old male with {}.", "XXXX year old female with {}.", "{}.", "{}, XXXX."), rng)
    empty = _pick(("findings",) * 2 + ("impression",) + ("neither",) * 17, rng)
    sections = {
        "indication": "" if rng.random() < 0.03 else person.format(reason),
        "comparison": _pick(COMPARISONS, rng),
        "findings": "" if empty == "findings" else _write_findings(lesions, rng),
        "impression": "" if empty == "impression" else _write_impression(lesions, rng, must_state=empty == "findings"),
    }
    words: dict[str, None] = {}
    spoilt = {name: _spoil(_capitalise(sections[name]), rng, words) for name in SECTIONS}
    return Report(**spoilt), tuple(words)


def name_mesh(lesion: Lesion) -> str:
    """Returns the MeSH term of a lesion.

    Example:
        >>> name_mesh(Lesion("Opacity", "left", "lower"))
        'Opacity/lung/lower lobe/left'
    """
    return FINDINGS[lesion.finding].mesh.format(side=lesion.side, zone=lesion.zone)


def name_place(side: str, zone: str, rng: np.random.Generator) -> str:
    """Returns the words for a place of the lungs, such as `left upper lobe`.

    Example:
        >>> name_place("left", "middle", np.random.default_rng(0))
        'left mid lung'
    """
    return f"{side} mid lung" if zone == "middle" else f"{side} {zone} {_pick(('lobe', 'lung', 'lung zone'), rng)}"


def _write_findings(lesions: Sequence[Lesion], rng: np.random.Generator) -> str:
    found = {lesion.finding for lesion in lesions}
    sentences = [_state(lesion, rng) for lesion in lesions]
    if "Cardiomegaly" not in found and rng.random() < 0.8:
        sentences.append(_pick(HEART_NORMAL, rng))
    if rng.random() < 0.75:
        partial = found - {"Cardiomegaly"} or rng.random() < 0.5
        sentences.append(_fill(_pick(LUNGS_PARTIAL if partial else LUNGS_NORMAL, rng), rng, lesions))
    denied = [noun for name, finding in FINDINGS.items() if name not in found for noun in finding.denied]
    for _ in range(rng.integers(1, 3)):
        nouns = rng.permutation([*rng.choice(denied, 1), *rng.choice(ALSO_DENIED, 2, replace=False)])
        first, second, third = (str(noun) for noun in nouns)
        sentences.append(_fill(_pick(DENIALS, rng).format(first=first, second=second, third=third), rng, ()))
    harmless = rng.permutation(len(HARMLESS))[: max(0, rng.integers(1, 4) - len(lesions))]
    sentences += [_fill(HARMLESS[index], rng, ()) for index in harmless]
    if rng.random() < 0.4:
        sentences.append(_fill(_pick(NEUTRAL, rng), rng, ()))
    return " ".join(sentences[index] for index in rng.permutation(len(sentences)))


def _write_impression(lesions: Sequence[Lesion], rng: np.random.Generator, *, must_state: bool) -> str:
    if not lesions or not (must_state or rng.random() < 0.8):
        sentences = [_pick(IMPRESSION_NORMAL, rng)]
        if rng.random() < 0.6:
            sentences.append(_fill(_pick(HARMLESS, rng), rng, ()))
    else:
        sentences = [_state(lesion, rng) for lesion in lesions]
    sentences.append(_pick(IMPRESSION_END, rng))
    return " ".join(sentence for sentence in sentences if sentence)


def _state(lesion: Lesion, rng: np.random.Generator) -> str:
    return _fill(_pick(FINDINGS[lesion.finding].stated, rng), rng, [lesion])


def _fill(sentence: str, rng: np.random.Generator, lesions: Sequence[Lesion]) -> str:
    """Fills in side, place, size and number: of the first lesion, or at random if there is none."""
    side = lesions[0].side if lesions else _pick(("left", "right"), rng)
    zone = lesions[0].zone if lesions else _pick(("upper", "middle", "lower"), rng)
    return sentence.format(
        side=side,
        other="right" if side == "left" else "left",
        place=name_place(side, zone, rng),
        size=_pick(SIZES, rng),
        number=_pick((6, 7, 9, 10, 12, 14, 15, 16, 20), rng),
    )


def _capitalise(text: str) -> str:
    """Capitalises the first letter of every sentence."""
    return re.sub(r"(^|\. )(\[?)([a-z])", lambda match: match[1] + match[2] + match[3].upper(), text)


def _spoil(text: str, rng: np.random.Generator, words: dict[str, None]) -> str:
    """Removes the brackets, misspells some words and replaces others by XXXX; adds the bracketed words to `words`."""

    def spoil_word(match: re.Match, kept: bool = False) -> str:
        word, low = match[0], match[0].lower()
        if low in MISSPELLINGS and rng.random() < 0.04:
            wrong = MISSPELLINGS[low]
            return wrong.capitalize() if word[0].isupper() else wrong
        return "XXXX" if not kept and low not in KEPT and rng.random() < 0.015 else word

    def spoil_part(match: re.Match) -> str:
        if not match[1]:
            return spoil_word(match)
        named = re.sub("[A-Za-z]+", lambda word: spoil_word(word, kept=True), match[1])
        words.update(dict.fromkeys(named.lower().split()))
        return named

    return re.sub(r"\[([^\]]+)\]|[A-Za-z]+", spoil_part, text)


def _pick(choices: Sequence[Choice], rng: np.random.Generator) -> Choice:
    return choices[int(rng.integers(len(choices)))]
