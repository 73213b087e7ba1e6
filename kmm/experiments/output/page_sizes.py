"""Section of the page of a comparison on sizes of the training part: what more studies would give."""

from typing import Any

from kmm.experiments.output.number_formats import NOTHING, show_estimate, show_number
from kmm.experiments.output.size_claims import (
    METRIC,
    iterate_curves,
    list_cautions,
    show_studies,
    show_twice,
    state_wanted,
)
from kmm.experiments.schema import Summary
from kmm.experiments.titles import title_briefly, title_metric, title_variant
from kmm.pages.parts import Section, Table, group_rows

NAME, TITLE = "sizes", "How many studies would it take?"
PARTS = ("train", "validation", "test")


def show_sizes(summary: Summary) -> Section | None:
    """Shows the metrics by number of training studies, their curves, and what a wanted value would take."""
    sizes = summary.get("sizes")
    if not sizes:
        return None
    text = (
        "Each split was also trained on fewer of its training studies. The smaller sets are inside the larger ones, "
        "stratified, and keep together what the splits keep together. The validation part is smaller in proportion, as "
        "in a hospital with fewer studies; the test part is the same. All other sections are about the whole training "
        "part."
    )
    notes = [
        "The curve is a − b · n^(−c), an inverse power law (Figueroa et al., 2012), with a at most 1. Numbers of "
        "studies are training studies; those for validation come on top, in proportion. The intervals treat each split "
        "as one unit and are corrected for the overlap of the splits. They assume that the law holds, and that further "
        "studies are like these.",
    ]
    tables = [_tabulate_values(summary, metric) for metric in (METRIC, "accuracy")]
    said = Table("Notes of the tasks with fewer studies", ("Note",), [[line] for line in sizes["notes"]])
    folded = [_tabulate_parts(sizes), _tabulate_curves(summary), said]
    return Section(
        NAME,
        TITLE,
        (text, *list_cautions(summary)),
        state_wanted(summary),
        figures=("learning-curve",),
        tables=tuple(table for table in tables if table.rows),
        folded=tuple(table for table in folded if table.rows),
        notes=notes,
    )


def _tabulate_values(summary, metric):
    """Lists the mean of a metric at each size, and the fitted value at twice the largest."""
    curves = list(iterate_curves(summary, metric))
    sizes = sorted({point["size"] for _, _, found in curves for point in found["points"]})
    groups: dict[str, list[list[str]]] = {}
    for variant, model, found in curves:
        points = {point["size"]: point for point in found["points"]}
        cells = [show_estimate(points[size]) if size in points else NOTHING for size in sizes]
        groups.setdefault(title_variant(variant), []).append([title_briefly(model), *cells, show_twice(found)])
    caption = f"{title_metric(metric)} on the test part by number of training studies: mean over splits, 95 % interval"
    head = ("Model", *(f"{size:,}" for size in sizes), "Twice as many, fitted")
    return Table(caption, head, group_rows(groups))


def _tabulate_parts(sizes):
    rows: list[list[str]] = []
    for row in sizes["parts"]:
        counts = [f"{row[part]:,.0f}" if part in row else NOTHING for part in PARTS]
        rows.append([f"{row['size']:,}", *counts, str(row["splits"])])
    return Table("Studies of each part (mean over splits)", ("Size", *PARTS, "Splits"), rows)


def _tabulate_curves(summary):
    """Lists the parameters of the curves, with what each approaches."""
    groups: dict[str, list[list[str]]] = {}
    for variant, model, found in iterate_curves(summary):
        curve: Any = found["curve"]
        if curve is None:
            cells = [NOTHING] * 4
        else:
            further = found["line"][-1]
            where = f"{show_number(further['value'])} at {show_studies(further['studies'])}"
            cells = [show_number(curve["a"]), f"{curve['b']:.3g}", f"{curve['c']:.3g}", where]
        groups.setdefault(title_variant(variant), []).append([title_briefly(model), *cells])
    head = ("Model", "a (limit)", "b", "c (rate)", "Fitted, ten times as many")
    return Table(f"Curves fitted to {title_metric(METRIC)}", head, group_rows(groups))
