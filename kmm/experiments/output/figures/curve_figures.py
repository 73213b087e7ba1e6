"""Draw curves: validation metrics over epochs, calibration, risk against coverage, net benefit against threshold."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kmm.evaluate.output.figure_files import COLOURS, DOTS_PER_INCH, GREY, LEGEND, STYLES, tidy_axes
from kmm.experiments.output.figures.prediction_curves import COVERAGES, MODELS, THRESHOLDS, Curves
from kmm.experiments.tables import Columns, list_values, select
from kmm.experiments.titles import SIDES, title_briefly, title_variant
from kmm.pages.drawing import clean_text

EPOCH_METRICS = {  # title of a panel, and the names under which a history may record it
    "Accuracy": ("val_accuracy", "accuracy"),
    "ROC AUC": ("val_roc_auc", "val_auc", "roc_auc", "auc"),
    "Loss": ("val_loss",),
}
_LOOKS = dict(zip(MODELS, zip(COLOURS, STYLES)))


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
    return _place_legend(figure, grid.ravel())


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


def draw_calibration(curves: Curves) -> Figure:
    """Draws reliability diagrams: the fraction of positives against the mean probability; the diagonal is perfect.

    Args:
        curves: dict of variant to dict of model to `PredictionCurves`.

    Returns:
        Matplotlib's `Figure`, a panel per variant.
    """
    figure, panels = _make_panels(curves, "Mean probability", "Fraction of positives")
    for axes, models in zip(panels, curves.values()):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        for model, found in models.items():
            axes.plot(found.probability, found.positives, marker="o", markersize=3, **_look(model))
    return _place_legend(figure, panels)


def draw_risk(curves: Curves) -> Figure:
    """Draws the fraction of wrong decisions among the studies decided, the most certain first.

    Args:
        curves: as in `draw_calibration`.

    Returns:
        Matplotlib's `Figure`, a panel per variant.
    """
    figure, panels = _make_panels(curves, "Coverage (fraction decided)", "Risk (fraction wrong)")
    for axes, models in zip(panels, curves.values()):
        for model, found in models.items():
            axes.plot(COVERAGES, found.risk, **_look(model))
        axes.set_ylim(bottom=0)
    return _place_legend(figure, panels)


def draw_benefit(curves: Curves) -> Figure:
    """Draws decision curves: net benefit of acting on each model, beside acting on every study and on none.

    Source: https://doi.org/10.1177/0272989X06295361

    Args:
        curves: as in `draw_calibration`.

    Returns:
        Matplotlib's `Figure`, a panel per variant.
    """
    figure, panels = _make_panels(curves, "Threshold probability", "Net benefit")
    for axes, models in zip(panels, curves.values()):
        first = next(iter(models.values()))
        axes.plot(THRESHOLDS, first.treat_all, color=GREY, linewidth=1, label="Act on every study")
        axes.axhline(0, color="black", linewidth=0.8, label="Act on none")
        for model, found in models.items():
            axes.plot(THRESHOLDS, found.benefit, **_look(model))
        top = max(0.0, *(float(found.benefit.max()) for found in models.values()))
        axes.set_ylim(-0.2 * top - 0.01, 1.1 * top + 0.01)
    return _place_legend(figure, panels)


def _look(model):
    colour, style = _LOOKS[model]
    return {"color": colour, "linestyle": style, "linewidth": 1.6, "label": title_briefly(model)}


def _make_panels(curves, x, y):
    """Makes a figure with a panel per variant, at most three in a row."""
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    size = (max(5.2, 2.9 * columns), 3.0 * rows + 0.5)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels[len(curves) :]:
        axes.remove()
    for axes, variant in zip(panels, curves):
        tidy_axes(axes)
        axes.set_title(clean_text(title_variant(variant), most=36), fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
        axes.set_xlabel(x, fontsize=8)
        axes.set_ylabel(y, fontsize=8)
    return figure, panels[: len(curves)]


def _place_legend(figure, panels):
    """Places one legend above all panels, where it hides no curve; returns the figure."""
    found = {}
    for axes in panels:
        found |= dict(zip(*reversed(axes.get_legend_handles_labels())))
    if found:
        figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=min(len(found), 3), **LEGEND)
    return figure
