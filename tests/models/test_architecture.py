"""The digest of an architecture changes with what decides a network's numbers beside its weights, not with names."""

import keras
import pytest

from kmm.models.build import ModelSpec, build_model
from kmm.models.views.parts import image_encoder_of
from kmm.models.weights.checkpoints import architecture_digest


def build(units=2, *, activation="relu", mode="max", dtype=None, order=(0, 1)):
    """A network whose operations get other names each time; the first is spelled as a setting of another."""
    image = keras.Input((2, 2, 1))
    scaled = [keras.layers.Rescaling(0.5)(image), keras.layers.Rescaling(2.0)(image)]
    top = keras.ops.max(keras.ops.subtract(*(scaled[place] for place in order)), axis=(1, 2))
    pooled = {"max": keras.layers.GlobalMaxPooling2D, "mean": keras.layers.GlobalAveragePooling2D}[mode]()(scaled[0])
    x = keras.layers.Concatenate()([top, pooled])
    return keras.Model(image, keras.layers.Dense(units, activation=activation, dtype=dtype)(x))


OTHERS = {
    "units": {"units": 3},
    "activation": {"activation": "tanh"},
    "kind of layer": {"mode": "mean"},
    "precision": {"dtype": "mixed_bfloat16"},
    "connections": {"order": (1, 0)},
}


@pytest.mark.large
def test_the_same_network_has_the_same_digest_whatever_its_operations_are_called():
    one, other = build(), build()
    assert [operation.name for operation in one.operations] != [operation.name for operation in other.operations]
    assert architecture_digest(one) == architecture_digest(other)
    spec = ModelSpec("small-cnn", None, pixels=32)
    encoders = [image_encoder_of(build_model(spec, label_count=1, seed=seed)) for seed in (0, 1)]
    assert architecture_digest(encoders[0]) == architecture_digest(encoders[1])


@pytest.mark.parametrize("change", OTHERS)
def test_another_network_has_another_digest(change):
    assert architecture_digest(build(**OTHERS[change])) != architecture_digest(build())


def test_training_does_not_change_the_digest():
    network = build()
    before = architecture_digest(network)
    network.compile("sgd", "mse")
    network.trainable = False
    network.trainable = True
    assert architecture_digest(network) == before
