"""Measures within a split beside the metrics: shares of each side, wrong reports, label rules, subgroups."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kmm.classifier import Classifier
from kmm.data.cohorts import find_cohorts
from kmm.data.modalities import PATTERNS
from kmm.data.study import Study
from kmm.errors import InputError
from kmm.evaluate.breakdown.label_sensitivity import measure_label_schemes
from kmm.evaluate.breakdown.subgroups import measure_subgroups
from kmm.evaluate.breakdown.wrong_report import measure_wrong_report
from kmm.evaluate.decisions.selective import measure_selection
from kmm.evaluate.statistics.shapley import COALITIONS, share_metric
from kmm.experiments.tasks.answers import Answers
from kmm.rules.rule_scheme import saved_scheme
from kmm.training.fit import Run

MEASURED = "test"
MODEL_OF = dict(zip(COALITIONS, ("majority", "joint-image", "joint-text", "joint"), strict=True))  # what sees what
SHARED_METRICS = ("roc_auc", "accuracy")
MEASURES = ("shapley", "wrong_report", "selective", "subgroups", "label_schemes")


def measure_split(classifier: Classifier, run: Run, answers: Mapping[str, Mapping[str, Answers]]) -> dict[str, Any]:
    """Measures the test part of a split. Intervals are left to the splits, so no draws are made.

    Args:
        classifier, run: results of `kmm.training.fit.fit_classifier`.
        answers: dict of part to dict of model to `Answers`.

    Returns:
        dict for JSON: `shapley` (metric to the result of `share_metric`), `wrong_report`, `selective` (label to the
        result of `measure_selection`), `subgroups`, `label_schemes`; None where there is nothing to measure. And
        `not_measured`: dict of those of them that could not be measured to the reason.
    """
    models = answers.get(MEASURED)
    if not models:
        return {**dict.fromkeys(MEASURES), "not_measured": {}}
    measures: dict[str, Callable[[], Any]] = {
        "selective": lambda: _select(run, models[classifier.main]),
        "subgroups": lambda: _divide(run, models[classifier.main]),
        "label_schemes": lambda: _relabel(run, models),
    }
    if "joint" in models:
        measures |= {"shapley": lambda: _share(run, models), "wrong_report": lambda: _exchange(classifier, run)}
    found: dict[str, Any] = dict.fromkeys(MEASURES)
    reasons = {}
    for name, measure in measures.items():
        try:
            found[name] = measure()
        except InputError as error:  # the studies of this part lack what is measured
            reasons[name] = str(error)
    return {**found, "not_measured": reasons}


def _test_studies(run: Run) -> tuple[np.ndarray, list[Study]]:
    rows = run.rows(MEASURED)
    return rows, [run.prepared.studies[row] for row in rows]


def _share(run, models):
    """Divides metrics of the joint model between film and report, on the studies that have both."""
    rows, _ = _test_studies(run)
    both = run.prepared.present[rows].all(axis=1)
    if not both.any():
        raise InputError("No study has a film and a report that the model reads.")
    seen = {name: models[model] for name, model in MODEL_OF.items()}
    return {
        metric: share_metric(
            run.prepared.labels[rows][both],
            {name: found.probabilities[both] for name, found in seen.items()},
            {name: found.thresholds[both] for name, found in seen.items()},
            metric=metric,
            label_names=run.maker.label_names,
            repeats=0,
        )
        for metric in SHARED_METRICS
    }


def _exchange(classifier, run):
    """Measures the joint model on films with the report of another study.

    Studies without a film, or without words that the model reads, are left out.
    """
    rows, studies = _test_studies(run)
    both = run.prepared.present[rows].all(axis=1)
    return measure_wrong_report(
        make_joint(classifier, run),
        [study for study, kept in zip(studies, both, strict=True) if kept],
        run.prepared.labels[rows][both],
        thresholds=classifier.thresholds["joint"][PATTERNS.index("both")],
        film_thresholds=classifier.thresholds["joint"][PATTERNS.index("image")],
        label_names=run.maker.label_names,
        seed=run.settings.seed,
        repeats=0,
    )


def make_joint(classifier: Classifier, run: Run) -> Callable[[Sequence[Study]], np.ndarray]:
    """Makes a function of studies of the run that returns the probabilities of the joint model `(n, n_labels)`.

    A study may have the report of another study of the run, or none. Films and reports are not read again: the features
    that are known are put together.
    """
    place = {study.id: row for row, study in enumerate(run.prepared.studies)}
    owner = {id(study.report): row for row, study in enumerate(run.prepared.studies)}
    columns = {name: column for name, column in run.features.recall(run.models["joint"]).items() if "text_" in name}
    columns["token_ids"] = run.token_ids

    def predict(studies: Sequence[Study]) -> np.ndarray:
        rows = np.array([place[study.id] for study in studies], np.int64)
        report = np.arange(len(run.prepared.studies))
        report[rows] = [owner[id(study.report)] if study.report else row for row, study in zip(rows, studies)]
        present = run.prepared.present.copy()
        has_words = run.prepared.present[report[rows], 1]
        present[rows, 1] = [words if study.report else 0 for words, study in zip(has_words, studies)]
        other = {name: column[report] for name, column in columns.items()}
        logits = run.answers["joint"](rows, present=present, **other)
        return classifier.probabilities(logits, present[rows], "joint")

    return predict


def _select(run, found):
    """Measures for each label how well the distance from the threshold says which decisions are wrong."""
    rows, _ = _test_studies(run)
    kept = found.measured
    return {
        label: measure_selection(
            run.prepared.labels[rows][kept, column], found.probabilities[kept, column], found.thresholds[kept, column]
        )
        for column, label in enumerate(run.maker.label_names)
    }


def _divide(run, found):
    """Measures the cohorts of the test studies."""
    rows, studies = _test_studies(run)
    kept = np.flatnonzero(found.measured)
    studies = [studies[row] for row in kept]
    return measure_subgroups(
        run.prepared.labels[rows][kept],
        found.probabilities[kept],
        found.thresholds[kept],
        find_cohorts(studies, run.prepared.present[rows][kept]),
        [study.patient for study in studies],
        label_names=run.maker.label_names,
        repeats=0,
    )


def _relabel(run, models):
    """Measures the same predictions against the labels of other rules."""
    _, studies = _test_studies(run)
    whole = [name for name in ("joint", "image", "text", "tfidf") if name in models and models[name].measured.all()]
    found = measure_label_schemes(
        studies,
        {name: models[name].probabilities for name in whole},
        thresholds={name: models[name].thresholds for name in whole},
        label_names=run.maker.label_names,
        scheme=saved_scheme(run.settings.labels, run.facts),
        train_prevalence=models["majority"].probabilities,
        repeats=0,
        min_count=1,
        not_findings=run.settings.not_findings,
    )
    return {scheme: {**result, "tests": None} for scheme, result in found.items()}
