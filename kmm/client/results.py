"""What a client hands back."""

from dataclasses import asdict, dataclass

import numpy as np

from kmm.errors import InputError
from kmm.protocol.predictions import Prediction


@dataclass(frozen=True)
class ServedWord:
    """One word of a report, as the classifier read it.

    Attributes:
        text: str. Of a word at whose word pieces the report was cut, what was read; `##` is a beginning that was not.
        share: float in [0, 1]. Its part of the squared attribution of all words.
        signed: float. Its attribution in units of the score: above 0 it speaks for the label.
    """

    text: str
    share: float
    signed: float


@dataclass(frozen=True)
class ServedExplanation:
    """One study explained by a server.

    Attributes:
        prediction: `Prediction`.
        target: str. Name of the label that was explained.
        score, baseline_score: float. Its logit, and its logit at the baseline.
        completeness_gap: float. How far the attributions are from adding up to the difference, relative.
        map_error: float. Estimated error of the maps, relative.
        heat: float32 array `(h', w')`: what each pixel added, on the area of the film, signed; at the encoder's
            resolution: (0, 0) is the film's top left corner. None where no film was sent or the model reads none.
        words: tuple of `ServedWord` in the order of the text; empty without a report.
        modality_share: dict of `"image"` and `"text"` to the share of the decision that each carried, summing to 1.
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

    def regions(self, film_size=None, settings=None):
        """The map as circles, made here.

        Args:
            film_size: `(height, width)` of the film in pixels; None: the map's.
            settings: `kmm.explain.settings.RegionSettings`; None: the defaults.

        Returns:
            list of `kmm.explain.regions.find.Region` in pixels of the film, heaviest first; empty without a film.
        """
        from kmm.explain.regions.find import find_regions
        from kmm.explain.settings import RegionSettings

        if self.heat is None:
            return []
        return find_regions(self.heat, settings or RegionSettings(), film_size=film_size)

    def draw(self, film, settings=None, *, caption=False):
        """Draws the circles on the film: numbered by rank, dashed where the label is below its threshold.

        Args:
            film: what was explained: a path, bytes, or an array of gray levels 0..255 `(h, w)`.
            settings: as in `regions`.
            caption: bool. Whether the label, its probability, the decision and "Not for diagnosis" are written below
                the film, as a picture needs that will be looked at alone.

        Returns:
            uint8 array `(h, w, 3)`, RGB, at the film's own size; with a caption the film is its top left part.

        Raises:
            ImageError: if the film cannot be read.
            InputError: if no film was explained.
        """
        from kmm.client.films import read_drawable
        from kmm.explain.output.draw import add_caption, draw_circles
        from kmm.explain.output.pictures import caption_picture

        if self.heat is None:
            raise InputError("Expected an explanation of a film. None was sent, or the model reads none.")
        film, said = read_drawable(film), self.prediction
        dashed = not said.decisions[self.target]
        picture = draw_circles(film, self.regions(film.shape[:2], settings), dashed=dashed)
        if not caption:
            return picture
        lines = caption_picture(self.target, said.probabilities[self.target], said.thresholds[self.target])
        return add_caption(picture, lines)

    def as_dict(self, film_size=None, settings=None, pixel_scale=(1.0, 1.0)):
        """The explanation as JSON holds it, with its regions: numbers, no pixels.

        Args:
            film_size, settings: as in `regions`.
            pixel_scale: `(across, down)`: how many pixels of the film that was sent one pixel of its file became, as
                `kmm.image.pixel_aspect.find_pixel_scale` finds it. Centres are given in pixels of the file.

        Returns:
            dict.
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
