"""Class activation maps: closed forms on linear heads, and the maps of tf-keras-vis."""

import dataclasses
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
from keras import ops

from kmm.errors import InputError
from kmm.explain.attribution.cam import (
    NO_FILM,
    GradientCam,
    ScoreCam,
    weigh_grad_cam,
    weigh_grad_cam_plus,
    weigh_layer_cam,
)
from kmm.explain.attribution.methods import METHODS, Case
from kmm.explain.attribution.split_model import SplitModel
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.views.parts import fusion_of, image_encoder_of, text_encoder_of
from kmm.models.views.path_view import view_path

SIDE, CELLS = 32, 8
HEAD = np.float32([[1.0, -0.5], [-2.0, 1.5], [0.5, 1.0]])  # channels by labels
CAMS = [name for name, method in METHODS.items() if method.at_feature_map]


def linear_stem(inputs, fixed):
    """Three channels: the film in cells of 4 pixels, its negative, its square."""
    cells = ops.reshape(inputs["image"], (-1, CELLS, SIDE // CELLS, CELLS, SIDE // CELLS))
    film = ops.mean(cells, axis=(2, 4)) / 255
    return {"map": ops.stack([film, 1 - film, film**2], axis=-1)}


def linear_score(inner, fixed):
    return ops.matmul(ops.mean(inner["map"], axis=(1, 2)), ops.convert_to_tensor(HEAD)) + fixed["offset"]


def make_case(film, target=0):
    return Case(
        study="1",
        inputs={"image": film[..., None].astype(np.float32)},
        absent=frozenset(),
        fixed={"offset": np.float32([0.3, 0.1])},
        target=target,
    )


def feature_map(case):
    inputs = {name: ops.convert_to_tensor(value[None]) for name, value in case.inputs.items()}
    return ops.convert_to_numpy(linear_stem(inputs, {})["map"])[0]


def enlarged(cam):
    return cv2.resize(cam.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)[..., None]


@pytest.mark.parametrize(
    "weigh, weights",
    [
        (weigh_grad_cam, HEAD),
        (weigh_grad_cam_plus, np.maximum(HEAD, 0)),
        (weigh_layer_cam, np.maximum(HEAD, 0)),
    ],
)
def test_linear_head_weighs_channels_by_its_own_weights(weigh, weights):
    random = np.random.default_rng(0)
    cases = [make_case(random.uniform(0, 255, (SIDE, SIDE)), number % 2) for number in range(5)]
    cam = GradientCam(linear_score, linear_stem, name="map", weigh=weigh, chunk=2)
    found = dict(cam.attribute(cases))
    assert sorted(found) == list(range(5))
    for number, case in enumerate(cases):
        maps = feature_map(case)
        expected = np.maximum(maps @ weights[:, case.target], 0) / CELLS**2
        np.testing.assert_allclose(found[number].values["image"], enlarged(expected), atol=1e-6)
        scores = maps.mean(axis=(0, 1)) @ HEAD + case.fixed["offset"]
        np.testing.assert_allclose(found[number].scores, scores, atol=1e-5)
        assert found[number].score == found[number].scores[case.target]
        assert np.isnan(found[number].completeness_gap) and found[number].steps == 1


@pytest.mark.parametrize("name", CAMS)
def test_labels_of_a_study_share_a_pass_and_are_as_one_by_one(name):
    random = np.random.default_rng(1)
    films = [make_case(random.uniform(0, 255, (SIDE, SIDE))) for _ in range(3)]
    cases = [dataclasses.replace(film, target=target) for film in films for target in (1, 0)]
    cases.append(dataclasses.replace(films[0], target=1))  # again, but not one after the other
    found = {}
    for labels in (1, 2):
        model = SplitModel(linear_stem, linear_score, 2, "map", labels=labels)
        found[labels] = dict(METHODS[name].for_model(model, ExplainSettings())(iter(cases)))
    assert sorted(found[2]) == sorted(found[1]) == list(range(7))
    for number, one in found[1].items():
        other = found[2][number]
        assert other.target == one.target == cases[number].target and other.score == pytest.approx(one.score)
        np.testing.assert_allclose(other.values["image"], one.values["image"], rtol=1e-5, atol=1e-6)
    assert np.abs(found[2][0].values["image"] - found[2][1].values["image"]).max() > 1e-3


def test_score_cam_looks_through_the_channels_once_for_all_labels():
    cam, film = ScoreCam(linear_score, linear_stem, name="map", chunk=2), make_case(np.full((SIDE, SIDE), 9.0))
    looks, look = [], cam._look_through
    cam._look_through = lambda *given: looks.append(1) or look(*given)
    assert len(list(cam.attribute([film, dataclasses.replace(film, target=1)]))) == len(looks) == 2  # 3 channels by 2


def test_score_cam_weighs_channels_by_what_the_film_seen_through_them_adds_to_black():
    case = make_case(np.random.default_rng(0).uniform(0, 255, (SIDE, SIDE)))
    maps = feature_map(case)
    weights = []
    for channel in np.moveaxis(maps, -1, 0):
        mask = enlarged(channel)
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        seen = feature_map(dataclasses.replace(case, inputs={"image": case.inputs["image"] * mask}))
        black = np.float32([0, 1, 0])
        weights.append((seen.mean(axis=(0, 1)) - black) @ HEAD[:, 0])
    _, found = next(ScoreCam(linear_score, linear_stem, name="map", chunk=2).attribute([case]))
    np.testing.assert_allclose(found.values["image"], enlarged(np.maximum(maps @ weights, 0)), atol=1e-4)
    assert found.steps == 3 and found.score == pytest.approx(maps.mean(axis=(0, 1)) @ HEAD[:, 0] + 0.3, abs=1e-5)


def test_score_cam_of_some_channels_takes_those_that_vary_most():
    film = np.full((SIDE, SIDE), 100.0)
    film[8:16, 16:24] = 200
    case = make_case(film)
    _, found = next(ScoreCam(linear_score, linear_stem, name="map", chunk=2, channels=1).attribute([case]))
    maps = feature_map(case)[..., [2]]  # squares: 0.46 from cell to cell, the others 0.39
    assert found.steps == 1
    values = found.values["image"]
    np.testing.assert_allclose(values / values.max(), enlarged(maps[..., 0] / maps.max()), atol=1e-5)


def test_score_cam_of_a_constant_film_is_finite():
    _, found = next(
        ScoreCam(linear_score, linear_stem, name="map", chunk=2).attribute([make_case(np.full((32, 32), 9.0))])
    )
    assert np.isfinite(found.values["image"]).all()


@pytest.mark.parametrize("name", CAMS)
def test_map_peaks_on_a_bright_disk(name):
    y, x = np.mgrid[:SIDE, :SIDE]

    def stem(inputs, fixed):
        film = linear_stem(inputs, fixed)["map"][..., :1]
        return {"map": ops.concatenate([film, ops.relu(film - 0.5)], axis=-1)}

    def score(inner, fixed):
        return ops.mean(inner["map"], axis=(1, 2))[:, 1:]

    attribute = METHODS[name].for_model(SplitModel(stem, score, 4, "map"), ExplainSettings())
    for row, column in ((9.5, 21.5), (22, 7)):
        film = 40.0 + 180 * ((x - column) ** 2 + (y - row) ** 2 < 16)
        _, found = next(attribute([make_case(film)]))
        at = np.unravel_index(found.values["image"][..., 0].argmax(), film.shape)
        assert np.hypot(at[0] - row, at[1] - column) < 4, at


@pytest.mark.parametrize("name", ["grad-cam", "score-cam"])
def test_scores_that_are_not_finite_spoil_no_other_study(name):
    attribute = METHODS[name].for_model(SplitModel(linear_stem, linear_score, 2, "map"), ExplainSettings())
    case = make_case(np.zeros((SIDE, SIDE)))
    broken = dataclasses.replace(case, fixed={"offset": np.float32([np.nan, 0])})
    assert [found.is_finite for _, found in attribute([broken, case])] == [False, True]


# A model of kmm, and the same as tf-keras-vis needs it: one input, the encoder's layers on the outside.

SPEC = ModelSpec(
    image_encoder="small-cnn",
    text_encoder="text-cnn",
    pixels=64,
    length=10,
    embedding_size=6,
    text_filters=4,
    fusion_units=16,
)


class Given(keras.layers.Layer):
    """Repeats one study's features for each film."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def call(self, x):
        return {name: ops.repeat(value, ops.shape(x)[0], axis=0) for name, value in self.values.items()}


def view_image(model, case):
    """The model from the film alone to logits, weights shared, with the text and `present` of one study."""
    encoder, fusion = image_encoder_of(model), fusion_of(model)
    text = text_encoder_of(model)({"rows": case.inputs["rows"][None], "padding_mask": case.fixed["padding_mask"][None]})
    vector = encoder.output["vector"]
    fixed = Given({"text_vector": text["vector"], "present": case.fixed["present"][None]})(vector)
    return keras.Model(encoder.input, fusion({**fixed, "image_vector": vector}))


def build_joint():
    model = build_model(SPEC, label_count=2, vocabulary_size=20, seed=1)
    random = np.random.default_rng(1)
    case = Case(
        study="1",
        inputs={
            "image": random.uniform(0, 255, (64, 64, 1)).astype(np.float32),
            "rows": random.normal(size=(10, 6)).astype(np.float32),
        },
        absent=frozenset(),
        fixed={"padding_mask": np.ones(10, np.float32), "present": np.ones(2, np.float32)},
        target=0,
    )
    return model, case


def cut(model):
    image, text = IMAGE_ENCODERS["small-cnn"], TEXT_ENCODERS["text-cnn"]
    layer = image.feature_map
    view = view_path(model, image_encoder=image, text_encoder=text, image_layer=layer)
    stem = lambda inputs, fixed: view.stem(  # noqa: E731
        {tensor.name: {**inputs, **fixed}[tensor.name] for tensor in view.stem.inputs}, training=False
    )
    score = lambda inner, fixed: view.rest({**inner, "present": fixed["present"]}, training=False)  # noqa: E731
    return score, stem, f"image_{layer}"


@pytest.mark.large
@pytest.mark.filterwarnings("ignore:Please import `zoom` from:DeprecationWarning")
@pytest.mark.parametrize(
    "module, kind, weigh",
    [
        ("gradcam", "Gradcam", weigh_grad_cam),
        ("gradcam_plus_plus", "GradcamPlusPlus", weigh_grad_cam_plus),
        ("layercam", "Layercam", weigh_layer_cam),
    ],
)
def test_maps_are_those_of_tf_keras_vis(module, kind, weigh):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf-keras-vis runs on TensorFlow alone")
    theirs = getattr(pytest.importorskip(f"tf_keras_vis.{module}"), kind)
    model, case = build_joint()
    score, stem, name = cut(model)
    expected = theirs(view_image(model, case))(
        lambda output: output[:, case.target],
        case.inputs["image"][None],
        penultimate_layer=image_encoder_of(model).get_layer(IMAGE_ENCODERS["small-cnn"].feature_map),
        seek_penultimate_conv_layer=False,
        normalize_cam=False,
        expand_cam=False,
    )
    _, found = next(GradientCam(score, stem, name=name, weigh=weigh, chunk=2).attribute([case]))
    if weigh is weigh_grad_cam_plus:
        expected = expected / np.exp(found.score)
    expected = cv2.resize(np.asarray(expected)[0], (64, 64), interpolation=cv2.INTER_LINEAR)[..., None]
    assert expected.max() > 0
    np.testing.assert_allclose(found.values["image"], expected, atol=1e-5 * expected.max())


@pytest.mark.large
def test_the_last_feature_map_is_found_and_the_cut_model_is_the_model():
    model, case = build_joint()
    score, stem, name = cut(model)
    assert name == "image_block5_relu"
    _, found = next(GradientCam(score, stem, name=name, weigh=weigh_grad_cam, chunk=2).attribute([case]))
    whole = model.get_layer("core")({key: value[None] for key, value in {**case.inputs, **case.fixed}.items()})
    np.testing.assert_allclose(found.scores, ops.convert_to_numpy(whole)[0], atol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize("name", CAMS)
def test_studies_are_explained_by_name(name, loaded, tiny_folder):
    from kmm.data.collection import read_collection

    studies = read_collection(tiny_folder).studies[-12:]
    explainer = Explainer(loaded, ExplainSettings(method=name))
    found = {explanation.study: explanation for explanation in explainer.explain(studies)}
    assert sorted(found) == sorted(study.id for study in studies)
    predictions = loaded.predict(studies)
    probabilities = loaded.probabilities(predictions.logits[loaded.main], predictions.present)
    for study, row in zip(studies, probabilities):
        assert list(found[study.id].probabilities.values()) == pytest.approx(list(row), abs=1e-5)
    for study in studies:
        explanation = found[study.id]
        assert explanation.modality_share == {"image": 0.0, "text": 0.0}
        assert not any(word.share for word in explanation.words) and not explanation.words_scored
        assert explanation.modality_sum == {"image": None, "text": None}
        assert (explanation.heat is None) == (study.frontal is None)
        if study.frontal is None:
            assert not explanation.attribution.values["image"].any() and not explanation.regions
            assert explanation.warnings == (NO_FILM,)
        else:
            assert not explanation.warnings
            assert explanation.heat.min() >= 0


def test_a_model_of_reports_alone_has_no_map():
    spec = dataclasses.replace(SPEC, image_encoder=None)
    classifier = SimpleNamespace(
        label_names=("abnormal",),
        main="text",
        models={"text": build_model(spec, label_count=1, vocabulary_size=20)},
        settings=None,
        batches=SimpleNamespace(image=None),
        mean_image=None,
    )
    with pytest.raises(InputError, match="'grad-cam' explains films"):
        Explainer(classifier, ExplainSettings(method="grad-cam"))
