import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.errors import InputError
from kmm.image.prepare import (
    FITS,
    PREPARATION_VERSION,
    ImagePreparation,
    PixelMapping,
    resize_image,
    resize_weights,
)
from kmm.image.read import decode_image

SIDES = st.integers(1, 3000)
PREPARATIONS = st.builds(ImagePreparation, pixels=st.integers(16, 600), fit=st.sampled_from(FITS))


@pytest.mark.parametrize("size, new", [((500, 400), (224, 224)), ((31, 57), (100, 90)), ((64, 64), (64, 64))])
def test_resize_equals_pillow(size, new):
    image = np.random.default_rng(0).uniform(0, 255, size).astype(np.float32)
    pillow = np.asarray(PIL.Image.fromarray(image).resize(new[::-1], PIL.Image.Resampling.BILINEAR))
    # Positions are rounded to float32 as TensorFlow does, in Pillow to float64: 1e-5 of a pixel, 0.01 on white noise.
    assert abs(resize_image(image, *new) - pillow).max() < 0.02


@pytest.mark.parametrize("new", [(33, 32), (64, 200), (1, 1)])
def test_resizing_a_rounded_image_gives_the_bits_of_the_whole_products(new):
    image = np.random.default_rng(1).uniform(0, 255, (100, 90)).astype(np.float32)
    for rounded in (False, True):
        read = np.rint(image) if rounded else image
        whole = (resize_weights(90, new[1]) @ (resize_weights(100, new[0]) @ read).T).T
        np.testing.assert_array_equal(resize_image(image, *new, rounded=rounded), whole)


@given(n_in=SIDES, n_out=SIDES)
def test_weights_are_means(n_in, n_out):
    weights = resize_weights(n_in, n_out)
    assert weights.shape == (n_out, n_in)
    assert weights.data.min() > 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6 + 6e-8 * n_in)  # a sum of `n_in` numbers in float32


def test_weights_of_the_same_size_change_nothing():
    assert (resize_weights(7, 7).toarray() == np.eye(7)).all()
    assert resize_weights(7, 7) is resize_weights(7, 7)


def test_weights_keep_a_ramp_away_from_the_edges():
    ramp = np.arange(1000.0)
    resized = resize_weights(1000, 100) @ ramp
    np.testing.assert_allclose(resized[1:-1], (np.arange(1, 99) + 0.5) * 10 - 0.5, rtol=1e-6)


def test_transpose_is_the_adjoint():
    rng = np.random.default_rng(0)
    image, heat = rng.normal(size=(50, 70)), rng.normal(size=(20, 30))
    rows, columns = resize_weights(50, 20), resize_weights(70, 30)
    forward, back = rows @ image @ columns.T, rows.T @ heat @ columns
    assert np.sum(forward * heat) == pytest.approx(np.sum(image * back), rel=1e-5)


@given(preparation=PREPARATIONS, height=SIDES, width=SIDES)
def test_box_lies_centred_in_the_square(preparation, height, width):
    top, left, box_height, box_width = preparation.find_box((height, width))
    below, right = preparation.pixels - top - box_height, preparation.pixels - left - box_width
    assert 0 <= below - top <= 1 and 0 <= right - left <= 1
    assert preparation.pixels in (box_height, box_width)
    assert min(box_height, box_width) >= 1
    if preparation.fit == "letterbox":
        scale = preparation.pixels / max(height, width)
        assert abs(box_height - max(1, height * scale)) <= 0.5 and abs(box_width - max(1, width * scale)) <= 0.5


@given(preparation=PREPARATIONS, height=SIDES, width=SIDES, x=st.floats(-9, 3009), y=st.floats(-9, 3009))
def test_mapping_there_and_back_is_identity(preparation, height, width, x, y):
    mapping = preparation.mapping((height, width))
    np.testing.assert_allclose(mapping.to_original(mapping.to_prepared([[x, y]])), [[x, y]], atol=1e-6)


@given(preparation=PREPARATIONS, height=SIDES, width=SIDES)
def test_corners_map_to_corners(preparation, height, width):
    top, left, box_height, box_width = preparation.find_box((height, width))
    corners = np.array([[0, 0], [width, height]]) - 0.5
    expected = np.array([[left, top], [left + box_width, top + box_height]]) - 0.5
    mapping = preparation.mapping((height, width))
    np.testing.assert_allclose(mapping.to_prepared(corners), expected, atol=1e-9)
    np.testing.assert_allclose(mapping.to_original(expected), corners, atol=1e-6)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(500, 300), (300, 500), (100, 60), (224, 224)])
def test_a_bright_spot_lands_where_the_mapping_says(fit, size):
    preparation = ImagePreparation(224, fit)
    spot = np.zeros(size, np.float32)
    y, x = size[0] // 3, size[1] * 3 // 5
    spot[y - 5 : y + 6, x - 5 : x + 6] = 255
    prepared = preparation.apply(spot)[..., 0].astype(np.float64)
    rows, columns = np.mgrid[:224, :224]
    centroid = np.array([np.sum(prepared * columns), np.sum(prepared * rows)]) / prepared.sum()
    # Row normalisation of the triangle weights moves a centroid by hundredths of a pixel.
    np.testing.assert_allclose(centroid, preparation.mapping(size).to_prepared([[x, y]])[0], atol=0.05)


@settings(max_examples=30)
@given(preparation=PREPARATIONS, height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 9))
def test_prepared_image_keeps_its_promises(preparation, height, width, seed):
    image = np.random.default_rng(seed).choice([0.0, 255.0], (height, width))
    prepared = preparation.apply(image)
    assert prepared.shape == (preparation.pixels, preparation.pixels, 1) and prepared.dtype == np.float32
    assert prepared.min() >= 0 and prepared.max() <= 255
    top, left, box_height, box_width = preparation.find_box((height, width))
    prepared[top : top + box_height, left : left + box_width] = 0
    assert not prepared.any()


def test_image_of_the_right_size_is_unchanged():
    image = np.random.default_rng(0).uniform(0, 255, (32, 32)).astype(np.float32)
    assert (ImagePreparation(32, rounding="none").apply(image)[..., 0] == image).all()
    assert (ImagePreparation(32).apply(image)[..., 0] == np.rint(image)).all()


def test_halves_go_to_even_numbers_and_a_rounded_film_needs_8_bits():
    image = np.tile(np.arange(16, dtype=np.float32) + 0.5, (16, 1))
    rounded = ImagePreparation(16).apply(image)[0, :, 0]
    assert rounded.tolist() == [0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14, 16]
    assert (ImagePreparation(16).dtype, ImagePreparation(16).nbytes) == (np.uint8, 256)
    exact = ImagePreparation(16, rounding="none")
    assert (exact.dtype, exact.nbytes) == (np.float32, 1024)


@settings(max_examples=30)
@given(preparation=PREPARATIONS, height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 9))
def test_rounding_moves_a_whole_film_by_half_a_level_at_most(preparation, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.float32)
    rounded, exact = preparation.apply(image), replace(preparation, rounding="none").apply(image)
    assert (rounded == rounded.astype(preparation.dtype)).all() and abs(rounded - exact).max() <= 0.5
    assert (rounded == np.rint(exact)).all()


# SHA-256 of prepared films. Caches of films and features know the code of the preparation by PREPARATION_VERSION alone:
# raise it whenever one of these changes, and only then.
FILMS = Path(__file__).parents[1] / "golden" / "films"
GOLDEN = {"letterbox": "4b1d2f7bdc01da6b", "stretch": "7fcd7bd796074718"}


@pytest.mark.parametrize("fit", GOLDEN)
def test_the_version_names_what_the_preparation_gives(fit):
    films = [path.read_bytes() for path in sorted(FILMS.glob("*.png"))]
    y, x = np.mgrid[:61, :83]
    for pixels in ((700 + 40 * x + 3 * y).astype(np.uint16), np.stack([3 * x, 4 * y, x + y], axis=2).astype(np.uint8)):
        file = io.BytesIO()
        PIL.Image.fromarray(pixels).save(file, "PNG")
        films.append(file.getvalue())
    total = hashlib.sha256()
    for data in films:
        for pixels in (20, 96):
            total.update(ImagePreparation(pixels, fit).apply(decode_image(data, "film")).astype(np.uint8).tobytes())
    assert (PREPARATION_VERSION, total.hexdigest()[:16]) == (1, GOLDEN[fit])


def test_preparation_there_and_back_as_dict():
    for preparation in (ImagePreparation(299, "stretch"), ImagePreparation(299, rounding="none")):
        assert ImagePreparation.from_dict(preparation.as_dict()) == preparation
    assert ImagePreparation.from_dict({"pixels": 64, "fit": "letterbox"}) == ImagePreparation(64, rounding="none")
    with pytest.raises(InputError, match="Received: side"):
        ImagePreparation.from_dict({"side": 3})


@pytest.mark.parametrize(
    "settings", [{"fit": "crop"}, {"rounding": "int8"}, {"pixels": 8}, {"pixels": 224.0}, {"pixels": True}]
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match="must be"):
        ImagePreparation(**settings)


@pytest.mark.parametrize("shape", [(3, 4, 1), (5,), (0, 4)])
def test_bad_shape_is_refused(shape):
    with pytest.raises(InputError, match=r"must be \(height, width\)"):
        ImagePreparation().apply(np.zeros(shape))


def test_mapping_takes_many_points_and_none():
    mapping = PixelMapping(scale=(0.5, 0.25), offset=(3, 0))
    assert mapping.to_prepared(np.zeros((0, 2))).shape == (0, 2)
    assert mapping.to_prepared(np.zeros((5, 2))).shape == (5, 2)
