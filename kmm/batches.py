"""Convert studies to arrays; the only module that calls both the image and the text packages."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmm.data.inputs import MAX_REPORT_WORDS
from kmm.data.study import ImageFile, Problem, Study
from kmm.errors import ImageError, InputError, ReportError, check_path
from kmm.image.decoding import decode_ahead
from kmm.image.film_identity import digest_film
from kmm.image.prepare import ImagePreparation, PreparedFilm
from kmm.image.read import require_content
from kmm.image.source import digest_source, load_film, read_source
from kmm.progress import Progress
from kmm.text.clean import Word, compose, find_words
from kmm.text.redaction import Redaction
from kmm.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Batch:
    """Arrays of some studies, one row per study.

    Attributes:
        image: float32 `(n, height, width, 1)`, gray levels 0..255; zeros where the study has no image.
        token_ids: int32 `(n, length)`, 0 is padding.
        present: float32 `(n, 2)`: 1 where the study has an image, and where it has words.
        labels: float32 `(n, n_labels)`, NaN where unknown.
        film_sizes: int32 `(n, 2)`, height and width of the film before its preparation; 0 where there is none.
    """

    image: np.ndarray
    token_ids: np.ndarray
    present: np.ndarray
    labels: np.ndarray
    film_sizes: np.ndarray

    def inputs(self) -> dict[str, np.ndarray]:
        """Returns the model's inputs by name: image, token_ids and present."""
        return {"image": self.image, "token_ids": self.token_ids, "present": self.present}


@dataclass(frozen=True)
class TextPreparation:
    """Settings that select the words of a report that the model reads.

    Attributes:
        sections: tuple of section names, in order.
        cleaning: a name in `kmm.text.clean.CLEANING_MODES`.
        deidentified: `"keep"` or `"drop"`: whether the token that replaces removed names is kept.
        length: int. Words, or word pieces, to which a report is cut or padded.
        truncate: `"end"` or `"start"`: which end of a longer report is cut.
        pieces: bool. Whether the vocabulary is `kmm.text.word_pieces.WordPieces`.
        redaction: `kmm.text.redaction.Redaction` that is applied before the cleaning; None removes nothing.
    """

    sections: tuple[str, ...] = ("indication", "impression", "findings")
    cleaning: str = "standard"
    deidentified: str = "keep"
    length: int = 140
    truncate: str = "end"
    pieces: bool = False
    redaction: Redaction | None = None

    def text(self, study: Study) -> str:
        """Returns the text of the sections that the model reads, before the redaction; empty without a report."""
        return study.report.text(self.sections) if study.report else ""

    def redacted_text(self, study: Study) -> str:
        """Returns the text that the model reads, after the redaction, composed, with spaces for what was removed."""
        text = self.text(study)
        return text if self.redaction is None else self.redaction.blank(compose(text))

    def find(self, text: str) -> list[Word]:
        """Finds the words of a text with their positions in it.

        Raises:
            ReportError: if there are more than `kmm.data.inputs.MAX_REPORT_WORDS`.
        """
        words = find_words(text, self.cleaning, self.deidentified, self.redaction)
        if len(words) > MAX_REPORT_WORDS:
            raise ReportError(f"expected a report of at most {MAX_REPORT_WORDS} words. Received: {len(words)}.")
        return words

    def find_redacted(self, text: str) -> list[tuple[int, int]]:
        """Finds what the redaction removes from a text: `[(start, end), ...]` in order."""
        return self.redaction.find(text) if self.redaction else []

    def words(self, study: Study) -> list[str]:
        """Returns the cleaned words of a study's report.

        Raises:
            ReportError: if there are more than `kmm.data.inputs.MAX_REPORT_WORDS`.
        """
        return [word.text for word in self.find(self.text(study))]

    def as_dict(self) -> dict[str, Any]:
        """Returns the settings as a JSON-compatible dict; `redact`, the entries, only if there is a redaction."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        redaction = fields.pop("redaction")
        return {**fields, "sections": list(self.sections), **({"redact": list(redaction.entries)} if redaction else {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TextPreparation":
        """Makes the settings from the dict of `as_dict`.

        Raises:
            KeyError, TypeError: if a value is missing or unknown.
            InputError: if an entry of the redaction cannot be used.
        """
        rest = {name: value for name, value in values.items() if name != "redact"}
        redaction = Redaction(tuple(values["redact"])) if "redact" in values else None
        return cls(**{**rest, "sections": tuple(values["sections"])}, redaction=redaction)


def gather_words(studies: Iterable[Study], text: TextPreparation) -> tuple[list[list[str]], list[Problem]]:
    """Collects the words of many reports.

    Args:
        studies: iterable of `Study`.
        text: `TextPreparation`.

    Returns:
        list of lists of str, one per report that has words; and list of `Problem`: reports that cannot be used.

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
    """Prepares studies for a model: reads, cleans and batches them. It is saved with the model.

    Args:
        image: `ImagePreparation`; None for a model without images, then no film is opened.
        text: `TextPreparation`; None for a model without text, then no report is read.
        vocabulary: `Vocabulary` of the training reports; None before it is made.
        label_names: tuple of str.
    """

    def __init__(
        self,
        image: ImagePreparation | None,
        text: TextPreparation | None,
        *,
        vocabulary: Vocabulary | None,
        label_names: tuple[str, ...],
    ) -> None:
        self.image = image
        self.text = text
        self.vocabulary = vocabulary
        self.label_names = tuple(label_names)

    def pixels(self, study: Study) -> tuple[np.ndarray | None, str]:
        """Reads and prepares the frontal image of a study.

        Returns:
            float32 `(height, width, 1)` and the SHA-256 of its content; `(None, "")` if the study has no frontal image
            or the model reads no images.

        Raises:
            ImageError: if the file cannot be used; it names the file.
        """
        film, digest = self.read_film(study)
        return None if film is None or self.image is None else self.image.apply(film), digest

    def read_film(self, study: Study) -> tuple[np.ndarray | None, str]:
        """Reads the frontal image of a study at its own size.

        Returns:
            float32 `(height, width)`, 0..255, and the SHA-256 of its content; `(None, "")` if the study has no frontal
            image or the model reads no images.

        Raises:
            ImageError: if the file cannot be used; it names the file.
        """
        if study.frontal is None or self.image is None:
            return None, ""
        film, digest = load_film(study.frontal)
        return require_content(film, str(study.frontal.path)), digest

    def film_digest(self, study: Study) -> str:
        """Returns the digest of `read_film` without decoding the film; raises `ImageError` as it does."""
        if study.frontal is None or self.image is None:
            return ""
        try:
            return digest_source(study.frontal)
        except OSError as error:
            path = study.frontal.path
            raise ImageError(f"{path}: expected a readable image file. Received: {error.strerror}") from None

    def film(self, study: Study) -> np.ndarray | None:
        """Returns the film of `read_film` without its digest."""
        return self.read_film(study)[0]

    def film_bytes(self, study: Study) -> int:
        """Returns the size of the film file that `read_film` decodes; 0 if it decodes none or the file is missing."""
        return 0 if self.image is None else _film_bytes(study)

    def words(self, study: Study) -> list[str]:
        """Returns the words of a study's report that the model reads."""
        return self.text.words(study) if self.text else []

    def token_ids(self, study: Study) -> np.ndarray:
        """Encodes a study's report.

        Returns:
            int32 `(length,)`, all padding if the study has no report; `(0,)` if the model reads no text.
        """
        if self.text is None:
            return np.zeros(0, np.int32)
        if self.vocabulary is None:
            return np.zeros(self.text.length, np.int32)
        return self.vocabulary.encode(self.text.words(study), length=self.text.length, truncate=self.text.truncate)

    def nothing_to_read(self, study: Study | None = None) -> ReportError:
        """Makes the error for a study without anything that the model reads.

        If the study has lateral images only, the message says so, with the evidence for their view; and if a redaction
        removes all words of its report.
        """
        sides = [("a frontal image", self.image), ("a report with words", self.text)]
        read = [name for name, side in sides if side]
        why = ""
        if study is not None and self.image and study.images and study.frontal is None:
            those = "its only image is" if len(study.images) == 1 else "its images are all"
            why = f": {those} lateral ({study.images[0].evidence or 'as given'})"
        if study is not None and self.text and self.text.find_redacted(self.text.text(study)):
            why += "; " if why else ": "
            why += "the redaction removes all words of its report"
        return ReportError(f"expected {' or '.join(read)}. Found {'neither' if len(read) == 2 else 'none'}{why}.")

    def labels(self, study: Study) -> np.ndarray:
        """Returns the labels of a study: float32 `(n_labels,)`, NaN where unknown."""
        return np.array([study.labels.get(name, np.nan) for name in self.label_names], np.float32)

    def batch(self, studies: Iterable[Study], films: Sequence[PreparedFilm | None] | None = None) -> Batch:
        """Makes one batch.

        Args:
            studies: iterable of `Study`.
            films: sequence of the `PreparedFilm` of each study, None for a study without one; or None to read them.

        Raises:
            ImageError, ReportError: if a study cannot be used; `batches` can set such studies aside instead.
        """
        studies = list(studies)
        side = self.image.pixels if self.image else 1
        image = np.zeros((len(studies), side, side, 1), np.float32)
        present = np.zeros((len(studies), 2), np.float32)
        token_ids = np.zeros((len(studies), self.text.length if self.text else 0), np.int32)
        film_sizes = np.zeros((len(studies), 2), np.int32)
        for row, study in enumerate(studies):
            film = self._prepare_film(study) if films is None else films[row]
            if film is not None:
                image[row], present[row, 0], film_sizes[row] = film.pixels, 1, film.size
            token_ids[row] = self.token_ids(study)
            present[row, 1] = float(token_ids[row].any())
            if not present[row].any():
                raise self.nothing_to_read(study)
        labels = np.array([self.labels(study) for study in studies], np.float32)
        labels = labels.reshape(len(studies), len(self.label_names))
        return Batch(image=image, token_ids=token_ids, present=present, labels=labels, film_sizes=film_sizes)

    def batches(
        self,
        studies: Iterable[Study],
        size: int = 32,
        set_aside: Callable[[Study, InputError], object] | None = None,
    ) -> Generator[tuple[list[Study], Batch], None, None]:
        """Makes batches one at a time, so that memory does not grow with the number of studies.

        Large films of the next batch are decoded in threads meanwhile, see `kmm.image.decoding.decode_ahead`.

        Args:
            studies: iterable of `Study`.
            size: int. Studies per batch.
            set_aside: callable that takes a study and an error. It is called with each study that cannot be used, which
                is then left out; if None, the error is raised.

        Yields:
            the studies of the batch, and the `Batch`.
        """
        waiting: list[Study] = []
        made: list[Batch] = []
        prepared = decode_ahead(self.try_batch, studies, size=self.film_bytes, ahead=size)
        with contextlib.closing(prepared):
            for study, result in prepared:
                if isinstance(result, Batch):
                    made.append(result)
                    waiting.append(study)
                elif set_aside is None:
                    raise type(result)(f"study {study.id}: {result}") from None
                else:
                    set_aside(study, result)
                if len(waiting) == size:
                    full, batch = waiting, join_batches(made)
                    waiting, made = [], []
                    yield full, batch
        if waiting:
            yield waiting, join_batches(made)

    def _prepare_film(self, study):
        film = self.film(study)
        return None if film is None or self.image is None else PreparedFilm(self.image.apply(film), film.shape)

    def try_batch(self, study: Study, films: Sequence[PreparedFilm | None] | None = None) -> Batch | InputError:
        """Makes a batch of one study; returns the error of `batch` if the study cannot be used."""
        try:
            return self.batch([study], films)
        except (ImageError, ReportError) as error:
            return error

    def as_dict(self) -> dict[str, Any]:
        """Returns everything except the vocabulary as a JSON-compatible dict."""
        text = self.text and self.text.as_dict()
        return {"image": self.image and self.image.as_dict(), "text": text, "label_names": list(self.label_names)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], vocabulary: Vocabulary | None) -> "BatchMaker":
        """Makes a `BatchMaker` from the dict of `as_dict` and a vocabulary.

        Raises:
            InputError: if a value is missing or unknown.
        """
        try:
            image, text = values["image"], values["text"]
            return cls(
                ImagePreparation.from_dict(image) if image is not None else None,
                TextPreparation.from_dict(text) if text is not None else None,
                vocabulary=vocabulary,
                label_names=tuple(values["label_names"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"The saved preparation cannot be read. Missing or unknown: {error}") from None


def read_film(path: Path | str) -> np.ndarray:
    """Reads one film file at its own size, as every command of kmm reads it.

    `kmm.read_film` is this function. Code outside kmm should only rely on the result being something that `np.asarray`
    turns into the gray levels.

    Args:
        path: Path or str of a PNG, JPEG, TIFF, BMP or DICOM film, recognised by its content.

    Returns:
        float32 array `(height, width)`, 0 = black .. 255 = white. Other depths are scaled to this range, and a DICOM
        film whose pixels are not square is resampled to square ones.

    Raises:
        ImageError: if the file is missing, larger than 500 MB, damaged, not a single image, or all of one gray level;
            it names the file.
        InputError: if `path` is no path, as for a film in memory.

    Example:
        >>> import PIL.Image, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "film.png")
        ...     PIL.Image.linear_gradient("L").save(path)
        ...     film = np.asarray(read_film(path))
        >>> film.shape, film.dtype.name, float(film.min()), float(film.max())
        ((256, 256), 'float32', 0.0, 255.0)
    """
    check_path("path", path)
    film, _ = load_film(ImageFile(Path(path)))
    return require_content(film, str(path))


def join_batches(batches: Sequence[Batch]) -> Batch:
    """Joins batches into one, rows in order."""
    fields = Batch.__dataclass_fields__
    return Batch(**{name: np.concatenate([getattr(batch, name) for batch in batches]) for name in fields})


def identify_films(studies: Sequence[Study], *, progress: Progress | None = None) -> tuple[list[Study], list[Problem]]:
    """Reads the frontal film of each study and adds its identity, so that a split can keep copies together.

    Args:
        studies: sequence of `Study`.
        progress: `kmm.progress.Progress`.

    Returns:
        list of `Study` in the same order, with the `pixel_digest` of their frontal films; and list of `Problem`: films
        that cannot be read, which get no identity. A study without a frontal film is returned unchanged.

    Example:
        >>> from kmm.data.study import Study
        >>> identify_films([Study("1", "1")])
        ([Study('1', images=0, report=None)], [])
    """

    def identify(study: Study) -> Study | ImageError:
        if study.frontal is None:
            return study
        try:
            return study.with_pixel_digest(digest_film(read_source(study.frontal)))
        except ImageError as error:
            return error

    films = sum(study.frontal is not None for study in studies)
    if not films:
        return list(studies), []
    found: list[Study] = []
    problems: list[Problem] = []
    with (progress or Progress()).step("Reading films", films) as advance:
        for study, result in decode_ahead(identify, studies, size=_film_bytes):
            if isinstance(result, ImageError):
                problems.append(Problem(f"study {study.id}", f"not compared with other films: {result}"))
                result = study
            found.append(result)
            advance(study.frontal is not None)
    return found, problems


def _film_bytes(study):
    if study.frontal is None:
        return 0
    try:
        return study.frontal.path.stat().st_size
    except OSError:  # whoever reads the film says what is wrong with it
        return 0
