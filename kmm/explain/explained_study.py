"""Protocol of an explained study, for the pictures, pages, tables and DICOM objects that are made from it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from kmm.explain.attribution.result import Attribution
from kmm.explain.regions.find import Region
from kmm.explain.settings import ExplainSettings
from kmm.explain.words import WordScore


class ExplainedFilm(Protocol):
    """What outputs read of a film that was explained."""

    @property
    def study(self) -> str: ...

    @property
    def film(self) -> np.ndarray | None: ...

    @property
    def heat(self) -> np.ndarray | None: ...

    @property
    def regions(self) -> Sequence[Region]: ...

    @property
    def settings(self) -> ExplainSettings: ...

    @property
    def pixel_scale(self) -> tuple[float, float]: ...


class ExplainedReport(Protocol):
    """What outputs read of a report that was explained."""

    @property
    def text(self) -> str: ...

    @property
    def sections(self) -> Sequence[tuple[str, int, int]]: ...

    @property
    def words(self) -> Sequence[WordScore]: ...

    @property
    def redacted(self) -> Sequence[tuple[int, int]]: ...

    @property
    def words_scored(self) -> bool: ...

    @property
    def modality_sum(self) -> Mapping[str, float | None]: ...


class ExplainedStudy(ExplainedFilm, ExplainedReport, Protocol):
    """The attributes of `kmm.explain.explanation.Explanation` that outputs read; their meaning is documented there."""

    @property
    def image(self) -> str | None: ...

    @property
    def target(self) -> str: ...

    @property
    def attribution(self) -> Attribution: ...

    @property
    def probabilities(self) -> Mapping[str, float]: ...

    @property
    def thresholds(self) -> Mapping[str, float]: ...

    @property
    def modality_share(self) -> Mapping[str, float]: ...

    @property
    def model(self) -> str: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    @property
    def decision(self) -> bool | None: ...

    @property
    def regions_in_file(self) -> Sequence[Region]: ...

    def as_dict(self) -> dict[str, Any]: ...


class ComparedSide(ExplainedFilm, ExplainedReport, Protocol):
    """The attributes of `kmm.explain.similarity.pair.ComparedStudy` that pages read."""

    @property
    def reads(self) -> str: ...

    @property
    def attribution(self) -> Attribution: ...

    @property
    def length_held(self) -> bool: ...

    @property
    def warnings(self) -> Sequence[str]: ...


class ComparedPair(Protocol):
    """The attributes of `kmm.explain.similarity.pair.Similarity` that pages read."""

    @property
    def one(self) -> ComparedSide: ...

    @property
    def other(self) -> ComparedSide: ...

    @property
    def cosine(self) -> float: ...

    @property
    def layer(self) -> str: ...
