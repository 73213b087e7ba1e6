from pathlib import Path

import numpy as np
import pytest

import kmm
from kmm.cli.result_tables import MEASURES
from kmm.errors import InputError
from kmm.explain.fidelity.deletion import deletion_insertion, order_pixels, score_lost


def linear(weights, calls=None):
    def score(images):
        if calls is not None:
            calls.append(images.shape)
        return np.tensordot(images[..., 0], weights, 2) + 5.0

    return score


def test_order_is_strongest_first_and_signed():
    assert order_pixels([[1.0, -9.0], [3.0, 3.0]]).tolist() == [2, 3, 0, 1]
    assert order_pixels(np.ones((2, 2, 1))).tolist() == [0, 1, 2, 3]


def test_curves_of_a_linear_score_are_cumulative_sums():
    rng = np.random.default_rng(0)
    weights, image, baseline = rng.random((6, 7)), rng.random((6, 7, 1)) + 1, rng.random((6, 7, 1))
    heat = weights * (image - baseline)[..., 0]
    curves = deletion_insertion(linear(weights), image, order_pixels(heat), baseline=baseline, steps=42, batch_size=5)
    gained = np.concatenate([[0], np.cumsum(np.sort(heat.ravel())[::-1])]) / heat.sum()
    assert np.allclose(curves.shares, np.arange(43) / 42)
    assert np.allclose(curves.insertion, gained, atol=1e-5)
    assert np.allclose(curves.deletion, 1 - gained, atol=1e-5)
    assert curves.deletion_area + curves.insertion_area == pytest.approx(1, abs=1e-5)


def test_areas_and_losses_leave_0_and_1_where_the_score_does_and_the_documents_say_so():
    """Two pixels, of which one speaks against the label: without it the score is above the film's."""
    weights, image, baseline = np.array([[3.0, -2.0]]), np.ones((1, 2, 1)), np.zeros((1, 2, 1))
    against_first = deletion_insertion(linear(weights), image, np.array([1, 0]), baseline=baseline, steps=2)
    np.testing.assert_allclose(against_first.deletion, [1, 3, 0])
    np.testing.assert_allclose(against_first.insertion, [0, -2, 1])
    assert against_first.deletion_area == pytest.approx(1.75)
    assert against_first.insertion_area == pytest.approx(-0.75)
    lost = score_lost(linear(weights), image, np.array([[[False, True]], [[True, False]]]), baseline=baseline)
    np.testing.assert_allclose(lost, [-2, 3])
    said = (Path(kmm.__file__).parents[1] / "docs" / "explanation.md").read_text(encoding="utf-8")
    (row,) = [line for line in said.splitlines() if line.startswith("| `deletion`, `insertion` |")]
    measures = MEASURES["Pixels replaced by the baseline"]
    assert "below 0 or above 1" in row and "below 0 or above 1" in measures["deletion"]


def test_equal_pixels_give_straight_lines_in_any_order():
    order = np.random.default_rng(3).permutation(64)
    curves = deletion_insertion(
        linear(np.ones((8, 8))), np.ones((8, 8, 1)), order, baseline=np.zeros((8, 8, 1)), steps=10
    )
    assert curves.deletion_area == pytest.approx(0.5) and curves.insertion_area == pytest.approx(0.5)


def test_one_pixel_that_decides():
    """A step: found at once the area of deletion is half a step, found last it is all but half a step."""
    heat = np.zeros((4, 4))
    heat[2, 1] = 1
    for order, deletion in ((order_pixels(heat), 1 / 32), (order_pixels(-heat), 31 / 32)):
        curves = deletion_insertion(linear(heat), np.ones((4, 4, 1)), order, baseline=np.zeros((4, 4, 1)), steps=16)
        assert curves.deletion_area == pytest.approx(deletion)
        assert curves.insertion_area == pytest.approx(1 - deletion)


def test_scores_are_asked_in_batches_of_one_size():
    calls = []
    deletion_insertion(
        linear(np.ones((3, 3)), calls), np.ones((3, 3, 1)), np.arange(9), baseline=np.zeros((3, 3, 1)), steps=5,
        batch_size=4,
    )  # fmt: skip
    assert calls == [(4, 3, 3, 1)] * 3  # 2 * 5 images


def test_single_step_has_only_its_ends():
    curves = deletion_insertion(
        linear(np.ones((2, 2))), np.ones((2, 2, 1)), np.arange(4), baseline=np.zeros((2, 2, 1)), steps=1
    )
    assert curves.deletion.tolist() == [1, 0] and curves.insertion.tolist() == [0, 1]


def test_image_that_is_its_baseline_has_no_curve():
    image = np.ones((2, 2, 1))
    curves = deletion_insertion(linear(np.ones((2, 2))), image, np.arange(4), baseline=image)
    assert np.isnan(curves.deletion).all() and np.isnan(curves.insertion_area)
    assert np.isnan(score_lost(linear(np.ones((2, 2))), image, np.ones((3, 2, 2)), baseline=image)).all()


def test_lost_share_of_a_linear_score():
    rng = np.random.default_rng(1)
    weights, image, masks = rng.random((5, 4)), rng.random((5, 4, 1)), rng.random((9, 5, 4)) < 0.4
    part = weights * image[..., 0]
    lost = score_lost(linear(weights), image, masks, baseline=np.zeros((5, 4, 1)), batch_size=4)
    assert np.allclose(lost, (masks * part).sum((1, 2)) / part.sum(), atol=1e-5)
    ends = np.stack([np.zeros((5, 4)), np.ones((5, 4))])
    assert score_lost(linear(weights), image, ends, baseline=np.zeros((5, 4, 1))).tolist() == [0, 1]


def test_refuses_what_does_not_fit():
    image = np.ones((2, 3, 1))
    good = {"image": image, "order": np.arange(6), "baseline": image * 0}
    for bad in (
        {"order": np.arange(5)},
        {"order": np.zeros(6, int)},
        {"steps": 0},
        {"baseline": np.zeros((3, 2, 1))},
        {"image": np.ones((2, 3))},
    ):
        arguments = good | bad
        with pytest.raises(InputError):
            deletion_insertion(linear(np.ones((2, 3))), arguments.pop("image"), arguments.pop("order"), **arguments)
    with pytest.raises(InputError, match="scores for as many images"):
        deletion_insertion(lambda images: images, image, np.arange(6), baseline=image * 0)
    with pytest.raises(InputError, match="Masks"):
        score_lost(linear(np.ones((2, 3))), image, np.ones((2, 3)), baseline=image * 0)
