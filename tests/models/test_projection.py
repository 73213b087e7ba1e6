"""Projections as plain arrays: the points of the terms that were trained, and their file."""

import numpy as np
import pytest

from kmm.errors import ArtefactError
from kmm.models.contrastive import ContrastiveTerms
from kmm.models.views.projection import Projection, read_projection
from tests.checks import to_numpy

SIZES = {"image": 5, "text": 4, "joint": 7}


@pytest.fixture(scope="module")
def terms():
    """Terms with statistics and scales of their own."""
    made = ContrastiveTerms("infonce", {"image-text": 1.0, "text-joint": 0.5}, 1.0, units=6)
    made.build({name: (None, size) for name, size in SIZES.items()})
    random = np.random.default_rng(0)
    for scaling in made.scalings.values():
        gamma, beta, mean, variance = (random.uniform(0.5, 2, scaling.gamma.shape) for _ in range(4))
        scaling.set_weights([gamma, beta - 1, mean - 1, variance])
    return made


@pytest.fixture(scope="module")
def projection(terms):
    return read_projection(terms)


def test_points_are_those_of_the_terms(terms, projection):
    assert projection.names == ("image", "text", "joint") and projection.units == 6
    random = np.random.default_rng(1)
    for name, size in SIZES.items():
        vectors = random.normal(size=(9, size)).astype(np.float32)
        expected = to_numpy(terms.projections[name](terms.scalings[name](vectors, training=False)))
        np.testing.assert_allclose(projection.project(name, vectors), expected, rtol=1e-4, atol=1e-5)


def test_the_cosines_are_those_of_which_the_loss_is_made(terms, projection):
    """With two studies InfoNCE is a known function of four cosines."""
    random = np.random.default_rng(2)
    vectors = {name: random.normal(size=(2, size)).astype(np.float32) for name, size in SIZES.items()}
    points = {name: projection.project(name, vectors[name]) for name in SIZES}
    points = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in points.items()}
    expected = 0.0
    for (one, other), share in ((("image", "text"), 1.0), (("text", "joint"), 0.5)):
        logits = points[one] @ points[other].T / terms.temperature
        both = (np.logaddexp(*logits.T) + np.logaddexp(*logits)) / 2 - np.diag(logits)
        expected += share * both.mean()
    found = float(to_numpy(terms.measure(vectors, np.arange(2.0)[:, None], training=False)))
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_file_has_the_same_numbers(projection, tmp_path):
    projection.save(tmp_path / "projection.npz")
    again = Projection.load(tmp_path / "projection.npz")
    assert again.digest == projection.digest and again.names == projection.names
    for name in projection.names:
        np.testing.assert_array_equal(again.kernels[name], projection.kernels[name])
        np.testing.assert_array_equal(again.offsets[name], projection.offsets[name])
    moved = Projection(projection.kernels, {**projection.offsets, "text": projection.offsets["text"] + 1})
    assert moved.digest != projection.digest and "image, text, joint: 6" in repr(moved)


@pytest.mark.parametrize(
    "arrays",
    [
        {"image_kernel": np.zeros((3, 2))},
        {"image_kernel": np.zeros((3, 2)), "image_offset": np.zeros(3)},
        {"image_kernel": np.zeros((3, 2)), "image_offset": np.full(2, np.nan)},
        {"sound_kernel": np.zeros((3, 2)), "sound_offset": np.zeros(2)},
        {"image_kernel": np.array([None]), "image_offset": np.zeros(2)},
    ],
)
def test_files_that_are_none(arrays, tmp_path):
    np.savez(tmp_path / "projection.npz", **arrays)
    with pytest.raises(ArtefactError, match=r"projection\.npz: the file is damaged"):
        Projection.load(tmp_path / "projection.npz")
    (tmp_path / "other.npz").write_bytes((tmp_path / "projection.npz").read_bytes()[:40])
    with pytest.raises(ArtefactError, match="damaged"):
        Projection.load(tmp_path / "other.npz")
    with pytest.raises(ArtefactError, match="cannot be read"):
        Projection.load(tmp_path / "gone.npz")
