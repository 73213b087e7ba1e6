"""Draw numbers with their intervals, one per row: differences, models, subgroups, and what each side gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kmm.evaluate.output.figure_files import COLOURS, DOTS_PER_INCH, GREY, tidy_axes
from kmm.evaluate.output.p_values import show_p
from kmm.experiments.output.claims import is_shown, name_models, name_variants
from kmm.experiments.output.number_formats import show_signed
from kmm.experiments.schema import MACRO, Difference, Interval, PublishedNumber, Summary, iterate_models
from kmm.experiments.titles import BASELINES, DEFAULT, SIDES, title_briefly, title_metric, title_variant
from kmm.explain.output.markup import is_known
from kmm.pages.drawing import clean_text

ROW_INCHES = 0.24
LEAST_ROWS = 3  # for which a figure has room, even if it has fewer: lower axes collapse
ALL = "all"  # the grouping of all studies
MARGIN: dict[str, Any] = {"fontsize": 8, "family": "DejaVu Sans Mono"}
HEADING: dict[str, Any] = {
    **{"fontsize": 8, "fontweight": "bold", "va": "center", "in_layout": False, "zorder": 5},
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
}
SIDE_COLOURS = dict(zip(SIDES, COLOURS))


@dataclass(frozen=True)
class Row:
    """One row of a figure: a number with its interval, or, without a value, a heading.

    Attributes:
        title: str, at the left.
        value: float or None.
        interval: two floats or None.
        note: str, in the right margin, in letters of equal width.
        colour: str. Colour of the marker.
        marker: str. Matplotlib's marker.
        hollow: bool. Whether the marker is not filled.
    """

    title: str
    value: float | None = None
    interval: Interval = None
    note: str = ""
    colour: str = COLOURS[0]
    marker: str = "o"
    hollow: bool = False


def draw_differences(differences: Sequence[Difference]) -> Figure:
    """Draws a forest plot: differences with their intervals, and their p after Holm's correction in the margin.

    Args:
        differences: sequence of `Difference`. One without a value is left out, and those of single labels if there are
            any of the mean over labels.

    Returns:
        Matplotlib's `Figure`. Blue squares: the difference is shown, see `is_shown`.
    """
    known = [found for found in differences if is_known(found.get("difference"))]
    known = [found for found in known if found["label"] == MACRO] or known
    rows: list[Row] = []
    for (variant, metric), group in _group(known, lambda found: (name_variants(found), found["metric"])).items():
        rows.append(Row(": ".join(filter(None, (variant, title_metric(metric))))))
        several = len({found["label"] for found in group}) > 1
        for found in group:
            label = f", {found['label']}" if several else ""
            shown = is_shown(found)
            note = f"{show_signed(found['difference']):>7} {show_p(found.get('p_holm')):>7}"
            title, colour, marker = f"{name_models(found)}{label}", COLOURS[0] if shown else GREY, "s" if shown else "o"
            rows.append(Row(title, found["difference"], found.get("interval"), note, colour, marker))
    figure, axes = _make_rows(len(rows), 6.4)
    axes.axvline(0, color="black", linewidth=0.8)
    _draw_rows(axes, rows, head=" change p(Holm)")
    axes.set_xlabel("Difference (right of 0: the first is higher)", fontsize=8)
    return figure


def _group(items, key):
    groups: dict = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def draw_models(summary: Summary, metrics: Sequence[str], published: Sequence[PublishedNumber] = ()) -> Figure:
    """Draws each model and baseline with the interval of its mean, one panel per metric; published numbers hollow.

    Args:
        summary: `Summary` with `models`.
        metrics: sequence of str, one per panel.
        published: sequence of `PublishedNumber`.

    Returns:
        Matplotlib's `Figure`.
    """
    models = list(iterate_models(summary))
    several = len({variant for variant, _, _ in models}) > 1
    panels: list[list[Row]] = [[] for _ in metrics]
    last = None
    for variant, model, found in models:
        for rows, metric in zip(panels, metrics):
            if several and variant != last:
                rows.append(Row(title_variant(variant) or DEFAULT))
            estimate: Mapping[str, Any] = found.get(metric) or {}
            colour, marker = SIDE_COLOURS.get(model, GREY), "s" if model in BASELINES else "o"
            mean = estimate.get("mean")
            rows.append(
                Row(
                    title_briefly(model),
                    np.nan if mean is None else mean,
                    estimate.get("interval"),
                    colour=colour,
                    marker=marker,
                )
            )
        last = variant
    for rows, metric in zip(panels, metrics):
        numbers = {(found["model"], found["what"]): found["value"] for found in published if found["metric"] == metric}
        if published:
            rows.append(Row("Published: other splits"))
        for model, what in dict.fromkeys((found["model"], found["what"]) for found in published):
            value, title = numbers.get((model, what), np.nan), f"{title_briefly(model)}, {what}"
            rows.append(Row(title, value, colour=SIDE_COLOURS.get(model, GREY), marker="D", hollow=True))
    figure, *axes = _make_rows(len(panels[0]), 2.9 + 2.1 * len(metrics), panels=len(metrics))
    for place, (panel, rows, metric) in enumerate(zip(axes, panels, metrics)):
        _draw_rows(panel, rows, titles=place == 0)
        low, high = panel.get_xlim()
        panel.set_xlim(max(low, -0.02), min(high, 1.05))  # a symmetric interval may leave the range of the metric
        panel.set_xlabel(title_metric(metric), fontsize=8)
    return figure


def draw_subgroups(subgroups: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the area under the ROC curve in each subgroup, with its interval and the mean number of studies.

    Args:
        subgroups: rows of `Summary` of one variant.

    Returns:
        Matplotlib's `Figure`.
    """
    measured = [found for found in subgroups if is_known((found.get("roc_auc") or {}).get("mean"))]
    several = len({found["label"] for found in measured}) > 1
    rows: list[Row] = []
    for grouping, group in _group(measured, lambda found: found["grouping"]).items():
        rows += [Row(grouping)] if grouping != ALL else []
        for found in group:
            area, n = found["roc_auc"], (found.get("n") or {}).get("mean")
            title = ", ".join(
                filter(
                    None, ("all studies" if grouping == ALL else str(found["value"]), found["label"] if several else "")
                )
            )
            note = f"{n:>7.0f}" if is_known(n) else ""
            rows.append(Row(title, area["mean"], area.get("interval"), note))
    figure, axes = _make_rows(len(rows), 5.8)
    _draw_rows(axes, rows, head="studies")
    axes.set_xlabel(title_metric("roc_auc"), fontsize=8)
    return figure


def draw_shapley(shapley: Mapping[str, Mapping[str, Any]], metric: str) -> Figure:
    """Draws what film and report each add to the joint model's metric, and what they give together.

    Args:
        shapley: dict of variant to shares; see `kmm.experiments.schema.choose_shares`.
        metric: str, as printed.

    Returns:
        Matplotlib's `Figure`.
    """
    titles = {"image": "Film", "text": "Report", "interaction": "Interaction of both"}
    colours = {"image": SIDE_COLOURS["image"], "text": SIDE_COLOURS["text"], "interaction": GREY}
    rows: list[Row] = []
    for variant, found in shapley.items():
        if len(shapley) > 1:
            rows.append(Row(title_variant(variant) or DEFAULT))
        for name, title in titles.items():
            share = (found.get(name) or {}).get("value") or {}
            if is_known(share.get("mean")):
                value, marker = share["mean"], "D" if name == "interaction" else "o"
                rows.append(Row(title, value, share.get("interval"), show_signed(value), colours[name], marker))
    figure, axes = _make_rows(len(rows), 5.8)
    axes.axvline(0, color="black", linewidth=0.8)
    _draw_rows(axes, rows, head=" share")
    axes.set_xlabel(f"Share of the joint model's {metric}", fontsize=8)
    return figure


def _make_rows(count, width, *, panels=1):
    """Makes a figure with room for rows; returns it and its axes."""
    size = (width, ROW_INCHES * max(count, LEAST_ROWS) + 0.75)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    return figure, *figure.subplots(1, panels, squeeze=False, sharey=True).ravel()


def _draw_rows(axes: Axes, rows: Sequence[Row], *, head: str = "", titles: bool = True) -> None:
    """Draws rows from the top, their titles at the left, their notes at the right of the axes."""
    tidy_axes(axes)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", visible=False)
    if titles:
        names = ["" if row.value is None else clean_text(row.title) for row in rows]
        axes.set_yticks(range(len(rows)), names, fontsize=8)
    margin = axes.get_yaxis_transform()
    if head:
        axes.text(1.02, -0.65, head, transform=margin, color=GREY, va="bottom", **MARGIN)
    for place, row in enumerate(rows):
        if row.value is None:
            axes.axhline(place + 0.45, color="#DDDDDD", linewidth=0.5)
            if titles:
                axes.text(0.01, place, clean_text(row.title), transform=margin, **HEADING)
            continue
        if row.interval is not None:
            axes.plot(row.interval, [place, place], color=row.colour, linewidth=1.4, solid_capstyle="butt")
        face = "white" if row.hollow else row.colour
        look: dict[str, Any] = {"markersize": 5, "markerfacecolor": face, "markeredgewidth": 1.2}
        axes.plot(row.value, place, row.marker, color=row.colour, **look)
        axes.text(1.02, place, row.note, transform=margin, va="center", **MARGIN)
