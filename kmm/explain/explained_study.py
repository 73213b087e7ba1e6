"""Protocol of an explained study, for the pictures, pages, tables and DICOM objects that are made from it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from kmm.explain.attribution.result import Attribution
from kmm.explain.regions.find import Region
from kmm.explain.settings import ExplainSettings
from kmm.explain.words import WordScore


class ExplainedStudy(Protocol):
    """The attributes of `kmm.explain.explanation.Explanation` that outputs read; their meaning is documented there."""

    @property
    def study(self) -> str: ...

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
    def film(self) -> np.ndarray | None: ...

    @property
    def heat(self) -> np.ndarray | None: ...

    @property
    def regions(self) -> Sequence[Region]: ...

    @property
    def text(self) -> str: ...

    @property
    def sections(self) -> Sequence[tuple[str, int, int]]: ...

    @property
    def words(self) -> Sequence[WordScore]: ...

    @property
    def redacted(self) -> Sequence[tuple[int, int]]: ...

    @property
    def modality_share(self) -> Mapping[str, float]: ...

    @property
    def settings(self) -> ExplainSettings: ...

    @property
    def model(self) -> str: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    @property
    def pixel_scale(self) -> tuple[float, float]: ...

    @property
    def decision(self) -> bool | None: ...

    @property
    def regions_in_file(self) -> Sequence[Region]: ...

    @property
    def words_scored(self) -> bool: ...

    @property
    def modality_sum(self) -> Mapping[str, float | None]: ...

    def as_dict(self) -> dict[str, Any]: ...
