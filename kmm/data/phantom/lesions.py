"""Draw the lesions of the phantom set."""

import typing
from collections.abc import Callable

import cv2
import numpy as np

from kmm.data.phantom.curves import circle, smooth
from kmm.data.phantom.report import Lesion

if typing.TYPE_CHECKING:  # kmm.data.phantom.film imports this module
    from kmm.data.phantom.film import Anatomy

SIDES = {"right": -1, "left": 1}
"""Sign of u in the body frame: the patient's right lung is at the viewer's left, as on a real film."""
ZONES = {"upper": (-0.30, -0.16), "middle": (-0.13, 0.01), "lower": (0.03, 0.14)}
"""Range in v of the centre of a lesion."""


def add_lesion(
    film: np.ndarray, anatomy: "Anatomy", lesion: Lesion, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Adds a lesion to a film, in place.

    Args:
        film: float32 array `(height, width)`, about 0 (black) to 1 (white); values may lie outside.
        anatomy: `kmm.data.phantom.film.Anatomy`.
        lesion: `kmm.data.phantom.report.Lesion`.
        rng: `numpy.random.Generator`.

    Returns:
        (x, y, width, height) in pixels: the smallest box around the pixels with at least a quarter of the lesion's
        maximum.
    """
    layer = LESIONS[lesion.finding](anatomy, lesion, rng)
    if lesion.finding != "Cardiomegaly":
        film += layer
    x, y, width, height = cv2.boundingRect((layer >= 0.25 * layer.max()).astype(np.uint8))
    return x, y, width, height


def _draw_nodule(anatomy, lesion, rng):
    shape = circle(9) * (1 + 0.08 * rng.normal(size=(9, 1)))
    curve = _place_in_lung(lesion, rng) + rng.uniform(0.032, 0.052) * shape
    return rng.uniform(0.42, 0.62) * anatomy.frame.fill(smooth(curve), 0.005)


def _draw_opacity(anatomy, lesion, rng):
    """Draws a cloud of several soft blobs around one centre."""
    centre = _place_in_lung(lesion, rng)
    layer = 0
    for _ in range(7):
        blob = centre + rng.normal(0, 0.032, 2) + rng.uniform(0.025, 0.05) * circle()
        layer = layer + rng.uniform(0.5, 1.0) * anatomy.frame.fill(blob, 0.016)
    return rng.uniform(0.45, 0.65) * layer / layer.max() * anatomy.frame.fill(anatomy.lungs[lesion.side], 0.005)


def _draw_effusion(anatomy, lesion, rng):
    """Draws fluid in the costophrenic angle, with a meniscus that rises along the chest wall."""
    u, v = anatomy.frame.coordinates()
    inwards = np.clip(0.36 - np.abs(u) / anatomy.chest_width, 0, None)
    level = 0.24 - rng.uniform(0.25, 0.36) * np.exp(-inwards / rng.uniform(0.15, 0.24))
    fluid = 1 / (1 + np.exp(-np.clip((v - level) / 0.008, -30, 30)))
    return rng.uniform(0.75, 0.95) * fluid * anatomy.frame.fill(anatomy.lungs[lesion.side], 0.005)


def _draw_atelectasis(anatomy, lesion, rng):
    """Draws one or two plate-like bands, slightly oblique."""
    centre = _place_in_lung(lesion, rng)
    half = rng.uniform(0.065, 0.095) * np.array([1, rng.uniform(-0.35, 0.35)])
    bow = (0, rng.uniform(-0.012, 0.012))
    centres = [centre, centre + np.array([0, rng.uniform(0.035, 0.045)])][: 1 + (rng.random() < 0.4)]
    bands = [np.array([middle - half, middle - half / 2 + bow, middle + bow, middle + half]) for middle in centres]
    layer = anatomy.frame.stroke([smooth(band, closed=False) for band in bands], 0.018, 0.004)
    return rng.uniform(0.5, 0.7) * layer


def _draw_cardiomegaly(anatomy, lesion, rng):
    """Returns the mask of the heart, which is already drawn enlarged."""
    return anatomy.frame.fill(anatomy.heart)


LESIONS: dict[str, Callable[["Anatomy", Lesion, np.random.Generator], np.ndarray]] = {
    "Nodule": _draw_nodule,
    "Opacity": _draw_opacity,
    "Effusion": _draw_effusion,
    "Atelectasis": _draw_atelectasis,
    "Cardiomegaly": _draw_cardiomegaly,
}


def _place_in_lung(lesion, rng):
    """Samples a point (u, v) well inside the lung, on the lesion's side and in its zone."""
    v = rng.uniform(*ZONES[lesion.zone])
    inner, outer = (np.interp(v, [-0.3, -0.1, 0.15], across) for across in ([0.12, 0.14, 0.20], [0.20, 0.27, 0.28]))
    return np.array([SIDES[lesion.side] * rng.uniform(inner, outer), v])
