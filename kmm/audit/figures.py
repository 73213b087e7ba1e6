"""Figures of an audit: classes of each label, words per report, frequent terms. Each is drawn if it has numbers."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kmm.audit.terms import Terms
from kmm.evaluate.output.figure_files import COLOURS, DOTS_PER_INCH, GREY, LEGEND, tidy_axes
from kmm.explain.output.markup import format_percent
from kmm.pages.drawing import Drawing, clean_text

MOST_LABELS = 30
WIDTH_INCHES, ROW_INCHES = 7.2, 0.24
COUNTS = FuncFormatter(lambda value, _: f"{value:,.0f}")
KINDS = {"positive": COLOURS[1], "negative": COLOURS[0], "unknown": "#C8C8C8"}


def list_figures(
    classes: Mapping[str, Any] | None, report_words: Sequence[Mapping[str, Any]], terms: Terms
) -> dict[str, Drawing]:
    """Lists the figures whose numbers are there.

    Args:
        classes: an entry of `kmm.audit.label_schemes.describe_schemes` with counts, or None.
        report_words: of `kmm.audit.report_words.count_report_words`.
        terms: `Terms`.

    Returns:
        dict of name to `Drawing`, in the order of the page. Nothing is drawn yet.
    """
    drawings = [_list_classes(classes), _list_words(report_words), _list_terms(terms)]
    return {drawing.name: drawing for drawing in drawings if drawing is not None}


def choose_labels(counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the labels with the most positives, at most `MOST_LABELS`, most first."""
    return sorted(counts, key=lambda name: -counts[name]["positive"])[:MOST_LABELS]


def _list_classes(classes):
    if not classes or not classes["counts"]:
        return None
    counts, names = classes["counts"], choose_labels(classes["counts"])
    some = f" The {len(names)} labels of {len(counts)} with the most positives." if len(names) < len(counts) else ""
    return Drawing(
        "classes",
        "Class distribution",
        f"Studies of each class, label scheme {classes['scheme']}; right: positives, and their share of known labels."
        f"{some}",
        "Stacked bar chart of positive, negative and unknown studies of each label. The numbers are in the table.",
        partial(_draw_classes, {name: counts[name] for name in names}),
    )


def _draw_classes(counts):
    figure, axes = _make_rows(len(counts))
    places, left = np.arange(len(counts)), np.zeros(len(counts))
    for kind, colour in KINDS.items():
        sizes = np.array([count[kind] for count in counts.values()], float)
        if sizes.any():
            axes.barh(places, sizes, 0.7, left, color=colour, edgecolor="white", linewidth=0.5, label=kind)
        left += sizes
    _name_rows(axes, list(counts), [_show_share(count) for count in counts.values()])
    axes.set_xlim(0, max(left.max(), 1))
    axes.set_xlabel("Studies")
    figure.legend(loc="outside upper left", ncols=len(KINDS), **LEGEND)
    return figure


def _show_share(count):
    share = count["prevalence"]
    return f"{count['positive']:,}" + ("" if share is None else f" ({format_percent(share)})")


def _list_words(report_words):
    ways = [way for way in report_words if way["reports"]]
    if not ways:
        return None
    return Drawing(
        "words",
        "Words per report",
        "Reports by their number of words after cleaning, in the sections that a preset reads. Dashed: the length to "
        "which it cuts reports.",
        "Histogram of the number of words per report, with a line at the length. The numbers are in the table.",
        partial(_draw_words, ways),
    )


def _draw_words(ways):
    figure = Figure(figsize=(WIDTH_INCHES, 2.6 * len(ways) + 0.2), dpi=DOTS_PER_INCH, layout="constrained")
    for axes, way in zip(figure.subplots(len(ways), 1, squeeze=False).ravel(), ways):
        counts, width = way["histogram"]["counts"], way["histogram"]["width"]
        starts = width * np.arange(len(counts))
        axes.bar(starts, counts, width, align="edge", color=COLOURS[0], edgecolor="white", linewidth=0.5)
        axes.axvline(way["length"], color=COLOURS[1], linestyle="--", linewidth=1.2)
        axes.annotate(
            f"cut at {way['length']}: {way['cut']:,} reports",
            (way["length"], 0.97),
            (5, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=COLOURS[1],
        )
        axes.set_title(clean_text(", ".join(way["presets"])), fontsize=9, loc="left")
        axes.set(xlabel="Words", ylabel="Reports")
        axes.set_xlim(0, max(width * len(counts), way["length"] * 1.45))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        axes.yaxis.set_major_formatter(COUNTS)
        _tidy(axes)
    return figure


def _list_terms(terms):
    if not terms.counts:
        return None
    return Drawing(
        "terms",
        "Frequent terms",
        f"Number of reports with each word, of {terms.reports:,} reports. Only words in the reports of at least "
        f"{terms.min_patients} {'patient' if terms.min_patients == 1 else 'patients'}.",
        "Bar chart of the most frequent words by the number of reports. The numbers are in the table.",
        partial(_draw_terms, terms.counts),
    )


def _draw_terms(counts):
    figure, axes = _make_rows(len(counts))
    axes.barh(np.arange(len(counts)), list(counts.values()), 0.7, color=COLOURS[0])
    _name_rows(axes, list(counts), [f"{count:,}" for count in counts.values()])
    axes.set_xlim(0, max(counts.values()))
    axes.set_xlabel("Reports")
    return figure


def _make_rows(number: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, ROW_INCHES * max(number, 2) + 0.9), dpi=DOTS_PER_INCH, layout="constrained")
    return figure, figure.subplots()


def _name_rows(axes, names, notes):
    """Writes a name at the left and a note at the right of each row of bars, the first row on top."""
    _tidy(axes)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(names)), [clean_text(name, most=32) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    axes.xaxis.set_major_formatter(COUNTS)
    for row, note in enumerate(notes):
        axes.annotate(
            note, (1, row), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            fontsize=8, color=GREY, annotation_clip=False,
        )  # fmt: skip


def _tidy(axes):
    tidy_axes(axes)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)
