"""Films in every mode that PNG and JPEG know."""

import numpy as np
import PIL.Image


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


def draw_film(seed=0, side=64):
    """A dark film with a bright body, two dark lungs and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    film = np.where((abs(x - 0.5) < 0.4) & (y > 0.12), 200.0, 10.0)
    film[(abs(abs(x - 0.5) - 0.22) < 0.13) & (abs(y - 0.45) < 0.25)] = 70
    return np.clip(film + rng.normal(0, 8, film.shape), 0, 255).astype(np.uint8)
