"""Pictures: colours where they belong, the film unchanged everywhere else, files whole or not at all."""

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.explain.output.draw import (
    CIRCLE,
    SENSITIVITY_NAMES,
    add_caption,
    draw_circles,
    draw_heat,
    draw_sensitivities,
    side_by_side,
    write_jpeg,
    write_png,
)
from kmm.explain.output.heat import AGAINST, FOR, color_heat
from kmm.explain.regions.find import Region, find_regions
from kmm.explain.settings import RegionSettings

FILM = np.random.default_rng(0).integers(0, 256, (200, 260), dtype=np.uint8)
BLACK = np.zeros_like(FILM)


def blob(height, width, x, y, sigma):
    rows, columns = np.mgrid[:height, :width]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def find_colour(picture, colour):
    """Rows and columns of shades of a colour on a black film, from about half its brightness on."""
    shade = picture.max(axis=2, keepdims=True) / max(colour)
    return np.nonzero(((shade > 0.4) & (np.abs(picture - shade * np.array(colour)) < 8)).all(axis=2))


def test_a_circle_is_drawn_where_its_region_is_and_nothing_else_changes():
    region = Region(x=120.25, y=90.5, radius=40, weight=0.5)
    rows, columns = find_colour(draw_circles(BLACK, [region], labels=False), CIRCLE)
    distances = np.hypot(columns - region.x, rows - region.y)
    assert len(rows) > 250 and np.abs(distances - region.radius).max() < 2.2
    middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    assert middle == pytest.approx((region.x, region.y), abs=0.5)
    film = FILM.copy()
    picture = draw_circles(film, [region], labels=False)
    np.testing.assert_array_equal(film, FILM)
    rows, columns = np.nonzero((picture != FILM[..., None]).any(axis=2))
    assert np.abs(np.hypot(columns - region.x, rows - region.y) - region.radius).max() < 4


def test_no_region_leaves_the_film():
    np.testing.assert_array_equal(draw_circles(FILM, []), np.stack([FILM] * 3, axis=2))


def test_the_heaviest_has_the_thickest_line_and_lies_on_top():
    heavy, light = Region(60, 100, 30, 0.6), Region(180, 100, 30, 0.4)
    _, columns = find_colour(draw_circles(BLACK, [heavy, light], labels=False), CIRCLE)
    assert np.count_nonzero(columns < 120) > 1.5 * np.count_nonzero(columns > 120) > 100
    alone = draw_circles(BLACK, [heavy], labels=False)
    np.testing.assert_array_equal(draw_circles(BLACK, [heavy, replace(light, x=60)], labels=False), alone)


def test_labels_are_written_from_one_percent_on_and_over_no_other():
    film = np.full((200, 260), 128, np.uint8)

    def count_changes(*regions):
        return np.count_nonzero(draw_circles(film, regions) != draw_circles(film, regions, labels=False))

    heavy, light = Region(60, 60, 20, 0.5), Region(60, 60, 20, 0.1)
    assert count_changes(Region(60, 60, 20, 0.009)) == 0 < count_changes(heavy)
    assert count_changes(heavy, light) == count_changes(heavy)
    assert count_changes(heavy, Region(180, 120, 20, 0.1)) > count_changes(heavy)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (40, 30), (300, 20)])
def test_small_films_and_regions_at_and_over_the_edge_are_drawn(size):
    height, width = size
    regions = [Region(x, y, 500, 0.3) for x in (-9, 0, width) for y in (-9, 0, height)]
    assert draw_circles(np.zeros(size, np.uint8), regions).shape == (height, width, 3)


def test_labels_are_ranks():
    """The same marks, whatever the weights: no number of a circle can be read as a probability."""
    places = [Region(60, 60, 20, 0.6), Region(180, 120, 20, 0.3)]
    other = [replace(places[0], weight=0.4), replace(places[1], weight=0.02)]
    np.testing.assert_array_equal(draw_circles(BLACK, places), draw_circles(BLACK, other))
    swapped = draw_circles(BLACK, places[::-1])
    assert (draw_circles(BLACK, places, labels=False)[:30] == 0).all()
    assert (draw_circles(BLACK, places)[:40, 40:80] != swapped[:40, 40:80]).any()  # 1 here, 2 there


@pytest.mark.parametrize("radius", [8, 40])
def test_dashes_leave_gaps_on_the_same_circle(radius):
    region = Region(x=120.25, y=90.5, radius=radius, weight=0.5)
    whole, dashed = (draw_circles(BLACK, [region], labels=False, dashed=dashed).any(axis=2) for dashed in (False, True))
    assert 0.3 < dashed.sum() / whole.sum() < 0.85 and not (dashed & ~cv2.dilate(whole.astype(np.uint8), None)).any()
    angles = np.radians(np.arange(0, 360, 2))
    columns = np.rint(region.x + radius * np.cos(angles)).astype(int)
    rows = np.rint(region.y + radius * np.sin(angles)).astype(int)
    on = draw_circles(BLACK, [region], labels=False, dashed=True)[rows, columns].any(axis=1)
    assert np.count_nonzero(on & ~np.roll(on, 1)) >= 3


def test_a_caption_stands_below_the_picture_whose_pixels_keep_their_places():
    white, amber = (255, 255, 255), (255, 176, 84)
    picture = np.random.default_rng(0).integers(0, 256, (200, 500, 3), np.uint8)
    captioned = add_caption(picture, [("opacity: 0.25", white), ("Not for diagnosis", amber)])
    np.testing.assert_array_equal(captioned[:200], picture)
    assert captioned.shape[1] == 500 and captioned[200:].any()
    assert (captioned[200:].reshape(-1, 3).max(axis=0) == 255).all()
    assert (captioned[200:] == amber).all(axis=2).any()
    small = add_caption(np.full((10, 20), 9, np.uint8), [("a", white)])
    assert small.shape[1] == 320 and (small[:10, :20] == 9).all() and not small[:10, 20:].any()


def test_long_captions_are_wrapped_and_letters_that_the_font_lacks_are_written_as_escapes():
    white = (255, 255, 255)
    one, many = (add_caption(np.zeros((9, 320), np.uint8), [("word " * count, white)]) for count in (3, 60))
    assert many.shape[0] > 3 * one.shape[0] - 27 and not many[9:, -4:].any()
    unbroken = add_caption(np.zeros((9, 320), np.uint8), [("x" * 300, white)])
    assert unbroken.shape[0] > 2 * one.shape[0] - 18
    for shown, written in (("肺炎", "\\u80ba\\u708e"), ("a\n b", "a b")):
        same = [add_caption(np.zeros((9, 320), np.uint8), [(text, white)]) for text in (shown, written)]
        np.testing.assert_array_equal(*same)
    plain = add_caption(np.zeros((9, 320), np.uint8), [("Größe, сердце", white)])
    assert plain.shape == one.shape


def test_lines_grow_with_the_film():
    def measure_share(pixels):
        film = np.zeros((pixels, pixels), np.uint8)
        region = Region(pixels / 2, pixels / 2, pixels / 4, 0.5)
        return np.mean(draw_circles(film, [region], labels=False).any(axis=2))

    assert measure_share(2048) == pytest.approx(measure_share(512), rel=0.5)


def test_heat_is_coloured_by_sign_and_clear_where_there_is_none():
    heat = np.zeros((20, 26))
    heat[5, 5], heat[5, 20], heat[15, 5] = 1.0, -1.0, 0.5
    picture = draw_heat(np.full((20, 26), 100, np.uint8), heat, alpha=0.5)
    for (row, column), strength, colour in (((5, 5), 0.5, FOR), ((5, 20), 0.5, AGAINST), ((15, 5), 0.25, FOR)):
        expected = (1 - strength) * 100 + strength * np.array(colour)
        np.testing.assert_allclose(picture[row, column], expected, atol=2)
    assert (picture[heat == 0] == 100).all()
    np.testing.assert_array_equal(draw_heat(FILM, heat, alpha=0), draw_circles(FILM, []))
    np.testing.assert_array_equal(draw_heat(FILM, 0 * heat), draw_circles(FILM, []))


def test_pictures_and_pages_have_one_table_of_colours():
    heat = np.random.default_rng(0).normal(size=(20, 26))
    clear = color_heat(heat, opacity=255).astype(float)
    picture = draw_heat(np.zeros((20, 26), np.uint8), heat, alpha=1)
    np.testing.assert_allclose(picture, clear[..., :3] * clear[..., 3:] / 255, atol=1.5)


def test_heat_lies_where_the_regions_of_the_same_map_lie():
    heat = blob(28, 36, 25, 9, 1.5)
    film = np.zeros((301, 407), np.uint8)
    picture = draw_heat(film, heat)[..., 0].astype(float)
    rows, columns = np.mgrid[:301, :407]
    centre = np.array([(columns * picture).sum(), (rows * picture).sum()]) / picture.sum()
    (region,) = find_regions(heat, RegionSettings(smoothing=0), film_size=film.shape)
    np.testing.assert_allclose(centre, (region.x, region.y), atol=1)


def test_pictures_stand_side_by_side_unchanged():
    colour = draw_heat(FILM, np.eye(5))
    row = side_by_side([FILM, colour])
    np.testing.assert_array_equal(row[:, :260], np.stack([FILM] * 3, axis=2))
    np.testing.assert_array_equal(row[:, -260:], colour)
    captioned = side_by_side(
        [FILM, colour], captions=["film", "a caption far too long for the picture that it stands on"]
    )
    top = captioned.shape[0] - 200
    np.testing.assert_array_equal(captioned[top:], row)
    assert captioned[:top, :260].any() and captioned[:top, -260:].any()
    assert not captioned[:top, 260:-260].any()  # no caption runs into its neighbour


def test_the_strip_shows_fewer_points_at_each_step():
    noise = np.random.default_rng(0).normal(size=(50, 65))
    strip = draw_sensitivities(BLACK, blob(50, 65, 40, 20, 4) + 0.05 * noise, RegionSettings())
    parts = np.split(strip[-200:, np.arange(strip.shape[1]) % 264 < 260], len(SENSITIVITY_NAMES), axis=1)
    shaded = [len(find_colour(part, FOR)[0]) for part in parts]
    assert shaded == sorted(shaded, reverse=True) and shaded[0] > shaded[-1] > 0
    assert draw_sensitivities(np.zeros((900, 1800), np.uint8), noise, RegionSettings(), pixels=300).shape[1] == 908


def test_a_png_is_written_whole_and_read_back(tmp_path):
    picture = draw_heat(FILM, np.eye(5))
    write_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], picture)
    write_png(tmp_path / "a.png", FILM)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_GRAYSCALE), FILM)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_jpeg_is_written_whole_and_near_the_picture(tmp_path):
    picture = draw_heat(cv2.GaussianBlur(FILM, (0, 0), 9), np.zeros((5, 5)))
    write_jpeg(tmp_path / "a.jpg", picture)
    read = cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1].astype(int)
    assert np.abs(read - picture).mean() < 4 and [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_a_png_that_cannot_be_renamed_leaves_nothing(tmp_path):
    (tmp_path / "a.png" / "full").mkdir(parents=True)
    with pytest.raises(OSError):
        write_png(tmp_path / "a.png", FILM)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "draw, said",
    [
        (lambda: draw_circles(FILM.astype(float), []), "uint8.*float64"),
        (lambda: draw_circles(FILM[None, None], []), "uint8"),
        (lambda: draw_circles(FILM[:0], []), "uint8"),
        (lambda: draw_heat(FILM, np.full((3, 3), np.nan)), "finite"),
        (lambda: draw_heat(FILM, np.zeros(3)), "heat"),
        (lambda: draw_heat(FILM, np.eye(3), alpha=2), "alpha"),
        (lambda: side_by_side([]), "of one size"),
        (lambda: side_by_side([FILM, FILM[1:]]), "of one size"),
        (lambda: side_by_side([FILM], captions=["a", "b"]), "1 captions"),
        (lambda: draw_sensitivities(FILM, np.eye(3), RegionSettings(smoothing=-1)), "smoothing"),
    ],
)
def test_what_cannot_be_drawn_is_named(draw, said):
    with pytest.raises(InputError, match=said):
        draw()


@pytest.mark.parametrize("film_pixels, limit", [(224, 0.03), (2048, 0.3)])
def test_threshold_cluster_and_draw_are_quick(film_pixels, limit):
    generator = np.random.default_rng(0)
    heat = blob(224, 224, 150, 90, 12) + 0.3 * generator.normal(size=(224, 224))
    film = generator.integers(0, 256, (film_pixels, film_pixels), dtype=np.uint8)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        draw_circles(film, find_regions(heat, RegionSettings(), film_size=film.shape))
        seconds.append(time.process_time() - start)
    assert min(seconds) < limit
