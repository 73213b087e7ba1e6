"""Features of a region of a film: those of the places of the feature map whose centres lie inside a circle."""

from collections.abc import Callable

import keras
import numpy as np

from kmm.errors import InputError
from kmm.image.prepare import PixelMapping
from kmm.models.joined.joined_encoder import list_members
from kmm.models.views.feature_view import view_encoder
from kmm.models.views.parts import image_encoder_of, parts_read
from kmm.models.views.shared_encoders import predict_batch

Pool = Callable[[np.ndarray], np.ndarray]


def _max_and_mean(places):
    return np.concatenate([places.max(axis=0), places.mean(axis=0)])


# Ways in which an image encoder may make its vector of its places `(m, d)`.
POOLS: tuple[Pool, ...] = (lambda places: places.mean(axis=0), _max_and_mean)


def encode_region(
    model: keras.Model, image: np.ndarray, mapping: PixelMapping, circle: tuple[float, float, float]
) -> np.ndarray:
    """Computes the vector of an image encoder from the places inside a circle alone.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model`.
        image: float32 `(1, h, w, 1)`, the prepared film.
        mapping: `PixelMapping` of the film.
        circle: `(x, y, radius)` in pixels of the film.

    Returns:
        float32 `(1, d)`. If no centre of a place is inside, it is that of the nearest one.

    Raises:
        InputError: if the vector of the encoder is not pooled from the places of its last feature map alone, or the
            model reads more of the film than this vector.
    """
    if parts_read(model, "image") != ("vector",):
        raise InputError("A region cannot be compared: this fusion reads every place of the film. Use another layer.")
    encoder = image_encoder_of(model)
    found = predict_batch(view_encoder(model, "image", ("vector", "sequence")), {"image": image})
    vector, places = np.asarray(found["vector"], np.float32)[0], np.asarray(found["sequence"], np.float32)[0]
    pool = choose_pool(places, vector)
    centres = mapping.to_original(find_centres(encoder, len(places), image.shape[1:3]))
    x, y, radius = circle
    distances = np.hypot(centres[:, 0] - x, centres[:, 1] - y)
    inside = distances <= max(radius, distances.min())
    return pool(places[inside])[None].astype(np.float32)


def choose_pool(places: np.ndarray, vector: np.ndarray) -> Pool:
    """Finds how an encoder makes its vector of its places.

    Args:
        places: float `(m, d)`.
        vector: float `(k,)`.

    Returns:
        function from `(any number, d)` to `(k,)`.

    Raises:
        InputError: if it is neither their mean nor their maximum and mean.

    Example:
        >>> places = np.array([[1.0, 4.0], [3.0, 0.0]])
        >>> choose_pool(places, np.array([2.0, 2.0]))(places[:1]).tolist()
        [1.0, 4.0]
    """
    for pool in POOLS:
        found = pool(places)
        if found.shape == vector.shape and np.allclose(found, vector, rtol=1e-2, atol=1e-3 * np.abs(vector).max()):
            return pool
    raise InputError(
        "A region needs an image encoder whose vector is the mean, or the maximum and mean, of its last feature map. "
        "This one also reads other depths, a grid, several views or members, or a token of its own."
    )


def find_centres(encoder: keras.Model, count: int, size: tuple[int, int]) -> np.ndarray:
    """Finds the centres of the places of an image encoder.

    Args:
        encoder: `keras.Model` of images.
        count: int. Its number of places.
        size: `(height, width)` of the prepared film.

    Returns:
        float `(count, 2)`: x and y in pixels of the prepared film, place by place, row by row.

    Raises:
        InputError: if the places do not form a map.
    """
    layers = {layer.name: layer for layer in list_members(encoder)[0].layers}
    rows, columns = layers["places"].input.shape[1:3] if "places" in layers else 2 * (round(count**0.5),)
    if rows * columns != count:
        raise InputError("A region needs an image encoder with a feature map. The places of this one form none.")
    row, column = np.divmod(np.arange(count), columns)
    return np.stack([(column + 0.5) * size[1] / columns - 0.5, (row + 0.5) * size[0] / rows - 0.5], axis=1)
