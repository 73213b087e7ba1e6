import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.errors import InputError
from kmm.image.augment import NORMAL, Augmentation

STILL = Augmentation(**{f.name: 0 for f in dataclasses.fields(Augmentation)})


def make_batch(n=3, side=48, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (n, side, side, 1)).astype(np.float32)


def make_spot(x, y, side=101):
    image = np.zeros((1, side, side, 1), np.float32)
    image[0, y - 2 : y + 3, x - 2 : x + 3] = 200
    return image


def find_centroid(batch):
    weight = batch[0, ..., 0].astype(np.float64)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([np.sum(weight * columns), np.sum(weight * rows)]) / weight.sum()


def apply_many(augmentation, batch, n=100):
    return [augmentation.apply(batch, np.random.default_rng(seed)) for seed in range(n)]


def test_nothing_changes_when_every_range_is_zero():
    batch = make_batch()
    np.testing.assert_allclose(STILL.apply(batch, np.random.default_rng(0)), batch, atol=0.01)


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), flip=st.booleans(), n=st.integers(0, 4))
def test_result_is_in_range_repeatable_and_new(seed, flip, n):
    batch = make_batch(n)
    kept = batch.copy()
    augmentation = Augmentation(horizontal_flip=flip)
    first, second = (augmentation.apply(batch, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == batch.shape and first.dtype == np.float32
    assert (first == second).all() and (batch == kept).all()
    if n:
        assert first.min() >= 0 and first.max() <= 255 and (first != batch).any()


def test_each_image_draws_its_own_values():
    one = make_batch(1)
    changed = Augmentation().apply(np.concatenate([one, one]), np.random.default_rng(0))
    assert abs(changed[0] - changed[1]).mean() > 1


def test_missing_image_stays_missing_and_leaves_the_others_alone():
    batch = make_batch(3)
    with_missing = batch.copy()
    with_missing[1] = 0
    changed = Augmentation().apply(with_missing, np.random.default_rng(4))
    assert not changed[1].any()
    assert (changed[[0, 2]] == Augmentation().apply(batch, np.random.default_rng(4))[[0, 2]]).all()


def test_padding_stays_black():
    batch = np.zeros((1, 60, 60, 1), np.float32)
    batch[:, :, 20:40] = 128
    changed = Augmentation(rotation_degrees=0, shift=0, zoom=0).apply(batch, np.random.default_rng(0))
    assert not changed[:, :, :20].any() and not changed[:, :, 40:].any() and changed[:, :, 20:40].all()


def test_shift_moves_by_at_most_its_share():
    moves = [find_centroid(c) - [50, 50] for c in apply_many(dataclasses.replace(STILL, shift=0.1), make_spot(50, 50))]
    assert 0.8 * 10.1 < np.abs(moves).max() <= 10.1 + 1e-3


def test_rotation_turns_about_the_centre_and_keeps_the_distance():
    turned = apply_many(dataclasses.replace(STILL, rotation_degrees=30), make_spot(80, 50))
    arms = np.array([find_centroid(c) - [50, 50] for c in turned])
    angles = np.degrees(np.arctan2(arms[:, 1], arms[:, 0]))
    np.testing.assert_allclose(np.hypot(*arms.T), 30, atol=0.1)
    assert 25 < angles.max() <= 30.1 and -30.1 <= angles.min() < -25


def test_zoom_scales_about_the_centre():
    zoomed = apply_many(dataclasses.replace(STILL, zoom=0.2), make_spot(80, 50))
    arms = np.array([find_centroid(c) - [50, 50] for c in zoomed])
    np.testing.assert_allclose(arms[:, 1], 0, atol=0.05)
    assert 24 - 0.1 <= arms[:, 0].min() < 25 and 35 < arms[:, 0].max() <= 36 + 0.1


def test_sides_are_never_exchanged_unless_asked():
    spot = make_spot(80, 50)
    assert all(find_centroid(c)[0] > 50 for c in apply_many(Augmentation(), spot))
    mirrored = [find_centroid(c)[0] < 50 for c in apply_many(dataclasses.replace(STILL, horizontal_flip=True), spot)]
    assert 30 < sum(mirrored) < 70
    flipped = dataclasses.replace(STILL, horizontal_flip=True).apply(spot, np.random.default_rng(mirrored.index(True)))
    np.testing.assert_allclose(flipped, spot[:, :, ::-1], atol=0.01)


@pytest.mark.parametrize("name, gray, low, high", [
    ("brightness", 100, 100 - 51, 100 + 51),
    ("contrast", 227.5, 127.5 + 80, 127.5 + 120),
    ("gamma", 63.75, 255 * 0.25**1.2, 255 * 0.25**0.8),
])  # fmt: skip
def test_exposure_stays_within_its_range(name, gray, low, high):
    batch = np.full((1, 32, 32, 1), gray, np.float32)
    levels = [c.mean() for c in apply_many(dataclasses.replace(STILL, **{name: 0.2}), batch)]
    assert low - 0.1 <= min(levels) < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < max(levels) <= min(high, 255) + 0.1


def test_noise_has_mean_zero_and_at_most_its_deviation():
    batch = np.full((1, 224, 224, 1), 128, np.float32)
    noisy = apply_many(dataclasses.replace(STILL, noise=0.02), batch, n=40)
    deviations = [c.std() for c in noisy]
    assert 0.8 * 5.1 < max(deviations) < 1.02 * 5.1
    assert abs(np.mean([c.mean() for c in noisy]) - 128) < 0.02
    assert NORMAL.mean() == pytest.approx(0, abs=1e-6) and NORMAL.std() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("settings", [{"zoom": 1}, {"gamma": 1.5}, {"shift": -0.1}, {"noise": float("nan")}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match=f"`{next(iter(settings))}` must be in"):
        Augmentation(**settings)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 3)])
def test_bad_shape_is_refused(shape):
    with pytest.raises(InputError, match=r"must be \(n, height, width, 1\)"):
        Augmentation().apply(np.zeros(shape, np.float32), np.random.default_rng(0))
