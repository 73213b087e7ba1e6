"""Localisation: compares circles and points with boxes around findings, and with points chosen by chance."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kmm.explain.fidelity.boxes import Box
from kmm.explain.regions.find import Region


def pointing_hit(point: tuple[float, float] | None, boxes: Iterable[Box]) -> bool:
    """Plays the pointing game: returns whether a point lies in any of the boxes.

    Source: https://arxiv.org/abs/1608.00507, here without its margin of 15 pixels around a box.

    Args:
        point: (x, y) in pixels of the film, pixel centres at integers, for example the centre of the strongest circle
            or `peak_of(heat, film_size)`; None (no circle was found) is a miss.
        boxes: list of `Box`; an empty list is a miss.

    Returns:
        bool.

    Example:
        >>> from kmm.explain.fidelity.boxes import Box
        >>> pointing_hit((4.0, 4.0), [Box("Mass", 4, 4, 2, 2)]), pointing_hit((6.0, 4.0), [Box("Mass", 4, 4, 2, 2)])
        (True, False)
    """
    if point is None:
        return False
    x, y = point
    return any(
        box.x - 0.5 <= x <= box.x + box.width - 0.5 and box.y - 0.5 <= y <= box.y + box.height - 0.5 for box in boxes
    )


def peak_of(heat: ArrayLike, film_size: Sequence[int]) -> tuple[float, float]:
    """Returns the strongest pixel of a map, the point of the original pointing game.

    Args:
        heat: float array `(h', w')`, the map on the film's area.
        film_size: (height, width) of the film in pixels.

    Returns:
        (x, y) in pixels of the film; the first one of equals.

    Example:
        >>> peak_of([[0.0, 0.0], [0.0, 1.0]], (20, 40))
        (29.5, 14.5)
    """
    heat = np.asarray(heat)
    row, column = np.unravel_index(np.argmax(heat), heat.shape)
    x, y = (
        float((at + 0.5) * size / count - 0.5)
        for at, size, count in zip((column, row), film_size[::-1], heat.shape[::-1])
    )
    return x, y


def point_by_chance(boxes: Sequence[Box], film_size: Sequence[int]) -> dict[str, float | bool]:
    """Returns the pointing game's results of two baselines that ignore the film: a random point, and its centre.

    Args:
        boxes: list of `Box`.
        film_size: (height, width) of the film in pixels.

    Returns:
        dict: `random_expected`, float in [0, 1]: the probability that a random point hits, which is exactly the share
        of the film that the boxes cover; `centre`, bool: whether the centre hits.

    Example:
        >>> from kmm.explain.fidelity.boxes import Box
        >>> point_by_chance([Box("Mass", 0, 0, 5, 10), Box("Mass", 0, 0, 10, 5)], (10, 20))["random_expected"]
        0.375
    """
    height, width = film_size
    return {
        "random_expected": _share_of_boxes(boxes, film_size),
        "centre": pointing_hit(((width - 1) / 2, (height - 1) / 2), boxes),
    }


def _share_of_boxes(boxes, film_size):
    """Returns the share of the film in the union of boxes: their edges cut it into cells, each all in or all out."""
    height, width = film_size
    left, top, right, bottom = np.array(
        [(0, 0, 0, 0), *((box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes)], float
    ).T
    xs = np.unique(np.clip([*left, *right, 0, width], 0, width))
    ys = np.unique(np.clip([*top, *bottom, 0, height], 0, height))
    inside = np.zeros((len(ys) - 1, len(xs) - 1), bool)
    for edges in zip(left, top, right, bottom):
        across = (edges[0] <= xs[:-1]) & (xs[1:] <= edges[2])
        down = (edges[1] <= ys[:-1]) & (ys[1:] <= edges[3])
        inside |= down[:, None] & across
    return float((np.outer(np.diff(ys), np.diff(xs)) * inside).sum() / (height * width))


def cover_circles(
    regions: Iterable[Region], film_size: Sequence[int], *, shape: Sequence[int] | None = None
) -> np.ndarray:
    """Marks the pixels in any of the circles; even the smallest circle covers the pixel at its centre.

    Args:
        regions: list of `Region`, in pixels of the film.
        film_size: (height, width) of the film in pixels.
        shape: (rows, columns) of a grid over the same film, for example a map's; None: the film's own pixels.

    Returns:
        bool array of that shape: whether the centre of each pixel is covered.

    Example:
        >>> from kmm.explain.regions.find import Region
        >>> cover_circles([Region(x=2, y=1, radius=1, weight=1)], (3, 4)).astype(int).tolist()
        [[0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 1, 0]]
    """
    ys, xs, half_diagonal = _pixel_centres(film_size, shape)
    covered = np.zeros((len(ys), len(xs)), bool)
    for region in regions:
        radius = max(region.radius, half_diagonal) + 1e-9
        rows = _between(ys, region.y - radius, region.y + radius)
        columns = _between(xs, region.x - radius, region.x + radius)
        apart = (ys[rows, None] - region.y) ** 2 + (xs[columns] - region.x) ** 2
        covered[rows, columns] |= apart <= radius**2
    return covered


def rasterize_boxes(
    boxes: Iterable[Box], film_size: Sequence[int], *, shape: Sequence[int] | None = None
) -> np.ndarray:
    """Marks the pixels in any of the boxes.

    Args: as `cover_circles`, with a list of `Box`.

    Returns:
        bool array: whether the centre of each pixel is covered.

    Example:
        >>> from kmm.explain.fidelity.boxes import Box
        >>> rasterize_boxes([Box("Mass", 1, 0, 2, 1)], (2, 4)).astype(int).tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    ys, xs, _ = _pixel_centres(film_size, shape)
    covered = np.zeros((len(ys), len(xs)), bool)
    for box in boxes:
        rows = _between(ys, box.y - 0.5, box.y + box.height - 0.5)
        covered[rows, _between(xs, box.x - 0.5, box.x + box.width - 0.5)] = True
    return covered


def _pixel_centres(film_size, shape):
    """Returns rows and columns of a grid in pixels of the film, and half the diagonal of one pixel of the grid."""
    steps = [size / count for size, count in zip(film_size, film_size if shape is None else shape)]
    ys, xs = ((np.arange(round(size / step)) + 0.5) * step - 0.5 for size, step in zip(film_size, steps))
    return ys, xs, math.hypot(*steps) / 2


def _between(places, low, high):
    return slice(*np.searchsorted(places, [low, high]))


def iou_of_circles(regions: Sequence[Region], boxes: Sequence[Box], film_size: Sequence[int]) -> float:
    """Computes the intersection over union of all circles with all boxes, in pixels of the film.

    Args:
        regions: list of `Region`; pass `regions[:1]` for the strongest circle only.
        boxes: list of `Box`.
        film_size: (height, width) of the film in pixels.

    Returns:
        float in [0, 1]; 0 if there are boxes but no circle, NaN if there is neither.

    Example:
        >>> from kmm.explain.fidelity.boxes import Box
        >>> from kmm.explain.regions.find import Region
        >>> iou_of_circles([Region(x=2, y=1, radius=1, weight=1)], [Box("Mass", 1, 0, 3, 3)], (8, 8)) == 5 / 9
        True
    """
    if not regions and not boxes:
        return float("nan")
    return overlap(cover_circles(regions, film_size), rasterize_boxes(boxes, film_size))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Computes the intersection over union of two bool arrays of one shape: float in [0, 1], 0 if both are empty.

    Example:
        >>> overlap(np.array([True, True, False]), np.array([True, False, False]))
        0.5
    """
    return int(np.count_nonzero(first & second)) / max(int(np.count_nonzero(first | second)), 1)
