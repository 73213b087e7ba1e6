import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from kmm.errors import InputError
from kmm.evaluate.decisions.calibration import (
    TEMPERATURE_RANGE,
    fit_calibration,
    fit_prevalence,
    fit_temperature,
    has_few,
)
from kmm.evaluate.decisions.calibration_error import calibration_bins, expected_calibration_error
from kmm.evaluate.decisions.conformal import count_scores
from kmm.evaluate.decisions.thresholds import NUMBERED_POLICIES, THRESHOLD_POLICIES, choose_thresholds
from kmm.evaluate.stacking import fit_weights


@st.composite
def cases(draw):
    """Labels of both classes and logits, some tied."""
    n = draw(st.integers(2, 40))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda y: len(set(y)) == 2))
    logits = draw(st.lists(st.integers(-60, 60), min_size=n, max_size=n))
    return np.array(labels, dtype=float), np.array(logits) / draw(st.sampled_from([1, 4, 20]))


def likelihood_cost(labels, logits):
    return np.logaddexp(0, np.where(labels == 1, -logits, logits)).sum()


@pytest.mark.large
@given(cases())
def test_a_temperature_never_raises_the_cost_nor_changes_the_order(case):
    labels, logits = case
    (temperature,) = fit_temperature(logits, labels)
    assert TEMPERATURE_RANGE[0] <= temperature <= TEMPERATURE_RANGE[1]
    assert likelihood_cost(labels, logits / temperature) <= likelihood_cost(labels, logits) + 1e-9
    assert roc_auc_score(labels, logits / temperature) == roc_auc_score(labels, logits)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0, 10.0])
def test_a_known_temperature_is_found_again(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20000)
    labels = (rng.random(20000) < expit(logits)).astype(float)
    labels[::7] = np.nan
    assert fit_temperature(logits * temperature, labels)[0] == pytest.approx(temperature, rel=0.05)  # 3 standard errors


def test_the_best_temperature_is_no_worse_than_any_on_a_grid():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, 80)
    labels = (rng.random(80) < expit(logits / 2)).astype(float)

    def cost(t):
        return likelihood_cost(labels, logits / t) + np.log(t) ** 2 / 2

    (found,) = fit_temperature(logits, labels)
    assert cost(found) <= min(cost(t) for t in np.geomspace(*TEMPERATURE_RANGE, 400)) + 1e-6


def test_rightly_classified_studies_do_not_drive_the_temperature_to_its_end():
    (temperature,) = fit_temperature([-4.0] * 30 + [4.0] * 30, [0] * 30 + [1] * 30)
    assert 0.3 < temperature < 1.0


def test_temperatures_of_degenerate_labels_are_one():
    labels = np.array([[0, 1, np.nan], [0, 1, np.nan]])
    assert fit_temperature(np.ones((2, 3)), labels).tolist() == [1, 1, 1]
    assert fit_temperature([], []).tolist() == [1]
    with pytest.raises(InputError, match="finite"):
        fit_temperature([np.inf, 0], [0, 1])


@given(cases(), st.integers(1, 20))
def test_bins_partition_the_studies(case, bins):
    labels, logits = case
    p = expit(logits)
    mean, share, number = calibration_bins(labels, p, bins=bins)
    assert 1 <= len(number) <= bins and number.sum() == len(labels)
    assert np.all(np.diff(mean) >= 0)
    assert (mean * number).sum() == pytest.approx(p.sum())
    assert (share * number).sum() == pytest.approx(labels.sum())


def test_bins_of_distinct_scores_hold_equal_numbers():
    p = np.random.default_rng(0).permutation(np.linspace(0, 1, 150))
    assert calibration_bins(p > 0.5, p)[2].tolist() == [10] * 15


@given(st.integers(1, 60), st.data())
def test_a_constant_at_the_prevalence_is_perfectly_calibrated(n, data):
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), dtype=float)
    assert expected_calibration_error(labels, np.full(n, labels.mean())) == pytest.approx(0, abs=1e-12)


def test_calibration_error_by_hand_and_at_its_ends():
    p = [0.1, 0.2, 0.6, 0.7, 0.8, 0.9]
    by_hand = (2 * abs(0.15 - 0) + 2 * abs(0.65 - 0.5) + 2 * abs(0.85 - 1)) / 6
    assert expected_calibration_error([0, 0, 1, 0, 1, 1], p, bins=3) == pytest.approx(by_hand)
    assert expected_calibration_error([0, 1], [1.0, 0.0]) == 1.0
    assert expected_calibration_error([np.nan], [0.4]) is None
    with pytest.raises(InputError, match="one label at a time"):
        calibration_bins(np.zeros((2, 2)), np.zeros((2, 2)))


def test_calibration_error_of_honest_scores_vanishes_with_many_studies():
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    assert expected_calibration_error(rng.random(200_000) < p, p) < 0.01


def objective(policy, labels, decisions):
    tp, fp = (decisions & (labels == 1)).sum(), (decisions & (labels == 0)).sum()
    positives, negatives = (labels == 1).sum(), (labels == 0).sum()
    return {
        "youden": tp / positives - fp / negatives,
        "f1": 2 * tp / (tp + fp + positives),
        "accuracy": (tp + negatives - fp) / len(labels),
        "sensitivity-0.95": 1 - fp / negatives if tp / positives >= 0.95 - 1e-12 else -1.0,
        "sensitivity-0.6": 1 - fp / negatives if tp / positives >= 0.6 - 1e-12 else -1.0,
        "specificity-0.75": tp / positives if 1 - fp / negatives >= 0.75 - 1e-12 else -1.0,
        "cost-5": -(5 * (positives - tp) + fp),
        "cost-0.5": -(0.5 * (positives - tp) + fp),
    }[policy]


POLICIES = [
    *sorted(set(THRESHOLD_POLICIES) - {"half"}),
    *("sensitivity-0.95", "sensitivity-0.6", "specificity-0.75", "cost-5", "cost-0.5"),
]


@pytest.mark.parametrize("policy", POLICIES)
@given(case=cases())
def test_a_threshold_is_the_best_of_all(policy, case):
    labels, logits = case
    p = expit(logits)
    (threshold,) = choose_thresholds(labels, p, policy=policy)
    best = max(objective(policy, labels, p >= cut) for cut in [*np.unique(p), 2.0])
    assert objective(policy, labels, p >= threshold) == pytest.approx(best, abs=1e-12)


@given(cases(), st.sampled_from(["youden", "f1", "accuracy", "sensitivity-0.95"]))
def test_a_threshold_stands_in_the_middle_between_two_scores(case, policy):
    labels, logits = case
    p = expit(logits / 4)
    assume(len(np.unique(p)) > 1)
    (threshold,) = choose_thresholds(labels, p, policy=policy)
    assert not np.any(p == threshold)
    assert 0 < threshold < 1


def test_a_plateau_is_cut_in_its_middle():
    # every cut from 0.3 to 0.9 has the same accuracy; the widest range of the best ones is (0.3, 0.9]
    assert choose_thresholds([0, 0, 1, 1], [0.1, 0.3, 0.9, 0.95]).tolist() == [0.6]
    assert choose_thresholds([0, 1, 0, 1], [0.1, 0.4, 0.5, 1.0], policy="accuracy").tolist() == [0.75]


def test_thresholds_at_the_ends_of_the_range():
    assert choose_thresholds([1, 0, 0], [1.0, 1.0, 1.0], policy="accuracy")[0] > 1  # best to call nothing positive
    assert choose_thresholds([1, 1, 0], [0.0, 0.0, 0.0], policy="accuracy")[0] == 0  # best to call all positive


def test_thresholds_of_degenerate_labels_are_a_half():
    labels = np.array([[0, 1, np.nan], [0, 1, np.nan]])
    assert choose_thresholds(labels, np.full((2, 3), 0.2)).tolist() == [0.5, 0.5, 0.5]
    assert choose_thresholds([0, 1], [0.1, 0.2], policy="half").tolist() == [0.5]


def test_the_cut_of_costs_is_that_of_calibrated_probabilities():
    # calling a study positive saves cost * p and costs 1 - p: better from p = 1 / (1 + cost) on
    rng = np.random.default_rng(0)
    p = rng.random(400_000)
    labels = (rng.random(len(p)) < p).astype(float)
    for cost in (1, 4, 9):
        assert choose_thresholds(labels, p, policy=f"cost-{cost}")[0] == pytest.approx(1 / (1 + cost), abs=0.02)


def test_a_target_holds_on_the_studies_it_is_chosen_on():
    rng = np.random.default_rng(1)
    labels = (rng.random(3000) < 0.3).astype(float)
    p = expit(2 * labels - 1 + rng.normal(size=3000))
    positive = labels == 1
    for target in (0.5, 0.9, 1.0):
        cut = choose_thresholds(labels, p, policy=f"sensitivity-{target}")[0]
        assert target <= np.mean(p[positive] >= cut) < target + 0.002
        cut = choose_thresholds(labels, p, policy=f"specificity-{target}")[0]
        assert target <= np.mean(p[~positive] < cut) < target + 0.02


@pytest.mark.parametrize("kind", NUMBERED_POLICIES)
@pytest.mark.parametrize("number", ["", "x", "nan", "-1", "0", "inf", "NUMBER"])
def test_the_number_of_a_policy_is_checked(kind, number):
    with pytest.raises(InputError, match=f"'{kind}-{number}' needs a number above 0"):
        choose_thresholds([0, 1], [0.1, 0.2], policy=f"{kind}-{number}")


def test_an_unknown_policy_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"Unknown threshold policy 'best'.*youden.*cost-NUMBER"):
        choose_thresholds([0, 1], [0.1, 0.2], policy="best")


@given(cases(), st.floats(0.1, 10))
def test_youden_decisions_do_not_depend_on_the_scale_where_one_cut_is_best(case, scale):
    labels, logits = case
    p, q = expit(logits / 10), expit(logits / 10 * scale)
    assume(len(np.unique(q)) == len(np.unique(p)))
    values = [objective("youden", labels, p >= cut) for cut in [*np.unique(p), 2.0]]
    assume(np.isclose(values, max(values), atol=1e-9).sum() == 1)
    first, second = p >= choose_thresholds(labels, p)[0], q >= choose_thresholds(labels, q)[0]
    assert first.tolist() == second.tolist()
    assert np.isfinite(logit(choose_thresholds(labels, p)[0]))


def test_weights_find_the_sum_that_made_the_labels():
    generator = np.random.default_rng(0)
    image, text = generator.normal(0, 2, (2, 40000, 1))
    labels = (generator.random((40000, 1)) < 1 / (1 + np.exp(-(0.5 * image + 1.5 * text - 0.7)))).astype(float)
    labels[::5] = np.nan
    weights, bias = fit_weights({"image": image, "text": text}, labels)
    assert weights["image"] == pytest.approx([0.5], abs=0.05)
    assert weights["text"] == pytest.approx([1.5], abs=0.05)
    assert bias == pytest.approx([-0.7], abs=0.05)


def test_weights_are_never_negative_and_never_worse_than_a_plain_sum():
    generator = np.random.default_rng(1)
    logits = {"image": generator.normal(0, 2, (300, 2)), "text": generator.normal(0, 2, (300, 2))}
    labels = (generator.random((300, 2)) < 1 / (1 + np.exp(logits["text"]))).astype(float)
    weights, bias = fit_weights(logits, labels)
    assert all((weight >= 0).all() for weight in weights.values()) and (weights["text"] < 0.01).all()

    def loss(scores):
        return (np.logaddexp(0, scores) - scores * labels).sum()

    assert loss(sum(weights[side] * logits[side] for side in logits) + bias) < loss(logits["image"] + logits["text"])


def test_weights_of_a_label_of_one_class_are_one():
    weights, bias = fit_weights(
        {"image": np.ones((4, 1)), "text": np.ones((4, 1))}, np.array([[1], [1], [1], [np.nan]])
    )
    assert (weights["image"], weights["text"], bias) == ([1], [1], [0])


def draw_sample(scale, shift, n=6000):
    """Logits of which `logit / scale - shift` are the true ones, and labels drawn by them."""
    rng = np.random.default_rng(int(10 * scale))
    true = rng.normal(shift, 2, (n, 1))
    return scale * true, (rng.random((n, 1)) < expit(true)).astype(float)


def test_each_pattern_gets_the_numbers_of_its_own_studies():
    samples = {"both": draw_sample(2.0, 0.0), "image": draw_sample(0.5, 0.0), "text": draw_sample(1.0, 1.0)}
    pooled = tuple(map(np.concatenate, zip(*samples.values())))
    found = fit_calibration(pooled, samples, policy="accuracy")
    assert not found.pooled.any()
    np.testing.assert_allclose(found.temperatures[:, 0], [2.0, 0.5, 1.0], rtol=0.1)
    np.testing.assert_allclose(found.thresholds, 0.5, atol=0.08)  # where probabilities are true, accuracy asks for 0.5
    for row, (logits, labels) in enumerate(samples.values()):
        own, shared = (likelihood(logits / t, labels) for t in (found.temperatures[row], fit_temperature(*pooled)))
        assert own <= shared + 1e-6


def likelihood(logits, labels):
    return np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean()


@pytest.mark.parametrize(("positives", "negatives", "few"), [(20, 20, False), (19, 400, True), (400, 19, True)])
def test_fewer_than_twenty_of_a_class_get_the_pooled_numbers(positives, negatives, few):
    labels = np.repeat([1.0, 0.0, np.nan], [positives, negatives, 50])[:, None]
    rng = np.random.default_rng(0)
    logits = rng.normal(size=labels.shape) + np.nan_to_num(labels)
    pooled = draw_sample(2.0, 0.0)
    assert has_few(labels).tolist() == [few]
    found = fit_calibration(pooled, {"image": (logits, labels)})
    expected = [[True], [few], [True]]  # the patterns without any study are pooled too
    assert found.pooled.tolist() == expected
    everywhere = fit_calibration(pooled, {})
    for name in ("temperatures", "thresholds"):
        same = getattr(found, name) == getattr(everywhere, name)
        assert same.tolist() == expected


def test_conformal_scores_are_those_of_the_pattern_alone_however_few():
    samples = {"both": draw_sample(2.0, 0.0), "image": draw_sample(0.5, 0.0, n=30)}
    pooled = tuple(map(np.concatenate, zip(*samples.values())))
    found = fit_calibration(pooled, samples)
    assert found.conformal.sum(axis=(1, 2, 3)).tolist() == [6000, 30, 6030]  # without a sample: those of all
    for row, (logits, labels) in enumerate((*samples.values(), pooled)):
        expected = count_scores(labels, expit(logits / found.temperatures[row]))
        np.testing.assert_array_equal(found.conformal[row], expected)


def test_labels_are_pooled_one_by_one():
    logits, labels = draw_sample(2.0, 0.0)
    two, rare = (
        np.hstack([logits, logits]),
        np.hstack([labels, np.where(np.arange(len(labels))[:, None] < 30, labels, 0)]),
    )
    assert 0 < rare[:, 1].sum() < 20
    found = fit_calibration((two, np.hstack([labels, labels])), {"text": (two, rare)})
    assert found.pooled.tolist() == [[True, True], [True, True], [False, True]]
    assert found.temperatures[2, 1] == found.temperatures[0, 1]


def test_prevalence_by_pattern_in_whole_numbers():
    labels = np.repeat([1.0, 0.0, 1.0, 0.0, 1.0], [30, 30, 60, 20, 5])[:, None]
    present = np.repeat([[1, 1], [1, 1], [1, 0], [1, 0], [0, 1]], [30, 30, 60, 20, 5], axis=0)
    found = fit_prevalence(labels, present)[:, 0]
    np.testing.assert_allclose(found, [30 / 60, 90 / 140, 35 / 65])
    labels[:25] = np.nan  # 5 positives are left with both sides, 10 with a report: too few
    np.testing.assert_allclose(fit_prevalence(labels, present)[:, 0], [70 / 120, 65 / 115, 70 / 120])
