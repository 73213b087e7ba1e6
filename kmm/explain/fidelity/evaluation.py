"""Evaluation of methods on studies with known findings, and choice of the sight sensitivity on validation studies."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kmm.classifier import Classifier
from kmm.data.study import Problem, Study
from kmm.errors import InputError
from kmm.explain.attribution.methods import choose_method
from kmm.explain.explainer import Explainer
from kmm.explain.fidelity import deletion, localisation, measures, sensitivity
from kmm.explain.fidelity.agreement import REFERENCE, Compared, compare_explanations, take_compared
from kmm.explain.fidelity.ground_truth import NOTHING_KNOWN, Truth
from kmm.explain.regions.find import find_regions
from kmm.explain.settings import ExplainSettings
from kmm.progress import Progress

RANDOM_POINT, IMAGE_CENTRE, RANDOM_ORDER = "random point", "image centre", "random order"
RANDOMISED = 20  # studies whose maps are compared with those of a model with new weights


def try_methods(
    classifier: Classifier,
    studies: Sequence[Study],
    methods: Sequence[str],
    *,
    settings: ExplainSettings,
    truth: Truth = NOTHING_KNOWN,
    randomised: int = RANDOMISED,
    set_aside: Callable[[Problem], None] | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Explains studies by several methods and measures each explanation.

    If integrated gradients are among the methods, they come first, and the others are compared with them.

    The explained label is that of the settings; without one, a label for which `truth` has a box or words of the study;
    without those, the study's most probable label.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`.
        methods: sequence of names in `kmm.explain.attribution.methods.METHODS`.
        settings: `ExplainSettings`; its method is replaced by each of `methods`.
        truth: `Truth` of the classifier's labels.
        randomised: int. Number of studies whose maps are compared with those of the model with new weights.
        set_aside: callable taking a `Problem`. Called once for each study that cannot be explained, which is then left
            out. None: the error is raised.
        progress: `kmm.progress.Progress`.

    Returns:
        list of dict for `kmm.explain.fidelity.measures.measure_fidelity`: one row per method and study, and rows of the
        baselines that ignore the film: a random point, the centre of the film, pixels in random order.
        `docs/explanation.md` explains the measures.

    Raises:
        InputError: if a method is unknown or does not suit the classifier, or a box ends beyond its film.
    """
    progress = progress or Progress()
    rows: list[dict[str, Any]] = []
    by_id = {study.id: study for study in studies}
    report_once = _report_once(set_aside)
    targets = {study.id: truth.target_of(study) for study in studies}
    references: dict[str, Compared] = {}
    smoothing = settings.regions.smoothing
    for number, method in enumerate(sorted(methods, key=lambda name: name != REFERENCE)):
        explainer = Explainer(classifier, replace(settings, method=method))
        before: dict[str, Compared] = {}
        with progress.step(f"Trying {method}", len(studies)) as advance:
            for explanation in _explain(explainer, studies, targets, report_once, advance):
                film = None
                if explanation.heat is not None:
                    film = deletion.ScoredFilm(explainer, by_id[explanation.study], explanation)
                row, own = {"method": method, **_measure(film, explanation, truth)}, take_compared(explanation)
                if method == REFERENCE:
                    references[explanation.study] = own
                elif explanation.study in references:
                    reference, signed = references[explanation.study], choose_method(method).signed
                    row.update(compare_explanations(own, reference, smoothing=smoothing, signed=signed))
                rows.append(row)
                if number == 0:
                    rows += _try_nothing(film, explanation, truth)
                if len(before) < randomised:
                    before[explanation.study] = own
        rows += _compare_randomised(classifier, studies, before, explainer.settings, report_once)
    return rows


def _report_once(set_aside):
    """Makes a function that passes each problem to `set_aside` only once, though every method meets it."""
    if set_aside is None:
        return None
    reported = set()

    def report_once(problem):
        if problem not in reported:
            reported.add(problem)
            set_aside(problem)

    return report_once


def _explain(explainer, studies, targets, set_aside, advance=lambda: None):
    """Yields explanations of studies, each for its own label; counts explained studies and those set aside."""

    def refuse(problem):
        set_aside(problem)
        advance()

    for explanation in explainer.explain(studies, set_aside and refuse, targets):
        yield explanation
        advance()


def _measure(film, explanation, truth):
    """Returns the measures of one explanation; `film` is a `ScoredFilm`, or None for a study without a film."""
    found = explanation.attribution
    row = {
        "study": explanation.study,
        "completeness_gap": found.completeness_gap,
        "map_error": found.map_error,
        "steps": found.steps,
    }
    boxes = truth.of_film(explanation)
    if boxes and film:
        strongest = (explanation.regions[0].x, explanation.regions[0].y) if explanation.regions else None
        row["hit"] = localisation.pointing_hit(strongest, boxes)
        peak = localisation.peak_of(explanation.heat, explanation.film.shape)
        row["hit_peak"] = localisation.pointing_hit(peak, boxes)
        row["iou"] = localisation.iou_of_circles(explanation.regions, boxes, explanation.film.shape)
        if len(boxes) == 1:
            row["hit_one"] = row["hit"]
    if film:
        row["speaks"] = film.speaks
        row.update(film.remove(deletion.order_pixels(explanation.heat)))
    naming = truth.of_report(explanation)
    if naming and "rows" in found.values:
        row["named"] = measures.named_in_top(explanation.words, naming)
    return row


def _try_nothing(film, explanation, truth):
    """Returns the measures of the baselines that ignore the film."""
    rows = []
    boxes = truth.of_film(explanation)
    if boxes:
        chance = localisation.point_by_chance(boxes, explanation.film.shape)
        for method, hit in ((RANDOM_POINT, chance["random_expected"]), (IMAGE_CENTRE, chance["centre"])):
            row = {"method": method, "study": explanation.study, "hit": hit}
            rows.append({**row, "hit_one": hit} if len(boxes) == 1 else row)
    if film:
        seed = [0, int.from_bytes(explanation.study.encode()[-6:], "big")]
        order = np.random.default_rng(seed).permutation(explanation.heat.size)
        rows.append({"method": RANDOM_ORDER, "study": explanation.study, **film.remove(order)})
    return rows


def _compare_randomised(classifier, studies, before, settings, set_aside):
    """Measures how similar the maps of film and words are between the trained model and one with new weights."""
    if not before:
        return []
    model = measures.randomise_weights(classifier.models[classifier.main], seed=0)
    untrained = Explainer(replace(classifier, models={classifier.main: model}), settings)
    chosen = [study for study in studies if study.id in before]
    rows, targets = [], {study: found.target for study, found in before.items()}
    for explanation in _explain(untrained, chosen, targets, set_aside):
        own, new = before[explanation.study], take_compared(explanation)
        row = {"method": settings.method, "study": explanation.study}
        if own.heat is not None:
            row["similarity"] = measures.map_similarity(own.heat, new.heat)
        if own.words is not None:
            row["alike_words"] = measures.map_similarity(own.words, new.words)
        rows.append(row)
    return rows


def sweep_studies(
    classifier: Classifier,
    studies: Sequence[Study],
    *,
    settings: ExplainSettings,
    truth: Truth = NOTHING_KNOWN,
    set_aside: Callable[[Problem], None] | None = None,
    progress: Progress | None = None,
) -> tuple[list[sensitivity.SweepRow], str, float]:
    """Measures every sight sensitivity on studies, and chooses the best one.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study` of the validation part, never those on which results are reported.
        settings: `ExplainSettings`.
        truth: `Truth` of the classifier's labels. With boxes the rule is `iou`, over the films that have some;
            without, `gain`.
        set_aside: as in `try_methods`.
        progress: `kmm.progress.Progress`.

    Returns:
        list of `kmm.explain.fidelity.sensitivity.SweepRow`, the name of the rule, and the chosen sensitivity.

    Raises:
        InputError: if no study has a film; with boxes, if none has a box of the explained label; without boxes, if no
            film raises the score of its label enough.
    """
    explainer = Explainer(classifier, settings)
    rule = "iou" if truth.boxes else "gain"
    targets = {study.id: truth.target_of(study) for study in studies}
    kept, by_id = [], {study.id: study for study in studies}
    with (progress or Progress()).step("Choosing the sensitivity", len(studies)) as advance:
        for explanation in _explain(explainer, studies, targets, set_aside, advance):
            if explanation.heat is not None and (rule == "gain" or truth.of_film(explanation)):
                kept.append(explanation)
    if not kept:
        raise InputError(
            f"The sensitivity is chosen on validation studies with a film{' and a box' * (rule == 'iou')}, and there "
            "are none. Give a sensitivity."
        )

    def lose(index, masks):
        return deletion.ScoredFilm(explainer, by_id[kept[index].study], kept[index]).lose(masks)

    rows = sensitivity.sweep_sensitivity(
        [explanation.heat for explanation in kept],
        [explanation.film.shape for explanation in kept],
        settings=settings.regions,
        boxes=[truth.of_film(explanation) for explanation in kept] if rule == "iou" else None,
        lost=None if rule == "iou" else lose,
        find=find_regions,
    )
    if rule == "gain" and not rows[0].speaking:
        raise InputError(
            f"The sensitivity is chosen on validation films that raise the score by at least "
            f"{deletion.SPEAKS[settings.output]:g}, and none of {len(kept)} does. Give a sensitivity."
        )
    return rows, rule, sensitivity.choose_sensitivity(rows, rule)
