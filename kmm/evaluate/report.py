"""Evaluate a classifier: the results that every run reports."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kmm.classifier import MAIN_ORDER, Classifier, StudyLogits
from kmm.data.modalities import choose_rows
from kmm.data.study import Problem, Study
from kmm.errors import InputError
from kmm.evaluate.breakdown.profile import FilmTally
from kmm.evaluate.changed_weights import describe_change
from kmm.evaluate.compare import ROWS, compare_models
from kmm.evaluate.label_source import MINED, find_mined_sections
from kmm.evaluate.leak_probe import probe_leak, score_texts
from kmm.evaluate.linear_baselines import score_linear
from kmm.evaluate.part_details import describe_part
from kmm.evaluate.unseen import predict_unseen
from kmm.models.linear_probe import IMAGE_LINEAR
from kmm.progress import Progress

UNRECOGNISED = (
    "Training studies cannot be recognised, because this classifier stores no fingerprints of them, so every labelled "
    "study counts as test. If it was trained on some of them, the results are too optimistic."
)
SIDES = {"image": 0, IMAGE_LINEAR: 0, "text": 1, "tfidf": 1}  # the column of `present` that a row of the results needs


def score_rows(classifier: Classifier, predictions: StudyLogits) -> dict[str, np.ndarray]:
    """Computes the probabilities for each trained row of the results table.

    Args:
        classifier: `Classifier`.
        predictions: `StudyLogits` with the logits of all its parts.

    Returns:
        dict of `"joint"`, `"image"`, `"text"`, `"tfidf"`, `"image-linear"` and `"linear-sum"`, those that the
        classifier has, to float arrays `(n, n_labels)`.
    """
    rows = {
        part: classifier.probabilities(predictions.logits[part], predictions.present, part)
        for part in MAIN_ORDER
        if part in predictions.logits
    }
    texts = score_texts(classifier, predictions.studies).get("tfidf")
    return rows | ({} if texts is None else {"tfidf": texts}) | score_linear(classifier, predictions, texts)


def find_measured(row: str, present: np.ndarray) -> np.ndarray:
    """Finds the studies that a row of the results table is measured on: those with the modality that it reads.

    Args:
        row: str. `"image"` and `"image-linear"` need a film, `"text"` and `"tfidf"` need a report; other rows use every
            study.
        present: array `(n, 2)` of 0 and 1.

    Returns:
        bool array `(n,)`.

    Example:
        >>> find_measured("tfidf", np.array([[1, 0], [1, 1]])).tolist()
        [False, True]
    """
    side = SIDES.get(row)
    return np.ones(len(present), bool) if side is None else present[:, side] > 0


def evaluate_predictions(classifier: Classifier, predictions: StudyLogits, *, repeats: int = 1000) -> dict[str, Any]:
    """Measures predictions and baselines.

    A row that reads one modality is measured, and compared with the joint classifier, on the studies that have it.

    Args:
        classifier: `Classifier`.
        predictions: `StudyLogits` with the logits of all its parts.
        repeats: int. Number of bootstrap draws for the intervals.

    Returns:
        dict as returned by `kmm.evaluate.compare.compare_models`; each row also has `n` and `n_positive`, the counts of
        the studies that it was measured on. For a classifier with a text baseline also `leak_probe`, see
        `kmm.evaluate.leak_probe.probe_leak`; and `mined`, the sections that it reads and that its labels were made
        from, if there are any.
    """
    present, scores = predictions.present, score_rows(classifier, predictions)
    patients = np.array([study.patient for study in predictions.studies], object)

    def measure(names: Sequence[str], chosen: np.ndarray) -> dict[str, Any]:
        found = compare_models(
            predictions.labels[chosen],
            {name: scores[name][chosen] for name in names},
            thresholds={name: classifier.thresholds_for(present[chosen], name) for name in names},
            groups=patients[chosen].tolist(),
            label_names=classifier.label_names,
            train_prevalence=choose_rows(classifier.prevalence, present[chosen]),
            repeats=repeats,
            seed=classifier.settings.seed,
        )
        counts = {name: found[name] for name in ("n", "n_positive")}
        return found | {name: {**counts, **found[name]} for name in ROWS if found[name] is not None}

    measured = {name: find_measured(name, present) for name in scores}
    result = measure([name for name in scores if measured[name].all()], np.ones(len(present), bool))
    for name in scores:
        if not measured[name].all():
            apart = measure([*(scores.keys() & {"joint"}), name], measured[name])
            result[name], result["tests"][name] = apart[name], apart["tests"][name]
    if mined := find_mined_sections(classifier):
        result[MINED] = mined
    probe = probe_leak(classifier, predictions, result, repeats=repeats)
    return result if probe is None else result | {"leak_probe": probe}


def evaluate_studies(
    classifier: Classifier,
    studies: Sequence[Study],
    *,
    strict: bool = False,
    progress: Progress | None = None,
    keep: Callable[[str, StudyLogits], object] | None = None,
) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Measures a classifier on studies: those of its validation part as `validation`, unseen studies as `test`.

    Studies that it was trained on are left out. If its weights were changed after the fit on studies that kmm does not
    know, no study counts as test: the others are called `unverified`, see `kmm.evaluate.changed_weights`.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`, not labelled yet.
        strict: bool. Raise at the first unusable study.
        progress: `kmm.progress.Progress`. Its notes count the studies that were left out, with the reason.
        keep: function of the name of a part and its `StudyLogits`, called for each part that is measured; or None.

    Returns:
        dict of part to the result of `evaluate_predictions`, without empty parts, with the keys of
        `kmm.evaluate.part_details.describe_part` (no `shift` of validation), and with `caution` (str) if training
        studies may not have been recognised; list of `Problem`.

    Raises:
        InputError: if two studies have the same id, or no study is left to measure on; its `problems` list the studies
            that were set aside.
    """
    progress = progress or Progress()
    if again := [name for name, count in Counter(study.id for study in studies).items() if count > 1]:
        some = ", ".join(again[:5]) + (", ..." if len(again) > 5 else "")
        raise InputError(
            f"Each study needs an id of its own. Received more than once: {some}. Rename them: `study.with_id(...)`."
        )
    caution = describe_change(classifier) or ("" if classifier.seen else UNRECOGNISED)
    if caution:
        progress.note(caution)
    results: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    tallies: dict[str, FilmTally] = defaultdict(FilmTally)
    measured = predict_unseen(
        classifier, studies, strict=strict, progress=progress, watch=lambda part, batch: tallies[part].add(batch)
    )
    for part, predictions in measured.items():
        problems += predictions.problems
        if predictions.studies:
            repeats = classifier.settings.bootstrap_repeats
            results[part] = evaluate_predictions(classifier, predictions, repeats=repeats)
            tally = None if part == "validation" else tallies[part]
            results[part] |= describe_part(classifier, predictions, studies, tally, repeats=repeats)
            if caution:
                results[part]["caution"] = caution
            if keep:
                keep(part, predictions)
    if not results:
        error = InputError(f"Expected labelled studies that can be used. All {len(problems)} were set aside.")
        error.problems = problems
        raise error
    return results, problems
