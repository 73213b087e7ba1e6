"""Circles around the points of a cluster."""

from itertools import combinations

import numpy as np

Circle = tuple[float, float, float]  # x, y, radius

_TOLERANCE = 1e-9  # relative to the radius: a point outside by less than this counts as on the circle


def enclose_centroid(points: np.ndarray, quantile: float) -> Circle:
    """Returns the circle around the mean of `points` `(n, 2)`, n >= 1, that reaches the furthest: `(x, y, radius)`."""
    centre = points.mean(axis=0)
    return *centre, _measure(points, centre).max()


def enclose_quantile(points: np.ndarray, quantile: float) -> Circle:
    """Returns the circle around the mean of `points` `(n, 2)`, n >= 1, with at least the share `quantile` inside."""
    centre = points.mean(axis=0)
    return *centre, np.quantile(_measure(points, centre), quantile, method="inverted_cdf")


def enclose_smallest(points: np.ndarray, quantile: float) -> Circle:
    """Returns the smallest circle that encloses all of `points` `(n, 2)`, n >= 1: `(x, y, radius)`.

    The smallest circle is determined by two or three points. The furthest point outside is added to them until no
    point is outside. Each circle is larger than the one before, so the search ends.

    Source: https://doi.org/10.1287/trsc.6.4.379
    """
    origin = points.mean(axis=0)
    points = points - origin
    centre, radius, carriers = points[0], 0.0, points[:1]
    while True:
        distances = _measure(points, centre)
        furthest = distances.argmax()
        if distances[furthest] <= radius * (1 + _TOLERANCE):
            break
        larger = _enclose_few(np.vstack([carriers, points[furthest]]))
        if larger is None or larger[1] <= radius:  # no larger circle within rounding errors
            break
        centre, radius, carriers = larger
    return *(centre + origin), distances[furthest]


def _enclose_few(points):
    """Returns the smallest circle around two to four points: `(centre, radius, the points that determine it)`."""
    best = None
    for count in (2, 3):
        for carriers in map(np.array, combinations(points, count)):
            centre = _circumscribe(carriers)
            radius = _measure(carriers, centre).max()
            if (best is None or radius < best[1]) and _measure(points, centre).max() <= radius * (1 + _TOLERANCE):
                best = centre, radius, carriers
    return best


def _circumscribe(points):
    """Returns the centre of the circle through two (opposite) or three points; the first of three collinear points."""
    if len(points) == 2:
        return points.mean(axis=0)
    (bx, by), (cx, cy) = points[1] - points[0], points[2] - points[0]
    twice = 2 * (bx * cy - by * cx)
    if twice == 0:
        return points[0]
    b, c = bx * bx + by * by, cx * cx + cy * cy
    return points[0] + np.array([cy * b - by * c, bx * c - cx * b]) / twice


def _measure(points, centre):
    return np.hypot(*(points - centre).T)


# Name of a circle to its function of points (n, 2) and the quantile of the settings, which returns (x, y, radius).
# `centroid` is the paper's, without the 5 pixels that its code adds.
CIRCLES = {"centroid": enclose_centroid, "smallest": enclose_smallest, "quantile": enclose_quantile}
