"""Preparation of studies as cases of attribution methods, and of what was attributed for showing: places and words."""

import contextlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from keras import ops

from kmm.classifier import Classifier
from kmm.data.study import Problem, Study
from kmm.errors import ImageError, InputError
from kmm.explain.attribution.methods import Case, clear_bars
from kmm.explain.attribution.result import Attribution
from kmm.explain.explanation import show_film
from kmm.explain.regions.find import find_regions
from kmm.explain.settings import RegionSettings
from kmm.explain.words import ReadWord, score_words
from kmm.image.decoding import decode_ahead
from kmm.image.source import find_source_scale
from kmm.models.views.parts import embed_of
from kmm.text.vocabulary import UNKNOWN

Prepared = TypeVar("Prepared")
Refuse = Callable[[Study, InputError], None]


def refuse_by(set_aside: Callable[[Problem], None] | None) -> Refuse:
    """Makes the function that reports a study that cannot be used.

    Args:
        set_aside: callable taking a `Problem`; None: the error is raised, with the id of the study.

    Returns:
        function of a `Study` and its error.
    """

    def refuse(study, error):
        if set_aside is None:
            raise type(error)(f"study {study.id}: {error}") from None
        set_aside(Problem(f"study {study.id}", str(error)))

    return refuse


@dataclass(frozen=True)
class Film:
    """A film as it is shown and as the model reads it.

    Attributes:
        shown: uint8 array `(height, width)`, at its own size.
        square: float32 array `(pixels, pixels, 1)`.
        box: `(top, left, height, width)` of the film in its square.
    """

    shown: np.ndarray
    square: np.ndarray
    box: tuple[int, int, int, int]


class StudyCases:
    """Makes cases of studies for one classifier.

    Args:
        classifier: `kmm.classifier.Classifier`; its main part reads the cases.

    Attributes:
        embed: `keras.Model` from token ids to rows; None for a model without text.
    """

    def __init__(self, classifier: Classifier):
        self.classifier = classifier
        self.embed = embed_of(classifier.models[classifier.main])

    def read_film(self, study: Study) -> Film | ImageError | None:
        """Reads and prepares the film of a study; returns None without a film, or the error."""
        batches = self.classifier.batches
        try:
            film = batches.film(study)
        except ImageError as error:
            return error
        if film is None or batches.image is None:
            return None
        return Film(show_film(film), batches.image.apply(film), batches.image.find_box(film.shape))

    def prepare_each(
        self, studies: Iterable[Study], prepare: Callable[[Study, Film | None], Prepared], refuse: Refuse
    ) -> Generator[Prepared, None, None]:
        """Prepares studies one after the other. Large films are decoded ahead in threads, which end with `close`.

        Args:
            studies: iterable of `Study`.
            prepare: function of a study and its film. An `InputError` that it raises refuses the study.
            refuse: function of a study that is left out, and its error: see `refuse_by`.

        Yields:
            what `prepare` returned, for each study that was not refused.
        """
        films = decode_ahead(self.read_film, studies, size=self.classifier.batches.film_bytes)
        with contextlib.closing(films):
            for study, film in films:
                try:
                    if isinstance(film, ImageError):
                        raise film
                    prepared = prepare(study, film)
                except InputError as error:
                    refuse(study, error)
                else:
                    yield prepared

    def make(self, study: Study, film: Film | None) -> Case:
        """Makes the case of a study, without a target, from its film and its report.

        Raises:
            ReportError: if the study has nothing that the model reads, or a report that is too long.
        """
        batches = self.classifier.batches
        inputs, fixed, absent, padding_row = {}, {}, set(), None
        present = np.zeros(2, np.float32)
        if batches.image:
            side = batches.image.pixels
            inputs["image"] = np.zeros((side, side, 1), np.float32) if film is None else film.square
            present[0] = film is not None
        if batches.text and self.embed is not None:
            ids = batches.token_ids(study)
            rows = ops.convert_to_numpy(ops.cast(self.embed(np.stack([ids, np.zeros_like(ids)])), "float32"))
            inputs["rows"], padding_row = rows[0], rows[1, 0]
            fixed["padding_mask"] = (ids != 0).astype(np.float32)
            present[1] = ids.any()
        for column, name in enumerate(("image", "rows")):
            if name in inputs and not present[column]:
                absent.add(name)
        if not present.any():
            raise batches.nothing_to_read(study)
        return Case(
            study=study.id,
            inputs=inputs,
            absent=frozenset(absent),
            box=None if film is None else film.box,
            fixed={**fixed, "present": present},
            mean_image=self.classifier.mean_image,
            padding_row=padding_row,
        )

    def describe(
        self, study: Study, case: Case, film: np.ndarray | None, found: Attribution, regions: RegionSettings
    ) -> dict[str, Any]:
        """Finds the places and words of an attribution.

        Args:
            study: `Study`.
            case: its `Case`.
            film: uint8 array `(h, w)`, `Film.shown`; None without a film.
            found: `Attribution` of the case.
            regions: `RegionSettings`.

        Returns:
            dict of the fields of `kmm.explain.explanation.Explanation` that say what was explained and where: `study`,
            `image`, `attribution`, `film`, `pixel_scale`, `heat`, `regions`, `text`, `sections`, `words`, `redacted`.
        """
        heat = self._crop(found, film)
        text, sections, read = self.read_report(study)
        redacted = self.classifier.batches.text.find_redacted(text) if text and self.classifier.batches.text else []
        values = found.values.get("rows") if "rows" in case.inputs and "rows" not in case.absent else None
        shown = film is not None and study.frontal is not None
        return {
            "study": study.id,
            "image": str(study.frontal.path) if shown and study.frontal else None,
            "attribution": clear_bars(found, case.box),
            "film": film,
            "pixel_scale": find_source_scale(study.frontal) if shown and study.frontal else (1.0, 1.0),
            "heat": heat,
            "regions": [] if heat is None or film is None else find_regions(heat, regions, film_size=film.shape),
            "text": text,
            "sections": sections,
            "words": score_words(text, sections, read, values, redacted),
            "redacted": redacted,
        }

    def _crop(self, found, film):
        """Returns the part of the attribution map that lies on the film, summed over channels; None without a film."""
        if film is None or "image" not in found.values:
            return None
        top, left, height, width = self.classifier.batches.image.find_box(film.shape)
        return found.values["image"].sum(axis=-1)[top : top + height, left : left + width]

    def read_report(self, study: Study) -> tuple[str, list[tuple[str, int, int]], list[ReadWord]]:
        """Returns the report, its sections and its words, each with its rows of the model; a word cut off has none."""
        batches = self.classifier.batches
        if batches.text is None or batches.vocabulary is None or study.report is None:
            return "", [], []
        text, vocabulary = batches.text, batches.vocabulary
        report = text.text(study)
        words = text.find(report)
        texts = [word.text for word in words]
        ids = vocabulary.encode(texts, length=text.length, truncate=text.truncate)
        stops = list(accumulate((len(pieces) for pieces in vocabulary.split(texts)), initial=0))
        first = max(0, stops[-1] - text.length) if text.truncate == "start" else 0
        read = []
        for word, start, stop in zip(words, stops, stops[1:], strict=False):
            rows = slice(*(min(max(place - first, 0), text.length) for place in (start, stop)))
            if start < stop:
                read.append(ReadWord(word.start, word.end, rows, known=bool((ids[rows] != UNKNOWN).all())))
        return report, study.report.spans(text.sections), read
