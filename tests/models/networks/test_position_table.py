"""Positions on another grid: what holds for any interpolation, then the numbers of PyTorch."""

import numpy as np
import pytest

from kmm.models.networks.position_table import resample_positions

SIZES = [((37, 37), (16, 16)), ((14, 14), (24, 20)), ((5, 7), (3, 9)), ((4, 4), (1, 1))]


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_a_constant_stays_and_a_slope_keeps_its_middle(old, new, antialias):
    constant = resample_positions(np.full((*old, 2), 3.0), new, antialias=antialias)
    assert constant.shape == (*new, 2) and np.allclose(constant, 3, atol=1e-6)
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, side) for side in old), indexing="ij")
    slope = resample_positions(np.stack([rows, columns], axis=-1), new, antialias=antialias)
    assert np.allclose(slope, -slope[::-1, ::-1], atol=1e-6)


def test_the_same_size_changes_nothing():
    table = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
    for antialias in (False, True):
        assert np.allclose(resample_positions(table, (6, 5), antialias=antialias), table, atol=1e-7)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_equals_pytorch(old, new, antialias):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(1).normal(size=(*old, 3)).astype(np.float32)
    given = torch.tensor(table).permute(2, 0, 1)[None]
    options = {"mode": "bicubic", "align_corners": False, "antialias": antialias}
    expected = torch.nn.functional.interpolate(given, size=new, **options)[0].permute(1, 2, 0).numpy()
    assert np.abs(resample_positions(table, new, antialias=antialias) - expected).max() < 1e-5
