"""What an input is compared with: the film and the words of no finding at all. One table entry each."""

import cv2
import numpy as np

from kmm.errors import InputError

GREY = 127.5
BLUR = 0.1  # standard deviation of the blur, as a share of the side


def _black(image, mean_image):
    return np.zeros_like(image)


def _grey(image, mean_image):
    return np.full_like(image, GREY)


def _mean(image, mean_image):
    if mean_image is None:
        raise InputError("The baseline `mean` needs the mean of the training films. This classifier was saved without.")
    return np.asarray(mean_image, np.float32)


def _blur(image, mean_image):
    return cv2.GaussianBlur(image, (0, 0), BLUR * image.shape[0]).reshape(image.shape)


IMAGE_BASELINES = {"black": _black, "mean": _mean, "blur": _blur, "grey": _grey}


def _padding(rows, padding_row):
    return np.broadcast_to(padding_row, rows.shape)


def _zero(rows, padding_row):
    return np.zeros_like(rows)


TEXT_BASELINES = {"padding": _padding, "zero": _zero}


def image_baseline(name, image, mean_image=None):
    """The film that a film is compared with.

    Args:
        name: key of `IMAGE_BASELINES`: black; mean of the training films; the film itself, blurred; uniform grey.
        image: float32 array `(h, w, 1)`, 0..255.
        mean_image: float32 array of the same shape, or None.

    Returns:
        float32 array `(h, w, 1)`.

    Raises:
        InputError: for an unknown name, or when the classifier has no mean of its training films.

    Example:
        >>> float(image_baseline("grey", np.zeros((2, 2, 1), np.float32)).max())
        127.5
    """
    return _look_up(IMAGE_BASELINES, name, "image")(image, mean_image).astype(np.float32)


def text_baseline(name, rows, padding_row):
    """The rows that the rows of words are compared with.

    Args:
        name: key of `TEXT_BASELINES`: the row of padding everywhere, or zeros.
        rows: float32 array `(t, d)`.
        padding_row: float32 array `(d,)`.

    Returns:
        float32 array `(t, d)`.
    """
    return np.array(_look_up(TEXT_BASELINES, name, "text")(rows, padding_row), np.float32)


def check_baselines(image_names, text_name, mean_image=None):
    """Raises `InputError` where a baseline is unknown or cannot be made."""
    row = np.zeros((1, 1), np.float32)
    for name in image_names:
        image_baseline(name, row[None], mean_image)
    text_baseline(text_name, row, row[0])


def _look_up(table, name, noun):
    if name not in table:
        raise InputError(f"Unknown {noun} baseline {name!r}. Known: {', '.join(table)}.")
    return table[name]
