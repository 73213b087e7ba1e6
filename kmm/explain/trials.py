"""Methods tried on studies of which the answer is known: do maps point at the lesion, and hang on the model?"""

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kmm.errors import InputError
from kmm.explain import fidelity, localisation, removal, sensitivity
from kmm.explain.baselines import image_baseline
from kmm.explain.explainer import Explainer
from kmm.explain.regions import find_regions
from kmm.progress import Progress

RANDOM_POINT, IMAGE_CENTRE, RANDOM_ORDER = "random point", "image centre", "random order"
SPEAKS = {"logit": 1.0, "probability": 0.1}  # what a film must add to the score for its loss to be measured
RANDOMISED = 20  # studies on which the maps of a model with new weights are compared
MAX_TABLE_BYTES = 100_000_000


@dataclass(frozen=True)
class Truth:
    """What is known of the studies.

    Attributes:
        boxes: dict of image file name to list of `kmm.explain.boxes.Box`; empty when none are known.
        words: dict of study id to set of str: the words of its report that name a finding.
    """

    boxes: dict = field(default_factory=dict)
    words: dict = field(default_factory=dict)

    def of_film(self, explanation):
        """The boxes on the film of an explanation."""
        return self.boxes.get(Path(explanation.image).name, []) if explanation.image else []


def read_naming_words(path):
    """Reads which words name the finding of a report.

    Args:
        path: of a csv with the columns `uid` (id of the study) and `words` (separated by white space), as the phantom
            set's `phantom_truth.csv`.

    Returns:
        dict of study id to set of str, studies without words left out.

    Raises:
        InputError: if the file cannot be read or lacks a column. No cell is quoted.
    """
    try:
        if Path(path).stat().st_size > MAX_TABLE_BYTES:
            raise InputError(f"{path}: expected a table of at most {MAX_TABLE_BYTES} bytes.")
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = {"uid", "words"} - set(rows.fieldnames or ())
            if missing:
                raise InputError(f"{path}: expected the columns uid and words. Missing: {', '.join(sorted(missing))}.")
            return {row["uid"]: set(row["words"].split()) for row in rows if (row["words"] or "").split()}
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected a csv in UTF-8. Received: something else.") from None


def try_methods(classifier, studies, methods, *, settings, truth=Truth(), randomised=RANDOMISED, progress=None):
    """Explains studies by several methods and measures each explanation.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`; unusable ones are left out.
        methods: sequence of names in `kmm.explain.methods.METHODS`.
        settings: `ExplainSettings`; its method is replaced by each of them.
        truth: `Truth`.
        randomised: int. Of so many studies the map is compared with that of the model with new weights.
        progress: `kmm.progress.Progress`.

    Returns:
        list of dict for `kmm.explain.fidelity.measure_fidelity`: a row a method and study, and those of the baselines
        that have not looked: a random point, the centre of the film, pixels in random order.
    """
    progress = progress or Progress()
    rows, by_id = [], {study.id: study for study in studies}
    for number, method in enumerate(methods):
        explainer = Explainer(classifier, replace(settings, method=method))
        with progress.step(f"Trying {method}", len(studies)) as advance:
            maps = {}
            for explanation in explainer.explain(studies, set_aside=lambda problem: None):
                film = _Film(explainer, by_id[explanation.study], explanation)
                rows.append({"method": method, **_measure(film, explanation, truth)})
                if number == 0:
                    rows += _try_nothing(film, explanation, truth)
                if len(maps) < randomised and explanation.heat is not None:
                    maps[explanation.study] = explanation.heat
                advance()
        rows += _compare_randomised(classifier, studies, maps, explainer.settings)
    return rows


def _measure(film, explanation, truth):
    """The measures of one explanation."""
    found = explanation.attribution
    row = {
        "study": explanation.study,
        "completeness_gap": found.completeness_gap,
        "map_error": found.map_error,
        "steps": found.steps,
    }
    boxes = truth.of_film(explanation)
    if boxes and explanation.heat is not None:
        strongest = (explanation.regions[0].x, explanation.regions[0].y) if explanation.regions else None
        row["hit"] = localisation.pointing_hit(strongest, boxes)
        row["hit_peak"] = localisation.pointing_hit(
            localisation.peak_of(explanation.heat, explanation.film.shape), boxes
        )
        row["iou"] = localisation.iou_of_circles(explanation.regions, boxes, explanation.film.shape)
        if len(boxes) == 1:
            row["hit_one"] = row["hit"]
    if explanation.heat is not None:
        row.update(film.remove(removal.order_pixels(_square(found))))
    naming = truth.words.get(explanation.study)
    if naming and "rows" in found.values:
        row["named"] = fidelity.named_in_top(explanation.words, naming)
    return row


def _try_nothing(film, explanation, truth):
    """The baselines: what those get who have not looked at the film."""
    rows = []
    boxes = truth.of_film(explanation)
    seed = [0, int.from_bytes(explanation.study.encode()[-6:], "big")]
    if boxes and explanation.film is not None:
        chance = localisation.point_by_chance(boxes, explanation.film.shape, seed=seed)
        for method, hit in ((RANDOM_POINT, chance["random_expected"]), (IMAGE_CENTRE, chance["centre"])):
            row = {"method": method, "study": explanation.study, "hit": hit}
            rows.append({**row, "hit_one": hit} if len(boxes) == 1 else row)
    if explanation.heat is not None:
        pixels = _square(explanation.attribution).size
        order = np.random.default_rng(seed).permutation(pixels)
        rows.append({"method": RANDOM_ORDER, "study": explanation.study, **film.remove(order)})
    return rows


class _Film:
    """One study's film, scored with pixels replaced and the report as it is.

    Attributes:
        image, baseline: float32 `(h, w, 1)`: the film as the model reads it, and what replaces its pixels.
        speaks: bool. Whether the score falls by `SPEAKS` at least when the film becomes its baseline: else there is
            next to nothing to lose, and shares of it mean nothing.
    """

    def __init__(self, explainer, study, explanation):
        self.case, self.target, self.integrator = (
            explainer.case(study),
            explanation.attribution.target,
            explainer.integrator,
        )
        self.speaks = False
        if explanation.heat is not None:
            self.image = self.case.inputs["image"]
            self.baseline = image_baseline(explainer.settings.baselines[0], self.image, self.case.mean_image)
            bottom, top = self.score(np.stack([self.baseline, self.image]))
            self.speaks = bool(top - bottom >= SPEAKS[explainer.settings.output])

    def score(self, images):
        """Scores `(n,)` of films `(n, h, w, 1)`."""
        inputs, fixed = (
            {name: np.repeat(value[None], len(images), axis=0) for name, value in values.items()}
            for values in (self.case.inputs, self.case.fixed)
        )
        return self.integrator.score({**inputs, "image": images}, fixed)[:, self.target]

    def remove(self, order):
        """Areas under deletion and insertion; nothing for a film that does not speak for the label."""
        if not self.speaks:
            return {}
        curves = removal.deletion_insertion(self.score, self.image, order, baseline=self.baseline)
        return {"deletion": curves.deletion_area, "insertion": curves.insertion_area}

    def lose(self, masks):
        """The share of the score `(m,)` that goes with the pixels of masks `(m, h, w)`; NaN where none can."""
        if not self.speaks:
            return np.full(len(masks), np.nan)
        return removal.score_lost(self.score, self.image, masks, baseline=self.baseline)


def _square(found):
    """The map over the encoder's whole square, summed over channels."""
    return found.values["image"].sum(axis=-1)


def _compare_randomised(classifier, studies, maps, settings):
    """How alike the maps of the trained model and of one with new weights are."""
    model = fidelity.randomise_weights(classifier.models[classifier.main], seed=0)
    stranger = Explainer(replace(classifier, models={classifier.main: model}), settings)
    chosen = [study for study in studies if study.id in maps]
    return [
        {
            "method": settings.method,
            "study": explanation.study,
            "similarity": fidelity.map_similarity(maps[explanation.study], explanation.heat),
        }
        for explanation in stranger.explain(chosen, set_aside=lambda problem: None)
    ]


def sweep_studies(classifier, studies, *, settings, truth=Truth(), progress=None):
    """What each sight sensitivity gives on studies, and the best of them.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`, of the validation part: never those on which the result is told.
        settings: `ExplainSettings`.
        truth: `Truth`. With boxes the rule is `iou`, over the films that have some; without, `gain`.
        progress: `kmm.progress.Progress`.

    Returns:
        list of `kmm.explain.sensitivity.SweepRow`, the name of the rule, and the sensitivity that it chooses.

    Raises:
        InputError: if no study has a film, or with boxes none has a box.
    """
    explainer = Explainer(classifier, settings)
    rule = "iou" if truth.boxes else "gain"
    kept, by_id = [], {study.id: study for study in studies}
    with (progress or Progress()).step("Choosing the sensitivity", len(studies)) as advance:
        for explanation in explainer.explain(studies, set_aside=lambda problem: None):
            if explanation.heat is not None and (rule == "gain" or truth.of_film(explanation)):
                kept.append(explanation)
            advance()
    if not kept:
        raise InputError(
            f"Expected validation studies with a film{' and a box' * (rule == 'iou')} to choose the sensitivity on."
        )
    rows = sensitivity.sweep_sensitivity(
        [explanation.heat for explanation in kept],
        [explanation.film.shape for explanation in kept],
        settings=settings.regions,
        boxes=[truth.of_film(explanation) for explanation in kept] if rule == "iou" else None,
        lost=None if rule == "iou" else lambda index, masks: _lose(explainer, by_id, kept[index], masks),
        find=find_regions,
    )
    return rows, rule, sensitivity.choose_sensitivity(rows, rule)


def _lose(explainer, by_id, explanation, masks):
    """The share of the score that is lost when circled pixels of the film become the baseline's."""
    film = _Film(explainer, by_id[explanation.study], explanation)
    top, left, height, width = explainer.classifier.batches.image.find_box(explanation.film.shape)
    whole = np.zeros((len(masks), *film.image.shape[:2]), bool)
    whole[:, top : top + height, left : left + width] = masks
    return film.lose(whole)


def judge(measured, random_order, gap_tolerance):
    """Whether what was measured is as it must be; what is unknown is not held against it.

    Args:
        measured, random_order: dict of measure to `{"n", "mean", "interval"}`: of the method, and of random order.
        gap_tolerance: float. Largest mean completeness gap.

    Returns:
        bool.
    """

    def mean(of, name):
        return of.get(name, {}).get("mean")

    gap, alike = mean(measured, "completeness_gap"), mean(measured, "similarity")
    insertion, chance = mean(measured, "insertion"), mean(random_order, "insertion")
    return (
        (gap is None or gap <= gap_tolerance)
        and (alike is None or alike < 0.5)
        and (insertion is None or chance is None or insertion > chance)
    )
