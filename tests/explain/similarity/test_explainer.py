"""Similarities of studies, with small classifiers of random weights."""

import dataclasses
import json
import re

import numpy as np
import pytest

from kmm.data.study import Report, Study
from kmm.errors import InputError, ReportError
from kmm.explain.attribution.result import Attribution
from kmm.explain.fidelity.measures import ALIKE, map_similarity, randomise_weights
from kmm.explain.fidelity.similarity import measure_losses
from kmm.explain.output.table import drop_unknown
from kmm.explain.regions.find import Region
from kmm.explain.settings import ExplainSettings
from kmm.explain.similarity.explainer import SimilarityExplainer
from kmm.models.views.feature_view import view_encoder, view_joint

pytestmark = pytest.mark.large

INPUTS = {"joint": {"image", "rows"}, "image": {"image"}, "text": {"rows"}}


@pytest.fixture(scope="module")
def explainers(hand_made):
    """An explainer of each layer, made when it is asked for."""
    made = {}

    def find(layer):
        if layer not in made:
            made[layer] = SimilarityExplainer(hand_made, layer=layer)
        return made[layer]

    return find


@pytest.fixture(scope="module")
def whole(studies):
    """Three studies with film and report."""
    return [study for study in studies if study.frontal and study.report][:3]


@pytest.fixture(scope="module")
def pairs(explainers, whole):
    """The first study with each of the two others, by layer."""
    return {layer: list(explainers(layer).explain(whole[0], whole[1:])) for layer in INPUTS}


def find_vectors(classifier, studies, layer):
    inputs, model = classifier.batches.batch(studies).inputs(), classifier.models["joint"]
    if layer == "joint":
        return np.asarray(view_joint(model)(inputs)["features"])
    encoder = view_encoder(model, layer, ["vector"])
    return np.asarray(encoder({tensor.name: inputs[tensor.name] for tensor in encoder.inputs})["vector"])


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def closeness(one: Attribution, other: Attribution):
    """The largest difference of two attributions, relative to the largest value."""
    assert set(one.values) == set(other.values)
    largest = max(np.abs(value).max() for value in one.values.values())
    return max(np.abs(one.values[name] - other.values[name]).max() for name in one.values) / largest


@pytest.mark.parametrize("layer", INPUTS)
def test_the_cosine_is_that_of_the_vectors(layer, pairs, hand_made, whole):
    vectors = find_vectors(hand_made, whole, layer)
    for pair, other, vector in zip(pairs[layer], whole[1:], vectors[1:]):
        assert (pair.one.study, pair.other.study, pair.layer) == (whole[0].id, other.id, layer)
        assert pair.cosine == pytest.approx(cosine(vectors[0], vector), abs=1e-5)
        assert pair.other.attribution.score == pytest.approx(pair.one.attribution.score, abs=1e-5)


@pytest.mark.parametrize("layer", INPUTS)
def test_attributions_sum_to_the_cosine_less_that_of_an_empty_study(layer, pairs):
    for pair in pairs[layer]:
        for side in pair.studies:
            found = side.attribution
            assert set(found.values) == INPUTS[layer]
            total = sum(value.sum(dtype=np.float64) for value in found.values.values())
            size = sum(np.abs(value).sum() for value in found.values.values())
            assert abs(total - (found.score - found.baseline_score)) < 0.02 * max(
                abs(found.score - found.baseline_score), 0.05 * size
            )
            assert found.completeness_gap < 0.02 and (found.map_error < 0.05 or side.warnings)


def test_the_cosine_without_a_study_is_that_of_a_black_film(pairs, hand_made, whole):
    encoder = view_encoder(hand_made.models["joint"], "image", ["vector"])
    black = np.asarray(encoder({"image": np.zeros((1, 32, 32, 1), np.float32)})["vector"])[0]
    vectors = find_vectors(hand_made, whole, "image")
    for place, pair in enumerate(pairs["image"], 1):
        assert pair.one.attribution.baseline_score == pytest.approx(cosine(black, vectors[place]), abs=1e-5)
        assert pair.other.attribution.baseline_score == pytest.approx(cosine(black, vectors[0]), abs=1e-5)


def test_the_order_of_the_two_studies_does_not_matter(pairs, explainers, whole):
    for pair, other in zip(pairs["joint"], whole[1:]):
        turned = next(explainers("joint").explain(other, [whole[0]]))
        assert turned.cosine == pytest.approx(pair.cosine, abs=1e-6)
        for side, same in ((turned.one, pair.other), (turned.other, pair.one)):
            assert side.study == same.study and side.attribution.steps == same.attribution.steps
            assert closeness(side.attribution, same.attribution) < 1e-3
            assert [word.text for word in side.words] == [word.text for word in same.words]


@pytest.mark.large
def test_new_weights_destroy_the_attribution(pairs, hand_made, whole):
    model = randomise_weights(hand_made.models["joint"], seed=0)
    other = SimilarityExplainer(dataclasses.replace(hand_made, models={"joint": model}))
    for pair, new in zip(pairs["joint"], other.explain(whole[0], whole[1:])):
        for side, same in zip(pair.studies, new.studies):
            assert map_similarity(side.heat, same.heat) < ALIKE
            before, after = ([word.signed for word in one.words if word.read] for one in (side, same))
            assert map_similarity(before, after) < 0.9  # of a few words each


def test_an_identical_study_is_all_alike(explainers, whole):
    pair = next(explainers("joint").explain(whole[0], [whole[0]]))
    assert pair.cosine == pytest.approx(1, abs=1e-6)
    assert closeness(pair.one.attribution, pair.other.attribution) < 1e-3
    assert pair.one.attribution.score > pair.one.attribution.baseline_score


def test_only_the_sides_that_are_read_count(explainers, hand_made, whole):
    pair = next(explainers("joint").explain(whole[0], whole[1:2], reads=("image", "text")))
    film, words = pair.one, pair.other
    assert film.attribution.values["rows"].any() == words.attribution.values["image"].any() == False  # noqa: E712
    assert film.regions and not any(word.signed for word in film.words) and not film.words_scored
    assert any(word.signed for word in words.words) and not words.regions and words.film is not None
    alone = [dataclasses.replace(whole[0], report=None), dataclasses.replace(whole[1], images=())]
    vectors = find_vectors(hand_made, alone, "joint")
    assert pair.cosine == pytest.approx(cosine(*vectors), abs=1e-5)


def test_studies_that_cannot_be_compared_are_set_aside(explainers, whole):
    words, nothing, problems = Study("words", "1", report=Report(findings="no mass")), Study("none", "2"), []
    found = list(explainers("image").explain(whole[0], [words, whole[1], nothing], problems.append))
    assert [pair.other.study for pair in found] == [whole[1].id]
    assert [problem.source for problem in problems] == ["study words", "study none"]
    assert problems[0].reason == "expected a study with a film, which layer 'image' reads. Found none."
    with pytest.raises(ReportError, match=r"^study words: expected a study with a film"):
        list(explainers("image").explain(whole[0], [words]))
    with pytest.raises(ReportError, match=r"^expected a study with a film"):
        next(explainers("image").explain(words, whole))


@pytest.mark.parametrize(
    ("classifier", "options", "message"),
    [
        ({}, {"layer": "logits"}, "Unknown layer 'logits'. Known: joint, image, text."),
        ({"text": None}, {"layer": "text"}, "Layer 'text' reads reports, which this model does not."),
        ({"image": None}, {"layer": "image"}, "Layer 'image' reads films, which this model does not."),
        (
            {},
            {"layer": "text", "settings": ExplainSettings(method="grad-cam")},
            "Method 'grad-cam' does not explain reports, and layer 'text' of this model reads nothing else.",
        ),
    ],
)
def test_questions_without_an_answer(build_classifier, classifier, options, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        SimilarityExplainer(build_classifier(**classifier), **options)


@pytest.mark.large
def test_other_methods_answer_too(hand_made, whole):
    settings = ExplainSettings(method="layer-cam")
    pair = next(SimilarityExplainer(hand_made, settings).explain(whole[0], whole[1:2]))
    for side in pair.studies:
        assert set(side.attribution.values) == {"image"} and side.regions and not side.words_scored
        assert np.isnan(side.attribution.baseline_score) and None in side.modality_sum.values()


def test_json_holds_numbers_and_no_pixels(pairs):
    values = json.loads(json.dumps(drop_unknown(pairs["joint"][0].as_dict()), allow_nan=False))
    assert values["schema"] == "kmm-similarity-1" and values["layer"] == "joint"
    one, pair = values["one"], pairs["joint"][0]
    assert one["regions"] == [region.as_dict() for region in pair.one.regions] and len(one["words"])
    total = sum(one["modality_sum"].values())
    assert total == pytest.approx(values["cosine"] - one["baseline_cosine"], abs=0.02)
    assert "mass" not in repr(pair)


def cover(side):
    """One circle around everything, as if the explanation named the whole film; and every word."""
    words = [dataclasses.replace(word, signed=1.0) for word in side.words]
    return dataclasses.replace(side, regions=[Region(x=0, y=0, radius=1e4, weight=1.0)], words=words)


@pytest.fixture
def naming_all(explainers, monkeypatch):
    """An explainer whose explanations name every place of a film and a fifth of the words."""
    explainer, explain = explainers("joint"), explainers("joint").explain

    def explain_all(*given, **options):
        for pair in explain(*given, **options):
            yield dataclasses.replace(pair, one=cover(pair.one), other=cover(pair.other))

    monkeypatch.setattr(explainer, "explain", explain_all)
    return explainer


def test_a_study_without_all_of_its_film_loses_what_the_film_carries(naming_all, hand_made, whole):
    losses = list(measure_losses(naming_all, *(whole[0], whole[1:2]), reads=("image", "both")))
    assert [(loss.study, loss.other) for loss in losses] == [(whole[0].id, whole[1].id), (whole[1].id, whole[0].id)]
    (pair,) = naming_all.explain(whole[0], whole[1:2], reads=("image", "both"))
    first, second = losses
    found = pair.one.attribution
    assert first.cosine == pytest.approx(found.score, abs=1e-5)
    assert first.film_named == pytest.approx(found.score - found.baseline_score, abs=1e-5)
    assert first.named == first.film_named and np.isnan(first.words_named)
    assert first.film_by_chance == pytest.approx(first.film_named, abs=1e-5)  # the whole film, wherever it is moved
    assert second.words_named != second.film_named and np.isfinite(second.named)


@pytest.mark.large
def test_chance_depends_on_the_seed_alone(explainers, whole):
    losses = [
        [loss.as_dict() for loss in measure_losses(explainers("joint"), whole[0], whole[1:2], seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] and losses[0] != losses[2]
    assert [one["named"] for one in losses[0]] == [one["named"] for one in losses[2]]
