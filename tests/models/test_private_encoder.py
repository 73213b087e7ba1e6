"""A network of one's own as an image encoder: one entry of the table serves training, cuts, maps and weights."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers, ops

from kmm.errors import InputError, WeightsError
from kmm.explain.attribution.split_model import choose_chunk, cut_model
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.models.build import ModelSpec
from kmm.models.encoders_image import IMAGE_ENCODERS, ImageEncoder, build_image_encoder
from kmm.models.views.parts import image_encoder_of, set_trainable
from kmm.models.weights.checkpoints import load_image_weights
from tests.checks import check_image_encoder
from tests.model_checks import to_numpy


def two_blocks(x, weights):
    """Two convolutions: 4 maps of half the film's side, then 3 of a quarter."""
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="first_conv")(x)
    x = layers.ReLU(name="first_relu")(x)
    x = layers.Conv2D(3, 3, strides=2, padding="same", name="second_conv")(x)
    return layers.ReLU(name="second_relu")(x)


def without_gradient(x, weights):
    """The same, but no gradient passes from the second to the first."""
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="first_conv")(x)
    x = ops.stop_gradient(layers.ReLU(name="first_relu")(x))
    x = layers.Conv2D(3, 3, strides=2, padding="same", name="second_conv")(x)
    return layers.ReLU(name="second_relu")(x)


def read_torch(state):
    return {
        f"{name}_conv": [state[f"{name}.weight"].transpose(2, 3, 1, 0), state[f"{name}.bias"]]
        for name in ("first", "second")
    }


ENTRY = ImageEncoder(
    network=two_blocks,
    pixels=32,
    channels=1,
    scaling="unit",
    pooling="average",
    stem="first_conv",
    blocks=("first_relu", "second_relu"),
    feature_map="second_relu",
    top="second_conv",
    imagenet=False,
    source="made for this test",
    torch_layers=read_torch,
)


@keras.saving.register_keras_serializable(package="tests")
class Attention(layers.Layer):
    """Each place `(n, m, d)` becomes a mean of all, weighed by likeness: `(n, m, m)` numbers that are no output."""

    def call(self, x):
        return ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1)))), x)


@keras.saving.register_keras_serializable(package="tests")
class CountedAttention(Attention):
    """The same, which says what it holds."""

    def path_point_bytes(self, outputs):
        places = self.input.shape[1]
        return 4 * outputs + 4 * 4 * places**2


def counted_attention(x, weights):
    """The network with the layer that says what it holds."""
    return attention(x, weights, CountedAttention)


def attention(x, weights, kind=Attention):
    """A convolution to 16 x 16 places for a film of 32 pixels, attention among them, a convolution."""
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="first_conv")(x)
    x = layers.ReLU(name="first_relu")(x)
    shape = x.shape[1:]
    x = layers.Reshape((-1, shape[-1]), name="in_a_row")(x)
    x = layers.Reshape(shape, name="attended")(kind(name="attention")(x))
    return layers.Conv2D(3, 3, strides=2, padding="same", name="second_conv")(x)


ATTENTION = dataclasses.replace(
    ENTRY, network=attention, blocks=("attended", "second_conv"), feature_map="second_conv", torch_layers=None
)


@pytest.fixture
def private(monkeypatch, build_classifier):
    monkeypatch.setitem(IMAGE_ENCODERS, "private", ENTRY)
    return build_classifier(image="private")


@pytest.mark.large
def test_it_keeps_the_promises_of_every_entry(private, tmp_path):
    check_image_encoder("private", tmp_path)


@pytest.mark.large
def test_a_network_with_attention_keeps_them_where_its_layer_says_what_it_holds(monkeypatch, tmp_path):
    monkeypatch.setitem(IMAGE_ENCODERS, "private", dataclasses.replace(ATTENTION, network=counted_attention))
    check_image_encoder("private", tmp_path)


@pytest.mark.large
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (dataclasses.replace(ENTRY, stem="first_relu", blocks=("second_relu",)), "image_first_relu"),
        (dataclasses.replace(ENTRY, blocks=("first_relu",)), "the last block has the side 16, the map 8"),
        (ATTENTION, "a path point holds"),
        (dataclasses.replace(ENTRY, held=1e4), "a path point holds"),
        (
            dataclasses.replace(ENTRY, network=without_gradient),
            "no gradient reached|Gradients do not exist|holds 0 bytes",
        ),
        (dataclasses.replace(ENTRY, network=lambda x, weights: two_blocks(x * 0, weights)), "the vector ignores"),
    ],
    ids=[
        "stem not affine",
        "block missing",
        "memory not counted",
        "memory counted too high",
        "no gradient",
        "constant",
    ],
)
def test_a_broken_promise_is_found(entry, said, monkeypatch, tmp_path):
    monkeypatch.setitem(IMAGE_ENCODERS, "private", entry)
    with pytest.raises((AssertionError, UserWarning), match=said):  # a warning of Keras's, where there is no gradient
        check_image_encoder("private", tmp_path)


def test_it_is_cut_behind_the_stem_that_its_entry_names(private):
    assert cut_model(private).stem.output["image_first_conv"].shape == (None, 16, 16, 4)


@pytest.mark.large
@pytest.mark.parametrize("method", ["integrated-gradients", "grad-cam", "score-cam"])
def test_it_is_explained(private, studies, method):
    found = next(Explainer(private, ExplainSettings(method=method, steps=3)).explain(studies[:1]))
    assert found.heat.shape == (32, 32)
    assert np.isfinite(found.heat).all() and found.attribution.is_finite


def test_maps_are_of_any_layer_that_gives_one_and_another_is_refused_with_the_blocks(private, studies):
    settings = ExplainSettings(method="grad-cam")
    explained = Explainer(private, dataclasses.replace(settings, layer="first_relu"))
    assert explained.split.feature_map == "image_first_relu"
    assert next(explained.explain(studies[:1])).attribution.is_finite
    for layer in ("third_relu", "average_pool"):
        with pytest.raises(
            InputError, match=rf"^The image encoder has no layer '{layer}' .*: first_relu, second_relu.$"
        ):
            Explainer(private, dataclasses.replace(settings, layer=layer))


def test_the_top_that_is_trained_is_the_one_named(private):
    model = private.models["joint"]
    spec = ModelSpec(image_encoder="private", text_encoder="text-cnn", pixels=32, length=12, embedding_size=6)
    set_trainable(model, spec, image="top")
    trained = {layer.name for layer in image_encoder_of(model).layers if layer.trainable and layer.weights}
    assert trained == {"second_conv"}


def test_a_network_that_holds_more_at_a_point_gets_smaller_chunks(private):
    view = cut_model(private)
    private.image_encoder = dataclasses.replace(private.image_encoder, held=400.0)
    more = cut_model(private)
    assert (view.held, more.held) == (1.0, 400.0)
    few, many = (choose_chunk(cut.rest, 1.3, cut.held) for cut in (more, view))
    assert 1 <= few < many
    assert Explainer(private, ExplainSettings(memory_gb=1.3)).chunk == few


def test_it_reads_weights_of_pytorch_where_its_entry_says_how(private, tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors.numpy")
    kernel = np.arange(36, dtype=np.float32).reshape(4, 1, 3, 3)
    state = {"first.weight": kernel, "first.bias": np.ones(4, np.float32)}
    state |= {"second.weight": np.zeros((3, 4, 3, 3), np.float32), "second.bias": np.zeros(3, np.float32)}
    path = tmp_path / "mine.safetensors"
    safetensors.save_file(state, path)
    encoder = build_image_encoder(ENTRY, pixels=32)
    assert load_image_weights(encoder, "private", path).tensors == 4
    np.testing.assert_array_equal(to_numpy(encoder.get_layer("first_conv").kernel)[:, :, 0, 2], kernel[2, 0])
    monkeypatch.setitem(IMAGE_ENCODERS, "private", dataclasses.replace(ENTRY, torch_layers=None))
    with pytest.raises(WeightsError, match=r"can be read only for .*densenet121, .*, not private.$"):
        load_image_weights(encoder, "private", path)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"stem": "stem_conv"}, "Unknown layer of the image encoder 'stem_conv'. Known: film, scaling, first_conv, "),
        ({"blocks": ("third",)}, "Unknown layer of the image encoder 'third'"),
        ({"top": "head"}, "Unknown layer of the image encoder 'head'"),
        ({"feature_map": "first_relu"}, "The layer 'first_relu' is not the output of the image encoder's network."),
    ],
)
def test_an_entry_that_does_not_fit_its_network_is_refused_when_it_is_built(change, said):
    with pytest.raises(InputError) as error:
        build_image_encoder(dataclasses.replace(ENTRY, **change), pixels=32)
    assert str(error.value).startswith(said)
