"""Image encoders made of others: what they return, and that the rest of kmm takes them as any other."""

import dataclasses
import json

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.joined.film_views import FilmViews
from kmm.models.joined.joined_encoder import count_views, list_members, list_order
from kmm.models.views.parts import core_of, image_encoder_of
from kmm.models.views.path_view import view_path
from kmm.training.features import choose_batch, digest_encoder
from tests.checks import find_descriptions, other_fusions
from tests.export_roads import check_export
from tests.model_checks import (
    VOCABULARY_SIZE,
    check_encoding,
    check_feature_view,
    check_path_memory,
    check_path_view,
    check_same_after_save_and_load,
    core_inputs,
    model_inputs,
    run_halves,
    stir,
    to_numpy,
)

ENTRY = IMAGE_ENCODERS["small-cnn"]
SIZES = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 4, "fusion_units": 8}
KINDS = {
    "views": {"tta": 5},
    "members": {"members": (0, 1)},
    "shared": {"members": (0, 0)},
    "both": {"tta": 3, "members": (0, 1, 0)},
}


def build(seed=0, text=None, **options):
    spec = ModelSpec(image_encoder="small-cnn", text_encoder=text, **SIZES, **options)
    model = build_model(spec, label_count=2, vocabulary_size=VOCABULARY_SIZE, seed=seed)
    stir(model)
    return spec, model


@pytest.mark.large
def test_the_vector_is_the_mean_of_those_of_the_views_of_each_member():
    _, model = build(tta=5, members=(0, 1, 0))
    films = model_inputs(model)["image"]
    encoder = image_encoder_of(model)
    views = to_numpy(FilmViews(5)(films))
    first, second = (to_numpy(member(views, training=False)["vector"]) for member in list_members(encoder))
    means = [vectors.reshape(len(films), 5, -1).mean(axis=1) for vectors in (first, second, first)]
    found = to_numpy(encoder(films, training=False)["vector"])
    np.testing.assert_allclose(found, np.concatenate(means, axis=1), atol=1e-6 * np.abs(found).max())
    assert np.abs(first - second).max() > 0.01
    assert (count_views(encoder), list_order(encoder)) == (5, (0, 1, 0))


def test_one_member_and_one_view_are_the_encoder_itself():
    _, plain = build()
    encoder = image_encoder_of(plain)
    assert list_members(encoder) == [encoder] and (count_views(encoder), list_order(encoder)) == (1, (0,))
    _, averaged = build(seed=1, tta=4)
    averaged.set_weights(plain.get_weights())
    member = list_members(image_encoder_of(averaged))[0]
    for one, other in zip(member.get_weights(), encoder.get_weights(), strict=True):
        assert np.array_equal(one, other)
    assert digest_encoder(plain, "image") != digest_encoder(averaged, "image")


@pytest.mark.large
@pytest.mark.parametrize("kind", KINDS)
def test_a_joined_encoder_is_cut_saved_and_loaded_as_any_other(kind, tmp_path):
    _, model = build(**KINDS[kind])
    inputs = model_inputs(model)
    check_encoding(image_encoder_of(model), inputs["image"])
    view = check_path_view(model, image_encoder=ENTRY)
    check_path_memory(view, core_inputs(model))
    check_feature_view(model)
    loaded = check_same_after_save_and_load(model, inputs, tmp_path)
    halves = [run_halves(view_path(one, image_encoder=ENTRY), core_inputs(model)) for one in (model, loaded)]
    np.testing.assert_allclose(*halves, rtol=1e-5, atol=1e-6)
    for layer in ("block3_relu", ENTRY.feature_map):
        halves = run_halves(view_path(model, image_encoder=ENTRY, image_layer=layer), core_inputs(model))
        expected = to_numpy(core_of(model)(core_inputs(model), training=False))
        np.testing.assert_allclose(halves, expected, atol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize("kind", ["views", "both"])
def test_a_fusion_of_sequences_reads_a_joined_encoder_beside_reports(kind):
    with other_fusions() as names:
        for fusion in names:
            spec, model = build(text="text-cnn", fusion=fusion, **KINDS[kind])
            check_path_view(model, **find_descriptions(spec))
            check_feature_view(model)


@pytest.mark.large
@pytest.mark.parametrize("kind", KINDS)
def test_an_export_answers_as_the_joined_model_does(kind, tmp_path):
    spec, model = build(text="text-cnn", **KINDS[kind])
    check_export(model, spec, tmp_path, ENTRY.network)


@pytest.mark.large
def test_a_path_point_is_counted_with_each_view():
    """What the layers between the cut and the mean keep is kept for each view."""
    from kmm.explain.attribution.held_memory import count_point_bytes

    counts = [count_point_bytes(view_path(build(tta=tta)[1], image_encoder=ENTRY).rest) for tta in (1, 2, 4)]
    assert 1.8 * counts[0] < counts[1] < 2.8 * counts[0]
    assert counts[2] == pytest.approx(2 * counts[1], rel=0.02)


@pytest.mark.large
def test_fewer_films_are_encoded_at_once_where_each_has_views():
    sizes = [choose_batch(image_encoder_of(build(tta=tta, seed=0)[1]), 10**6) for tta in (1, 4)]
    large = {"image_encoder": "small-cnn", **SIZES, "pixels": 256}
    sizes += [
        choose_batch(image_encoder_of(build_model(ModelSpec(**large, tta=tta), label_count=1)), 10**6) for tta in (1, 4)
    ]
    assert sizes == [256, 256, 64, 16]


def test_a_specification_is_of_plain_values_and_refuses_wrong_ones():
    spec = ModelSpec(image_encoder="small-cnn", tta=3, members=(0, 1, 0))
    assert ModelSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec
    for wrong in ({"tta": 0}, {"tta": 10}, {"members": ()}, {"members": (1, 2)}):
        with pytest.raises(InputError, match=rf"^`{next(iter(wrong))}` must be"):
            ModelSpec(image_encoder="small-cnn", **wrong)
