"""Trials of methods: on a plain formula, from which right answers follow, and on tiny classifiers."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kmm.data.study import ImageFile, Study
from kmm.errors import ImageError, InputError
from kmm.explain.attribution.methods import METHODS
from kmm.explain.explainer import Explainer
from kmm.explain.fidelity import evaluation as trials
from kmm.explain.fidelity import measures as fidelity
from kmm.explain.fidelity.boxes import Box
from kmm.explain.fidelity.deletion import ScoredFilm
from kmm.explain.fidelity.evaluation import IMAGE_CENTRE, RANDOM_ORDER, RANDOM_POINT, sweep_studies, try_methods
from kmm.explain.fidelity.ground_truth import Naming, make_truth
from kmm.explain.regions.find import find_regions
from kmm.explain.settings import ExplainSettings, RegionSettings
from kmm.image.prepare import ImagePreparation
from kmm.progress import Progress

SETTINGS = ExplainSettings(steps=8)
LABELS = ("mass", "effusion", "cyst")


class Count(Progress):
    """How far each step came: title, total, done."""

    def __init__(self):
        self.steps = []

    @contextmanager
    def step(self, title, total, done=0):
        entry = [title, total, done]
        self.steps.append(entry)

        def advance(count=1, text=""):
            entry[2] += count

        yield advance


class PlainExplainer:
    """Explains `score = sum of the pixels' shares of white`, for every label: the map is the film itself."""

    def __init__(self, classifier, settings):
        self.classifier, self.settings = classifier, settings
        self.split = self.integrator = self

    def score(self, inputs, fixed):
        return np.repeat(inputs["image"].sum((1, 2, 3))[:, None] / 255, 3, axis=1)

    def case(self, study):
        film, preparation = read_film(study), self.classifier.batches.image
        box = preparation.find_box(film.shape)
        return SimpleNamespace(inputs={"image": preparation.apply(film)}, fixed={}, mean_image=None, box=box)

    def explain(self, studies, set_aside=None, targets=None):
        for study in studies:
            film, image = read_film(study), self.case(study).inputs["image"]
            top, left, height, width = self.classifier.batches.image.find_box(film.shape)
            heat = image[top : top + height, left : left + width, 0] / 255
            number = LABELS.index((targets or {}).get(study.id) or LABELS[0])
            yield SimpleNamespace(
                study=study.id,
                image=str(study.frontal.path),
                target=LABELS[number],
                attribution=SimpleNamespace(
                    values={"image": image / 255}, target=number, completeness_gap=0.0, map_error=0.0, steps=1
                ),
                film=film,
                pixel_scale=(1.0, 1.0),
                heat=heat,
                regions=find_regions(heat, self.settings.regions, film_size=film.shape),
                words=[],
            )


def read_film(study):
    return np.asarray(Image.open(study.frontal.path), np.float32)


@pytest.fixture
def plain(monkeypatch):
    """A classifier of films, 32 x 32, that `PlainExplainer` explains."""
    monkeypatch.setattr(trials, "Explainer", PlainExplainer)
    return SimpleNamespace(batches=SimpleNamespace(image=ImagePreparation(32)), label_names=LABELS)


@pytest.fixture
def disk(tmp_path):
    """A study of one black film, 40 high and 90 wide, with a disk of radius 6 in its upper right quarter."""
    y, x = np.mgrid[:40, :90]
    film = np.where(np.hypot(x - 67, y - 10) <= 6, 255, 0).astype(np.uint8)
    Image.fromarray(film).save(tmp_path / "disk.png")
    return Study("disk", "disk", (ImageFile(tmp_path / "disk.png", "frontal"),))


def test_masks_on_the_film_s_area_are_placed_where_the_film_lies_in_the_square(plain, disk):
    explainer = PlainExplainer(plain, SETTINGS)
    (explanation,) = explainer.explain([disk])
    film = ScoredFilm(explainer, disk, explanation)
    assert explanation.heat.shape == (14, 32) and film.speaks
    masks = np.zeros((6, 14, 32), bool)
    masks[0], masks[1, :7], masks[2, 7:], masks[3, :, 16:], masks[4, :, :16] = 1, 1, 1, 1, 1
    assert film.lose(masks) == pytest.approx([1, 1, 0, 1, 0, 0], abs=1e-5)
    masks = np.eye(14 * 32, dtype=bool).reshape(-1, 14, 32)  # pixel by pixel it is the film itself
    assert np.allclose(film.lose(masks), explanation.heat.ravel() / explanation.heat.sum(), atol=1e-5)


@pytest.mark.parametrize("baseline", ["black", "grey"])
def test_bars_are_neither_removed_nor_counted(plain, disk, baseline):
    explainer = PlainExplainer(plain, replace(SETTINGS, baselines=(baseline,)))
    (explanation,) = explainer.explain([disk])
    film, asked = ScoredFilm(explainer, disk, explanation), []
    assert film.image.shape == film.baseline.shape == (14, 32, 1)
    if baseline == "grey":
        assert (film.baseline == 127.5).all()  # as bright as this film: nothing to lose
    score = explainer.score
    explainer.score = lambda inputs, fixed: asked.append(inputs["image"]) or score(inputs, fixed)
    film.speaks = True
    areas = film.remove(np.random.default_rng(0).permutation(14 * 32))
    assert set(areas) == {"deletion", "insertion"} and len(asked) == 4
    for images in asked:
        assert not images[:, :9].any() and not images[:, 23:].any()


def test_without_boxes_the_circles_that_lose_most_for_their_size_are_chosen(plain, disk):
    progress = Count()
    rows, rule, best = sweep_studies(plain, [disk], settings=SETTINGS, progress=progress)
    chosen = next(row for row in rows if row.sensitivity == best)
    assert rule == "gain" and chosen.speaking == chosen.films == 1
    assert chosen.lost > 0.6 and chosen.covered < 0.15 and chosen.gain == max(row.gain for row in rows)
    assert progress.steps == [["Choosing the sensitivity", 1, 1]]


def test_films_that_add_nothing_cannot_choose_the_sensitivity(plain, disk):
    Image.fromarray(np.eye(40, 90, dtype=np.uint8)).save(disk.frontal.path)
    with pytest.raises(InputError, match=r"raise the score by at least 1, and none of 1 does\. Give a sensitivity"):
        sweep_studies(plain, [disk], settings=SETTINGS)


def test_boxes_choose_the_sensitivity_on_films_with_a_box_of_the_label(plain, disk, tmp_path):
    Image.fromarray(np.full((40, 90), 200, np.uint8)).save(tmp_path / "other.png")
    other = Study("other", "other", (ImageFile(tmp_path / "other.png", "frontal"),))
    boxes = {"disk.png": [Box("Effusion", 61, 4, 13, 13)], "other.png": [Box("Fracture", 0, 0, 9, 9)]}
    rows, rule, best = sweep_studies(plain, [disk, other], settings=SETTINGS, truth=make_truth(LABELS, boxes=boxes))
    chosen = next(row for row in rows if row.sensitivity == best)
    assert rule == "iou" and {row.films for row in rows} == {1}
    assert chosen.iou == max(row.iou for row in rows) > 0.4 and chosen.hit == 1
    with pytest.raises(InputError, match="with a film and a box"):
        sweep_studies(plain, [other], settings=SETTINGS, truth=make_truth(LABELS, boxes=boxes))
    with pytest.raises(InputError, match="with a film, and there are none"):
        sweep_studies(plain, [], settings=SETTINGS)


def test_measures_of_a_map_that_is_known(plain, disk, monkeypatch):
    monkeypatch.setattr(trials, "_compare_randomised", lambda *arguments: [])
    truth = make_truth(LABELS, boxes={"disk.png": [Box("effusion", 61, 4, 13, 13)]})
    settings = replace(SETTINGS, regions=RegionSettings(sensitivity=0.2))
    rows = try_methods(plain, [disk], ["gradient"], settings=settings, truth=truth)
    own, point, centre, order = rows
    assert [row["method"] for row in rows] == ["gradient", RANDOM_POINT, IMAGE_CENTRE, RANDOM_ORDER]
    assert own["hit"] and own["hit_one"] and own["hit_peak"] and own["speaks"] and own["iou"] > 0.3
    assert point["hit"] == point["hit_one"] == pytest.approx(13 * 13 / 3600) and not centre["hit"]
    assert own["insertion"] > 0.95 > 0.6 > order["insertion"] and own["deletion"] < 0.05


def test_methods_are_compared_with_integrated_gradients_which_come_first(plain, disk, monkeypatch):
    monkeypatch.setattr(trials, "_compare_randomised", lambda *arguments: [])
    monkeypatch.setitem(METHODS, "gradient", replace(METHODS["gradient"], signed=False))
    rows = try_methods(plain, [disk], ["gradient", "integrated-gradients"], settings=SETTINGS)
    by_method = {row["method"]: row for row in rows}
    assert list(by_method) == ["integrated-gradients", RANDOM_ORDER, "gradient"]
    agreement = {name: value for name, value in by_method["gradient"].items() if name.startswith("ig_")}
    assert agreement == pytest.approx(dict.fromkeys(("ig_pearson", "ig_spearman", "ig_iou_5", "ig_iou_20"), 1.0))
    assert not any(name.startswith("ig_") for name in by_method["integrated-gradients"])
    alone = try_methods(plain, [disk], ["gradient"], settings=SETTINGS)
    assert not any(name.startswith("ig_") for row in alone for name in row)


def test_a_film_that_adds_little_is_counted_and_not_measured(plain, disk, monkeypatch):
    monkeypatch.setattr(trials, "_compare_randomised", lambda *arguments: [])
    Image.fromarray(np.eye(40, 90, dtype=np.uint8)).save(disk.frontal.path)
    rows = try_methods(plain, [disk], ["gradient"], settings=SETTINGS)
    assert rows[0]["speaks"] is False and not {"deletion", "insertion"} & {name for row in rows for name in row}


def spy_targets(monkeypatch):
    """The labels that are explained, one dict of study to label for each explainer, in their order."""
    seen = []

    class Spy(Explainer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            seen.append({})

        def explain(self, *arguments):
            own = seen[-1]
            for explanation in super().explain(*arguments):
                own[explanation.study] = explanation.target
                yield explanation

    monkeypatch.setattr(trials, "Explainer", Spy)
    return seen


@pytest.mark.large
def test_the_label_of_the_box_is_explained_and_the_randomised_model_explains_it_too(hand_made, studies, monkeypatch):
    seen = spy_targets(monkeypatch)
    names = [study.id for study in studies[:3]]
    boxes = {f"{name}.png": [Box(label, 2, 2, 30, 30)] for name, label in zip(names, ("Cyst", "mass", "EFFUSION"))}
    words = {"words": Naming(("Cyst",), frozenset({"cyst"}))}
    truth = make_truth(LABELS, boxes=boxes, words=words)
    rows = try_methods(hand_made, studies, ["gradient"], settings=SETTINGS, truth=truth)
    expected = dict(zip([*names, "words"], ("cyst", "mass", "effusion", "cyst"), strict=True))
    assert seen == [expected, expected]
    assert {row["study"] for row in rows if "hit" in row} == set(names)
    assert {row["study"] for row in rows if "named" in row} == {"words"}


@pytest.mark.large
def test_each_study_s_most_probable_label_is_that_of_the_randomised_model_too(hand_made, studies, monkeypatch):
    seen = spy_targets(monkeypatch)
    monkeypatch.setattr(fidelity, "randomise_weights", lambda model, seed: flip(model))
    try_methods(hand_made, studies, ["gradient"], settings=SETTINGS)
    assert seen[0] == seen[1] and len(seen[0]) == 4


def flip(model):
    """A model that gives the opposite scores: its most probable label is the least probable one of the other."""
    import keras

    new = keras.models.clone_model(model)
    new.set_weights(model.get_weights())
    for weight in new.layers[-1].weights:
        weight.assign(-weight)
    return new


@pytest.mark.large
def test_boxes_of_other_labels_do_not_count(hand_made, studies):
    boxes = {"48x48.png": [Box("cyst", 2, 2, 30, 30)], "40x90.png": [Box("mass", 0, 0, 90, 40)]}
    settings = replace(SETTINGS, target="mass")
    truth = make_truth(LABELS, boxes=boxes, target="mass")
    rows = try_methods(hand_made, studies, ["gradient"], settings=settings, truth=truth)
    assert {row["study"] for row in rows if "hit" in row} == {"40x90"}
    assert all(row["hit"] for row in rows if "hit" in row)  # the box is the whole film


@pytest.mark.large
def test_the_same_weights_give_the_same_map_and_words(hand_made, studies, monkeypatch):
    """The fault that `kmm explain --check` looks for: a map and words that do not depend on the weights."""
    monkeypatch.setattr(fidelity, "randomise_weights", lambda model, seed: model)
    rows = try_methods(hand_made, studies, ["gradient-x-input"], settings=SETTINGS)
    measured = fidelity.measure_fidelity(rows)["gradient-x-input"]
    assert measured["similarity"]["n"] == 3 and measured["similarity"]["mean"] == pytest.approx(1)
    assert measured["alike_words"]["n"] == 3 and measured["alike_words"]["mean"] == pytest.approx(1)
    verdict = fidelity.judge(measured, {}, 0.01)
    assert verdict["weights_film"] == verdict["weights_words"] == "failed"


@pytest.mark.large
def test_words_of_a_model_of_reports_alone_are_compared(build_classifier, studies):
    rows = try_methods(build_classifier(image=None), studies[:2], ["gradient-x-input"], settings=SETTINGS)
    measured = fidelity.measure_fidelity(rows)
    assert measured["gradient-x-input"]["alike_words"]["n"] == 2 and list(measured) == ["gradient-x-input"]
    assert not {"similarity", "speaks", "hit"} & set(measured["gradient-x-input"])
    assert abs(measured["gradient-x-input"]["alike_words"]["mean"]) < 0.9


@pytest.mark.large
def test_a_method_that_says_nothing_of_words_is_not_judged_by_them(hand_made, studies):
    rows = try_methods(hand_made, studies[:2], ["grad-cam"], settings=SETTINGS)
    assert not any("alike_words" in row or "named" in row for row in rows)
    assert sum("similarity" in row for row in rows) == 2


@pytest.mark.large
def test_a_skipped_study_is_listed_once_and_progress_reaches_its_end(hand_made, studies, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    broken = Study("broken", "broken", (ImageFile(tmp_path / "broken.png", "frontal"),))
    problems, progress = [], Count()
    options = {"settings": SETTINGS, "set_aside": problems.append, "progress": progress}
    rows = try_methods(hand_made, [broken, studies[0]], ["gradient", "gradient-x-input"], **options)
    assert [problem.source for problem in problems] == ["study broken"] and {row["study"] for row in rows} == {"48x48"}
    assert progress.steps == [["Trying gradient", 2, 2], ["Trying gradient-x-input", 2, 2]]
    problems.clear()
    with pytest.raises(InputError, match="with a film"):
        sweep_studies(hand_made, [broken], **options)
    assert [problem.source for problem in problems] == ["study broken"] and progress.steps[-1][1:] == [1, 1]
    with pytest.raises(ImageError, match="study broken"):
        try_methods(hand_made, [broken], ["gradient"], settings=SETTINGS)
