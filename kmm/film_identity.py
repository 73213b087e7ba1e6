"""Recognise copies of a film by their gray levels, in any file, format or study."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kmm.data.study import Problem, Study
from kmm.errors import ImageError
from kmm.image.prepare import resize_image
from kmm.image.source import read_source
from kmm.progress import Progress

AT_ONCE = 64


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


def identify_films(studies: Sequence[Study], *, progress: Progress | None = None) -> tuple[list[Study], list[Problem]]:
    """Reads the frontal film of each study and adds its identity, so that a split can keep copies together.

    Args:
        studies: sequence of `Study`.
        progress: `kmm.progress.Progress`.

    Returns:
        list of `Study` in the same order, with the `pixel_digest` of their frontal films; and list of `Problem`: films
        that cannot be read, which get no identity. A study without a frontal film is returned unchanged.

    Example:
        >>> from kmm.data.study import Study
        >>> identify_films([Study("1", "1")])
        ([Study('1', images=0, report=None)], [])
    """

    def identify(study: Study) -> Study | ImageError:
        if study.frontal is None:
            return study
        try:
            return study.with_pixel_digest(digest_film(read_source(study.frontal)))
        except ImageError as error:
            return error

    found: list[Study] = []
    problems: list[Problem] = []
    films = sum(study.frontal is not None for study in studies)
    if not films:
        return list(studies), problems
    with (progress or Progress()).step("Reading films", films) as advance, ThreadPoolExecutor() as pool:
        for start in range(0, len(studies), AT_ONCE):
            chunk = studies[start : start + AT_ONCE]
            for study, result in zip(chunk, pool.map(identify, chunk), strict=True):
                if isinstance(result, ImageError):
                    problems.append(Problem(f"study {study.id}", f"not compared with other films: {result}"))
                    result = study
                found.append(result)
            advance(sum(study.frontal is not None for study in chunk))
    return found, problems
