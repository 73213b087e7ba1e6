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


def _print_table(columns, rows, title=None):
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False, highlight=False).print(table)
