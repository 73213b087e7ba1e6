"""The studies of one run, prepared once and kept on disk, so that every epoch after costs a read and no decoding."""

import errno
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kmm.data.study import Problem
from kmm.errors import ImageError, InputError, ReportError
from kmm.film_identity import digest_film, sketch_film
from kmm.progress import Progress
from kmm.text.vocabulary import UNKNOWN


class PixelFile:
    """Prepared films in one file, a float32 record each, read by position.

    The file is not mapped into memory, so that memory stays flat whatever the number of films.

    Args:
        path: of the file.
        pixels: int. Side of a film.
        count: int. Records; needed to create the file.
    """

    def __init__(self, path, pixels, count=None):
        self.path, self.shape = path, (pixels, pixels, 1)
        self.record = pixels * pixels * 4
        if count is None:
            self.file = os.open(path, os.O_RDONLY)
        else:
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.truncate(self.file, count * self.record)

    def write(self, row, film):
        """Writes the film float32 `(pixels, pixels, 1)` of one row.

        Raises:
            OSError: if the disk is full; also where the system wrote a part of the film and said nothing.
        """
        data = np.ascontiguousarray(film, np.float32).tobytes()
        if os.pwrite(self.file, data, row * self.record) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def __getitem__(self, rows):
        """Returns float32 `(n, pixels, pixels, 1)` of the rows asked for; a row never written is zeros."""
        films = np.empty((len(rows), *self.shape), np.float32)
        for place, row in enumerate(rows):
            if os.preadv(self.file, [films[place]], int(row) * self.record) != self.record:
                raise OSError(errno.EIO, "the file of prepared films is shorter than it was")
        return films

    def close(self):
        """Closes the file; a second time does nothing."""
        if self.file is not None:
            os.close(self.file)
            self.file = None


@dataclass
class PreparedStudies:
    """Studies as columns: anything that gives an array for an array of row numbers.

    Attributes:
        studies: list of the `Study` that could be used, with the `pixel_digest` of the films that were read.
        image: `PixelFile`, or None for a model without images.
        image_digests: list of str, the sha256 of each image file; empty where there is none.
        sketches: list of int, `kmm.film_identity.sketch_film` of each film; 0 where there is none.
        present: float32 `(n, 2)`. The text side is filled in by `add_text`.
        problems: list of `Problem`: what was set aside.
        labels: float32 `(n, n_labels)`; token_ids: int32 `(n, length)`. Filled in by `add_text`.
    """

    studies: list
    image: PixelFile | None
    image_digests: list[str]
    sketches: list[int]
    present: np.ndarray
    problems: list
    labels: np.ndarray | None = None
    token_ids: np.ndarray | None = None

    def add_text(self, maker):
        """Fills in token ids and labels, once the vocabulary of the training part is known."""
        self.labels = np.array([maker.labels(study) for study in self.studies], np.float32)
        self.token_ids = np.array([maker.token_ids(study) for study in self.studies], np.int32)
        self.present[:, 1] = self.token_ids.any(axis=1)

    def hide_words(self, rows, vocabulary, words):
        """Makes words unknown in some studies, so that training cannot learn from them.

        Args:
            rows: int array of the studies.
            vocabulary: `kmm.text.vocabulary.Vocabulary` that the token ids are of.
            words: set of str: its words or pieces to hide; what it does not hold is unknown already.
        """
        hidden = [number for number, word in enumerate(vocabulary.words) if word in words and number > UNKNOWN]
        kept = self.token_ids[rows]
        self.token_ids[rows] = np.where(np.isin(kept, hidden), UNKNOWN, kept)

    def rows(self, ids):
        """int64 row numbers of the study ids asked for, in the order of the studies."""
        wanted = set(ids)
        return np.array([row for row, study in enumerate(self.studies) if study.id in wanted], np.int64)

    def mean_image(self, rows):
        """float32 `(pixels, pixels, 1)`, the mean of those films of some rows that are there; None when none is."""
        rows = [row for row in rows if self.image is not None and self.present[row, 0]]
        if not rows:
            return None
        total = np.zeros(self.image.shape, np.float64)
        for row in rows:
            total += self.image[[row]][0]
        return (total / len(rows)).astype(np.float32)

    def digest(self):
        """sha256 of what the run learns from: ids, image bytes, report text and labels."""
        total = hashlib.sha256()
        for study, image in zip(self.studies, self.image_digests, strict=True):
            text = "" if study.report is None else "\x1f".join(map(str, vars(study.report).values()))
            labels = repr(sorted(study.labels.items()))
            total.update("\x1e".join([study.id, study.patient, image, text, labels]).encode())
        return total.hexdigest()


def prepare_studies(studies, maker, path, *, strict=False, progress=None):
    """Reads every study once and identifies its film; unusable ones are set aside and listed.

    Args:
        studies: sequence of `Study`.
        maker: `kmm.batches.BatchMaker`.
        path: of the pixel file to write.
        strict: bool. Raise at the first unusable study instead.
        progress: `kmm.progress.Progress`.

    Returns:
        `PreparedStudies` without text.

    Raises:
        ImageError, ReportError: with `strict`, for the first unusable study.
        InputError: if the disk has no room for the prepared films.
    """
    films = _create_films(path, maker, len(studies)) if maker.image else None
    used, digests, sketches, present, problems = [], [], [], [], []

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
                if film is not None:
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
            f"{path.parent}: expected {need / 1e9:.2f} GB of free disk for prepared films. Free: {free / 1e9:.2f} GB"
        )
    return PixelFile(path, maker.image.pixels, count)
