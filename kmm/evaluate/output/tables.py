"""Write the results of an evaluation as text: the tables that the command line prints and that a notebook shows."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from kmm.evaluate.breakdown.shift import describe_shift
from kmm.evaluate.breakdown.subgroups import subgroup_rows
from kmm.evaluate.label_source import state_mined
from kmm.evaluate.leak_probe import describe_leak
from kmm.evaluate.output.label_tables import arrange_table, measure_rows
from kmm.evaluate.output.result_rows import (
    MEASURED_ON,
    ROW_TITLES,
    compare_rows,
    evaluate_rows,
    judge_baselines,
    label_rows,
    operating_rows,
    title_briefly,
)

WIDTH = 160  # columns of a table that is not printed on a terminal
SHORT_TITLES = {  # the intervals need the space
    "Studies (positive)": "n (positive)",
    "Balanced accuracy": "Bal. acc.",
    "Sensitivity": "Sens.",
    "Specificity": "Spec.",
}


def write_results_table(
    results: Mapping[str, Mapping[str, Any]], *, terminal: bool = False, subgroups: bool = False
) -> str:
    """Writes a table for each part (validation, test) of the results of `kmm.evaluate.compare.compare_models`.

    Accuracy and area under the ROC curve have 95 % intervals over patients. Below the table are the differences of the
    joint classifier from image and text, what shifted since training, the confusion counts at the stored thresholds,
    and for several labels tables of the measures of each, sorted by their positive studies, with their averages.

    Args:
        results: mapping of part to result.
        terminal: bool. Whether the text is for a terminal: of its width, with bold headers.
        subgroups: bool. Whether a table of the subgroups follows.

    Returns:
        str of several lines, with a newline at the end.
    """
    return "".join(
        _write_part(part, result, terminal) + (_write_subgroups(part, result, terminal) if subgroups else "")
        for part, result in results.items()
    )


def _write_subgroups(part, result, terminal):
    rows = subgroup_rows(result.get("subgroups") or [])
    if len(rows) < 2:
        return ""
    title = _title(result, f"{part}: subgroups [95 % interval]")
    return write_table(rows[0], rows[1:], title=title, terminal=terminal)


def _title(result, text):
    """Adds to the title of a table that the text side reads what the labels were made from."""
    return "; ".join(filter(None, [text, state_mined(result)]))


def _write_part(part, result, terminal):
    columns, *rows = evaluate_rows(result, intervals=("accuracy", "roc_auc"))
    columns = [SHORT_TITLES.get(title, title) for title in columns]
    brief = {title: title_briefly(name) for name, title in ROW_TITLES.items()}
    rows = [[brief[title], *cells] for title, *cells in rows]
    text = write_table(columns, rows, title=_title(result, f"{part}: {result['n']} studies"), terminal=terminal)
    lines = [result["caution"]] if "caution" in result else []
    if any((result.get(name) or {}).get("n", result["n"]) != result["n"] for name in ("image", "text", "tfidf")):
        lines.append(MEASURED_ON)
    lines += [line for line in compare_rows(result, ("image", "text")) if "ROC AUC" in line]
    lines += judge_baselines(result)
    lines += describe_leak(result)
    lines += describe_shift(result["shift"]) if "shift" in result else []
    text += "".join(f"{line}\n" for line in lines)
    if measures := measure_rows(result):
        title = _title(result, f"{part}: each label at its threshold [95 % interval]")
        head = [SHORT_TITLES.get(cell, cell) for cell in measures[0]]
        text += write_table(head, measures[1:], title=title, terminal=terminal)
    if points := operating_rows(result):
        points = arrange_table(result, points)
        title = _title(result, f"{part}: decisions at the stored thresholds [95 % interval]")
        text += write_table(points[0], points[1:], title=title, terminal=terminal)
    if labels := label_rows(result):
        labels = arrange_table(result, labels)
        title = _title(result, f"{part}: ROC AUC of each label [95 % interval]")
        text += write_table(labels[0], labels[1:], title=title, terminal=terminal)
    return text


def write_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None, terminal: bool = False
) -> str:
    """Writes rows as a table of plain text.

    Args:
        columns: sequence of str, the header.
        rows: sequence of rows, each a sequence of cells.
        title: str, or None.
        terminal: bool, as in `write_results_table`.

    Returns:
        str of several lines, with a newline at the end.

    Example:
        >>> print(write_table(["label", "n"], [["mass", 9]], title="test").splitlines()[0].strip())
        test
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    text = io.StringIO()
    width = None if terminal else WIDTH
    Console(file=text, width=width, markup=False, highlight=False, force_terminal=terminal).print(table)
    return text.getvalue()
