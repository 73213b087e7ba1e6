import numpy as np
import pytest

from kmm.errors import ImageError
from kmm.image.dicom import read_dicom
from kmm.image.pixel_aspect import find_pixel_scale
from kmm.image.prepare import resize_image
from kmm.image.read import read_image
from tests.factories.dicom import encode, make_dataset, make_film

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def read(film, **tags):
    return read_dicom(encode(make_dataset(film, **WINDOW, **tags)), name="film.dcm")


def find_scale(folder, film, **tags):
    (folder / "film.dcm").write_bytes(encode(make_dataset(film, **WINDOW, **tags)))
    return find_pixel_scale(folder / "film.dcm")


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"])
@pytest.mark.parametrize(("spacing", "shape", "scale"), [
    ([0.2, 0.1], (80, 50), (1.0, 2.0)),  # rows twice as far apart as columns
    ([0.1, 0.2], (40, 100), (2.0, 1.0)),
    ([0.15, 0.1], (60, 50), (1.0, 1.5)),
    ([0.143, 0.143], (40, 50), (1.0, 1.0)),
    ([0.1009, 0.1], (40, 50), (1.0, 1.0)),  # within 1 %
    ([0.102, 0.1], (41, 50), (1.0, 41 / 40)),  # whole pixels: the scale is what the film became
    ([0, 0], (40, 50), (1.0, 1.0)),
])  # fmt: skip
def test_films_become_square_along_the_coarser_axis(keyword, spacing, shape, scale, tmp_path):
    film = make_film()
    image = read(film, **{keyword: spacing})
    assert image.shape == shape and image.dtype == np.float32
    np.testing.assert_allclose(image, resize_image(read(film), *shape), atol=1e-3)
    assert find_scale(tmp_path, film, **{keyword: spacing}) == scale


def test_aspect_ratio_is_vertical_by_horizontal(tmp_path):
    assert read(make_film(), PixelAspectRatio=[2, 1]).shape == (80, 50)
    assert find_scale(tmp_path, make_film(), PixelAspectRatio=[1, 3]) == (3.0, 1.0)


@pytest.mark.parametrize(("tags", "shape"), [
    ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.1, 0.1]}, (80, 50)),
    ({"PixelSpacing": [0.1, 0.1], "PixelAspectRatio": [2, 1]}, (40, 50)),
    ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.2, 0.1]}, (80, 50)),
    ({"PixelSpacing": None, "PixelAspectRatio": [1, 2]}, (40, 100)),
    ({"ImagerPixelSpacing": 0.2, "PixelAspectRatio": [1, 2]}, (40, 100)),  # one number says nothing of the shape
])  # fmt: skip
def test_the_first_that_says_something_counts(tags, shape):
    assert read(make_film(), **tags).shape == shape


@pytest.mark.parametrize(("tags", "reason"), [
    ({"PixelSpacing": [0.2, 0]}, "PixelSpacing is not two positive numbers"),
    ({"PixelSpacing": [-0.2, 0.1]}, "PixelSpacing is not two positive numbers"),
    ({"PixelSpacing": [0.2, 0.1, 0.1]}, "PixelSpacing is not two positive numbers"),
    ({"ImagerPixelSpacing": [100, 0.1]}, "ImagerPixelSpacing makes pixels 1000 times as high as wide"),
    ({"PixelAspectRatio": [1, 100]}, "PixelAspectRatio makes pixels 0.01 times as high as wide"),
])  # fmt: skip
def test_spacings_that_cannot_be_are_refused_by_name(tags, reason):
    with pytest.raises(ImageError, match=f"^film.dcm: {reason}. Correct or remove it in the header"):
        read(make_film(), **tags)


def test_a_film_that_square_pixels_make_too_large_is_refused_before_it_is_decoded():
    data = encode(make_dataset(make_film(), PixelSpacing=[0.8, 0.1], **WINDOW))
    assert read_dicom(data, max_pixels=320 * 50).shape == (320, 50)
    with pytest.raises(ImageError, match=r"pixels are not square.* 50x320 of them, more than 15999"):
        read_dicom(data, name="film.dcm", max_pixels=15_999)


@pytest.mark.parametrize("spacing", [[0.2, 0.1], [0.1, 0.25]])
def test_a_disk_in_millimetres_is_a_disk_on_the_film_and_its_centre_goes_back(spacing, tmp_path):
    """A disk of 6 mm around (x, y) mm; the middle of what is bright, moved back by the scale, is the file's pixel."""
    down, across = spacing
    rows, columns, x, y, radius = 160, 180, 9.0, 7.0, 3.0
    ys, xs = (np.arange(rows)[:, None] + 0.5) * down, (np.arange(columns) + 0.5) * across
    film = np.where((xs - x) ** 2 + (ys - y) ** 2 < radius**2, 4000, 50).astype(np.uint16)
    (tmp_path / "film.dcm").write_bytes(encode(make_dataset(film, PixelSpacing=spacing, **WINDOW)))
    image, scale = read_image(tmp_path / "film.dcm"), find_pixel_scale(tmp_path / "film.dcm")
    bright_rows, bright_columns = np.nonzero(image > 127)
    height, width = np.ptp(bright_rows) + 1, np.ptp(bright_columns) + 1
    assert abs(height - width) <= 2
    center = (bright_columns.mean() + 0.5) / scale[0] - 0.5, (bright_rows.mean() + 0.5) / scale[1] - 0.5
    assert np.allclose(center, (x / across - 0.5, y / down - 0.5), atol=0.3)


def test_files_of_other_formats_have_square_pixels(tmp_path, films):
    assert {find_pixel_scale(path) for path in films.values()} == {(1.0, 1.0)}
    with pytest.raises(ImageError, match="the file cannot be read"):
        find_pixel_scale(tmp_path / "absent.dcm")


def test_exactly_one_percent_is_left_alone():
    """0.101 by 0.1 is 1.01 but for rounding; 200 rows would become 202."""
    film = make_film(height=200)
    assert read(film, PixelSpacing=[0.101, 0.1]).shape == (200, 50)
    assert read(film, PixelSpacing=[0.1, 0.101]).shape == (200, 50)
    assert read(film, PixelSpacing=[0.102, 0.1]).shape == (204, 50)
