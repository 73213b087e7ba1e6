"""A classifier of studies as a scikit-learn estimator, for its cross-validation, searches and pipelines.

from kmm.sklearn import StudyClassifier
from sklearn.model_selection import cross_val_predict

model = StudyClassifier(image="path", report="text", patient="mrn", epochs=5)
scores = cross_val_predict(model, frame, frame["abnormal"], groups=frame["mrn"], method="predict_proba")
"""

import difflib
import tempfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from kmm.data.tabular.columns import Table, is_missing
from kmm.data.tabular.tables import Columns, make_studies
from kmm.errors import InputError
from kmm.keras_backend import load_keras_quietly
from kmm.presets import SETTING_NAMES

with load_keras_quietly():
    from kmm.api.fitting import fit

LABEL = "label"  # name of the only label of the classifier inside
NO_TEST = (0.8, 0.2, 0.0)  # scikit-learn holds the test studies


class StudyClassifier(ClassifierMixin, BaseEstimator):
    """A kmm classifier of two classes as a scikit-learn estimator.

    `X` is a pandas or polars frame, or a list of records, with the columns named here. An inner validation part, which
    keeps the studies of a patient together, chooses epochs, temperature and threshold.

    Args:
        image: name of the column of films, or a list of several; see `kmm.studies` for what a cell may hold.
        report: name of the column of whole reports.
        sections: instead of `report`, dict of section to column.
        patient: name of the column of patients; None: each row is a patient of its own.
        view: name of the column of views.
        folder: path of the folder of cached features and of the state of runs, so that an interrupted search continues;
            None for a temporary one.
        progress: bool. Whether to show progress.
        settings: `preset`, and any setting of `kmm.settings.FitSettings` by name. They are parameters of the estimator
            too, for `set_params` and for searches.

    Attributes:
        classes_: array `(2,)`, the sorted classes; the second is the positive one.
        classifier_: `kmm.Classifier` that was trained.

    Example:
        >>> model = StudyClassifier(report="text", epochs=3)
        >>> model.set_params(learning_rate=0.01).get_params()["learning_rate"]
        0.01
        >>> model.set_params(learning_rat=0.01)
        Traceback (most recent call last):
        ValueError: Invalid parameter 'learning_rat' for estimator StudyClassifier. Did you mean learning_rate?
    """

    def __init__(
        self,
        *,
        image: Hashable | Sequence[Hashable] | None = None,
        report: Hashable | None = None,
        sections: Mapping[str, Hashable] | None = None,
        patient: Hashable | None = None,
        view: Hashable | None = None,
        folder: Path | str | None = None,
        progress: bool = False,
        **settings: Any,
    ) -> None:
        self.image, self.report, self.sections = image, report, sections
        self.patient, self.view, self.folder, self.progress = patient, view, folder, progress
        self._settings = settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the parameters of the estimator, with the settings that were given."""
        return {**super().get_params(deep), **self._settings}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters and settings by name.

        Raises:
            ValueError: if a name is neither.
        """
        own = self._get_param_names()
        for name in params:
            if name not in (*own, *SETTING_NAMES):
                near = difflib.get_close_matches(name, (*own, *SETTING_NAMES), n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise ValueError(f"Invalid parameter {name!r} for estimator {type(self).__name__}.{hint}")
        self._settings = {**self._settings, **{name: params[name] for name in params if name in SETTING_NAMES}}
        super().set_params(**{name: params[name] for name in params if name in own})
        return self

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Trains a classifier on the rows of a table.

        Args:
            X: table, see the class.
            y: array `(n,)` of two classes, of any type that can be sorted.

        Returns:
            the estimator itself.

        Raises:
            InputError: if there are not two classes, one is missing, or the table or a setting cannot be used.

        Warns:
            UserWarning: if studies lack films and are used with their reports alone.
        """
        known = _read_classes(y)
        self.classes_ = np.unique(known)
        if known.ndim != 1 or len(self.classes_) != 2:
            raise InputError(
                f"`y` must be one column of two classes. Received: shape {known.shape}, classes "
                f"{', '.join(map(str, self.classes_[:5]))}."
            )
        table = Table(X)
        studies = make_studies(table, self._choose_columns(table), own_patients=True)
        if len(studies) != len(known):
            raise InputError(f"`X` and `y` must have equally many rows. Received: {len(studies)} and {len(known)}.")
        positive = known == self.classes_[1]
        labelled = tuple(
            replace(study, labels={LABEL: float(value)}) for study, value in zip(studies, positive, strict=True)
        )
        settings = {"shares": NO_TEST, **self._settings, "labels": "columns"}
        with tempfile.TemporaryDirectory(prefix="kmm-") as temporary:
            folder = temporary if self.folder is None else self.folder
            collection = replace(studies, studies=labelled)
            self.classifier_ = fit(collection, folder=folder, progress=self.progress, **settings)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns the calibrated probability of each class, float64 `(n, 2)`, in the order of `classes_`.

        Raises:
            InputError: if a row cannot be used.
        """
        positive = self._predict(X).probabilities[:, 0]
        return np.column_stack([1 - positive, positive])

    def predict(self, X: Any) -> np.ndarray:
        """Returns the class of each row, `(n,)`: the second if its probability reaches the threshold of the classifier.

        Raises:
            InputError: if a row cannot be used.
        """
        decisions = self._predict(X).decisions[:, 0]
        return self.classes_[decisions.astype(int)]

    def _predict(self, X):
        check_is_fitted(self, "classifier_")
        table = Table(X)
        studies = make_studies(table, self._choose_columns(table).within(table.names), own_patients=True)
        if studies.problems:
            raise InputError(f"Every row must have a prediction. {studies.problems[0]}")
        return self.classifier_._predict_all(studies)

    def _choose_columns(self, table: Table) -> Columns:
        named = {name: getattr(self, name) for name in ("image", "report", "sections", "patient", "view")}
        return Columns.choose(**named, known=table.names)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.two_d_array = False
        tags.input_tags.string = tags.input_tags.allow_nan = True
        return tags


def _read_classes(y):
    known = np.asarray(y)
    if rows := [row for row, value in enumerate(known.ravel().tolist()) if is_missing(value)]:
        raise InputError(f"`y` has no class in {len(rows)} rows, the first of them {rows[0]}. Leave these rows out.")
    try:
        np.unique(known)
    except TypeError:
        kinds = ", ".join(sorted({type(value).__name__ for value in known.ravel()}))
        raise InputError(f"The classes in `y` must be of one type. Received: {kinds}.") from None
    return known
