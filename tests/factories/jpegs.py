"""JPEG files of every kind, whole and damaged, for tests."""

import io
import struct

import numpy as np
import PIL.Image


def make_pixels(seed=0, *, colour=False, height=200, width=168):
    """A smooth film with grain, uint8 `(height, width)` or `(height, width, 3)`."""
    y, x = np.mgrid[0:height, 0:width] / height
    film = 60 + 120 * np.sin(3 * x + seed) * np.cos(2 * y)
    film = (film + np.random.default_rng(seed).normal(0, 6, film.shape)).clip(0, 255).astype(np.uint8)
    return np.stack([film, np.roll(film, 9, 0), 255 - film], axis=-1) if colour else film


def write_jpeg(pixels, **options):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


GRAY, COLOUR = make_pixels(), make_pixels(colour=True)
GRAY_TAIL = GRAY.copy()
GRAY_TAIL[100:] = 128  # what libjpeg also makes of blocks that are not in the data
WHOLE = {
    "gray": write_jpeg(GRAY),
    "optimised": write_jpeg(GRAY, optimize=True),
    "odd size": write_jpeg(GRAY[:-3, :-5]),
    "colour 4:4:4": write_jpeg(COLOUR, subsampling=0),
    "colour 4:2:2": write_jpeg(COLOUR, subsampling=1),
    "colour 4:2:0": write_jpeg(COLOUR, subsampling=2),
    "stored as rgb": write_jpeg(COLOUR, keep_rgb=True),
    "progressive": write_jpeg(GRAY, progressive=True),
    "progressive colour": write_jpeg(COLOUR, progressive=True),
    "restart markers": write_jpeg(GRAY, restart_marker_rows=1),
    "restart markers in colour": write_jpeg(COLOUR, restart_marker_blocks=5),
    "gray tail": write_jpeg(GRAY_TAIL),
    "gray tail in colour": write_jpeg(np.stack([GRAY_TAIL] * 3, axis=-1)),
    "progressive gray tail": write_jpeg(GRAY_TAIL, progressive=True),
    "restart markers and gray tail": write_jpeg(GRAY_TAIL, restart_marker_rows=2),
    "zeros before the end": write_jpeg(GRAY)[:-2] + bytes(200) + b"\xff\xd9",
    "black tail": write_jpeg(np.where(np.arange(200)[:, None] < 100, GRAY, 0).astype(np.uint8), quality=50),
    "16 pixels": write_jpeg(GRAY[:16, :16], quality=10),
    "bytes behind the end": write_jpeg(GRAY) + b"\xff\xd8\xff behind",
    "thumbnail": write_jpeg(GRAY, exif=b"Exif\0\0" + write_jpeg(GRAY[:32, :32])),
}


def find_frame(data):
    """Where the frame header begins whose size counts: the last one, since thumbnails come before."""
    return max(data.rfind(marker + b"\x00") for marker in (b"\xff\xc0", b"\xff\xc2"))


def cut_hole(data, size=1460, *, at=0.5):
    """Takes bytes out of the pixels of a file; `at` is the place of the first, from 0 to 1."""
    scan = data.index(b"\xff\xda", find_frame(data)) + 20
    start = scan + int(at * (len(data) - scan - size - 40))
    return data[:start] + data[start + size :]


def end_early(data):
    """Half of a file, with an end in place."""
    return data[: len(data) // 2] + b"\xff\xd9"


def state_size(data, taller=0, wider=0):
    """Changes the size in the header."""
    at = find_frame(data) + 5
    height, width = struct.unpack(">HH", data[at : at + 4])
    return data[:at] + struct.pack(">HH", height + taller, width + wider) + data[at + 4 :]


def state_kind(data, *, marker=0xC0, bits=8, components=1):
    """Changes how the header says that pixels are coded."""
    at = find_frame(data)
    return data[: at + 1] + bytes([marker]) + data[at + 2 : at + 4] + bytes([bits]) + data[at + 5 : at + 9] + bytes(
        [components]
    ) + data[at + 10 :]  # fmt: skip
