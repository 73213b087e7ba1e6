"""Profile of a set of studies: shares and histograms, which identify no study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from kmm.batches import Batch, BatchMaker
from kmm.data.study import Study
from kmm.errors import InputError
from kmm.evaluate.arrays import number_groups
from kmm.evaluate.statistics.proportions import count_effective
from kmm.text.vocabulary import count_unknown

GRAY_BINS = 16
GRAY, SIZES, SHAPES = "gray levels", "film sizes", "film shapes"
UNKNOWN_WORDS = "unknown words"
# Classes of films: by the shorter side in pixels, and by width / height.
_SIZES = ((256, "under 256"), (512, "256-511"), (1024, "512-1023"), (2048, "1024-2047"), (np.inf, "2048 and over"))
_SHAPES = ((0.95, "upright"), (1.05, "square"), (np.inf, "wide"))


@dataclass(frozen=True)
class Share:
    """A share of a set of studies.

    Attributes:
        share: float in [0, 1].
        n: int. Number of observations.
        effective: float. Number of independent observations that tell as much, see
            `kmm.evaluate.statistics.proportions.count_effective`; 0 if it is not known.
    """

    share: float
    n: int
    effective: float


@dataclass(frozen=True)
class Profile:
    """Aggregate numbers of a set of studies.

    Attributes:
        studies, films: int. Number of studies, and of the films in the histograms.
        shares: dict of name (`"prevalence of <label>"`, `"studies without a film"`, `"studies without a report"`,
            `"reports without <section>"`, `"unknown words"`) to `Share`.
        histograms: dict of `"gray levels"`, `"film sizes"` and `"film shapes"` to a dict of class to its share. Gray
            levels are those of the prepared film, 16 bins of 0..255 named by their lower end, with equal weight for
            each film.
    """

    studies: int
    films: int
    shares: Mapping[str, Share]
    histograms: Mapping[str, Mapping[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """Returns a dict for JSON that `from_dict` reads back."""
        shares = {name: vars(share) for name, share in self.shares.items()}
        histograms = {name: dict(found) for name, found in self.histograms.items()}
        return {"studies": self.studies, "films": self.films, "shares": shares, "histograms": histograms}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads the dict of `as_dict`.

        Raises:
            InputError: if a value is missing or has another type.
        """
        try:
            return cls(
                int(values["studies"]),
                int(values["films"]),
                {name: Share(**share) for name, share in values["shares"].items()},
                {name: {key: float(share) for key, share in one.items()} for name, one in values["histograms"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"The profile of the training studies cannot be read. Wrong or missing: {error}") from None


@dataclass
class FilmTally:
    """Sums the gray levels, sizes and shapes of films, batch by batch.

    Attributes:
        films, sized: int. Number of films, and of those whose size is known.
        gray: float64 `(16,)`, sum of the histograms of the films.
        sizes, shapes: dict of class to the number of films.

    Example:
        >>> tally = FilmTally()
        >>> tally.add_films(np.full((2, 8, 8, 1), 20.0), np.array([[300, 500], [0, 0]]))
        >>> tally.histograms()["film sizes"], tally.histograms()["gray levels"]["16"]
        ({'256-511': 1.0}, 1.0)
    """

    films: int = 0
    sized: int = 0
    gray: np.ndarray = field(default_factory=lambda: np.zeros(GRAY_BINS))
    sizes: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        """Adds the films of a batch."""
        rows = np.flatnonzero(batch.present[:, 0] > 0)
        self.add_films(batch.image[rows], batch.film_sizes[rows])

    def add_films(self, films: np.ndarray, sizes: np.ndarray) -> None:
        """Adds films.

        Args:
            films: array `(n, height, width, 1)`, gray levels 0..255, prepared.
            sizes: int array `(n, 2)`, height and width before the preparation; 0 if not known.
        """
        self.films += len(films)
        for film in films:
            levels = np.clip(film.ravel() * (GRAY_BINS / 256), 0, GRAY_BINS - 1).astype(np.intp)
            self.gray += np.bincount(levels, minlength=GRAY_BINS) / levels.size
        for height, width in np.asarray(sizes).tolist():
            if height and width:
                self.sized += 1
                for counts, classes, value in (
                    (self.sizes, _SIZES, min(height, width)),
                    (self.shapes, _SHAPES, width / height),
                ):
                    name = next(name for bound, name in classes if value < bound)
                    counts[name] = counts.get(name, 0) + 1

    def histograms(self) -> dict[str, dict[str, float]]:
        """Returns the shares of each class; a histogram without films is left out."""
        found: dict[str, dict[str, float]] = {}
        if self.films:
            shares = self.gray / self.films
            found[GRAY] = {str(256 // GRAY_BINS * place): float(share) for place, share in enumerate(shares)}
        if self.sized:
            for title, counts, classes in ((SIZES, self.sizes, _SIZES), (SHAPES, self.shapes, _SHAPES)):
                names = [name for _, name in classes if name in counts]
                found[title] = {name: counts[name] / self.sized for name in names}
        return found


def profile_studies(
    maker: BatchMaker,
    studies: Sequence[Study],
    *,
    present: np.ndarray,
    labels: np.ndarray,
    tally: FilmTally,
    readers: Sequence[Study] | None = None,
) -> Profile:
    """Makes the profile of studies.

    Args:
        maker: `BatchMaker` of the classifier, with its vocabulary.
        studies: sequence of `n` `Study`.
        present: array `(n, 2)` of 0 and 1: whether a film, and whether a report, was read.
        labels: array `(n, n_labels)`, NaN where unknown.
        tally: `FilmTally` of some or all of their films.
        readers: studies whose words are looked up in the vocabulary; None for all. The training studies made the
            vocabulary, so that few of their words are unknown to it.

    Returns:
        `Profile`. What the classifier does not read is left out, and so is a share without observations, such as that
        of unknown words if no study has a report.
    """
    patients = [study.patient for study in studies]
    shares = {}
    for name, column in zip(maker.label_names, np.asarray(labels).T, strict=True):
        shares[f"prevalence of {name}"] = _share(column == 1, ~np.isnan(column), patients)
    every = np.ones(len(studies), bool)
    has_film, has_report = (np.asarray(present)[:, side] > 0 for side in (0, 1))
    if maker.image:
        shares["studies without a film"] = _share(~has_film, every, patients)
    if maker.text:
        shares["studies without a report"] = _share(~has_report, every, patients)
        for section in maker.text.sections:
            has = np.array([bool(study.report and getattr(study.report, section).strip()) for study in studies], bool)
            shares[f"reports without {section}"] = _share(~has, has_report, patients)
        if maker.vocabulary is not None:
            shares[UNKNOWN_WORDS] = _share_unknown(maker, studies if readers is None else readers)
    known = {name: share for name, share in shares.items() if share.n}
    return Profile(len(studies), tally.films, known, tally.histograms())


def _share(hits, among, patients):
    group, n_groups = number_groups(patients, len(patients))
    numbers = np.bincount(group[among], minlength=n_groups)
    return _sum_groups(np.bincount(group[among & hits], minlength=n_groups), numbers)


def _share_unknown(maker, studies):
    """Returns the share of unknown words; the words of a patient are one group."""
    documents = [maker.vocabulary.pieces(maker.text.words(study)) for study in studies]
    group, n_groups = number_groups([study.patient for study in studies], len(studies))
    unknown = np.bincount(group, count_unknown(documents, maker.vocabulary), n_groups)
    return _sum_groups(unknown, np.bincount(group, [len(words) for words in documents], n_groups))


def _sum_groups(hits, numbers):
    n = int(numbers.sum())
    return Share(float(hits.sum() / n) if n else 0.0, n, count_effective(hits, numbers))
