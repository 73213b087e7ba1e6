"""Studies of which film and report must be read together: the report names a place, the film has nodules at several."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kmm.data.phantom.report import Lesion, name_place
from kmm.data.study import Report

FINDING = "Nodule"
PLACES = tuple((side, zone) for side in ("left", "right") for zone in ("upper", "middle", "lower"))
SHOWN = len(PLACES) // 2  # nodules of a film
INDICATIONS = ("Cough.", "Fever.", "Chest pain.", "Follow up.", "XXXX year old male.", "XXXX year old female.")
NAMED = (
    "Is there a nodule in the {place}?",
    "Prior report of a nodule in the {place}.",
    "Attention to the {place}, where a nodule was suspected.",
    "A nodule of the {place} was described elsewhere.",
    "Please compare the {place} for a nodule.",
)
NEUTRAL = (
    "Heart size is normal.",
    "Bony structures are intact.",
    "The trachea is midline.",
    "No pneumothorax.",
    "No pleural effusion.",
    "Pulmonary vascularity is normal.",
    "The diaphragm is normal.",
    "No free air.",
    "Soft tissues are unremarkable.",
)


@dataclass(frozen=True)
class Relation:
    """The plan of one study.

    Attributes:
        agrees: bool. The label: whether the film has a nodule at the named place.
        named: `Lesion`, the nodule that the report names.
        shown: tuple of `Lesion`, the nodules of the film; where the named one is among them, it is the first.
    """

    agrees: bool
    named: Lesion
    shown: tuple[Lesion, ...]


def plan_relations(studies: int, rng: np.random.Generator) -> list[Relation]:
    """Plans studies, half of which agree. Given the label, each place is named equally often (but for one study), and
    each film has nodules at half of the places, so neither film nor report alone says anything about the label.

    Example:
        >>> plans = plan_relations(10, np.random.default_rng(0))
        >>> sum(plan.agrees for plan in plans), {len(plan.shown) for plan in plans}
        (5, {3})
    """
    agreeing = rng.permutation(studies) < round(studies / 2)
    asked = np.empty(studies, int)
    for label in (True, False):
        rows = np.flatnonzero(agreeing == label)
        asked[rows] = rng.permutation(np.arange(len(rows)) % len(PLACES))
    plans = []
    for agrees, named in zip(agreeing, asked, strict=True):
        others = rng.permutation([place for place in range(len(PLACES)) if place != named])
        places = [named, *others[: SHOWN - 1]] if agrees else others[:SHOWN]
        shown = tuple(Lesion(FINDING, *PLACES[place]) for place in places)
        plans.append(Relation(bool(agrees), Lesion(FINDING, *PLACES[named]), shown))
    return plans


def compose_question(named: Lesion, rng: np.random.Generator) -> tuple[Report, tuple[str, ...]]:
    """Composes a report that asks for a nodule at a place, among sentences that name none.

    Args:
        named: `Lesion`.
        rng: `numpy.random.Generator`.

    Returns:
        (report, words): a `Report`, and the words that name the place, lower case, in the order of use.

    Example:
        >>> report, words = compose_question(Lesion("Nodule", "left", "upper"), np.random.default_rng(0))
        >>> words[:2], all(word in report.findings for word in words)
        (('left', 'upper'), True)
    """
    place = name_place(named.side, named.zone, rng)
    sentences = [_pick(NAMED, rng).format(place=place)]
    sentences += [str(one) for one in rng.choice(NEUTRAL, rng.integers(1, 4), replace=False)]
    findings = " ".join(sentences[number] for number in rng.permutation(len(sentences)))
    return Report(indication=_pick(INDICATIONS, rng), findings=findings), tuple(place.split())


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
