"""Results of a client: predictions and explanations."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.errors import InputError
from kmm.protocol.predictions import Prediction

if TYPE_CHECKING:
    from kmm.client.films import Film
    from kmm.explain.regions.find import Region
    from kmm.explain.settings import RegionSettings


@dataclass(frozen=True)
class ServedWord:
    """One word of a report, as the classifier read it.

    Attributes:
        text: str. Where the report was cut between the pieces of a word, only the pieces that were read; a leading
            `##` stands for a missing beginning.
        share: float in [0, 1]. Fraction of the squared attribution of all words.
        signed: float. Attribution in units of the score; positive values speak for the label.
    """

    text: str
    share: float
    signed: float


@dataclass(frozen=True)
class ServedExplanation:
    """Explanation of one study by a server.

    Attributes:
        prediction: `Prediction`.
        target: str. Name of the explained label.
        score, baseline_score: float. Logit of the label for the study and for the baseline.
        completeness_gap: float. Relative difference between the sum of the attributions and `score - baseline_score`.
        map_error: float. Estimated relative error of the maps.
        heat: float32 array `(h', w')`: signed attribution of each pixel of the film, at the resolution of the encoder;
            (0, 0) is the film's top left corner. None where no film was sent or the model reads none.
        words: tuple of `ServedWord` in the order of the text; empty without a report.
        modality_share: dict of `"image"` and `"text"` to the share of the decision that each carried. The two sum to
            1, or are both 0 where nothing was attributed.
    """

    prediction: Prediction
    target: str
    score: float
    baseline_score: float
    completeness_gap: float
    map_error: float
    heat: np.ndarray | None
    words: tuple[ServedWord, ...]
    modality_share: dict[str, float]

    def __repr__(self) -> str:
        """Returns the label, its prediction and the number of words; no report text."""
        return f"<ServedExplanation of {self.target}: {self.prediction!r}, {len(self.words)} words>"

    def regions(
        self, film_size: tuple[int, int] | None = None, settings: "RegionSettings | None" = None
    ) -> "list[Region]":
        """Finds the strongest regions of the map, as circles; computed by the client.

        Args:
            film_size: `(height, width)` of the film in pixels; None for those of the map.
            settings: `kmm.explain.settings.RegionSettings`; None for the defaults.

        Returns:
            list of `kmm.explain.regions.find.Region` in pixels of the film, heaviest first; empty without a film.
        """
        from kmm.explain.regions.find import find_regions
        from kmm.explain.settings import RegionSettings

        if self.heat is None:
            return []
        return find_regions(self.heat, settings or RegionSettings(), film_size=film_size)

    def draw(self, film: "Film", settings: "RegionSettings | None" = None, *, caption: bool = False) -> np.ndarray:
        """Draws the circles on the film, numbered by rank and dashed where the label is below its threshold.

        Args:
            film: the explained film: a path, bytes, or an array of gray levels 0..255 `(h, w)`.
            settings: as in `regions`.
            caption: bool. Whether to write the label, its probability, the decision and "Not for diagnosis" below the
                film, for a picture that is viewed on its own.

        Returns:
            uint8 array `(h, w, 3)`, RGB, at the film's own size; with a caption the film is its top left part.

        Raises:
            ImageError: if the film cannot be read.
            InputError: if the explanation has no map.
        """
        from kmm.client.films import read_drawable
        from kmm.explain.output.draw import add_caption, draw_circles
        from kmm.explain.output.pictures import caption_picture

        if self.heat is None:
            raise InputError("This explanation has no map to draw: no film was sent, or the model does not read films.")
        pixels, prediction = read_drawable(film), self.prediction
        dashed = not prediction.decisions[self.target]
        height, width = pixels.shape[:2]
        picture = draw_circles(pixels, self.regions((height, width), settings), dashed=dashed)
        if not caption:
            return picture
        lines = caption_picture(self.target, prediction.probabilities[self.target], prediction.thresholds[self.target])
        return add_caption(picture, lines)

    def as_dict(
        self,
        film_size: tuple[int, int] | None = None,
        settings: "RegionSettings | None" = None,
        pixel_scale: tuple[float, float] = (1.0, 1.0),
    ) -> dict[str, Any]:
        """Returns the explanation as a dict for JSON: numbers and regions, no pixels.

        Args:
            film_size, settings: as in `regions`.
            pixel_scale: `(across, down)`: pixels of the sent film per pixel of its file, as found by
                `kmm.image.pixel_aspect.find_pixel_scale`. Centres are given in pixels of the file.

        Returns:
            dict of plain values.
        """
        from kmm.explain.regions.find import move_regions

        return {
            **self.prediction.as_dict(),
            "target": self.target,
            "score": self.score,
            "baseline_score": self.baseline_score,
            "completeness_gap": self.completeness_gap,
            "map_error": self.map_error,
            "pixel_aspect": pixel_scale[1] / pixel_scale[0],
            "regions": [region.as_dict() for region in move_regions(self.regions(film_size, settings), pixel_scale)],
            "words": [asdict(word) for word in self.words],
            "modality_share": self.modality_share,
        }
