"""Learning curves of a comparison of sizes: the metrics of each model against the number of training studies."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kmm.evaluate.statistics.learning_curve import LEAST_SIZES, LearningCurve, fit_learning_curve
from kmm.evaluate.statistics.resampled_tests import summarize_splits
from kmm.experiments.planning.plan import Plan
from kmm.experiments.schema import MACRO
from kmm.experiments.statistics import as_list
from kmm.experiments.tables import COUNT, NUMBER, TEXT, Columns, find_rows, list_values, make_columns

CURVED = ("joint", "image", "text", "tfidf", "image-linear", "linear-sum")  # models that learn more from more studies
METRICS = ("roc_auc", "accuracy", "average_precision")  # of all of them 1 is the best
WANTED = "roc_auc"
FURTHER = (2, 5, 10)  # times the largest size at which a curve is extended
STEPS = 25  # numbers of studies at which a curve is drawn between the smallest and the largest, and beyond it
CURVES = {
    **dict.fromkeys(("variant", "model", "metric"), TEXT),
    **{"size": COUNT, "studies": NUMBER, "splits": COUNT},
    **dict.fromkeys(("value", "sd", "low", "high", "fitted", "fitted_low", "fitted_high"), NUMBER),
}


def select_whole(columns: Columns, summary: Mapping[str, Any]) -> Columns:
    """Selects the rows of the tasks with the whole training part, on which models are compared.

    Example:
        >>> columns = {"size": np.array([100, 640]), "value": np.array([0.7, 0.8])}
        >>> select_whole(columns, {"sizes": {"smaller": [100]}})["value"].tolist()
        [0.8]
    """
    found = summary.get("sizes")
    if not found:
        return columns
    kept = ~np.isin(columns["size"], found["smaller"])
    return {name: column[kept] for name, column in columns.items()}


def summarize_sizes(
    plan: Plan, rows: Columns, facts: Sequence[Mapping[str, Any]], smaller: Collection[int]
) -> dict[str, Any]:
    """Computes the learning curves of every variant, model and metric.

    Args:
        plan: `Plan` with `train_sizes`.
        rows: columns of `comparison.csv`, of all tasks that are done.
        facts: sequence of their facts.
        smaller: sizes below the whole training part.

    Returns:
        dict of keys of `kmm.experiments.schema.Summary`: `sizes`, and `minutes` and `memory_gb` of all tasks.
    """
    levels = [*sorted(smaller), 0]
    places = [{**fact, "level": fact["size"] if fact["size"] in smaller else 0} for fact in facts]
    curves, labels = {}, {}
    for variant in list_values(rows["variant"]):
        own = find_rows(rows, variant=variant, part="test")
        table = _Table({name: column[own] for name, column in rows.items()}, levels)
        parts = _average_parts([fact for fact in places if fact["variant"] == variant], levels)
        if table.left_out:
            labels[variant] = table.left_out
        curves[variant] = {
            model: {metric: _trace(table.get(model, metric), parts, levels, plan, metric) for metric in METRICS}
            for model in CURVED
            if model in table.models
        }
    first = [fact for fact in places if fact["variant"] == places[0]["variant"]]
    smaller_notes = [
        f"{fact['level']} training studies: {line}" for fact in places if fact["level"] for line in fact["notes"]
    ]
    sizes = {
        "smaller": sorted(smaller),
        "parts": _average_parts(first, levels),
        "splits": plan.resampling.count,
        "wanted": plan.wanted,
        "curves": curves,
        "labels_left_out": labels,
        "notes": list(dict.fromkeys(smaller_notes)),
    }
    return {
        "sizes": sizes,
        "minutes": sum(fact["minutes"] for fact in facts),
        "memory_gb": max(fact["memory_gb"] for fact in facts),
    }


class _Table:
    """Values of the metrics of a variant, by model, metric, split and size.

    A small training part may lack a class of some label, which is then not trained. So that all sizes of a curve are
    measured on the same labels, the means are over those that every task has; `left_out` lists the others.
    """

    def __init__(self, rows, levels):
        self.splits, self.models = list_values(rows["split"]), list_values(rows["model"])
        self.levels = levels
        places = {split: number for number, split in enumerate(self.splits)}
        self.shape = len(self.splits), len(levels)
        self._values, tasks = {}, {}
        names = ("model", "metric", "label", "split", "size", "value")
        for model, metric, label, split, size, value in zip(*(rows[name].tolist() for name in names), strict=True):
            level = levels.index(size) if size in levels else levels.index(0)
            table = self._values.setdefault((model, metric), {}).setdefault(label, np.full(self.shape, np.nan))
            table[places[split], level] = value
            tasks.setdefault((split, level), set()).add(label)
        everywhere = set.intersection(*tasks.values()) if tasks else set()
        every = [label for label in list_values(rows["label"]) if label != MACRO]
        self.left_out = [label for label in every if label not in everywhere]
        self.labels = [label for label in every if label in everywhere]

    def get(self, model, metric):
        """Returns the values `(splits, sizes)`; NaN where a task failed or the metric is not defined."""
        found = self._values.get((model, metric), {})
        tables = [found[label] for label in self.labels if label in found]
        if not tables:
            return np.full(self.shape, np.nan)
        known = ~np.isnan(tables)
        total = np.where(known, tables, 0.0).sum(axis=0)
        return np.divide(total, known.sum(axis=0), out=np.full(self.shape, np.nan), where=known.any(axis=0))


def _average_parts(facts, levels):
    """Returns for each size the mean number of studies of each part, and the number of splits, those that are done."""
    rows = []
    for level in levels:
        own = [fact["parts"] for fact in facts if fact["level"] == level]
        means = {part: float(np.mean([one.get(part, 0) for one in own])) for part in (own[0] if own else ())}
        rows.append({"size": level or round(means.get("train", 0)), "splits": len(own), **means})
    return rows


def _trace(values, parts, levels, plan, metric):
    """Measures the sizes of a model and metric, and fits its curve."""
    rest, test = plan.sizes
    kept = [place for place in range(len(levels)) if not np.isnan(values[:, place]).all()]
    points = []
    for place in kept:
        found = summarize_splits(values[:, place], n_train=rest, n_test=test)
        point = {"size": parts[place]["size"], "studies": parts[place]["train"], **found}
        points.append({**point, "values": as_list(values[:, place])})
    sizes = [point["studies"] for point in points]
    if len(set(sizes)) < max(LEAST_SIZES, len(sizes)):
        reason = f"a curve needs results of {LEAST_SIZES} or more sizes that differ"
        return {"points": points, "curve": None, "reason": reason, "line": [], "wanted": None}
    curve = fit_learning_curve(sizes, values[:, kept], n_train=rest, n_test=test)
    ends = sizes[0], sizes[-1]
    beyond = [times * ends[1] for times in FURTHER]
    studies = [*sizes, *np.geomspace(*ends, STEPS)[1:-1], *np.geomspace(ends[1], beyond[-1], STEPS)[1:-1], *beyond]
    wanted = _find_wanted(curve, plan.wanted) if plan.wanted is not None and metric == WANTED else None
    return {
        "points": points,
        "curve": {"a": curve.a, "b": curve.b, "c": curve.c},
        "reason": None,
        "line": _follow(curve, sorted({float(number) for number in studies})),
        "wanted": wanted,
    }


def _follow(curve: LearningCurve, studies: Sequence[float]) -> list[dict[str, Any]]:
    """Lists the values of a curve, each with its interval, or None."""
    values, ends = curve.predict(studies), curve.bound(studies)
    return [
        {"studies": number, "value": float(value), "interval": None if ends is None else ends[:, place].tolist()}
        for place, (number, value) in enumerate(zip(studies, values, strict=True))
    ]


def _find_wanted(curve, wanted):
    """Finds the number of studies for a wanted value, for JSON; None where no number is named."""
    found = curve.find_size(wanted)
    return {
        "value": wanted,
        "state": found.state,
        "studies": found.studies,
        "interval": None if found.interval is None else list(found.interval),
        "smallest": float(curve.sizes[0]),
        "largest": float(curve.sizes[-1]),
        "limit": curve.a,
    }


def tabulate_curves(sizes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Lists the learning curves as columns of `learning_curve.csv`: a row per variant, model, metric and size, and rows
    beyond the largest size, which have no measured value.

    Args:
        sizes: dict of `summarize_sizes`.
    """
    rows = []
    for variant, models in sizes["curves"].items():
        for model, metrics in models.items():
            for metric, found in metrics.items():
                place = {"variant": variant, "model": model, "metric": metric}
                rows += [{**place, **row} for row in _list_rows(found)]
    return make_columns(CURVES, {name: [row.get(name, np.nan) for row in rows] for name in CURVES})


def _list_rows(found):
    line, largest = {one["studies"]: one for one in found["line"]}, 0.0
    for point in found["points"]:
        ends = point["interval"] or (np.nan, np.nan)
        sd = np.nan if point["sd"] is None else point["sd"]
        measured = {"value": point["mean"], "sd": sd, "low": ends[0], "high": ends[1]}
        counts = {"size": point["size"], "studies": point["studies"], "splits": point["n"]}
        yield {**counts, **measured, **_fitted(line.get(point["studies"]))}
        largest = point["studies"]
    for studies in (times * largest for times in FURTHER if times * largest in line):
        yield {"size": round(studies), "studies": studies, "splits": 0, **_fitted(line[studies])}


def _fitted(one):
    if one is None:
        return {}
    low, high = one["interval"] or (np.nan, np.nan)
    return {"fitted": one["value"], "fitted_low": low, "fitted_high": high}
