"""Linear probes against scikit-learn, with soft targets, class weights and unknown labels; and in a Keras head."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from kmm.evaluate.linear_probe import STRENGTHS, fit_probe, weigh_losses
from kmm.models.heads import HEADS, write_linear
from tests.checks import build_tiny_fusion
from tests.model_checks import to_numpy

TRAIN, VALIDATION = np.arange(300), np.arange(300, 400)


def make_rows(seed=0, n=400, d=20):
    """Features of uneven scales, soft targets and 0/1 labels of two labels."""
    rng = np.random.default_rng(seed)
    standard = rng.normal(size=(n, d))
    soft = 1 / (1 + np.exp(-standard[:, :2] * 2 - 0.5))
    hard = (rng.random((n, 2)) < soft).astype(float)
    features = standard * rng.uniform(0.01, 30, d) + rng.normal(0, 5, d)
    return features, np.where(np.arange(n)[:, None] < 300, soft, hard), hard


def fit_sklearn(features, targets, probe, column, weights=(1.0, 1.0)):
    """Coefficients and intercept of scikit-learn, each row a weighted positive and a weighted negative."""
    known = np.isfinite(targets[TRAIN, column])
    x = ((features - probe.mean) / probe.scale)[TRAIN][known]
    t = targets[TRAIN, column][known]
    model = LogisticRegression(C=probe.strengths[column], max_iter=5000, tol=1e-9)
    rows, classes = np.concatenate([x, x]), np.repeat([1, 0], len(x))
    model.fit(rows, classes, sample_weight=np.concatenate([t * weights[1], (1 - t) * weights[0]]))
    return model.coef_[0], model.intercept_[0]


def check_like_sklearn(features, targets, class_weights=None):
    probe = fit_probe(features, targets, train=TRAIN, validation=VALIDATION, class_weights=class_weights)
    for column in range(targets.shape[1]):
        weights = (1.0, 1.0) if class_weights is None else class_weights[column]
        coef, intercept = fit_sklearn(features, targets, probe, column, weights)
        np.testing.assert_allclose(probe.coef[:, column], coef, atol=2e-4)
        np.testing.assert_allclose(probe.intercept[column], intercept, atol=2e-4)
    return probe


def test_hard_labels_give_the_coefficients_of_logistic_regression():
    features, _, hard = make_rows()
    probe = check_like_sklearn(features, hard)
    x = (features - probe.mean) / probe.scale
    plain = LogisticRegression(C=probe.strengths[0], max_iter=5000, tol=1e-9).fit(x[TRAIN], hard[TRAIN, 0])
    np.testing.assert_allclose(probe.coef[:, 0], plain.coef_[0], atol=2e-4)
    np.testing.assert_allclose(probe.mean, features[TRAIN].mean(axis=0))
    np.testing.assert_allclose(probe.scale, features[TRAIN].std(axis=0))


def test_soft_targets_are_a_weighted_positive_and_a_weighted_negative():
    features, soft, hard = make_rows()
    probe = check_like_sklearn(features, soft)
    assert np.abs(probe.coef - fit_probe(features, hard, train=TRAIN, validation=VALIDATION).coef).max() > 1e-2


def test_class_weights_and_unknown_labels():
    features, soft, _ = make_rows()
    soft[TRAIN[::3], 0] = np.nan
    soft[VALIDATION[::2], 1] = np.nan
    check_like_sklearn(features, soft, class_weights=np.array([[0.5, 2.0], [1.0, 3.0]]))


def test_the_strength_has_the_least_loss_on_validation_of_those_up_to_the_first_rise():
    features, _, hard = make_rows()
    probe = fit_probe(features, hard, train=TRAIN, validation=VALIDATION)
    x, losses = (features - probe.mean) / probe.scale, []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=5000, tol=1e-9).fit(x[TRAIN], hard[TRAIN, 0])
        losses.append(weigh_losses(model.decision_function(x[VALIDATION]), hard[VALIDATION, 0], np.ones(2)).mean())
    chosen = STRENGTHS.index(probe.strengths[0])
    assert 0 < chosen < len(STRENGTHS) - 1
    assert losses[: chosen + 1] == sorted(losses[: chosen + 1], reverse=True) and losses[chosen + 1] >= losses[chosen]


def test_validation_decides_the_strength_and_nothing_else():
    features, _, hard = make_rows()
    probe = fit_probe(features, hard, train=TRAIN, validation=VALIDATION)
    moved = features.copy()
    moved[VALIDATION] *= 1.001
    again = fit_probe(moved, hard, train=TRAIN, validation=VALIDATION)
    assert again.strengths == probe.strengths
    np.testing.assert_array_equal(again.coef, probe.coef)
    np.testing.assert_array_equal(again.mean, probe.mean)


@pytest.mark.parametrize("head", [name for name, head in HEADS.items() if head.linear])
def test_a_keras_head_gives_the_logits_of_the_probe(head):
    features, _, hard = make_rows(d=4)
    probe = fit_probe(features, hard, train=TRAIN, validation=VALIDATION)
    fusion = build_tiny_fusion("concat", ("image",), head=head)
    write_linear(fusion, "image", mean=probe.mean, scale=probe.scale, coef=probe.coef, intercept=probe.intercept)
    present = np.ones((len(features), 2), np.float32)
    found = to_numpy(fusion({"image_vector": features.astype(np.float32), "present": present}, training=False))
    np.testing.assert_allclose(found, probe.logits(features), atol=1e-4)


def test_groups_are_probes_of_their_own_whose_mean_is_scaled_on_validation():
    features, _, hard = make_rows()
    parts = (slice(0, 5), slice(5, 20))
    joint = fit_probe(features, hard, train=TRAIN, validation=VALIDATION, groups=(5, 15))
    alone = [fit_probe(features[:, part], hard, train=TRAIN, validation=VALIDATION) for part in parts]
    mean = np.mean([probe.logits(features[:, part]) for probe, part in zip(alone, parts, strict=True)], axis=0)
    for column in range(2):
        known = mean[VALIDATION, column : column + 1]
        reference = LogisticRegression(C=1.0, tol=1e-9).fit(known, hard[VALIDATION, column])
        logits = reference.decision_function(mean[:, column : column + 1])
        np.testing.assert_allclose(joint.logits(features)[:, column], logits, atol=1e-3)
        strengths = [probe.strengths[column] for probe in alone]
        assert joint.strengths[column] == pytest.approx(np.sqrt(strengths[0] * strengths[1]))
    whole = fit_probe(features, hard, train=TRAIN, validation=VALIDATION, groups=(20,))
    np.testing.assert_array_equal(whole.coef, fit_probe(features, hard, train=TRAIN, validation=VALIDATION).coef)


def test_groups_without_validation_or_with_one_class():
    features, _, hard = make_rows()
    joint = fit_probe(features, hard, train=TRAIN, validation=[], groups=(5, 15))
    alone = [fit_probe(part, hard, train=TRAIN, validation=[]) for part in (features[:, :5], features[:, 5:])]
    np.testing.assert_allclose(joint.coef, np.concatenate([probe.coef for probe in alone]) / 2)
    np.testing.assert_allclose(joint.intercept, np.mean([probe.intercept for probe in alone], axis=0))
    single = fit_probe(features, np.ones_like(hard), train=TRAIN, validation=VALIDATION, groups=(5, 15))
    assert not single.coef.any() and single.strengths == (None, None)


def test_many_weak_features_do_not_drown_few_good_ones():
    rng = np.random.default_rng(3)
    hidden = rng.normal(size=(1200, 3))
    labels = (hidden.sum(axis=1, keepdims=True) + rng.normal(size=(1200, 1)) > 0).astype(float)
    features = np.concatenate([hidden, 0.1 * hidden[:, :1] + rng.normal(size=(1200, 300))], axis=1)
    rows = {"train": np.arange(300), "validation": np.arange(300, 500)}
    test = np.arange(500, 1200)
    losses = [
        weigh_losses(
            fit_probe(features, labels, **rows, groups=groups).logits(features)[test], labels[test], np.ones(2)
        )
        for groups in ((3, 300), (303,))
    ]
    assert losses[0].mean() < losses[1].mean() - 0.02


def test_features_that_outnumber_the_studies_give_the_coefficients_of_logistic_regression():
    features, _, hard = make_rows(n=400, d=900)
    x = (features - features[TRAIN].mean(axis=0)) / features[TRAIN].std(axis=0)
    probe = fit_probe(features, hard, train=TRAIN, validation=VALIDATION)
    plain = LogisticRegression(C=probe.strengths[0], max_iter=5000, tol=1e-9).fit(x[TRAIN], hard[TRAIN, 0])
    np.testing.assert_allclose(probe.coef[:, 0], plain.coef_[0], atol=1e-5)
    np.testing.assert_allclose(probe.logits(features)[:, 0], plain.decision_function(x), atol=1e-3)
    same = np.concatenate([features[:, :50], np.ones((400, 850))], axis=1)  # constant ones add no direction
    few, many = (fit_probe(part, hard, train=TRAIN, validation=VALIDATION) for part in (features[:, :50], same))
    np.testing.assert_allclose(few.coef, many.coef[:50], atol=1e-4)
    np.testing.assert_array_equal(many.coef[50:], 0)
