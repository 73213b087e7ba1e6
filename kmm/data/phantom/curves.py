"""Curves in a body frame, and their masks on a film.

The body frame has its origin at the middle of the chest, u to the viewer's right and v downwards; one unit is about the
shorter side of the film.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Frame:
    """The position of the body on a film: `pixel = turn @ (u, v) + centre`.

    Attributes:
        height, width: int. Size of the film in pixels.
        turn: float array `(2, 2)`. Rotation times scale.
        centre: float array `(2,)`. The pixel (x, y) of the body's origin.
        scale: float. Pixels per unit.

    Example:
        >>> frame = Frame(20, 20, turn=10 * np.eye(2), centre=np.array([10, 10]), scale=10)
        >>> float(frame.fill(0.5 * circle()).max())
        1.0
    """

    height: int
    width: int
    turn: np.ndarray
    centre: np.ndarray
    scale: float

    def place(self, curve: ArrayLike) -> np.ndarray:
        """Returns the points `(n, 2)` of a curve in pixels (x, y)."""
        return np.asarray(curve, float) @ self.turn.T + self.centre

    def fill(self, curve: ArrayLike, soften: float = 0.004) -> np.ndarray:
        """Returns a float32 mask `(height, width)`, 0 to 1, of a closed curve, its edge blurred by `soften` units."""
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillPoly(mask, [self._fixed(curve)], 255, cv2.LINE_AA, shift=4)
        return self._soften(mask, soften)

    def stroke(self, curves: Sequence[ArrayLike], thickness: float, soften: float = 0.003) -> np.ndarray:
        """Returns a float32 mask `(height, width)`, 0 to 1, of open curves drawn `thickness` units wide."""
        mask = np.zeros((self.height, self.width), np.uint8)
        width = max(1, round(thickness * self.scale))
        cv2.polylines(mask, [self._fixed(curve) for curve in curves], False, 255, width, cv2.LINE_AA, shift=4)
        return self._soften(mask, soften)

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (u, v) of every pixel: two float32 arrays `(height, width)`."""
        inverse = np.linalg.inv(self.turn)
        x = np.arange(self.width)[None, :] - self.centre[0]
        y = np.arange(self.height)[:, None] - self.centre[1]
        u, v = ((row[0] * x).astype(np.float32) + (row[1] * y).astype(np.float32) for row in inverse)
        return u, v

    def _fixed(self, curve):
        """Returns a curve in OpenCV's fixed-point pixels with 4 fractional bits."""
        return np.round(self.place(curve) * 16).astype(np.int32)

    def _soften(self, mask, soften):
        return cv2.GaussianBlur(mask, (0, 0), max(0.4, soften * self.scale)).astype(np.float32) / 255


def sample_frame(rng: np.random.Generator, pixels: int) -> Frame:
    """Samples a `Frame` of random shape, scale, rotation and position; the film's longer side is `pixels`."""
    aspect = rng.uniform(0.84, 1.16)
    height, width = max(8, round(pixels * min(1, aspect))), max(8, round(pixels * min(1, 1 / aspect)))
    scale = min(height, width) * rng.uniform(1.05, 1.22)
    angle = np.deg2rad(rng.normal(0, 2.0))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array([0.5, 0.54]) + rng.normal(0, 0.015, 2)) * (width - 1, height - 1)
    return Frame(height, width, turn, centre, scale)


def smooth(curve: ArrayLike, closed: bool = True) -> np.ndarray:
    """Returns the Catmull-Rom spline through the points `(n, 2)` of a curve, with 8 points per segment.

    Example:
        >>> smooth([(0, 0), (1, 0), (1, 1), (0, 1)]).shape, smooth([(0, 0), (1, 0)], closed=False).shape
        ((32, 2), (9, 2))
    """
    points = np.asarray(curve, float)
    wrapped = np.concatenate([points[-1:], points, points[:2]] if closed else [points[:1], points, points[-1:]])
    p0, p1, p2, p3 = (wrapped[i : len(wrapped) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    spline = p1 + t * ((p2 - p0) / 2 + t * (p0 - 2.5 * p1 + 2 * p2 - p3 / 2 + t * (1.5 * (p1 - p2) + (p3 - p0) / 2)))
    return spline.reshape(-1, 2) if closed else np.concatenate([spline.reshape(-1, 2), points[-1:]])


def shake(curve: Sequence | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the curve `(n, 2)` with every point moved randomly by about 0.005 units."""
    return np.asarray(curve, float) + rng.normal(0, 0.005, (len(curve), 2))


def circle(points: int = 24) -> np.ndarray:
    """Returns the unit circle around the origin, `(points, 2)`."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)])
