"""Loss of similarity when the places and words that its explanation names are removed from a study, and by chance.

The explanation names the circles of a film and the strongest words of a report. They are replaced by the baseline, as
they were in the attribution, and the other study stays as it is. For chance, the circles are moved together to a random
place of the film, and as many words are drawn.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import numpy as np

from kmm.data.study import Problem, Study
from kmm.explain.attribution.baselines import film_area
from kmm.explain.attribution.methods import make_baseline
from kmm.explain.fidelity.localisation import cover_circles
from kmm.explain.similarity.cosine import aim_case
from kmm.explain.similarity.explainer import PreparedStudy, SimilarityExplainer
from kmm.explain.similarity.pair import ComparedStudy

WORDS = 0.2  # share of the words that were read which count as named, those with the largest positive sums
DRAWS = 8  # random removals of a study
BATCH = 8  # studies scored at once
SIDES = ("film", "words")


@dataclass(frozen=True)
class SimilarityLoss:
    """Loss of the cosine of two studies when parts of one of them are removed.

    Attributes:
        study: str. Id of the study from which they are removed.
        other: str. Id of the other one.
        cosine: float. Of both as they are.
        named: float. What the cosine loses without the named places and words; NaN if none are named.
        by_chance: float. What it loses without random ones, the mean over draws.
        film_named, film_by_chance, words_named, words_by_chance: float. The same without places alone, and without
            words alone.
        completeness_gap: float >= 0. Of the attribution, see `kmm.explain.attribution.result.Attribution`.
    """

    study: str
    other: str
    cosine: float
    named: float = nan
    by_chance: float = nan
    film_named: float = nan
    film_by_chance: float = nan
    words_named: float = nan
    words_by_chance: float = nan
    completeness_gap: float = nan

    def as_dict(self) -> dict[str, Any]:
        """Returns the loss as written to JSON: None where a number is unknown."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def measure_losses(
    explainer: SimilarityExplainer,
    one: Study,
    others: Iterable[Study],
    set_aside: Callable[[Problem], None] | None = None,
    *,
    reads: tuple[str, str] = ("both", "both"),
    draws: int = DRAWS,
    seed: int = 0,
) -> Iterator[SimilarityLoss]:
    """Measures, for pairs of studies, what their similarity loses without what its explanation names.

    Args:
        explainer: `SimilarityExplainer`.
        one, others, set_aside, reads: as for `SimilarityExplainer.explain`.
        draws: int, at least 1. Random removals per study.
        seed: int. The draws depend on it and on nothing else.

    Yields:
        `SimilarityLoss` of `one` without its parts, then of the other one without its own, for each pair.

    Raises:
        InputError: as `SimilarityExplainer.explain`.
    """
    others = list(others)
    by_id = {study.id: study for study in others}
    first = explainer.prepare(one, reads[0])
    for pair in explainer.explain(one, others, set_aside, reads=reads):
        second = explainer.prepare(by_id[pair.other.study], reads[1])
        generator = np.random.default_rng(seed)
        yield _measure(explainer, first, pair.one, second, draws, generator)
        yield _measure(explainer, second, pair.other, first, draws, generator)


def _measure(explainer, own: PreparedStudy, found: ComparedStudy, other: PreparedStudy, draws, generator):
    case = aim_case(own.case, other.vector, own.length)
    baseline = make_baseline(case, explainer.settings.baselines[0], explainer.settings.text_baseline)
    named, chances = _name_parts(explainer, own, found, draws, generator)
    choices: list[tuple[str, ...]] = [("film",), ("words",), SIDES]
    asked = [(), *(sides for sides in choices if set(sides) & set(named))]
    changed = [_remove(case, baseline, named, sides) for sides in asked]
    changed += [_remove(case, baseline, chance, sides) for chance in chances for sides in asked[1:]]
    cosine, *rest = _score(explainer, changed, case.fixed)
    numbers = np.array(rest).reshape(-1, max(len(asked) - 1, 1)) if rest else np.zeros((0, 1))
    lost = {}
    for column, sides in enumerate(asked[1:]):
        name = "" if sides == SIDES else f"{sides[0]}_"
        lost[f"{name}named"] = float(cosine - numbers[0, column])
        lost[f"{name}by_chance"] = float(cosine - numbers[1:, column].mean())
    gap = found.attribution.completeness_gap
    return SimilarityLoss(own.study.id, other.study.id, float(cosine), **lost, completeness_gap=gap)


def _name_parts(explainer, own, found, draws, generator):
    """Returns the named pixels and rows, dict of `"film"` and `"words"` to bool arrays, and as many random ones."""
    named, chances = {}, [{} for _ in range(draws)]
    if found.heat is not None and found.film is not None and found.regions:
        mask = cover_circles(found.regions, found.film.shape, shape=found.heat.shape)
        named["film"] = mask
        for chance in chances:
            chance["film"] = np.roll(mask, [int(generator.integers(size)) for size in mask.shape], axis=(0, 1))
    if not found.words_scored:
        return named, chances
    read = [word for word in explainer.cases.read_report(own.study)[2] if word.rows.start < word.rows.stop]
    signed = {word.start: word.signed for word in found.words}
    order = sorted(range(len(read)), key=lambda place: -signed[read[place].start])
    positive = [place for place in order if signed[read[place].start] > 0]
    if chosen := positive[: max(1, round(WORDS * len(read)))]:
        length = len(own.case.inputs["rows"])
        named["words"] = _mark_rows([read[place] for place in chosen], length)
        for chance in chances:
            drawn = generator.choice(len(read), len(chosen), replace=False)
            chance["words"] = _mark_rows([read[place] for place in drawn], length)
    return named, chances


def _mark_rows(words, length):
    marked = np.zeros(length, bool)
    for word in words:
        marked[word.rows] = True
    return marked


def _remove(case, baseline, parts, sides):
    """Returns the inputs of a case with the parts of some sides replaced by the baseline."""
    inputs = dict(case.inputs)
    if "film" in sides and "film" in parts:
        area = film_area(inputs["image"].shape, case.box)
        inputs["image"] = inputs["image"].copy()
        inputs["image"][area] = np.where(parts["film"][..., None], baseline["image"][area], inputs["image"][area])
    if "words" in sides and "words" in parts:
        inputs["rows"] = np.where(parts["words"][:, None], baseline["rows"], inputs["rows"])
    return inputs


def _score(explainer, changed, fixed):
    """Scores variants of one study, some at once; the last batch is padded, so that nothing is traced twice."""
    scores = []
    further = {name: np.stack([value] * BATCH) for name, value in fixed.items()}
    for start in range(0, len(changed), BATCH):
        some = changed[start : start + BATCH]
        padded = some + some[-1:] * (BATCH - len(some))
        inputs = {name: np.stack([one[name] for one in padded]) for name in padded[0]}
        scores.extend(explainer.split.integrator.score(inputs, further)[: len(some), 0].tolist())
    return scores
