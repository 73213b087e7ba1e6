"""Results as tables on standard output: the last step of a command."""

import sys


def print_checks(report):
    """A line a check of a `VerifyReport`; what is wrong is said, with examples."""
    rows = [
        [
            check.name,
            check.found,
            "" if check.expected is None else check.expected,
            "wrong" if check.wrong else "",
            "; ".join(check.examples[:3]),
        ]
        for check in report.checks
    ]
    _print_table(["check", "found", "expected", "", "examples"], rows, title=f"{report.folder}: {report.layout}")


def print_results(results):
    """A table for each part (validation, test) of what `kmm.evaluate.compare.compare_models` returned."""
    from kmm.evaluate.card import evaluate_rows

    for part, result in results.items():
        columns, *rows = evaluate_rows(result)
        _print_table(columns, rows, title=f"{part}: {result['n']} studies")


def print_predictions(rows):
    """A line a study of what `kmm.classifier.describe_predictions` returned; a star marks a positive decision."""
    if not rows:
        return
    names = list(rows[0]["probabilities"])
    lines = [
        [
            row["study"],
            "yes" if row["image_present"] else "no",
            "yes" if row["text_present"] else "no",
            *(f"{row['probabilities'][name]:.3f}{' *' if row['decisions'][name] else ''}" for name in names),
        ]
        for row in rows
    ]
    _print_table(["study", "image", "text", *names], lines)


def print_explanations(result):
    """A line a study of a folder that was explained, the first forty; then what a check measured."""
    shown = [row for row in result["rows"] if not row["error"]]
    rows = [
        {
            "study": row["study"],
            "label": row["target"],
            "probability": _number(row["probability"]),
            "circles": row["regions"],
            "strongest at": "" if row["top_x"] is None else f"{row['top_x']:.0f}, {row['top_y']:.0f}",
            "share of text": _number(row["text_share"]),
            "map error": _number(row["map_error"]),
            **({"steps": row["steps"]} if "steps" in row else {}),  # of an export they are always the same
        }
        for row in shown[:MOST_ROWS]
    ]
    title = f"{result['out']}: {result['studies'] - result['failed']} of {result['studies']} studies explained"
    _print_table(list(rows[0]) if rows else [], [list(row.values()) for row in rows], title=title)
    if len(shown) > MOST_ROWS:
        print(f"{len(shown) - MOST_ROWS} more in index.html")
    if "check" in result:
        _print_measures(result["check"])


def print_fidelity(result):
    """What was chosen and measured by `kmm fidelity`."""
    if "sensitivity" in result:
        chosen = result["sensitivity"]
        print(f"Sight sensitivity {chosen['chosen']} (rule {chosen['rule']}, chosen on validation)")
    _print_measures(result["methods"])


MOST_ROWS = 40


def _print_measures(methods):
    """A line a measure, a column a method: the mean, and how many studies it is of."""
    measures = list(dict.fromkeys(name for found in methods.values() for name in found))
    rows = [
        [name, *(_mean_of(found[name]) if name in found else "" for found in methods.values())] for name in measures
    ]
    _print_table(["mean (studies)", *methods], rows)


def _mean_of(measure):
    return f"{_number(measure['mean'])} ({measure['n']})" if measure["n"] else ""


def _number(value):
    return "" if value is None else f"{value:.3f}"


def _print_table(columns, rows, title=None):
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False, highlight=False).print(table)
