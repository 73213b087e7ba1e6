"""The answer of a comparison: better, worse, not shown, and what it says about baselines."""

import pytest

from kmm.experiments.output.claims import is_shown, name_best, state_answers


def make_difference(second, size, half=0.01, **changes):
    """A difference of the joint model with an interval of `half` to each side."""
    found = {"variant": "", "first": "joint", "second": second, "against": None, "metric": "roc_auc", "label": "macro"}
    found |= {"difference": size, "interval": [size - half, size + half], "p": 0.001, "p_holm": 0.004}
    return found | changes


def state(*differences, **summary):
    (answer,) = state_answers({"differences": differences, **summary})
    return answer


def test_the_joint_model_is_better():
    found = state(make_difference("text", 0.02), make_difference("image", 0.12), make_difference("best-baseline", 0.03))
    assert found.sentences == (
        "In ROC AUC, the joint model is better than the image model by 0.120 (95 % interval 0.110 to 0.130, p = 0.004) "
        "and is better than the text model by 0.020 (95 % interval 0.010 to 0.030, p = 0.004).",
        "It is better than the best simple baseline by 0.030 (95 % interval 0.020 to 0.040, p = 0.004).",
    )


def test_an_interval_that_holds_0_shows_nothing():
    found = state(make_difference("text", 0.004, p_holm=0.31))
    assert found.sentences == (
        "In ROC AUC, the joint model is not shown to differ from the text model "
        "(difference +0.004, 95 % interval −0.006 to +0.014, p = 0.310).",
    )


def test_the_joint_model_is_worse_than_a_baseline():
    found = state(make_difference("best-baseline", -0.03, p_holm=0.0001))
    assert found.sentences == (
        "In ROC AUC, the joint model is worse than the best simple baseline by 0.030 "
        "(95 % interval 0.020 to 0.040, p < 0.001).",
    )


def test_what_is_lost_by_the_correction_is_not_shown():
    found = make_difference("text", 0.02, p_holm=0.08)
    assert not is_shown(found)
    assert "is not shown to differ from the text model after Holm's correction" in state(found).sentences[0]


def test_the_lower_log_loss_is_the_better_one():
    found = state(make_difference("text", -0.03, metric="log_loss"))
    assert "In Log loss, the joint model is better than the text model by 0.030" in found.sentences[0]


def test_one_split_has_no_interval_and_shows_nothing():
    found = state(make_difference("text", 0.3, interval=None, p=None, p_holm=None))
    assert "by +0.300, which has no interval and so shows nothing" in found.sentences[0]
    assert not is_shown(make_difference("text", 0.3, interval=None, p=None, p_holm=None))


def test_models_that_reach_the_joint_model_on_the_studies_of_both_are_named():
    """The means, which are over other studies, say the reverse."""
    means = {"joint": 0.9, "text": 0.95, "tfidf": 0.8, "image-linear": 0.99}
    models = {"": {name: {"roc_auc": {"mean": mean}} for name, mean in means.items()}}
    beside = [make_difference("text", -0.01), make_difference("tfidf", -0.02), make_difference("image-linear", 0.05)]
    beside.append(make_difference("majority", 0.0, half=0))
    found = state(make_difference("text", -0.01, p_holm=0.5), models=models, beside=beside)
    assert found.cautions == (
        "In ROC AUC, the joint model is no better than TF-IDF + logistic regression (difference −0.020, 95 % interval "
        "−0.030 to −0.010).",
        "In ROC AUC, the joint model is no better than the majority class (difference 0.000, 95 % interval 0.000 to "
        "0.000).",
    )
    assert not state(make_difference("text", 0.01), models=models).cautions


def test_differences_of_labels_and_between_variants_are_no_answer():
    others = [make_difference("text", 0.5, label="effusion"), make_difference("joint", 0.5, against="pixels=64")]
    assert state_answers({"differences": others}) == []
    assert state_answers({}) == []


@pytest.mark.parametrize("chosen", [[], None])
def test_no_baseline_was_chosen(chosen):
    assert name_best({"best_baseline": {"": {"roc_auc": chosen}}}, "", "roc_auc") == ""
