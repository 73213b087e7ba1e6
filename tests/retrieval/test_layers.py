"""Features of layers: those of the classifier, by pattern, of unit length; the digest of a model."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kmm.api.classifier import Classifier
from kmm.classifier import list_predictions
from kmm.data.study import Collection
from kmm.errors import InputError
from kmm.models.build import ModelSpec, build_model
from kmm.models.views.feature_view import view_joint
from kmm.models.views.parts import fusion_of
from kmm.models.views.projection import Projection
from kmm.retrieval.additions import build_index
from kmm.retrieval.cases.explainer import CaseExplainer
from kmm.retrieval.layers import LAYERS, LayerReader, digest_model, normalise


@pytest.fixture(scope="module")
def batch(hand_made, studies):
    return hand_made.batches.batch(studies)


@pytest.fixture(scope="module")
def reader(hand_made):
    return LayerReader(hand_made)


def test_joint_features_are_those_of_the_classifier(hand_made, studies, batch, reader):
    found = reader.read(batch)
    assert tuple(found) == reader.patterns == ("both", "image", "text")
    expected = normalise(Classifier(hand_made).features(studies))
    both = found["both"]
    assert both.has.tolist() == [True, True, False, False]
    assert np.allclose(both.vectors[:2], expected[:2], atol=1e-6)
    assert np.allclose(found["image"].vectors[2], expected[2], atol=1e-6)  # it has a film alone
    assert np.allclose(found["text"].vectors[3], expected[3], atol=1e-6)  # and this a report
    assert not both.vectors[2:].any() and reader.size == expected.shape[1]


def test_a_pattern_is_read_as_if_the_study_had_nothing_else(hand_made, studies, batch, reader):
    found = reader.read(batch)
    films = hand_made.batches.batch([replace(study, report=None) for study in studies[:3]])
    assert np.allclose(found["image"].vectors[:3], reader.read(films)["image"].vectors, atol=1e-6)
    texts = hand_made.batches.batch([replace(studies[0], images=())])
    assert np.allclose(found["text"].vectors[:1], reader.read(texts)["text"].vectors, atol=1e-6)


def test_predictions_are_those_of_the_classifier(hand_made, studies, batch, reader):
    found = reader.read(batch)
    for row, (prediction, pattern) in enumerate(
        zip(list_predictions(hand_made, hand_made.predict(studies)), ("both", "both", "image", "text"), strict=True)
    ):
        assert found[pattern].predicted[row] == pytest.approx(list(prediction.probabilities.values()), abs=1e-5)


@pytest.mark.large
def test_features_of_a_fusion_that_reads_places_and_words(hand_made, batch):
    sizes = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 8, "fusion_units": 16}
    spec = ModelSpec("small-cnn", "text-cnn", "cross-attention", **sizes)
    model = build_model(spec, label_count=3, vocabulary_size=len(hand_made.batches.vocabulary))
    gate = fusion_of(model).get_layer("cross_gate")
    gate.set_weights([np.ones_like(values) for values in gate.get_weights()])
    found = LayerReader(replace(hand_made, models={"joint": model})).read(batch)
    features = view_joint(model).predict_on_batch(batch.inputs())["features"]
    for row, pattern in enumerate(("both", "both", "image", "text")):
        assert np.allclose(found[pattern].vectors[row], normalise(features)[row], atol=1e-5)


def project(classifier, *names):
    """The classifier with projections of some vectors, drawn at random."""
    sizes = {layer: LayerReader(classifier, layer).size for layer in ("image", "text", "joint")}
    random = np.random.default_rng(0)
    kernels = {name: random.normal(size=(sizes[name], 5)).astype(np.float32) for name in names}
    return replace(classifier, projection=Projection(kernels, {name: np.float32([1, 0, 0, 0, 0]) for name in names}))


def test_projections_are_of_the_vectors_of_each_side(hand_made, studies, batch, reader):
    classifier = project(hand_made, "image", "text", "joint")
    projected = LayerReader(classifier, "projection")
    found, encoded = projected.read(batch), projected.encode(batch)
    assert projected.patterns == tuple(found) == ("both", "image", "text") and projected.size == 5
    maps = classifier.projection
    for side in ("image", "text"):
        expected = normalise(maps.project(side, encoded[f"{side}_vector"])) * found[side].has[:, None]
        np.testing.assert_allclose(found[side].vectors, expected, atol=1e-6)
    joint = maps.project("joint", Classifier(hand_made).features(studies)[:2])
    np.testing.assert_allclose(found["both"].vectors[:2], normalise(joint), atol=1e-5)
    for name, plain in reader.read(batch).items():  # predictions are the same in every layer
        np.testing.assert_allclose(found[name].predicted, plain.predicted, atol=1e-6)


def test_without_a_projection_of_joint_features_both_sides_are_averaged(hand_made, batch):
    found = LayerReader(project(hand_made, "image", "text"), "projection").read(batch)
    expected = normalise(found["image"].vectors[:2] + found["text"].vectors[:2])
    np.testing.assert_allclose(found["both"].vectors[:2], expected, atol=1e-6)
    assert LayerReader(project(hand_made, "image", "joint"), "projection").patterns == ("both", "image")


def test_only_a_classifier_with_projections_has_their_layer(hand_made):
    with pytest.raises(InputError, match="keeps no projections"):
        LayerReader(hand_made, "projection")
    one, other = project(hand_made, "image", "text"), project(hand_made, "image", "text", "joint")
    assert len({digest_model(classifier) for classifier in (hand_made, one, other)}) == 3


def test_films_find_reports_in_the_space_of_projections(build_classifier, studies, tmp_path):
    classifier = project(build_classifier(labels=("abnormal",)), "image", "text", "joint")
    ward = Collection(Path("ward"), "memory", tuple(studies))
    index = build_index(classifier, ward, tmp_path / "index", layer="projection").index
    query = index.query(studies[0].id, "image")
    (found,) = index.search(query, against="text", include=("self", "patient", "body"))
    films, reports = (index.read_vectors(name, range(len(index))) for name in ("image", "text"))
    cosines = {hit.study: hit.cosine for hit in found.hits}
    row = index.find(studies[0].id)
    expected = {id: films[row] @ reports[place] for place, id in enumerate(index.read_texts("id"))}
    assert len(cosines) > 1 and all(cosine == pytest.approx(expected[id], abs=1e-6) for id, cosine in cosines.items())
    with pytest.raises(InputError, match="layer projection"):
        CaseExplainer(classifier, index)


def test_vectors_have_length_1_where_a_study_has_the_pattern(hand_made, batch, reader):
    classifier = project(hand_made, "image", "text")
    readings = [LayerReader(classifier, layer).read(batch) for layer in LAYERS]
    for one in (one for found in readings for one in found.values()):
        assert np.allclose(np.linalg.norm(one.vectors, axis=1), one.has)


def test_layers_of_one_side_have_its_pattern_alone(hand_made, build_classifier):
    assert LayerReader(hand_made, "image").patterns == ("image",) and LayerReader(hand_made, "text").patterns == (
        "text",
    )
    films = build_classifier(text=None)
    assert LayerReader(films).patterns == ("image",)
    with pytest.raises(InputError, match="reads films only"):
        LayerReader(films, "text")
    with pytest.raises(InputError, match="Unknown layer"):
        LayerReader(hand_made, "head")


def test_the_digest_follows_everything_that_decides_features(hand_made, build_classifier):
    digest = digest_model(hand_made)
    others = [
        build_classifier(labels=("mass", "effusion", "clip")),
        build_classifier(deidentified="drop"),
    ]
    warmer = copy.copy(hand_made)
    warmer.temperatures = {part: 2 * table for part, table in warmer.temperatures.items()}
    changed = build_classifier()
    assert digest == digest_model(changed)
    changed.models["joint"].weights[0].assign(changed.models["joint"].weights[0] + 0.01)
    assert len({digest, *map(digest_model, [*others, warmer, changed])}) == 5


def test_the_digest_survives_saving(hand_made, tmp_path):
    from kmm import classifier as core

    hand_made.save(tmp_path / "saved")
    assert digest_model(core.Classifier.load(tmp_path / "saved")) == digest_model(hand_made)
