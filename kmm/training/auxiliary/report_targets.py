"""Targets that films can learn from reports: MeSH heads and vectors. Both are fitted on the training part alone."""

from collections.abc import Sequence

import numpy as np

from kmm.data.labels import label_studies
from kmm.errors import InputError
from kmm.settings import FitSettings
from kmm.text.tfidf import TfidfBaseline
from kmm.training.preparation.prepared_studies import PreparedStudies

REPORT_DIMENSIONS = 128


def find_headings(prepared: PreparedStudies, settings: FitSettings) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels the studies with every MeSH head of at least `label_min_count` training studies, organs included.

    Args:
        prepared: `PreparedStudies`.
        settings: `FitSettings`.

    Returns:
        float32 `(n, k)` of 1, 0, and NaN for studies that were not indexed; and the names of the heads.

    Raises:
        InputError: if no head is frequent enough.
    """
    train = [prepared.studies[row] for row in prepared.rows("train")]
    _, names = label_studies(train, "findings", min_count=settings.label_min_count, not_findings=())
    labelled, _ = label_studies(prepared.studies, "findings", names=names, not_findings=())
    return np.array([[study.labels[name] for name in names] for study in labelled], np.float32), names


def reduce_reports(
    prepared: PreparedStudies, texts: Sequence[str], worded: np.ndarray, settings: FitSettings
) -> np.ndarray:
    """Describes each report by a vector: TF-IDF of its words and word pairs, reduced by a singular value decomposition.

    Args:
        prepared: `PreparedStudies`.
        texts: sequence of str, one per study: what is read of its report.
        worded: bool `(n,)`: the studies whose text has words.
        settings: `FitSettings`, for the seed and the fewest patients of a word.

    Returns:
        float32 `(n, d)` with rows of length 1, of at most `REPORT_DIMENSIONS` numbers; zeros for a report without any
        word of the training part.

    Source: https://doi.org/10.1002/(SICI)1097-4571(199009)41:6%3C391::AID-ASI1%3E3.0.CO;2-9

    Raises:
        InputError: if the training reports lack words.
    """
    from sklearn.decomposition import TruncatedSVD

    train = [row for row in prepared.rows("train") if worded[row]]
    fitted = TfidfBaseline.fit(
        [texts[row] for row in train],
        np.full((len(train), 0), np.nan),
        patients=[prepared.studies[row].patient for row in train],
        min_patients=settings.min_word_patients,
    )
    weights = fitted.weigh(texts)
    dimensions = min(REPORT_DIMENSIONS, len(fitted.terms) - 1, len(train) - 1)
    if dimensions < 2:
        raise InputError("There are too few training reports with words.")
    vectors = TruncatedSVD(dimensions, random_state=settings.seed).fit(weights[train]).transform(weights)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors.astype(np.float32)
