"""The contrastive loss against its formula in NumPy, and what moving a vector does to it."""

import numpy as np
import pytest
from scipy.special import logsumexp

from kmm.models.contrastive import LARGEST_SCALE, TEMPERATURE
from kmm.training.pretraining.contrastive import ContrastiveLoss, build_projection
from tests.checks import to_numpy

LOSS = ContrastiveLoss(reduction="none")
NUMBERS = np.array([[0, 7], [1, np.nan], [0, 8], [2, 9], [np.nan, 9], [np.nan, np.nan], [5, 10]], np.float32)


def draw(count=7, size=5, scale=4.0):
    """Vectors of films times a scale, and of reports, of length 1."""
    generator = np.random.default_rng(1)
    films, reports = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in generator.normal(size=(2, count, size))
    )
    return films * scale, reports


def measure(films, reports, numbers=NUMBERS):
    pairs = np.concatenate([films, reports], axis=1).astype(np.float32)
    return to_numpy(LOSS(np.asarray(numbers, np.float32), pairs)).astype(float)


def reference(films, reports, numbers):
    """InfoNCE in both directions, pair by pair."""
    logits, costs = films @ reports.T, []
    for i, mine in enumerate(numbers):
        others = [
            j for j, other in enumerate(numbers) if i != j and not (mine == other).any() and not np.isnan(other).all()
        ]
        rows = [logits[i, j] for j in [i, *others]], [logits[j, i] for j in [i, *others]]
        costs.append(sum(logsumexp(row) for row in rows) / 2 - logits[i, i])
    return np.array(costs)


def test_the_loss_is_the_formula():
    films, reports = draw()
    np.testing.assert_allclose(measure(films, reports), reference(films, reports, NUMBERS), rtol=1e-5, atol=1e-6)
    apart = np.arange(len(films), dtype=float)[:, None]
    logits = films @ reports.T
    both = (logsumexp(logits, axis=1) + logsumexp(logits, axis=0)) / 2 - np.diag(logits)
    np.testing.assert_allclose(measure(films, reports, apart), both, rtol=1e-5)


def test_films_and_reports_may_change_places():
    films, reports = draw()
    np.testing.assert_allclose(measure(films, reports), measure(reports, films), rtol=1e-5, atol=1e-6)


def test_known_values():
    apart = np.arange(4.0)[:, None]
    assert measure(np.zeros((4, 3)), np.zeros((4, 3)), apart) == pytest.approx(np.log(4), rel=1e-6)
    assert measure(50 * np.eye(4), np.eye(4), apart) == pytest.approx(0, abs=1e-6)
    assert measure(*draw(4), np.zeros((4, 1))) == pytest.approx(0, abs=1e-6)  # one report: no negatives


def test_a_film_moves_to_its_report_away_from_others_and_ignores_copies():
    """Derivatives along each report, of the loss of the first pair: its own, another, a copy, and one of no pair."""
    films, reports = np.zeros((5, 5)), np.eye(5)
    numbers = np.array([[0], [1], [0], [np.nan], [2]])

    def move(place, step=1e-2):
        moved = films.copy()
        moved[0] = step * reports[place]
        return (measure(moved, reports, numbers)[0] - measure(films, reports, numbers)[0]) / step

    # from the row alone: softmax over itself and the pairs 1 and 4 is 1/3 each; the column does the same for its own
    assert [move(place) for place in range(5)] == pytest.approx([-2 / 3, 1 / 6, 0, 0, 1 / 6], abs=2e-3)


def test_a_pair_that_fills_up_a_batch_changes_nothing():
    films, reports = draw()
    kept = slice(0, 5)
    numbers = NUMBERS.copy()
    numbers[5:] = np.nan
    alone = measure(films[kept], reports[kept], NUMBERS[kept])
    np.testing.assert_allclose(measure(films, reports, numbers)[kept], alone, rtol=1e-5)


def test_the_projection_gives_vectors_of_known_length():
    projection = build_projection(6, 4, units=3, seed=1)
    generator = np.random.default_rng(0)
    inputs = {"image_vector": generator.normal(size=(9, 6)), "report_vector": generator.normal(size=(9, 4))}
    pairs = projection.predict({name: value.astype(np.float32) for name, value in inputs.items()}, verbose=0)
    assert pairs.shape == (9, 6)
    np.testing.assert_allclose(np.linalg.norm(pairs[:, :3], axis=1), 1 / TEMPERATURE, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(pairs[:, 3:], axis=1), 1, rtol=1e-5)
    projection.get_layer("scale").logarithm.assign(9.0)
    pairs = projection.predict({name: value.astype(np.float32) for name, value in inputs.items()}, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(pairs[:, :3], axis=1), LARGEST_SCALE, rtol=1e-5)
