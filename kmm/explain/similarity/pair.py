"""Two studies and why they are alike: for each its places and words, and how far they move the cosine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmm.explain.attribution.result import Attribution, sum_modalities
from kmm.explain.regions.find import Region, move_regions
from kmm.explain.settings import ExplainSettings
from kmm.explain.words import WordScore, warn_of_cut

SIMILARITY_SCHEMA = "kmm-similarity-1"


@dataclass(frozen=True)
class ComparedStudy:
    """One of two studies, and what of it makes it like the other one.

    Attributes:
        study: str. Its id.
        image: str or None. Path of the film that was read.
        reads: str, of `kmm.data.modalities.PATTERNS`: the sides that were compared.
        attribution: `Attribution` of the cosine to its pixels and rows of words, while the other study stays as it is.
            `baseline_score` is the cosine with this study emptied.
        length_held: bool. Whether its vectors were divided by one length: see `choose_length` in `cosine.py`.
        film, heat, regions, pixel_scale, text, sections, words, redacted: as in `kmm.explain.explanation.Explanation`;
            above 0 counts for the similarity.
        settings: `ExplainSettings`.
    """

    study: str
    image: str | None
    reads: str
    attribution: Attribution
    length_held: bool
    film: np.ndarray | None
    heat: np.ndarray | None
    regions: list[Region]
    text: str
    sections: list[tuple[str, int, int]]
    words: list[WordScore]
    settings: ExplainSettings
    pixel_scale: tuple[float, float] = (1.0, 1.0)
    redacted: list[tuple[int, int]] = field(default_factory=list)

    @property
    def words_scored(self) -> bool:
        """Whether words have scores: not with methods or layers that read no report."""
        return "rows" in self.attribution.sums and self.reads != "image"

    @property
    def modality_sum(self) -> dict[str, float | None]:
        """How far film and report moved the cosine: see `kmm.explain.attribution.result.sum_modalities`."""
        return sum_modalities(self.attribution)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Tolerances that the attribution missed, and words that were not read."""
        return (*self.attribution.warnings, *warn_of_cut(self.words))

    def as_dict(self) -> dict[str, Any]:
        """Returns the study as written to JSON: numbers, no pixels."""
        found = self.attribution
        return {
            "study": self.study,
            "image": self.image,
            "reads": self.reads,
            "baseline_cosine": found.baseline_score,
            "length_held": self.length_held,
            "completeness_gap": found.completeness_gap,
            "map_error": found.map_error,
            "steps": found.steps,
            "pixel_aspect": self.pixel_scale[1] / self.pixel_scale[0],
            "regions": [region.as_dict() for region in move_regions(self.regions, self.pixel_scale)],
            "words": [word.as_dict() for word in self.words],
            "words_scored": self.words_scored,
            "redacted": [list(span) for span in self.redacted],
            "modality_sum": self.modality_sum,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Similarity:
    """The cosine of two studies, and what makes it.

    Attributes:
        one, other: `ComparedStudy`.
        layer: str. Whose vectors were compared: a name in `kmm.explain.similarity.cosine.READS`.
        settings: `ExplainSettings`.
        model: str. Digest of the classifier.
    """

    one: ComparedStudy
    other: ComparedStudy
    layer: str
    settings: ExplainSettings
    model: str = ""

    @property
    def cosine(self) -> float:
        """The cosine of the two vectors, from -1 to 1."""
        return float(np.clip(self.one.attribution.score, -1, 1))

    @property
    def studies(self) -> Sequence[ComparedStudy]:
        """Both studies, in the order given."""
        return self.one, self.other

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of both studies, each with the id of its study."""
        return tuple(f"{side.study}: {warning}" for side in self.studies for warning in side.warnings)

    def __repr__(self) -> str:
        """Returns the studies, the cosine and the numbers of regions and words; no report text."""
        sides = (f"{side.study}: {len(side.regions)} regions, {len(side.words)} words" for side in self.studies)
        return f"<Similarity {self.cosine:.3f} of {'; '.join(sides)}>"

    def as_dict(self) -> dict[str, Any]:
        """Returns what was found as written to JSON, in the schema of `docs/similarity.md`: numbers, no pixels."""
        return {
            "schema": SIMILARITY_SCHEMA,
            "layer": self.layer,
            "cosine": self.cosine,
            "one": self.one.as_dict(),
            "other": self.other.as_dict(),
            "settings": self.settings.as_dict(),
            "model": self.model,
        }
