"""Contrastive terms against their formulas in NumPy, and what takes no part in them."""

import keras
import numpy as np
import pytest
from scipy.special import logsumexp

from kmm.models.contrastive import (
    CONTRASTS,
    NUMBERS,
    PAIRS,
    ContrastiveTerms,
    compute_infonce,
    compute_siglip,
    mark_pairs,
)
from tests.checks import to_numpy

COUNT, SIZE = 6, 4
APART = np.stack([np.arange(COUNT), np.arange(COUNT)], axis=1).astype(np.float32)


def draw(seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=(COUNT, SIZE)).astype(np.float32) for name in ("image", "text", "joint")}


def measure(terms, vectors, numbers=APART, present=None):
    """What the layer adds to the loss."""
    present = np.ones((len(numbers), 2), np.float32) if present is None else np.asarray(present, np.float32)
    logits = np.zeros((len(numbers), 1), np.float32)
    found = terms({**vectors, "logits": logits, "present": present, NUMBERS: np.asarray(numbers, np.float32)})
    np.testing.assert_array_equal(to_numpy(found), logits)
    return float(to_numpy(sum(terms.losses)))


def project(terms, vectors, name):
    """The point of each study, as the layer makes it outside of training."""
    mean, variance = (to_numpy(value) for value in terms.scalings[name].weights[2:])
    scaled = (vectors[name] - mean) / np.sqrt(variance + terms.scalings[name].epsilon)
    scale, shift = (to_numpy(value) for value in terms.scalings[name].weights[:2])
    points = (scaled * scale + shift) @ to_numpy(terms.projections[name].kernel)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def infonce(logits):
    both = (logsumexp(logits, axis=1) + logsumexp(logits, axis=0)) / 2
    return (both - np.diag(logits)).mean()


def siglip(logits, bias=-10.0):
    """The published loss: the mean over films of the sum over reports."""
    sign = 2 * np.eye(len(logits)) - 1
    return np.log1p(np.exp(-sign * (logits + bias))).sum() / len(logits)


@pytest.mark.parametrize(("name", "formula"), [("infonce", infonce), ("siglip", siglip)])
def test_terms_are_the_formula(name, formula):
    terms, vectors = ContrastiveTerms(name, PAIRS, weight=0.5, temperature=0.2), draw()
    found = measure(terms, vectors)
    expected = 0.0
    for pair, share in PAIRS.items():
        one, other = (project(terms, vectors, side) for side in pair.split("-"))
        expected += 0.5 * share * formula(one @ other.T / 0.2)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", CONTRASTS)
def test_same_reports_and_same_patients_are_no_negatives(name):
    logits = np.random.default_rng(1).normal(size=(COUNT, COUNT)).astype(np.float32)
    numbers = APART.copy()
    numbers[4, 0], numbers[5, 1] = numbers[3, 0], numbers[3, 1]  # 4 has the report of 3, 5 is of its patient
    own, negative = (to_numpy(mask) for mask in mark_pairs(numbers))
    expected = ~np.eye(COUNT, dtype=bool)
    for one, other in ((3, 4), (3, 5)):
        expected[one, other] = expected[other, one] = False
    np.testing.assert_array_equal(negative, expected)
    costs = to_numpy(CONTRASTS[name](logits, own, negative, 0.0))
    moved = logits.copy()
    moved[3, 4] = moved[4, 3] = moved[3, 5] = moved[5, 3] = 50.0  # as alike as can be
    np.testing.assert_allclose(to_numpy(CONTRASTS[name](moved, own, negative, 0.0)), costs, rtol=1e-6)
    moved[4, 5] = 50.0
    assert to_numpy(CONTRASTS[name](moved, own, negative, 0.0))[4] > costs[4] + 1


@pytest.mark.parametrize("name", CONTRASTS)
def test_a_study_that_lacks_a_side_takes_no_part(name):
    terms, vectors = ContrastiveTerms(name, PAIRS, weight=1.0), draw()
    measure(terms, vectors)  # builds
    alone = measure(terms, {side: rows[:4] for side, rows in vectors.items()}, APART[:4])
    present = np.ones((COUNT, 2))
    present[4, 0] = present[5, 1] = 0
    assert measure(terms, vectors, present=present) == pytest.approx(alone, rel=1e-5)
    unknown = APART.copy()
    unknown[4:] = np.nan
    assert measure(terms, vectors, unknown) == pytest.approx(alone, rel=1e-5)
    assert measure(terms, vectors, np.full_like(APART, np.nan)) == 0


def test_known_values():
    own, negative = np.eye(3, dtype=bool), ~np.eye(3, dtype=bool)
    flat = np.zeros((3, 3), np.float32)
    np.testing.assert_allclose(to_numpy(compute_infonce(flat, own, negative)), np.log(3), rtol=1e-6)
    np.testing.assert_allclose(to_numpy(compute_siglip(flat, own, negative)), 3 * np.log(2), rtol=1e-6)
    far = (60 * np.eye(3) - 30).astype(np.float32)
    for name in CONTRASTS:
        np.testing.assert_allclose(to_numpy(CONTRASTS[name](far, own, negative, 0.0)), 0, atol=1e-6)


@pytest.mark.large
@pytest.mark.parametrize("name", ["infonce", "siglip"])
def test_training_brings_pairs_together(name):
    """Films and reports are rotations of each other; what is learnt ranks its own report first."""
    generator = np.random.default_rng(2)
    films = generator.normal(size=(32, SIZE)).astype(np.float32)
    reports = films @ np.linalg.qr(generator.normal(size=(SIZE, SIZE)))[0].astype(np.float32)
    inputs = {side: keras.Input((SIZE,), name=side) for side in ("image", "text")}
    more = {"present": keras.Input((2,), name="present"), NUMBERS: keras.Input((1,), name=NUMBERS)}
    terms = ContrastiveTerms(name, {"image-text": 1.0}, weight=1.0, units=8)
    logits = keras.layers.Dense(1)(inputs["image"])
    model = keras.Model({**inputs, **more}, terms({**inputs, **more, "logits": logits}))
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=False)
    columns = {"image": films, "text": reports, "present": np.ones((32, 2)), NUMBERS: np.arange(32.0)[:, None]}

    def rank():
        return (np.argmax(project(terms, columns, "image") @ project(terms, columns, "text").T, axis=1)).tolist()

    before = sum(place == row for row, place in enumerate(rank()))
    model.fit(columns, np.zeros((32, 1)), batch_size=32, epochs=60, verbose=0)
    assert sum(place == row for row, place in enumerate(rank())) > max(24, before)


def test_a_layer_is_the_same_after_keras_saved_it():
    terms = ContrastiveTerms("siglip", PAIRS, weight=0.3, temperature=0.1, units=5, name="terms")
    again = keras.layers.deserialize(keras.layers.serialize(terms))
    assert again.get_config() == terms.get_config()
