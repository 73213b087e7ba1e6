"""Pictures of an explained study: circles, panels side by side, several sensitivities, and the index's thumbnail.

A picture may be viewed alone, without its page. So each states below the film the label, its probability and decision,
that it is not for diagnosis, and every warning. Circles carry ranks, and are dashed if the label is below its
threshold.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from kmm.errors import InputError
from kmm.explain.decision import state_decision
from kmm.explain.explained_study import ExplainedFilm, ExplainedStudy
from kmm.explain.output import draw
from kmm.explain.regions.find import smooth_map

WHITE, SOFT, AMBER = (255, 255, 255), (190, 190, 190), (255, 176, 84)
NOTE = (
    "Not for diagnosis. Circles show attribution, not the outline of a finding. Their numbers are ranks; they are "
    "dashed if the label is below its threshold."
)
THUMBNAIL = 144  # pixels of the longest side


def draw_picture(explanation: ExplainedStudy, kind: str) -> np.ndarray:
    """Draws a picture of a study, with its caption.

    Args:
        explanation: `Explanation` of a film.
        kind: name in `PICTURES`.

    Returns:
        uint8 array `(h, w, 3)`, RGB. With kind `"circles"`, the film is at the top left at its own size, so that
        coordinates in pixels of the film are also coordinates in the picture.

    Raises:
        InputError: if the study has no film.
    """
    target = explanation.target
    lines = caption_picture(
        target,
        explanation.probabilities[target],
        explanation.thresholds.get(target),
        warnings=explanation.warnings,
    )
    return draw.add_caption(PICTURES[kind](explanation), lines)


def caption_picture(
    target: str, probability: float, threshold: float | None, *, warnings: Iterable[str] = ()
) -> list[tuple[str, tuple[int, int, int]]]:
    """Composes the caption of a picture: decision, disclaimer and warnings.

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


def draw_thumbnail(explanation: ExplainedStudy) -> np.ndarray:
    """Draws the film with its circles, at most 144 pixels on its longest side, uint8 RGB, without ranks or caption."""
    whole = require_film(explanation)
    film = shrink_film(whole, THUMBNAIL)
    factor = max(film.shape) / max(whole.shape)
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


def shrink_film(film: np.ndarray, longest: int) -> np.ndarray:
    """Shrinks a film `(h, w)` by averaging until its longest side is at most `longest` pixels; never enlarges.

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


def smooth_heat(explanation: ExplainedFilm) -> np.ndarray | None:
    """Returns the smoothed map from which the circles are found, float64 `(h', w')`; None without a map."""
    if explanation.heat is None:
        return None
    return smooth_map(explanation.heat, explanation.settings.regions.smoothing).sum(axis=2)


def _is_below(explanation):
    return explanation.decision is False


def require_film(explanation: ExplainedFilm) -> np.ndarray:
    """Returns the film of an explanation; raises `InputError` if it has none."""
    if explanation.film is None:
        raise InputError(f"Study {explanation.study} has no film. Pictures can be drawn only on a film.")
    return explanation.film


def _draw_circles(explanation):
    return draw.draw_circles(require_film(explanation), explanation.regions, dashed=_is_below(explanation))


def _draw_beside(explanation):
    film = require_film(explanation)
    heat = smooth_heat(explanation)
    heat = np.zeros(film.shape) if heat is None else heat  # of a method that explains only words
    panels = [film, _draw_circles(explanation), draw.draw_heat(film, heat)]
    return draw.side_by_side(panels, captions=["film", "regions", "heat"])


def _draw_sensitivities(explanation):
    film, settings = require_film(explanation), explanation.settings.regions
    heat = np.zeros(film.shape) if explanation.heat is None else explanation.heat
    return draw.draw_sensitivities(film, heat, settings, dashed=_is_below(explanation))


# Kind of picture to its function of an `Explanation` with a film, which returns uint8 RGB `(h, w, 3)` without caption.
PICTURES: dict[str, Callable[[ExplainedStudy], np.ndarray]] = {
    "circles": _draw_circles,
    "side-by-side": _draw_beside,
    "sensitivities": _draw_sensitivities,
}
