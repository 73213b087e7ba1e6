"""Regions of an attribution map: smooths it, chooses its strongest points, clusters them, and encloses each cluster."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError, look_up
from kmm.explain.regions.circles import CIRCLES
from kmm.explain.regions.clusters import CLUSTERINGS, cluster_points
from kmm.explain.settings import RegionSettings

ROBUST = 0.999  # values beyond this quantile count as the value at it
# Default distance between the points of a cluster: a share of the map's diagonal, but at least this many pixels of the
# map, so that pixels that touch belong together on small maps too.
DISTANCE = 0.015
LEAST_DISTANCE = 1.5


@dataclass(frozen=True)
class Region:
    """A circle on the film.

    Attributes:
        x, y: float. Centre in pixels of the film, from the centre of its top left pixel.
        radius: float >= 0, in pixels of the film.
        weight: float in [0, 1]. The share of the smoothed map that its points hold: of the sum of its positive values
            or, with rule `"paper"`, of the sum of its grey values, which run from 0 at the map's minimum to 1 at its
            maximum. It is not a share of the attribution itself, because smoothing clips outliers.
    """

    x: float
    y: float
    radius: float
    weight: float

    def as_dict(self) -> dict[str, Any]:
        """Returns the region as written to JSON."""
        return asdict(self)


def move_regions(regions: Sequence[Region], pixel_scale: tuple[float, float]) -> list[Region]:
    """Converts regions from square pixels, in which films are shown, to pixels of the film's file.

    Args:
        regions: list of `Region`.
        pixel_scale: `(across, down)`, floats >= 1, from `kmm.image.pixel_aspect.find_pixel_scale`.

    Returns:
        list of `Region`, unchanged if the file's pixels are square. Otherwise the centres move. A circle on square
        pixels is an ellipse on others; `radius` remains its longer radius, along the finer pixels.

    Example:
        >>> move_regions([Region(x=10, y=29.5, radius=6, weight=1)], (1.0, 2.0))
        [Region(x=10.0, y=14.5, radius=6, weight=1)]
    """
    across, down = pixel_scale
    if across == down == 1:
        return list(regions)
    return [replace(region, x=(region.x + 0.5) / across - 0.5, y=(region.y + 0.5) / down - 0.5) for region in regions]


def find_regions(heat: ArrayLike, settings: RegionSettings, *, film_size: Sequence[int] | None = None) -> list[Region]:
    """Turns an attribution map into circles on the film.

    The map is smoothed, its strongest points are chosen by the rule and the sensitivity, near points are grouped into
    clusters, and each cluster becomes a circle around the centres of its pixels. Weights refer to the smoothed map.
    Rule `"paper"` reads the signed map as grey values, so it draws circles even on a map without positive values.

    Args:
        heat: float array `(h', w')`, signed: the map on the area of the film; or `(h', w', 3)`, whose channels rule
            `"paper"` mixes to grey and the other rules sum.
        settings: `RegionSettings`.
        film_size: `(height, width)` of the film in pixels; None: the map's.

    Returns:
        list of `Region` in pixels of the film, heaviest first; empty if the map is constant, has no positive value
        (except with rule `"paper"`), or no cluster is large enough.

    Raises:
        InputError: if the map has another shape, is empty or not finite, or a setting is out of range.

    Example:
        >>> from kmm.explain.settings import RegionSettings
        >>> heat = np.zeros((8, 8)); heat[2:4, 5:8] = 1.0
        >>> find_regions(heat, RegionSettings(smoothing=0), film_size=(16, 32))
        [Region(x=25.5, y=5.5, radius=4.123105625617661, weight=1.0)]
    """
    check_settings(settings)
    heat = smooth_map(heat, settings.smoothing)
    height, width = heat.shape[:2]
    film_size = film_size or (height, width)
    if len(film_size) != 2 or min(film_size) < 1:
        raise InputError(f"`film_size` must be (height, width) in pixels. Received: {film_size}.")
    rows, columns = np.nonzero(choose_points(heat, sensitivity=settings.sensitivity, rule=settings.rule))
    points = np.stack([columns, rows], 1)
    distance = settings.distance or max(DISTANCE * float(np.hypot(height, width)), LEAST_DISTANCE)
    labels = cluster_points(points, distance, method=settings.cluster, min_points=settings.min_points)
    points = (points + 0.5) * (film_size[1] / width, film_size[0] / height) - 0.5
    positive = _stretch(heat) if settings.rule == "paper" else heat.sum(axis=2).clip(min=0)
    masses, total = positive[rows, columns], positive.sum()
    regions = []
    for members in _list_members(labels):
        x, y, radius = CIRCLES[settings.circle](points[members], settings.radius_quantile)
        weight = min(float(masses[members].sum() / total), 1.0)
        regions.append(Region(x=float(x), y=float(y), radius=float(radius), weight=weight))
    return sorted(regions, key=lambda region: (-region.weight, region.y, region.x))


def smooth_map(heat: ArrayLike, smoothing: float) -> np.ndarray:
    """Smooths a map with a Gaussian that keeps its sum.

    Values beyond the 99.9 % quantile of the non-zero magnitudes are first clipped to it, so that one outlier pixel does
    not become a spot.

    Args:
        heat: float array `(h, w)` or `(h, w, 3)`, finite.
        smoothing: float in [0, 1]. Standard deviation as a share of the map's diagonal; 0 changes nothing.

    Returns:
        float64 array `(h, w, 1)` or `(h, w, 3)`. A constant map stays constant.

    Raises:
        InputError: if the map has another shape, is empty or not finite.

    Example:
        >>> heat = np.zeros((9, 9)); heat[4, 4] = 1
        >>> smooth_map(heat, 0.1)[4, 3:6, 0].round(2)
        array([0.07, 0.1 , 0.07])
    """
    import cv2

    heat = _check_map(heat)
    if not smoothing or heat.min() == heat.max():
        return heat
    magnitudes = np.abs(heat)
    cap = np.quantile(magnitudes[magnitudes > 0], ROBUST, method="lower")
    sigma = smoothing * float(np.hypot(*heat.shape[:2]))
    return cv2.GaussianBlur(heat.clip(-cap, cap), (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(heat.shape)


def choose_points(heat: ArrayLike, *, sensitivity: float, rule: str = "mass") -> np.ndarray:
    """Chooses the strongest points of a map.

    Args:
        heat: float array `(h, w)` or `(h, w, 3)`, signed, finite.
        sensitivity: float in [0, 1]. The higher, the fewer: raising it never adds a point.
        rule: name in `THRESHOLD_RULES`.
            `"mass"`: drops the weakest positive points, which together hold at most this share of the positive sum: 0
            keeps all of them, 1 only the strongest. In that sum, values are clipped to the 99.9 % quantile of the
            positive ones, so that one outlier pixel cannot dominate.
            `"quantile"`: drops the positive points below this quantile of the positive values.
            `"paper"`: stretches the signed map to 0..1 between its minimum and its maximum over all channels, mixes
            three channels to grey with weights .114, .587 and .299, and drops points below the sensitivity.

    Returns:
        bool array `(h, w)`. Points of equal value are chosen or dropped together. No point of a constant map is chosen.

    Raises:
        InputError: if the map has another shape, is empty or not finite, or `rule` or `sensitivity` is out of range.

    Example:
        >>> choose_points([[4, 4, 2, 1, -9]], sensitivity=0.3)
        array([[ True,  True, False, False, False]])
    """
    heat = _check_map(heat)
    choose = look_up(THRESHOLD_RULES, rule, "rule")
    if not 0 <= sensitivity <= 1:
        raise InputError(f"`sensitivity` must be in [0, 1]. Received: {sensitivity}.")
    if heat.min() == heat.max():
        return np.zeros(heat.shape[:2], bool)
    return choose(heat, sensitivity)


def _choose_mass(heat, sensitivity):
    values = heat.sum(axis=2)
    positive = np.sort(values[values > 0])
    if not len(positive):
        return np.zeros(values.shape, bool)
    cap = np.quantile(positive, ROBUST, method="lower")
    mass = np.cumsum(np.minimum(positive, cap) / cap)
    left_out = np.searchsorted(mass, sensitivity * mass[-1], side="right")
    return values >= positive[min(left_out, len(positive) - 1)]


def _choose_quantile(heat, sensitivity):
    values = heat.sum(axis=2)
    positive = values[values > 0]
    if not len(positive):
        return np.zeros(values.shape, bool)
    return values >= np.quantile(positive, sensitivity, method="lower")


def _choose_paper(heat, sensitivity):
    """Source: https://arxiv.org/abs/1902.08888"""
    grey = _stretch(heat)
    return (grey >= sensitivity) & (grey > 0)


def _stretch(heat):
    """Returns the paper's grey values of a map `(h, w, 1 or 3)`: float64 `(h, w)` in [0, 1], all 0 if constant."""
    import cv2

    width = heat.max() - heat.min()
    stretched = ((heat - heat.min()) / (width or 1)).astype(np.float32)
    return (stretched[..., 0] if heat.shape[2] == 1 else cv2.cvtColor(stretched, cv2.COLOR_BGR2GRAY)).astype(np.float64)


# Name of a rule to its function of a map (h, w, channels), not constant, and a sensitivity; it returns bool (h, w).
THRESHOLD_RULES = {"mass": _choose_mass, "quantile": _choose_quantile, "paper": _choose_paper}


def _list_members(labels):
    """Lists the indices of each cluster's points, cluster 0 first."""
    order = np.argsort(labels, kind="stable")
    order = order[np.count_nonzero(labels < 0) :]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []


def _check_map(heat: ArrayLike) -> np.ndarray:
    """Converts a map to float64 `(h, w, 1 or 3)`."""
    given = np.asarray(heat, np.float64)
    checked = given[..., None] if given.ndim == 2 else given
    if checked.ndim != 3 or checked.shape[2] not in (1, 3) or not checked.size:
        raise InputError(
            f"An attribution map must be (height, width) or (height, width, 3). Received: shape {given.shape}."
        )
    if not np.isfinite(checked).all():
        raise InputError("An attribution map must be finite. Received: NaN or infinity.")
    return checked


def check_settings(settings: RegionSettings) -> None:
    """Raises `InputError` if a field of `RegionSettings` is out of range."""
    for name, table in (("rule", THRESHOLD_RULES), ("cluster", CLUSTERINGS), ("circle", CIRCLES)):
        look_up(table, getattr(settings, name), name)
    for name, fits, range_text in (
        ("sensitivity", lambda value: 0 <= value <= 1, "in [0, 1]"),
        ("smoothing", lambda value: 0 <= value <= 1, "in [0, 1]"),
        ("distance", lambda value: value is None or 0 < value < np.inf, "above 0"),
        ("min_points", lambda value: value >= 1, "at least 1"),
        ("radius_quantile", lambda value: 0 < value <= 1, "in (0, 1]"),
    ):
        if not fits(value := getattr(settings, name)):
            raise InputError(f"`{name}` must be {range_text}. Received: {value}.")
