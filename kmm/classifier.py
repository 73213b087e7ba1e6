"""Classifier: models, preparation and calibration in one object; saving it to a folder and loading it."""

import contextlib
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

import kmm
import kmm.models.build  # registers kmm's own layers with Keras
import kmm.models.curve_metrics  # and the metrics of learning curves, which saved models name
import kmm.models.loss  # and the loss, which saved models name
from kmm.batches import Batch, BatchMaker, join_batches
from kmm.data.modalities import as_mapping, as_table, choose_rows
from kmm.data.study import Problem, Study
from kmm.errors import ArtefactError, InputError, KmmError
from kmm.image.decoding import decode_ahead
from kmm.models.description import ImageDescription, TextDescription
from kmm.models.encoder_table import EncoderTable
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.linear_probe import IMAGE_LINEAR, LinearBaselines
from kmm.models.views.probe_view import view_probe
from kmm.models.views.projection import Projection
from kmm.models.views.shared_encoders import SharedEncoders, predict_batch
from kmm.progress import Progress
from kmm.protocol.predictions import Prediction
from kmm.settings import FitSettings
from kmm.storage.archive import check_members, open_classifier
from kmm.storage.classifier_folder import not_as_expected, read_description, read_json, write_classifier_folder
from kmm.storage.files import write_json
from kmm.storage.known_answers import compute_answers
from kmm.storage.results import drop_schema, write_with_schema
from kmm.storage.seen_studies import SEEN_PARTS, SeenStudies, load_seen
from kmm.text.tfidf import TfidfBaseline
from kmm.text.vocabulary import Vocabulary
from kmm.text.word_pieces import WordPieces

DESCRIPTIONS: dict[str, Any] = {"image_encoder": ImageDescription, "text_encoder": TextDescription}
TABLES: dict[str, EncoderTable[Any]] = {"image_encoder": IMAGE_ENCODERS, "text_encoder": TEXT_ENCODERS}
MAIN_ORDER = ("joint", "image", "text")
ARRAYS = ("conformal", "mean_image")  # each a file, if the classifier has it
TEXT_BASELINES = ("tfidf", "tfidf_before")  # attributes of a classifier, and names of their files
LINEAR, PROJECTION = "linear.npz", "projection.npz"  # files of `linear` and `projection`
BEFORE = {
    "min_word_patients": 1,
    "head": "decoder",
    "text_teacher": 0.0,
    "batch_norm": "train",
}  # values for classifiers saved before these settings existed


def probabilities(logits: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Calibrates logits to probabilities: `sigmoid(logit / temperature)`.

    Args:
        logits: float array `(n, n_labels)`.
        temperatures: float array `(n_labels,)` or `(n, n_labels)`, above 0.

    Returns:
        float64 array `(n, n_labels)` in [0, 1].

    Example:
        >>> probabilities(np.array([[0.0, 2.0]]), np.array([1.0, 2.0])).round(4).tolist()
        [[0.5, 0.7311]]

    Source: https://arxiv.org/abs/1706.04599
    """
    scaled = np.asarray(logits, np.float64) / np.asarray(temperatures, np.float64)
    return 0.5 * (1 + np.tanh(0.5 * scaled))


@dataclass(frozen=True)
class StudyLogits:
    """Logits of several studies by part, with what the studies had; `list_predictions` makes a `Prediction` of each.

    Attributes:
        studies: list of `Study` in the order of the rows.
        present: float32 `(n, 2)`: 1 where the study had an image, and where it had text.
        logits: dict of part (`"joint"`, `"image"`, `"text"`) to float32 `(n, n_labels)`.
        labels: float32 `(n, n_labels)`, NaN where unknown.
        problems: list of `Problem`: studies that could not be used.
    """

    studies: list[Study]
    present: np.ndarray
    logits: dict[str, np.ndarray]
    labels: np.ndarray
    problems: list[Problem]


class BatchPredictor:
    """Predicts studies that arrive one at a time. It runs the models whenever a batch is full, and keeps no films.

    Args:
        run: function from the inputs of a batch to a dict of part to logits `(n, n_labels)`.
        parts: names of the parts that `run` computes.
        label_count: int.
        batch_size: int. Studies per batch.
        strict: bool. Raise at the first unusable study, instead of setting it aside.
    """

    def __init__(
        self,
        run: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]],
        parts: Iterable[str],
        *,
        label_count: int,
        batch_size: int = 32,
        strict: bool = False,
    ) -> None:
        self._run, self._label_count, self._batch_size, self._strict = run, label_count, batch_size, strict
        self._count = 0
        self._waiting: list[Batch] = []
        self._studies: list[Study] = []
        self._problems: list[Problem] = []
        self._present, self._labels = [np.zeros((0, 2), np.float32)], [np.zeros((0, label_count), np.float32)]
        self._logits: dict[str, list[np.ndarray]] = {part: [] for part in parts}

    def renew(self) -> "BatchPredictor":
        """Returns a predictor of the same models for other studies, without comparing their weights again."""
        size, strict = self._batch_size, self._strict
        return BatchPredictor(self._run, self._logits, label_count=self._label_count, batch_size=size, strict=strict)

    def add(self, study: Study, made: Batch | InputError) -> None:
        """Adds a study.

        Args:
            study: `Study`.
            made: the `Batch` of this study alone, or the error because of which it cannot be used; see
                `kmm.batches.BatchMaker.try_batch`.

        Raises:
            InputError: of the type of the error, if the prediction is strict.
        """
        self._count += 1
        if isinstance(made, Batch):
            self._studies.append(study)
            self._waiting.append(made)
            if len(self._waiting) == self._batch_size:
                self._run_batch()
        elif self._strict:
            raise type(made)(f"study {study.id}: {made}")
        else:
            self._problems.append(Problem(f"study {study.id}", str(made)))

    def finish(self) -> StudyLogits:
        """Runs the models on the studies that still wait for a full batch; returns the `StudyLogits` of all."""
        if self._waiting:
            self._run_batch()
        none = np.zeros((0, self._label_count))
        return StudyLogits(
            studies=self._studies,
            present=np.concatenate(self._present),
            logits={part: np.concatenate(rows) if rows else none for part, rows in self._logits.items()},
            labels=np.concatenate(self._labels),
            problems=self._problems,
        )

    def _run_batch(self):
        batch, self._waiting = join_batches(self._waiting), []
        self._present.append(batch.present)
        self._labels.append(batch.labels)
        padded = pad_rows(batch.inputs(), choose_size(self._count, self._batch_size))
        for part, rows in self._run(padded).items():
            self._logits[part].append(rows[: len(batch.present)])


@dataclass
class Classifier:
    """Models with everything else that a prediction needs.

    Attributes:
        models: dict of part to `keras.Model` that returns logits. `"joint"` reads image and text; `"image"` and
            `"text"` are the single-modality classifiers from which the joint one started.
        batches: `BatchMaker`: the preparation of image and text.
        settings: `FitSettings` of the fit.
        temperatures, thresholds: dict of part to float64 `(3, n_labels)`, chosen on validation: a row for each of
            `kmm.data.modalities.PATTERNS`. An array `(n_labels,)` applies to every pattern.
        prevalence: float64 `(3, n_labels)`, or `(n_labels,)`: fraction of positives in training.
        conformal: int32 `(3, n_labels, 2, bins)`: counts of validation studies by pattern, label, class and probability
            of the main part, from which `kmm.evaluate.decisions.abstention` makes prediction sets; None if it was saved
            without.
        mean_image: float32 `(h, w, 1)`, the mean of the prepared training films; None for a model without images.
        tfidf: `TfidfBaseline` trained on the same reports; None for a model without text.
        tfidf_before: `TfidfBaseline` trained on the same reports before their redaction; None without a redaction.
        linear: `LinearBaselines` of the films; None for a model without films, and in classifiers saved before.
        provenance: dict of versions, digests, layout and counts of the training data.
        metrics: dict of `"validation"` and `"test"` to results.
        seen: dict of `"train"` and `"validation"` to `kmm.storage.seen_studies.SeenStudies`.
        image_encoder, text_encoder: `ImageDescription` and `TextDescription` of the encoders that the models have; None
            for a side that they do not read. Left out, they are those of the table entries that the settings name.
        projection: `Projection` of the vectors of the joint model into one space; None for a model that was trained
            without contrastive terms.
    """

    models: dict[str, keras.Model]
    batches: BatchMaker
    settings: FitSettings
    temperatures: dict[str, np.ndarray]
    thresholds: dict[str, np.ndarray]
    prevalence: np.ndarray
    conformal: np.ndarray | None = None
    mean_image: np.ndarray | None = None
    tfidf: TfidfBaseline | None = None
    tfidf_before: TfidfBaseline | None = None
    linear: LinearBaselines | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, SeenStudies] = field(default_factory=dict)
    image_encoder: ImageDescription | None = None
    text_encoder: TextDescription | None = None
    projection: Projection | None = None

    def __post_init__(self) -> None:
        self._shared = SharedEncoders()
        self._probed: tuple[Any, Any, keras.Model] | None = None  # a model, a probe, and the view of both
        for side, read in (("image_encoder", self.batches.image), ("text_encoder", self.batches.text)):
            if read and getattr(self, side) is None:
                setattr(self, side, _describe_entry(side, getattr(self.settings, side)))
        for name in ("temperatures", "thresholds"):
            setattr(self, name, {part: as_table(rows, name) for part, rows in getattr(self, name).items()})
        self.prevalence = as_table(self.prevalence, "prevalence")

    def __getstate__(self) -> dict[str, Any]:
        """Leaves traced functions out of copies; they are traced again when they are needed."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, _shared=SharedEncoders(), _probed=None)

    @property
    def main(self) -> str:
        """The name of the part whose predictions count: `"joint"`, or the only part of the classifier."""
        return next(part for part in MAIN_ORDER if part in self.models)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the columns."""
        return self.batches.label_names

    def predict(
        self,
        studies: Sequence[Study],
        *,
        parts: Iterable[str] | None = None,
        batch_size: int = 32,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> StudyLogits:
        """Predicts studies with an image, a report, or both. Films are read batch by batch.

        An encoder that several parts share, because training did not change it, runs once for all of them.

        Args:
            studies: sequence of `Study`.
            parts: names of the parts to run, or `kmm.models.linear_probe.IMAGE_LINEAR`; the main one if None.
            batch_size: int. Studies per batch.
            strict: bool. Raise at the first unusable study, instead of setting it aside.
            progress: `kmm.progress.Progress`.

        Returns:
            `StudyLogits`.

        Raises:
            ImageError, ReportError: with `strict`, if a study cannot be used.
        """
        predictor = self.start_prediction(parts=parts, batch_size=batch_size, strict=strict)
        stream = decode_ahead(self.batches.try_batch, studies, size=self.batches.film_bytes, ahead=batch_size)
        with (progress or Progress()).step("Predicting", len(studies)) as advance, contextlib.closing(stream):
            for study, made in stream:
                predictor.add(study, made)
                advance()
        return predictor.finish()

    def start_prediction(
        self, *, parts: Iterable[str] | None = None, batch_size: int = 32, strict: bool = False
    ) -> "BatchPredictor":
        """Returns a `BatchPredictor` for studies that are prepared one at a time; arguments are those of `predict`."""
        chosen = [self.main] if parts is None else list(parts)
        run = self._shared.prepare({part: self._find_model(part) for part in chosen})
        return BatchPredictor(run, chosen, label_count=len(self.label_names), batch_size=batch_size, strict=strict)

    def _find_model(self, part):
        """Returns the model of a part; of the linear probe a view of the image model, which is made and traced once."""
        if part != IMAGE_LINEAR or self.linear is None:
            return self.models[part]
        model, probe = self.models["image"], self.linear.probe
        if self._probed is None or self._probed[0] is not model or self._probed[1] is not probe:
            self._probed = model, probe, view_probe(model, probe)
        return self._probed[2]

    def probabilities(self, logits: np.ndarray, present: np.ndarray, part: str | None = None) -> np.ndarray:
        """Calibrates the logits of a part.

        Args:
            logits: float array `(n, n_labels)`.
            present: array `(n, 2)`: whether each study had a film, and whether it had a report.
            part: name of the part; the main one if None.

        Returns:
            float64 array `(n, n_labels)` in [0, 1].
        """
        return probabilities(logits, choose_rows(self.temperatures[part or self.main], present))

    def thresholds_for(self, present: np.ndarray, part: str | None = None) -> np.ndarray:
        """Chooses the thresholds by which of film and report each study has.

        Args:
            present, part: as in `probabilities`.

        Returns:
            float64 array `(n, n_labels)` in [0, 1].
        """
        return choose_rows(self.thresholds[part or self.main], present)

    def save(
        self, folder: Path | str, *, overwrite: bool = False, extra: Callable[[Path], object] | None = None
    ) -> None:
        """Writes the classifier into a new folder, completely or not at all.

        Args:
            folder: path of the folder to make.
            overwrite: bool. Replace an existing saved classifier.
            extra: callable that writes more files (split, card, plots) into the folder that it is given.

        Raises:
            InputError: if the folder exists and `overwrite` is false, or it exists and is not a saved classifier.
        """

        def write(place: Path) -> None:
            self._write(place)
            if extra:
                extra(place)

        write_classifier_folder(folder, write, self._describe(), overwrite=overwrite)

    def _write(self, folder):
        for part, model in self.models.items():
            model.save(folder / f"{part}.keras")
        if self.batches.vocabulary is not None:
            self.batches.vocabulary.save(folder / "vocabulary.txt")
        for name in TEXT_BASELINES:
            if (baseline := getattr(self, name)) is not None:
                baseline.save(folder / f"{name}.npz")
        if self.linear is not None:
            self.linear.save(folder / LINEAR)
        if self.projection is not None:
            self.projection.save(folder / PROJECTION)
        for name in ARRAYS:
            if (array := getattr(self, name)) is not None:
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
        for part, seen in self.seen.items():
            seen.save(folder, part)
        write_json(folder / "settings.json", self.settings.as_dict())
        write_with_schema(folder / "metrics.json", self.metrics)

    def _describe(self):
        numbers = {"temperatures": self.temperatures, "thresholds": self.thresholds}
        return {
            "kmm": kmm.__version__,
            "parts": list(self.models),
            "preparation": self.batches.as_dict(),
            "encoders": {side: found.describe() for side in DESCRIPTIONS if (found := getattr(self, side)) is not None},
            **{name: {part: as_mapping(table) for part, table in rows.items()} for name, rows in numbers.items()},
            "prevalence": as_mapping(self.prevalence),
            "provenance": self.provenance,
            "known_answers": compute_answers(self),
        }

    @classmethod
    def load(cls, folder: Path | str, *, main_only: bool = False) -> "Classifier":
        """Reads a classifier; its description and every file are checked against their digests first.

        Args:
            folder: path of a folder that `save` wrote, or of an archive that `kmm model pack` wrote.
            main_only: bool. Leave out the parts that only comparisons need.

        Raises:
            ArtefactError: if a file is missing, altered or of another format.
        """
        with open_classifier(folder) as place:
            try:
                return cls._read(place, read_description(place), main_only)
            except KmmError:
                raise
            except (
                KeyError,
                TypeError,
                AttributeError,
                ValueError,
                zipfile.BadZipFile,
            ) as error:  # of the files' content
                raise not_as_expected(place, error) from None

    @classmethod
    def _read(cls, folder, description, main_only):
        parts = [part for part in MAIN_ORDER if part in description["parts"]]
        parts = parts[:1] if main_only else parts
        batches = BatchMaker.from_dict(description["preparation"], None)
        if "vocabulary.txt" in description["files"]:
            kind = WordPieces if batches.text.pieces else Vocabulary
            batches.vocabulary = kind.load(folder / "vocabulary.txt")
        settings = FitSettings.from_dict({**BEFORE, **read_json(folder / "settings.json")})
        encoders = description.get("encoders", {})  # earlier versions wrote none
        provenance = dict(description["provenance"])
        by_part = provenance.pop("studies_by_part", None)  # format 1
        return cls(
            models=_load_models(folder, parts, settings),
            batches=batches,
            settings=settings,
            temperatures=description["temperatures"],
            thresholds=description["thresholds"],
            prevalence=description["prevalence"],
            **{
                name: TfidfBaseline.load(folder / f"{name}.npz")
                for name in TEXT_BASELINES
                if f"{name}.npz" in description["files"]
            },
            linear=LinearBaselines.load(folder / LINEAR) if LINEAR in description["files"] else None,
            projection=Projection.load(folder / PROJECTION) if PROJECTION in description["files"] else None,
            provenance=provenance,
            metrics=drop_schema(read_json(folder / "metrics.json")),
            seen=load_seen(folder, description["files"])
            if by_part is None
            else {part: SeenStudies.from_format_1(by_part, part) for part in SEEN_PARTS},
            **{name: _load_array(folder / f"{name}.npy") for name in ARRAYS if f"{name}.npy" in description["files"]},
            **{side: kind.from_dict(encoders[side]) for side, kind in DESCRIPTIONS.items() if side in encoders},
        )


def _load_array(path):
    """Loads an array; mapping it first compares the size that its header declares with that of the file."""
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))


def _describe_entry(side, name):
    """Returns the description of an entry in a table of encoders; None if the table lacks it."""
    table = TABLES[side]
    return DESCRIPTIONS[side].from_dict(table[name].describe()) if name in table else None


def _load_models(folder, parts, settings):
    """Loads parts as `keras.Model`s. Packages that offer their encoders are imported first, for layers of their own."""
    for side, table in TABLES.items():
        if name := getattr(settings, side):
            table.load_offer(name)
    return {part: _load_model(folder / f"{part}.keras") for part in parts}


def _load_model(path):
    """Loads a part as a `keras.Model`. Its file is an archive, checked first because it may come from anyone."""
    with zipfile.ZipFile(path) as archive:
        check_members(path, archive)
    try:
        return keras.models.load_model(path, compile=False)
    except TypeError as error:
        if (found := re.search(r"Could not locate (?:class|function) '(\w{1,100})'", str(error))) is None:
            raise
        raise ArtefactError(
            f"{path} has a layer of the class {found[1]}, which is not registered with Keras. Import the module that "
            "defines it, or install the package that offers its encoder, before the classifier is loaded."
        ) from None


def run_model(model: keras.Model, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Computes the logits, float32 `(n, n_labels)`, of a model that takes some or all of the inputs."""
    return np.asarray(predict_batch(model, inputs), np.float32)


def list_predictions(classifier: Classifier, predictions: StudyLogits) -> list[Prediction]:
    """Makes a `Prediction` of the main part for each study.

    Args:
        classifier: `Classifier` that made the predictions.
        predictions: `StudyLogits` with the logits of its main part.

    Returns:
        list of `kmm.protocol.predictions.Prediction`, the type that a client of a served classifier returns too;
        without `model` and `version`.
    """
    logits = predictions.logits[classifier.main]
    scores = classifier.probabilities(logits, predictions.present)
    thresholds = classifier.thresholds_for(predictions.present)

    def by_label(row: np.ndarray) -> dict[str, Any]:
        return dict(zip(classifier.label_names, row.tolist(), strict=True))

    return [
        Prediction(
            probabilities=by_label(scores[row]),
            logits=by_label(logits[row]),
            thresholds=by_label(thresholds[row]),
            decisions=by_label(scores[row] >= thresholds[row]),
        )
        for row in range(len(predictions.studies))
    ]


def describe_predictions(
    classifier: Classifier, predictions: StudyLogits, found: Sequence[Prediction] | None = None
) -> list[dict[str, Any]]:
    """Makes a JSON-compatible row of each study's prediction by the main part.

    Args:
        classifier, predictions: as in `list_predictions`.
        found: sequence of `Prediction` of the studies, if it is not that of `list_predictions`.

    Returns:
        list of dict: `study`, `image` (path or None), `image_present`, `text_present`, and the fields of
        `kmm.protocol.predictions.Prediction`. `kmm call predict` writes the same keys.
    """
    found = list_predictions(classifier, predictions) if found is None else found
    rows = zip(predictions.studies, predictions.present, found, strict=True)
    return [
        {
            "study": study.id,
            "image": str(study.frontal.path) if study.frontal else None,
            "image_present": bool(present[0]),
            "text_present": bool(present[1]),
            **prediction.as_dict(),
        }
        for study, present, prediction in rows
    ]


def pad_rows(arrays: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Repeats the last row until each array has `size` rows, so that a model is traced for one size only.

    Example:
        >>> pad_rows({"a": np.array([1, 2])}, 4)["a"].tolist()
        [1, 2, 2, 2]
    """
    return {
        name: np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
        for name, array in arrays.items()
    }


def choose_size(studies: int, batch_size: int) -> int:
    """Chooses the number of rows of every batch: `batch_size`, or the next power of two for fewer studies.

    Few sizes mean that a model is compiled only a few times, however many studies it is called with.

    Example:
        >>> [choose_size(studies, 32) for studies in (0, 1, 3, 20, 32, 500)]
        [1, 1, 4, 32, 32, 32]
    """
    return min(batch_size, 1 << max(0, studies - 1).bit_length())
