"""Sections of the page of a comparison on probabilities and decisions: calibration, selection, net benefit."""

from kmm.experiments.output.figures.prediction_curves import COVERAGES, THRESHOLDS, Curves
from kmm.experiments.output.number_formats import show_estimate, show_number
from kmm.experiments.output.unmeasured import list_unmeasured
from kmm.experiments.schema import Summary, iterate_models
from kmm.experiments.titles import DEFAULT, title_briefly, title_metric, title_model, title_variant
from kmm.pages.parts import Section, Table, group_rows

PLACES = tuple(range(len(COVERAGES) - 1, -1, -2))  # of the coverages in the table


def measure_calibration(summary: Summary) -> Section | None:
    """Lists the errors of the probabilities."""
    metrics = ("brier", "log_loss", "ece")
    groups: dict[str, list[list[str]]] = {}
    for variant, name, found in iterate_models(summary):
        if "brier" in found:
            row = [title_model(name), *(show_estimate(found.get(metric)) for metric in metrics)]
            groups.setdefault(title_variant(variant), []).append(row)
    if not groups:
        return None
    text = (
        "Lower is better. Probabilities were calibrated on validation. ECE is the expected calibration error in bins "
        "of equal mass; it is biased upwards in small test parts."
    )
    head = ("Model", *map(title_metric, metrics))
    table = Table("Errors of the probabilities on the test part", head, group_rows(groups))
    return Section("calibration", "Calibration", (text,), figures=("calibration",), tables=(table,))


def leave_undecided(summary: Summary, curves: Curves) -> Section | None:
    """Lists the risk when the least certain studies are left undecided."""
    groups: dict[str, list[list[str]]] = {}
    for variant, models in curves.items():
        rows = [[title_briefly(name), *(show_number(found.risk[p]) for p in PLACES)] for name, found in models.items()]
        groups[title_variant(variant) or DEFAULT] = rows
    tables = []
    if groups:
        head = ("Model", *(f"{100 * COVERAGES[place]:.0f} % decided" for place in PLACES))
        tables.append(Table("Fraction of wrong decisions among the studies decided", head, group_rows(groups)))
    areas: dict[str, list[list[str]]] = {}
    for variant, labels in (summary.get("selective") or {}).items():
        for label, found in (labels or {}).items():
            cells = [show_estimate(found.get(name)) for name in ("aurc", "oracle", "random")]
            areas.setdefault(title_variant(variant) or DEFAULT, []).append([label, *cells])
    if areas:
        head = ("Label", "Mean risk over coverages", "Best possible order", "Random order")
        tables.append(Table("Selective prediction of the main model", head, group_rows(areas)))
    notes = list_unmeasured(summary, "selective")
    if not tables:
        return Section("selective", "Selective prediction", notes) if notes else None
    text = (
        "If the model may leave the least certain studies to a reader, how many of the others does it decide wrongly?",
    )
    figures = ("risk-coverage",)
    return Section("selective", "Selective prediction", text, figures=figures, tables=tuple(tables), notes=notes)


def trace_benefit(curves: Curves) -> Section | None:
    """Lists net benefit at some thresholds, below the decision curve."""
    places = [THRESHOLDS.index(threshold) for threshold in (0.1, 0.2, 0.3, 0.5, 0.7)]
    groups: dict[str, list[list[str]]] = {}
    for variant, models in curves.items():
        rows = [[title_briefly(name), *(show_number(one.benefit[p]) for p in places)] for name, one in models.items()]
        treat_all = next(iter(models.values())).treat_all
        rows.append(["Act on every study", *(show_number(treat_all[place]) for place in places)])
        groups[title_variant(variant) or DEFAULT] = rows
    if not groups:
        return None
    text = (
        "Net benefit: true positives per study, less false positives times the odds of the threshold. A model is of "
        "use at a threshold if it is above acting on every study and above 0, which is acting on none."
    )
    head = ("Threshold", *(f"{THRESHOLDS[place]:.2f}" for place in places))
    table = Table("Net benefit on the test part, mean over splits and labels", head, group_rows(groups))
    return Section("decision", "Decision curve", (text,), figures=("decision-curve",), tables=(table,))
