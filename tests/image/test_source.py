"""Films in memory: the gray levels of a lossless file of the same pixels, a digest of their own, clear errors."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest

from kmm.data.study import ImageFile
from kmm.errors import ImageError
from kmm.image.film_identity import digest_film
from kmm.image.read import read_image
from kmm.image.source import decode_object, digest_source, find_source_scale, load_film, name_kind, read_source
from tests.factories.dicom import encode, make_dataset, make_film
from tests.factories.images import IMAGES, make_pixels


def in_memory(value, name="7 (in memory)"):
    return ImageFile(Path(name), memory=value)


def write_png(path, pixels):
    PIL.Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_array_is_read_like_a_png_of_its_pixels(dtype, tmp_path):
    pixels = make_pixels(1, dtype)
    expected = read_image(write_png(tmp_path / "film.png", pixels))
    for array in (pixels, pixels[..., None], np.asfortranarray(pixels), pixels[::-1][::-1]):
        np.testing.assert_array_equal(decode_object(array, "film"), expected)
    big = pixels.astype(np.dtype(dtype).newbyteorder(">"))
    np.testing.assert_array_equal(decode_object(big, "film"), expected)


def test_a_colour_array_is_read_like_a_png_of_its_pixels(tmp_path):
    pixels = make_pixels(3)
    np.testing.assert_array_equal(decode_object(pixels, "film"), read_image(write_png(tmp_path / "a.png", pixels)))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_an_array_of_floats_is_gray_levels(kind):
    levels = np.linspace(0, 255, 320).reshape(16, 20).astype(kind)
    found = decode_object(levels, "film")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, levels.astype(np.float32))


def test_a_decoded_film_does_not_share_memory_with_the_array():
    levels = np.full((16, 16), 7.0, np.float32)
    decode_object(levels, "film")[:] = 0
    assert (levels == 7).all()


@pytest.mark.parametrize("name", [name for name, (_, kind, _) in IMAGES.items() if kind == "PNG"])
def test_a_picture_is_read_like_its_png(name, tmp_path):
    image, kind, options = IMAGES[name]
    image.save(tmp_path / "film.png", kind, **options)
    expected = read_image(tmp_path / "film.png")
    with PIL.Image.open(tmp_path / "film.png") as opened:
        np.testing.assert_array_equal(decode_object(opened, "film"), expected)
    np.testing.assert_array_equal(decode_object(image, "film"), expected)


@pytest.mark.parametrize("tags", [{}, {"PhotometricInterpretation": "MONOCHROME1"}, {"ImagerPixelSpacing": [0.2, 0.1]}])
def test_a_dataset_is_read_like_its_file(tags, tmp_path):
    dataset = make_dataset(make_film(), **tags)
    path = tmp_path / "film.dcm"
    path.write_bytes(encode(dataset))
    for source in (dataset, pydicom.dcmread(path)):
        np.testing.assert_array_equal(decode_object(source, "film"), read_image(path))
        assert find_source_scale(in_memory(source)) == find_source_scale(ImageFile(path))
    assert digest_source(in_memory(pydicom.dcmread(path))) == digest_source(ImageFile(path))


def test_bytes_are_read_like_their_file(tmp_path):
    path = write_png(tmp_path / "film.png", make_pixels(1))
    np.testing.assert_array_equal(decode_object(path.read_bytes(), "film"), read_image(path))
    assert digest_source(in_memory(path.read_bytes())) == digest_source(ImageFile(path))


def test_the_digest_is_that_of_the_content():
    pixels = make_pixels(1)
    picture = PIL.Image.fromarray(pixels)
    digest = digest_source(in_memory(pixels))
    assert digest == digest_source(in_memory(pixels.copy()[..., None], "another name"))
    others = [pixels.T, pixels + 1, pixels.astype(np.uint16), pixels.astype(float)]
    assert len({digest, *(digest_source(in_memory(other)) for other in others)}) == 5
    assert digest_source(in_memory(picture)) == digest_source(in_memory(picture.copy())) != digest


def test_film_and_digest_are_read_together(tmp_path):
    path = write_png(tmp_path / "film.png", make_pixels(1))
    for film in (ImageFile(path), in_memory(make_pixels(1))):
        levels, digest = load_film(film)
        np.testing.assert_array_equal(levels, read_source(film))
        assert digest == digest_source(film)
    assert digest_film(read_source(ImageFile(path))) == digest_film(read_source(in_memory(make_pixels(1))))


def cut_png():
    file = io.BytesIO()
    PIL.Image.fromarray(make_pixels(1)).save(file, "PNG")
    return PIL.Image.open(io.BytesIO(file.getvalue()[:2000]))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros((4, 16, 16), np.uint8), r"must be \(height, width\) .* Received: uint8 \(4, 16, 16\)"),
        (np.zeros((16, 16, 3), np.uint16), r"Received: uint16 \(16, 16, 3\)"),
        (np.zeros((15, 16), np.uint8), "at least 16x16"),
        (np.zeros((16, 16), np.int32), "must be of uint8, uint16 or float. Received: int32"),
        (np.zeros((16, 16), bool), "Received: bool"),
        (np.full((16, 16), np.nan), r"gray levels 0..255. Received: nan to nan"),
        (np.full((16, 16), 300.0), r"Received: 300 to 300"),
        (np.full((16, 16), -1.0), r"Received: -1 to -1"),
        (np.eye(16), "from 0 to 1. Multiply them by 255"),
        (np.zeros((0, 16), np.uint8), "at least 16x16"),
        (PIL.Image.new("CMYK", (20, 20)), 'pixels of kind "CMYK"'),
        (PIL.Image.new("F", (20, 20)), 'pixels of kind "F"'),
        (PIL.Image.new("L", (8, 8)), "at least 16x16"),
        (cut_png(), "truncated, damaged or closed"),
        (pydicom.Dataset(), "lacks its transfer syntax"),
        (b"", "0 bytes"),
        (7, "must be a path, array, PIL image, DICOM dataset or bytes. Received: int"),
    ],
)
def test_a_film_that_cannot_be_used_is_named(value, says):
    with pytest.raises(ImageError, match=rf"^7 \(in memory\): .*{says}"):
        read_source(in_memory(value))


def test_kinds_are_named():
    values = [np.zeros(3), b"", PIL.Image.new("L", (1, 1)), pydicom.Dataset(), "film.png", None]
    assert [name_kind(value) for value in values] == ["array", "bytes", "picture", "dicom", "", ""]
