"""Recognise copies of a film by their gray levels, in any file, format or study."""

import hashlib

import numpy as np

from kmm.image.prepare import resize_image


def digest_film(film: np.ndarray) -> str | None:
    """Computes the identity of a film from its decoded gray levels.

    Lossless copies in other formats (PNG, BMP, TIFF, DICOM) share it; a resized or lossy copy counts as another film.

    Args:
        film: float array `(height, width)`, 0..255.

    Returns:
        str of 64 hexadecimal digits: SHA-256 of height, width and the gray levels rounded to 8 bits. None for a film of
        a single level: two black films are not copies of each other.

    Example:
        >>> film = np.arange(12.0).reshape(3, 4)
        >>> digest_film(film) == digest_film(film + 0.2), digest_film(film) == digest_film(film.T)
        (True, False)
        >>> print(digest_film(np.zeros((3, 4))))
        None
    """
    levels = np.clip(np.rint(film), 0, 255).astype(np.uint8)
    if levels.size == 0 or levels.min() == levels.max():
        return None
    total = hashlib.sha256(np.array(levels.shape, "<u4").tobytes())
    total.update(np.ascontiguousarray(levels).data)
    return total.hexdigest()


def sketch_film(square: np.ndarray) -> int:
    """Computes a perceptual hash of 64 bits, nearly equal for copies of another size, window or compression.

    Args:
        square: float array `(pixels, pixels, 1)`, a prepared film, see `kmm.image.prepare.ImagePreparation`.

    Returns:
        int below 2**64: for each of 8 x 9 means, whether it is brighter than its left neighbour.

    Source: https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html (difference hash)

    Example:
        >>> film = np.tile(np.linspace(0, 255, 64), (64, 1))[:, :, None]
        >>> sketch_film(film) == 2**64 - 1, sketch_film(film[:, ::-1])
        (True, 0)
    """
    small = resize_image(square[..., 0], 8, 9)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]))
