import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from kmm.errors import InputError
from kmm.evaluate.decisions.conformal import BINS, REACH, WIDTH, count_scores, find_least, predict_sets

CENTRES = expit((np.arange(BINS) + 0.5) * WIDTH - REACH)  # a probability in each bin


def find_sets(labels, old, new, alpha):
    """Split conformal sets of one label as defined, from the p-values of both classes."""
    sets = []
    for p in new:
        more = [(old[labels == 0] >= p).sum(), (old[labels == 1] <= p).sum()]  # at least as unlike the class
        sizes = [(labels == kind).sum() for kind in (0, 1)]
        sets.append([(count + 1) / (size + 1) > alpha + 1e-12 for count, size in zip(more, sizes)])
    return np.array(sets)


@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5, 0.9]))
def test_the_sets_are_those_of_the_definition(seed, n, alpha):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    old, new = (CENTRES[rng.integers(0, BINS, size)] for size in (n, 30))
    found = predict_sets(count_scores(labels, old), new, alpha=alpha)[:, 0]
    np.testing.assert_array_equal(found, find_sets(labels, old, new, alpha))


def test_empty_single_and_double_sets():
    labels, p = np.repeat([0, 1], 100), np.concatenate([np.linspace(0.1, 0.5, 100), np.linspace(0.5, 0.9, 100)])
    apart = count_scores(labels, p)
    assert predict_sets(apart, [0.5, 0.2, 0.8], alpha=0.2)[:, 0].tolist() == [[False] * 2, [True, False], [False, True]]
    alike = count_scores(labels, np.tile(np.linspace(0.1, 0.9, 100), 2))
    assert predict_sets(alike, [0.5], alpha=0.2).tolist() == [[[True, True]]]


@pytest.mark.parametrize(("alpha", "least"), ((0.1, 9), (0.05, 19), (0.2, 4), (0.3, 3), (0.01, 99)))
def test_a_class_with_too_few_validation_studies_is_never_ruled_out(alpha, least):
    assert find_least(alpha) == least
    for n, ruled_out in ((least - 1, False), (least, True)):
        counts = count_scores(np.ones(n), np.full(n, 0.99))
        ((negative, positive),) = predict_sets(counts, [0.01], alpha=alpha)[0]
        assert negative and positive != ruled_out  # there is no negative study at all
    assert predict_sets(count_scores([], []), CENTRES, alpha=0.5).all()


@pytest.mark.parametrize("alpha", (0.05, 0.1, 0.2))
def test_every_class_is_covered_at_the_nominal_rate(alpha):
    """Continuous scores: exactly `ceil((n + 1)(1 - alpha)) / (n + 1)`, and somewhat more for the ties in bins."""
    rng = np.random.default_rng(0)
    sizes, held = (120, 40), []
    labels = np.repeat([0, 1], sizes)
    for _ in range(1000):
        old, new = (expit(rng.normal(3 * labels - 2, 1.5)) for _ in range(2))
        sets = predict_sets(count_scores(labels, old), new, alpha=alpha)[:, 0]
        held.append([sets[labels == kind, kind].mean() for kind in (0, 1)])
    errors = np.std(held, axis=0) / np.sqrt(len(held))
    for kind, n in enumerate(sizes):
        exact = np.ceil((n + 1) * (1 - alpha) - 1e-9) / (n + 1)
        found = np.mean(held, axis=0)[kind]
        assert exact - 3 * errors[kind] < found < exact + 0.01 + 3 * errors[kind]
        assert found > 1 - alpha - 3 * errors[kind]


def test_a_temperature_or_any_other_monotone_calibration_hardly_changes_a_set():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400)
    logits, new = (2 * labels - 1 + rng.normal(size=400) for _ in range(2))
    sets = [predict_sets(count_scores(labels, expit(logits / t)), expit(new / t), alpha=0.1) for t in (0.5, 1.0, 2.0)]
    assert (sets[0] == sets[1]).mean() > 0.97 and (sets[2] == sets[1]).mean() > 0.97


def test_each_label_has_its_own_counts_and_unknown_labels_count_nowhere():
    labels = np.array([[0, np.nan], [1, 1], [np.nan, 1], [0, 0]])
    counts = count_scores(labels, np.full((4, 2), 0.5))
    assert counts.dtype == np.int32 and counts.sum(axis=2).tolist() == [[2, 1], [1, 2]]
    both = predict_sets(counts, np.tile(CENTRES[:, None], 2), alpha=0.4)
    for label in (0, 1):
        alone = predict_sets(counts[label : label + 1], CENTRES, alpha=0.4)
        np.testing.assert_array_equal(both[:, label], alone[:, 0])


def test_certain_probabilities_fall_into_the_outer_bins():
    counts = count_scores([0, 1, 1], [0.0, 1.0, 1.0])
    assert counts[0, 0, 0] == 1 and counts[0, 1, -1] == 2
    assert predict_sets(counts, [0.0, 1.0], alpha=0.4).shape == (2, 1, 2)


def test_wrong_arguments_are_refused():
    counts = count_scores([0, 1], [0.1, 0.9])
    with pytest.raises(InputError, match="`alpha` must be in"):
        predict_sets(counts, [0.5], alpha=1.0)
    with pytest.raises(InputError, match="`alpha` must be in"):
        find_least(0.0)
    with pytest.raises(InputError, match=r"shape \(2, 2, 320\). Received: \(1, 2, 320\)"):
        predict_sets(counts, [[0.5, 0.5]], alpha=0.1)
    with pytest.raises(InputError, match="whole numbers"):
        predict_sets(counts - 1, [0.5], alpha=0.1)
    with pytest.raises(InputError, match="in \\[0, 1\\]"):
        count_scores([0, 1], [0.1, 1.9])
