"""Plot results as PNG, SVG or PDF files, by the suffix of the path: the same numbers give the same bytes.

The colour of a curve depends on its position in the dict. The palette is safe for colour-blind readers, and each curve
has its own line style, so that plots can be printed in grey. With many labels there is one panel for each of the six
labels whose rarer class has the most studies.

Source: https://jfly.uni-koeln.de/color/ (palette of Okabe and Ito).
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from kmm.errors import InputError, look_up
from kmm.evaluate.arrays import as_columns, as_cuts, known_columns
from kmm.evaluate.decisions.calibration_error import calibration_bins, expected_calibration_error
from kmm.storage.files import replace_file

MAX_PANELS = 6
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
GREY = "#666666"
DOTS_PER_INCH = 120
Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]
Intervals = Mapping[str, Mapping[str, Sequence[float] | None]]  # of a curve and a label: the ends of an interval


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
                x, y, label=f"{name} {roc_auc_score(labels, scores):.3f}{_between(intervals, name, label)}", **look
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
                label=f"{name} {ap:.3f}{_between(intervals, name, label)}",
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
    panels, title = _panels_of(curves, label_names)
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
    figure, grid = _make_figure(len(jobs), 2.9)
    figure.suptitle(f"Confusion at the stored threshold: {title}" if title else "Confusion at the stored threshold")
    for (axes,), (name, (labels, scores), cut) in zip(grid, jobs):
        _draw_confusion(
            axes, confusion_matrix(labels, scores >= cut, labels=[0, 1]) if len(labels) else np.zeros((2, 2), int)
        )
        axes.set_title(f"{name} (from {_show_cuts(cut)})", fontsize=10)
    return _save(figure, path, caption)


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
    return _save(figure, path)


LEGEND: dict = {"fontsize": 8, "title_fontsize": 8, "frameon": True, "framealpha": 0.85, "edgecolor": "none"}


def list_looks() -> Iterator[dict[str, Any]]:
    """Yields the colour, style and width of each curve in turn."""
    return ({"color": colour, "linestyle": style, "linewidth": 1.6} for colour, style in zip(COLOURS, STYLES))


def _panels_of(curves, label_names):
    """Returns {label: {name: (labels, scores)}} of at most six labels, without unknown labels, and a title."""
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


def _between(intervals, name, label):
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
        curves, path, label_names, caption: as in `plot_roc`.
        draw: function of the axes, a dict of curve to `(labels, scores)` without unknown labels, and the label; and of
            lower axes, if there is a third axis label. It is not called for a label of one class only.
        title: str.
        axis_labels: sequence of str: of x, of y, and perhaps of the lower y.

    Returns:
        Path of the plot.
    """
    panels, subtitle = _panels_of(curves, label_names)
    figure, grid = _make_figure(len(panels), 3.4 if len(panels) > 1 else 4.4, below=len(axis_labels) > 2)
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
    return _save(figure, path, caption)


def _make_figure(n_panels, inches, *, below=False):
    """Makes a figure; returns it with a list of axes for each panel, one or two, from the top."""
    columns = min(n_panels, 3) if n_panels != 4 else 2
    rows = -(-n_panels // columns)
    height = inches * (1.35 if below else 1.0)
    figure = Figure(figsize=(inches * columns + 0.3, height * rows + 0.3), dpi=DOTS_PER_INCH, layout="constrained")
    parts = figure.subfigures(rows, columns, squeeze=False).ravel()[:n_panels]
    ratios = {"height_ratios": [3, 1]} if below else {}
    return figure, [part.subplots(1 + below, 1, squeeze=False, **ratios).ravel().tolist() for part in parts]


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


def tidy_axes(axes: Axes) -> None:
    """Gives axes the look of kmm's plots: no frame at the top and right, and a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)


def _wilson_error(share, number, z=1.959964):
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * np.sqrt(share * (1 - share) / number + z * z / (4 * number**2))
    return np.array([share - (centre - half), centre + half - share])


def _save(figure, path, caption=""):
    path = Path(path)
    if caption:
        figure.supxlabel(caption, fontsize=8, color=GREY, wrap=True)
    picture = encode_figure(figure, path.suffix.lower())
    with replace_file(path) as place:
        place.write_bytes(picture)
    return path


def encode_figure(figure: Figure, suffix: str) -> bytes:
    """Encodes a figure as the content of a picture file: the same figure gives the same bytes.

    Args:
        figure: Matplotlib's `Figure`.
        suffix: str, a key of `FORMATS`.

    Returns:
        bytes.

    Raises:
        InputError: for an unknown suffix.

    Example:
        >>> encode_figure(Figure(figsize=(1, 1)), ".png")[1:4]
        b'PNG'
    """
    encode = look_up(FORMATS, suffix, "kind of picture file")
    file = io.BytesIO()
    with matplotlib.rc_context(REPRODUCIBLE):
        encode(figure, file)
    return file.getvalue()


def _print_png(figure, file):
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def _print_svg(figure, file):
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})


def _print_pdf(figure, file):
    FigureCanvasPdf(figure).print_pdf(file, metadata={"CreationDate": None, "Creator": None, "Producer": None})


FORMATS = {".png": _print_png, ".svg": _print_svg, ".pdf": _print_pdf}  # suffix of a file to what writes it
REPRODUCIBLE = {"svg.hashsalt": "kmm", "svg.fonttype": "none", "pdf.fonttype": 42}
