"""A teacher that reads reports: what logistic regression on TF-IDF, fitted on other reports, says of each study."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmm.data.groups import assign_groups, group_studies
from kmm.errors import InputError
from kmm.progress import Progress
from kmm.settings import SECTION_SETS, FitSettings
from kmm.text.tfidf import TfidfBaseline
from kmm.training.preparation.prepared_studies import PreparedStudies, make_text

FOLDS = 5  # of the training part, for predictions of a teacher on studies that it was not fitted on
CERTAIN = 1e-6  # a teacher's probabilities are kept this far from 0 and 1


@dataclass(frozen=True)
class Lesson:
    """What a teacher says.

    Attributes:
        probabilities: float64 `(n, n_labels)` in (0, 1), one row per study; NaN where it was not asked.
        roc_auc: dict of label to its ROC AUC on training studies out of fold, or None.
    """

    probabilities: np.ndarray
    roc_auc: dict[str, float | None]


def ask_teacher(
    prepared: PreparedStudies,
    texts: Sequence[str],
    worded: np.ndarray,
    settings: FitSettings,
    *,
    temperature: float = 1.0,
    validation: bool = False,
) -> Lesson:
    """Lets a classifier of reports, logistic regression on TF-IDF, say how probable each label is.

    A training study is judged by a teacher that was fitted on the other folds of the training part, so that it has not
    seen the label; folds keep studies of a patient and copies of a report together. Validation is judged by the teacher
    of the whole training part. Nothing else is read.

    Args:
        prepared: `PreparedStudies` with their labels.
        texts: sequence of str, one per study: what the teacher reads.
        worded: bool `(n,)`: the studies whose text has words.
        settings: `FitSettings`, for the seed and the fewest patients of a word.
        temperature: float above 0, by which the teacher's logits are divided.
        validation: bool. Whether the validation studies are judged too.

    Returns:
        `Lesson`.

    Source: https://arxiv.org/abs/1503.02531

    Raises:
        InputError: if the training reports lack words, or are of too few groups.
    """
    train = [row for row in prepared.rows("train") if worded[row]]
    probabilities = np.full(prepared.labels.shape, np.nan)

    def teach(pupils: list[int], answers: list[int]) -> None:
        patients = [prepared.studies[row].patient for row in pupils]
        teacher = TfidfBaseline.fit(
            [texts[row] for row in pupils],
            prepared.labels[pupils],
            seed=settings.seed,
            patients=patients,
            min_patients=settings.min_word_patients,
        )
        if answers:
            probabilities[answers] = teacher.predict([texts[row] for row in answers])

    for fold in divide_rows(prepared, train, settings.seed):
        teach(sorted(set(train) - set(fold)), fold)
    if validation:
        teach(train, [row for row in prepared.rows("validation") if worded[row]])
    quality = _measure_teacher(prepared.labels[train], probabilities[train])
    kept = np.clip(probabilities, CERTAIN, 1 - CERTAIN)
    softened = 1 / (1 + np.exp(-(np.log(kept) - np.log1p(-kept)) / temperature))
    return Lesson(softened, dict(zip(prepared.maker.label_names, quality, strict=True)))


def divide_rows(prepared: PreparedStudies, rows: list[int], seed: int, folds: int = FOLDS) -> list[list[int]]:
    """Divides rows into folds that keep together studies of a patient, copies of a report and copies of a film.

    Args:
        prepared: `PreparedStudies`.
        rows: list of int.
        seed: int, 0 or more.
        folds: int, 2 or more.

    Returns:
        list of lists of rows.

    Raises:
        InputError: if there are too few groups of studies.
    """
    places = {prepared.studies[row].id: row for row in rows}
    groups = group_studies([prepared.studies[row] for row in rows])
    parts = assign_groups(
        groups, (1 / folds,) * folds, np.random.default_rng([seed, folds]), label_names=prepared.maker.label_names
    )
    return [sorted(places[study.id] for group in part for study in group) for part in parts]


def _measure_teacher(labels, probabilities):
    """Returns the ROC AUC of each label; None where a class is missing."""
    from sklearn.metrics import roc_auc_score

    found = []
    for values, scores in zip(labels.T, probabilities.T, strict=True):
        known = np.isfinite(values)
        both = len(np.unique(values[known] > 0.5)) == 2
        found.append(float(roc_auc_score(values[known] > 0.5, scores[known])) if both else None)
    return found


def _read_as_model(prepared: PreparedStudies, settings: FitSettings) -> tuple[list[str], np.ndarray]:
    """Returns what the text model reads of each study, and whether it has words."""
    text = prepared.maker.text
    assert text is not None
    return [text.redacted_text(study) for study in prepared.studies], prepared.present[:, 1] > 0


def _read_whole(prepared: PreparedStudies, settings: FitSettings) -> tuple[list[str], np.ndarray]:
    """Returns the whole report of each study, after the redaction: also sections that no model may read when it
    predicts."""
    text = prepared.maker.text or make_text(settings)
    sections = tuple(dict.fromkeys((*SECTION_SETS["report"], *settings.sections)))
    whole = replace(text, sections=sections)
    texts = [whole.redacted_text(study) for study in prepared.studies]
    return texts, np.array([bool(text.split()) for text in texts])


Read = Callable[[PreparedStudies, FitSettings], tuple[list[str], np.ndarray]]
READERS: dict[str, Read] = {"text": _read_as_model, "image": _read_whole}


def make_targets(
    prepared: PreparedStudies, settings: FitSettings, progress: Progress
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Makes what the models of each side learn where a teacher takes part: the labels of training studies become
    `(1 - weight) * label + weight * probability`, where the weight is the setting `text_teacher` or `image_teacher`.

    The teacher of the text side reads what the text model reads; that of the image side reads the whole report, which
    training has. Both are fitted on the training part alone. Unknown labels stay unknown, and labels of validation and
    test as they are.

    Args:
        prepared: `PreparedStudies`.
        settings: `FitSettings`.
        progress: `Progress`, which notes the ROC AUC of each teacher, or why there is none.

    Returns:
        dict of side to float32 `(n, n_labels)`, without sides that have no teacher; and for each of them facts for
        JSON: `weight`, `temperature` and `roc_auc`, for each label the ROC AUC of the teacher out of fold.
    """
    s, targets, facts = settings, {}, {}
    for side, weight in (("text", s.text_teacher), ("image", s.image_teacher)):
        if not weight or getattr(s, f"{side}_encoder") is None:
            continue
        texts, worded = READERS[side](prepared, s)
        try:
            lesson = ask_teacher(prepared, texts, worded, s, temperature=s.teacher_temperature)
        except InputError as error:
            progress.note(f"No teacher of the {side} side: {error}")
            continue
        targets[side] = _mix(prepared, lesson.probabilities, weight)
        facts[side] = {"weight": weight, "temperature": s.teacher_temperature, "roc_auc": lesson.roc_auc}
        known = [area for area in lesson.roc_auc.values() if area is not None]
        shown = f", ROC AUC out of fold {np.mean(known):.3f}" if known else ""
        progress.note(f"Teacher of the {side} side: TF-IDF, weight {weight:g}{shown}")
    return targets, facts


def _mix(prepared, probabilities, weight):
    """Returns the labels, those of training studies mixed with the probabilities that are known."""
    mixed, rows = prepared.labels.astype(np.float64), prepared.rows("train")
    taught = (1 - weight) * mixed[rows] + weight * probabilities[rows]
    mixed[rows] = np.where(np.isfinite(probabilities[rows]), taught, mixed[rows])
    return mixed.astype(np.float32)
