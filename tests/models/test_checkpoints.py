import keras
import numpy as np
import pytest

from kmm.errors import WeightsError
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.views.parts import image_encoder_of
from kmm.models.weights.checkpoints import load_image_weights, weights_digest

PIXELS = 72
LARGE = ("xception", "densenet121")


def build(name, seed=1):
    keras.utils.set_random_seed(seed)
    return build_image_encoder(IMAGE_ENCODERS[name], pixels=PIXELS)


@pytest.fixture(scope="module")
def small():
    """A small encoder with weights of its own and one that is to receive them."""
    return build("small-cnn"), build("small-cnn", seed=2)


@pytest.fixture(scope="module")
def xceptions():
    return build("xception"), build("xception", seed=2)


def same(model, other):
    return all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights()))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
def test_keras_formats(small, suffix, tmp_path):
    source, target = small
    path = tmp_path / f"film{suffix}"
    source.save_weights(path) if suffix == ".weights.h5" else source.save(path)
    target.set_weights([weight + 1 for weight in source.get_weights()])
    report = load_image_weights(target, "small-cnn", path)
    assert same(source, target)
    assert (report.source, report.tensors, report.extra) == (path.name, 25, ())
    assert report.parameters == source.count_params()


def test_random_weights_are_those_of_the_seed_in_every_process():
    reports = []
    for seed in (3, 3, 4):
        model = build("small-cnn", seed)
        reports.append(load_image_weights(model, "small-cnn", "random"))
    assert reports[0] == reports[1] and reports[0].sha256 != reports[2].sha256
    assert (reports[2].source, reports[2].tensors, reports[2].sha256) == ("random", 25, weights_digest(model))
    assert reports[2].parameters == model.count_params()


@pytest.mark.parametrize("name", ["small-cnn", *(pytest.param(name, marks=pytest.mark.large) for name in LARGE)])
def test_features_of_random_weights_differ_between_films(name):
    """With the kernels as Keras draws them, those of Xception are about 1e-5, which no head can learn from."""
    model = build(name)
    load_image_weights(model, name, "random")
    rng = np.random.default_rng(0)
    films = np.clip(rng.normal(128, 40, (4, 1, 1, 1)) + rng.normal(0, 40, (4, PIXELS, PIXELS, 1)), 0, 255)
    features = np.asarray(model.predict_on_batch(films.astype("float32"))["vector"])
    assert 0.01 < np.median(features.std(axis=0)) < 1e3


def test_the_encoder_inside_a_trained_classifier(small, tmp_path):
    spec = ModelSpec(image_encoder="small-cnn", text_encoder="text-cnn", pixels=PIXELS, length=9, embedding_size=4)
    classifier = build_model(spec, label_count=1, vocabulary_size=20, seed=3)
    classifier.compile("adam")
    classifier.save(tmp_path / "classifier.keras")
    report = load_image_weights(small[1], "small-cnn", tmp_path / "classifier.keras")
    assert same(image_encoder_of(classifier), small[1])
    assert {"conv3", "embedding", "logits"} <= set(report.extra)


@pytest.mark.large
@pytest.mark.parametrize("shift", [0, 3])
def test_xception_whose_unnamed_layers_were_counted_from_anywhere(xceptions, shift, tmp_path):
    source, target = xceptions
    keras.utils.clear_session()
    for _ in range(shift):
        keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()
    application = keras.applications.Xception(include_top=False, weights=None, input_shape=(PIXELS, PIXELS, 3))
    application.set_weights([weight + shift for weight in source.get_weights()])
    application.save_weights(tmp_path / "xception.weights.h5")
    report = load_image_weights(target, "xception", tmp_path / "xception.weights.h5")
    assert same(application, target)
    assert report.tensors == 234


def test_another_network_is_refused_and_nothing_is_changed(small, xceptions, tmp_path):
    small[0].save_weights(tmp_path / "small.weights.h5")
    before = xceptions[1].get_weights()
    with pytest.raises(WeightsError) as caught:
        load_image_weights(xceptions[1], "xception", tmp_path / "small.weights.h5")
    assert "small.weights.h5 holds weights for another network: 80 of 80 layers do not fit: " in str(caught.value)
    assert "block1_conv1 is missing; " in str(caught.value) and "and 77 more" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, xceptions[1].get_weights()))


def test_another_shape_is_named(small, tmp_path):
    image = keras.Input((PIXELS, PIXELS, 1))
    wider = keras.Model(image, keras.layers.Conv2D(17, 3, use_bias=False, name="block1_conv")(image))
    wider.save_weights(tmp_path / "wider.weights.h5")
    with pytest.raises(WeightsError, match=r"block1_conv expected \(3, 3, 1, 16\), received \(3, 3, 1, 17\)"):
        load_image_weights(small[1], "small-cnn", tmp_path / "wider.weights.h5")


def test_numbers_that_are_not_finite_are_refused(small, tmp_path):
    source, target = small
    weights = source.get_weights()
    source.set_weights([weights[0] * np.nan, *weights[1:]])
    source.save_weights(tmp_path / "film.weights.h5")
    source.set_weights(weights)
    with pytest.raises(WeightsError, match="NaN or infinity, first in layer block1_conv"):
        load_image_weights(target, "small-cnn", tmp_path / "film.weights.h5")


@pytest.mark.large
def test_imagenet_is_never_replaced_by_chance(monkeypatch, xceptions):
    def offline(*args, **kwargs):
        raise Exception("URL fetch failure on https://host/file")

    monkeypatch.setattr(keras.utils, "get_file", offline)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", offline)
    before = xceptions[1].get_weights()
    with pytest.raises(WeightsError, match=r"could not be downloaded \(URL fetch failure .* Give a local file"):
        load_image_weights(xceptions[1], "xception", "imagenet")
    assert all(np.array_equal(a, b) for a, b in zip(before, xceptions[1].get_weights()))


def test_imagenet_needs_a_network_that_has_them(small):
    with pytest.raises(WeightsError, match="no ImageNet weights for small-cnn"):
        load_image_weights(small[1], "small-cnn", "imagenet")


def test_imagenet_copies_every_layer(monkeypatch, xceptions):
    source, target = xceptions
    monkeypatch.setattr("kmm.models.weights.checkpoints.build_image_encoder", lambda entry, pixels, weights: source)
    report = load_image_weights(target, "xception", "imagenet")
    assert same(source, target)
    assert (report.source, report.sha256) == ("imagenet", weights_digest(source))


def test_digest_follows_the_weights_and_survives_save_and_load(small, tmp_path):
    source, target = small
    assert weights_digest(source) == weights_digest(source)
    source.save(tmp_path / "film.keras")
    assert weights_digest(keras.models.load_model(tmp_path / "film.keras")) == weights_digest(source)
    weights = source.get_weights()
    target.set_weights([weights[0] + np.eye(3)[..., None, None] * 1e-6, *weights[1:]])
    assert weights_digest(target) != weights_digest(source)
