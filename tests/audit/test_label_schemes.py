"""Label schemes side by side: each says what its rule says, and changes are counted study by study."""

import math

import pytest

from kmm.audit.label_schemes import apply_schemes, choose_scheme, describe_schemes, find_changes
from kmm.data.labels import LABEL_SCHEMES
from kmm.data.study import Study

POOR = "Technical Quality of Image Unsatisfactory"
MESH = (("normal",), ("normal",), ("Opacity",), ("Opacity", POOR), ("No Indexing",), ())


@pytest.fixture
def studies():
    """Two normal, one with a finding, one of poor quality with a finding, one not indexed, one without MeSH."""
    return [Study(str(i), str(i), mesh_major=terms) for i, terms in enumerate(MESH)]


def test_each_scheme_counts_what_its_rule_says(studies):
    found, reasons = apply_schemes(studies, min_count=2)
    rows = {row["scheme"]: row for row in describe_schemes(found, reasons, len(studies))}
    assert list(rows) == list(LABEL_SCHEMES)

    def count(scheme):
        return tuple(rows[scheme][key] for key in ("studies", "left_out", "positive", "negative", "unknown"))

    assert count("normal-abnormal") == (6, 0, 3, 2, 1)
    assert count("normal-abnormal-indexed-only") == (5, 1, 2, 2, 1)
    assert count("normal-abnormal-unindexed-unknown") == (6, 0, 2, 2, 2)
    assert count("normal-abnormal-poor-quality-unknown") == (6, 0, 2, 2, 2)
    assert rows["findings"]["counts"] == {"Opacity": {"positive": 2, "negative": 2, "unknown": 2, "prevalence": 0.5}}
    assert "label:<name>" in rows["columns"]["reason"] and "counts" not in rows["columns"]


def test_changes_are_counted_study_by_study(studies):
    changes = {(row["scheme"], row["other"]): row for row in find_changes(apply_schemes(studies)[0])}
    first = "normal-abnormal"
    assert changes[first, "normal-abnormal-indexed-only"]["changed"] == 1  # the study that is left out
    assert changes[first, "normal-abnormal-unindexed-unknown"]["changed"] == 1
    assert changes[first, "normal-abnormal-poor-quality-unknown"]["changed"] == 1
    between = changes["normal-abnormal-unindexed-unknown", "normal-abnormal-poor-quality-unknown"]
    assert (between["changed"], between["flipped"], between["labels"]) == (2, 0, 1)
    assert changes["normal-abnormal-indexed-only", "normal-abnormal-unindexed-unknown"]["changed"] == 0


def test_uncertain_columns_flip_between_their_schemes():
    values = [(1, ()), (0, ()), (math.nan, ("mass",)), (1, ()), (0, ()), (1, ()), (0, ())]
    studies = [
        Study(str(i), str(i), labels={"mass": float(value)}, uncertain=frozenset(uncertain))
        for i, (value, uncertain) in enumerate(values)
    ]
    found, reasons = apply_schemes(studies)
    assert set(found) == {"columns", "columns-uncertain-ones", "columns-uncertain-zeros"}
    assert set(reasons) == set(LABEL_SCHEMES) - set(found) and choose_scheme(found) == "columns"
    changes = {(row["scheme"], row["other"]): (row["changed"], row["flipped"]) for row in find_changes(found)}
    assert changes["columns", "columns-uncertain-ones"] == (1, 0)
    assert changes["columns-uncertain-ones", "columns-uncertain-zeros"] == (1, 1)


def test_schemes_without_a_common_label_are_not_compared():
    assert find_changes({"a": {"1": {"mass": 1.0}}, "b": {"1": {"cyst": 1.0}}}) == []


def test_studies_without_labels_have_a_reason_for_every_scheme():
    found, reasons = apply_schemes([Study("1", "1")])
    assert (found, choose_scheme(found), set(reasons)) == ({}, None, set(LABEL_SCHEMES))
