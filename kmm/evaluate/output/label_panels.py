"""Figures with a panel for each label: for each of the six labels whose rarer class has the most studies."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, known_columns
from kmm.evaluate.output.figure_files import COLOURS, DOTS_PER_INCH, GREY, save_figure, tidy_axes

MAX_PANELS = 6
Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]
Intervals = Mapping[str, Mapping[str, Sequence[float] | None]]  # of a curve and a label: the ends of an interval


def choose_panels(
    curves: Curves, label_names: Sequence[str] | None
) -> tuple[dict[str, dict[str, tuple[np.ndarray, np.ndarray]]], str]:
    """Chooses the labels that get a panel.

    Args:
        curves, label_names: as in `kmm.evaluate.output.plots.plot_roc`.

    Returns:
        dict of at most six labels to dict of curve to `(labels, scores)`, without unknown labels; and a title.

    Raises:
        InputError: if there are no curves or too many, or their labels do not match the names.
    """
    if not curves:
        raise InputError("A plot needs at least one curve. Received: none.")
    if len(curves) > len(COLOURS):
        raise InputError(f"A plot can have at most {len(COLOURS)} curves. Received: {len(curves)}.")
    tables = {name: list(known_columns(*as_columns(*pair))) for name, pair in curves.items()}
    (n_labels, *other) = {len(table) for table in tables.values()}
    names = list(label_names) if label_names is not None else [""] * n_labels
    if other or len(names) != n_labels or len(set(names)) != n_labels:
        raise InputError(
            f"Every curve must have the same labels, each with its own name. Received: {len(names)} names."
        )
    first = next(iter(tables.values()))
    kept = sorted(sorted(range(n_labels), key=lambda i: (-_rarer(first[i][0]), i))[:MAX_PANELS])
    title = names[0] if n_labels == 1 else f"{len(kept)} of {n_labels} labels" * (len(kept) < n_labels)
    return {names[i]: {name: table[i] for name, table in tables.items()} for i in kept}, title


def _rarer(labels):
    return min(labels.sum(), len(labels) - labels.sum())


def show_between(intervals: Intervals | None, name: str, label: str) -> str:
    """Formats the interval of a curve's number for a label; empty if there is none."""
    found = ((intervals or {}).get(name) or {}).get(label)
    return "" if found is None else f" [{found[0]:.3f}, {found[1]:.3f}]"


def plot_panels(
    curves: Curves,
    path: Path | str,
    label_names: Sequence[str] | None,
    draw: Callable[..., object],
    title: str,
    axis_labels: Sequence[str],
    caption: str,
) -> Path:
    """Draws a panel for each label.

    Args:
        curves, path, label_names, caption: as in `kmm.evaluate.output.plots.plot_roc`.
        draw: function of the axes, a dict of curve to `(labels, scores)` without unknown labels, and the label; and of
            lower axes, if there is a third axis label. It is not called for a label of one class only.
        title: str.
        axis_labels: sequence of str: of x, of y, and perhaps of the lower y.

    Returns:
        Path of the plot.
    """
    panels, subtitle = choose_panels(curves, label_names)
    figure, grid = make_panels(len(panels), 3.4 if len(panels) > 1 else 4.4, below=len(axis_labels) > 2)
    figure.suptitle(f"{title}: {subtitle}" if subtitle else title)
    for (axes, *below), (name, pairs) in zip(grid, panels.items()):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel=axis_labels[1])
        axes.set_title(name if len(panels) > 1 else "", fontsize=10)
        for lower in below:
            lower.set(xlim=(-0.02, 1.02), ylabel=axis_labels[2])
            axes.tick_params(labelbottom=False)
        (axes, *below)[-1].set_xlabel(axis_labels[0])
        for each in (axes, *below):
            tidy_axes(each)
        if all(len(np.unique(labels)) == 2 for labels, _ in pairs.values()):
            draw(axes, pairs, name, *below)
        else:
            axes.text(0.5, 0.5, "one class only", ha="center", va="center", color=GREY)
    return save_figure(figure, path, caption)


def make_panels(n_panels: int, inches: float, *, below: bool = False) -> tuple[Figure, list[list[Axes]]]:
    """Makes a figure; returns it with a list of axes for each panel, one or two (if `below`), from the top."""
    columns = min(n_panels, 3) if n_panels != 4 else 2
    rows = -(-n_panels // columns)
    height = inches * (1.35 if below else 1.0)
    figure = Figure(figsize=(inches * columns + 0.3, height * rows + 0.3), dpi=DOTS_PER_INCH, layout="constrained")
    parts = figure.subfigures(rows, columns, squeeze=False).ravel()[:n_panels]
    ratios = {"height_ratios": [3, 1]} if below else {}
    return figure, [part.subplots(1 + below, 1, squeeze=False, **ratios).ravel().tolist() for part in parts]
