"""Views of a film: where each shows what, and how maps of views are brought back."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from kmm.image.augment import Augmentation
from kmm.models.joined.film_views import (
    VIEWS,
    FilmViews,
    MeanOfPlaces,
    MeanOfViews,
    align_maps,
    fold_views,
    unfold_views,
)
from kmm.setting_values import MOST_VIEWS
from tests.model_checks import to_numpy

SIDE = 40


def draw_films(count=2, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, SIDE, SIDE, 1)).astype(np.float32)


def draw_blob(row, column, side=SIDE, width=3.0):
    y, x = np.mgrid[:side, :side]
    return np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * width**2)).astype(np.float32)


def test_each_view_is_the_film_zoomed_and_moved_about_its_centre():
    films = draw_films()
    seen = to_numpy(FilmViews(len(VIEWS))(films)).reshape(2, len(VIEWS), SIDE, SIDE)
    center = (SIDE - 1) / 2
    for film, views in zip(films[..., 0], seen, strict=True):
        assert np.array_equal(views[0], film)
        for (zoom, right, down), view in zip(VIEWS, views, strict=True):
            offset = [center - (center + shift * SIDE) / zoom for shift in (down, right)]
            expected = ndimage.affine_transform(film, [1 / zoom] * 2, offset, order=1, mode="grid-constant")
            np.testing.assert_allclose(view, expected, atol=0.02)


def test_views_are_fewer_and_smaller_changes_than_a_mild_augmentation_makes_and_mirror_nothing():
    mild = Augmentation()
    zooms, *shifts = np.array(VIEWS).T
    assert VIEWS[0] == (1, 0, 0) and len(VIEWS) == len(set(VIEWS)) == MOST_VIEWS
    assert np.abs(zooms - 1).max() < mild.zoom and np.abs(shifts).max() < mild.shift
    for count in (3, 5, 9):
        np.testing.assert_allclose(np.mean(VIEWS[:count], axis=0), (1, 0, 0), atol=1e-12)


def test_black_stays_black_and_an_absent_film_stays_absent():
    film = draw_films(1)
    film[:, :8] = film[:, -8:] = 0  # bars of a letterbox
    seen = to_numpy(FilmViews(9)(np.concatenate([film, np.zeros_like(film)])))
    assert not seen[9:].any()
    assert not seen[:9, :5].any() and not seen[:9, -5:].any()
    assert seen.min() >= 0 and seen.max() <= 255.01


def test_views_are_linear_in_the_film():
    one, other = draw_films(1), draw_films(1, seed=1)
    layer = FilmViews(5)
    found = to_numpy(layer(0.3 * one + 0.7 * other))
    np.testing.assert_allclose(found, 0.3 * to_numpy(layer(one)) + 0.7 * to_numpy(layer(other)), atol=1e-3)


def test_views_move_to_the_channels_and_back():
    values = np.random.default_rng(0).normal(size=(6, 2, 5, 4)).astype(np.float32)
    unfolded = to_numpy(unfold_views(values, 3))
    assert unfolded.shape == (2, 2, 5, 12)
    assert np.array_equal(unfolded[1, ..., 4:8], values[4])
    assert np.array_equal(to_numpy(fold_views(unfolded, 3)), values)


def test_maps_of_views_are_brought_back_to_where_they_are_in_the_film():
    film = draw_blob(12.0, 28.0)[None, ..., None]
    maps = to_numpy(unfold_views(FilmViews(9)(film), 9))
    moved = np.abs(maps - film).max(axis=(0, 1, 2))
    back = np.abs(to_numpy(align_maps(maps, 9)) - film).max(axis=(0, 1, 2))
    assert moved[0] == 0 and moved[1:].min() > 0.15
    assert back[0] == 0 and back[1:].max() < 0.05


def test_cells_of_a_coarse_map_move_as_the_film_beneath_them_does():
    """The mean of the film over each cell is a map of it, at any number of cells."""

    def pool(films):
        return films.reshape(len(films), 8, SIDE // 8, 8, SIDE // 8, 1).mean(axis=(2, 4))

    film = draw_blob(14.0, 26.0, width=8.0)[None, ..., None]
    maps = pool(to_numpy(FilmViews(9)(film)))
    moved = np.abs(maps - pool(film)).mean()
    aligned = to_numpy(MeanOfPlaces(9, rows=8)(maps.reshape(9, 64, 1))).reshape(1, 8, 8, 1)
    assert np.abs(aligned - pool(film)).mean() < moved / 3
    single = to_numpy(align_maps(unfold_views(maps, 9), 9))
    assert np.abs(single - pool(film)).mean() < moved / 2  # interpolation between cells smooths each view


def test_an_even_map_stays_even_to_its_edges():
    places = np.full((10, 49, 3), 2.5, np.float32)
    np.testing.assert_allclose(to_numpy(MeanOfPlaces(5, rows=7)(places)), np.full((2, 49, 3), 2.5), rtol=1e-6)


def test_gradients_of_a_mean_are_shared_among_the_views():
    values = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_allclose(to_numpy(MeanOfViews(3)(values)), values.reshape(2, 3, 4).mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("layer", [FilmViews(4), MeanOfViews(2), MeanOfPlaces(2, rows=4)])
def test_layers_of_views_are_saved_with_their_numbers(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_half_precision_keeps_the_film_in_full():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        seen = FilmViews(3)(ops.convert_to_tensor(draw_films()))
    finally:
        keras.config.set_dtype_policy(policy)
    assert keras.backend.standardize_dtype(seen.dtype) == "float32"
    assert np.array_equal(to_numpy(seen)[[0, 3]], draw_films())
