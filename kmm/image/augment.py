"""Augment prepared films with small random changes that keep them plausible chest films."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np

from kmm.errors import InputError

cv2.setNumThreads(1)  # films are small, and OpenCV's threads would compete with the training threads


def _tabulate_normal() -> np.ndarray:
    """Returns 256 quantiles of the normal distribution with deviation 1. Exact draws cost five times as much."""
    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
    return (quantiles / quantiles.std()).astype(np.float32)


NORMAL = _tabulate_normal()
# Columns of the numbers that say how each film of a batch is changed, see `Augmentation.list_changes`
PLACE, EXPOSURE, SEED, MIXTURE = slice(0, 6), slice(6, 10), slice(10, 12), slice(12, 14)
CHANGE_COUNT = 14
SEEDS = 2**24  # below this, whole numbers are exact as float32


@dataclass(frozen=True)
class Augmentation:
    """Ranges for the random changes of a film. Each image draws its own values, uniformly within the ranges.

    Black stays black: padding and missing images (all 0) remain 0.

    Attributes:
        rotation_degrees: float. Largest rotation about the centre, in either direction.
        shift: float. Largest shift along each axis, as a fraction of the side.
        zoom: float in [0, 1). Largest relative change of size.
        contrast: float in [0, 1). Largest relative change of the distance from mid gray.
        brightness: float. Largest change of brightness, as a fraction of 255.
        gamma: float in [0, 1). The exponent of the gray curve lies within 1 - gamma .. 1 + gamma.
        noise: float. Largest standard deviation of the added noise, as a fraction of 255.
        horizontal_flip: bool. Mirrors half of the images. Off by default, because the heart would change sides.

    Raises:
        InputError: if a range is negative, or `zoom`, `contrast` or `gamma` is 1 or more.

    Example:
        >>> batch = np.full((2, 32, 32, 1), 128, np.float32)
        >>> changed = Augmentation().apply(batch, np.random.default_rng(0))
        >>> changed.shape, bool((changed == Augmentation().apply(batch, np.random.default_rng(0))).all())
        ((2, 32, 32, 1), True)
    """

    rotation_degrees: float = 5.0
    shift: float = 0.04
    zoom: float = 0.08
    contrast: float = 0.1
    brightness: float = 0.05
    gamma: float = 0.1
    noise: float = 0.01
    horizontal_flip: bool = False

    def __post_init__(self) -> None:
        for name in ("rotation_degrees", "shift", "zoom", "contrast", "brightness", "gamma", "noise"):
            value, limit = getattr(self, name), 1 if name in ("zoom", "contrast", "gamma") else np.inf
            if not 0 <= value < limit:
                raise InputError(f"`{name}` must be in [0, {limit}). Received: {value!r}.")

    def apply(self, batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Changes each image of a batch independently.

        Args:
            batch: float32 array `(n, height, width, 1)`, 0..255; it is not modified.
            rng: `numpy.random.Generator`. The same state gives the same result.

        Returns:
            new float32 array `(n, height, width, 1)`, 0..255; empty for an empty batch.

        Raises:
            InputError: if `batch` is not `(n, height, width, 1)`.
        """
        if np.ndim(batch) != 4 or batch.shape[-1] != 1:
            raise InputError(f"`batch` must be (n, height, width, 1). Received: shape {np.shape(batch)}.")
        n, height, width, _ = batch.shape
        films = np.ascontiguousarray(batch, np.float32).reshape(n, height, width)
        draws = rng.uniform(-1, 1, (n, 9))
        grains = np.frombuffer(rng.bytes(films.size), np.uint8).reshape(films.shape)
        moved, changed = np.empty_like(films), np.empty_like(films)
        places = self._place(draws, height, width)
        for film, draw, place, grain, there, out in zip(films, draws, places, grains, moved, changed):
            cv2.warpAffine(film, place, (width, height), dst=there, flags=cv2.INTER_LINEAR)
            power, gain, deviation, lift = self._list_exposure(draw)
            cv2.pow(there, power, dst=out)  # in units of 255 ** power
            cv2.addWeighted(out, gain, cv2.LUT(grain, NORMAL), deviation, lift, dst=out)
        np.clip(changed, 0, 255, out=changed)
        changed *= moved > 0
        return changed.reshape(batch.shape)

    def list_changes(self, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
        """Draws the changes of a batch as numbers, for `kmm.training.stages.film_changes`, which changes the pixels.

        Places and exposure are those of `apply` with a generator in the same state. The noise has the same distribution
        but other values, which are drawn from the seed where the pixels are changed.

        Args:
            shape: sequence of int, `(n, height, width, 1)`.
            rng: `numpy.random.Generator`.

        Returns:
            float32 `(n, CHANGE_COUNT)`. Columns `PLACE`: where the film's `(x, y)` of a pixel lies, as the two rows of
            an affine matrix; `EXPOSURE`: power, gain, deviation of the noise, and lift of
            `gain * gray ** power + deviation * noise + lift`; `SEED`: two whole numbers below `SEEDS`, the same for the
            whole batch; `MIXTURE`: the row of another film, and the share of its own: no mixture.

        Example:
            >>> changes = STRENGTHS["none"].list_changes((2, 32, 32, 1), np.random.default_rng(0))
            >>> changes[1, PLACE].tolist(), changes[1, EXPOSURE].tolist(), changes[1, MIXTURE].tolist()
            ([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0])
        """
        n, height, width, _ = shape
        draws = rng.uniform(-1, 1, (n, 9))
        places = self._place(draws, height, width)
        backwards = np.linalg.inv(places[:, :, :2])
        changes = np.zeros((n, CHANGE_COUNT))
        changes[:, PLACE] = np.concatenate([backwards, -backwards @ places[:, :, 2:]], axis=2).reshape(n, 6)
        changes[:, EXPOSURE] = np.reshape([self._list_exposure(draw) for draw in draws], (n, 4))
        changes[:, SEED] = rng.integers(SEEDS, size=2)
        changes[:, MIXTURE] = np.stack([np.arange(n), np.ones(n)], axis=1)
        return changes.astype(np.float32)

    def _place(self, draws, height, width):
        """Returns the affine matrices `(n, 2, 3)` of rotation, zoom, shift and flip about the centre."""
        turn, zoom, right, down, flip = draws[:, :5].T
        angle, size = np.deg2rad(turn * self.rotation_degrees), 1 + zoom * self.zoom
        cos, sin = size * np.cos(angle), size * np.sin(angle)
        mirror = np.where(self.horizontal_flip & (flip > 0), -1, 1)
        matrix = np.stack([cos * mirror, sin, -sin * mirror, cos], axis=-1).reshape(-1, 2, 2)
        center = np.array([width - 1, height - 1]) / 2
        moved_center = center + np.stack([right * width, down * height], axis=-1) * self.shift
        return np.concatenate([matrix, (moved_center - matrix @ center)[..., None]], axis=2)

    def _list_exposure(self, draw):
        """Returns power, gain, deviation of the noise and lift of one image."""
        contrast, brightness, gamma, noise = draw[5:]
        power = 1 + gamma * self.gamma
        gain = 1 + contrast * self.contrast
        lift = 255 * (0.5 * (1 - gain) + brightness * self.brightness)
        return power, gain * 255 ** (1 - power), 255 * self.noise * abs(noise), lift


STRENGTHS = {
    "none": Augmentation(rotation_degrees=0, shift=0, zoom=0, contrast=0, brightness=0, gamma=0, noise=0),
    "mild": Augmentation(),
    "strong": Augmentation(
        rotation_degrees=15, shift=0.1, zoom=0.15, contrast=0.3, brightness=0.15, gamma=0.3, noise=0.02
    ),
}
