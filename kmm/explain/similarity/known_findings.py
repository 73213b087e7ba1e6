"""Findings of studies: their labels, and what a classifier predicts of them."""

from collections.abc import Sequence

from kmm.classifier import Classifier
from kmm.data.labels import label_studies
from kmm.data.study import Study
from kmm.explain.output.findings import Findings


def find_findings(classifier: Classifier, studies: Sequence[Study]) -> list[Findings]:
    """Finds the labels of studies, by the classifier's label scheme unless they came with labels of its names, and its
    predictions.

    Args:
        classifier: `kmm.classifier.Classifier`.
        studies: sequence of `Study`.

    Returns:
        list of `Findings`, in the order of the studies.

    Raises:
        ImageError, ReportError: if a study cannot be predicted.
    """
    found = classifier.predict(studies, strict=True)
    names = classifier.label_names
    probabilities = classifier.probabilities(found.logits[classifier.main], found.present)
    thresholds = classifier.thresholds_for(found.present)
    return [
        Findings(
            known=find_labels(classifier, study),
            probabilities=dict(zip(names, map(float, row), strict=True)),
            thresholds=dict(zip(names, map(float, limits), strict=True)),
        )
        for study, row, limits in zip(studies, probabilities, thresholds, strict=True)
    ]


def find_labels(classifier: Classifier, study: Study) -> dict[str, float]:
    """Returns the labels of a study: those of the classifier's names that it came with, or else by the classifier's
    label scheme; dict of label to 0.0, 1.0 or NaN, empty if the scheme has no label for it."""
    names = classifier.label_names
    if set(study.labels) & set(names):
        return {name: float(study.labels[name]) for name in names if name in study.labels}
    labelled, _ = label_studies([study], classifier.settings.labels, names=names)
    return {name: float(value) for one in labelled for name, value in one.labels.items()}
