import keras
import numpy as np
import pytest

from kmm.models.encoders_text import KERNELS, TEXT_ENCODERS, build_text_encoder
from tests.checks import check_text_encoder
from tests.model_checks import to_numpy

LENGTH, SIZE, FILTERS = 12, 5, 4


def build(name, length=LENGTH):
    keras.utils.set_random_seed(0)
    return build_text_encoder(TEXT_ENCODERS[name], length=length, embedding_size=SIZE, filters=FILTERS, dropout=0.5)


def reports(n=3, length=LENGTH, words=7):
    rows = np.random.default_rng(0).normal(size=(n, length, SIZE)).astype("float32")
    mask = np.zeros((n, length), "float32")
    mask[:, :words] = 1
    return {"rows": rows, "padding_mask": mask}


def convolve(rows, kernel, bias):
    """Same-padded 1-D convolution and ReLU, by the definition."""
    width = len(kernel)
    left = (width - 1) // 2
    padded = np.pad(rows, ((0, 0), (left, width - 1 - left), (0, 0)))
    places = [np.einsum("nwd,wdf->nf", padded[:, t : t + width], kernel) for t in range(rows.shape[1])]
    return np.maximum(np.stack(places, axis=1) + bias, 0)


def maps_of(encoder, rows):
    return [convolve(rows, *map(to_numpy, encoder.get_layer(f"conv{kernel}").weights)) for kernel in KERNELS]


PARAMETERS = [pytest.param(name, marks=[pytest.mark.large] * (name != "text-cnn")) for name in sorted(TEXT_ENCODERS)]


@pytest.mark.large
@pytest.mark.parametrize("name", PARAMETERS)
def test_every_entry(name, tmp_path):
    check_text_encoder(name, tmp_path)


def test_text_cnn_is_the_maximum_over_words_of_its_maps():
    encoder, inputs = build("text-cnn"), reports()
    word = inputs["padding_mask"][..., None]
    expected = np.concatenate(maps_of(encoder, inputs["rows"] * word), axis=-1) * word
    encoding = to_numpy(encoder(inputs, training=False))
    assert np.allclose(encoding["sequence"], expected, atol=1e-5)
    assert np.allclose(encoding["vector"], expected.max(axis=1), atol=1e-5)


def test_text_cnn_does_not_see_padding():
    short, long = build("text-cnn"), build("text-cnn", length=20)
    long.set_weights([weight if weight.ndim > 1 else weight + 1 for weight in short.get_weights()])
    short.set_weights(long.get_weights())  # positive biases: padding would win every maximum
    rows = reports(length=20)
    cut = {"rows": rows["rows"][:, :LENGTH], "padding_mask": rows["padding_mask"][:, :LENGTH]}
    rows["rows"][:, 7:] = 100.0
    assert np.allclose(to_numpy(short(cut)["vector"]), to_numpy(long(rows)["vector"]), atol=1e-5)


def test_text_cnn_of_no_words_is_zero():
    encoder = build("text-cnn")
    inputs = reports(words=0)
    assert not to_numpy(encoder(inputs)["vector"]).any()


def test_paper_network_by_its_definition():
    encoder, inputs = build("text-cnn-paper"), reports()
    maps = maps_of(encoder, inputs["rows"])
    pooled = [np.maximum(m[:, :-1], m[:, 1:]) for m in maps]
    encoding = to_numpy(encoder(inputs, training=False))
    expected = np.concatenate([p.reshape(len(p), -1) for p in pooled], axis=-1)
    assert np.allclose(encoding["vector"], expected, atol=1e-5)
    assert np.allclose(encoding["sequence"], np.concatenate(pooled, axis=-1), atol=1e-5)
    assert encoding["mask"].sum(axis=1).tolist() == [7, 7, 7]


def test_paper_network_penalises_its_kernels():
    encoder = build("text-cnn-paper")
    squares = sum((to_numpy(encoder.get_layer(f"conv{k}").kernel) ** 2).sum() for k in KERNELS)
    assert np.isclose(to_numpy(sum(encoder.losses)), 0.03 * squares, rtol=1e-5)


def test_paper_vector_has_its_published_size():
    entry = TEXT_ENCODERS["text-cnn-paper"]
    encoder = build_text_encoder(entry, length=140, embedding_size=300, filters=entry.filters, dropout=0.5)
    assert encoder.output["vector"].shape == (None, 4170)
