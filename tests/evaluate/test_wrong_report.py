"""Films with the report of another study: the exchange, and classifiers of which the answer is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from kmm.data.study import ImageFile, Report, Study
from kmm.errors import InputError
from kmm.evaluate.breakdown import wrong_report
from kmm.evaluate.breakdown.wrong_report import exchange_reports, measure_wrong_report


def make_studies(labels, *, patients=None):
    """Studies whose film and report both say the label."""
    return [
        Study(
            str(place),
            str(place if patients is None else patients[place]),
            (ImageFile(Path(f"film-{label:g}.png"), "frontal"),),
            Report(findings=f"case {place} says {label:g}"),
        )
        for place, label in enumerate(labels)
    ]


def read_report(studies):
    """Believes the report; without one, it does not know."""
    return np.array([[0.1 + 0.8 * float(s.report.findings[-1]) if s.report else 0.5] for s in studies])


def read_film(studies):
    """Believes the film."""
    return np.array([[0.1 + 0.8 * float(s.frontal.path.stem[-1])] for s in studies])


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=40), st.integers(0, 5))
def test_each_report_is_used_once_and_most_labels_differ(labels, seed):
    donors = exchange_reports(make_studies(labels), labels, seed=seed)
    assert sorted(donors) == list(range(len(labels))) and not any(donors == np.arange(len(labels)))
    positives = int(sum(labels))
    differ = sum(labels[donor] != label for donor, label in zip(donors, labels, strict=True))
    assert differ == 2 * min(positives, len(labels) - positives)  # each of the rarer label can be paired twice


def test_no_film_gets_a_report_of_its_patient_or_the_same_words():
    rng = np.random.default_rng(0)
    labels, patients = rng.integers(0, 2, 60).astype(float), rng.integers(0, 12, 60)
    studies = make_studies(labels, patients=patients)
    same = [Study(s.id, s.patient, s.images, Report(findings="Clear.")) if int(s.id) % 4 == 0 else s for s in studies]
    for seed in range(3):
        donors = exchange_reports(same, labels, seed=seed)
        assert sorted(donors) == list(range(60))
        for film, donor in zip(same, (same[place] for place in donors), strict=True):
            assert film.patient != donor.patient and film.report.body != donor.report.body
    assert not np.array_equal(exchange_reports(same, labels, seed=0), donors)
    assert np.array_equal(exchange_reports(same, labels, seed=2), donors)


def test_reports_that_cannot_be_given_are_left_out():
    studies = make_studies([0, 1, 1], patients=[0, 0, 1])
    donors = exchange_reports(studies, [0, 1, 1])
    assert sorted(donors)[0] == -1 and 2 in donors  # two patients exchange one report each
    with pytest.raises(InputError, match="all are of one patient"):
        measure_wrong_report(
            read_film, make_studies([0, 1], patients=[0, 0]), [0, 1], thresholds=0.5, label_names=["mass"]
        )


def test_many_studies_are_exchanged_in_blocks(monkeypatch):
    sizes = []

    def solve(costs):
        sizes.append(len(costs))
        return linear_sum_assignment(costs)

    monkeypatch.setattr(wrong_report, "BLOCK", 10)
    monkeypatch.setattr(wrong_report, "linear_sum_assignment", solve)
    labels = np.tile([0.0, 1.0], 17)
    donors = exchange_reports(make_studies(labels), labels)
    assert max(sizes) <= 10 and sorted(donors) == list(range(34))


def measure(predict, labels, **changed):
    given = {"thresholds": 0.5, "label_names": ["mass"], "repeats": 100, **changed}
    return measure_wrong_report(predict, make_studies(labels), labels, **given)


def test_who_believes_the_report_follows_it():
    labels = np.repeat([0.0, 1.0], 20)
    found = measure(read_report, labels)
    (mass,) = found["per_label"].values()
    assert found["studies"] == mass["n"] == mass["n_conflicting"] == 40
    assert mass["moved"] == pytest.approx(0.8) and mass["intervals"]["moved"] == pytest.approx([0.8, 0.8])
    assert mass["flipped"] == mass["toward_report"] == mass["follows_report"] == 1
    assert mass["intervals"]["follows_report"] == pytest.approx([0.9124, 1], abs=1e-4)
    assert mass["accuracy"] == {"right_report": 1, "wrong_report": 0, "film_alone": 0.5}
    assert mass["roc_auc"] == {"right_report": 1, "wrong_report": 0, "film_alone": 0.5}
    json.dumps(found, allow_nan=False)


def test_who_believes_the_film_is_not_misled():
    (mass,) = measure(read_film, np.repeat([0.0, 1.0], 20))["per_label"].values()
    assert mass["moved"] == mass["flipped"] == mass["toward_report"] == mass["follows_report"] == 0
    assert set(mass["accuracy"].values()) == set(mass["roc_auc"].values()) == {1}


def test_who_weighs_both_moves_half_the_way():
    (mass,) = measure(lambda s: (read_film(s) + read_report(s)) / 2, np.tile([0.0, 1.0], 15))["per_label"].values()
    assert mass["moved"] == pytest.approx(0.4) and mass["toward_report"] == 1
    assert mass["accuracy"]["film_alone"] == 1


def test_a_film_alone_has_thresholds_of_its_own():
    labels = np.tile([0.0, 1.0], 15)
    (mass,) = measure(read_film, labels, thresholds=0.5, film_thresholds=[0.95])["per_label"].values()
    assert mass["accuracy"] == {"right_report": 1, "wrong_report": 1, "film_alone": 0.5}


def test_labels_alike_and_unknown_labels_count_where_they_can():
    labels = np.array([[1, 1, 1, 1, np.nan, 0], [1, 1, 1, 1, 1, 1]], float).T
    twice = {"label_names": ["mass", "cyst"], "thresholds": [0.5, 0.5]}
    studies = make_studies([1, 1, 1, 1, 1, 0])
    found = measure_wrong_report(lambda s: np.hstack([read_film(s)] * 2), studies, labels, repeats=10, **twice)
    mass, cyst = found["per_label"].values()
    assert mass["n"] < 6 and mass["n_conflicting"] == 2
    assert cyst["n"] == 6 and cyst["n_conflicting"] == 0 and cyst["follows_report"] is None
    assert cyst["intervals"]["follows_report"] is None and cyst["roc_auc"]["right_report"] is None


def test_studies_without_film_or_report_take_no_part():
    studies = [*make_studies([0, 1]), Study("a", "a"), Study("b", "b", report=Report(findings="x 1"))]
    labels = [0, 1, 1, 1]
    found = measure_wrong_report(read_film, studies, labels, thresholds=0.5, label_names=["mass"], repeats=0)
    assert found["studies"] == 2 and found["per_label"]["mass"]["intervals"]["moved"] is None
    with pytest.raises(InputError, match=r"a film and a report\. Received: 0"):
        measure_wrong_report(read_film, studies[2:], [1, 1], thresholds=0.5, label_names=["mass"])
