"""Draw curves: validation metrics over epochs, risk against coverage, and net benefit against threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kmm.evaluate.plots import COLOURS, DOTS_PER_INCH, GREY, LEGEND, STYLES, tidy_axes
from kmm.experiments.interval_figures import clean_text
from kmm.experiments.schema import Columns, list_values, select
from kmm.experiments.titles import SIDES, title_briefly, title_variant

EPOCH_METRICS = {  # title of a panel, and the names under which a history may record it
    "Accuracy": ("val_accuracy", "accuracy"),
    "ROC AUC": ("val_roc_auc", "val_auc", "roc_auc", "auc"),
    "Loss": ("val_loss",),
}
_LOOKS = dict(zip(SIDES, zip(COLOURS, STYLES)))


def find_epoch_metrics(history: Columns) -> dict[str, str]:
    """Finds what to draw over epochs: accuracy and area under the ROC curve, or the loss if neither was recorded.

    Args:
        history: columns of the history.

    Returns:
        dict of the title of a panel to the metric; empty if nothing was recorded.

    Example:
        >>> find_epoch_metrics({"metric": np.array(["loss", "val_loss", "val_accuracy"])})
        {'Accuracy': 'val_accuracy'}
    """
    recorded = list_values(history["metric"])
    found = {
        title: next(name for name in names if name in recorded)
        for title, names in EPOCH_METRICS.items()
        if set(names) & set(recorded)
    }
    return found if set(found) == {"Loss"} else {title: name for title, name in found.items() if title != "Loss"}


def trace_epochs(history: Columns, variant: str, model: str, metric: str) -> np.ndarray:
    """Arranges a metric by split and epoch; the epochs of successive stages follow each other.

    Args:
        history: columns of the history.
        variant, model, metric: str.

    Returns:
        float64 array `(n_splits, n_epochs)`; NaN where a split has no value.

    Example:
        >>> rows = [("1", "head", 1, 0.5), ("1", "head", 2, 0.6), ("1", "tune", 1, 0.7), ("2", "head", 1, 0.4)]
        >>> split, stage, epoch, value = map(np.array, zip(*rows))
        >>> same = {"variant": np.array([""] * 4), "model": np.array(["joint"] * 4), "metric": np.array(["auc"] * 4)}
        >>> history = {"split": split, "stage": stage, "epoch": epoch, "value": value, **same}
        >>> trace_epochs(history, "", "joint", "auc").tolist()
        [[0.5, 0.6, 0.7], [0.4, nan, nan]]
    """
    found = select(history, variant=variant, model=model, metric=metric)
    splits = list_values(found["split"])
    epochs, offset = np.zeros(len(found["split"]), int), 0
    for stage in list_values(found["stage"]):
        rows = found["stage"] == stage
        numbers = found["epoch"][rows].astype(int)
        epochs[rows] = offset + numbers - numbers.min()
        offset = int(epochs[rows].max()) + 1
    table = np.full((len(splits), offset), np.nan)
    places = {split: place for place, split in enumerate(splits)}
    table[[places[str(split)] for split in found["split"]], epochs] = found["value"].astype(float)
    return table


def draw_epochs(history: Columns) -> Figure:
    """Draws figure 5 of Aydin et al.: validation accuracy and area under the ROC curve over epochs.

    Source: https://arxiv.org/abs/1902.08888

    Args:
        history: columns of the history, with at least one metric of `EPOCH_METRICS`.

    Returns:
        Matplotlib's `Figure`: a row of panels for each variant; lines are means over splits, bands 1 standard
        deviation to each side.
    """
    metrics, variants = find_epoch_metrics(history), list_values(history["variant"])
    size = (3.5 * len(metrics) + 0.2, 2.6 * len(variants) + 0.5)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(len(variants), len(metrics), squeeze=False, sharey="col")
    for variant, line in zip(variants, grid):
        line[0].set_title(clean_text(title_variant(variant), most=90), fontsize=9, loc="left")
        for (title, metric), axes in zip(metrics.items(), line):
            tidy_axes(axes)
            for model in SIDES:
                _draw_spread(axes, trace_epochs(history, variant, model, metric), model)
            axes.set_xlabel("Epoch", fontsize=8)
            axes.set_ylabel(f"Validation {title if title.isupper() or ' ' in title else title.lower()}", fontsize=8)
            axes.tick_params(labelsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    _place_legend(figure, grid)
    return figure


def _draw_spread(axes, table, model):
    """Draws the mean over splits and a band of one standard deviation."""
    if not np.isfinite(table).any():
        return
    kept = np.isfinite(table).any(axis=0)
    epochs, values = np.flatnonzero(kept) + 1, table[:, kept]
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    colour, style = _LOOKS[model]
    axes.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    marker = "o" if len(epochs) <= 20 else None
    axes.plot(
        epochs,
        mean,
        color=colour,
        linestyle=style,
        linewidth=1.6,
        marker=marker,
        markersize=3,
        label=title_briefly(model),
    )


def draw_risk(selective: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draws the fraction of wrong decisions among the studies decided, the most certain first.

    Args:
        selective: dict of model to the dict of `kmm.evaluate.selective.measure_selection`.

    Returns:
        Matplotlib's `Figure`.
    """
    figure, axes = _make_curves("Coverage (fraction of studies decided)", "Risk (fraction of wrong decisions)")
    for model, found in selective.items():
        points = [(at["coverage"], at["risk"]) for at in found["risk"] if at["risk"] is not None]
        if points:
            axes.plot(*zip(*sorted(points)), marker="o", markersize=3, **_look(model))
    axes.set_ylim(bottom=0)
    _place_legend(figure, [[axes]])
    return figure


def draw_benefit(decision_curve: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draws decision curves: net benefit of acting on each model, beside acting on every study and on none.

    Source: https://doi.org/10.1177/0272989X06295361

    Args:
        decision_curve: dict of model to the dict of `kmm.evaluate.decision_curve.DecisionCurve`.

    Returns:
        Matplotlib's `Figure`.
    """
    figure, axes = _make_curves("Threshold probability", "Net benefit")
    first = next(iter(decision_curve.values()))
    axes.plot(first["thresholds"], _as_floats(first["treat_all"]), color=GREY, linewidth=1, label="Act on every study")
    axes.axhline(0, color="black", linewidth=0.8, label="Act on none")
    tops = [0.0]
    for model, found in decision_curve.items():
        benefit = _as_floats(found["net_benefit"])
        axes.plot(found["thresholds"], benefit, **_look(model))
        tops.append(float(np.nanmax(benefit)))
    axes.set_ylim(-0.15 * max(tops) - 0.01, 1.1 * max(tops) + 0.01)
    _place_legend(figure, [[axes]])
    return figure


def _as_floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])


def _look(model):
    colour, style = _LOOKS.get(model, (COLOURS[len(SIDES)], STYLES[len(SIDES)]))
    return {"color": colour, "linestyle": style, "linewidth": 1.6, "label": clean_text(title_briefly(model))}


def _make_curves(x, y):
    figure = Figure(figsize=(5.2, 3.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    tidy_axes(axes)
    axes.tick_params(labelsize=8)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    return figure, axes


def _place_legend(figure, grid):
    """Places one legend above all panels, where it hides no curve."""
    found = {}
    for axes in (axes for line in grid for axes in line):
        found |= dict(zip(*reversed(axes.get_legend_handles_labels())))
    if found:
        figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=min(len(found), 4), **LEGEND)
