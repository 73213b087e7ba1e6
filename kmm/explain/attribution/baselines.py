"""Baselines that an input is compared with, stand-ins for a film and words without any finding. One table entry each.

A baseline replaces only the film. The letterbox bars are not part of the film: there a baseline equals its input, so
methods that compare the two attribute nothing to them.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from kmm.errors import InputError, look_up

GREY = 127.5
BLUR = 0.1  # standard deviation of the blur, as a share of the film's longer side


def _black(image, mean_image):
    return np.zeros_like(image)


def _grey(image, mean_image):
    return np.full_like(image, GREY)


def _mean(image, mean_image):
    if mean_image is None:
        raise InputError(
            "The baseline `mean` needs the mean of the training films, which this classifier does not hold. Choose "
            "another baseline."
        )
    return np.asarray(mean_image, np.float32)


def _blur(image, mean_image):
    return cv2.GaussianBlur(image, (0, 0), BLUR * max(image.shape)).reshape(image.shape)


IMAGE_BASELINES = {"black": _black, "mean": _mean, "blur": _blur, "grey": _grey}


def _padding(rows, padding_row):
    return np.broadcast_to(padding_row, rows.shape)


def _zero(rows, padding_row):
    return np.zeros_like(rows)


TEXT_BASELINES = {"padding": _padding, "zero": _zero}


def image_baseline(
    name: str,
    image: np.ndarray,
    mean_image: np.ndarray | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Makes the baseline of a film.

    Args:
        name: key of `IMAGE_BASELINES`: black; mean of the training films; the film itself, blurred; uniform grey.
        image: float32 array `(h, w, 1)`, 0..255.
        mean_image: float32 array of the same shape, or None.
        box: `(top, left, height, width)` of the film in `image`; None if it fills `image`.

    Returns:
        float32 array `(h, w, 1)`, equal to `image` outside the box.

    Raises:
        InputError: if the name is unknown, or the baseline is `mean` and the classifier has no mean training film.

    Example:
        >>> image_baseline("grey", np.zeros((2, 3, 1), np.float32), box=(0, 1, 2, 1))[..., 0].tolist()
        [[0.0, 127.5, 0.0], [0.0, 127.5, 0.0]]
    """
    area = film_area(image.shape, box)
    make, mean = look_up(IMAGE_BASELINES, name, "image baseline"), None if mean_image is None else mean_image[area]
    baseline = np.array(image, np.float32)
    baseline[area] = make(np.ascontiguousarray(image[area]), mean)
    return baseline


def film_area(shape: Sequence[int], box: tuple[int, int, int, int] | None = None) -> tuple[slice, slice]:
    """Returns the rows and columns of a film within a prepared square.

    Args:
        shape: shape of the square, height and width first.
        box: `(top, left, height, width)` of the film; None: the whole square.

    Returns:
        tuple of two slices.

    Example:
        >>> film_area((8, 8, 1), (2, 0, 4, 8))
        (slice(2, 6, None), slice(0, 8, None))
    """
    top, left, height, width = box or (0, 0, *shape[:2])
    return slice(top, top + height), slice(left, left + width)


def text_baseline(name: str, rows: np.ndarray, padding_row: np.ndarray | None) -> np.ndarray:
    """Makes the baseline of the embedding rows of a report.

    Args:
        name: key of `TEXT_BASELINES`: the padding row everywhere, or zeros.
        rows: float32 array `(t, d)`.
        padding_row: float32 array `(d,)`.

    Returns:
        float32 array `(t, d)`.
    """
    return np.array(look_up(TEXT_BASELINES, name, "text baseline")(rows, padding_row), np.float32)


def check_baselines(image_names: Sequence[str], text_name: str, mean_image: np.ndarray | None = None) -> None:
    """Raises `InputError` if a baseline is unknown or cannot be made."""
    row = np.zeros((1, 1), np.float32)
    for name in image_names:
        image_baseline(name, row[None], mean_image)
    text_baseline(text_name, row, row[0])
