import keras
import numpy as np
import pytest

from kmm.models.encoders_image import IMAGE_ENCODERS, SCALINGS, build_image_encoder
from tests.checks import check_encoding, to_numpy

PIXELS = 72  # keras.applications.Xception takes no less than 71
APPLICATIONS = {
    "densenet121": (keras.applications.DenseNet121, keras.applications.densenet.preprocess_input),
    "xception": (keras.applications.Xception, keras.applications.xception.preprocess_input),
}


@pytest.fixture(scope="module", params=sorted(IMAGE_ENCODERS))
def named_encoder(request):
    keras.utils.set_random_seed(0)
    return request.param, build_image_encoder(IMAGE_ENCODERS[request.param], pixels=PIXELS)


@pytest.fixture(scope="module")
def films():
    return np.random.default_rng(0).uniform(0, 255, (2, PIXELS, PIXELS, 1)).astype("float32")


def test_encoding(named_encoder, films):
    check_encoding(named_encoder[1], films)


def test_table_entry_names_layers_and_scalings_that_exist(named_encoder):
    name, encoder = named_encoder
    entry = IMAGE_ENCODERS[name]
    assert entry.scaling in SCALINGS
    assert entry.top in [layer.name for layer in encoder.layers]
    assert encoder.get_layer(entry.feature_map).output is encoder.get_layer("places").input
    maps = [encoder.get_layer(block).output.shape for block in entry.blocks]
    assert all(len(shape) == 4 for shape in maps)
    sides = [shape[1] for shape in maps]
    assert sides == sorted(sides, reverse=True) and sides[-1] == encoder.get_layer(entry.feature_map).output.shape[1]
    order = [layer.name for layer in encoder.layers]
    assert order.index(entry.stem) < order.index(entry.blocks[0]) <= order.index(entry.blocks[-1])


def test_second_build_in_one_process_has_equal_names(named_encoder):
    name, encoder = named_encoder
    again = build_image_encoder(IMAGE_ENCODERS[name], pixels=PIXELS)
    assert [layer.name for layer in again.layers] == [layer.name for layer in encoder.layers]


@pytest.mark.parametrize("name", sorted(APPLICATIONS))
def test_equals_keras_applications_with_its_own_preprocessing(name, films):
    encoder = build_image_encoder(IMAGE_ENCODERS[name], pixels=PIXELS)
    build, preprocess = APPLICATIONS[name]
    reference = build(include_top=False, weights=None, input_shape=(PIXELS, PIXELS, 3))
    reference.set_weights(encoder.get_weights())
    features = to_numpy(reference(preprocess(np.repeat(films, 3, axis=-1)), training=False))
    encoding = to_numpy(encoder(films, training=False))
    scale = np.abs(features).max()
    assert np.allclose(encoding["sequence"], features.reshape(encoding["sequence"].shape), atol=1e-5 * scale)
    assert np.allclose(encoding["vector"], features.mean(axis=(1, 2)), atol=1e-5 * scale)


def test_max_average_pooling_is_the_maximum_beside_the_mean(films):
    encoding = to_numpy(build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=PIXELS)(films, training=False))
    sequence = encoding["sequence"]
    assert np.allclose(encoding["vector"], np.concatenate([sequence.max(1), sequence.mean(1)], axis=-1), atol=1e-6)


@pytest.mark.parametrize(
    ("scaling", "black", "white"),
    [
        ("unit", [0.0], [1.0]),
        ("symmetric", [-1.0], [1.0]),
        ("imagenet", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]),
    ],
)
def test_scaling_of_black_and_white(scaling, black, white):
    channels = len(black)
    inputs = keras.Input((1, 1, channels))
    model = keras.Model(inputs, SCALINGS[scaling](inputs))
    levels = np.stack([np.zeros((1, 1, channels)), np.full((1, 1, channels), 255.0)]).astype("float32")
    assert np.allclose(to_numpy(model(levels)).reshape(2, channels), [black, white], atol=1e-5)
