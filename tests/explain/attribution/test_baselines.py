import numpy as np
import pytest

from kmm.errors import InputError
from kmm.explain.attribution.baselines import IMAGE_BASELINES, TEXT_BASELINES, image_baseline, text_baseline

RANDOM = np.random.default_rng(0)
FILM = RANDOM.uniform(0, 255, (24, 24, 1)).astype(np.float32)
MEAN = RANDOM.uniform(0, 255, (24, 24, 1)).astype(np.float32)
ROWS = RANDOM.normal(size=(6, 3)).astype(np.float32)


@pytest.mark.parametrize("name", IMAGE_BASELINES)
def test_a_baseline_is_a_film_of_the_same_shape_within_the_grey_levels(name):
    film = FILM.copy()
    made = image_baseline(name, film, MEAN)
    assert made.shape == FILM.shape and made.dtype == np.float32 and made.min() >= 0 and made.max() <= 255
    np.testing.assert_array_equal(film, FILM)


def test_what_each_baseline_is():
    assert not image_baseline("black", FILM).any()
    assert (image_baseline("grey", FILM) == 127.5).all()
    np.testing.assert_array_equal(image_baseline("mean", FILM, MEAN), MEAN)


@pytest.mark.parametrize("name", IMAGE_BASELINES)
@pytest.mark.parametrize("box", [(0, 6, 24, 12), (7, 0, 9, 24)])
def test_a_baseline_leaves_the_bars_of_the_letterbox_as_they_are(name, box):
    top, left, height, width = box
    film = np.zeros_like(FILM)
    film[top : top + height, left : left + width] = FILM[top : top + height, left : left + width] + 1
    made = image_baseline(name, film, MEAN, box)
    inside = made[top : top + height, left : left + width].copy()
    made[top : top + height, left : left + width] = 0
    assert not made.any()
    expected = {"black": 0, "grey": 127.5, "mean": MEAN[top : top + height, left : left + width]}
    if name == "blur":  # the black of the bars does not run into the film
        assert abs(inside.mean() - film.sum() / (height * width)) < 5 and np.ptp(inside) < 100
    else:
        assert (inside == expected[name]).all()


def test_the_blur_keeps_what_is_smooth_and_takes_what_is_sharp():
    level = np.full((24, 24, 1), 90, np.float32)
    np.testing.assert_allclose(image_baseline("blur", level), level, rtol=1e-5)
    point = np.zeros((41, 41, 1), np.float32)
    point[20, 20] = 255
    blurred = image_baseline("blur", point)[..., 0]
    sigma = 0.1 * 41  # a Gaussian of a tenth of the side
    np.testing.assert_allclose(blurred[20, 20], 255 / (2 * np.pi * sigma**2), rtol=0.01)
    np.testing.assert_allclose(blurred[20, 26] / blurred[20, 20], np.exp(-18 / sigma**2), rtol=0.01)
    assert blurred.sum() == pytest.approx(255, rel=0.01)


@pytest.mark.parametrize("name", TEXT_BASELINES)
def test_rows_of_a_baseline_are_all_one_and_may_be_written(name):
    made = text_baseline(name, ROWS, ROWS[0])
    assert made.shape == ROWS.shape and made.dtype == np.float32
    np.testing.assert_array_equal(made, np.tile({"padding": ROWS[0], "zero": 0 * ROWS[0]}[name], (6, 1)))
    made[0] = 1


def test_what_cannot_be_made_is_one_line():
    with pytest.raises(InputError, match=r"^The baseline `mean` needs the mean of the training films[^\n]*$"):
        image_baseline("mean", FILM)
    with pytest.raises(InputError, match=r"^Unknown image baseline 'white'. Known: black, mean, blur, grey.$"):
        image_baseline("white", FILM)
    with pytest.raises(InputError, match=r"^Unknown text baseline 'none'. Known: padding, zero.$"):
        text_baseline("none", ROWS, ROWS[0])
