"""Figures of a comparison, each with its caption and a description for readers who do not see it.

The same numbers give the same bytes. A file carries its caption below the picture; in the page the caption is text.
"""

from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from kmm.experiments.output.figures.curve_figures import (
    draw_benefit,
    draw_calibration,
    draw_epochs,
    draw_risk,
    find_epoch_metrics,
)
from kmm.experiments.output.figures.interval_figures import (
    draw_differences,
    draw_models,
    draw_shapley,
    draw_subgroups,
)
from kmm.experiments.output.figures.prediction_curves import BINS, Curves
from kmm.experiments.output.figures.size_figures import draw_sizes, is_drawn
from kmm.experiments.schema import Summary, choose_metric, choose_shares, list_test_numbers
from kmm.experiments.tables import Columns, list_values
from kmm.experiments.titles import title_metric, title_variant
from kmm.explain.output.markup import is_known
from kmm.pages.drawing import Drawing

SUFFIXES = (".png", ".svg")
SPREAD = "intervals: 95 %, of the mean over splits, corrected for their overlap (Nadeau and Bengio)"


def list_figures(comparison: Columns, history: Columns, summary: Summary, curves: Curves) -> dict[str, Drawing]:
    """Lists the figures whose numbers are there.

    Args:
        comparison: columns of the comparison; see `kmm.experiments.schema`.
        history: columns of the history; may be empty.
        summary: `Summary`.
        curves: dict of variant to dict of model to `PredictionCurves`.

    Returns:
        dict of name to `Drawing`, in the order of the page. Nothing is drawn yet.
    """
    where = describe_measured(comparison)
    found = [_list_epochs(comparison, history), _list_models(summary, where), _list_differences(summary, where)]
    found += [_list_shapley(summary, where), *_list_curves(curves, where), _list_subgroups(summary)]
    found.append(_list_sizes(summary, where))
    return {drawing.name: drawing for drawing in found if drawing is not None}


def describe_measured(comparison: Columns, part: str = "test") -> str:
    """Describes what the numbers of a part were measured on: the studies per split and the number of splits.

    Example:
        >>> import numpy as np
        >>> columns = {"part": ["test"] * 2, "split": ["1", "2"], "n": [40, 42], "label": ["macro"] * 2}
        >>> describe_measured({name: np.array(column) for name, column in columns.items()})
        'test part, n = 40 to 42 studies per split, 2 splits'
    """
    rows = comparison["part"] == part
    numbers, splits = comparison["n"][rows & (comparison["label"] == "macro")], list_values(comparison["split"][rows])
    if not len(numbers):
        return f"{part} part"
    low, high = int(numbers.min()), int(numbers.max())
    n = f"{low}" if low == high else f"{low} to {high}"
    return f"{part} part, n = {n} studies per split, {len(splits)} {'split' if len(splits) == 1 else 'splits'}"


def capitalize(text: str) -> str:
    """Returns a text with its first letter capital and the rest as it is.

    Example:
        >>> capitalize("test part, ROC AUC")
        'Test part, ROC AUC'
    """
    return text[:1].upper() + text[1:]


def _list_epochs(comparison, history):
    if not len(history.get("metric", ())) or not (metrics := find_epoch_metrics(history)):
        return None
    return Drawing(
        "epochs",
        "Validation over epochs",
        f"{capitalize(describe_measured(comparison, 'validation'))}. Lines: mean over splits; bands: 1 standard "
        "deviation between splits to each side, which is no confidence interval. Stages of a model follow each other.",
        f"Line chart of validation {' and '.join(metrics)} by epoch for the joint, the image and the text model, with "
        "bands for the spread between splits. Values of the last epoch are in the table below.",
        lambda: draw_epochs(history),
    )


def _list_models(summary, where):
    metrics = [
        metric
        for metric in ("roc_auc", "accuracy")
        if any(metric in found for models in (summary.get("models") or {}).values() for found in models.values())
    ]
    if not metrics:
        return None
    published = list_test_numbers(summary)
    return Drawing(
        "models",
        "Models and baselines",
        f"{capitalize(where)}; {SPREAD}. Circles: models; squares: baselines; hollow diamonds: published "
        "numbers, measured on other splits and without intervals. Intervals are cut at 0 and 1.",
        "Dot plot of each model and baseline with its interval, and of published numbers. The numbers are in the table "
        "of results.",
        lambda: draw_models(summary, metrics, published),
    )


def _list_differences(summary, where):
    found = summary.get("differences") or ()
    if all(one.get("difference") is None for one in found):
        return None
    return Drawing(
        "differences",
        "Differences",
        f"{capitalize(where)}; {SPREAD}; p: corrected resampled t-test, adjusted by Holm's method. Blue "
        "squares: the interval leaves out 0 and p is below 0.05; grey circles: not shown.",
        "Forest plot of differences between models with their intervals. The numbers are in the table of differences.",
        lambda: draw_differences(found),
    )


def _list_shapley(summary, where):
    found = choose_shares(summary)
    if not found:
        return None
    metric = title_metric(choose_metric(summary))
    return Drawing(
        "shapley",
        "What film and report give",
        f"{capitalize(where)}, those with film and report; Shapley values of the joint model's {metric}; {SPREAD}. The "
        "two shares sum to what the joint model gains over seeing nothing.",
        "Dot plot of the shares of film and report, and of their interaction. The numbers are in the table below.",
        lambda: draw_shapley(found, metric),
    )


def _list_curves(curves, where):
    if not curves:
        return
    mean = f"{capitalize(where)}. Lines: mean over splits, without intervals."
    kinds: list[tuple[str, str, Callable[[Curves], Figure], str, str]] = [
        (
            *("calibration", "Calibration", draw_calibration),
            f"{capitalize(where)}, all together, so a study may count several times; {BINS} bins of equal mass, "
            "without intervals. Dotted: perfect.",
            "the fraction of positives against the probability",
        ),
        (
            *("risk-coverage", "Selective prediction", draw_risk),
            f"{mean} The studies farthest from their threshold are decided first.",
            "the fraction of wrong decisions against the fraction of studies decided",
        ),
        (
            *("decision-curve", "Decision curve", draw_benefit),
            f"{mean} Net benefit: true positives per study, less false positives times the odds of the threshold.",
            "net benefit against threshold probability, beside acting on every study and on none",
        ),
    ]
    for name, title, draw, caption, shows in kinds:
        yield Drawing(name, title, caption, f"Line chart of {shows}, by model.", partial(draw, curves))


def _list_subgroups(summary):
    for variant, rows in (summary.get("subgroups") or {}).items():
        if rows and any(is_known((row.get("roc_auc") or {}).get("mean")) for row in rows):
            where = f" ({title_variant(variant)})" if variant else ""
            return Drawing(
                "subgroups",
                f"Subgroups{where}",
                f"Main model, test part; {SPREAD}. Subgroups with too few studies of a class in every "
                "split are in the table alone.",
                "Dot plot of ROC AUC in each subgroup with its interval. The numbers are in the table.",
                partial(draw_subgroups, rows),
            )
    return None


def _list_sizes(summary, where):
    if not is_drawn(summary):
        return None
    return Drawing(
        "learning-curve",
        "Learning curves",
        f"{capitalize(where)}. Points: one split each; diamonds: mean over splits, hollow for baselines. Lines: "
        "inverse power law, dashed beyond the largest number of training studies; bands: its 95 % interval, with "
        "splits as units and corrected for their overlap.",
        "Line chart of each metric against the number of training studies on a logarithmic axis, for models of the "
        "film, of the report and of both, each beside its linear baseline. The numbers are in the table below.",
        lambda: draw_sizes(summary),
    )
