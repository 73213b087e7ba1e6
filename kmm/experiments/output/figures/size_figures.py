"""Draw learning curves: a metric against the number of training studies, measured and fitted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from kmm.evaluate.output.figure_files import COLOURS, DOTS_PER_INCH, GREY, LEGEND, tidy_axes
from kmm.experiments.output.size_claims import METRIC
from kmm.experiments.schema import Summary
from kmm.experiments.titles import SIDES, title_briefly, title_metric, title_variant
from kmm.pages.drawing import clean_text

GROUPS = {"Film": ("image", "image-linear"), "Report": ("text", "tfidf"), "Both": ("joint", "linear-sum")}
SECOND = "accuracy"  # drawn too, if nothing is varied
EXTENDED = 2.0  # times the largest size to which curves are drawn
FURTHEST = 10.0  # times the largest size to which they are drawn for a wanted value
_COLOURS = dict(zip(SIDES, COLOURS))
BASELINE = "#444444"
SIDEWAYS = 1.025  # factor by which points of a baseline stand beside those of its model


def is_drawn(summary: Summary) -> bool:
    """Returns whether a summary has learning curves of models that are drawn."""
    known = {model for models in GROUPS.values() for model in models}
    return any(known & set(models) for models in (summary.get("sizes") or {}).get("curves", {}).values())


def draw_sizes(summary: Summary) -> Figure:
    """Draws the area under the ROC curve against the number of training studies, and accuracy if nothing is varied.

    Args:
        summary: `Summary` for which `is_drawn` holds.

    Returns:
        Matplotlib's `Figure`: a row of panels for each metric or variant; in a row one panel for models of the film,
        one for those of the report, and one for both, each model beside its linear baseline.
    """
    sizes: Mapping[str, Any] = summary["sizes"]
    curves = sizes["curves"]
    metrics = (METRIC, SECOND) if len(curves) == 1 else (METRIC,)
    rows = [(variant, metric) for variant in curves for metric in metrics]
    groups = {
        title: models
        for title, models in GROUPS.items()
        if any(model in found for found in curves.values() for model in models)
    }
    size = (max(4.2, 2.9 * len(groups)), 2.5 * len(rows) + 0.6)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(len(rows), len(groups), squeeze=False, sharey="row", sharex=True)
    reach = max(_find_reach(sizes), EXTENDED)
    for (variant, metric), line in zip(rows, grid):
        for (title, models), axes in zip(groups.items(), line):
            tidy_axes(axes)
            axes.set_xscale("log")
            for model in models:
                if metric in curves[variant].get(model, {}):
                    _draw_model(axes, curves[variant][model][metric], model, reach)
            if metric == METRIC and sizes["wanted"] is not None:
                axes.axhline(sizes["wanted"], color=GREY, linewidth=0.9, linestyle=":", label="Wanted")
            axes.tick_params(labelsize=8)
            heading = ", ".join(filter(None, (title, title_variant(variant))))
            axes.set_title(clean_text(heading, most=36), fontsize=9, loc="left")
        line[0].set_ylabel(title_metric(metric), fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("Training studies", fontsize=8)
        _mark_sizes(axes, [row["train"] for row in sizes["parts"] if row.get("train")], reach)
    return _place_legend(figure, grid.ravel())


def _find_reach(sizes):
    """Returns how far the curves are drawn, as a multiple of the largest size: to the wanted value, if it is near."""
    reach = [EXTENDED]
    for models in sizes["curves"].values():
        for metrics in models.values():
            wanted = (metrics.get(METRIC) or {}).get("wanted")
            if wanted and wanted["studies"] is not None:
                reach.append(1.3 * wanted["studies"] / wanted["largest"])
    return min(max(reach), FURTHEST)


def _draw_model(axes: Axes, found: Mapping[str, Any], model: str, reach: float) -> None:
    """Draws the values of the splits, their means, and the curve with its band."""
    own = model in SIDES
    colour = _COLOURS.get(model, BASELINE)
    aside = 1.0 if own else SIDEWAYS
    for point in found["points"]:
        values = [value for value in point["values"] if value is not None]
        place = np.full(len(values), point["studies"] * aside)
        axes.plot(place, values, "o", color=colour, markersize=2.2, alpha=0.35, markeredgewidth=0)
        look: dict[str, Any] = {"markersize": 5, "markerfacecolor": colour if own else "white", "markeredgewidth": 1.1}
        axes.plot(place[:1], [point["mean"]], "D", color=colour, **look)
    line, largest = found["line"], found["points"][-1]["studies"] if found["points"] else 0.0
    for style, low, high in (("-", 0.0, largest), ("--", largest, reach * largest * (1 + 1e-9))):
        part = [one for one in line if low <= one["studies"] <= high]
        studies, values = [one["studies"] for one in part], [one["value"] for one in part]
        label = title_briefly(model) if style == "-" and part else None
        axes.plot(studies, values, style, color=colour, linewidth=1.6 if own else 1.1, label=label)
        if part and part[0]["interval"] is not None:
            ends = np.clip(np.array([one["interval"] for one in part]).T, 0, 1)
            axes.fill_between(studies, *ends, color=colour, alpha=0.16 if own else 0.1, linewidth=0)


def _mark_sizes(axes, sizes, reach):
    """Labels the axis with the numbers of training studies, and extends it to where the curves end."""
    shown = [round(size) for size in sizes]
    if reach * shown[-1] > 1.5 * shown[-1]:
        shown.append(round(reach * shown[-1]))
    axes.set_xticks(shown)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelrotation=45)


def _place_legend(figure, panels):
    """Places one legend above all panels; returns the figure."""
    found = {}
    for axes in panels:
        found |= dict(zip(*reversed(axes.get_legend_handles_labels())))
    if found:
        figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=min(len(found), 4), **LEGEND)
    return figure
