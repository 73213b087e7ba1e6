"""The public classifier: one object that predicts, evaluates, explains, exports and saves."""

import dataclasses
import shutil
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import keras
import numpy as np

from kmm import classifier as core
from kmm.api.explained import Explained, ExplainedSimilarity, make_explain_settings
from kmm.api.results import Curves, Results
from kmm.api.saving import export_record, save_record
from kmm.api.similar import SimilarStudies, naming_index
from kmm.api.study_arguments import StudyArguments
from kmm.data.study import Collection, Study
from kmm.errors import InputError, check_path
from kmm.evaluate.changed_weights import describe_change, is_stale, mark_changed
from kmm.evaluate.decisions.abstention import abstain_from, check_abstention
from kmm.evaluate.recalibration import recalibrate
from kmm.evaluate.report import evaluate_studies
from kmm.evaluate.result_files import gather_curves
from kmm.explain.settings import ExplainSettings
from kmm.models.views.feature_view import view_joint
from kmm.models.weights.checkpoints import weights_digest
from kmm.progress import Progress, choose_progress
from kmm.protocol.predictions import Prediction, Predictions, warn_of_unused
from kmm.retrieval.additions import build_index
from kmm.retrieval.index import open_index
from kmm.retrieval.layers import digest_model
from kmm.settings import FitSettings
from kmm.storage.archive import digest_classifier

if TYPE_CHECKING:
    from kmm.explain.explainer import Explainer
    from kmm.explain.similarity.explainer import SimilarityExplainer

BATCH = 32


class Classifier:
    """A trained classifier of chest films, reports, or both. `kmm.fit` and `kmm.load` return one.

    Films are paths, arrays, PIL images, `pydicom.Dataset`s or bytes: see `kmm.studies`. Reports are text. Many studies
    are a `Collection` of `kmm.read` or `kmm.studies`, or a table whose columns have the names of the table that the
    classifier was trained on.

    Args:
        inner: `kmm.classifier.Classifier`, the models with their preparation and calibration.
        folder: path of the folder from which it was loaded, or to which its fit saved it; None if there is none.
    """

    def __init__(self, inner: core.Classifier, folder: Path | str | None = None) -> None:
        self._record, self._folder = inner, None if folder is None else Path(folder)
        self._digests = {part: weights_digest(model) for part, model in inner.models.items()}
        self._explainers: dict[ExplainSettings, Explainer] = {}
        self._similarity_explainers: dict[tuple[str, ExplainSettings], SimilarityExplainer] = {}
        self._temporary: weakref.finalize | None = None  # removes the folder of a fit without a name

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Reads a saved classifier.

        Args:
            folder: path of a folder that `save` or `kmm fit` wrote, or of an archive of `kmm model pack`.

        Returns:
            `Classifier`.

        Raises:
            InputError: if `folder` is no path.
            ArtefactError: if a file is missing, altered or of another format.
        """
        check_path("folder", folder)
        return cls(core.Classifier.load(folder), folder)

    @classmethod
    def _of_temporary(cls, inner: core.Classifier, folder: Path) -> Self:
        """Makes a classifier of a fit without a name, whose parent folder is removed with it, or once it is saved."""
        made = cls(inner, folder)
        made._temporary = weakref.finalize(made, shutil.rmtree, folder.parent, ignore_errors=True)
        return made

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the columns."""
        return self._record.label_names

    @property
    def record(self) -> core.Classifier:
        """The record inside, `kmm.classifier.Classifier`, which the modules of kmm take."""
        return self._record

    @property
    def settings(self) -> FitSettings:
        """The settings of the fit."""
        return self._record.settings

    @property
    def metrics(self) -> dict[str, Any]:
        """The results of the fit on `validation` and `test`, as in docs/results.md; empty once the weights change."""
        self._check_weights()
        return self._record.metrics

    @property
    def folder(self) -> Path | None:
        """The folder in which the classifier is saved; None if it is only in memory."""
        return None if self._temporary else self._folder

    @property
    def model(self) -> keras.Model:
        """The plain Keras model: inputs of `preprocess`, by name, to logits `(n, n_labels)`.

        It is the classifier's own model. Whoever trains it, with
        `loss=keras.losses.BinaryCrossentropy(from_logits=True)`, changes the classifier: see `recalibrate`.
        """
        return self._record.models[self._record.main]

    @overload
    def predict(self, image: Any = None, report: str | None = None, *, abstain: float | None = None) -> Prediction: ...
    @overload
    def predict(
        self,
        image: Any = None,
        report: str | None = None,
        *,
        images: Sequence[Any] | None = None,
        reports: Sequence[str | None] | None = None,
        columns: Mapping[str, Any] | None = None,
        abstain: float | None = None,
        progress: bool | Progress = False,
    ) -> Prediction | Predictions: ...
    def predict(
        self,
        image: Any = None,
        report: str | None = None,
        *,
        images: Sequence[Any] | None = None,
        reports: Sequence[str | None] | None = None,
        columns: Mapping[str, Any] | None = None,
        abstain: float | None = None,
        progress: bool | Progress = False,
    ) -> Prediction | Predictions:
        """Predicts one study, or many.

        Args:
            image: one film, or a `Study`; for many studies a `Collection`, a list of `Study`, or a table.
            report: str, the text of the report of the one film.
            images, reports: sequences of films and texts of many studies, None for a missing one.
            columns: mapping of arguments of `kmm.studies` to columns of the table, instead of those of the training;
                None for an argument that the table has no column for.
            abstain: float in (0, 1), the largest fraction of wrong decisions among the studies of a class. A decision
                that validation does not support at this error level is `"abstain"`. None decides every study.
            progress: bool, whether to show progress; or a `Progress`.

        Returns:
            `Prediction` of one study, else `Predictions` in the order given. Studies that cannot be used are left out
            of these, with a warning, and listed in `problems`.

        Raises:
            InputError: if the one study cannot be used, no film of a table is found, or an argument has the wrong type;
                with `abstain`, if the classifier was saved by a version of kmm that kept no validation scores.

        Warns:
            UserWarning: if studies cannot be used, or lack films and are predicted from their reports alone; with
                `abstain`, if validation has too few studies of a class, or the weights were changed since.
        """
        if abstain is not None:
            self._check_weights(warn=True)
            for line in check_abstention(self._record, abstain):
                warnings.warn(line, UserWarning, stacklevel=2)
        if self._arguments.is_one(image, images, reports):
            study = self._arguments.read_one(image, report)
            raw = self._record.predict([study], strict=True, batch_size=1)
            return self._decide(raw, abstain)[0]
        collection = self._arguments.read_many(image, images, reports, columns)
        found = self._predict_all(collection, strict=False, abstain=abstain, progress=_choose_progress(progress))
        warn_of_unused(found, len(collection))
        return found

    def evaluate(
        self,
        studies: Any,
        *,
        columns: Mapping[str, Any] | None = None,
        strict: bool = False,
        progress: bool | Progress = False,
    ) -> Results:
        """Measures the classifier and its baselines on labelled studies, as `kmm evaluate` does.

        Studies that it was trained on are left out; those that it was calibrated on are the part `validation`.

        Args:
            studies: `Collection`, list of `Study`, table, or path that `kmm.read` reads.
            columns, progress: as for `predict`.
            strict: bool. Whether the first study that cannot be used is an error.

        Returns:
            `Results`.

        Raises:
            InputError: if no study is left to measure on, or no film of a table is found.

        Warns:
            UserWarning: if the weights were changed since the fit, so that no study counts as test; or if studies lack
                films and are measured by their reports alone.
        """
        self._check_weights(warn=True)
        collection = self._arguments.read_many(studies, columns=columns)
        inner, notes = self._arguments.with_labels_of(collection), _Notes(_choose_progress(progress))
        curves: dict[str, Curves] = {}

        def keep(part: str, predictions: core.StudyLogits) -> None:
            curves[part] = Curves(*gather_curves(inner, predictions))

        parts, problems = evaluate_studies(inner, collection.studies, strict=strict, progress=notes, keep=keep)
        return Results(parts, self.labels, tuple(notes.lines), (*collection.problems, *problems), curves)

    def explain(self, image: Any = None, report: str | None = None, **settings: Any) -> Explained:
        """Explains the prediction of one study: circles on the film, and scores of the words.

        Args:
            image: one film, or a `Study`.
            report: str, the text of its report.
            settings: fields of `kmm.explain.settings.ExplainSettings`, as `method` and `target`, and of
                `RegionSettings`, as `sensitivity`; its `rule` is given as `region_rule`.

        Returns:
            `Explained`, which a notebook shows as a page.

        Raises:
            InputError: if the study cannot be used, or a setting is unknown or out of range.
        """
        study = self._arguments.read_one(image, report)
        explanation = next(iter(self._explainer(make_explain_settings(settings)).explain([study])))
        return Explained(explanation, self.predict(study))

    def explain_similarity(
        self,
        one: Any,
        other: Any,
        *,
        layer: str = "joint",
        reads: tuple[str, str] = ("both", "both"),
        **settings: Any,
    ) -> ExplainedSimilarity:
        """Explains why two studies are alike for the classifier: the places and words that raise the cosine of their
        vectors.

        Each study is explained while the other one stays as it is. With the default method its attributions sum to the
        cosine minus that with an empty study in its place. The result is the same whichever study is given first.

        Args:
            one, other: each a film, a `Study`, or a dict of `image` and `report`.
            layer: whose vectors are compared: `"joint"`, the features from which the logits are computed; `"image"` or
                `"text"`, the vector of that encoder.
            reads: pair of `"both"`, `"image"` and `"text"`: which sides of each study are read, of those that it has.
            settings: as for `explain`; its labels and `output` have no meaning here.

        Returns:
            `ExplainedSimilarity`, which a notebook shows as a page.

        Raises:
            InputError: if a study cannot be used or lacks what the layer reads, or a setting is unknown or out of
                range.
        """
        from kmm.explain.similarity.known_findings import find_findings

        first, second = (self._read_compared(given) for given in (one, other))
        explainer = self._similarity_explainer(layer, make_explain_settings(settings))
        similarity = next(explainer.explain(first, [second], reads=reads))
        return ExplainedSimilarity(similarity, find_findings(self._record, [first, second]))

    def features(self, studies: Any, *, columns: Mapping[str, Any] | None = None) -> np.ndarray:
        """Computes the features from which the logits are computed.

        Args:
            studies, columns: as for `evaluate`.

        Returns:
            float32 `(n, d)`, in the order of the studies.

        Raises:
            InputError: if a study cannot be used.
        """
        collection = self._arguments.read_many(studies, columns=columns)
        view, made = view_joint(self.model), []
        for used, batch in self._record.batches.batches(collection.studies, BATCH):
            inputs = core.pad_rows(batch.inputs(), BATCH)
            names = [tensor.name for tensor in view.inputs]
            found = view.predict_on_batch({name: inputs[name] for name in names})["features"]
            made.append(np.asarray(found, np.float32)[: len(used)])
        return np.concatenate(made) if made else np.zeros((0, int(view.output["features"].shape[-1])), np.float32)

    def index(
        self,
        studies: Any,
        folder: Path | str | None = None,
        *,
        layer: str = "joint",
        labels: str | None = None,
        parts: Mapping[str, str] | None = None,
        columns: Mapping[str, Any] | None = None,
        extra: Mapping[str, Mapping[str, str]] | None = None,
        overwrite: bool = False,
        progress: bool | Progress = False,
        **options: Any,
    ) -> SimilarStudies:
        """Builds an index of studies, in which similar ones are found.

        Args:
            studies, columns, progress: as for `predict`.
            folder: path of the index; None for one that is removed with the object returned.
            layer: str. Features to compare: `"joint"`, those from which the logits are computed, those of the encoder
                of `"image"` or `"text"`, or `"projection"`, of a fit with contrastive terms.
            labels: str, the label scheme by which results are filtered and measured; None for that of the classifier.
            parts: mapping of study id to part of a split; None for those that the classifier recognises.
            extra: mapping of the name of a column to filter by to a mapping of study id to text.
            overwrite: bool. Whether to replace an existing index.
            options: `label_min_count`, `source` and `strict` of `kmm.retrieval.additions.build_index`.

        Returns:
            `SimilarStudies`.

        Raises:
            InputError: if the index exists and `overwrite` is false, no study can be used, or a name is unknown.
        """
        collection = self._arguments.read_many(studies, columns=columns)
        saved = None if self.folder is None or self._has_changed() else self.folder.absolute()
        with naming_index(folder) as place:
            added = build_index(
                self._record,
                collection,
                place,
                layer=layer,
                model=saved,
                labels=labels,
                parts=parts,
                columns=extra,
                overwrite=overwrite,
                progress=_choose_progress(progress),
                **options,
            )
        found = SimilarStudies(self._record, added.index, [*collection.problems, *added.problems])
        return found.keep_temporary(place.parent) if folder is None else found

    def open_index(self, folder: Path | str) -> SimilarStudies:
        """Opens an index that was built with this classifier.

        Args:
            folder: path of the index.

        Returns:
            `SimilarStudies`.

        Raises:
            ArtefactError: if there is no index, it was altered, or was built with another classifier.
        """
        check_path("folder", folder)
        return SimilarStudies(self._record, open_index(folder, model=digest_model(self._record)))

    def preprocess(
        self,
        image: Any = None,
        report: str | None = None,
        *,
        images: Sequence[Any] | None = None,
        reports: Sequence[str | None] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> dict[str, np.ndarray]:
        """Makes the arrays that `model` takes.

        Args:
            image, report, images, reports, columns: as for `predict`.

        Returns:
            dict of input name to array with a row per study: `image` float32 `(n, h, w, 1)`, gray levels 0..255;
            `token_ids` int32 `(n, length)`; `present` float32 `(n, 2)`, whether there is a film, and a report.

        Raises:
            InputError: if a study cannot be used.
        """
        if self._arguments.is_one(image, images, reports):
            chosen: Sequence[Study] = [self._arguments.read_one(image, report)]
        else:
            chosen = self._arguments.read_many(image, images, reports, columns).studies
        inputs = self._record.batches.batch(chosen).inputs()
        return {tensor.name: inputs[tensor.name] for tensor in self.model.inputs}

    def recalibrate(
        self,
        studies: Any,
        *,
        trained_on: Any = None,
        columns: Mapping[str, Any] | None = None,
        progress: bool | Progress = False,
    ) -> Self:
        """Chooses new temperatures and thresholds, after the weights were changed.

        Args:
            studies: labelled studies, as for `evaluate`, none of which the weights were changed on. They count as
                validation from then on.
            trained_on: the studies that the weights were changed on, as for `evaluate`, so that they never count as
                test; None if they are not known.
            columns, progress: as for `predict`.

        Returns:
            the classifier itself.

        Raises:
            InputError: if no study has a known label, none can be used, one was trained on, or no label has both
                classes.
        """
        self._check_weights()
        collection = self._arguments.read_many(studies, columns=columns)
        used = None if trained_on is None else self._arguments.read_many(trained_on, columns=columns).studies
        inner = self._arguments.with_labels_of(collection)
        recalibrate(inner, collection.studies, trained_on=used, progress=_choose_progress(progress))
        if inner is not self._record:
            self._record = dataclasses.replace(inner, settings=self.settings)
        self._digests = {part: weights_digest(model) for part, model in self._record.models.items()}
        self._explainers.clear()  # they decide by the old thresholds
        self._similarity_explainers.clear()
        return self

    def save(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Saves the classifier with its model card, completely or not at all.

        Split, learning curves and pictures of the fit are saved too, if it has them.

        Args:
            folder: path of the folder to make.
            overwrite: bool. Whether to replace a saved classifier.

        Returns:
            Path of the folder.

        Raises:
            InputError: if the folder exists and `overwrite` is false, it is not a saved classifier, or it cannot be
                written.

        Warns:
            UserWarning: if the weights were changed and the classifier was not recalibrated.
        """
        check_path("folder", folder)
        self._check_weights(warn=True)
        folder = Path(folder)
        save_record(self._record, folder, source=self._folder, overwrite=overwrite)
        if self._temporary is not None:
            self._temporary()
        self._folder, self._temporary = folder, None
        return folder

    def export(self, folder: Path | str, **options: Any) -> Path:
        """Exports the classifier as a SavedModel for TensorFlow Serving and `kmm serve`.

        Args:
            folder: path of the version to make, as `"models/openi/1"`: its last part is the number of the version.
            options: `default`, `explanation`, `batching`, `warmup`: see `kmm.export.write.export_to`.

        Returns:
            Path of the version.

        Raises:
            InputError: if the version exists or is no number, or Keras does not run on TensorFlow.

        Warns:
            UserWarning: as `save`.
        """
        check_path("folder", folder)
        self._check_weights(warn=True)
        place = Path(folder)
        export_record(self._record, place, source=self._folder, **options)
        return place

    @property
    def _arguments(self) -> StudyArguments:
        return StudyArguments(self._record)

    def _decide(self, raw: core.StudyLogits, abstain: float | None) -> list[Prediction]:
        return core.list_predictions(self._record, raw) if abstain is None else abstain_from(self._record, raw, abstain)

    def _predict_all(
        self,
        collection: Collection,
        *,
        strict: bool = True,
        abstain: float | None = None,
        progress: Progress | None = None,
    ) -> Predictions:
        """Predicts a collection; with `strict`, a study that cannot be used is an error."""
        raw = self._record.predict(collection.studies, strict=strict, progress=progress)
        problems = [*collection.problems, *raw.problems]
        found = self._decide(raw, abstain)
        return Predictions(found, [study.id for study in raw.studies], problems, labels=self.labels)

    def _explainer(self, settings):
        from kmm.explain.explainer import Explainer

        if settings not in self._explainers:
            self._explainers = {settings: Explainer(self._record, settings)}  # only one is kept, as each is traced
        explainer = self._explainers[settings]
        explainer.digest = self._find_digest()
        return explainer

    def _similarity_explainer(self, layer, settings):
        from kmm.explain.similarity.explainer import SimilarityExplainer

        if (layer, settings) not in self._similarity_explainers:
            made = SimilarityExplainer(self._record, settings, layer=layer)
            self._similarity_explainers = {(layer, settings): made}  # only one is kept, as each is traced
        explainer = self._similarity_explainers[layer, settings]
        explainer.digest = self._find_digest()
        return explainer

    def _find_digest(self) -> str:
        return "" if self._folder is None or self._has_changed() else digest_classifier(self._folder)

    def _read_compared(self, given: Any) -> Study:
        if not isinstance(given, Mapping):
            return self._arguments.read_one(given, None)
        unknown = sorted(set(given) - {"image", "report"})
        if unknown:
            raise InputError(f"A study as a dict has `image` and `report`. Received: {', '.join(map(str, unknown))}.")
        return self._arguments.read_one(given.get("image"), given.get("report"))

    def _has_changed(self) -> bool:
        return any(weights_digest(model) != self._digests[part] for part, model in self._record.models.items())

    def _check_weights(self, *, warn: bool = False) -> None:
        """Marks the classifier if its weights were changed, and warns if it was not recalibrated since."""
        if not is_stale(self._record) and self._has_changed():
            mark_changed(self._record)
        if warn and is_stale(self._record):
            warnings.warn(describe_change(self._record), UserWarning, stacklevel=3)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what belongs to this process, for copies and for the workers of joblib."""
        folder = None if self._temporary else self._folder
        return {**self.__dict__, "_explainers": {}, "_similarity_explainers": {}, "_temporary": None, "_folder": folder}

    def __repr__(self) -> str:
        s, inner = self.settings, self._record
        reads = " and ".join(name for name in (s.image_encoder, s.text_encoder) if name)
        place = f" in {self.folder}" if self.folder else ""
        stale = ", weights changed since the fit" if is_stale(inner) else ""
        return f"<Classifier of {', '.join(self.labels)}: {reads}{place}{stale}>"


class _Notes(Progress):
    """Progress that also keeps its notes."""

    def __init__(self, shown):
        self.shown, self.lines = shown, []

    def step(self, title, total, done=0):
        return self.shown.step(title, total, done)

    def note(self, text):
        self.lines.append(text)
        self.shown.note(text)


def _choose_progress(progress: bool | Progress) -> Progress:
    return progress if isinstance(progress, Progress) else choose_progress() if progress else Progress()
