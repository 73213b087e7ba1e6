"""The film on a page: its picture, its heat, and its circles."""

from collections.abc import Iterable, Sequence
from typing import Any

from kmm.explain.explained_study import ExplainedFilm
from kmm.explain.output.heat import color_heat
from kmm.explain.output.markup import encode_png
from kmm.explain.output.pictures import require_film, shrink_film, smooth_heat
from kmm.explain.regions.find import Region, move_regions

LONGEST_SIDE = 1024  # pixels of the film in a page


def describe_film(
    explanation: ExplainedFilm, sweep: Iterable[tuple[float, Sequence[Region]]] = (), *, pictures: bool = True
) -> dict[str, Any]:
    """Describes the film of an explanation for the template of its page.

    Args:
        explanation: `Explanation` with a film, or `kmm.explain.similarity.pair.ComparedStudy`.
        sweep: list of `(sensitivity, list of Region)`, in any order; the explanation's own are added.
        pictures: bool. Whether film and heat are encoded; without, both are None.

    Returns:
        dict: `width`, `height` and `letter` (size of the ranks) in pixels of the film; `square` (whether its file's
        pixels are); `picture` and `heat`, data URLs; `chosen`, the sensitivity that is shown, and its `position` in
        `steps`, a list of `level`, `shown` and `circles`.

    Raises:
        InputError: if there is no film.
    """
    film = require_film(explanation)
    picture = encode_png(shrink_film(film, LONGEST_SIDE)) if pictures else None
    height, width = film.shape
    chosen = round(explanation.settings.regions.sensitivity, 4)
    steps = sorted({**{round(level, 4): regions for level, regions in sweep}, chosen: explanation.regions}.items())
    heat, letter = smooth_heat(explanation) if pictures else None, max(height, width) / 28
    return {
        "width": width,
        "height": height,
        "letter": letter,
        "square": explanation.pixel_scale[0] == explanation.pixel_scale[1],
        "picture": picture,
        "heat": None if heat is None else encode_png(color_heat(heat, opacity=255)),
        "chosen": chosen,
        "position": [level for level, _ in steps].index(chosen),
        "steps": [
            {
                "level": level,
                "shown": level == chosen,
                "circles": [
                    _describe_circle(region, in_file, letter, width)
                    for region, in_file in zip(regions, move_regions(regions, explanation.pixel_scale), strict=True)
                ],
            }
            for level, regions in steps
        ],
    }


def _describe_circle(region, in_file, letter, width):
    """Describes a circle for drawing, with its centre in pixels of the file and the place of its rank, upper right."""
    return {
        "file_x": in_file.x,
        "file_y": in_file.y,
        "x": region.x,
        "y": region.y,
        "radius": region.radius,
        "drawn_radius": max(region.radius, 0.5),
        "weight": region.weight,
        "text_x": min(region.x + 0.75 * region.radius, width - letter),
        "text_y": max(region.y - 0.75 * region.radius, letter),
    }
