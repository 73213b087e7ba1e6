"""The explanation of one study, as a notebook uses it."""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.api.records import Records
from kmm.explain.regions.find import move_regions
from kmm.explain.settings import ExplainSettings, RegionSettings
from kmm.image.prepare import resize_weights
from kmm.protocol.predictions import Prediction

if TYPE_CHECKING:
    from kmm.explain.explanation import Explanation
    from kmm.explain.output.files import Outputs
    from kmm.explain.output.findings import Findings
    from kmm.explain.similarity.pair import ComparedStudy, Similarity


def make_explain_settings(values: Mapping[str, Any]) -> ExplainSettings:
    """Makes the settings of an explanation from its fields and those of its regions in one mapping.

    Args:
        values: mapping of fields of `ExplainSettings`, and of `RegionSettings`, whose `rule` is `region_rule`.

    Raises:
        InputError: if a name is unknown, or a value out of range.

    Example:
        >>> make_explain_settings({"sensitivity": 0.3, "region_rule": "energy"}).regions.sensitivity
        0.3
    """
    of_regions = {field.name for field in dataclasses.fields(RegionSettings)}
    values = dict(values)
    regions = {name: values.pop(name) for name in of_regions - {"rule"} if name in values}
    if "region_rule" in values:
        regions["rule"] = values.pop("region_rule")
    return ExplainSettings.from_dict(values, RegionSettings(**regions) if regions else None)


class Explained:
    """The explanation of one label of one study. In a notebook it is shown as its page.

    The page contains the film and the report; `repr` contains neither.

    Args:
        explanation: `kmm.explain.explanation.Explanation`, kept as the attribute `explanation`.
        prediction: `Prediction` of the study.

    Attributes:
        explanation: `Explanation` with everything that was computed.
        prediction: `Prediction`.
    """

    def __init__(self, explanation: "Explanation", prediction: Prediction) -> None:
        self.explanation, self.prediction = explanation, prediction

    @property
    def target(self) -> str:
        """The label that was explained."""
        return self.explanation.target

    @property
    def map(self) -> np.ndarray | None:
        """The signed attribution of each pixel of the film, float32 `(h, w)` at the film's own size; None without a
        film.

        The attribution of a pixel that the encoder reads is divided among the pixels of the film that it was computed
        from, so the sum of the map is the part of the score that the film carries.
        """
        return _spread(self.explanation.heat, self.explanation.film)

    @property
    def regions(self) -> Records:
        """The strongest circles on the film, heaviest first: `x`, `y` and `radius` in pixels of the file, and
        `weight`."""
        return Records((region.as_dict() for region in self.explanation.regions_in_file), "regions")

    @property
    def words(self) -> Records:
        """The words of the report in order, with `share` and `signed`: see `kmm.explain.words.WordScore`."""
        return Records((word.as_dict() for word in self.explanation.words), "words")

    def save(self, folder: Path | str, outputs: "Outputs | None" = None) -> list[Path]:
        """Writes page, picture and JSON of the study into a folder, as `kmm explain` does.

        Args:
            folder: path, created if missing.
            outputs: `kmm.explain.output.files.Outputs`, or None for the defaults.

        Returns:
            list of Path: the files, which contain film and report.

        Raises:
            InputError: if the folder already has a file of one of these names that kmm did not write.
        """
        return self.explanation.save(folder, outputs)

    def _repr_html_(self) -> str:
        return self.explanation._repr_html_()

    def __repr__(self) -> str:
        found = f"{len(self.regions)} regions, {len(self.words)} words"
        return f"<Explained {self.target} of {self.explanation.study}: {self.prediction!r}, {found}>"


class ExplainedSimilarity:
    """Two studies and why they are alike. In a notebook it is shown as its page.

    The page contains films and reports; `repr` contains neither.

    Args:
        similarity: `kmm.explain.similarity.pair.Similarity`, kept as the attribute `similarity`.
        findings: the `Findings` of both studies.

    Attributes:
        similarity: `Similarity` with everything that was computed.
        one, other: `ExplainedSide`.
    """

    def __init__(self, similarity: "Similarity", findings: "Sequence[Findings]") -> None:
        self.similarity, self._findings = similarity, findings
        self.one, self.other = ExplainedSide(similarity.one), ExplainedSide(similarity.other)

    @property
    def cosine(self) -> float:
        """The cosine of the vectors of both studies, from -1 to 1."""
        return self.similarity.cosine

    def save(self, folder: Path | str) -> list[Path]:
        """Writes page and JSON into a folder: see `kmm.explain.similarity.files.write_similarity`."""
        from kmm.explain.similarity.files import write_similarity

        return write_similarity(self.similarity, folder, self._findings)

    def _repr_html_(self) -> str:
        from kmm.explain.similarity.files import render_similarity

        page = html.escape(render_similarity(self.similarity, self._findings))
        return f'<iframe srcdoc="{page}" sandbox width="100%" height="900" style="border:0"></iframe>'

    def __repr__(self) -> str:
        return repr(self.similarity)


class ExplainedSide:
    """One of two studies that were compared: the places and words that make it like the other one.

    Args:
        side: `kmm.explain.similarity.pair.ComparedStudy`, kept as the attribute `side`.
    """

    def __init__(self, side: "ComparedStudy") -> None:
        self.side = side

    @property
    def without(self) -> float:
        """The cosine with an empty study in place of this one; NaN for methods without a baseline."""
        return self.side.attribution.baseline_score

    @property
    def map(self) -> np.ndarray | None:
        """The signed attribution of each pixel of the film, as `Explained.map`, in units of the cosine."""
        return _spread(self.side.heat, self.side.film)

    @property
    def regions(self) -> Records:
        """The circles around the places that raise the similarity most, as `Explained.regions`."""
        moved = move_regions(self.side.regions, self.side.pixel_scale)
        return Records((region.as_dict() for region in moved), "regions")

    @property
    def words(self) -> Records:
        """The words of the report in order; above 0, `signed` raises the similarity."""
        return Records((word.as_dict() for word in self.side.words), "words")

    def __repr__(self) -> str:
        return f"<ExplainedSide {self.side.study}: {len(self.regions)} regions, {len(self.words)} words>"


def _spread(heat, film):
    """Divides the values of a map among the pixels of its film; returns None without a film."""
    if heat is None or film is None:
        return None
    (height, width), (rows, columns) = film.shape, heat.shape
    return (resize_weights(width, columns).T @ (resize_weights(height, rows).T @ heat).T).T.astype(np.float32)
