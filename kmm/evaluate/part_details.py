"""Details of a part of an evaluation: its subgroups, and what shifted since training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kmm.classifier import Classifier, Predictions
from kmm.data.cohorts import find_cohorts
from kmm.data.study import Study
from kmm.evaluate.profile import UNKNOWN_WORDS, FilmTally, Profile, Share, profile_studies
from kmm.evaluate.shift import NO_PROFILE, compare_profiles
from kmm.evaluate.subgroups import measure_subgroups
from kmm.evaluate.wrong_report import Predict

PROFILE = "training_profile"  # in the provenance of a classifier


def describe_subgroups(
    classifier: Classifier, predictions: Predictions, *, repeats: int = 1000
) -> list[dict[str, Any]]:
    """Measures the main part of a classifier on each cohort of the predicted studies.

    Args:
        classifier: `Classifier`.
        predictions: `Predictions` with the logits of its main part.
        repeats: int. Number of bootstrap draws for the intervals.

    Returns:
        list of dicts, as `kmm.evaluate.subgroups.measure_subgroups` returns it.
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


def make_predict(classifier: Classifier) -> Predict:
    """Makes a function of studies that returns the probabilities of the main part `(n, n_labels)`, in their order.

    Its errors are `ImageError` and `ReportError`, for the first study that cannot be used.
    """

    def predict(studies: Sequence[Study]) -> np.ndarray:
        found = classifier.predict(studies, strict=True)
        return classifier.probabilities(found.logits[classifier.main], found.present)

    return predict


def describe_part_shift(classifier: Classifier, predictions: Predictions, tally: FilmTally) -> dict[str, Any]:
    """Compares the predicted studies with those that the classifier was trained on.

    Args:
        classifier: `Classifier`.
        predictions: `Predictions`.
        tally: `FilmTally` of the films that were read for the predictions.

    Returns:
        dict, as `kmm.evaluate.shift.compare_profiles` returns it; with `note` if the classifier has no profile.
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
