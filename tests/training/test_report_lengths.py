"""Reports are cut to a few lengths where their features are computed, which changes no feature."""

from types import SimpleNamespace

import numpy as np
import pytest

from kmm.models.build import ModelSpec, build_model
from kmm.models.fusion import FUSIONS, Fusion
from kmm.models.transformer.shape import TransformerShape
from kmm.models.views.feature_view import view_encoder
from kmm.progress import Progress
from kmm.training import features as room
from kmm.training.features import Features
from kmm.training.preparation.report_lengths import divide_by_length
from tests.model_checks import stir, to_numpy

LENGTH, COUNT, PARTS = 22, 40, ("vector", "sequence", "mask")
SHAPE = TransformerShape(layers=2, heads=2, width=8, hidden=12, epsilon=1e-6)
KINDS = {"bert": {"text_shape": SHAPE}, "text-cnn": {"text_filters": 3}}


def build(name="bert"):
    spec = ModelSpec(text_encoder=name, length=LENGTH, embedding_size=8, **KINDS[name])
    model = build_model(spec, label_count=1, vocabulary_size=30)
    stir(model)
    return model


@pytest.fixture
def context(tmp_path):
    """Reports of 0 words, of all lengths, and of more than fit."""
    random = np.random.default_rng(0)
    ids = random.integers(1, 30, (COUNT, LENGTH)).astype("int32")
    for row, words in enumerate([*range(LENGTH + 1), *random.integers(1, 9, COUNT - LENGTH - 1)]):
        ids[row, words:] = 0
    return SimpleNamespace(
        settings=SimpleNamespace(text_encoder="bert", precision="float32"),
        prepared=None,
        token_ids=ids,
        work=tmp_path / "work",
        cache=tmp_path / "cache",
        progress=Progress(),
    )


def test_reports_are_divided_by_the_least_length_that_they_fit(context):
    found = divide_by_length(context.token_ids, {str(row): row for row in range(COUNT)}, LENGTH)
    assert list(found) == [6, 11, 17, 22]
    words = (context.token_ids > 0).sum(axis=1)
    for length, before in zip(found, (-1, 6, 11, 17)):
        assert list(found[length].values()) == [row for row in range(COUNT) if before < words[row] <= length]
        assert all(key == str(row) for key, row in found[length].items())
    assert list(divide_by_length(context.token_ids[:1], {"none": 0}, 1)) == [1]


@pytest.mark.parametrize("length", [1, 17])
def test_a_view_for_shorter_reports_says_the_same(context, length):
    model = build()
    ids = context.token_ids[(context.token_ids > 0).sum(axis=1) <= length]
    whole, short = view_encoder(model, "text", PARTS), view_encoder(model, "text", PARTS, length=length)
    expected = to_numpy(whole({"token_ids": ids}, training=False))
    found = to_numpy(short({"token_ids": ids[:, :length]}, training=False))
    places = length + 2
    np.testing.assert_array_equal(found["mask"], expected["mask"][:, :places])
    assert not expected["mask"][:, places:].any()
    np.testing.assert_allclose(found["vector"], expected["vector"], rtol=1e-6, atol=1e-6)
    read = found["mask"] > 0
    np.testing.assert_allclose(found["sequence"][read], expected["sequence"][:, :places][read], rtol=1e-6, atol=1e-6)
    assert {id(weight) for weight in short.weights} == {id(weight) for weight in whole.weights}


@pytest.mark.parametrize(("name", "lengths"), [("bert", [6, 11, 17]), ("text-cnn", [])])
def test_features_of_reports_are_those_of_the_whole_length(name, lengths, context, monkeypatch):
    fusion = Fusion(lambda features, present: {"vector": features["text"]["vector"]}, PARTS, None, "")
    monkeypatch.setitem(FUSIONS, "concat", fusion)
    monkeypatch.setattr(room, "parts_read", lambda model, side: PARTS)
    context.settings.text_encoder = name
    model, made = build(name), []

    def note(model, side, parts, *, length=0):
        made.extend([length] if length else [])
        return view_encoder(model, side, parts, length=length)

    monkeypatch.setattr(room, "view_encoder", note)
    found = Features(context).compute(model, ("text",))
    assert made == lengths
    expected = to_numpy(view_encoder(model, "text", PARTS)({"token_ids": context.token_ids}, training=False))
    np.testing.assert_allclose(found["text_vector"], expected["vector"], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["text_mask"], expected["mask"])
    hidden = expected["mask"] == 0
    half = np.abs(expected["sequence"]).max() * 2.0**-11  # sequences are stored as half floats
    np.testing.assert_allclose(found["text_sequence"][~hidden], expected["sequence"][~hidden], atol=half)
    if name == "bert":
        words = (context.token_ids > 0).sum(axis=1)
        cut = np.select([words <= 6, words <= 11, words <= 17], [6, 11, 17], LENGTH) + 2
        behind = np.arange(LENGTH + 2) >= cut[:, None]
        assert behind.any() and not found["text_sequence"][behind].any()
