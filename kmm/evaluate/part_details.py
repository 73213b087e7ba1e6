"""Details of a part of an evaluation: decision curves, subgroups, other label schemes, and what shifted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kmm.classifier import Classifier, StudyLogits
from kmm.data.cohorts import find_cohorts
from kmm.data.modalities import choose_rows
from kmm.data.study import Study
from kmm.evaluate.breakdown.label_sensitivity import measure_label_schemes
from kmm.evaluate.breakdown.profile import UNKNOWN_WORDS, FilmTally, Profile, Share, profile_studies
from kmm.evaluate.breakdown.shift import NO_PROFILE, compare_profiles
from kmm.evaluate.breakdown.subgroups import measure_subgroups
from kmm.evaluate.decisions.decision_curve import compute_decision_curve
from kmm.rules.rule_scheme import saved_scheme

CURVE_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
PROFILE = "training_profile"  # in the provenance of a classifier


def describe_part(
    classifier: Classifier,
    predictions: StudyLogits,
    studies: Sequence[Study],
    tally: FilmTally | None,
    *,
    repeats: int = 1000,
) -> dict[str, Any]:
    """Describes the results of the main part of a classifier in detail.

    Args:
        classifier: `Classifier`.
        predictions: `StudyLogits` with the logits of its main part.
        studies: sequence of `Study`: those predicted and perhaps others, as they were read, with the labels of their
            manifest.
        tally: `FilmTally` of the films that were read for the predictions; None leaves the shift out.
        repeats: int. Number of bootstrap draws for the intervals.

    Returns:
        dict for JSON: `decision_curve`, `subgroups`, `label_schemes` and `shift`, of the functions below.
    """
    return {
        "decision_curve": describe_decision_curves(classifier, predictions, repeats=repeats),
        "subgroups": describe_subgroups(classifier, predictions, repeats=repeats),
        "label_schemes": describe_label_schemes(classifier, predictions, studies, repeats=repeats),
        **({} if tally is None else {"shift": describe_part_shift(classifier, predictions, tally)}),
    }


def describe_subgroups(
    classifier: Classifier, predictions: StudyLogits, *, repeats: int = 1000
) -> list[dict[str, Any]]:
    """Measures the main part of a classifier on each cohort of the predicted studies.

    Args:
        classifier: `Classifier`.
        predictions: `StudyLogits` with the logits of its main part.
        repeats: int. Number of bootstrap draws for the intervals.

    Returns:
        list of dicts, as `kmm.evaluate.breakdown.subgroups.measure_subgroups` returns it.
    """
    present = predictions.present
    return measure_subgroups(
        predictions.labels,
        classifier.probabilities(predictions.logits[classifier.main], present),
        classifier.thresholds_for(present),
        find_cohorts(predictions.studies, present),
        [study.patient for study in predictions.studies],
        label_names=classifier.label_names,
        repeats=repeats,
        seed=classifier.settings.seed,
    )


def describe_decision_curves(
    classifier: Classifier, predictions: StudyLogits, *, repeats: int = 1000
) -> dict[str, dict[str, Any] | None]:
    """Computes the decision curve of the main part for each label.

    Args:
        classifier, predictions, repeats: as for `describe_subgroups`.

    Returns:
        dict of label to the dict of `kmm.evaluate.decisions.decision_curve.DecisionCurve` at `CURVE_THRESHOLDS`, or
        None if no label is known.
    """
    probabilities = classifier.probabilities(predictions.logits[classifier.main], predictions.present)
    patients, seed = [study.patient for study in predictions.studies], classifier.settings.seed
    found: dict[str, dict[str, Any] | None] = {}
    for name, labels, values in zip(classifier.label_names, predictions.labels.T, probabilities.T, strict=True):
        known = not np.isnan(labels).all()
        curve = (
            compute_decision_curve(labels, values, CURVE_THRESHOLDS, patients, repeats=repeats, seed=seed)
            if known
            else None
        )
        found[name] = curve.as_dict() if curve else None
    return found


def describe_label_schemes(
    classifier: Classifier, predictions: StudyLogits, studies: Sequence[Study], *, repeats: int = 1000
) -> dict[str, dict[str, Any]]:
    """Measures the main part of a classifier against the labels of every scheme that knows its labels.

    Args:
        classifier, predictions, studies, repeats: as for `describe_part`.

    Returns:
        dict of scheme to a dict, as `kmm.evaluate.breakdown.label_sensitivity.measure_label_schemes` returns it.
    """
    read, main, present = {study.id: study for study in studies}, classifier.main, predictions.present
    return measure_label_schemes(
        [read[study.id] for study in predictions.studies],
        {main: classifier.probabilities(predictions.logits[main], present)},
        thresholds={main: classifier.thresholds_for(present)},
        label_names=classifier.label_names,
        scheme=saved_scheme(classifier.settings.labels, classifier.provenance),
        train_prevalence=choose_rows(classifier.prevalence, present),
        repeats=repeats,
        seed=classifier.settings.seed,
        not_findings=classifier.settings.not_findings,
    )


def describe_part_shift(classifier: Classifier, predictions: StudyLogits, tally: FilmTally) -> dict[str, Any]:
    """Compares the predicted studies with those that the classifier was trained on.

    Args:
        classifier: `Classifier`.
        predictions: `StudyLogits`.
        tally: `FilmTally` of the films that were read for the predictions.

    Returns:
        dict, as `kmm.evaluate.breakdown.shift.compare_profiles` returns it; with `note` if the classifier has no
        profile.
    """
    found = profile_studies(
        classifier.batches,
        predictions.studies,
        present=predictions.present,
        labels=predictions.labels,
        tally=tally,
    )
    saved = classifier.provenance.get(PROFILE)
    if saved is None:
        return compare_profiles(_guess_profile(classifier), found) | {"note": NO_PROFILE}
    return compare_profiles(Profile.from_dict(saved), found)


def _guess_profile(classifier: Classifier) -> Profile:
    """Makes a profile of what classifiers without one say of their training studies: shares of an unknown number."""
    shares = {
        f"prevalence of {name}": Share(float(share), 0, 0.0)
        for name, share in zip(classifier.label_names, classifier.prevalence[0], strict=True)
    }
    text: Mapping[str, Any] = classifier.provenance.get("text") or {}
    if text.get("unknown_rate_on_validation") is not None:
        shares[UNKNOWN_WORDS] = Share(float(text["unknown_rate_on_validation"]), 0, 0.0)
    return Profile(0, 0, shares, {})
