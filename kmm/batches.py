"""Studies to arrays: the one place that calls both image and text."""

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kmm.data.inputs import MAX_REPORT_WORDS
from kmm.data.study import Problem, Study
from kmm.errors import ImageError, InputError, ReportError
from kmm.image.prepare import ImagePreparation
from kmm.image.read import decode_image, require_content
from kmm.text.clean import find_words
from kmm.text.vocabulary import Vocabulary

MAX_IMAGE_BYTES = 500_000_000


@dataclass(frozen=True)
class Batch:
    """Arrays of some studies, one row each.

    Attributes:
        image: float32 `(n, height, width, 1)`, gray levels 0..255; zeros where there is no image.
        token_ids: int32 `(n, length)`, 0 is padding.
        present: float32 `(n, 2)`: 1 where the study has an image, and where it has words.
        labels: float32 `(n, n_labels)`, NaN where unknown.
    """

    image: np.ndarray
    token_ids: np.ndarray
    present: np.ndarray
    labels: np.ndarray

    def inputs(self):
        """The arrays by the names that every model of kmm takes."""
        return {"image": self.image, "token_ids": self.token_ids, "present": self.present}


@dataclass(frozen=True)
class TextPreparation:
    """Which words of a report the model reads.

    Attributes:
        sections: tuple of section names, in order.
        cleaning: a name in `kmm.text.clean.CLEANING_MODES`.
        deidentified: `"keep"` or `"drop"`: the token that stands for removed names.
        length: int. Words, or word pieces, a report is cut or padded to.
        truncate: `"end"` or `"start"`: where a longer one is cut.
        pieces: bool. Whether the vocabulary is `kmm.text.word_pieces.WordPieces`.
    """

    sections: tuple[str, ...] = ("indication", "impression", "findings")
    cleaning: str = "standard"
    deidentified: str = "keep"
    length: int = 140
    truncate: str = "end"
    pieces: bool = False

    def text(self, study):
        """The text of a study's report that the model reads; empty when there is none."""
        return study.report.text(self.sections) if study.report else ""

    def find(self, text):
        """The words of a report's text with their places in it, as a list of `kmm.text.clean.Word`.

        Raises:
            ReportError: if there are more than any report has.
        """
        words = find_words(text, self.cleaning, self.deidentified)
        if len(words) > MAX_REPORT_WORDS:
            raise ReportError(f"expected a report of at most {MAX_REPORT_WORDS} words. Received: {len(words)}.")
        return words

    def words(self, study):
        """The cleaned words of a study's report, as a list of str.

        Raises:
            ReportError: if there are more than any report has.
        """
        return [word.text for word in self.find(self.text(study))]


def gather_words(studies, text):
    """The words of many reports.

    Args:
        studies: sequence of `Study`.
        text: `TextPreparation`.

    Returns:
        list of lists of str, one a report that has words, and list of `Problem`: reports that cannot be used.

    Example:
        >>> from kmm.data.study import Report
        >>> gather_words([Study("1", "1", report=Report(findings="No mass.")), Study("2", "2")], TextPreparation())
        ([['no', 'mass']], [])
    """
    documents, problems = [], []
    for study in studies:
        try:
            documents.append(text.words(study))
        except ReportError as error:
            problems.append(Problem(f"study {study.id}", str(error)))
    return [words for words in documents if words], problems


class BatchMaker:
    """Turns studies into batches, always in the same way: it travels with the model.

    Args:
        image: `ImagePreparation`, or None for a model without images: no film is opened.
        text: `TextPreparation`, or None for a model without text: no report is read.
        vocabulary: `Vocabulary` of the training reports, or None where there is none yet.
        label_names: tuple of str.
    """

    def __init__(
        self,
        image: ImagePreparation | None,
        text: TextPreparation | None,
        *,
        vocabulary: Vocabulary | None,
        label_names: tuple[str, ...],
    ):
        self.image = image
        self.text = text
        self.vocabulary = vocabulary
        self.label_names = tuple(label_names)

    def pixels(self, study: Study):
        """Reads and prepares the frontal image of a study.

        Returns:
            float32 `(height, width, 1)` and the sha256 of the file, or `(None, "")` where there is no frontal image or
            the model reads none.

        Raises:
            ImageError: if the file cannot be used; it names the file.
        """
        film, digest = self.read_film(study)
        return None if film is None or self.image is None else self.image.apply(film), digest

    def read_film(self, study: Study):
        """Reads the frontal image of a study at its own size.

        Returns:
            float32 `(height, width)`, 0..255, and the sha256 of the file, or `(None, "")` where there is no frontal
            image or the model reads none.

        Raises:
            ImageError: if the file cannot be used; it names the file.
        """
        if study.frontal is None or self.image is None:
            return None, ""
        data = _read_file(study.frontal.path)
        return _decode(data, study.frontal.path), hashlib.sha256(data).hexdigest()

    def film(self, study: Study):
        """The film of `read_film` alone."""
        return self.read_film(study)[0]

    def words(self, study: Study):
        """The words of a study's report that the model reads, as a list of str."""
        return self.text.words(study) if self.text else []

    def token_ids(self, study: Study):
        """int32 `(length,)` ids of a study's report, all padding when there is no report; `(0,)` without text."""
        if self.text is None:
            return np.zeros(0, np.int32)
        if self.vocabulary is None:
            return np.zeros(self.text.length, np.int32)
        return self.vocabulary.encode(self.text.words(study), length=self.text.length, truncate=self.text.truncate)

    def nothing_to_read(self, study=None):
        """The error of a study that holds nothing of what the model reads; it says what its images are held for."""
        sides = [("a frontal image", self.image), ("a report with words", self.text)]
        read = [name for name, side in sides if side]
        why = ""
        if study is not None and self.image and study.images and study.frontal is None:
            those = "its only image is" if len(study.images) == 1 else "its images are all"
            why = f": {those} lateral ({study.images[0].evidence or 'as it was given'})"
        return ReportError(f"expected {' or '.join(read)}. Found {'neither' if len(read) == 2 else 'none'}{why}.")

    def labels(self, study: Study):
        """float32 `(n_labels,)`, NaN where unknown."""
        return np.array([study.labels.get(name, np.nan) for name in self.label_names], np.float32)

    def batch(self, studies):
        """Makes one batch.

        Raises:
            ImageError, ReportError: if a study cannot be used; `batches` sets such studies aside instead.
        """
        studies = list(studies)
        side = self.image.pixels if self.image else 1
        image = np.zeros((len(studies), side, side, 1), np.float32)
        present = np.zeros((len(studies), 2), np.float32)
        token_ids = np.zeros((len(studies), self.text.length if self.text else 0), np.int32)
        for row, study in enumerate(studies):
            pixels, _ = self.pixels(study)
            if pixels is not None:
                image[row], present[row, 0] = pixels, 1
            token_ids[row] = self.token_ids(study)
            present[row, 1] = float(token_ids[row].any())
            if not present[row].any():
                raise self.nothing_to_read(study)
        labels = np.array([self.labels(study) for study in studies], np.float32).reshape(len(studies), -1)
        return Batch(image=image, token_ids=token_ids, present=present, labels=labels)

    def batches(self, studies, size=32, set_aside=None) -> Iterator[tuple[list[Study], Batch]]:
        """Makes batches of any number of studies, one at a time: memory does not grow.

        Args:
            studies: iterable of `Study`.
            size: int. Studies a batch.
            set_aside: callable taking a study and an error. It is told of each study that cannot be used, which is
                then left out. Without it the error is raised.

        Yields:
            the studies of the batch, and the `Batch`.
        """
        waiting, made = [], []
        for study in studies:
            try:
                made.append(self.batch([study]))
                waiting.append(study)
            except (ImageError, ReportError) as error:
                if set_aside is None:
                    raise type(error)(f"study {study.id}: {error}") from None
                set_aside(study, error)
            if len(waiting) == size:
                yield waiting, join_batches(made)
                waiting, made = [], []
        if waiting:
            yield waiting, join_batches(made)

    def as_dict(self):
        """Everything but the vocabulary, as JSON holds it."""
        text = self.text and {**dataclasses.asdict(self.text), "sections": list(self.text.sections)}
        return {"image": self.image and self.image.as_dict(), "text": text, "label_names": list(self.label_names)}

    @classmethod
    def from_dict(cls, values, vocabulary):
        """The inverse of `as_dict`."""
        try:
            image, text = values["image"], values["text"]
            return cls(
                ImagePreparation.from_dict(image) if image is not None else None,
                TextPreparation(**{**text, "sections": tuple(text["sections"])}) if text is not None else None,
                vocabulary=vocabulary,
                label_names=tuple(values["label_names"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"Expected a description of a preparation. Missing or unknown: {error}") from None


def read_film(path):
    """Reads a film at its own size.

    Args:
        path: Path.

    Returns:
        float32 `(height, width)`, 0..255.

    Raises:
        ImageError: if the file cannot be used; it names the file.
    """
    return _decode(_read_file(path), path)


def _read_file(path):
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise ImageError(f"{path}: expected an image file of at most {MAX_IMAGE_BYTES // 1_000_000} MB.")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: expected a readable image file. Received: {error.strerror}") from None


def _decode(data, path):
    film = decode_image(data, str(path))
    require_content(film, str(path))
    return film


def join_batches(batches):
    """One batch from several, rows in order."""
    fields = Batch.__dataclass_fields__
    return Batch(**{name: np.concatenate([getattr(batch, name) for batch in batches]) for name in fields})
