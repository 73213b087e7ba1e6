"""Undecided studies: which decisions stay, how often they are wrong, and what a classifier says that cannot abstain."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from kmm.classifier import StudyLogits, list_predictions
from kmm.data.modalities import PATTERNS
from kmm.data.study import Study
from kmm.errors import ArtefactError, InputError
from kmm.evaluate.decisions.abstention import abstain_from, check_abstention
from kmm.evaluate.decisions.conformal import count_scores
from kmm.protocol.predictions import ABSTAIN
from tests.factories.classifiers import build_classifier

PRESENT = {"both": (1, 1), "image": (1, 0), "text": (0, 1)}


@pytest.fixture(scope="module")
def plain():
    """A classifier of one label with temperatures of 1, thresholds of 0.5 and no validation scores."""
    made = build_classifier(labels=("mass",))
    ones = np.ones((3, 1))
    return replace(made, temperatures={"joint": ones}, thresholds={"joint": ones / 2})


def predict(logits, pattern="both"):
    """`StudyLogits` of made-up logits."""
    column = np.asarray(logits, np.float32)[:, None]
    studies = [Study(str(number), str(number)) for number in range(len(column))]
    present = np.tile(np.array(PRESENT[pattern], np.float32), (len(column), 1))
    return StudyLogits(studies, present, {"joint": column}, np.full(column.shape, np.nan), [])


def draw(rng, labels):
    return rng.normal(2 * labels - 1, 1.2)


def with_scores(classifier, samples):
    """The classifier with the scores of a sample of labels and logits for each pattern."""
    counts = [count_scores(labels, expit(logits)) for labels, logits in (samples[pattern] for pattern in PATTERNS)]
    return replace(classifier, conformal=np.stack(counts))


@pytest.fixture(scope="module")
def able(plain):
    """The same with 300 validation studies for film and report, 8 positive ones for a film, and none for a report."""
    rng = np.random.default_rng(0)
    both, image = rng.integers(0, 2, 300), np.repeat([0, 1], [200, 8])
    samples = {"both": (both, draw(rng, both)), "image": (image, draw(rng, image)), "text": (both[:0], both[:0])}
    return with_scores(plain, samples)


def test_a_decision_stays_where_its_class_alone_is_in_the_set(able):
    predictions = predict(np.linspace(-4, 4, 81))
    found, before = abstain_from(able, predictions, 0.05), list_predictions(able, predictions)
    for one, other in zip(found, before, strict=True):
        decided = one.sets["mass"] == [int(other.decisions["mass"])]
        assert one.decisions["mass"] == (other.decisions["mass"] if decided else ABSTAIN)
        assert replace(one, decisions=other.decisions, sets=None) == other
    decisions = [one.decisions["mass"] for one in found]
    assert decisions[0] is False and decisions[-1] is True and decisions[40] == ABSTAIN
    assert found[40].sets["mass"] == [0, 1]


def test_a_decision_against_the_set_is_not_kept(able):
    high = replace(able, thresholds={"joint": np.full((3, 1), 0.999)})
    (one,) = abstain_from(high, predict([5.0]), 0.1)
    assert one.sets["mass"] == [1] and one.decisions["mass"] == ABSTAIN


def test_each_pattern_has_validation_scores_of_its_own(able):
    (both,), (image,), (text,) = (abstain_from(able, predict([-4.0], pattern), 0.1) for pattern in PATTERNS)
    assert both.decisions["mass"] is False and text.sets["mass"] == [0, 1]
    assert image.sets["mass"] == [0, 1]  # 8 positive studies cannot rule out the class of positives at 0.1
    (image,) = abstain_from(able, predict([-4.0], "image"), 0.15)
    assert image.decisions["mass"] is False


def test_classes_with_too_few_validation_studies_are_named(able):
    image, text = check_abstention(able, 0.1)
    assert image == (
        "Fewer than the 9 validation studies that the error level 0.1 needs to rule a class out, for film alone: "
        "mass positive (8)"
    )
    assert text.endswith("for report alone: mass negative (0), mass positive (0)")
    assert len(check_abstention(able, 0.001)) == 3
    of_reports = build_classifier(image=None, labels=("mass",))
    assert check_abstention(replace(of_reports, conformal=able.conformal), 0.1) == [text]


@pytest.mark.large
@pytest.mark.parametrize("alpha", (0.05, 0.1))
def test_of_each_class_no_more_than_the_error_level_is_decided_wrongly(plain, alpha):
    rng = np.random.default_rng(1)
    labels, wrong, decided = np.repeat([0, 1], [200, 60]), [], []
    for _ in range(60):
        sample = labels, draw(rng, labels)
        found = abstain_from(with_scores(plain, dict.fromkeys(PATTERNS, sample)), predict(draw(rng, labels)), alpha)
        given = np.array([one.decisions["mass"] for one in found], object)
        kept = given != ABSTAIN
        decided.append(kept.mean())
        wrong.append([np.mean(kept[labels == kind] & (given[labels == kind] == 1 - kind)) for kind in (0, 1)])
    errors = np.std(wrong, axis=0) / np.sqrt(len(wrong))
    assert (np.mean(wrong, axis=0) < alpha + 3 * errors).all()
    assert 0.3 < np.mean(decided) < 0.95  # it neither decides all nor nothing


def test_a_classifier_that_cannot_abstain_says_so_in_one_line(plain):
    for call in (check_abstention, lambda classifier, alpha: abstain_from(classifier, predict([1.0]), alpha)):
        with pytest.raises(InputError, match="an earlier version of kmm saved it") as caught:
            call(plain, 0.1)
        assert "\n" not in str(caught.value)
        with pytest.raises(ArtefactError, match=r"wrong shape: \(3, 2\)"):
            call(replace(plain, conformal=np.zeros((3, 2), int)), 0.1)


@pytest.mark.parametrize("alpha", (0, 1, -0.1, float("nan")))
def test_an_error_level_is_a_fraction(able, alpha):
    with pytest.raises(InputError, match="`abstain` must be an error level in"):
        check_abstention(able, alpha)
    with pytest.raises(InputError, match="`abstain` must be an error level in"):
        abstain_from(able, predict([1.0]), alpha)


def test_nothing_to_predict_is_nothing(able):
    assert abstain_from(able, predict([]), 0.1) == []
