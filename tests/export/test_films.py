"""Films in the graph are those of `kmm.image`, from any file; what is no film is refused by its number."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from kmm.client.films import encode_film
from kmm.export.graph.films import mix_channels, read_films, use_pixels
from kmm.image.gray_levels import add_calibration
from kmm.image.prepare import ImagePreparation, resize_image
from kmm.image.read import compute_luma, decode_image
from tests.factories import jpegs
from tests.factories.images import IMAGES, make_pixels


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def decode(data):
    return use_pixels(data, "film: ", mix_channels)


@pytest.mark.large
@pytest.mark.parametrize("name", IMAGES)
def test_decoding_equals_the_graph(name):
    image, kind, options = IMAGES[name]
    file = io.BytesIO()
    image.save(file, kind, **options)
    ours, graph = decode_image(file.getvalue(), name), decode(file.getvalue()).numpy()
    assert (ours == graph).all()


def make_deep_films():
    """16-bit films: of 12 bits with a burnt-in pixel, of 8 bits times 257, of two levels, and with few levels."""
    film = (np.mgrid[0:61, 0:83].sum(0) * 4095 / 142).astype(np.uint16)
    marked, two, few = film.copy(), np.full_like(film, 700), film // 800
    marked[0, 0], two[0, :9] = 65535, 900
    return {"marked": marked, "8 bits": make_pixels(1).astype(np.uint16) * 257, "two": two, "few": few, "ramp": film}


DEEP_FILMS = make_deep_films()


@pytest.mark.large
@pytest.mark.parametrize("name", DEEP_FILMS)
def test_16_bits_equal_the_graph(name):
    data = write(DEEP_FILMS[name])
    graph = decode(data).numpy()
    assert (graph == decode_image(data, "film.png")).all()
    if name == "8 bits":
        assert (graph == make_pixels(1)).all()
    if name == "marked":
        assert graph.mean() > 120


@pytest.mark.large
def test_a_16_bit_png_that_says_its_levels_equals_the_graph():
    data = add_calibration(write(np.rint(np.linspace(80, 90, 400) * 257).astype(np.uint16).reshape(20, 20)))
    ours, graph = decode_image(data, "film.png"), decode(data).numpy()
    np.testing.assert_allclose(graph, ours, rtol=1e-6)  # one rounding: the graph may multiply by 1 / 257
    assert abs(graph[0, 0] - 80) < 0.002


@pytest.mark.parametrize("name", jpegs.WHOLE)
def test_whole_jpegs_equal_the_graph_whatever_their_last_block_is(name):
    assert (decode(jpegs.WHOLE[name]).numpy() == decode_image(jpegs.WHOLE[name], "film.jpg")).all()


JPEG_NAMES = ("gray", "odd size", "colour 4:2:0", "restart markers", "restart markers in colour", "thumbnail")
DAMAGED_JPEGS = {
    **{f"hole in {name}": jpegs.cut_hole(jpegs.WHOLE[name]) for name in JPEG_NAMES},
    **{f"hole at {at}": jpegs.cut_hole(jpegs.WHOLE["gray"], at=at) for at in (0, 0.25, 0.75, 1)},
    "hole of 700 bytes": jpegs.cut_hole(jpegs.WHOLE["gray"], 700),
    "an end too early": jpegs.end_early(jpegs.WHOLE["gray"]),
    "header says taller": jpegs.state_size(jpegs.WHOLE["gray"], taller=64),
    "header says wider": jpegs.state_size(jpegs.WHOLE["gray"], wider=64),
    "header says taller, progressive": jpegs.state_size(jpegs.WHOLE["progressive"], taller=64),
    "header says shorter": jpegs.state_size(jpegs.WHOLE["gray"], taller=-64),
    "header says narrower": jpegs.state_size(jpegs.WHOLE["gray"], wider=-16),
    "header says shorter, in colour": jpegs.state_size(jpegs.WHOLE["colour 4:2:0"], taller=-64),
    "header says narrower, progressive": jpegs.state_size(jpegs.WHOLE["progressive"], wider=-64),
    "header says shorter, with restart markers": jpegs.state_size(jpegs.WHOLE["restart markers"], taller=-64),
}


def test_jpegs_that_lack_bytes_are_refused():
    taken = []
    for name, data in DAMAGED_JPEGS.items():
        try:
            decode(data)
            taken.append(name)
        except tf.errors.InvalidArgumentError as error:
            assert "film: expected a whole JPEG file. " in str(error), name
    assert not taken


@pytest.mark.parametrize("count", [1, 5000])
def test_bytes_behind_the_end_are_passed_over_on_both_sides(count):
    data = write(FILM) + b"x" * count
    assert (decode_image(data, "film.png") == FILM).all() and (decode(data).numpy() == FILM).all()


def test_gray_png_of_every_bit_depth_equals_the_graph():
    for depth in (1, 2, 4, 8):
        data = write_gray_png(make_pixels(1) >> (8 - depth), depth)
        assert (decode_image(data, "film.png") == decode(data).numpy()).all()


def write_gray_png(pixels, depth):
    """A gray PNG of 1, 2, 4 or 8 bits, which Pillow and OpenCV do not write: header, one zlib stream, end."""
    height, width = pixels.shape
    bits = np.unpackbits(pixels[..., None], axis=-1)[..., 8 - depth :].reshape(height, -1)
    rows = np.pad(np.packbits(bits, axis=1), ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return write_chunks([(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")])


def write_chunks(chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


SIZES = [(256, 256, 224, 224), (1024, 1024, 224, 224), (457, 512, 200, 224), (17, 33, 224, 224), (300, 300, 299, 299)]


@pytest.mark.parametrize("height, width, new_height, new_width", SIZES)
def test_resizing_equals_the_graph(height, width, new_height, new_width):
    image = np.random.default_rng(0).uniform(0, 255, (height, width)).astype(np.float32)
    graph = tf.image.resize(image[..., None], (new_height, new_width), antialias=True)[..., 0].numpy()
    assert (resize_image(image, new_height, new_width) == graph).all()


@pytest.mark.large
@pytest.mark.parametrize("rounding", ["uint8", "none"])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_prepared_films_and_their_boxes_are_those_of_kmm(fit, rounding):
    preparation = ImagePreparation(96, fit=fit, rounding=rounding)
    random = np.random.default_rng(1)
    sizes = [(300, 200), (199, 400), (20, 31), (96, 96), (1024, 833)]
    films = [random.integers(0, 256, size, np.uint8) for size in sizes]
    read = tf.function(lambda files: read_films(files, preparation), [tf.TensorSpec([None], tf.string)])
    squares, boxes = read(tf.constant([write(film) for film in films] + [b""]))
    for row, film in enumerate(films):
        np.testing.assert_allclose(
            squares[row], preparation.apply(film.astype(np.float32)), atol=0 if rounding == "uint8" else 0.001
        )
        assert boxes[row].numpy().tolist() == list(preparation.find_box(film.shape))
    assert not squares[-1].numpy().any() and not boxes[-1].numpy().any()


KINDS = ["rgb", "rgba", "palette-transparency", "gray-alpha", "16-bit", "jpeg-420"]


@pytest.mark.large
@pytest.mark.parametrize("rounding", ["uint8", "none"])
@pytest.mark.parametrize("name", [*KINDS, *DEEP_FILMS])
def test_prepared_films_of_every_kind_are_those_of_kmm(name, rounding, read_small):
    if name in IMAGES:
        image, kind, options = IMAGES[name]
        file = io.BytesIO()
        image.save(file, kind, **options)
        data = file.getvalue()
    else:
        data = write(DEEP_FILMS[name])
    square = read_small[rounding](tf.constant([data]))[0][0]
    film = decode_image(data, name)
    expected = ImagePreparation(32, rounding=rounding).apply(film)
    np.testing.assert_allclose(square, expected, atol=0 if rounding == "uint8" else 0.001)
    assert (square.numpy() == np.rint(square)).all() == (rounding == "uint8") and film.std() > 10


@pytest.mark.parametrize("low", [0, 3.25])
def test_what_the_client_sends_of_fractional_levels_is_prepared_as_the_film_itself(low, read_small):
    """Of a DICOM film, for example: sent in 16 bits if its levels reach from 0 to 255, else in 8."""
    film = np.random.default_rng(0).uniform(low, 255, (90, 70)).astype(np.float32)
    film[0, :4] = low, 255, 100.5, 101.5
    data = encode_film(film)
    assert data[24] == (16 if low == 0 else 8)  # the depth, in the header of the PNG
    square = read_small["uint8"](tf.constant([data]))[0][0]
    assert (square == ImagePreparation(32).apply(film)).numpy().all()


def test_a_film_of_many_strips_is_rounded_as_a_whole(read_small):
    rgb = np.random.default_rng(0).integers(0, 256, (1100, 2003, 3), np.uint8)
    data = write(rgb)
    square = read_small["uint8"](tf.constant([data]))[0][0]
    assert (square == ImagePreparation(32).apply(decode_image(data, "film.png"))).numpy().all()


def test_gray_with_a_transparent_level_equals_the_graph():
    data = write(FILM)
    transparent = data[:33] + struct.pack(">I4sHI", 2, b"tRNS", 90, zlib.crc32(b"tRNS\0\x5a")) + data[33:]
    assert (decode(transparent).numpy() == FILM).all() and (FILM == 90).any()


MEASURE = """
import sys
from pathlib import Path
import tensorflow as tf
from kmm.client.films import encode_film
from kmm.export.graph.films import read_films
from kmm.image.prepare import ImagePreparation

read = tf.function(lambda files: read_films(files, ImagePreparation(32)), [tf.TensorSpec([None], tf.string)])

def look(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024

for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")
    before = look("VmRSS")
    read(tf.constant([Path(path).read_bytes()]))
    print(look("VmHWM") - before)
"""


@pytest.mark.large
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured by Linux")
def test_a_film_takes_little_more_memory_than_its_own_pixels(tmp_path):
    paths = []
    for side, kind, channels in ((64, 0, 1), (3000, 0, 1), (3000, 6, 4)):  # the first one warms up
        paths.append(tmp_path / f"{len(paths)}.png")
        row = b"\0" + b"\xff" * channels + bytes((side - 1) * channels)
        paths[-1].write_bytes(write_png_rows(side, side, [row] * side, kind))
    command = [sys.executable, "-c", MEASURE, *paths]
    for _ in range(3):  # other threads of the process can add to the peak: the first quiet run counts
        environment = {
            **os.environ,
            "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "0",
        }  # the server sets it
        found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        _, gray, rgba = (int(size) / 3000**2 for size in found.split())
        if gray < 4 and rgba < gray + 12:
            break
    # Bytes a pixel: 2 of gray; RGB adds 2, and 2 to 3 while the rounded strips are joined.
    # It is 5 and 29 where the film becomes float32: the limits lie between.
    assert gray < 4 and rgba < gray + 12


def write_png_rows(width, height, rows, kind):
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return write_chunks([(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")])


def write(film, kind=".png"):
    return cv2.imencode(kind, film)[1].tobytes()


FILM = cv2.GaussianBlur(make_pixels(1), (0, 0), 2)
BOMB = (
    b"\x89PNG\r\n\x1a\n"
    + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 20_000, 20_000, 8, 0, 0, 0, 0)
    + b"\0\0\0\0IEND\xaeB`\x82"
)
CMYK = io.BytesIO()
PIL.Image.merge("CMYK", [PIL.Image.fromarray(FILM)] * 4).save(CMYK, "JPEG")
DEEP = make_pixels(3).astype(np.uint16) * 257


def damage(data, place):
    """Alters a byte: the frame of the file stays as it was."""
    data = bytearray(data)
    data[place] ^= 255
    return bytes(data)


JPEG = write(FILM, ".jpg")
REFUSED = {
    "text": (b"no film", "expected a PNG or JPEG file"),
    "one byte": (b"\x89", "expected a PNG or JPEG file"),
    "tiff": (write(FILM, ".tiff"), "expected a PNG or JPEG file"),
    "head alone": (write(FILM)[:8], "expected a complete PNG file"),
    "header later": (
        write(FILM)[:8] + struct.pack(">I4sII", 0, b"prIv", zlib.crc32(b"prIv"), 0)[:12] + write(FILM)[8:],
        "expected a PNG file whose header comes first",
    ),
    "half a png": (write(FILM)[: len(write(FILM)) // 2], "expected a complete PNG file"),
    "half a jpeg": (write(FILM, ".jpg")[: len(write(FILM, ".jpg")) // 2], "expected a complete JPEG file"),
    "bomb": (BOMB, "expected at most 50000000 pixels. Received: 20000x20000"),
    "dot": (write(FILM[:1, :1]), "expected an image of at least 16x16 pixels. Received: 1x1"),
    "black": (write(FILM * 0), "expected a film. Every pixel is the same gray"),
    "cmyk": (CMYK.getvalue(), "expected gray or RGB. Received: CMYK"),
    "damaged png": (
        damage(write(FILM), len(write(FILM)) // 2),
        "expected a whole PNG file. The data inside is damaged",
    ),
    "damaged deep png": (
        damage(write(DEEP[..., 0]), len(write(DEEP[..., 0])) // 2),
        "expected a whole PNG file. The data inside is damaged",
    ),
    "damaged jpeg": (
        damage(JPEG, JPEG.index(b"\xff\xc4") + 4),
        "expected a whole JPEG file. The data inside is damaged",
    ),
    "jpeg without a frame": (JPEG[:20] + b"\xff\xd9", "expected a whole JPEG file. The data inside is damaged"),
    "jpeg of 12 bits": (
        jpegs.state_kind(jpegs.WHOLE["gray"], marker=0xC1, bits=12),
        "expected a JPEG of 8 bits. Received: 12",
    ),
    "lossless jpeg": (jpegs.state_kind(jpegs.WHOLE["gray"], marker=0xC3), "expected a baseline or progressive JPEG"),
    "deep colour": (write(DEEP), "expected 16 bits in gray images only"),
}


@pytest.fixture(scope="module")
def read_small():
    """Functions that read films of 32 pixels, by their rounding."""

    def build(preparation):
        return tf.function(lambda files: read_films(files, preparation), [tf.TensorSpec([None], tf.string)])

    return {rounding: build(ImagePreparation(32, rounding=rounding)) for rounding in ("uint8", "none")}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_film_is_refused_by_its_number(name, read_small):
    data, said = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"image 1: {said}"):
        read_small["uint8"](tf.constant([write(FILM), data, write(FILM)]))


def test_luma_is_one_formula():
    rgb = make_pixels(3)
    pixels = tf.cast(rgb, tf.float32)
    graph = pixels[..., 0] * 0.299 + pixels[..., 1] * 0.587 + pixels[..., 2] * 0.114
    assert (compute_luma(rgb) == graph.numpy()).all()


def test_opencv_decodes_the_same_jpeg():
    film = cv2.GaussianBlur(make_pixels(1), (0, 0), 3)
    data = cv2.imencode(".jpg", film)[1]
    assert (decode_image(data.tobytes(), "film.jpg") == cv2.imdecode(data, cv2.IMREAD_UNCHANGED)).all()
