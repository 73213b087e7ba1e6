import io
import struct
import threading
import warnings
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.errors import ImageError
from kmm.image.gray_levels import add_calibration
from kmm.image.limits import QuietDecoding
from kmm.image.read import LUMA, compute_luma, decode_image, is_blank, read_image, require_content


def make_film(height=40, width=30, *, channels=None, dtype=np.uint8, seed=0):
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def encode(pixels, kind="PNG", **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def encode_with_opencv(pixels, suffix):
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_gray_of_8_bits_is_exact(kind):
    film = make_film()
    image = decode_image(encode(film, kind), "film")
    assert image.dtype == np.float32
    assert (image == film).all()


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_exact(compression):
    film = make_film()
    assert (decode_image(encode(film, "TIFF", compression=compression), "film.tif") == film).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_stretched_between_percentiles(kind):
    film = make_film(dtype=np.uint16) // 5 + 700
    film[0, 0] = 65535
    low, high = np.percentile(film, (0.5, 99.5))
    expected = np.clip((film - low) / (high - low) * 255, 0, 255)
    np.testing.assert_allclose(decode_image(encode(film, kind), "film"), expected, atol=1e-4)


@pytest.mark.parametrize("kind, options", [("PNG", {}), ("TIFF", {}), ("TIFF", {"tiffinfo": {262: 0}})])
def test_8_bits_stored_in_16_are_exact(kind, options):
    film = make_film() // 2 + 50
    image = decode_image(encode(film.astype(np.uint16) * 257, kind, **options), "film")
    assert np.array_equal(255 - image if options else image, film)


def test_16_bits_of_big_endian_tiff():
    film = make_film(dtype=np.uint16)
    swapped = PIL.Image.frombytes("I;16B", film.shape[::-1], film.astype(">u2").tobytes())
    data = encode(swapped, "TIFF")
    assert data.startswith(b"MM") and np.array_equal(decode_image(data, "a"), decode_image(encode(film, "TIFF"), "b"))


def test_a_16_bit_png_that_says_its_levels_is_not_stretched():
    levels = np.linspace(80, 90, 400, dtype=np.float32).reshape(20, 20)
    data = add_calibration(encode(np.rint(levels * 257).astype(np.uint16)))
    PIL.Image.open(io.BytesIO(data)).load()  # still a PNG
    np.testing.assert_allclose(decode_image(data, "film.png"), levels, atol=1 / 514 + 1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_whose_white_is_zero_is_inverted(dtype):
    film = make_film(dtype=dtype)
    film[0, :2] = 0, np.iinfo(dtype).max
    as_stored = decode_image(encode(film, "TIFF"), "film.tif")
    white_is_zero = decode_image(encode(film, "TIFF", tiffinfo={262: 0}), "film.tif")
    # Pillow inverts 8-bit pixels when it writes this tag too; 16-bit ones it passes through both ways.
    expected = as_stored if dtype == np.uint8 else 255 - as_stored
    np.testing.assert_allclose(white_is_zero, expected, atol=1e-4)


@pytest.mark.parametrize("channels", [None, 3])
def test_tiff_of_jpeg_strips_is_read(channels):
    film = make_film(60, 50, channels=channels)
    data = encode(film, "TIFF", compression="jpeg", quality=95)
    assert decode_image(data, "film.tif").shape == film.shape[:2]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_colour_becomes_luma(kind):
    colour = make_film(channels=3)
    expected = colour.astype(np.float64) @ LUMA.astype(np.float64)
    np.testing.assert_allclose(decode_image(encode(colour, kind), "film"), expected, atol=1e-4)


def test_gray_stored_as_colour_stays_what_it_was():
    film = make_film()
    np.testing.assert_allclose(decode_image(encode(np.dstack([film] * 3)), "film.png"), film, atol=1e-4)


def test_alpha_is_ignored():
    colour, film = make_film(channels=4), make_film(channels=2)
    assert (decode_image(encode(colour), "rgba.png") == compute_luma(colour[..., :3])).all()
    gray_alpha = PIL.Image.merge("LA", [PIL.Image.fromarray(film[..., i]) for i in (0, 1)])
    assert (decode_image(encode(gray_alpha), "la.png") == film[..., 0]).all()


@pytest.mark.parametrize("options", [{}, {"transparency": 3}, {"transparency": bytes(range(9))}])
@pytest.mark.parametrize("colours", [5, 200])
def test_palette_is_expanded(colours, options):
    table = make_film(colours, 3)
    film = PIL.Image.fromarray(make_film() % colours, "L")
    film.putpalette(table.tobytes())
    expected = compute_luma(table)[np.asarray(film)]
    assert (decode_image(encode(film, **options), "film.png") == expected).all()


def test_one_bit_is_black_and_white():
    film = make_film() > 128
    assert (decode_image(encode(film), "film.png") == film * 255.0).all()


def test_jpeg_is_near_and_exif_orientation_is_ignored():
    film = cv2.GaussianBlur(make_film(64, 48), (0, 0), 5)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    plain, turned = (decode_image(encode(film, "JPEG", quality=98, exif=e), "film.jpg") for e in (b"", exif))
    assert abs(plain - film).max() <= 4  # the loss of quality 98 on a smooth film
    assert (plain == turned).all()


def test_read_image_goes_by_content_not_by_name(tmp_path):
    film = make_film()
    path = tmp_path / "film.jpg"
    path.write_bytes(encode(film, "PNG"))
    assert (read_image(path) == film).all()
    assert (read_image(str(path)) == film).all()


def damage(data):
    """Overwrites 40 bytes in the middle of the compressed pixels."""
    return data[:400] + b"\xff" * 40 + data[440:]


def cut_strip(data):
    """A TIFF file whose only strip, a JPEG image, lacks a third in its middle; its end mark is in place."""
    tags = PIL.Image.open(io.BytesIO(data)).tag_v2
    (start,), (size,) = tags[273], tags[279]
    strip = data[start : start + size]
    strip = strip[: size // 3] + strip[2 * size // 3 :]
    return data[:start] + strip.ljust(size, b"\0") + data[start + size :]


def state_white_is_zero(film):
    """A big-endian TIFF file of 16 bits in which 0 is white, a kind that Pillow does not know."""
    data = bytearray(encode(PIL.Image.frombytes("I;16B", film.shape[::-1], film.astype(">u2").tobytes()), "TIFF"))
    at = data.index(struct.pack(">HHI", 262, 3, 1)) + 8
    data[at : at + 2] = struct.pack(">H", 0)
    return bytes(data)


REFUSED = {
    "empty.png": (b"", "empty"),
    "text.png": (b"no picture, only words", "none of these"),
    "dot.png": (encode(make_film(1, 1)), "at least 16x16 pixels. Received: 1x1"),
    "thin.png": (encode(make_film(1000, 3)), "Received: 3x1000"),
    "cmyk.jpg": (encode(PIL.Image.new("CMYK", (20, 20)), "JPEG"), '"CMYK"'),
    "float.tif": (encode(np.ones((20, 20), np.float32), "TIFF"), '"F"'),
    "int.tif": (encode(np.ones((20, 20), np.int32), "TIFF"), '"I"'),
    "colour16.png": (encode_with_opencv(make_film(channels=3, dtype=np.uint16), ".png"), "16-bit colour"),
    "colour16.tif": (encode_with_opencv(make_film(channels=3, dtype=np.uint16), ".tif"), "16-bit colour"),
    "animated.png": (
        encode(make_film(), save_all=True, append_images=[PIL.Image.fromarray(make_film(seed=1))]),
        "2 pages or frames",
    ),
    "pages.tif": (
        encode(make_film(), "TIFF", save_all=True, append_images=[PIL.Image.fromarray(make_film(seed=1))] * 2),
        "3 pages or frames",
    ),
    "picture.gif": (encode(make_film(), "GIF"), "none of these"),
    "no-header.dcm": (b"x" * 300, "DICOM header"),
    "cut.png": (encode(make_film(100, 100))[:5000], "truncated or damaged"),
    "cut.jpg": (encode(make_film(100, 100), "JPEG")[:3000], "truncated or damaged"),
    "cut-progressive.jpg": (encode(make_film(100, 100), "JPEG", progressive=True)[:3000], "truncated or damaged"),
    "cut.tif": (encode(make_film(100, 100), "TIFF")[:3000], "truncated or damaged"),
    "cut-lzw.tif": (encode(make_film(100, 100), "TIFF", compression="tiff_lzw")[:-900], "truncated or damaged"),
    "cut-directory.tif": (encode(make_film(), "TIFF", compression="tiff_lzw")[:-50], "truncated or damaged"),
    "damaged-lzw.tif": (damage(encode(make_film(), "TIFF", compression="tiff_lzw")), "truncated or damaged"),
    "damaged.tif": (damage(encode(make_film(), "TIFF", compression="tiff_adobe_deflate")), "truncated or damaged"),
    "damaged.png": (damage(encode(make_film())), "truncated or damaged"),
    "cut.bmp": (encode(make_film(100, 100), "BMP")[:3000], "truncated or damaged"),
    "holed-strip.tif": (cut_strip(encode(make_film(100, 100), "TIFF", compression="jpeg")), "truncated or damaged"),
    "big-endian-white-is-zero.tif": (
        state_white_is_zero(make_film(dtype=np.uint16)),
        "a kind of TIFF that is not supported",
    ),
    "cut-header.png": (encode(make_film())[:20], "truncated or damaged"),
    "cut-header.jpg": (encode(make_film(), "JPEG")[:20], "truncated or damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_file_gets_one_line_with_its_name_and_nothing_is_printed(name, tmp_path, capfd):
    data, reason = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: expected") and reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def declare_size(kind, side):
    """A small image whose header says `side` x `side`: only the header is read before a bomb is refused."""
    data = bytearray(encode(make_film(17, 18), kind))
    if kind == "PNG":
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", side, side)
    elif kind == "BMP":
        data[18:26] = struct.pack("<II", side, side)
    else:
        for tag in (256, 257):  # ImageWidth, ImageLength: a LONG each
            at = data.index(struct.pack("<HHI", tag, 4, 1)) + 8
            data[at : at + 4] = struct.pack("<I", side)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_bomb_is_refused_from_its_header(kind):
    with pytest.raises(ImageError, match=r"expected at most 50000000 pixels\. Received: 20000x20000"):
        decode_image(declare_size(kind, 20_000), "bomb")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_image_with_fewer_pixels_than_declared_is_refused(kind):
    with pytest.raises(ImageError, match="truncated or damaged"):
        decode_image(declare_size(kind, 500), "film")


def test_max_pixels_is_a_setting():
    data = encode(make_film(20, 20))
    assert decode_image(data, "film", max_pixels=400).shape == (20, 20)
    with pytest.raises(ImageError, match="at most 399 pixels"):
        decode_image(data, "film", max_pixels=399)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(ImageError, match="the file cannot be read"):
            read_image(path)


@pytest.mark.parametrize("level, shade", [(0, "black"), (255, "white"), (7, "the same gray")])
def test_blank_film_is_read_and_then_refused(level, shade):
    image = decode_image(encode(np.full((20, 20), level, np.uint8)), "blank.png")
    assert is_blank(image)
    with pytest.raises(ImageError, match=rf"blank.png: expected a film. Every pixel is {shade} \(gray level {level} "):
        require_content(image, "blank.png")


def test_film_with_content_passes():
    image = decode_image(encode(make_film()), "film.png")
    assert require_content(image, "film.png") is image
    assert is_blank(decode_image(encode(np.full((20, 20), 900, np.uint16)), "constant16.png"))


FUZZED = {
    "png": encode(make_film(20, 20)),
    "jpg": encode(make_film(20, 20), "JPEG"),
    "tif": encode(make_film(20, 20), "TIFF", compression="tiff_lzw"),
    "bmp": encode(make_film(20, 20), "BMP"),
}


@settings(max_examples=150)
@given(kind=st.sampled_from(sorted(FUZZED)), length=st.integers(0, 2000), data=st.data())
def test_damage_anywhere_gives_an_image_or_an_image_error(kind, length, data):
    damaged = bytearray(FUZZED[kind][:length])
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(damaged), "film")
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 2 and image.dtype == np.float32 and image.min() >= 0 and image.max() <= 255.001


def test_quiet_decoding_is_shared_by_threads_and_gives_the_filters_back():
    quiet, before = QuietDecoding(), list(warnings.filters)

    def decode():
        for _ in range(50):
            with quiet:
                warnings.warn("odd header", stacklevel=1)

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
