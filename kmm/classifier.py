"""A classifier: everything that a prediction needs, in one object and in one folder."""

import zipfile
from dataclasses import dataclass, field

import keras
import numpy as np

import kmm
import kmm.models.build  # registers kmm's own layers with Keras
import kmm.models.loss  # and the loss, which saved models name
from kmm.batches import BatchMaker
from kmm.data.modalities import as_mapping, as_table, choose_rows
from kmm.data.study import Problem
from kmm.errors import KmmError
from kmm.settings import FitSettings
from kmm.storage.archive import check_members, open_classifier
from kmm.storage.classifier_folder import not_as_expected, read_description, read_json, write_classifier_folder
from kmm.storage.files import write_json
from kmm.storage.known_answers import compute_answers
from kmm.storage.seen_studies import SEEN_PARTS, SeenStudies, load_seen
from kmm.text.tfidf import TfidfBaseline
from kmm.text.vocabulary import Vocabulary
from kmm.text.word_pieces import WordPieces

MAIN_ORDER = ("joint", "image", "text")
BEFORE = {"min_word_patients": 1}  # of classifiers that were saved before there was such a setting


def probabilities(logits, temperatures):
    """Logits to calibrated probabilities: `sigmoid(logit / temperature)`.

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
class Predictions:
    """What a classifier says of some studies.

    Attributes:
        studies: list of `Study` in the order of the rows.
        present: float32 `(n, 2)`: whether the image and the text were there.
        logits: dict of part (`"joint"`, `"image"`, `"text"`) to float32 `(n, n_labels)`.
        labels: float32 `(n, n_labels)`, NaN where unknown.
        problems: list of `Problem`: studies that could not be used.
    """

    studies: list
    present: np.ndarray
    logits: dict
    labels: np.ndarray
    problems: list


@dataclass
class Classifier:
    """Everything that a prediction needs.

    Attributes:
        models: dict of part to `keras.Model` that gives logits. `"joint"` reads image and text; `"image"` and `"text"`
            are the classifiers that were trained apart and that the joint one started from.
        batches: `BatchMaker`: the preparation of image and text.
        settings: `FitSettings` of the fit.
        temperatures, thresholds: dict of part to float64 `(3, n_labels)`, chosen on validation: a row for each of
            `kmm.data.modalities.PATTERNS`. An array `(n_labels,)` holds for every pattern.
        prevalence: float64 `(3, n_labels)`, or `(n_labels,)`: share of positives in training.
        mean_image: float32 `(h, w, 1)`, the mean of the prepared training films, or None for a model without images.
        tfidf: `TfidfBaseline` trained on the same reports, or None for a model without text.
        provenance: dict of what the classifier comes from: versions, digests, layout, counts.
        metrics: dict of results on validation and test.
        seen: dict of `"train"` and `"validation"` to `kmm.storage.seen_studies.SeenStudies`.
    """

    models: dict
    batches: BatchMaker
    settings: FitSettings
    temperatures: dict
    thresholds: dict
    prevalence: np.ndarray
    mean_image: np.ndarray | None = None
    tfidf: TfidfBaseline | None = None
    provenance: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in ("temperatures", "thresholds"):
            setattr(self, name, {part: as_table(rows, name) for part, rows in getattr(self, name).items()})
        self.prevalence = as_table(self.prevalence, "prevalence")

    @property
    def main(self):
        """The name of the part that answers: `"joint"`, or the only one there is."""
        return next(part for part in MAIN_ORDER if part in self.models)

    @property
    def label_names(self):
        """Tuple of str, one a label."""
        return self.batches.label_names

    def predict(self, studies, *, parts=None, batch_size=32, strict=False, progress=None):
        """Predicts studies with an image, a report, or both. Memory does not grow with their number.

        Args:
            studies: sequence of `Study`.
            parts: names of the parts to run; the main one when None.
            batch_size: int.
            strict: bool. Raise at the first unusable study, instead of setting it aside.
            progress: `kmm.progress.Progress`.

        Returns:
            `Predictions`.
        """
        from kmm.progress import Progress

        parts = [self.main] if parts is None else list(parts)
        problems, used, logits, present, labels = [], [], {part: [] for part in parts}, [], []

        def set_aside(study, error):
            problems.append(Problem(f"study {study.id}", str(error)))
            advance()

        with (progress or Progress()).step("Predicting", len(studies)) as advance:
            for made, batch in self.batches.batches(studies, batch_size, None if strict else set_aside):
                used += made
                present.append(batch.present)
                labels.append(batch.labels)
                inputs = pad_rows(batch.inputs(), batch_size)
                for part in parts:
                    logits[part].append(run_model(self.models[part], inputs)[: len(made)])
                advance(len(made))
        count = len(self.label_names)
        return Predictions(
            studies=used,
            present=np.concatenate(present) if present else np.zeros((0, 2), np.float32),
            logits={part: np.concatenate(rows) if rows else np.zeros((0, count)) for part, rows in logits.items()},
            labels=np.concatenate(labels) if labels else np.zeros((0, count), np.float32),
            problems=problems,
        )

    def probabilities(self, logits, present, part=None):
        """Calibrates the logits of a part.

        Args:
            logits: float array `(n, n_labels)`.
            present: array `(n, 2)`: whether the film and the report of each study were there.
            part: name of the part; the main one when None.

        Returns:
            float64 array `(n, n_labels)` in [0, 1].
        """
        return probabilities(logits, choose_rows(self.temperatures[part or self.main], present))

    def thresholds_for(self, present, part=None):
        """Thresholds `(n, n_labels)` for studies of which `present` `(n, 2)` says what was there."""
        return choose_rows(self.thresholds[part or self.main], present)

    def save(self, folder, *, overwrite=False, extra=None):
        """Writes the classifier into a new folder: all of it, or nothing.

        Args:
            folder: path of the folder to make.
            overwrite: bool. Replace a folder that is there.
            extra: callable that is given the temporary folder, to write more files (split, card, pictures).

        Raises:
            InputError: if the folder is there and `overwrite` is false, or it is no saved classifier.
        """

        def write(place):
            self._write(place)
            if extra:
                extra(place)

        write_classifier_folder(folder, write, self._describe(), overwrite=overwrite)

    def _write(self, folder):
        for part, model in self.models.items():
            model.save(folder / f"{part}.keras")
        if self.batches.vocabulary is not None:
            self.batches.vocabulary.save(folder / "vocabulary.txt")
        if self.tfidf is not None:
            self.tfidf.save(folder / "tfidf.npz")
        if self.mean_image is not None:
            np.save(folder / "mean_image.npy", self.mean_image, allow_pickle=False)
        for part, seen in self.seen.items():
            seen.save(folder, part)
        write_json(folder / "settings.json", self.settings.as_dict())
        write_json(folder / "metrics.json", self.metrics)

    def _describe(self):
        numbers = {"temperatures": self.temperatures, "thresholds": self.thresholds}
        return {
            "kmm": kmm.__version__,
            "parts": list(self.models),
            "preparation": self.batches.as_dict(),
            **{name: {part: as_mapping(table) for part, table in rows.items()} for name, rows in numbers.items()},
            "prevalence": as_mapping(self.prevalence),
            "provenance": self.provenance,
            "known_answers": compute_answers(self),
        }

    @classmethod
    def load(cls, folder, *, main_only=False):
        """Reads a classifier; its description and every file are checked against their digests first.

        Args:
            folder: path that `save` wrote, or of an archive that `kmm model pack` wrote.
            main_only: bool. Leave out the parts that only comparisons need.

        Raises:
            ArtefactError: if a file is missing, altered or of another format.
        """
        with open_classifier(folder) as place:
            try:
                return cls._read(place, read_description(place), main_only)
            except KmmError:
                raise
            except (KeyError, TypeError, AttributeError, ValueError, zipfile.BadZipFile) as error:  # of what files hold
                raise not_as_expected(place, error) from None

    @classmethod
    def _read(cls, folder, description, main_only):
        parts = [part for part in MAIN_ORDER if part in description["parts"]]
        parts = parts[:1] if main_only else parts
        batches = BatchMaker.from_dict(description["preparation"], None)
        if "vocabulary.txt" in description["files"]:
            kind = WordPieces if batches.text.pieces else Vocabulary
            batches.vocabulary = kind.load(folder / "vocabulary.txt")
        tfidf = TfidfBaseline.load(folder / "tfidf.npz") if "tfidf.npz" in description["files"] else None
        mean_image = None
        if "mean_image.npy" in description["files"]:
            mean_image = np.load(folder / "mean_image.npy", allow_pickle=False)
        provenance = dict(description["provenance"])
        by_part = provenance.pop("studies_by_part", None)  # format 1
        return cls(
            models={part: _load_model(folder / f"{part}.keras") for part in parts},
            batches=batches,
            settings=FitSettings.from_dict({**BEFORE, **read_json(folder / "settings.json")}),
            temperatures=description["temperatures"],
            thresholds=description["thresholds"],
            prevalence=description["prevalence"],
            mean_image=mean_image,
            tfidf=tfidf,
            provenance=provenance,
            metrics=read_json(folder / "metrics.json"),
            seen=load_seen(folder, description["files"])
            if by_part is None
            else {part: SeenStudies.from_format_1(by_part, part) for part in SEEN_PARTS},
        )


def _load_model(path):
    """A part as a `keras.Model`. Its file is an archive too, and may come from elsewhere."""
    with zipfile.ZipFile(path) as archive:
        check_members(path, archive)
    return keras.models.load_model(path, compile=False)


def run_model(model, inputs):
    """Logits float32 `(n, n_labels)` of a model that takes some of the inputs."""
    names = [tensor.name for tensor in model.inputs]
    return np.asarray(model.predict_on_batch({name: inputs[name] for name in names}), np.float32)


def describe_predictions(classifier, predictions):
    """Predictions of the main part as rows that JSON holds.

    Returns:
        list of dict: `study`, `image` (file name or None), `image_present`, `text_present`, and by label
        `probabilities` and `decisions` (probability at or above the threshold).
    """
    scores = classifier.probabilities(predictions.logits[classifier.main], predictions.present)
    decisions = scores >= classifier.thresholds_for(predictions.present)
    names = classifier.label_names
    return [
        {
            "study": study.id,
            "image": str(study.frontal.path) if study.frontal else None,
            "image_present": bool(present[0]),
            "text_present": bool(present[1]),
            "probabilities": {name: float(value) for name, value in zip(names, row, strict=True)},
            "decisions": {name: bool(value) for name, value in zip(names, decided, strict=True)},
        }
        for study, present, row, decided in zip(
            predictions.studies, predictions.present, scores, decisions, strict=True
        )
    ]


def pad_rows(arrays, size):
    """Repeats the last row until each array has `size` rows, so that a model is traced for one size only.

    Example:
        >>> pad_rows({"a": np.array([1, 2])}, 4)["a"].tolist()
        [1, 2, 2, 2]
    """
    return {
        name: np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
        for name, array in arrays.items()
    }
