"""Reading of the studies of a fit: films prepared once and kept for every fit, folds and resumed runs."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from kmm.batches import BatchMaker
from kmm.data.study import Problem, Study
from kmm.errors import ImageError, InputError, ReportError
from kmm.image.decoding import decode_ahead
from kmm.image.film_identity import digest_film, sketch_film
from kmm.image.prepare import PREPARATION_VERSION, ImagePreparation
from kmm.progress import Progress
from kmm.training.cache.array_store import ArrayStore
from kmm.training.cache.cache_folder import name_entry
from kmm.training.cache.stored_arrays import StoredArrays

AT_ONCE = 64  # most studies that are read or waiting at a time


@dataclass(frozen=True, repr=False)
class ReadStudies:
    """Studies that can be used, as columns: indexing a column with an array of row numbers returns an array.

    Attributes:
        studies: tuple of `Study`, with the `pixel_digest` of their films.
        films: column of float32 `(pixels, pixels, 1)`, gray levels 0..255, zeros for a study without a film; None for a
            model without images.
        film_digests: tuple of str, the SHA-256 of each film's file; empty for a study without one.
        sketches: tuple of int, `kmm.image.film_identity.sketch_film` of each film; 0 for a study without one.
        film_sizes: int32 `(n, 2)`, height and width of each film before its preparation; 0 for a study without one, and
            for a film that an earlier version of kmm prepared.
        present: float32 `(n, 2)`: 1 where the study has a film, and where it has words.
        problems: tuple of `Problem`: the studies that cannot be used.
    """

    studies: tuple[Study, ...]
    films: StoredArrays | None
    film_digests: tuple[str, ...]
    sketches: tuple[int, ...]
    film_sizes: np.ndarray
    present: np.ndarray
    problems: tuple[Problem, ...]

    def __repr__(self) -> str:  # short, and without reports
        return f"{type(self).__name__}({len(self.studies)} studies, {int(self.present[:, 0].sum())} films)"

    def mean_image(self, rows: Iterable[int]) -> np.ndarray | None:
        """Returns the mean film of some rows, float32 `(pixels, pixels, 1)`; None if none of them has a film."""
        filmed = [row for row in rows if self.present[row, 0]]
        if self.films is None or not filmed:
            return None
        total = np.zeros(self.films.shape[1:], np.float64)
        for row in filmed:
            total += self.films[[row]][0]
        return (total / len(filmed)).astype(np.float32)

    def take(self, rows: np.ndarray) -> Self:
        """Returns the studies of some rows, an int array. No film is read."""
        return replace(
            self,
            studies=tuple(self.studies[row] for row in rows),
            films=None if self.films is None else self.films.take(rows),
            film_digests=tuple(self.film_digests[row] for row in rows),
            sketches=tuple(self.sketches[row] for row in rows),
            film_sizes=self.film_sizes[rows],
            present=self.present[rows],
        )

    def leave_out(self, problems: Sequence[Problem]) -> Self:
        """Returns the studies that no problem names by its source `"study <id>"`, with these problems added."""
        sources = {problem.source for problem in problems}
        rows = [row for row, study in enumerate(self.studies) if f"study {study.id}" not in sources]
        return replace(self.take(np.array(rows, np.int64)), problems=(*self.problems, *problems))

    def digest(self) -> str:
        """Returns the SHA-256 of the data: ids, patients, image bytes, report text and labels."""
        total = hashlib.sha256()
        for study, film in zip(self.studies, self.film_digests, strict=True):
            text = "" if study.report is None else "\x1f".join(map(str, vars(study.report).values()))
            labels = repr(sorted(study.labels.items()))
            total.update("\x1e".join([study.id, study.patient, film, text, labels]).encode())
        return total.hexdigest()


def open_films(cache: Path, preparation: ImagePreparation) -> ArrayStore:
    """Opens the store of prepared films of one preparation: uint8 if it rounds, else float32, by the SHA-256 of the
    film's file. The facts of a film are its `pixel_digest`, its sketch, and its height and width, which earlier
    versions did not add."""
    facts = {**preparation.as_dict(), "version": PREPARATION_VERSION}
    return ArrayStore(cache / name_entry(f"films-{preparation.pixels}", facts))


def read_studies(
    studies: Sequence[Study],
    maker: BatchMaker,
    cache: Path | str,
    *,
    strict: bool = False,
    progress: Progress | None = None,
) -> ReadStudies:
    """Reads every study and identifies its film; leaves out unusable studies and lists them.

    The bytes of every film are read, so that a changed file counts as another film. Only films that the cache lacks are
    decoded and prepared.

    Args:
        studies: sequence of `Study`.
        maker: `kmm.batches.BatchMaker`; it needs no vocabulary.
        cache: path of the folder of prepared films, shared by all fits.
        strict: bool. Raises an error at an unusable study instead of leaving it out.
        progress: `kmm.progress.Progress`.

    Returns:
        `ReadStudies`.

    Raises:
        ImageError, ReportError: with `strict`, for the first unusable study that is found.
        InputError: if the disk has no room for the prepared films.
    """
    progress = progress or Progress()
    errors: dict[str, InputError] = {}
    found: dict[str, tuple[bool, str]] = {}
    identify = partial(_identify, maker=maker)
    for study, result in _work("Reading studies", studies, identify, maker.film_bytes, progress):
        if isinstance(result, InputError):
            _keep_error(errors, study, result, strict)
        else:
            found[study.id] = result
    store = open_films(Path(cache), maker.image) if maker.image else None
    if store is not None:
        filmed = [(study, found[study.id][1]) for study in studies if study.id in found and found[study.id][1]]
        errors |= _prepare_films(filmed, maker, store, strict, progress)
    good = [(study, *found[study.id]) for study in studies if study.id not in errors]
    problems = [Problem(f"study {study.id}", str(errors[study.id])) for study in studies if study.id in errors]
    return _gather(good, store, problems)


def _identify(study, maker):
    """Returns whether the study has words, and the digest of its film; or an error."""
    try:
        words = bool(maker.words(study))
        digest = maker.film_digest(study)
        if not words and not digest:
            raise maker.nothing_to_read(study)
        return words, digest
    except (ImageError, ReportError) as error:
        return error


def _prepare_films(filmed, maker, store, strict, progress):
    """Adds the films that the store lacks, given pairs of study and digest. Returns the errors of films that cannot be
    prepared, by study id."""
    store.check(digest for _, digest in filmed)
    missing = list({digest: (study, digest) for study, digest in filmed if digest not in store}.values())
    store.reserve(len(missing), maker.image.nbytes, "prepared films")
    errors = {}
    while missing:
        found = _work(
            "Preparing films",
            missing,
            lambda pair: _prepare_film(*pair, maker),
            lambda pair: maker.film_bytes(pair[0]),
            progress,
        )
        for (study, _), result in found:
            if isinstance(result, InputError):
                _keep_error(errors, study, result, strict)
            else:
                store.add(*result)
        store.flush()
        # Copies of a film that failed may be readable, and each error names its own file.
        missing = [pair for pair in filmed if pair[1] not in store and pair[0].id not in errors]
    return errors


def _prepare_film(study, digest, maker):
    """Returns digest, prepared film and facts; or an error."""
    try:
        film, now = maker.read_film(study)
        if now != digest:
            return ImageError(f"{study.frontal.path}: the file changed while the studies were read. Start again.")
        square = maker.image.apply(film)
        return digest, square.astype(maker.image.dtype), [digest_film(film), sketch_film(square), *film.shape]
    except ImageError as error:
        return error


def _work(title, items, work, size, progress):
    """Yields each item with the result of a function, computed in threads for items of large size."""
    if not items:
        return
    with progress.step(title, len(items)) as advance:
        for item, result in decode_ahead(work, items, size=size, ahead=AT_ONCE):
            yield item, result
            advance(1)


def _keep_error(errors, study, error, strict):
    if strict:
        raise type(error)(f"study {study.id}: {error}")
    errors[study.id] = error


def _gather(good, store, problems):
    """Makes the columns of usable studies: tuples of study, whether it has words, and the digest of its film."""
    facts = [store.facts(digest) if digest else (None, 0) for _, _, digest in good]
    sizes = [fact[2:4] if len(fact) == 4 else (0, 0) for fact in facts]
    digests = tuple(digest for _, _, digest in good)
    present = np.array([(bool(digest), words) for _, words, digest in good], np.float32).reshape(-1, 2)
    return ReadStudies(
        studies=tuple(study.with_pixel_digest(fact[0]) for (study, *_), fact in zip(good, facts, strict=True)),
        films=None if store is None else store.column(digests, np.float32),
        film_digests=digests,
        sketches=tuple(fact[1] for fact in facts),
        film_sizes=np.array(sizes, np.int32).reshape(-1, 2),
        present=present,
        problems=tuple(problems),
    )
