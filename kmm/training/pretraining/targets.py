"""Targets of pretraining from the reports and headings of studies. All are fitted on the training part alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmm.errors import InputError
from kmm.settings import FitSettings
from kmm.training import teacher
from kmm.training.auxiliary.report_targets import find_headings, reduce_reports
from kmm.training.preparation.prepared_studies import PreparedStudies
from kmm.training.stages.contrastive_stage import number_studies, number_texts


@dataclass(frozen=True)
class Targets:
    """What an encoder is trained to predict from each film.

    Attributes:
        values: float32 `(n, k)`, one row per study; NaN where unknown. A study without a known value is not used.
        columns: mapping of model input to array `(n, ...)`: what the model reads beside the film.
        facts: mapping for JSON, for people and for the record of the weights.
    """

    values: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def list_headings(prepared: PreparedStudies, settings: FitSettings) -> Targets:
    """Labels the studies with every MeSH head of at least `label_min_count` training studies, organs included.

    Args:
        prepared: `PreparedStudies` of training and validation.
        settings: `FitSettings`.

    Returns:
        `Targets` of 1, 0, and NaN for studies that were not indexed. `facts` has the names as `headings`.

    Raises:
        InputError: if no head is frequent enough.
    """
    try:
        values, names = find_headings(prepared, settings)
    except InputError as error:
        raise InputError(
            f"The objective multi-label needs MeSH headings: {error} Set label_min_count, or choose another objective."
        ) from None
    return Targets(values, facts={"headings": list(names)})


def ask_teacher(prepared: PreparedStudies, settings: FitSettings, *, temperature: float) -> Targets:
    """Lets a classifier of reports, logistic regression on TF-IDF, say how probable each label is.

    A training study is judged by a teacher that was fitted on the other folds of the training part, so that it has
    not seen the label; folds keep studies of a patient and copies of a report together. Validation is judged by the
    teacher of the whole training part.

    Args:
        prepared: `PreparedStudies` of training and validation, with their labels.
        settings: `FitSettings`.
        temperature: float above 0, by which the teacher's logits are divided.

    Returns:
        `Targets` in (0, 1), NaN for studies without words. `facts` has the `labels`, the `temperature`, and
        `teacher_roc_auc`: for each label the ROC AUC of the teacher on training studies out of fold, or None.

    Source: https://arxiv.org/abs/1503.02531

    Raises:
        InputError: if the training reports lack words.
    """
    texts, worded = read_texts(prepared), prepared.present[:, 1] > 0
    lesson = teacher.ask_teacher(prepared, texts, worded, settings, temperature=temperature, validation=True)
    facts = {"labels": list(lesson.roc_auc), "temperature": temperature, "teacher_roc_auc": lesson.roc_auc}
    return Targets(lesson.probabilities.astype(np.float32), facts=facts)


def read_texts(prepared: PreparedStudies) -> list[str]:
    """Returns the text of each report that the settings let a model read; empty for a study without one."""
    if prepared.maker.text is None:
        raise InputError("The settings read no reports. Name a text encoder.")
    return [prepared.maker.text.redacted_text(study) for study in prepared.studies]


def describe_reports(prepared: PreparedStudies, settings: FitSettings) -> Targets:
    """Describes each report by a vector: TF-IDF of its words and word pairs, reduced by a singular value decomposition.

    Args:
        prepared: `PreparedStudies` of training and validation.
        settings: `FitSettings`.

    Returns:
        `Targets` whose column `report_vector`, float32 `(n, d)` with rows of length 1, describes the reports. The
        values `(n, 3)` number the distinct bodies, the patients, and the distinct texts that are read; NaN for an empty
        one, and for a study without words.

    Raises:
        InputError: if the training reports lack words.
    """
    texts = read_texts(prepared)
    worded = prepared.present[:, 1] > 0
    try:
        vectors = reduce_reports(prepared, texts, worded, settings)
    except InputError as error:
        raise InputError(f"The objective contrastive compares reports. {error} Choose another objective.") from None
    read = [" ".join(text.lower().split()) if known else "" for text, known in zip(texts, worded, strict=True)]
    values = np.concatenate([number_studies(prepared.studies), number_texts(read)[:, None]], axis=1)
    values[~worded] = np.nan
    facts = {"dimensions": vectors.shape[1], "distinct_reports": len(np.unique(values[worded, 2]))}
    return Targets(values, {"report_vector": vectors}, facts)
