"""The explanation of one study, from which picture, page, JSON and DICOM objects are made."""

import html
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.explain.attribution.result import Attribution, sum_modalities
from kmm.explain.regions.find import Region, move_regions
from kmm.explain.settings import ExplainSettings
from kmm.explain.words import WordScore
from kmm.storage.output_mark import marking_output, refuse_foreign

if TYPE_CHECKING:
    from kmm.explain.output.files import Outputs

EXPLANATION_SCHEMA = "kmm-explanation-1"


def show_film(film: np.ndarray) -> np.ndarray:
    """Converts a film for display: float array `(h, w)` of gray levels 0 to 255 to uint8."""
    return np.clip(np.rint(film), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Explanation:
    """The explanation of one label of one study.

    Attributes:
        study: str. Id of the study.
        image: str or None. Path of the film that was read.
        target: str. Name of the label that was explained.
        attribution: `Attribution` of the model's score to its inputs.
        probabilities: dict of label name to calibrated probability.
        thresholds: dict of label name to the threshold of a positive decision.
        film: uint8 array `(h, w)`, the film at its own size, with square pixels, 0 = black; None without a film.
        heat: float32 array `(h', w')`: the part of the attribution map that lies on the film, signed, at the encoder's
            resolution; None without a film, or if the method explains only words. Its pixel (0, 0) is the film's top
            left corner.
        regions: list of `Region` in pixels of the film, heaviest first.
        text: str. The report before its redaction: its sections in order, joined by one space.
        sections: list of `(name, start, end)`: the place of each section in `text`.
        words: list of `WordScore` in the order of the text.
        modality_share: dict of `"image"` and `"text"` to the share of the decision that each carried, summing to 1.
        settings: `ExplainSettings`.
        model: str. Digest of the classifier.
        warnings: tuple of str.
        pixel_scale: `(across, down)`: pixels of `film` per pixel of its file. (1, 1) unless the file's pixels are not
            square: see `kmm.image.pixel_aspect`.
        redacted: list of `(start, end)`: the places in `text` that were removed before the model read it.
    """

    study: str
    image: str | None
    target: str
    attribution: Attribution
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    film: np.ndarray | None
    heat: np.ndarray | None
    regions: list[Region]
    text: str
    sections: list[tuple[str, int, int]]
    words: list[WordScore]
    modality_share: dict[str, float]
    settings: ExplainSettings
    model: str = ""
    warnings: tuple[str, ...] = field(default=())
    pixel_scale: tuple[float, float] = (1.0, 1.0)
    redacted: list[tuple[int, int]] = field(default_factory=list)

    @property
    def decision(self) -> bool | None:
        """Whether the target's probability reaches its threshold; None if either is unknown."""
        probability, threshold = self.probabilities[self.target], self.thresholds.get(self.target)
        if threshold is None or not isfinite(threshold) or not isfinite(probability):
            return None
        return bool(probability >= threshold)

    @property
    def regions_in_file(self) -> list[Region]:
        """The regions in pixels of the film's file: see `kmm.explain.regions.find.move_regions`."""
        return move_regions(self.regions, self.pixel_scale)

    @property
    def words_scored(self) -> bool:
        """Whether words have scores: not with methods of the Grad-CAM family, nor with a model that reads no report."""
        return "rows" in self.attribution.sums

    @property
    def modality_sum(self) -> dict[str, float | None]:
        """The sum of the film's and of the report's attributions: see `sum_modalities`."""
        return sum_modalities(self.attribution)

    def __repr__(self) -> str:
        """Returns the study, the label and the numbers of regions and words; no report text."""
        probability = f"{self.target} {self.probabilities[self.target]:.3f}"
        return f"<Explanation of {self.study}: {probability}, {len(self.regions)} regions, {len(self.words)} words>"

    def as_dict(self) -> dict[str, Any]:
        """Returns the explanation as written to JSON, in the schema of `docs/explanation.md`: numbers, no pixels."""
        found = self.attribution
        return {
            "schema": EXPLANATION_SCHEMA,
            "study": self.study,
            "image": self.image,
            "target": self.target,
            "score": found.score,
            "baseline_score": found.baseline_score,
            "completeness_gap": found.completeness_gap,
            "map_error": found.map_error,
            "steps": found.steps,
            "probabilities": self.probabilities,
            "thresholds": self.thresholds,
            "decision": self.decision,
            "pixel_aspect": self.pixel_scale[1] / self.pixel_scale[0],
            "regions": [region.as_dict() for region in self.regions_in_file],
            "words": [word.as_dict() for word in self.words],
            "words_scored": self.words_scored,
            "redacted": [list(span) for span in self.redacted],
            "modality_share": self.modality_share,
            "modality_sum": self.modality_sum,
            "warnings": list(self.warnings),
            "settings": self.settings.as_dict(),
            "model": self.model,
        }

    def save(self, folder: Path | str, outputs: "Outputs | None" = None) -> list[Path]:
        """Writes the files of the study into a folder, which is created if missing.

        The files are `<study>.json`, `<study>.png`, `<study>.thumb.jpg` and `<study>.html`. An id that is not a safe
        file name on every system is replaced by one that is, by `kmm.data.names.choose_file_names`. The folder is
        marked, so that no command reads the files as studies: see `kmm.storage.output_mark`.

        Args:
            folder: path.
            outputs: `kmm.explain.output.files.Outputs`, or None for the defaults.

        Returns:
            list of Path: the files.

        Raises:
            InputError: if the folder already has a file of one of these names that kmm did not write.
        """
        from kmm.data.names import choose_file_names
        from kmm.explain.output.files import RESERVED, SUFFIXES, Outputs, write_outputs

        folder = Path(folder)
        name = choose_file_names([self.study], RESERVED)[self.study]
        with marking_output(folder) as mark:
            refuse_foreign(folder, mark, [f"{name}{suffix}" for suffix in SUFFIXES])
            names, _ = write_outputs(self, folder, outputs or Outputs(), name=name, index=None)
        return [folder / name for name in names]

    def _repr_html_(self):
        """Returns the study's page for display in a notebook."""
        from kmm.explain.output.files import sweep_regions
        from kmm.explain.output.page import render_page

        page = html.escape(render_page(self, sweep_regions(self)))
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="100%" height="900" style="border:0"></iframe>'
