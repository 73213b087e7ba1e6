"""Resize any film to the square that an encoder reads, and map pixel coordinates in both directions.

Resizing is `tf.image.resize(antialias=True)`, so that an exported graph can repeat it: two matrix products with
triangle weights (half-pixel centres, support at least one input pixel). The matrices are public, because their
transposes map attributions back to the film.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from kmm.errors import InputError

FITS = ("letterbox", "stretch")
ROUNDINGS = ("uint8", "none")
BAND = 32  # rows of the resized image that are made at a time
# Raise this number whenever the same file and settings give another prepared film: caches then prepare films again.
PREPARATION_VERSION = 1


@lru_cache(maxsize=256)
def resize_weights(n_in: int, n_out: int) -> sparse.csr_array:
    """Returns the matrix that resizes one axis: `resize_weights(h, new_h) @ image @ resize_weights(w, new_w).T`.

    Output pixel i is a weighted mean of the input pixels around `(i + 0.5) * n_in / n_out - 0.5`, with weights that
    fall linearly to 0 at a distance of one output pixel (one input pixel when enlarging).

    Args:
        n_in, n_out: int >= 1. Pixels along the axis before and after.

    Returns:
        float32 `scipy.sparse.csr_array` `(n_out, n_in)`; rows sum to 1. It is cached: do not modify it.

    Example:
        >>> resize_weights(4, 2).toarray().round(3)
        array([[0.429, 0.429, 0.143, 0.   ],
               [0.   , 0.143, 0.429, 0.429]], dtype=float32)
    """
    # In float32 and in the order of TensorFlow's operation ScaleAndTranslate, so that both give the same bits.
    one, half = np.float32(1), np.float32(0.5)
    scale = one / (np.float32(n_out) / np.float32(n_in))
    support = max(scale, one)
    centers = (np.arange(n_out, dtype=np.float32) + half) * scale
    columns = np.ceil(centers - support - half)[:, None].astype(np.int64) + np.arange(int(2 * support) + 2)
    distances = columns.astype(np.float32) + half - centers[:, None]
    weights = np.maximum(0, one - np.abs(distances * (one / support)))
    weights[(columns < 0) | (columns >= n_in)] = 0
    total = np.zeros(n_out, np.float32)
    for tap in weights.T:  # one after the other, not in pairs as NumPy would add them
        total += tap
    weights *= (one / total)[:, None]
    rows, taps = np.nonzero(weights)
    return sparse.csr_array(
        (weights[rows, taps].astype(np.float32), (rows, columns[rows, taps])), shape=(n_out, n_in), dtype=np.float32
    )


@lru_cache(maxsize=256)
def _cut_bands(n_in, n_out):
    """Cuts the matrix that resizes one axis into bands of rows, each with the input pixels that it reads.

    Returns:
        list of `(rows of the output, rows of the input, matrix)`.
    """
    weights, bands = resize_weights(n_in, n_out), []
    for start in range(0, n_out, BAND):
        band = weights[start : start + BAND]
        first, last = band.indices.min(), band.indices.max()
        bands.append((slice(start, start + BAND), slice(first, last + 1), band[:, first : last + 1]))
    return bands


def resize_image(image: ArrayLike, height: int, width: int, *, rounded: bool = False) -> np.ndarray:
    """Resizes an image with triangle weights: equal to `tf.image.resize(antialias=True)` bit by bit.

    Args:
        image: float array `(h, w)`.
        height, width: int >= 1. The new size.
        rounded: bool. Rounds the image to whole numbers first, half to even.

    Returns:
        float32 array `(height, width)`.

    Example:
        >>> resize_image(np.full((5, 7), 8.0), 2, 3).round(3)
        array([[8., 8., 8.],
               [8., 8., 8.]], dtype=float32)
    """
    pixels = np.ascontiguousarray(image, np.float32)
    narrow = np.empty((height, pixels.shape[1]), np.float32)
    for made, read, weights in _cut_bands(pixels.shape[0], height):
        # A rounded copy of the whole film would cost page faults for tens of megabytes, more than the rounding.
        narrow[made] = weights @ (np.rint(pixels[read]) if rounded else pixels[read])
    return (resize_weights(pixels.shape[1], width) @ narrow.T).T


@dataclass(frozen=True)
class PixelMapping:
    """The mapping between pixels of the film and pixels of the prepared square.

    Coordinates are `(x, y)` with pixel centres at integers: pixel i covers i - 0.5 .. i + 0.5.

    Attributes:
        scale: `(sx, sy)`. Prepared pixels per pixel of the film.
        offset: `(left, top)`. Columns and rows of padding before the film.

    Example:
        >>> mapping = ImagePreparation(pixels=100).mapping((200, 400))
        >>> mapping
        PixelMapping(scale=(0.25, 0.25), offset=(0, 25))
        >>> mapping.to_prepared([[-0.5, -0.5], [399.5, 199.5]])
        array([[-0.5, 24.5],
               [99.5, 74.5]])
        >>> mapping.to_original([[99.5, 74.5]])
        array([[399.5, 199.5]])
    """

    scale: tuple[float, float]
    offset: tuple[int, int]

    def to_prepared(self, xy: ArrayLike) -> np.ndarray:
        """Maps `(n, 2)` coordinates of the film to the prepared square; float64 `(n, 2)`, not rounded, not clipped."""
        return (np.asarray(xy, np.float64) + 0.5) * self.scale + self.offset - 0.5

    def to_original(self, xy: ArrayLike) -> np.ndarray:
        """Maps `(n, 2)` coordinates of the prepared square to the film; float64 `(n, 2)`, not rounded, not clipped."""
        return (np.asarray(xy, np.float64) + 0.5 - self.offset) / self.scale - 0.5


class PreparedFilm(NamedTuple):
    """A film that was prepared, and its size before.

    Attributes:
        pixels: float32 `(height, width, 1)`, as `ImagePreparation.apply` returns it.
        size: `(height, width)` of the film in its file.
    """

    pixels: np.ndarray
    size: tuple[int, ...]


@dataclass(frozen=True)
class ImagePreparation:
    """Settings that turn a film into the square that an encoder reads.

    Attributes:
        pixels: int >= 16. Side of the square.
        fit: `"letterbox"` keeps the proportions and pads with 0 on both sides; `"stretch"` fills the square.
        rounding: `"uint8"` rounds gray levels to whole numbers, half to even: those of the film before it is resized,
            so that every reader of the file has the same, and those of the square, so that it fits in 8 bits.
            `"none"` does not round, as in classifiers saved before this setting existed.

    Raises:
        InputError: if a setting is out of range.

    Example:
        >>> ImagePreparation(pixels=64).apply(np.full((100, 50), 255.0)).shape
        (64, 64, 1)
        >>> ImagePreparation.from_dict({"pixels": 64, "fit": "stretch"}).as_dict()
        {'pixels': 64, 'fit': 'stretch', 'rounding': 'none'}
    """

    pixels: int = 224
    fit: str = "letterbox"
    rounding: str = "uint8"

    def __post_init__(self) -> None:
        for name, known in (("fit", FITS), ("rounding", ROUNDINGS)):
            if getattr(self, name) not in known:
                raise InputError(f"`{name}` must be one of {', '.join(known)}. Received: {getattr(self, name)!r}.")
        if isinstance(self.pixels, bool) or not isinstance(self.pixels, int) or self.pixels < 16:
            raise InputError(f"`pixels` must be a whole number of at least 16. Received: {self.pixels!r}.")

    @property
    def dtype(self) -> type[np.generic]:
        """The smallest type of numbers that holds a prepared film exactly: uint8 or float32."""
        return np.uint8 if self.rounding == "uint8" else np.float32

    @property
    def nbytes(self) -> int:
        """The size of a prepared film of this type, in bytes."""
        return self.pixels**2 * np.dtype(self.dtype).itemsize

    def find_box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Returns the position of the film in the square.

        The longer side fills the square; a shorter side of n pixels becomes `(2 n pixels + longest) // (2 longest)`,
        in integers, so that a graph computes the same.

        Args:
            size: `(height, width)` of the film.

        Returns:
            `(top, left, height, width)` in pixels of the square.

        Example:
            >>> ImagePreparation(pixels=100).find_box((200, 400))
            (25, 0, 50, 100)
        """
        if self.fit == "stretch":
            return 0, 0, self.pixels, self.pixels
        longest = max(size)
        height, width = (max(1, (2 * side * self.pixels + longest) // (2 * longest)) for side in size)
        return (self.pixels - height) // 2, (self.pixels - width) // 2, height, width

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Resizes and pads one film.

        Args:
            image: float array `(h, w)`, 0..255.

        Returns:
            float32 array `(pixels, pixels, 1)`, 0..255, whole numbers with rounding `"uint8"`; padding is 0.

        Raises:
            InputError: if `image` is not 2-D or has no pixels.
        """
        if np.ndim(image) != 2 or np.size(image) == 0:
            raise InputError(f"`image` must be (height, width). Received: shape {np.shape(image)}.")
        top, left, height, width = self.find_box(image.shape)
        prepared = np.zeros((self.pixels, self.pixels, 1), np.float32)
        whole = self.rounding == "uint8"
        film = resize_image(image, height, width, rounded=whole)
        np.clip(film, 0, 255, out=prepared[top : top + height, left : left + width, 0])
        return np.rint(prepared, out=prepared) if whole else prepared

    def mapping(self, size: tuple[int, int]) -> PixelMapping:
        """Returns the `PixelMapping` for a film of `size` `(height, width)`."""
        top, left, height, width = self.find_box(size)
        return PixelMapping(scale=(width / size[1], height / size[0]), offset=(left, top))

    def as_dict(self) -> dict[str, Any]:
        """Returns the settings as a dict for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImagePreparation":
        """Makes a preparation from the result of `as_dict`, which lacks `rounding` if it was saved before that setting
        existed; raises `InputError` for an unknown setting."""
        unknown = set(values) - {"pixels", "fit", "rounding"}
        if unknown:
            raise InputError(
                f"An image preparation has `pixels`, `fit` and `rounding`. Received: {', '.join(sorted(unknown))}."
            )
        return cls(**{"rounding": "none", **values})
