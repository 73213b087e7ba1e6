"""The pictures of an explained study: circles, panels side by side, sensitivities, and the index's thumbnail.

A picture may be looked at alone, away from its page. Each says below the film which label it is about, the label's
probability and decision, that it is not for diagnosis, and every warning. Circles carry ranks, and are dashed where the
label is below its threshold.
"""

from dataclasses import replace

import numpy as np

from kmm.errors import InputError
from kmm.explain.decision import state_decision
from kmm.explain.output import draw
from kmm.explain.regions.find import smooth_map

WHITE, SOFT, AMBER = (255, 255, 255), (190, 190, 190), (255, 176, 84)
NOTE = (
    "Not for diagnosis. Circles show attribution, not the outline of a finding. Their numbers are ranks; they are "
    "dashed where the label is below its threshold."
)
THUMBNAIL = 144  # pixels of the longest side


def draw_picture(explanation, kind):
    """Draws a picture of a study, with its caption.

    Args:
        explanation: `Explanation` of a film.
        kind: name in `PICTURES`.

    Returns:
        uint8 array `(h, w, 3)`, RGB. Of kind `"circles"` the film is at the top left at its own size, so that places
        in pixels of the film are places in the picture.
    """
    target = explanation.target
    lines = caption_picture(
        target,
        explanation.probabilities[target],
        explanation.thresholds.get(target),
        warnings=explanation.warnings,
    )
    return draw.add_caption(PICTURES[kind](explanation), lines)


def caption_picture(target, probability, threshold, *, warnings=()):
    """Writes what a picture says of itself.

    Args:
        target: str. Label that was explained.
        probability: float, calibrated.
        threshold: float or None.
        warnings: sequence of str.

    Returns:
        list of `(text, colour)` for `kmm.explain.output.draw.add_caption`.

    Example:
        >>> caption_picture("mass", 0.25, 0.5)[0]
        ('mass: probability 0.250, threshold 0.500, decision: no', (255, 255, 255))
    """
    return [
        (state_decision(target, probability, threshold), WHITE),
        (NOTE, SOFT),
        *((f"Warning: {warning}.", AMBER) for warning in warnings),
    ]


def draw_thumbnail(explanation):
    """The film with its circles, 144 pixels long at most, as uint8 RGB; without ranks and caption."""
    film = shrink_film(explanation.film, THUMBNAIL)
    factor = max(film.shape) / max(explanation.film.shape)
    regions = [
        replace(
            region,
            x=(region.x + 0.5) * factor - 0.5,
            y=(region.y + 0.5) * factor - 0.5,
            radius=region.radius * factor,
        )
        for region in explanation.regions
    ]
    return draw.draw_circles(film, regions, labels=False, dashed=_is_below(explanation))


def shrink_film(film, longest):
    """A film `(h, w)` averaged down so that its longest side is at most `longest` pixels; smaller ones stay.

    Raises:
        InputError: if it is not a uint8 array `(height, width)`.

    Example:
        >>> shrink_film(np.zeros((50, 200), np.uint8), 100).shape
        (25, 100)
    """
    import cv2

    if film.dtype != np.uint8 or film.ndim != 2 or film.size == 0:
        raise InputError(f"The film must be a uint8 array (height, width). Received: {film.dtype} {film.shape}.")
    scale = longest / max(film.shape)
    if scale >= 1:
        return film
    height, width = (max(1, round(side * scale)) for side in film.shape)
    return cv2.resize(film, (width, height), interpolation=cv2.INTER_AREA)


def smooth_heat(explanation):
    """The smoothed map that the circles come from, float64 `(h', w')`; None where the study has no map."""
    if explanation.heat is None:
        return None
    return smooth_map(explanation.heat, explanation.settings.regions.smoothing).sum(axis=2)


def _is_below(explanation):
    return explanation.decision is False


def _draw_circles(explanation):
    return draw.draw_circles(explanation.film, explanation.regions, dashed=_is_below(explanation))


def _draw_beside(explanation):
    film, heat = explanation.film, draw.draw_heat(explanation.film, smooth_heat(explanation))
    return draw.side_by_side([film, _draw_circles(explanation), heat], captions=["film", "regions", "heat"])


def _draw_sensitivities(explanation):
    settings = explanation.settings.regions
    return draw.draw_sensitivities(explanation.film, explanation.heat, settings, dashed=_is_below(explanation))


# Kind of picture to its function of an `Explanation` with a film: uint8 RGB `(h, w, 3)`, without caption.
PICTURES = {"circles": _draw_circles, "side-by-side": _draw_beside, "sensitivities": _draw_sensitivities}
