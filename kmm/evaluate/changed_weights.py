"""State of a classifier whose weights were changed after its fit: what no longer holds, until it is recalibrated.

Metrics, temperatures, thresholds and the list of training studies belong to the weights that were fitted. The state is
kept in the provenance of the classifier, so it is saved with it.
"""

from typing import TYPE_CHECKING

from kmm.errors import InputError

if TYPE_CHECKING:
    from kmm.classifier import Classifier

KEY = "weights_changed"  # in the provenance
STALE, RECALIBRATED, KNOWN = "stale", "recalibrated", "recalibrated, training studies given"
UNVERIFIED = "unverified"  # the part of studies that may have been used to change the weights
CAUTIONS = {
    STALE: "The weights were changed after the fit. The calibration, the thresholds and the metrics of the fit no "
    "longer hold, and the studies that the weights were changed on are not known, so no study counts as test. "
    "Recalibrate the classifier on labelled studies: `classifier.recalibrate(studies)`.",
    RECALIBRATED: "The weights were changed after the fit, and the classifier was recalibrated. The studies that the "
    "weights were changed on are not known: if they are among these, the results are too good.",
}


def mark_changed(classifier: "Classifier") -> None:
    """Marks a classifier as changed: its metrics are dropped, and its calibration no longer holds."""
    classifier.provenance[KEY] = STALE
    classifier.metrics.clear()


def mark_recalibrated(classifier: "Classifier", *, trained_on_known: bool) -> None:
    """Marks a changed classifier as recalibrated.

    Args:
        classifier: `Classifier`.
        trained_on_known: bool. Whether it knows the studies that its weights were changed on.
    """
    if KEY in classifier.provenance:
        classifier.provenance[KEY] = KNOWN if trained_on_known else RECALIBRATED


def describe_change(classifier: "Classifier") -> str:
    """Says what no longer holds of a classifier; empty if its weights are those of its fit, or all is known again.

    Raises:
        InputError: if the state is none that kmm writes.
    """
    state = classifier.provenance.get(KEY, KNOWN)
    if state not in (*CAUTIONS, KNOWN):
        raise InputError(f"The provenance of the classifier has an unknown value of {KEY}: {state!r}.")
    return CAUTIONS.get(state, "")


def is_stale(classifier: "Classifier") -> bool:
    """Returns whether the weights were changed and the classifier was not recalibrated since."""
    return classifier.provenance.get(KEY) == STALE
