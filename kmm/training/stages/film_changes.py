"""Augmentation of films on the device of the model: a layer in front of it changes the pixels as drawn numbers say.

`Augmentation.list_changes` draws a few numbers per film, from the seed and the epoch, and the films travel as they are
stored. The law is that of `Augmentation.apply`, in operations of Keras, for TensorFlow, JAX and PyTorch.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kmm.image.augment import CHANGE_COUNT, EXPOSURE, MIXTURE, NORMAL, PLACE, SEED
from kmm.keras_backend import has_accelerator
from kmm.training.cache.stored_arrays import StoredArrays
from kmm.training.stages.recipe import FEATURES, Stage

IMAGE, CHANGES = "image", "film_changes"  # columns of a batch
CPU, ACCELERATOR = "cpu", "accelerator"


def choose_device(stage: Stage) -> str | None:
    """Chooses what augments the films of a stage: `"cpu"`, in the feed, or `"accelerator"`, with the model.

    Args:
        stage: `Stage`. Its device `"auto"` is the accelerator if Keras has one.

    Returns:
        str; None if the stage augments no films.

    Example:
        >>> choose_device(Stage("text", 3, 1e-3, side="text")) is None
        True
    """
    if stage.augmentation is None or "image" not in stage.sides or stage.image == FEATURES:
        return None
    if stage.augmentation_device != "auto":
        return stage.augmentation_device
    return ACCELERATOR if has_accelerator() else CPU


def describe_device(stages: Iterable[Stage]) -> dict[str, str]:
    """Returns the record of what augments the films of a run: `augmentation_device`, unless no stage augments films."""
    found = [device for stage in stages if stage.epochs and (device := choose_device(stage))]
    return {"augmentation_device": found[0]} if found else {}


def change_on_device(model: keras.Model, columns: Mapping[str, Any]) -> tuple[keras.Model, dict[str, Any]]:
    """Puts `FilmChanges` in front of a model. Both share their weights, and have the same variables in the same order.

    Args:
        model: `keras.Model` with an input `image`.
        columns: mapping of the names of its inputs to columns of all studies.

    Returns:
        `keras.Model` that reads the changes too, and its columns: the films in the type in which they are stored, and a
        column of zeros for the changes, which `kmm.training.stages.dataset.StudyDataset` draws in training.
    """
    films = columns[IMAGE].as_stored() if isinstance(columns[IMAGE], StoredArrays) else columns[IMAGE]
    inputs = {
        tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in model.inputs
    }
    read = dict(inputs)
    inputs[IMAGE] = keras.Input(films.shape[1:], dtype=films.dtype.name, name=IMAGE)
    inputs[CHANGES] = keras.Input((CHANGE_COUNT,), dtype="float32", name=CHANGES)
    read[IMAGE] = FilmChanges(name="changed_films")(inputs[IMAGE], inputs[CHANGES])
    unchanged = np.zeros((len(films), CHANGE_COUNT), np.float32)
    return keras.Model(inputs, model(read)), {**columns, IMAGE: films, CHANGES: unchanged}


class FilmChanges(keras.layers.Layer):
    """Changes films in training, each by its own numbers; otherwise passes them on. It has no weights.

    A film is resampled bilinearly at the places that the numbers say, black beyond its border; then its gray levels
    change, noise is added, and pixels that were black become black again; last it is mixed with another changed film.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})  # half precision would move films by whole pixels

    def call(self, films: Any, changes: Any, training: bool | None = None) -> Any:
        """Takes `films (n, height, width, 1)` of any type and `changes (n, CHANGE_COUNT)` as
        `kmm.image.augment.Augmentation.list_changes` returns; returns float32 `(n, height, width, 1)` in 0..255."""
        films = ops.cast(films, "float32")
        if not training:
            return films
        moved = resample(films[..., 0], changes[:, PLACE])
        power, gain, deviation, lift = (
            changes[:, number, None, None] for number in range(EXPOSURE.start, EXPOSURE.stop)
        )
        changed = gain * ops.power(moved, power) + deviation * draw_noise(ops.shape(moved), changes[0, SEED]) + lift
        changed = ops.where(moved > 0, ops.clip(changed, 0.0, 255.0), 0.0)
        return mix(changed, changes[:, MIXTURE])[..., None]


def resample(films: Any, places: Any) -> Any:
    """Moves films: bilinear interpolation, with black beyond the border.

    Args:
        films: float32 `(n, height, width)`, at most 4,000 pixels high and wide.
        places: float32 `(n, 6)`. The pixel `(x, y)` of the result is read at `(a x + b y + c, d x + e y + f)`.

    Returns:
        float32 `(n, height, width)`.

    Example:
        >>> film = np.float32([[[0, 8], [4, 2]]])
        >>> ops.convert_to_numpy(resample(film, np.float32([[1, 0, 0.5, 0, 1, 0]]))).tolist()
        [[[4.0, 4.0], [3.0, 1.0]]]
    """
    films, places = ops.convert_to_tensor(films), ops.convert_to_tensor(places)
    height, width = films.shape[1:]
    a, b, c, d, e, f = (places[:, number, None, None] for number in range(6))
    x, y = ops.arange(width, dtype="float32"), ops.arange(height, dtype="float32")[:, None]
    across, down = ops.clip(a * x + b * y + c, -1, width), ops.clip(d * x + e * y + f, -1, height)
    left, top = ops.minimum(ops.floor(across), width - 1), ops.minimum(ops.floor(down), height - 1)
    right_share, lower_share = across - left, down - top
    row = width + 2  # of a film with a black border
    pixels = ops.reshape(ops.pad(films, ((0, 0), (1, 1), (1, 1))), (-1, (height + 2) * row))
    first = ops.reshape((top + 1) * row + left + 1, (-1, height * width))

    def read(further):
        # places are added as floats: TensorFlow adds int32 on the host
        found = ops.take_along_axis(pixels, ops.cast(first + further, "int32"), axis=1)
        return ops.reshape(found, (-1, height, width))

    upper = (1 - right_share) * read(0) + right_share * read(1)
    lower = (1 - right_share) * read(row) + right_share * read(row + 1)
    return (1 - lower_share) * upper + lower_share * lower


def draw_noise(shape: Any, seed: Any) -> Any:
    """Draws the noise of a batch: each of the 256 quantiles in `kmm.image.augment.NORMAL` is as probable.

    Args:
        shape: tuple of int.
        seed: tensor `(2,)` of whole numbers, at least 0. The same seed gives the same noise on the same backend.

    Returns:
        float32 tensor of the shape.
    """
    numbers = keras.random.randint(shape, 0, 256, seed=_GivenSeed(seed))
    found = ops.take_along_axis(ops.convert_to_tensor(NORMAL[None]), ops.reshape(numbers, (1, -1)), axis=1)
    return ops.reshape(found, shape)


class _GivenSeed(keras.random.SeedGenerator):
    """A seed that is a tensor, in place of a variable, which would be part of a checkpoint."""

    def __init__(self, seed: Any) -> None:
        self.seed = ops.cast(seed, "uint32" if keras.backend.backend() == "jax" else "int32")

    def next(self, ordered: bool = True) -> Any:
        """Returns the seed."""
        return self.seed


def mix(films: Any, mixture: Any) -> Any:
    """Mixes each film of `(n, height, width)` with another one; `mixture`, `(n, 2)`, has the row of the other film and
    the share of its own, as `kmm.training.stages.mixing.mix_studies` chooses them."""
    others, shares = ops.cast(mixture[:, 0], "int32"), mixture[:, 1, None, None]
    return shares * films + (1 - shares) * ops.take(films, others, axis=0)
