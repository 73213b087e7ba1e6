"""Draw the films of the phantom set: chest-like images made from curves, never from a real film."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from kmm.data.phantom.curves import Frame, circle, sample_frame, shake, smooth
from kmm.data.phantom.lesions import SIDES, add_lesion
from kmm.data.phantom.report import Lesion

# Curves on the side u > 0 of the body frame; the other side is their mirror image.
LUNG = ((.105, -.40), (.175, -.395), (.245, -.32), (.30, -.19), (.335, -.02), (.355, .13), (.362, .235),
        (.355, .24), (.30, .185), (.22, .155), (.14, .165), (.085, .205), (.065, .10), (.055, -.05), (.05, -.20),
        (.055, -.33))  # fmt: skip
BODY = ((.085, -.62), (.09, -.50), (.15, -.455), (.30, -.43), (.43, -.37), (.50, -.22), (.505, .0), (.48, .25),
        (.47, .62))  # fmt: skip
CLAVICLE = ((0.035, -0.325), (0.12, -0.345), (0.21, -0.385), (0.33, -0.415))
SCAPULA = ((0.30, -0.37), (0.345, -0.25), (0.335, -0.12), (0.30, -0.06))
# Curves of the whole chest.
HEART = ((-.06, -.13), (.0, -.16), (.065, -.115), (.115, -.02), (.165, .08), (.175, .15), (.13, .20), (.02, .215),
         (-.07, .19), (-.10, .11), (-.092, .0))  # fmt: skip
LATERAL_BODY = ((-.12, -.62), (-.20, -.45), (-.33, -.30), (-.38, -.05), (-.36, .20), (-.38, .62), (.40, .62),
                (.38, .20), (.42, -.10), (.36, -.35), (.16, -.50), (.12, -.62))  # fmt: skip
LATERAL_LUNG = ((-.02, -.38), (-.16, -.32), (-.28, -.15), (-.30, .05), (-.24, .18), (-.12, .12), (.02, .12),
                (.16, .20), (.29, .30), (.30, .12), (.31, -.10), (.24, -.30), (.12, -.38))  # fmt: skip
LATERAL_HEART = (
    (-0.25, 0.0),
    (-0.18, -0.10),
    (-0.08, -0.06),
    (-0.02, 0.05),
    (-0.06, 0.14),
    (-0.16, 0.16),
    (-0.25, 0.12),
)


@dataclass(frozen=True)
class Anatomy:
    """The frontal anatomy of one patient.

    Attributes:
        frame: `Frame`.
        lungs: mapping of `"left"` and `"right"` (of the patient) to a closed curve, a float array `(n, 2)`.
        heart: float array `(n, 2)`, a closed curve.
        chest_width: float. Relative to the mean, which is 1.
    """

    frame: Frame
    lungs: Mapping[str, np.ndarray]
    heart: np.ndarray
    chest_width: float


def draw_frontal(
    lesions: Sequence[Lesion],
    rng: np.random.Generator,
    *,
    pixels: int = 256,
    letters_rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Draws a frontal film. The same `rng` draws the same patient and exposure, whatever the lesions are.

    Args:
        lesions: list of `kmm.data.phantom.report.Lesion`; an empty list draws a film without lesions.
        rng: `numpy.random.Generator`.
        pixels: int. Longer side of the film.
        letters_rng: `numpy.random.Generator` for the burnt-in letters; None draws no letters.

    Returns:
        (film, boxes): film uint8 `(height, width)`; boxes, one (x, y, width, height) in pixels per lesion.

    Example:
        >>> film, boxes = draw_frontal([], np.random.default_rng(0), pixels=64)
        >>> max(film.shape), film.dtype.name, boxes
        (64, 'uint8', [])
    """
    anatomy = _sample_anatomy(rng, pixels, enlarged=any(lesion.finding == "Cardiomegaly" for lesion in lesions))
    film = _draw_chest(anatomy, rng)
    lesion_rng = np.random.default_rng(rng.integers(2**32))
    boxes = [add_lesion(film, anatomy, lesion, lesion_rng) for lesion in lesions]
    film = _expose(film, rng)
    if letters_rng is not None:
        _burn_letters(film, letters_rng)
    return film, boxes


def draw_lateral(rng: np.random.Generator, *, pixels: int = 256) -> np.ndarray:
    """Draws a lateral film without lesions.

    Args:
        rng: `numpy.random.Generator`.
        pixels: int. Longer side of the film.

    Returns:
        uint8 array `(height, width)`.

    Example:
        >>> max(draw_lateral(np.random.default_rng(0), pixels=64).shape)
        64
    """
    frame = sample_frame(rng, pixels)
    film = 0.8 * frame.fill(smooth(shake(LATERAL_BODY, rng)), 0.012)
    film -= 0.50 * frame.fill(smooth(shake(LATERAL_LUNG, rng)), 0.006)
    film += 0.40 * frame.fill(smooth(shake(LATERAL_HEART, rng)), 0.02)
    v = np.linspace(-0.5, 0.6, 20)
    film += 0.25 * frame.stroke([np.column_stack([0.24 + 0.05 * np.sin(4 * v), v])], 0.06, 0.006)
    ribs = [smooth([(0.22, v), (0.0, v + 0.06), (-0.2, v + 0.2)], closed=False) for v in _rib_levels(rng)]
    film += 0.10 * frame.stroke(ribs, 0.018)
    return _expose(film, rng)


def _sample_anatomy(rng, pixels, *, enlarged):
    frame, wide = sample_frame(rng, pixels), rng.uniform(0.94, 1.06)
    lungs = {}
    for side, sign in SIDES.items():
        curve = np.array(LUNG)
        curve[:, 1] += np.where(curve[:, 1] > 0.12, -0.02 if side == "right" else 0.005, 0)
        lungs[side] = smooth(shake(curve, rng) * (sign * wide, 1))
    size = rng.uniform(1.50, 1.75) if enlarged else rng.uniform(0.92, 1.08)
    apex = np.array([0.02, 0.20])
    heart = (shake(HEART, rng) - apex) * (size, 1 + 0.35 * (size - 1)) + apex
    return Anatomy(frame, lungs, smooth(heart), wide)


def _draw_chest(anatomy, rng):
    """Draws the film without lesions: absorption as float32, 0 in air, about 0.8 in soft tissue."""
    frame = anatomy.frame
    u, v = frame.coordinates()
    body = np.array(BODY)
    outline = np.concatenate([body, body[::-1] * (-1, 1)]) * (anatomy.chest_width, 1)
    film = frame.fill(smooth(shake(outline, rng)), 0.01) * (0.85 - 1.2 * np.maximum(np.abs(u) - 0.27, 0))
    film += 0.22 * _step(v - 0.19, 0.02)
    for curve in anatomy.lungs.values():
        film -= frame.fill(curve, 0.005) * (0.50 - 0.15 * (v + 0.1))
    film += 0.16 * _step(0.045 - np.abs(u), 0.006) * (1 + 0.3 * np.sin(v * 2 * np.pi / 0.055))
    film += 0.28 * _step(0.07 - np.abs(u), 0.012) - 0.2 * _step(0.02 - np.abs(u), 0.004) * _step(-0.14 - v, 0.02)
    film += 0.42 * frame.fill(anatomy.heart, 0.008)
    film += 0.30 * frame.fill((0.058, -0.205) + 0.038 * circle() * rng.uniform(0.8, 1.15), 0.008)
    film += _draw_vessels(frame, rng) + _draw_bones(anatomy, rng)
    if rng.random() < 0.6:
        bubble = (0.2, 0.25) + circle() * (rng.uniform(0.04, 0.08), rng.uniform(0.02, 0.035))
        film -= 0.35 * frame.fill(bubble, 0.008)
    if rng.random() < 0.12:
        wire = np.column_stack([np.linspace(-0.5, 0.5, 12), rng.uniform(-0.3, 0.2) + rng.normal(0, 0.02, 12).cumsum()])
        film += 0.3 * frame.stroke([smooth(wire, closed=False)], 0.006, 0.001)
    return film


def _draw_bones(anatomy, rng):
    """Draws posterior ribs, fainter anterior ribs, clavicles and the edges of the scapulae."""
    frame, t, tilt = anatomy.frame, np.linspace(0, 1, 10), rng.uniform(0.06, 0.12)
    behind, front = [], []
    for level in _rib_levels(rng):
        reach = anatomy.chest_width * np.interp(level, [-0.4, -0.2, 0.2], [0.24, 0.34, 0.385])
        arc = level - 0.035 * np.sin(np.pi * t) + tilt * t**2
        for sign in SIDES.values():
            behind.append(np.column_stack([sign * (0.04 + (reach - 0.04) * np.sin(t * np.pi / 2)), arc]))
            front.append(np.column_stack([sign * (reach - 0.16 * t**1.5), level + 0.09 + 0.12 * t]))
    bones = 0.13 * frame.stroke(behind, 0.024, 0.002) - 0.07 * frame.stroke(behind, 0.012, 0.002)
    bones += 0.05 * frame.stroke(front, 0.022, 0.003)
    clavicles, scapulae = ([smooth(shake(np.array(curve) * (sign, 1), rng), closed=False) for sign in SIDES.values()]
                           for curve in (CLAVICLE, SCAPULA))  # fmt: skip
    bones += 0.06 * frame.stroke(scapulae, 0.02, 0.003)
    return bones + 0.22 * frame.stroke(clavicles, 0.026, 0.003) - 0.10 * frame.stroke(clavicles, 0.010, 0.002)


def _draw_vessels(frame, rng):
    """Draws vessels that run outwards from each hilum and become thinner."""
    twigs = {0.014: [], 0.009: [], 0.005: []}
    for sign in SIDES.values():
        for direction in np.linspace(-1.35, 1.25, 9) + rng.normal(0, 0.1, 9):
            end = np.array([0.085 * sign, -0.03])
            for curves in twigs.values():
                start, direction = end, direction + rng.normal(0, 0.22)
                end = start + rng.uniform(0.05, 0.08) * np.array([sign * np.cos(direction), np.sin(direction)])
                curves.append((start, end))
    weights = (0.12, 0.09, 0.06)
    return sum(weight * frame.stroke(curves, width) for weight, (width, curves) in zip(weights, twigs.items()))


def _expose(film, rng):
    """Turns absorption into a uint8 film: adds scatter, exposure, brightness and quantum noise."""
    height, width = film.shape
    scatter = cv2.resize(rng.normal(0, 0.03, (5, 5)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    film = 1 - np.exp(-rng.uniform(1.2, 1.8) * np.maximum(film + scatter, 0))
    film = film ** rng.uniform(1.0, 1.3)
    grain = cv2.GaussianBlur(rng.standard_normal(film.shape, np.float32), (0, 0), 0.6)
    film = rng.uniform(0.92, 1.12) * film + rng.uniform(-0.03, 0.06) + rng.uniform(0.005, 0.015) * grain
    return np.round(np.clip(film, 0, 1) * 255).astype(np.uint8)


def _burn_letters(film, rng):
    """Draws a side marker, and sometimes another word, into the film in place."""
    height, width = film.shape
    left = rng.random() < 0.5
    marks = [(("L", "LT") if left else ("R", "RT"), 0.9 if left else 0.03)]
    if rng.random() < 0.4:
        marks.append((("ERECT", "PORTABLE", "AP", "PA", "SUPINE"), rng.uniform(0.05, 0.6)))
    for words, across in marks:
        corner = round(across * width), round(rng.uniform(0.06, 0.13) * height)
        word, scale, level = words[rng.integers(len(words))], rng.uniform(0.32, 0.5), int(rng.integers(220, 256))
        thick = max(1, round(height / 256))
        cv2.putText(film, word, corner, cv2.FONT_HERSHEY_SIMPLEX, scale * height / 256, level, thick, cv2.LINE_AA)


def _rib_levels(rng):
    return np.linspace(-0.36, 0.20, 9) + rng.normal(0, 0.004, 9)


def _step(distance, soften):
    """Returns a smooth step from 0 to 1 around distance 0, `soften` wide."""
    return 1 / (1 + np.exp(-np.clip(distance / soften, -30, 30)))
