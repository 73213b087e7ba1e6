"""Studies that one model decides rightly and another wrongly: what the joint model mends, and what it breaks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kmm.errors import InputError
from kmm.evaluate.statistics.paired_tests import compare_accuracy

Columns = Mapping[str, np.ndarray]
NEEDED = ("split", "variant", "part", "study", "patient", "model", "label", "truth", "probability", "threshold")
SIDES = {"image": "has_image", "image-linear": "has_image", "text": "has_report", "tfidf": "has_report"}
SHARES = ("image_share", "report_share")
ALL_OTHERS = "all"
REPEATED = "studies are in the test part of several splits: p is left out"


class _Row(NamedTuple):
    """A prediction of one study by one model."""

    truth: float
    probability: float
    right: bool
    patient: str
    shares: dict[str, float]


def tabulate_errors(
    columns: Columns, *, model: str = "joint", others: Sequence[str] = ("image", "text"), part: str = "test"
) -> list[dict[str, Any]]:
    """Counts and lists the studies that a model mends or breaks, compared with others.

    A study is mended if the model decides it rightly and the other wrongly, and broken if it is the reverse. Compared
    with `"all"`, all of the others decide it wrongly, or rightly; studies on which they differ are in none of the four
    counts. A model of films is compared on studies with a film, a model of reports on studies with a report.

    Args:
        columns: dict of column to array, one row per study, model and label: `split`, `variant`, `part`, `study`,
            `patient`, `model`, `label`, `truth` (0, 1 or NaN), `probability`, `threshold`; if there are studies without
            them, `has_image` and `has_report`; and, if they are known, `image_share` and `report_share`.
        model: str. The model that mends or breaks.
        others: sequence of str. Those that are not among the predictions are left out.
        part: str. Part of the splits.

    Returns:
        list of dicts for JSON, one per variant, label and other: `variant`, `label`, `other`, `n`, the counts
        `both_right`, `mended`, `broken` and `both_wrong`, `p` of McNemar's exact test over patients (None if studies
        are in several splits, and for `"all"`), `note` (str), and `studies`: the mended and the broken, those whose
        probability differs most first, each with `split`, `study`, `what` (`"mended"` or `"broken"`), `truth`,
        `probability`, `others` (dict of model to its probability), and the shares of film and report in the probability
        that are known.

    Raises:
        InputError: if a column is missing, or the model has no predictions in the part.

    Example:
        >>> rows = [("1", "", "test", "7", "a", "joint", "mass", 1.0, 0.8, 0.5),
        ...         ("1", "", "test", "7", "a", "text", "mass", 1.0, 0.3, 0.5)]
        >>> (found,) = tabulate_errors({name: np.array(values) for name, values in zip(NEEDED, zip(*rows))})
        >>> found["mended"], found["broken"], found["studies"][0]["study"], found["studies"][0]["what"]
        (1, 0, '7', 'mended')
    """
    if missing := [name for name in NEEDED if name not in columns]:
        raise InputError(f"The table of predictions lacks the columns {', '.join(missing)}.")
    tables = _gather(columns, part)
    found = []
    for (variant, label), models in tables.items():
        present = [other for other in others if models.get(other)]
        if not models.get(model):
            continue
        for names in ([other] for other in present):
            found.append({"variant": variant, "label": label, **_compare(models, model, names)})
        if len(present) > 1:
            found.append({"variant": variant, "label": label, **_compare(models, model, present)})
    if not any(models.get(model) for models in tables.values()):
        raise InputError(f"The table has no predictions of the model {model!r} in the part {part!r}.")
    return found


def _gather(columns: Columns, part: str) -> dict[tuple[str, str], dict[str, dict[tuple[str, str], _Row]]]:
    """Returns a dict of (variant, label) to a dict of model to a dict of (split, study) to `_Row`."""
    tables: dict[tuple[str, str], dict[str, dict[tuple[str, str], _Row]]] = {}
    chosen = (columns["part"] == part) & ~np.isnan(np.asarray(columns["truth"], np.float64))
    for model, side in SIDES.items():
        if side in columns:
            chosen &= (columns["model"] != model) | np.asarray(columns[side]).astype(bool)
    for row in np.flatnonzero(chosen):
        variant, label, model, split, study, patient = (
            str(columns[name][row]) for name in ("variant", "label", "model", "split", "study", "patient")
        )
        truth, probability, cut = (float(columns[name][row]) for name in ("truth", "probability", "threshold"))
        rows = tables.setdefault((variant, label), {}).setdefault(model, {})
        shares = {name: float(columns[name][row]) for name in SHARES if name in columns}
        known = {name: share for name, share in shares.items() if not np.isnan(share)}
        rows[split, study] = _Row(truth, probability, (probability >= cut) == (truth == 1), patient, known)
    return tables


def _compare(models, model, others):
    own, tables = models[model], [models[other] for other in others]
    keys = [key for key in own if all(key in table for table in tables)]
    right = np.array([own[key].right for key in keys], bool)
    marks = np.array([[table[key].right for table in tables] for key in keys], bool).reshape(len(keys), len(tables))
    all_right, all_wrong = marks.all(axis=1), ~marks.any(axis=1)
    counts = {
        "n": len(keys),
        "both_right": int((right & all_right).sum()),
        "mended": int((right & all_wrong).sum()),
        "broken": int((~right & all_right).sum()),
        "both_wrong": int((~right & all_wrong).sum()),
    }
    p, note = None, ""
    if len(tables) == 1 and len({study for _, study in keys}) < len(keys):
        note = REPEATED
    elif len(tables) == 1:
        # Compared with labels of 1, a right decision is 1 and a wrong one 0.
        patients = [own[key].patient for key in keys]
        p = compare_accuracy(np.ones(len(keys)), right.astype(float), all_right.astype(float), patients)["p"]
    whats = np.where(right & all_wrong, "mended", np.where(~right & all_right, "broken", ""))
    listed = [
        {
            "split": key[0],
            "study": key[1],
            "what": str(what),
            "truth": own[key].truth,
            "probability": own[key].probability,
            "others": {other: table[key].probability for other, table in zip(others, tables, strict=True)},
            **own[key].shares,
        }
        for key, what in zip(keys, whats, strict=True)
        if what
    ]
    listed.sort(key=lambda one: -max(abs(one["probability"] - other) for other in one["others"].values()))
    other = others[0] if len(others) == 1 else ALL_OTHERS
    return {"other": other, **counts, "p": p, "note": note, "studies": listed}
