"""Views of a film for test-time averaging: itself, and the same film moved and zoomed a little.

Each view is a resampling with constant weights, so it is linear in the film: an absent film, all zeros, stays all
zeros, black stays black, and gradients flow through it. Shifts and zooms act on rows and on columns apart, so that a
view is two products of matrices, which every backend computes and differentiates exactly. A rotation does not, and
would need a gather, whose gradient depends on the order of sums on a GPU; so there is none. Films are not mirrored,
because the heart would change sides.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

# Of each view its zoom, and its shifts to the right and down as fractions of the side, well within the ranges of
# `kmm.image.augment.Augmentation`. Each pair of views cancels.
VIEWS = (
    (1.0, 0.0, 0.0),
    *((1.04, 0.03, 0.03), (0.96, -0.03, -0.03), (0.96, 0.03, -0.03), (1.04, -0.03, 0.03)),
    *((0.96, 0.03, 0.0), (1.04, -0.03, 0.0), (1.04, 0.0, 0.03), (0.96, 0.0, -0.03)),
)


@keras.saving.register_keras_serializable(package="kmm")
class FilmViews(layers.Layer):
    """Repeats each film as so many views, side by side in the batch. The first one is the film itself.

    Args:
        views: int from 2 to 9: the first so many of `VIEWS`.

    Example:
        >>> films = np.arange(32, dtype="float32").reshape(2, 4, 4, 1)
        >>> seen = ops.convert_to_numpy(FilmViews(3)(films))
        >>> seen.shape, bool((seen[[0, 3]] == films).all())
        ((6, 4, 4, 1), True)
    """

    def __init__(self, views: int, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.views = views

    def call(self, film: Any) -> Any:
        """Takes films `(n, h, w, 1)`; returns `(n * views, h, w, 1)`, the views of a film one after the other."""
        height, width = film.shape[1:3]
        films = ops.transpose(film, (0, 3, 1, 2))  # (n, 1, h, w)
        rows = resample([(zoom, down) for zoom, _, down in VIEWS[1 : self.views]], height)
        columns = resample([(zoom, right) for zoom, right, _ in VIEWS[1 : self.views]], width)
        moved = ops.matmul(ops.matmul(rows, films), ops.transpose(columns, (0, 2, 1)))
        return ops.reshape(ops.concatenate([films, moved], axis=1), (-1, height, width, 1))

    def compute_output_shape(self, film_shape: tuple) -> tuple:
        count = film_shape[0] and film_shape[0] * self.views
        return count, *film_shape[1:]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": self.views}


@keras.saving.register_keras_serializable(package="kmm")
class MeanOfViews(layers.Layer):
    """Takes the mean over the views of each film.

    Args:
        views: int, as for `FilmViews`.

    Example:
        >>> ops.convert_to_numpy(MeanOfViews(2)(np.float32([[1], [3], [5], [6]]))).tolist()
        [[2.0], [5.5]]
    """

    def __init__(self, views: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.views = views

    def call(self, vectors: Any) -> Any:
        """Takes `(n * views, d)`; returns `(n, d)`."""
        return ops.mean(ops.reshape(vectors, (-1, self.views, vectors.shape[-1])), axis=1)

    def compute_output_shape(self, shape: tuple) -> tuple:
        return shape[0] and shape[0] // self.views, *shape[1:]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": self.views}


@keras.saving.register_keras_serializable(package="kmm")
class MeanOfPlaces(layers.Layer):
    """Takes the mean over the views of the places of a feature map, each brought back to where it is in the film.

    Args:
        views: int, as for `FilmViews`.
        rows: int. Rows of the feature map; its places go row by row.

    Example:
        >>> places = np.ones((6, 4, 5), "float32")
        >>> ops.convert_to_numpy(MeanOfPlaces(3, rows=2)(places)).shape
        (2, 4, 5)
    """

    def __init__(self, views: int, rows: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.views, self.rows = views, rows

    def call(self, places: Any) -> Any:
        """Takes `(n * views, m, k)`; returns `(n, m, k)`."""
        count, channels = places.shape[1:]
        maps = ops.reshape(places, (-1, self.rows, count // self.rows, channels))
        aligned = align_maps(unfold_views(maps, self.views), self.views)
        mean = ops.mean(ops.reshape(aligned, (-1, count, self.views, channels)), axis=2)
        return ops.cast(mean, places.dtype)

    def compute_output_shape(self, shape: tuple) -> tuple:
        return shape[0] and shape[0] // self.views, *shape[1:]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": self.views, "rows": self.rows}


def resample(moves: list[tuple[float, float]], side: int, *, inverse: bool = False) -> Any:
    """Makes matrices that move and zoom a line of pixels about its centre, by linear interpolation.

    Args:
        moves: list of pairs: the zoom, and the shift as a fraction of the side.
        side: int. Pixels, or cells, of the line; cell `i` of `r` covers the share `i / r` to `(i + 1) / r` of it.
        inverse: bool. Undo the moves. Beyond its ends a line goes on with its last value then; else with 0.

    Returns:
        float32 tensor `(moves, side, side)`, from the line to the moved line.

    Example:
        >>> ops.convert_to_numpy(resample([(1.0, 0.25)], 4))[0].tolist()[:2]  # each pixel to the right by one
        [[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    """
    zooms, shifts = np.array(moves, np.float64).T[:, :, None]
    center = (side - 1) / 2
    places = np.arange(side) - center
    if inverse:
        source = np.clip(zooms * places + shifts * side + center, 0, side - 1)
    else:
        source = (places - shifts * side) / zooms + center
    # The matrices are computed in the graph, which keeps only their sources: a saved model stays small.
    sources = ops.convert_to_tensor(source[:, :, None].astype(np.float32))
    distance = ops.subtract(sources, np.arange(side, dtype=np.float32))
    return ops.relu(1.0 - ops.abs(distance))


def unfold_views(values: Any, views: int) -> Any:
    """Moves the views of a film from the batch into its channels.

    Args:
        values: tensor `(n * views, ..., k)`.
        views: int, as for `FilmViews`.

    Returns:
        tensor `(n, ..., views * k)`: the channels of the first view, of the second, and so on.

    Example:
        >>> ops.convert_to_numpy(unfold_views(np.float32([[[1]], [[2]], [[3]], [[4]]]), 2)).tolist()
        [[[1.0, 2.0]], [[3.0, 4.0]]]
    """
    inner, channels = values.shape[1:-1], values.shape[-1]
    apart = ops.reshape(values, (-1, views, *inner, channels))
    last = len(inner) + 2
    return ops.reshape(ops.transpose(apart, (0, *range(2, last), 1, last)), (-1, *inner, views * channels))


def fold_views(values: Any, views: int) -> Any:
    """Moves the views of a film from its channels into the batch: the inverse of `unfold_views`.

    Args:
        values: tensor `(n, ..., views * k)`.
        views: int, as for `FilmViews`.

    Returns:
        tensor `(n * views, ..., k)`.
    """
    inner, channels = values.shape[1:-1], values.shape[-1] // views
    apart = ops.reshape(values, (-1, *inner, views, channels))
    last = len(inner) + 2
    return ops.reshape(ops.transpose(apart, (0, last - 1, *range(1, last - 1), last)), (-1, *inner, channels))


def align_maps(maps: Any, views: int) -> Any:
    """Brings maps of the views of a film back to where they are in the film.

    Args:
        maps: float tensor `(n, rows, columns, views * k)`, as from `unfold_views`.
        views: int, as for `FilmViews`.

    Returns:
        float32 tensor of the same shape. It is linear in the maps, and the first view is as it was.

    Example:
        >>> maps = np.ones((1, 2, 2, 6), "float32")
        >>> bool(np.allclose(align_maps(maps, 3), maps))
        True
    """
    _, rows, columns, channels = maps.shape
    down, right = (
        resample([(view[0], view[axis]) for view in VIEWS[:views]], side, inverse=True)
        for axis, side in ((2, rows), (1, columns))
    )
    apart = ops.reshape(ops.cast(maps, "float32"), (-1, rows, columns, views, channels // views))
    moved = ops.einsum("vjs,nisvk->nijvk", right, ops.einsum("vir,nrsvk->nisvk", down, apart))
    return ops.reshape(moved, (-1, rows, columns, channels))
