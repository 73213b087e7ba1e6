"""Measures within a split: the joint model on studies that are put together, and the answers of every model."""

from dataclasses import replace

import numpy as np
import pytest

from kmm.data.modalities import PATTERNS, hide_sides
from kmm.experiments.tasks.answers import gather_answers
from kmm.experiments.tasks.measures import make_joint, measure_split

pytestmark = pytest.mark.large


@pytest.fixture(scope="module")
def trained(tiny_run):
    classifier, run, _ = tiny_run
    rows = run.rows("test")
    return classifier, run, rows, [run.prepared.studies[row] for row in rows]


def answer(classifier, studies):
    found = classifier.predict(studies, strict=True)
    return classifier.probabilities(found.logits["joint"], found.present, "joint")


def test_studies_with_their_own_report_another_or_none_are_as_if_they_were_read(trained):
    classifier, run, _, studies = trained
    predict, both = make_joint(classifier, run), [study for study in studies if study.report and study.frontal]
    assert len(both) > 5
    np.testing.assert_allclose(predict(studies), answer(classifier, studies), atol=1e-5)
    moved = [replace(study, report=both[place - 1].report) for place, study in enumerate(both)]
    np.testing.assert_allclose(predict(moved), answer(classifier, moved), atol=1e-5)
    alone = [replace(study, report=None) for study in both]
    np.testing.assert_allclose(predict(alone), answer(classifier, alone), atol=1e-5)
    assert np.abs(predict(moved) - predict(both)).max() > 1e-3


def test_answers_of_the_joint_model_with_one_side_are_those_of_studies_without_the_other(trained):
    classifier, run, rows, studies = trained
    answers, _ = gather_answers(classifier, run)
    for model, pattern in (("joint-image", "image"), ("joint-text", "text")):
        hidden, kept = hide_sides(run.prepared.present[rows], pattern)
        found = answers["test"][model]
        assert (found.measured == kept).all()
        some = [
            replace(study, report=None) if pattern == "image" else replace(study, images=())
            for study, keep in zip(studies, kept, strict=True)
            if keep
        ]
        np.testing.assert_allclose(found.probabilities[kept], answer(classifier, some), atol=1e-5)
        np.testing.assert_allclose(found.thresholds, classifier.thresholds_for(hidden, "joint"))


def test_shares_sum_to_what_the_joint_model_gains(trained):
    classifier, run, _, _ = trained
    answers, _ = gather_answers(classifier, run)
    found = measure_split(classifier, run, answers)
    for shared in found["shapley"].values():
        values = shared["values"]
        gain = values["both"] - values["none"]
        assert shared["image"]["value"] + shared["text"]["value"] == pytest.approx(gain)
    assert found["shapley"]["roc_auc"]["values"]["none"] == 0.5
    assert found["selective"]["abnormal"]["n"] == len(run.rows("test"))
    assert found["subgroups"][0]["value"] == "all" and "normal-abnormal" in found["label_schemes"]
    assert found["wrong_report"]["per_label"]["abnormal"]["n"] > 5


def test_wrong_reports_are_given_to_studies_with_both_sides_and_a_film_alone_has_its_own_threshold(trained):
    classifier, run, rows, _ = trained
    cuts = classifier.thresholds["joint"].copy()
    cuts[PATTERNS.index("image")] = 1.1  # no film alone is called positive
    strict = replace(classifier, thresholds={**classifier.thresholds, "joint": cuts})
    present = run.prepared.present.copy()
    present[np.flatnonzero(present.all(axis=1) & np.isin(np.arange(len(present)), rows))[0], 1] = 0
    fewer = replace(run, prepared=replace(run.prepared, present=present))
    found = measure_split(strict, fewer, gather_answers(strict, fewer)[0])["wrong_report"]["per_label"]["abnormal"]
    both = present[rows].all(axis=1)
    assert found["n"] == both.sum()
    assert found["accuracy"]["film_alone"] == pytest.approx((run.prepared.labels[rows][both, 0] == 0).mean())


def test_what_cannot_be_measured_says_why(trained):
    classifier, run, rows, _ = trained
    present = run.prepared.present.copy()
    present[rows, 1] = 0
    filmed = replace(run, prepared=replace(run.prepared, present=present))
    found = measure_split(classifier, filmed, gather_answers(classifier, run)[0])
    assert found["shapley"] is None and found["wrong_report"] is None
    assert found["not_measured"] == {
        "shapley": "No study has a film and a report that the model reads.",
        "wrong_report": "A wrong report needs studies with a film and a report. Received: 0.",
    }
    assert found["label_schemes"] and measure_split(classifier, run, {})["not_measured"] == {}
