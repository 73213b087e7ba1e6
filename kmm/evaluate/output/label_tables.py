"""Tables with a row per label that stay readable with many: sorted, rare labels apart, averages below; also as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from kmm.evaluate.label_averages import AVERAGED
from kmm.evaluate.metrics import METRICS
from kmm.evaluate.output.result_rows import ROW_TITLES, show_number, title_briefly

FEW = 10  # studies of a class below which a label is listed apart: its numbers say little
RARE = f"Rare (fewer than {FEW}):"
AVERAGES = {"macro": "Mean over labels", "weighted": "Weighted by positives", "micro": "All decisions together"}


def order_labels(counts: Mapping[str, Mapping[str, int]]) -> tuple[list[str], list[str]]:
    """Orders labels by their positive studies, most first, and those with few studies of a class apart.

    Args:
        counts: mapping of label to `n` and `n_positive`.

    Returns:
        two lists of labels: those with at least `FEW` studies of both classes, and the others.

    Example:
        >>> counts = {"cyst": {"n": 99, "n_positive": 2}, "mass": {"n": 99, "n_positive": 20},
        ...     "edema": {"n": 99, "n_positive": 40}}
        >>> order_labels(counts)
        (['edema', 'mass'], ['cyst'])
    """
    ordered = sorted(counts, key=lambda label: -counts[label]["n_positive"])
    many = [name for name in ordered if FEW <= counts[name]["n_positive"] <= counts[name]["n"] - FEW]
    return many, [name for name in ordered if name not in many]


def arrange_rows(rows: Mapping[str, Sequence[str]], counts: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """Arranges the rows of labels as `order_labels` says, with a heading above those with few studies.

    Args:
        rows: mapping of label to its row, the label first.
        counts: as for `order_labels`.
    """
    many, few = ([list(rows[name]) for name in names if name in rows] for names in order_labels(counts))
    heading = [RARE, *[""] * (len(few[0]) - 1)] if few and many else []
    return [*many, *([heading] if heading else []), *few]


def find_main(result: Mapping[str, Any]) -> str | None:
    """Returns the name of the joint or only classifier of a result with several labels; None for one label."""
    names = [name for name in ROW_TITLES if "per_label" in (result.get(name) or {}) and "micro" in result[name]]
    return names[-1] if names else None


def arrange_table(result: Mapping[str, Any], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Arranges the rows of labels below a header as `arrange_rows` does; a table of one label stays as it is.

    Args:
        result: dict as returned by `kmm.evaluate.compare.compare_models`.
        rows: sequence of rows: the header, then one per label.
    """
    main = find_main(result)
    if main is None or not rows:
        return [list(row) for row in rows]
    return [list(rows[0]), *arrange_rows({row[0]: row for row in rows[1:]}, result[main]["per_label"])]


def measure_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Formats the measures of each label of the joint or only classifier as a table, with intervals, and the averages.

    Args:
        result: dict as returned by `kmm.evaluate.compare.compare_models`.

    Returns:
        list of rows, each a list of str: a header, a row for each label, and one for each average; empty if there is
        only one label.
    """
    name = find_main(result)
    if name is None:
        return []
    row = result[name]
    header = [title_briefly(name), "Studies (positive)", "Threshold", *(METRICS[metric].title for metric in AVERAGED)]
    rows = {
        label: [label, f"{one['n']} ({one['n_positive']})", _show_thresholds(one), *_show_measures(one)]
        for label, one in row["per_label"].items()
    }
    averages = {"macro": row, "weighted": row["weighted"], "micro": row["micro"]}
    below = [[title, "", "", *_show_measures(averages[kind])] for kind, title in AVERAGES.items()]
    return [header, *arrange_rows(rows, row["per_label"]), *below]


def _show_measures(found):
    """Shows measures with the ends of their intervals to two digits, so that all have room."""
    cells = []
    for metric in AVERAGED:
        between = found["intervals"].get(metric)
        ends = f" [{between[0]:.2f}, {between[1]:.2f}]" if between else ""
        cells.append(show_number(found[metric]) + ends)
    return cells


def _show_thresholds(single):
    """Shows the threshold of a label; the lowest and the highest if it depends on what a study has."""
    cuts = single["operating_point"]["thresholds"]
    return " to ".join(f"{cut:.3f}" for cut in dict.fromkeys((cuts[0], cuts[-1]))) if cuts else ""


def write_labels_csv(
    results: Mapping[str, Mapping[str, Any]], sources: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Writes the measures of each label of each model as CSV, and the averages over labels.

    Args:
        results: mapping of part to result, as `kmm.evaluate.report.evaluate_studies` returns it.
        sources: mapping of label to what it was made from, see `kmm.data.labels.LabelScheme.list_sources`; or None.

    Returns:
        str: a header, then a line per part, model and label, sorted as in the tables, and per average (`macro`,
        `weighted`, `micro`). Columns: `part`, `model`, `label`, `n`, `n_positive`, `thresholds`, each metric of
        `AVERAGED` and `<metric>_low`, `<metric>_high`, the ends of its 95 % interval; `made_from`, and `mined`: the
        sections that the text side reads and that labels were made from. A cell is empty where there is no number.
    """
    ends = [name for metric in AVERAGED for name in (metric, f"{metric}_low", f"{metric}_high")]
    head = ["part", "model", "label", "n", "n_positive", "thresholds", *ends, "made_from", "mined"]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    for part, result in results.items():
        mined = " ".join(result.get("mined") or ())
        for model in ROW_TITLES:
            row = result.get(model) or {}
            if "micro" not in row:
                continue
            labels = row["per_label"]
            for label in [name for names in order_labels(labels) for name in names]:
                one = labels[label]
                cuts = " ".join(f"{cut:.6g}" for cut in one["operating_point"]["thresholds"])
                known = {"n": one["n"], "n_positive": one["n_positive"], "thresholds": cuts}
                made = " ".join((sources or {}).get(label, ()))
                place = {"part": part, "model": model, "label": label, "made_from": made, "mined": mined}
                writer.writerow({**place, **known, **_list_ends(one)})
            for kind, found in (("macro", row), ("weighted", row["weighted"]), ("micro", row["micro"])):
                writer.writerow({"part": part, "model": model, "label": kind, "mined": mined, **_list_ends(found)})
    return text.getvalue()


def _list_ends(found):
    cells = {}
    for metric in AVERAGED:
        low, high = found["intervals"].get(metric) or (None, None)
        cells |= {metric: found[metric], f"{metric}_low": low, f"{metric}_high": high}
    return {name: "" if value is None else f"{value:.6g}" for name, value in cells.items()}
