"""Graded relevance of studies to each other: the share of their findings that they have in common, rare ones weighing
more."""

import numpy as np

NO_FINDING = "no finding"


def add_no_finding(labels: np.ndarray) -> np.ndarray:
    """Adds a column for studies that are known to have none of the labels, so that they are alike.

    Args:
        labels: float `(n, n_labels)` of 0, 1 and NaN.

    Returns:
        float32 `(n, n_labels + 1)`: the last column is 1 if all labels are 0, 0 if one is 1, and NaN if that is not
        known.

    Example:
        >>> add_no_finding(np.array([[0, 0], [1, np.nan], [0, np.nan]]))[:, -1].tolist()
        [1.0, 0.0, nan]
    """
    labels = np.asarray(labels, np.float32)
    some, none = (labels == 1).any(axis=1), (labels == 0).all(axis=1)
    return np.column_stack([labels, np.where(some, 0, np.where(none, 1, np.nan))]).astype(np.float32)


def weigh_findings(labels: np.ndarray) -> np.ndarray:
    """Weighs findings by their rarity: the logarithm of the inverse of their prevalence.

    Args:
        labels: float `(n, n_labels)` of 0, 1 and NaN.

    Returns:
        float64 `(n_labels,)`, in bits; 0 for a finding that all or none of the studies have.

    Source: https://doi.org/10.1108/eb026526 (inverse document frequency)

    Example:
        >>> weigh_findings(np.array([[1, 1], [1, 0], [1, 0], [1, np.nan]])).round(3).tolist()
        [0.0, 1.585]
    """
    positive, known = (labels == 1).sum(axis=0), np.isfinite(labels).sum(axis=0)
    share = np.divide(positive, known, out=np.ones(len(positive)), where=positive > 0)
    return -np.log2(share) + 0.0


def grade_relevance(queries: np.ndarray, studies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Grades how relevant studies are to queries.

    The grade is the weight of the findings that both have, divided by the weight of those that one of them has (a
    weighted Jaccard index). Findings that are not known of one of the two are left out of their pair.

    Args:
        queries: float `(q, n_labels)` of 0, 1 and NaN.
        studies: float `(n, n_labels)`.
        weights: float `(n_labels,)`, at least 0.

    Returns:
        float32 `(q, n)` in [0, 1]; 0 where neither has a finding that weighs.

    Source: https://en.wikipedia.org/wiki/Jaccard_index#Weighted_Jaccard_similarity_and_distance

    Example:
        >>> mass, both, effusion = [1, 0], [1, 1], [0, 1]
        >>> grade_relevance(np.array([both]), np.array([mass, both, effusion]), np.array([3.0, 1.0])).tolist()
        [[0.75, 1.0, 0.25]]
    """
    roots = np.sqrt(np.asarray(weights, np.float32))
    (ones, known), (others, other_known) = (
        ((values == 1) * roots, np.isfinite(values) * roots) for values in (queries, studies)
    )
    common = ones @ others.T
    union = ones @ other_known.T + known @ others.T - common
    grades = np.divide(common, union, out=np.zeros_like(common), where=union > 1e-9)
    return np.minimum(grades, 1).astype(np.float32)
