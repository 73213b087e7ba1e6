"""Leak probe: how much of the answer a linear model finds in the words of the reports, before and after a redaction.

The probe is the text baseline of every evaluation, logistic regression on TF-IDF, on exactly the text that the model
gets. With a redaction it is trained a second time on the same studies, with the text before the redaction.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.data.modalities import as_table
from kmm.data.study import Study
from kmm.evaluate.compare import compare_models
from kmm.evaluate.decisions.thresholds import choose_thresholds

if TYPE_CHECKING:
    from kmm.classifier import Classifier, StudyLogits

AFTER, BEFORE = "tfidf", "tfidf_before"  # names of their thresholds
MEASURED = ("roc_auc", "accuracy")


def score_texts(classifier: "Classifier", studies: Sequence[Study]) -> dict[str, np.ndarray]:
    """Computes the probabilities of the text baselines that a classifier has.

    Args:
        classifier: `Classifier`.
        studies: sequence of n `Study`.

    Returns:
        dict of `AFTER` and, with a redaction, `BEFORE` to float64 `(n, n_labels)`; empty without a text baseline.
    """
    text, found = classifier.batches.text, {}
    if text is not None and classifier.tfidf is not None:
        found[AFTER] = classifier.tfidf.predict([text.redacted_text(study) for study in studies])
    if text is not None and classifier.tfidf_before is not None:
        found[BEFORE] = classifier.tfidf_before.predict([text.text(study) for study in studies])
    return found


def choose_text_thresholds(classifier: "Classifier", validation: "StudyLogits") -> np.ndarray | None:
    """Chooses the thresholds of the text baselines on the validation studies that have a report; returns the scores of
    the baseline, float64 `(n, n_labels)`, or None without one."""
    chosen, policy = validation.present[:, 1] > 0, classifier.settings.threshold_policy
    found = score_texts(classifier, validation.studies)
    for name, scores in found.items():
        cuts = choose_thresholds(validation.labels[chosen], scores[chosen], policy=policy)
        classifier.thresholds[name] = as_table(cuts)
    return found.get(AFTER)


def probe_leak(
    classifier: "Classifier", predictions: "StudyLogits", result: Mapping[str, Any], *, repeats: int = 1000
) -> dict[str, Any] | None:
    """Measures the text baseline before and after the redaction, on the studies that have a report.

    Args:
        classifier: `Classifier`.
        predictions: `StudyLogits`.
        result: dict as returned by `kmm.evaluate.compare.compare_models`, with the row `tfidf`.
        repeats: int. Number of bootstrap draws for the intervals.

    Returns:
        dict of `after` and, with a redaction, `before`: `n`, `n_positive`, `roc_auc`, `accuracy` and their `intervals`;
        and with a redaction `difference`: for each of the two metrics, before minus after with interval and paired test
        as in `tests` of `compare_models`. None without a text baseline.
    """
    if result.get(AFTER) is None:
        return None
    after = _select(result[AFTER])
    if classifier.tfidf_before is None:
        return {"after": after}
    chosen = predictions.present[:, 1] > 0
    scores = score_texts(classifier, [predictions.studies[row] for row in np.flatnonzero(chosen)])
    present = predictions.present[chosen]
    names = {"joint": BEFORE, "tfidf": AFTER}  # `compare_models` tests the row `joint` against each other one
    found = compare_models(
        predictions.labels[chosen],
        {row: scores[name] for row, name in names.items()},
        thresholds={row: classifier.thresholds_for(present, name) for row, name in names.items()},
        groups=[predictions.studies[row].patient for row in np.flatnonzero(chosen)],
        label_names=classifier.label_names,
        train_prevalence=0.5,
        repeats=repeats,
        seed=classifier.settings.seed,
    )
    counts = {name: found[name] for name in ("n", "n_positive")}
    difference = {metric: found["tests"]["tfidf"][metric] for metric in MEASURED}
    return {"before": _select(counts | found["joint"]), "after": after, "difference": difference}


def describe_leak(result: Mapping[str, Any]) -> list[str]:
    """Describes the leak probe of a result in sentences for a reader; empty if it was not measured.

    Args:
        result: dict as returned by `kmm.evaluate.report.evaluate_predictions`.

    Returns:
        list of str, none, one or two sentences.

    Example:
        >>> after = {"roc_auc": 0.99, "intervals": {"roc_auc": [0.98, 1.0]}}
        >>> describe_leak({"leak_probe": {"after": after}})[0]
        'Leak probe: from the words that the model reads, TF-IDF alone reaches ROC AUC 0.990 [0.980, 1.000].'
    """
    probe = result.get("leak_probe")
    if not probe or probe["after"]["roc_auc"] is None:
        return []
    after = _show(probe["after"])
    if "before" not in probe:
        return [
            f"Leak probe: from the words that the model reads, TF-IDF alone reaches ROC AUC {after}.",
            "Near 1, the report itself gives the answer away.",
        ]
    difference = probe["difference"]["roc_auc"]
    between = " [{:+.3f}, {:+.3f}]".format(*difference["interval"]) if difference["interval"] else ""
    return [
        f"Leak probe: TF-IDF reaches ROC AUC {_show(probe['before'])} on the reports before the redaction and {after} "
        f"after it; before minus after: {difference['difference']:+.3f}{between}.",
        "If the value after the redaction is near 1, the words that are left still give the answer away.",
    ]


def _select(row):
    counts = {name: row[name] for name in ("n", "n_positive") if name in row}
    intervals = {metric: row["intervals"][metric] for metric in MEASURED}
    return counts | {metric: row[metric] for metric in MEASURED} | {"intervals": intervals}


def _show(row):
    between = row["intervals"]["roc_auc"]
    return f"{row['roc_auc']:.3f}" + (f" [{between[0]:.3f}, {between[1]:.3f}]" if between else "")
