"""Plot results as PNG, SVG or PDF files, by the suffix of the path: the same numbers give the same bytes.

The colour of a curve depends on its position in the dict. With many labels there is a panel for each of some.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts, known_columns
from kmm.evaluate.decisions.calibration_error import calibration_bins, expected_calibration_error
from kmm.evaluate.output.figure_files import COLOURS, DOTS_PER_INCH, GREY, LEGEND, list_looks, save_figure, tidy_axes
from kmm.evaluate.output.label_panels import (
    Curves,
    Intervals,
    choose_panels,
    make_panels,
    plot_panels,
    show_between,
)


def plot_roc(
    curves: Curves,
    path: Path | str,
    *,
    label_names: Sequence[str] | None = None,
    caption: str = "",
    intervals: Intervals | None = None,
) -> Path:
    """Plots receiver operating characteristics: sensitivity against 1 - specificity, with each area in the legend.

    Args:
        curves: dict of name to `(labels, probabilities)`, both `(n,)` or `(n, n_labels)`, NaN label = unknown.
        path: str or Path of the PNG, SVG or PDF file to write; replaced whole or not at all.
        label_names: sequence of `n_labels` str; required for more than one label.
        caption: str, written below: the studies that were measured, and the meaning of the intervals.
        intervals: dict of curve to a dict of label to the interval `(low, high)` of the number in the legend, or None.

    Returns:
        Path of the plot.

    Raises:
        InputError: if there is no curve, or shapes, values or names do not match.
    """

    def draw(axes, pairs, label):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for (name, (labels, scores)), look in zip(pairs.items(), list_looks()):
            x, y, _ = roc_curve(labels, scores)
            axes.plot(
                x, y, label=f"{name} {roc_auc_score(labels, scores):.3f}{show_between(intervals, name, label)}", **look
            )
        axes.legend(title="ROC AUC", loc="lower right", **LEGEND)

    return plot_panels(curves, path, label_names, draw, "ROC", ("1 - specificity", "Sensitivity"), caption)


def plot_precision_recall(
    curves: Curves,
    path: Path | str,
    *,
    label_names: Sequence[str] | None = None,
    caption: str = "",
    intervals: Intervals | None = None,
) -> Path:
    """Plots precision against recall in steps, with average precisions in the legend and the prevalence dotted.

    Args:
        curves, path, label_names, caption, intervals: as in `plot_roc`.

    Returns:
        Path of the plot.

    Raises:
        InputError: if there is no curve, or shapes, values or names do not match.
    """

    def draw(axes, pairs, label):
        prevalence = next(iter(pairs.values()))[0].mean()
        for (name, (labels, scores)), look in zip(pairs.items(), list_looks()):
            precision, recall, _ = precision_recall_curve(labels, scores)
            ap = average_precision_score(labels, scores)
            axes.plot(
                recall,
                precision,
                drawstyle="steps-post",
                label=f"{name} {ap:.3f}{show_between(intervals, name, label)}",
                **look,
            )
        axes.axhline(prevalence, color=GREY, linewidth=0.8, linestyle=":", label=f"prevalence {prevalence:.3f}")
        axes.legend(title="Average precision", loc="lower left", **LEGEND)

    return plot_panels(
        curves, path, label_names, draw, "Precision-recall", ("Recall (sensitivity)", "Precision"), caption
    )


def plot_calibration(
    curves: Curves, path: Path | str, *, label_names: Sequence[str] | None = None, caption: str = ""
) -> Path:
    """Plots reliability diagrams: fraction of positives against mean probability in bins of equal mass.

    Points on the diagonal are well-calibrated probabilities; bars are 95 % Wilson intervals of the fraction. Below each
    diagram is a histogram of the probabilities.

    Source: https://doi.org/10.1080/01621459.1927.10502953 (Wilson interval).

    Args:
        curves, path, label_names, caption: as in `plot_roc`.

    Returns:
        Path of the plot.

    Raises:
        InputError: if there is no curve, or shapes, values or names do not match.
    """

    def draw(axes, pairs, label, below):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for (name, (labels, scores)), look in zip(pairs.items(), list_looks()):
            mean, share, number = calibration_bins(labels, scores, bins=10)
            bars = np.maximum(_wilson_error(share, number), 0)
            error = expected_calibration_error(labels, scores)
            axes.errorbar(
                mean, share, bars, marker="o", markersize=3, elinewidth=0.6, label=f"{name} {error:.3f}", **look
            )
            counts, edges = np.histogram(scores, bins=20, range=(0, 1))
            below.stairs(counts, edges, **look)
        axes.legend(title="Calibration error", loc="upper left", **LEGEND)

    labels = ("Probability", "Share of positives", "Studies")
    return plot_panels(curves, path, label_names, draw, "Calibration", labels, caption)


def plot_confusion(
    curves: Curves,
    path: Path | str,
    *,
    thresholds: Mapping[str, ArrayLike],
    label_names: Sequence[str] | None = None,
    caption: str = "",
) -> Path:
    """Plots confusion matrices: one panel per classifier, or, with many labels, per label of the first classifier.

    Below each panel are sensitivity and specificity with their 95 % Wilson intervals.

    Args:
        curves, path, label_names, caption: as in `plot_roc`.
        thresholds: dict of name to float, array `(n_labels,)` or array `(n, n_labels)`; a decision is
            `probability >= threshold`.

    Returns:
        Path of the plot.

    Raises:
        InputError: if there is no curve, or shapes, values, names or thresholds do not match.
    """
    panels, title = choose_panels(curves, label_names)
    if missing := set(curves) - set(thresholds):
        raise InputError(f'No threshold was given for "{min(missing)}".')
    cuts = {name: _cuts_of(*curves[name], thresholds[name]) for name in curves}
    columns = list(panels)
    if len(panels) == 1:
        jobs = [(name, pair, cuts[name][0]) for name, pair in panels[columns[0]].items()]
    else:
        first = next(iter(curves))
        places = {name: place for place, name in enumerate(label_names or ())}
        jobs = [(name, panels[name][first], cuts[first][places[name]]) for name in columns]
        title = f"{first}, {title}"
    figure, grid = make_panels(len(jobs), 2.9)
    figure.suptitle(f"Confusion at the stored threshold: {title}" if title else "Confusion at the stored threshold")
    for (axes,), (name, (labels, scores), cut) in zip(grid, jobs):
        _draw_confusion(
            axes, confusion_matrix(labels, scores >= cut, labels=[0, 1]) if len(labels) else np.zeros((2, 2), int)
        )
        axes.set_title(f"{name} (from {_show_cuts(cut)})", fontsize=10)
    return save_figure(figure, path, caption)


def _cuts_of(labels, scores, thresholds):
    """Returns the thresholds of the studies whose label is known: a list of arrays, one per label."""
    labels, _ = as_columns(labels, scores)
    return [cut for _, cut in known_columns(labels, as_cuts(thresholds, labels.shape, "thresholds"))]


def _show_cuts(cuts):
    """Formats the threshold, or all thresholds if they differ between studies."""
    return " or ".join(sorted({f"{cut:.3f}" for cut in cuts})) or "no study"


def plot_learning_curves(history: Mapping[str, Mapping[str, Sequence[float]]], path: Path | str) -> Path:
    """Plots the loss of every training stage by epoch, with other recorded metrics below.

    Args:
        history: dict of stage name to a dict of lists by epoch: `loss`, `val_loss` and any other metrics; `val_<name>`
            is dashed. The learning rate is left out.
        path: str or Path of the PNG, SVG or PDF file to write; replaced whole or not at all.

    Returns:
        Path of the plot.

    Raises:
        InputError: if there is no stage, or a stage has no epoch.
    """
    if not history or not all(stage.get("loss") for stage in history.values()):
        raise InputError("Learning curves need at least one stage, each with a loss for at least one epoch.")
    others = sorted(
        {key.removeprefix("val_") for stage in history.values() for key in stage} - {"loss", "learning_rate", "lr"}
    )
    n_rows = 2 if others else 1
    figure = Figure(figsize=(3.4 * len(history) + 0.4, 2.7 * n_rows + 0.4), dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(n_rows, len(history), squeeze=False, sharey="row")
    figure.suptitle("Learning curves")
    for column, (name, stage) in enumerate(history.items()):
        grid[0, column].set_title(name, fontsize=10)
        for row, keys in enumerate((["loss"], others)[:n_rows]):
            _draw_epochs(grid[row, column], stage, keys)
            grid[row, column].set_ylabel(("Loss", "Metric")[row] if column == 0 else "")
        grid[-1, column].set_xlabel("Epoch")
    return save_figure(figure, path)


def _draw_confusion(axes, counts):
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{counts[row, column]}\n{share:.1%} of row"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if share > 0.55 else "black")
    axes.set_xticks([0, 1], ["negative", "positive"], fontsize=8)
    axes.set_yticks([0, 1], ["negative", "positive"], fontsize=8, rotation=90, va="center")
    rates = [
        f"{name} {_show_rate(row[right], row.sum())}"
        for name, row, right in (("sensitivity", counts[1], 1), ("specificity", counts[0], 0))
    ]
    axes.set(xlabel="Decision\n" + "\n".join(rates), ylabel="Label")


def _show_rate(right, number):
    """Formats a rate with its 95 % Wilson interval."""
    if not number:
        return "–"
    share = right / number
    below, above = np.maximum(_wilson_error(share, number), 0)
    return f"{share:.3f} [{share - below:.3f}, {share + above:.3f}]"


def _draw_epochs(axes, stage, keys):
    for key, colour in zip(keys, COLOURS):
        for name, style, fill in ((key, "-", colour), (f"val_{key}", "--", "white")):
            values = np.array(stage.get(name, ()), dtype=float)
            look = {"color": colour, "linestyle": style, "marker": "o", "markersize": 4, "markerfacecolor": fill}
            if len(values):
                axes.plot(np.arange(1, len(values) + 1), values, label=name, linewidth=1.4, **look)
            if name == "val_loss" and np.isfinite(values).any():
                best = int(np.nanargmin(values))
                axes.axvline(best + 1, color=GREY, linewidth=0.8, linestyle=":", label=f"lowest: epoch {best + 1}")
    axes.set_xlim(0.5, len(stage["loss"]) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    tidy_axes(axes)
    if axes.lines:
        axes.legend(**LEGEND)


def _wilson_error(share, number, z=1.959964):
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * np.sqrt(share * (1 - share) / number + z * z / (4 * number**2))
    return np.array([share - (centre - half), centre + half - share])
