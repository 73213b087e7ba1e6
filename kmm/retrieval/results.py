"""Results of a search: the query and its hits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmm.data.study import Study


@dataclass(frozen=True)
class Query:
    """What an index is searched for.

    Attributes:
        name: str, the id of the study.
        pattern: str, what of it is compared: `"both"`, `"image"` or `"text"`.
        vector: float32 `(d,)`, of length 1.
        predicted: float32 `(n_labels,)`, predicted probabilities.
        hashes: uint64 `(3,)` of patient, report body and film, 0 for none.
        row: int, the row of a study of the index; None for another.
        study: `Study` that was read; None for a study of the index.
        region: `(x, y, radius)` in pixels of the film, if only the places inside this circle are compared.
    """

    name: str
    pattern: str
    vector: np.ndarray = field(repr=False)
    predicted: np.ndarray = field(repr=False)
    hashes: np.ndarray = field(repr=False)
    row: int | None = None
    study: Study | None = None
    region: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Hit:
    """A study that was found.

    Attributes:
        rank: int, from 1.
        study: str, its id.
        row: int, its row in the index.
        score: float by which it was ranked: the cosine, or its blend with the agreement of predictions and the overlap.
        cosine: float in [-1, 1], rounded to 6 decimals.
        overlap: float in [0, 1], of what the explanations of query and study name, if it was asked for; else None.
        film: str, path of its frontal film; None if it has none in a file.
        view: str, `"PA"`, `"AP"` or `"frontal"`; empty without a film.
        part: str, its part in the classifier's split, `"train"`, `"validation"` or `"test"`; empty if it has none.
        source: str, path of the folder or manifest that it was read from; empty for studies in memory.
        labels: dict of the known labels to 0.0 or 1.0.
        predicted: dict of label to calibrated probability.
        columns: dict of further columns to text.
    """

    rank: int
    study: str
    row: int
    score: float
    cosine: float
    overlap: float | None = None
    film: str | None = None
    view: str = ""
    part: str = ""
    source: str = ""
    labels: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as a dict for JSON."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class SearchResult:
    """The studies most like one query.

    Attributes:
        query: `Query`.
        against: str, the pattern of the studies that was compared with it.
        hits: tuple of `Hit`, most alike first; fewer than asked for if no more are allowed.
        allowed: int. Studies that have the pattern and fulfil the filters.
        excluded: dict of `"self"`, `"patient"`, `"body"` and `"film"` to the number of those that were left out for
            this reason, if there are any; a study may count for several.
    """

    query: Query
    against: str
    hits: tuple[Hit, ...]
    allowed: int
    excluded: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns the result as a dict for JSON."""
        return {
            "query": self.query.name,
            "pattern": self.query.pattern,
            "against": self.against,
            "allowed": self.allowed,
            "excluded": dict(self.excluded),
            "hits": [hit.as_dict() for hit in self.hits],
        }
