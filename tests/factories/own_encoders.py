"""Keras models of one's own as encoders, and installed packages that offer some."""

import keras
import numpy as np
from keras import layers, ops

MODULE = '''
import keras
from keras import layers


@keras.saving.register_keras_serializable(package="{name}")
class Gain(layers.Layer):
    """Multiplies by a trained number."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")

    def call(self, x):
        return x * self.gain


def build():
    film = keras.Input((32, 32, 1))
    x = Gain(name="gain")(film / 255)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="first")(x)
    x = layers.ReLU(name="first_relu")(x)
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="second")(x)
    return keras.Model(film, layers.ReLU(name="second_relu")(x))
'''


def write_package(folder, name="films", *, offers="own-cnn = films:build", group="kmm.image_encoders", module=MODULE):
    """Writes a package with entry points into a folder, as pip would install it there."""
    (folder / f"{name}.py").write_text(module.replace("{name}", name), encoding="utf-8")
    info = folder / f"{name}_project-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-project\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{offers}\n", encoding="utf-8")
    return folder


def build_colour_cnn(*, adapt=True):
    """From colour images of 32 pixels to a map: a normalisation adapted to data, a nested model, a shared layer."""
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 3))
    normalise = layers.Normalization(name="normalise")
    if adapt:
        data = np.random.default_rng(0).normal([90, 120, 60], [40, 30, 50], (6, 8, 8, 3))
        normalise.adapt(data.astype(np.float32))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(normalise(image))
    x = layers.ReLU(name="max_pool")(layers.BatchNormalization(name="bn")(x))  # a name that kmm uses too
    inner = keras.Sequential(
        [
            keras.Input((32, 32, 6)),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(6, 3, padding="same", name="conv"),
            layers.ReLU(name="relu"),
        ],
        name="inner",
    )
    x = inner(x)
    shared = layers.Conv2D(6, 3, padding="same", activation="relu", name="shared")
    x = layers.Add(name="add")([x, shared(shared(x))])
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="last_conv")(x)
    return keras.Model(image, ops.relu(x), name="colour_cnn")


def build_vector_cnn():
    """From gray levels of any size of film to a vector, with pooling and a dense layer of its own."""
    keras.utils.set_random_seed(4)
    image = keras.Input((None, None, 1))
    x = layers.Rescaling(1 / 255, name="scale")(image)
    for number, filters in enumerate((4, 6, 8), start=1):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", name=f"conv{number}")(x)
        x = layers.Activation("relu", name=f"relu{number}")(x)
    x = layers.GlobalMaxPooling2D(name="gone")(x)
    return keras.Model(image, layers.Dense(5, activation="tanh", name="code")(x), name="vector_cnn")


def build_word_model(*, sequence=False):
    """From rows of 12 words of 6 numbers to a vector, or to a sequence."""
    keras.utils.set_random_seed(5)
    rows, mask = keras.Input((12, 6), name="rows"), keras.Input((12,), name="padding_mask")
    x = layers.Multiply(name="multiply")([rows, layers.Reshape((12, 1), name="word")(mask)])
    x = layers.Conv1D(7, 3, padding="same", activation="relu", name="conv")(x)
    if sequence:
        return keras.Model([rows, mask], x, name="words")
    x = layers.Multiply(name="again")([x, layers.Reshape((12, 1), name="word_again")(mask)])
    return keras.Model([mask, rows], layers.Dense(4, name="code")(ops.max(x, axis=1)), name="word_vector")
