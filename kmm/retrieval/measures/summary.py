"""Means over queries, and intervals over patients: of measures, of their lift above chance, and of findings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kmm.evaluate.statistics.bootstrap import draw_groups, interval
from kmm.retrieval.measures.ranking import MEASURES


def summarise_rows(
    table: Mapping[str, np.ndarray], groups: np.ndarray, *, repeats: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Summarises the measures of each row of a table.

    Args:
        table: mapping of the row to float `(q, len(MEASURES))`, one line per query; with the row `"chance"`.
        groups: int `(q,)`, the number of the patient of each query, from 0.
        repeats: int. Bootstrap draws of whole patients.
        seed: int.

    Returns:
        dict of row to a dict of measure to `mean`, its `interval`, `lift` (the mean divided by that of chance) and its
        `lift_interval`; and, of rows besides `cosine`, `oracle` and `chance`, `gain` (the mean of cosine minus that of
        the row) and its `gain_interval`. None where chance is 0, or there are too few draws.

    Example:
        >>> table = {"cosine": np.full((4, 6), 0.8), "chance": np.full((4, 6), 0.2)}
        >>> found = summarise_rows(table, np.arange(4), repeats=10)["cosine"]["ndcg"]
        >>> round(found["lift"], 6), found["interval"]
        (4.0, [0.8, 0.8])
    """
    times = _draw(groups, repeats, seed)
    means = {name: values.mean(axis=0) for name, values in table.items()}
    draws = {name: _average(times, values) for name, values in table.items()}
    found: dict[str, dict[str, Any]] = {}
    for name in table:
        found[name] = {}
        for column, measure in enumerate(MEASURES):
            mean, chance = means[name][column], means["chance"][column]
            one: dict[str, Any] = {"mean": float(mean), "interval": _bound(draws[name][:, column])}
            if name != "chance":
                ratios = _divide(draws[name][:, column], draws["chance"][:, column])
                one |= {"lift": float(mean / chance) if chance > 0 else None, "lift_interval": _bound(ratios)}
            if name not in ("chance", "oracle", "cosine") and "cosine" in table:
                gain = draws["cosine"][:, column] - draws[name][:, column]
                one |= {"gain": float(means["cosine"][column] - mean), "gain_interval": _bound(gain)}
            found[name][measure] = one
    return found


def summarise_findings(
    names: Sequence[str],
    has: np.ndarray,
    precisions: np.ndarray,
    chances: np.ndarray,
    groups: np.ndarray,
    repeats: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Summarises for each finding the queries that have it.

    Args:
        names: sequence of the findings.
        has: bool `(q, n_findings)`: which of them each query has.
        precisions: float `(q, n_findings)`: the share of the first k that have the finding.
        chances: float `(q, n_findings)`: the share of all candidates that have it.
        groups, repeats, seed: as for `summarise_rows`.

    Returns:
        list of dicts of `finding`, `queries`, `precision`, `chance`, `lift` and its `lift_interval`; findings that no
        query has are left out.
    """
    times, found = _draw(groups, repeats, seed), []
    for column, name in enumerate(names):
        chosen = has[:, column]
        if not chosen.any():
            continue
        values = np.stack([precisions[chosen, column], chances[chosen, column]], axis=1)
        precision, chance = values.mean(axis=0).tolist()
        draws = _average(times[:, chosen], values)
        found.append(
            {
                "finding": name,
                "queries": int(chosen.sum()),
                "precision": precision,
                "chance": chance,
                "lift": precision / chance if chance > 0 else None,
                "lift_interval": _bound(_divide(draws[:, 0], draws[:, 1])),
            }
        )
    return found


def _draw(groups, repeats, seed):
    """Draws patients with replacement: float `(repeats, q)`, how often each query is in each draw."""
    return draw_groups(np.random.default_rng(seed), repeats, int(groups.max()) + 1)[:, groups]


def _average(times, values):
    """Returns the mean of each column in each draw, NaN for a draw without any query."""
    total = times.sum(axis=1)
    return _divide(times @ values, np.repeat(total[:, None], values.shape[1], axis=1))


def _divide(above, below):
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _bound(draws):
    return interval(draws) if len(draws) else None
