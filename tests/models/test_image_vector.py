"""Vectors of several depths of an image encoder: which blocks, what the vector holds, and a whole fit with them."""

import itertools

import keras
import numpy as np
import pytest

from kmm.classifier import Classifier
from kmm.data.collection import read_collection
from kmm.errors import InputError
from kmm.evaluate.linear_probe import fit_probe
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.image_vector import GridMeans, choose_depths
from kmm.models.views.parts import image_encoder_of, vector_groups
from kmm.presets import PRESETS, make_settings
from kmm.settings import FitSettings
from kmm.training.fit import fit_classifier
from tests.factories.studies import TINY
from tests.model_checks import to_numpy

FROZEN = {"image_weights": "random", "image_epochs": 0, "tune_epochs": 1, "tune_learning_rate": 1e-7}


def test_blocks_are_evenly_spaced_over_the_upper_two_thirds():
    blocks = [str(number) for number in range(13)]
    assert choose_depths(blocks, 1) == ()
    assert choose_depths(blocks, 2) == ("4",)
    assert choose_depths(blocks, 3) == ("4", "8")
    assert choose_depths(blocks, 5) == ("4", "6", "8", "10")
    assert choose_depths(IMAGE_ENCODERS["xception"].blocks, 4) == ("add_3", "add_6", "add_9")
    assert choose_depths(IMAGE_ENCODERS["densenet121"].blocks, 3) == ("conv3_block12_concat", "conv4_block24_concat")


@pytest.mark.parametrize("count", range(1, 9))
def test_every_number_of_depths_up_to_that_of_the_blocks_gives_as_many_different_blocks(count):
    blocks = [str(number) for number in range(count)]
    for depths in range(1, count + 1):
        chosen = [int(name) for name in choose_depths(blocks, depths)]
        assert len(set(chosen)) == depths - 1 and chosen == sorted(chosen) and count - 1 not in chosen


def test_every_encoder_has_the_depths_of_the_preset_paper():
    depths = PRESETS["paper"].settings["image_depths"]
    for entry in IMAGE_ENCODERS.values():
        assert len(choose_depths(entry.blocks, depths)) == depths - 1


def test_more_depths_than_blocks_are_refused():
    with pytest.raises(
        InputError, match=r"`image_depths` must be at most 5, the number of blocks of the image encoder\. Received: 9\."
    ):
        ModelSpec(image_encoder="small-cnn", image_depths=9)
    with pytest.raises(InputError, match="image_depths"):
        FitSettings(image_depths=0)


def test_the_vector_holds_the_means_of_the_maps_before_that_of_the_last_block():
    entry = IMAGE_ENCODERS["small-cnn"]
    one, several = (build_image_encoder(entry, pixels=48, depths=depths) for depths in (1, 3))
    assert [layer.name for layer in one.layers] == [layer.name for layer in several.layers if "depth" not in layer.name]
    one.set_weights(several.get_weights())
    films = np.random.default_rng(0).uniform(0, 255, (3, 48, 48, 1)).astype(np.float32)
    maps = keras.Model(several.input, [several.get_layer(name).output for name in choose_depths(entry.blocks, 3)])
    expected = [to_numpy(found).mean(axis=(1, 2)) for found in maps(films, training=False)]
    found, last = (to_numpy(encoder(films, training=False)) for encoder in (several, one))
    np.testing.assert_allclose(found["vector"], np.concatenate([*expected, last["vector"]], axis=1), atol=1e-5)
    np.testing.assert_allclose(found["sequence"], last["sequence"], atol=1e-6)


def test_each_depth_is_a_group_of_the_vector():
    model = build_model(ModelSpec(image_encoder="small-cnn", pixels=32, image_depths=3), label_count=1)
    groups = vector_groups(model, "image")
    assert groups == (32, 96, 256) and sum(groups) == image_encoder_of(model).output["vector"].shape[-1]
    assert vector_groups(build_model(ModelSpec(image_encoder="small-cnn", pixels=32), label_count=1), "image") == (256,)


@pytest.mark.large
@pytest.mark.parametrize("change", [FROZEN, {}, {**FROZEN, "image_grid": 2}], ids=["frozen", "trained", "grid"])
def test_a_fit_of_several_depths_is_saved_explained_and_starts_from_the_probes_of_its_depths(
    tiny_folder, tmp_path, change
):
    settings = make_settings(
        "small",
        {**TINY, "image_depths": 3, "text_encoder": None, "image_epochs": 1, "bootstrap_repeats": 2, "head": "linear"}
        | change,
    )
    studies = read_collection(tiny_folder)
    classifier, run = fit_classifier(studies, settings, work=tmp_path / "work", cache=tmp_path / "cache")
    if change:
        rows = {part: run.prepared.rows(part) for part in ("train", "validation")}
        rows = {part: found[run.prepared.present[found, 0] > 0] for part, found in rows.items()}
        features = run.features.compute(run.models["image"], ("image",))["image_vector"]
        probe = fit_probe(features, run.prepared.labels, **rows, groups=vector_groups(run.models["image"], "image"))
        np.testing.assert_allclose(
            run.answers["image"](rows["train"]), probe.logits(features[rows["train"]]), atol=1e-4
        )
    classifier.save(tmp_path / "saved")
    again = Classifier.load(tmp_path / "saved")
    some = [study for study in studies.studies if study.images][:2]
    np.testing.assert_allclose(*(one.predict(some).logits["image"] for one in (classifier, again)), atol=1e-6)
    for explanation in Explainer.load(tmp_path / "saved", ExplainSettings()).explain(some):
        assert explanation.attribution.completeness_gap < 0.02


@pytest.mark.parametrize("size, ends", [(6, (0, 2, 4, 6)), (7, (0, 2, 5, 7)), (14, (0, 5, 9, 14)), (3, (0, 1, 2, 3))])
def test_the_means_of_a_grid_are_those_of_its_cells_row_by_row(size, ends):
    features = np.random.default_rng(0).normal(size=(2, size, size + 3, 4)).astype(np.float32)
    across = np.rint(np.arange(4) * (size + 3) / 3).astype(int)
    expected = [
        features[:, top:below, left:right].mean(axis=(1, 2))
        for top, below in itertools.pairwise(ends)
        for left, right in itertools.pairwise(across)
    ]
    np.testing.assert_allclose(to_numpy(GridMeans(3)(features)), np.concatenate(expected, axis=1), atol=1e-6)
    mean = to_numpy(GridMeans(1)(features))
    np.testing.assert_allclose(mean, features.mean(axis=(1, 2)), atol=1e-6)


def test_a_network_that_treats_both_sides_alike_tells_a_film_from_its_mirror_image_only_with_a_grid():
    film = np.zeros((1, 64, 64, 1), np.float32)
    film[:, :, 48:] = 200
    for grid, size in ((1, 32 + 256), (2, 4 * 32 + 4 * 128 + 128)):  # the maximum of the last map stays one
        encoder = build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=64, depths=2, grid=grid)
        encoder.set_weights([(w + w[:, ::-1]) / 2 if w.ndim == 4 else w for w in encoder.get_weights()])
        one, other = (to_numpy(encoder(x, training=False)["vector"])[0] for x in (film, film[:, :, ::-1]))
        assert len(one) == size and np.allclose(one, other, rtol=1e-4, atol=1e-6) == (grid == 1)


def test_a_grid_finer_than_the_map_is_refused():
    with pytest.raises(InputError, match=r"`image_grid` must be at most 2, .* 2 x 2 places at this size of film. Rec"):
        build_model(ModelSpec(image_encoder="small-cnn", pixels=32, image_grid=3), label_count=1)
    with pytest.raises(InputError, match="image_grid"):
        FitSettings(image_grid=0)


def test_each_depth_with_its_cells_is_a_group():
    model = build_model(ModelSpec(image_encoder="small-cnn", pixels=64, image_depths=3, image_grid=2), label_count=1)
    assert vector_groups(model, "image") == (4 * 32, 4 * 96, 4 * 128 + 128)
