"""Choice of the sight sensitivity: each value is tried on validation films, and a rule chooses the best."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmm.errors import InputError, look_up
from kmm.explain.fidelity.boxes import Box
from kmm.explain.fidelity.localisation import cover_circles, overlap, pointing_hit, rasterize_boxes
from kmm.explain.regions.find import Region, find_regions
from kmm.explain.settings import RegionSettings
from kmm.storage.files import replace_file

SENSITIVITY_GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))
CHOICES = {"iou": "mean IoU of circles and boxes", "gain": "share of the score lost less share of the film covered"}


@dataclass(frozen=True)
class SweepRow:
    """Results of one sensitivity, averaged over films; NaN if no film has the boxes or scores that a result needs.

    Attributes:
        sensitivity: float in [0, 1].
        films: int. Number of films.
        circles: float >= 0. Circles per film.
        covered: float in [0, 1]. Share of the film that they cover.
        iou: float in [0, 1]. Intersection over union of circles and boxes, over films with boxes.
        hit: float in [0, 1]. Share of films with boxes where the centre of the strongest circle lies in one.
        lost: float. Share of the score that is lost when the circled pixels are replaced by the baseline. Each film's
            share is clipped to [-1, 1], so that one whose score is near its baseline's does not dominate.
        gain: float. `lost - covered`; about 0 for random circles.
        speaking: int. Number of films in `lost` and `gain`: those that raise the score enough to lose some of it.
    """

    sensitivity: float
    films: int
    circles: float
    covered: float
    iou: float
    hit: float
    lost: float
    gain: float
    speaking: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Returns the row as written to JSON: None where a number is unknown."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


_RESULTS = ("circles", "covered", "iou", "hit", "lost", "gain")  # fields of `SweepRow` that are means over films


def sweep_sensitivity(
    heats: Iterable[np.ndarray],
    film_sizes: Iterable[Sequence[int]],
    *,
    settings: RegionSettings,
    sensitivities: Sequence[float] = SENSITIVITY_GRID,
    boxes: Iterable[Sequence[Box]] | None = None,
    lost: Callable[[int, np.ndarray], np.ndarray] | None = None,
    find: Callable[..., list[Region]] = find_regions,
) -> list[SweepRow]:
    """Tries every sensitivity on the maps of some films, one film at a time.

    Args:
        heats: iterable of float arrays `(h', w')`: the map on each film's area.
        film_sizes: iterable of (height, width) in pixels, one per film.
        settings: `RegionSettings`; its sensitivity is replaced.
        sensitivities: sequence of float in [0, 1].
        boxes: iterable of lists of `Box`, one list per film, empty for a film without boxes; None: no film has any.
        lost: callable, (index of the film, bool masks `(len(sensitivities), h', w')`) -> array
            `(len(sensitivities),)`: the share of the score that is lost without the masked pixels of the map
            (`kmm.explain.fidelity.deletion.score_lost`); None: not measured.
        find: callable (heat, settings, film_size=) -> list of `Region`, heaviest first.

    Returns:
        list of `SweepRow`, in the order of `sensitivities`.

    Raises:
        InputError: if there is no film.
        ValueError: if the numbers of sizes or of lists of boxes differ from the number of maps.

    Example:
        >>> from kmm.explain.fidelity.boxes import Box
        >>> from kmm.explain.regions.find import Region
        >>> from kmm.explain.settings import RegionSettings
        >>> shrinking = lambda heat, settings, film_size: [Region(2, 2, 2 * (1 - settings.sensitivity), 1.0)]
        >>> rows = sweep_sensitivity([np.ones((5, 5))], [(5, 5)], settings=RegionSettings(), sensitivities=[0.1, 0.9],
        ...                          boxes=[[Box("Mass", 2, 2, 1, 1)]], find=shrinking)
        >>> [(row.covered, row.iou, row.hit) for row in rows]
        [(0.36, 0.1111111111111111, 1.0), (0.04, 1.0, 1.0)]
    """
    heats, film_sizes = list(heats), list(film_sizes)
    films = [
        _try_film(
            [find(heat, replace(settings, sensitivity=value), film_size=film_size) for value in sensitivities],
            np.shape(heat),
            film_size,
            film_boxes,
            partial(lost, index) if lost else None,
        )
        for index, (heat, film_size, film_boxes) in enumerate(
            zip(heats, film_sizes, [()] * len(heats) if boxes is None else boxes, strict=True)
        )
    ]
    if not films:
        raise InputError("A sweep of the sensitivity needs at least one film. Received: none.")
    rows = []
    for value, numbers in zip(sensitivities, np.stack(films, axis=1)):
        speaking = int(np.count_nonzero(~np.isnan(numbers[:, _RESULTS.index("lost")])))
        means = dict(zip(_RESULTS, map(_mean_of_known, numbers.T), strict=True))
        rows.append(SweepRow(sensitivity=float(value), films=len(films), speaking=speaking, **means))
    return rows


def _try_film(found, shape, film_size, boxes, lost):
    """Returns one film's results, `(sensitivities, 6)`: the fields of `_RESULTS`."""
    numbers = np.full((len(found), 6), np.nan)
    truth = rasterize_boxes(boxes, film_size)
    for row, regions in zip(numbers, found):
        circles = cover_circles(regions, film_size)
        row[:2] = len(regions), circles.mean()
        if boxes:
            row[2] = overlap(circles, truth)
            row[3] = pointing_hit((regions[0].x, regions[0].y) if regions else None, boxes)
    if lost:
        masks = np.stack([cover_circles(regions, film_size, shape=shape) for regions in found])
        numbers[:, 4] = np.clip(lost(masks), -1, 1)
        numbers[:, 5] = numbers[:, 4] - masks.mean(axis=(1, 2))
    return numbers


def _mean_of_known(values):
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def choose_sensitivity(rows: Sequence[SweepRow], rule: str) -> float:
    """Chooses the sensitivity with the best mean by a named rule; of equals the highest, which draws fewest circles.

    Args:
        rows: sequence of `SweepRow`.
        rule: `"iou"`: the highest IoU, which needs boxes; `"gain"`: the highest gain, which needs only scores.

    Returns:
        float in [0, 1].

    Raises:
        InputError: if the rule is unknown, or every row lacks its number.

    Example:
        >>> rows = [SweepRow(s, 9, 1, 0.1, iou, 1, 0.5, 0.4) for s, iou in [(0.3, 0.2), (0.5, 0.6), (0.7, 0.6)]]
        >>> choose_sensitivity(rows, "iou")
        0.7
    """
    needed = look_up(CHOICES, rule, "rule to choose the sensitivity")
    known = [row for row in rows if not np.isnan(getattr(row, rule))]
    if not known:
        raise InputError(f'The rule "{rule}" needs the {needed}, which the sweep did not measure.')
    return max(known, key=lambda row: (getattr(row, rule), row.sensitivity)).sensitivity


# Colours of Okabe and Ito (https://jfly.uni-koeln.de/color/), each with a line style of its own for grey printing.
_CURVES = {
    "iou": ("IoU with the boxes", "#0072B2", "-"),
    "hit": ("strongest circle hits", "#D55E00", "--"),
    "lost": ("share of the score lost", "#009E73", "-."),
    "covered": ("share of the film covered", "#CC79A7", ":"),
    "gain": ("lost - covered", "#E69F00", (0, (5, 1, 1, 1, 1, 1))),
}


def plot_sensitivity(rows: Sequence[SweepRow], path: Path | str, *, chosen: float | None = None) -> Path:
    """Plots the results over the sensitivity: shares above, circles per film below. Equal rows give equal bytes.

    Args:
        rows: sequence of `SweepRow`; a curve that is NaN in every row is left out.
        path: str or Path of the PNG to write; replaced whole or not at all.
        chosen: float or None. A sensitivity to mark.

    Returns:
        Path of the picture.

    Raises:
        InputError: if there is no row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not rows:
        raise InputError("A picture of the sensitivity needs at least one row. Received: none.")
    figure = Figure(figsize=(5.6, 5.0), dpi=120, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    figure.suptitle(f"Sight sensitivity ({rows[0].films} films)")
    x = [row.sensitivity for row in rows]
    for name, (label, colour, style) in _CURVES.items():
        y = np.array([getattr(row, name) for row in rows])
        if not np.isnan(y).all():
            upper.plot(x, y, label=label, color=colour, linestyle=style, linewidth=1.6)
    lower.plot(x, [row.circles for row in rows], color="#56B4E9", linewidth=1.6)
    upper.set_ylabel("Mean over films")
    lower.set(xlabel="Sensitivity", ylabel="Circles per film", xlim=(-0.02, 1.02), ylim=(0, None))
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#DDDDDD", linewidth=0.5)
        axes.set_axisbelow(True)
        if chosen is not None:
            axes.axvline(chosen, color="#666666", linewidth=0.8, linestyle=":", label=f"chosen: {chosen:g}")
    upper.legend(fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")
    with replace_file(path) as place, open(place, "wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return Path(path)
