"""State how many training studies it would take to reach a wanted area under the ROC curve, and how sure that is."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from kmm.evaluate.statistics.learning_curve import BEYOND, FLAT, FURTHEST
from kmm.experiments.output.number_formats import NOTHING, show_interval, show_number
from kmm.experiments.schema import Summary
from kmm.experiments.titles import title_briefly, title_metric, title_variant

METRIC = "roc_auc"  # of the sentences
FEW_SPLITS = 5
FAR = 10.0  # times the largest size: numbers beyond it are guesses
TWICE = 2


def state_wanted(summary: Summary) -> list[str]:
    """States for each model what the wanted area would take, one sentence each; empty if none was wanted.

    Example:
        >>> wanted = {"value": 0.9, "state": "beyond", "studies": 10400.0, "interval": [6400.0, 41000.0]}
        >>> wanted |= {"smallest": 300.0, "largest": 4800.0, "limit": 0.93}
        >>> curves = {"": {"image": {"roc_auc": {"wanted": wanted}}}}
        >>> state_wanted({"sizes": {"curves": curves}})
        ['Image only: ROC AUC 0.9 would take about 5,600 more training studies (1,600 to 36,000).']
    """
    lines = []
    for variant, model, found in iterate_curves(summary):
        wanted = found.get("wanted")
        if wanted:
            what = ", ".join(filter(None, (title_briefly(model), title_variant(variant))))
            lines.append(f"{what}: {title_metric(METRIC)} {wanted['value']:g} {state_size(wanted)}.")
    return lines


def iterate_curves(summary: Summary, metric: str = METRIC) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Iterates over the learning curves of a metric.

    Yields:
        variant, model, and the dict of the curve in the summary.
    """
    for variant, models in (summary.get("sizes") or {}).get("curves", {}).items():
        for model, metrics in models.items():
            if metric in metrics:
                yield variant, model, metrics[metric]


def state_size(wanted: Mapping[str, Any]) -> str:
    """States what a wanted value would take, as the rest of a sentence.

    Args:
        wanted: dict of a curve in the summary.

    Returns:
        str. Numbers are those of more training studies than the largest size, of two digits.

    Example:
        >>> found = {"state": "flat", "studies": None, "interval": [3000, None], "largest": 1000.0, "limit": 0.812}
        >>> state_size(found | {"value": 0.9, "smallest": 100.0})
        'is not in reach: the fitted curve flattens at 0.812; the interval begins at about 2,000 more training studies'
    """
    if wanted["state"] == FLAT:
        return _state_flat(wanted)
    if wanted["state"] == BEYOND:
        more, ends = wanted["studies"] - wanted["largest"], _state_more(wanted)
        far = _is_far(wanted["studies"], wanted) or any(_is_far(end, wanted) for end in wanted["interval"] or ())
        guess = f"; more than {FAR:g} times the studies that were measured is a guess" if far else ""
        return f"would take about {show_studies(more)} more training studies ({ends}){guess}"
    if wanted["studies"] < wanted["smallest"]:
        text = f"is reached already with the fewest training studies, {show_studies(wanted['smallest'])}"
    else:
        text = f"is reached already with about {show_studies(wanted['studies'])} training studies"
    interval = wanted["interval"]
    if interval is None:
        return f"{text} (no interval: a single split)"
    if interval[1] is None or interval[1] > wanted["largest"]:
        return f"{text}, but the interval does not rule out that it takes more than there are"
    return text if wanted["studies"] < wanted["smallest"] else f"{text} ({_state_ends(wanted)})"


def _state_flat(wanted):
    if wanted["limit"] > wanted["value"]:
        text = f"is not in reach: it would take more than {FURTHEST:g} times the training studies"
    else:
        text = f"is not in reach: the fitted curve flattens at {show_number(wanted['limit'])}"
    if wanted["interval"] is None:
        return f"{text} (no interval: a single split)"
    low = wanted["interval"][0]
    if low is None:
        return f"{text}, and that holds for the whole interval"
    if low < wanted["largest"] + 1:
        return f"{text}, but the interval rules nothing out"
    return f"{text}; the interval begins at about {show_studies(low - wanted['largest'])} more training studies"


def _state_more(wanted):
    """States the interval of the studies that are needed beside those that there are."""
    if wanted["interval"] is None:
        return "no interval: a single split"
    low, high = (None if end is None else max(end - wanted["largest"], 0.0) for end in wanted["interval"])
    if high is None:
        return f"{show_studies(low or 0.0)} or more: the interval has no upper end"
    return f"{show_studies(low or 0.0)} to {show_studies(high)}"


def _state_ends(wanted):
    low, high = wanted["interval"]
    smallest = wanted["smallest"]
    if high < smallest:
        return f"fewer than {show_studies(smallest)}"
    return f"{f'fewer than {show_studies(smallest)}' if low < smallest else show_studies(low)} to {show_studies(high)}"


def _is_far(studies, wanted):
    return studies is not None and studies > FAR * wanted["largest"]


def show_studies(number: float) -> str:
    """Formats a number of studies with two digits that count.

    Example:
        >>> show_studies(8743), show_studies(104.2), show_studies(7.6), show_studies(0)
        ('8,700', '100', '8', '0')
    """
    digits = max(0, math.floor(math.log10(number)) - 1) if number >= 1 else 0
    return f"{round(number / 10**digits) * 10**digits:,}"


def tabulate_sizes(summary: Summary, metric: str = METRIC) -> list[tuple[str, list[str], list[list[str]]]]:
    """Lists a metric of each model by the number of training studies, and where the curve leads with twice as many.

    Returns:
        list with a table per variant that has any: its title, its head, and rows of as many cells.
    """
    tables = []
    for variant in (summary.get("sizes") or {}).get("curves", {}):
        curves = {model: found for own, model, found in iterate_curves(summary, metric) if own == variant}
        sizes = {point["size"]: None for found in curves.values() for point in found["points"]}
        rows = [[title_briefly(model), *_show_points(found, sizes)] for model, found in curves.items()]
        if rows:
            where = f", {title_variant(variant)}" if variant else ""
            title = f"{title_metric(metric)} by number of training studies, test{where}: mean over splits"
            head = ["model", *(f"{size:,}" for size in sorted(sizes)), "twice as many (fitted, 95 % interval)"]
            tables.append((title, head, rows))
    return tables


def _show_points(found, sizes):
    means = {point["size"]: point["mean"] for point in found["points"]}
    return [*(show_number(means.get(size)) for size in sorted(sizes)), show_twice(found)]


def show_twice(found: Mapping[str, Any]) -> str:
    """Formats the value of a curve at twice the largest number of studies, with its interval."""
    if not found["line"]:
        return NOTHING
    studies = TWICE * found["points"][-1]["studies"]
    one = min(found["line"], key=lambda place: abs(place["studies"] - studies))
    return f"{show_number(one['value'])} {show_interval(one['interval'])}".strip()


def list_cautions(summary: Summary) -> list[str]:
    """Lists what limits the learning curves, one sentence each; empty if sizes were not compared."""
    sizes = summary.get("sizes")
    if not sizes:
        return []
    lines = []
    if sizes["splits"] < FEW_SPLITS:
        splits = f"{sizes['splits']} split{'s' * (sizes['splits'] != 1)}"
        lines.append(f"The learning curves rest on {splits}: their intervals are rough. Compare {FEW_SPLITS} or more.")
    reasons = [found["reason"] for _, _, found in iterate_curves(summary) if found["reason"]]
    lines += [f"No learning curve was fitted to some models: {reason}." for reason in dict.fromkeys(reasons)]
    for variant, labels in sizes["labels_left_out"].items():
        where = f" with {title_variant(variant)}" if variant else ""
        lines.append(
            f"Left out of the learning curves{where}, because a small training part lacks a class: {', '.join(labels)}."
        )
    return lines
