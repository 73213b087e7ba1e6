"""Learning curves: exact ones are found again, SciPy agrees, intervals cover, sizes are those of the inverse law."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from kmm.errors import InputError
from kmm.evaluate.statistics.learning_curve import BEYOND, FLAT, FURTHEST, REACHED, LearningCurve, fit_learning_curve
from kmm.evaluate.statistics.resampled_tests import summarize_splits

SIZES = np.array([100.0, 200.0, 400.0, 800.0, 1600.0])
INDEPENDENT = {"n_train": 1.0, "n_test": 1e-9}  # splits that share no studies


def follow(a, b, c, sizes=SIZES):
    return a - b * np.asarray(sizes, float) ** -c


def draw_values(rng, splits, *, a=0.85, b=1.5, c=0.6, shared=0.01, own=0.1):
    """Values around a curve: each split has an error of its own at all sizes, and one at each that falls with it."""
    common = rng.normal(0, shared, (splits, 1))
    return follow(a, b, c) + common + rng.normal(0, own / np.sqrt(SIZES), (splits, len(SIZES)))


@pytest.mark.parametrize("c", [0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("a, b", [(0.9, 0.8), (0.75, 0.3)])
def test_a_curve_without_noise_is_found_again(a, b, c):
    curve = fit_learning_curve(SIZES, [follow(a, b, c)] * 3, **INDEPENDENT)
    assert (curve.a, curve.b, curve.c) == pytest.approx((a, b, c), rel=1e-5)
    assert curve.predict([50, 10_000]) == pytest.approx(follow(a, b, c, [50, 10_000]), abs=1e-7)
    reached = (b / 0.004) ** (1 / c)  # where the curve is 0.004 below what it approaches
    found = curve.find_size(a - 0.004)
    if reached <= FURTHEST * SIZES[-1]:
        assert found.studies == pytest.approx(reached, rel=1e-4)
        assert found.state == (BEYOND if reached > SIZES[-1] else REACHED)
        assert found.interval == pytest.approx((reached, reached), rel=1e-4)
    else:
        assert found.state == FLAT and found.studies is None and found.interval == (None, None)


@pytest.mark.parametrize("seed", range(6))
def test_the_fit_is_that_of_scipy_with_the_same_weights(seed):
    values = draw_values(np.random.default_rng(seed), 8)
    curve = fit_learning_curve(SIZES, values, **INDEPENDENT)
    weights = np.arange(1, len(SIZES) + 1) / len(SIZES)
    x, y = np.tile(SIZES, len(values)), values.ravel()
    sigma = np.tile(1 / np.sqrt(weights), len(values))
    law = lambda n, a, g, c: a - g * (n / SIZES[-1]) ** -c  # noqa: E731  of the gap at the largest size: well scaled
    bounds = ([0, 0, 0.05], [1, 1, 4])
    expected, _ = curve_fit(law, x, y, [0.8, 0.05, 0.5], sigma=sigma, bounds=bounds, ftol=1e-14, xtol=1e-14, gtol=1e-14)

    def measure(a, gap, c):
        return (np.tile(weights, len(values)) * (y - law(x, a, gap, c)) ** 2).sum()

    own = curve.a, curve.b * SIZES[-1] ** -curve.c, curve.c
    assert measure(*own) <= measure(*expected) * (1 + 1e-9)
    assert curve.predict(SIZES) == pytest.approx(law(SIZES, *expected), abs=1e-5)


def test_the_limit_is_at_most_the_best_value_and_a_curve_never_falls():
    steep = fit_learning_curve([100, 200, 400], [[0.6, 0.75, 0.95]] * 2, **INDEPENDENT)
    assert steep.a <= 1 and (steep.predict(np.geomspace(1e2, 1e9, 50)) <= 1).all()
    falling = fit_learning_curve(SIZES, [[0.8, 0.79, 0.78, 0.77, 0.76]] * 2, **INDEPENDENT)
    weights = np.arange(1, 6) / 15
    assert falling.b == 0 and falling.a == pytest.approx((weights * [0.8, 0.79, 0.78, 0.77, 0.76]).sum())


def test_a_flat_curve_reaches_what_is_below_it_and_nothing_else():
    curve = fit_learning_curve(SIZES, np.full((4, 5), 0.8), **INDEPENDENT)
    assert curve.b == pytest.approx(0) and curve.predict([1, 10**9]) == pytest.approx([0.8, 0.8])
    above, below = curve.find_size(0.81), curve.find_size(0.79)
    assert (above.state, above.studies, above.interval) == (FLAT, None, (None, None))
    assert below.state == REACHED and below.studies == pytest.approx(0)


def test_a_value_below_that_of_the_smallest_size_is_reached_below_it():
    curve = fit_learning_curve(SIZES, [follow(0.9, 2.0, 0.5)] * 2, **INDEPENDENT)
    found = curve.find_size(follow(0.9, 2.0, 0.5, 60))
    assert found.state == REACHED and found.studies == pytest.approx(60, rel=1e-4) and found.studies < SIZES[0]


def test_what_takes_more_than_a_hundred_times_the_studies_is_not_named():
    curve = LearningCurve(0.9, 1.0, 0.5, SIZES, np.zeros((0, 3)))
    near, far = 0.9 - (99 * 1600) ** -0.5, 0.9 - (101 * 1600) ** -0.5
    assert curve.find_size(near).studies == pytest.approx(99 * 1600)
    assert curve.find_size(far).state == FLAT and curve.find_size(far).studies is None


def test_the_interval_at_a_size_is_that_of_the_corrected_t_test():
    """The law follows three sizes exactly, so its draws at a size are those of the mean there."""
    rng, sizes = np.random.default_rng(0), SIZES[[0, 2, 4]]
    values = follow(0.85, 1.5, 0.6, sizes) + rng.normal(0, 0.002, (6, 1)) + rng.normal(0, 0.0005, (6, 3))
    how = {"n_train": 0.8, "n_test": 0.2}
    curve = fit_learning_curve(sizes, values, draws=8000, **how)
    for place, ends in enumerate(curve.bound(sizes).T):
        low, high = summarize_splits(values[:, place], **how)["interval"]
        assert ends == pytest.approx((low, high), abs=0.05 * (high - low))


def test_splits_that_overlap_have_wider_intervals():
    values = draw_values(np.random.default_rng(1), 10)
    apart, overlapping = (
        np.ptp(fit_learning_curve(SIZES, values, n_train=0.8, n_test=test).bound([1600.0]), axis=0)
        for test in (1e-9, 0.2)
    )
    assert overlapping == pytest.approx(apart * np.sqrt(1 + 10 * 0.25), rel=0.1)


def test_splits_are_the_units_so_their_common_error_does_not_average_out_over_sizes():
    rng = np.random.default_rng(2)
    common = follow(0.85, 1.5, 0.6) + rng.normal(0, 0.02, (10, 1)) * np.ones(5)
    single = rng.permuted(common - common.mean(0), axis=0) + common.mean(0)  # the same spread at each size, shuffled
    wide, narrow = (np.ptp(fit_learning_curve(SIZES, one, **INDEPENDENT).bound([400.0])) for one in (common, single))
    assert wide > 1.3 * narrow


def test_the_interval_reaches_to_the_curve_where_the_draws_disagree_with_it():
    draws = np.tile([0.8, 0.02, 1.0], (10, 1))  # 0.8 - 0.02 * 1600 / n
    curve = LearningCurve(0.9, 1.0, 0.5, SIZES, draws)
    low, high = curve.bound([100, 1600])
    assert low == pytest.approx([0.48, 0.78]) and high == pytest.approx([0.8, 0.875])
    assert curve.find_size(0.79).interval == pytest.approx((0.11**-2, 3200))
    assert curve.find_size(0.85).interval == (pytest.approx(400), None)


def test_draws_depend_on_the_seed_alone():
    values = draw_values(np.random.default_rng(3), 5)
    one, again, other = (fit_learning_curve(SIZES, values, **INDEPENDENT, seed=seed).draws for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_single_split_has_a_curve_and_no_interval():
    curve = fit_learning_curve(SIZES, [follow(0.9, 2.0, 0.5)], **INDEPENDENT)
    assert curve.bound([100]) is None and curve.find_size(0.88).interval is None
    assert curve.find_size(0.88).studies == pytest.approx(10_000, rel=1e-4)


def test_a_split_that_lacks_a_size_still_counts_at_the_others():
    values = draw_values(np.random.default_rng(4), 6)
    values[0, 0] = np.nan
    curve = fit_learning_curve(SIZES, values, **INDEPENDENT)
    assert np.isfinite(curve.draws).all() and curve.predict(1600.0) == pytest.approx(values[:, 4].mean(), abs=0.01)


@pytest.mark.parametrize(
    "sizes, shape, says",
    [
        ([100, 200], (3, 2), "3 or more sizes"),
        ([100, 400, 200], (3, 3), "ascending order"),
        ([0, 100, 200], (3, 3), "above 0"),
        ([100, 200, 400], (3, 4), r"shape \(3, 4\) for 3 sizes"),
    ],
)
def test_sizes_and_values_that_make_no_curve_are_refused(sizes, shape, says):
    with pytest.raises(InputError, match=says):
        fit_learning_curve(sizes, np.full(shape, 0.8), **INDEPENDENT)


def test_a_size_without_a_value_is_refused():
    values = np.full((3, 5), 0.8)
    values[:, 2] = np.nan
    with pytest.raises(InputError, match="a value of some split at each size"):
        fit_learning_curve(SIZES, values, **INDEPENDENT)


@pytest.mark.large
def test_the_interval_covers_what_is_true():
    """Splits are independent here, so 95 % of the intervals should hold the true value: of the metric within the sizes
    and at four times the largest, and of the size at which a value is reached. In 300 simulations the fraction has a
    standard error of .013."""
    rng, true = np.random.default_rng(5), (0.85, 1.5, 0.6)
    wanted, inside = 0.84, {"within": 0, "beyond": 0, "size": 0}
    reached = (1.5 / (0.85 - wanted)) ** (1 / 0.6)
    assert 1600 < reached < 10 * 1600
    for _ in range(300):
        curve = fit_learning_curve(SIZES, draw_values(rng, 10, shared=0.004, own=0.05), **INDEPENDENT, draws=800)
        for name, size in (("within", 400.0), ("beyond", 6400.0)):
            low, high = curve.bound([size])[:, 0]
            inside[name] += low <= follow(*true, size) <= high
        low, high = curve.find_size(wanted).interval
        inside["size"] += (np.inf if low is None else low) <= reached <= (np.inf if high is None else high)
    covered = {name: count / 300 for name, count in inside.items()}
    assert all(0.91 <= share <= 0.99 for share in covered.values()), covered
