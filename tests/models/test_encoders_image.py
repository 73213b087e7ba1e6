import keras
import numpy as np
import pytest

from kmm.models.encoders_image import IMAGE_ENCODERS, SCALINGS, build_image_encoder, list_starts
from tests.checks import check_image_encoder
from tests.model_checks import to_numpy

PIXELS = 72  # keras.applications.Xception takes no less than 71
LEAST_PIXELS = {"xception": 71, "swin-base": 224, "swin-tiny": 224}
LEAST_PIXELS |= {name: 42 for name in IMAGE_ENCODERS if IMAGE_ENCODERS[name].multiple == 14}
APPLICATIONS = {
    "densenet121": (keras.applications.DenseNet121, keras.applications.densenet.preprocess_input),
    "xception": (keras.applications.Xception, keras.applications.xception.preprocess_input),
}


# Networks whose families have tiny members, which `tests/models/networks` checks in full
SMALLEST = ("densenet121", "densenet121-xrv", "dinov2-small", "resnet18", "resnet50", "vit-small")
CLIP = tuple(name for name in IMAGE_ENCODERS if name.startswith("clip-"))
HUGE = (*CLIP, "dinov2-base", "dinov2-large", "siglip-base", "siglip-so400m", "swin-base", "swin-tiny", "vit-base")
OTHERS = sorted(set(IMAGE_ENCODERS) - {*SMALLEST, *HUGE})


@pytest.mark.large
@pytest.mark.parametrize("name", OTHERS)
def test_every_entry(name, tmp_path):
    check_image_encoder(name, tmp_path, pixels=LEAST_PIXELS.get(name, 32))


@pytest.mark.large
@pytest.mark.parametrize("name", SMALLEST)
def test_the_structure_of_entries_with_a_tiny_member(name, tmp_path):
    check_image_encoder(name, tmp_path, pixels=LEAST_PIXELS.get(name, 32), structure_only=True)


@pytest.mark.large
@pytest.mark.parametrize("name", [name for name in HUGE if name != "siglip-so400m"])  # 412 million parameters
def test_the_largest_have_the_layers_that_their_entries_name(name):
    entry = IMAGE_ENCODERS[name]
    encoder = build_image_encoder(entry, pixels=LEAST_PIXELS.get(name, 32))
    assert encoder.output["vector"].shape[-1] == entry.network.size
    assert list_starts(entry, encoder)[0] == entry.top
    keras.utils.clear_session()


@pytest.fixture(scope="module")
def films():
    return np.random.default_rng(0).uniform(0, 255, (2, PIXELS, PIXELS, 1)).astype("float32")


@pytest.mark.large
@pytest.mark.parametrize("name", APPLICATIONS)
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
        ("xrv", [-1024.0], [1024.0]),
        ("imagenet", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]),
    ],
)
def test_scaling_of_black_and_white(scaling, black, white):
    channels = len(black)
    inputs = keras.Input((1, 1, channels))
    model = keras.Model(inputs, SCALINGS[scaling](inputs))
    levels = np.stack([np.zeros((1, 1, channels)), np.full((1, 1, channels), 255.0)]).astype("float32")
    assert np.allclose(to_numpy(model(levels)).reshape(2, channels), [black, white], atol=1e-5)
