"""Drawing on films: circles, heat, pictures side by side, captions. Pictures are uint8 RGB `(h, w, 3)`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError
from kmm.explain.output.heat import COLOURS, FOR, STRENGTHS, scale_heat
from kmm.explain.regions.find import Region, check_settings, choose_points, find_regions, smooth_map
from kmm.explain.settings import RegionSettings
from kmm.storage.files import replace_file

CIRCLE = (240, 228, 66)  # yellow of the palette of `kmm.explain.output.heat`: neither for nor against
LEAST_LABEL = 0.01  # least weight of a circle that is labelled
SENSITIVITY_NAMES = {"low": 0.5, "moderate": 0.7, "high": 0.9}
LEAST_WIDTH = 320  # pixels; a narrower picture is padded before its caption is added
_SHIFT = 4  # circles are drawn to a sixteenth of a pixel
_GAP = 4  # pixels between pictures side by side
_FONT = 0  # OpenCV's FONT_HERSHEY_SIMPLEX


def draw_circles(
    film: np.ndarray, regions: Sequence[Region], *, labels: bool = True, dashed: bool = False
) -> np.ndarray:
    """Draws regions on a film, at its own size and contrast.

    Circles are yellow with a dark edge, so that they are visible on white and on black; the line of the heaviest is
    twice as thick. Lines and letters grow with the film. A circle's label is its rank, 1 for the heaviest. It is left
    out if the weight is below 1 %, or if it would cover the label of a heavier circle.

    Args:
        film: uint8 array `(h, w)`, or RGB `(h, w, 3)`, which is not changed.
        regions: list of `Region` in pixels of the film, heaviest first; the heaviest is drawn on top.
        labels: bool. Whether to write ranks.
        dashed: bool. Whether to dash lines, as for a label below its threshold.

    Returns:
        uint8 array `(h, w, 3)`, RGB.

    Raises:
        InputError: if the film is not uint8 of that shape.

    Example:
        >>> from kmm.explain.regions.find import Region
        >>> draw_circles(np.zeros((64, 48), np.uint8), [Region(x=20, y=30, radius=9, weight=0.5)]).shape
        (64, 48, 3)
    """
    import cv2

    picture = _as_rgb(film).copy()
    line = _choose_line(picture)
    widths = [2 * line] + [line] * len(regions)
    for region, width in reversed(list(zip(regions, widths))):
        centre = [round(value * 2**_SHIFT) for value in (region.x, region.y)]
        radius = round(max(region.radius, 2 * line) * 2**_SHIFT)
        arcs = _list_dashes(radius / 2**_SHIFT, width + line) if dashed else [(0, 360)]
        for colour, thickness in ((0, 0, 0), width + line), (CIRCLE, width):
            for start, end in arcs:
                cv2.ellipse(picture, centre, (radius, radius), 0, start, end, colour, thickness, cv2.LINE_AA, _SHIFT)
    if labels:
        written = np.zeros(picture.shape[:2], bool)
        for rank, region in enumerate(regions, 1):
            if region.weight >= LEAST_LABEL:
                _write_label(picture, written, region, str(rank))
    return picture


def draw_heat(film: np.ndarray, heat: ArrayLike, *, alpha: float = 0.6) -> np.ndarray:
    """Lays a map over a film: vermilion counts for the label, blue against it, weak values are transparent.

    Args:
        film: uint8 array `(h, w)` or RGB `(h, w, 3)`.
        heat: float array `(h', w')`, signed, on the area of the film. Colours are strongest above the 99 % quantile of
            its non-zero magnitudes.
        alpha: float in [0, 1]. Opacity of the strongest colour.

    Returns:
        uint8 array `(h, w, 3)`, RGB.

    Raises:
        InputError: if film or map is not as expected.

    Example:
        >>> draw_heat(np.zeros((2, 2), np.uint8), np.array([[1.0, 0.0], [0.0, -1.0]]), alpha=1).tolist()
        [[[213, 94, 0], [0, 0, 0]], [[0, 0, 0], [0, 114, 178]]]
    """
    import cv2

    picture, heat = _as_rgb(film), np.asarray(heat, np.float64)
    if heat.ndim != 2 or not heat.size or not np.isfinite(heat).all():
        raise InputError(f"`heat` must be a finite map (height, width). Received: shape {heat.shape}.")
    if not 0 <= alpha <= 1:
        raise InputError(f"`alpha` must be in [0, 1]. Received: {alpha}.")
    levels = cv2.resize(scale_heat(heat), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    strength = alpha * STRENGTHS[:, None]
    colours = strength * COLOURS
    clear = cv2.LUT(levels, np.rint(255 * (1 - strength)).astype(np.uint8))
    under = cv2.multiply(picture, cv2.merge([clear] * 3), scale=1 / 255)
    return cv2.add(under, cv2.LUT(cv2.merge([levels] * 3), np.rint(colours).astype(np.uint8)[None]))


def side_by_side(pictures: Sequence[np.ndarray], *, captions: Sequence[str] = ()) -> np.ndarray:
    """Puts pictures of one size into a row.

    Args:
        pictures: list of uint8 arrays `(h, w)` or RGB `(h, w, 3)`, at least one.
        captions: list of str in ASCII, one per picture, written above it. Empty: no captions.

    Returns:
        uint8 array, RGB: as high as the pictures, plus a line of captions.

    Raises:
        InputError: if the sizes differ, or there is not one caption per picture.

    Example:
        >>> side_by_side([np.zeros((10, 20), np.uint8)] * 3).shape
        (10, 68, 3)
    """
    import cv2

    pictures = [_as_rgb(picture) for picture in pictures]
    sizes = sorted({picture.shape[:2] for picture in pictures})
    if len(sizes) != 1:
        raise InputError(f"Pictures side by side must be of one size. Received: {sizes}.")
    if captions and len(captions) != len(pictures):
        raise InputError(f"Expected {len(pictures)} captions. Received: {len(captions)}.")
    (height, width), count = sizes[0], len(pictures)
    text = _choose_text(pictures[0])
    top = round(2 * _measure_text("0", text)[1]) if captions else 0
    row = np.zeros((top + height, count * (width + _GAP) - _GAP, 3), np.uint8)
    for number, picture in enumerate(pictures):
        left = number * (width + _GAP)
        row[top:, left : left + width] = picture
        if captions:
            scale = text * min(1, (width - 4) / _measure_text(captions[number], text)[0])
            foot = left + 2, top - top // 4 - 1
            cv2.putText(row, captions[number], foot, _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return row


def draw_sensitivities(
    film: np.ndarray,
    heat: np.ndarray,
    settings: RegionSettings,
    *,
    levels: Mapping[str, float] = SENSITIVITY_NAMES,
    pixels: int = 512,
    dashed: bool = False,
) -> np.ndarray:
    """Draws the result of several sight sensitivities side by side: the chosen points shaded, with their circles.

    Args:
        film: uint8 array `(h, w)`.
        heat: float array `(h', w')` or `(h', w', 3)`, as for `find_regions`.
        settings: `RegionSettings`; its sensitivity is replaced.
        levels: dict of name to sensitivity, at least one.
        pixels: int. A film whose longest side exceeds this is shrunk.
        dashed: bool. As in `draw_circles`.

    Returns:
        uint8 array, RGB: one captioned picture per level.

    Raises:
        InputError: if film or map has another shape or type, or a setting is out of range.

    Example:
        >>> from kmm.explain.settings import RegionSettings
        >>> heat = np.exp(-((np.mgrid[:32, :32] - 16) ** 2).sum(axis=0) / 20)
        >>> draw_sensitivities(np.zeros((64, 64), np.uint8), heat, RegionSettings()).shape[1]
        200
    """
    import cv2

    picture = _as_rgb(film)
    if (shrink := pixels / max(picture.shape)) < 1:
        size = [max(1, round(side * shrink)) for side in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    height, width = picture.shape[:2]
    check_settings(settings)
    smooth = smooth_map(heat, settings.smoothing)
    panels = []
    for level in levels.values():
        regions = find_regions(heat, replace(settings, sensitivity=level), film_size=(height, width))
        points = choose_points(smooth, sensitivity=level, rule=settings.rule).astype(np.uint8)
        points = cv2.resize(points, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
        shaded = picture.copy()
        shaded[points] = (0.5 * shaded[points] + 0.5 * np.array(FOR)).astype(np.uint8)
        panels.append(draw_circles(shaded, regions, dashed=dashed))
    return side_by_side(panels, captions=[f"sight sensitivity {level:g} ({name})" for name, level in levels.items()])


def add_caption(picture: np.ndarray, lines: Iterable[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    """Adds lines of text on a black band below a picture; the picture's pixels keep their coordinates.

    Args:
        picture: uint8 array `(h, w)` or RGB `(h, w, 3)`. If narrower than 320 pixels, it is padded on its right.
        lines: sequence of `(text, colour)`, colour as RGB. A line that is too long is wrapped. Letters that the font
            (DejaVu Sans) lacks are written as escapes.

    Returns:
        uint8 array `(h', w', 3)`, RGB, with the picture at its top left.

    Example:
        >>> add_caption(np.zeros((200, 400), np.uint8), [("Not for diagnosis", (255, 255, 255))]).shape[1]
        400
    """
    from PIL import Image, ImageDraw

    picture = _as_rgb(picture)
    height, width = picture.shape[0], max(picture.shape[1], LEAST_WIDTH)
    size = max(12, round(width / 50))
    font = _load_font(size)
    wrapped = [(part, colour) for text, colour in lines for part in _wrap_text(font, text, width - size)]
    band = Image.new("RGB", (width, round(1.3 * size * len(wrapped)) + size), (0, 0, 0))
    pen = ImageDraw.Draw(band)
    for number, (text, colour) in enumerate(wrapped):
        pen.text((size / 2, size / 2 + 1.3 * size * number), text, fill=colour, font=font)
    padded = np.zeros((height, width, 3), np.uint8)
    padded[:, : picture.shape[1]] = picture
    return np.concatenate([padded, np.asarray(band)])


def _load_font(size):
    """Loads DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic and more."""
    from importlib.util import find_spec
    from pathlib import Path

    from PIL import ImageFont

    fonts = Path(find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), size, layout_engine=ImageFont.Layout.BASIC)


def _wrap_text(font, text, width):
    """Wraps a text into lines of at most `width` pixels, at spaces where possible."""
    missing = bytes(font.getmask("\U0010fffe"))
    words = "".join(
        letter if bytes(font.getmask(letter)) != missing else letter.encode("ascii", "backslashreplace").decode("ascii")
        for letter in " ".join(text.split())
    ).split(" ")
    lines = [""]
    while words:
        word = words.pop(0)
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        elif lines[-1]:
            lines.append("")
            words.insert(0, word)
        else:
            fits = max((end for end in range(1, len(word)) if font.getlength(word[:end]) <= width), default=1)
            lines[-1] = word[:fits]
            words.insert(0, word[fits:])
            words = [word for word in words if word]
    return lines


def write_png(path: Path | str, picture: np.ndarray) -> None:
    """Writes a picture as PNG, whole or not at all: to a temporary file beside it, then renamed.

    Args:
        path: path of the file.
        picture: uint8 array `(h, w)`, or RGB `(h, w, 3)`.

    Raises:
        InputError: if the picture is not uint8 of that shape.
        OSError: if the file cannot be written.
    """
    _write_picture(path, picture, ".png")


def write_jpeg(path: Path | str, picture: np.ndarray, *, quality: int = 80) -> None:
    """Writes a picture as JPEG, otherwise like `write_png`; `quality` is 1 to 100."""
    import cv2

    _write_picture(path, picture, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)


def _write_picture(path, picture, kind, *options):
    import cv2

    data = cv2.imencode(kind, cv2.cvtColor(_as_rgb(picture), cv2.COLOR_RGB2BGR), options)[1]
    with replace_file(path) as place:
        place.write_bytes(data)


def _as_rgb(picture: np.ndarray) -> np.ndarray:
    """Converts a picture to RGB `(h, w, 3)`; returns it unchanged if it is RGB already."""
    import cv2

    picture = np.asarray(picture)
    if (
        picture.dtype != np.uint8
        or picture.ndim not in (2, 3)
        or picture.shape[2:] not in ((), (3,))
        or not picture.size
    ):
        raise InputError(
            f"A picture must be uint8 (height, width) or (height, width, 3). Received: {picture.dtype} {picture.shape}."
        )
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture


def _choose_line(picture):
    """Chooses the width of lines on a picture, in pixels."""
    return max(1, round(max(picture.shape) / 400))


def _choose_text(picture):
    """Chooses OpenCV's scale of letters on a picture."""
    return max(0.4, max(picture.shape) / 1400)


def _measure_text(text, scale):
    """Returns `(width, height)` of a line of text in pixels."""
    import cv2

    return cv2.getTextSize(text, _FONT, scale, 1)[0]


def _list_dashes(radius, width):
    """Lists the dashes of a circle as `(start, end)` in degrees: at least four, each as long as the gaps."""
    count = max(4, round(2 * np.pi * radius / (4 * width)))
    return [(start, start + 180 / count) for start in np.arange(count) * (360 / count)]


def _write_label(picture, written, region, text):
    """Writes a region's rank above its circle, on a dark field inside the picture, unless another rank is there."""
    import cv2

    scale = _choose_text(picture)
    width, height = _measure_text(text, scale)
    pad = max(2, height // 4)
    left, top = round(region.x - width / 2), round(region.y - region.radius) - height - 3 * pad
    left = max(pad, min(left, picture.shape[1] - width - pad))
    top = max(pad, min(top, picture.shape[0] - height - pad))
    field = np.s_[top - pad : top + height + pad, left - pad : left + width + pad]
    if not written[field].any():
        written[field] = True
        picture[field] = 0
        cv2.putText(picture, text, (left, top + height), _FONT, scale, CIRCLE, 1, cv2.LINE_AA)
