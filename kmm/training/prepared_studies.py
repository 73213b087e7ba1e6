"""The studies of one run, decoded and prepared once and kept on disk, so that epochs only read them."""

import errno
import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kmm.batches import BatchMaker
from kmm.data.study import Problem, Study
from kmm.errors import ImageError, InputError, ReportError
from kmm.film_identity import digest_film, sketch_film
from kmm.progress import Progress
from kmm.text.vocabulary import UNKNOWN, Vocabulary


class PixelFile:
    """Prepared films in one file, one float32 record each, read by position.

    The file is not mapped into memory, so that memory does not grow with the number of films.

    Args:
        path: path of the file.
        pixels: int. Side of a film.
        count: int. Number of records, to create the file; None to open an existing one.
    """

    def __init__(self, path: Path | str, pixels: int, count: int | None = None):
        self.path, self.shape = path, (pixels, pixels, 1)
        self.record = pixels * pixels * 4
        if count is None:
            self.file = os.open(path, os.O_RDONLY)
        else:
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.truncate(self.file, count * self.record)

    def write(self, row: int, film: np.ndarray) -> None:
        """Writes the film float32 `(pixels, pixels, 1)` of one row.

        Raises:
            OSError: if the disk is full, even if the system reports no error but writes only a part of the film.
        """
        data = np.ascontiguousarray(film, np.float32).tobytes()
        if os.pwrite(self.file, data, row * self.record) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def __getitem__(self, rows):
        """Returns float32 `(n, pixels, pixels, 1)` of the given rows; zeros for rows that were never written."""
        films = np.empty((len(rows), *self.shape), np.float32)
        for place, row in enumerate(rows):
            if os.preadv(self.file, [films[place]], int(row) * self.record) != self.record:
                raise OSError(errno.EIO, "the file of prepared films was truncated", str(self.path))
        return films

    def close(self) -> None:
        """Closes the file; closing it again does nothing."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


@dataclass
class PreparedStudies:
    """Studies as columns; indexing a column with an array of row numbers returns an array.

    Attributes:
        studies: list of the usable `Study`, with the `pixel_digest` of their films.
        image: `PixelFile`, or None for a model without images.
        image_digests: list of str, the sha256 of each image file; empty for a study without one.
        sketches: list of int, `kmm.film_identity.sketch_film` of each film; 0 for a study without one.
        present: float32 `(n, 2)`. `add_text` fills in the column of the text.
        problems: list of `Problem`: the skipped studies.
        labels: float32 `(n, n_labels)`. Empty until `add_text` fills it in.
        token_ids: int32 `(n, length)`. Empty until `add_text` fills it in.
    """

    studies: list[Study]
    image: PixelFile | None
    image_digests: list[str]
    sketches: list[int]
    present: np.ndarray
    problems: list[Problem]
    labels: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    token_ids: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int32))

    def add_text(self, maker: BatchMaker) -> None:
        """Fills in token ids and labels when the vocabulary of the training part is known."""
        self.labels = np.array([maker.labels(study) for study in self.studies], np.float32)
        self.token_ids = np.array([maker.token_ids(study) for study in self.studies], np.int32)
        self.present[:, 1] = self.token_ids.any(axis=1)

    def hide_words(self, rows: np.ndarray, vocabulary: Vocabulary, words: Collection[str]) -> None:
        """Replaces words with UNKNOWN in some studies, so that training cannot learn from them.

        Args:
            rows: int array of the studies.
            vocabulary: `kmm.text.vocabulary.Vocabulary` of the token ids.
            words: set of str: words or pieces to hide. Those outside the vocabulary are unknown already.
        """
        hidden = [number for number, word in enumerate(vocabulary.words) if word in words and number > UNKNOWN]
        kept = self.token_ids[rows]
        self.token_ids[rows] = np.where(np.isin(kept, hidden), UNKNOWN, kept)

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """Returns the int64 row numbers of the given study ids, in the order of the studies."""
        wanted = set(ids)
        return np.array([row for row, study in enumerate(self.studies) if study.id in wanted], np.int64)

    def mean_image(self, rows: Iterable[int]) -> np.ndarray | None:
        """Returns the mean film of some rows, float32 `(pixels, pixels, 1)`; None if none of them has a film."""
        filmed = [row for row in rows if self.present[row, 0]]
        if self.image is None or not filmed:
            return None
        total = np.zeros(self.image.shape, np.float64)
        for row in filmed:
            total += self.image[[row]][0]
        return (total / len(filmed)).astype(np.float32)

    def digest(self) -> str:
        """Returns the sha256 of the data of the run: ids, image bytes, report text and labels."""
        total = hashlib.sha256()
        for study, image in zip(self.studies, self.image_digests, strict=True):
            text = "" if study.report is None else "\x1f".join(map(str, vars(study.report).values()))
            labels = repr(sorted(study.labels.items()))
            total.update("\x1e".join([study.id, study.patient, image, text, labels]).encode())
        return total.hexdigest()


def prepare_studies(
    studies: Sequence[Study],
    maker: BatchMaker,
    path: Path,
    *,
    strict: bool = False,
    progress: Progress | None = None,
) -> PreparedStudies:
    """Reads every study once and identifies its film; skips unusable studies and lists them.

    Args:
        studies: sequence of `Study`.
        maker: `kmm.batches.BatchMaker`.
        path: Path of the pixel file to write.
        strict: bool. Raises an error at the first unusable study instead of skipping it.
        progress: `kmm.progress.Progress`.

    Returns:
        `PreparedStudies` without text.

    Raises:
        ImageError, ReportError: with `strict`, for the first unusable study.
        InputError: if the disk has no room for the prepared films.
    """
    films = _create_films(path, maker, len(studies)) if maker.image else None
    used: list[Study] = []
    digests: list[str] = []
    sketches: list[int] = []
    present: list[tuple[float, float]] = []
    problems: list[Problem] = []

    def read(study):
        try:
            words = maker.words(study)
            film, digest = maker.read_film(study)
            if film is None:
                if not words:
                    raise maker.nothing_to_read(study)
                return study, None, digest, 0
            square = maker.image.apply(film)
            return study.with_pixel_digest(digest_film(film)), square, digest, sketch_film(square)
        except (ImageError, ReportError) as error:
            return error

    with (progress or Progress()).step("Reading studies", len(studies)) as advance, ThreadPoolExecutor() as pool:
        for start in range(0, len(studies), 64):
            chunk = studies[start : start + 64]
            for study, result in zip(chunk, pool.map(read, chunk), strict=True):
                if isinstance(result, InputError):
                    if strict:
                        raise type(result)(f"study {study.id}: {result}")
                    problems.append(Problem(f"study {study.id}", str(result)))
                    continue
                known, film, digest, sketch = result
                if films is not None and film is not None:
                    films.write(len(used), film)
                present.append((float(film is not None), 0.0))
                used.append(known)
                digests.append(digest)
                sketches.append(sketch)
            advance(len(chunk))
    return PreparedStudies(used, films, digests, sketches, np.array(present, np.float32).reshape(-1, 2), problems)


def _create_films(path, maker, count):
    need = count * maker.image.pixels**2 * 4
    free = shutil.disk_usage(path.parent).free
    if need * 1.02 > free:
        raise InputError(
            f"{path.parent} has too little free disk space: prepared films need {need / 1e9:.2f} GB, and "
            f"{free / 1e9:.2f} GB are free. Free some space, or choose another --out."
        )
    return PixelFile(path, maker.image.pixels, count)
