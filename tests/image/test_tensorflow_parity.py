"""Decoding and resizing give the numbers that TensorFlow gives: an exported graph repeats them (core ops only)."""

import io
import struct
import warnings
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from kmm.image.prepare import ImagePreparation, resize_image
from kmm.image.read import compute_luma, decode_image

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of TensorFlow's own imports
    tf = pytest.importorskip("tensorflow")


def decode_in_graph(data):
    """What a graph does with the bytes of a PNG or JPEG file: one definition of gray on both sides."""
    if data.startswith(b"\xff\xd8"):
        pixels = tf.io.decode_jpeg(data, channels=0, dct_method="INTEGER_ACCURATE")
    elif data[24] == 16:
        pixels = tf.io.decode_png(data, channels=0, dtype=tf.uint16)
    else:
        pixels = tf.io.decode_png(data, channels=0)
    pixels = tf.cast(pixels, tf.float32)
    if pixels.shape[-1] >= 3:
        gray = pixels[..., 0] * 0.299 + pixels[..., 1] * 0.587 + pixels[..., 2] * 0.114
    else:
        gray = pixels[..., 0]
    if data[24] == 16 and not data.startswith(b"\xff\xd8"):
        low, high = tf.reduce_min(gray), tf.reduce_max(gray)
        gray = (gray - low) * (255 / tf.maximum(high - low, 1))
    return gray.numpy()


def make_pixels(channels, dtype=np.uint8):
    shape = (61, 83) if channels == 1 else (61, 83, channels)
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def make_images():
    gray, colour = PIL.Image.fromarray(make_pixels(1)), PIL.Image.fromarray(make_pixels(3))
    two_bits = gray.quantize(4)
    return {
        "gray": (gray, "PNG", {}),
        "rgb": (colour, "PNG", {}),
        "rgba": (PIL.Image.fromarray(make_pixels(4)), "PNG", {}),
        "gray-alpha": (PIL.Image.merge("LA", [gray, PIL.Image.fromarray(make_pixels(1)[::-1])]), "PNG", {}),
        "palette": (colour.quantize(200), "PNG", {}),
        "palette-2-bits": (two_bits, "PNG", {"bits": 2}),
        "palette-transparency": (colour.quantize(200), "PNG", {"transparency": 7}),
        "1-bit": (PIL.Image.fromarray(make_pixels(1) > 127), "PNG", {}),
        "16-bit": (PIL.Image.fromarray(make_pixels(1, np.uint16)), "PNG", {}),
        "jpeg-gray": (gray, "JPEG", {"quality": 75}),
        "jpeg-444": (colour, "JPEG", {"quality": 90, "subsampling": 0}),
        "jpeg-422": (colour, "JPEG", {"quality": 90, "subsampling": 1}),
        "jpeg-420": (colour, "JPEG", {"quality": 90, "subsampling": 2}),
        "jpeg-progressive": (colour, "JPEG", {"quality": 60, "progressive": True}),
    }


IMAGES = make_images()


@pytest.mark.parametrize("name", IMAGES)
def test_decoding_equals_the_graph(name):
    image, kind, options = IMAGES[name]
    file = io.BytesIO()
    image.save(file, kind, **options)
    ours, graph = decode_image(file.getvalue(), name), decode_in_graph(file.getvalue())
    if name == "16-bit":
        np.testing.assert_allclose(ours, graph, atol=1e-4)  # one rounding of float32 in the scale
    else:
        assert (ours == graph).all()


def test_gray_png_of_every_bit_depth_equals_the_graph():
    for depth in (1, 2, 4, 8):
        data = write_gray_png(make_pixels(1) >> (8 - depth), depth)
        assert (decode_image(data, "film.png") == decode_in_graph(data)).all()


def write_gray_png(pixels, depth):
    """A gray PNG of 1, 2, 4 or 8 bits, which Pillow and OpenCV do not write: header, one zlib stream, end."""
    height, width = pixels.shape
    bits = np.unpackbits(pixels[..., None], axis=-1)[..., 8 - depth :].reshape(height, -1)
    rows = np.pad(np.packbits(bits, axis=1), ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


SIZES = [(256, 256, 224, 224), (1024, 1024, 224, 224), (457, 512, 200, 224), (17, 33, 224, 224), (300, 300, 299, 299)]


@pytest.mark.parametrize("height, width, new_height, new_width", SIZES)
def test_resizing_equals_the_graph(height, width, new_height, new_width):
    image = np.random.default_rng(0).uniform(0, 255, (height, width)).astype(np.float32)
    graph = tf.image.resize(image[..., None], (new_height, new_width), antialias=True)[..., 0].numpy()
    assert abs(resize_image(image, new_height, new_width) - graph).max() < 0.001


@pytest.mark.parametrize("size", [(300, 200), (199, 400), (20, 31)])
def test_letterbox_equals_the_graph(size):
    image = np.random.default_rng(1).uniform(0, 255, size).astype(np.float32)
    top, left, height, width = ImagePreparation(224).find_box(size)
    graph = tf.image.resize(image[..., None], (height, width), antialias=True)
    graph = tf.image.pad_to_bounding_box(graph, top, left, 224, 224).numpy()
    assert abs(ImagePreparation(224).apply(image) - graph).max() < 0.001


def test_luma_is_one_formula():
    rgb = make_pixels(3)
    pixels = tf.cast(rgb, tf.float32)
    graph = pixels[..., 0] * 0.299 + pixels[..., 1] * 0.587 + pixels[..., 2] * 0.114
    assert (compute_luma(rgb) == graph.numpy()).all()


def test_opencv_decodes_the_same_jpeg():
    film = cv2.GaussianBlur(make_pixels(1), (0, 0), 3)
    data = cv2.imencode(".jpg", film)[1]
    assert (decode_image(data.tobytes(), "film.jpg") == cv2.imdecode(data, cv2.IMREAD_UNCHANGED)).all()
