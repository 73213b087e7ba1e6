"""Sections of the page of a comparison on what lies behind the results: leak, sides, errors, calibration, subgroups."""

from collections.abc import Iterable
from typing import Any

from kmm.experiments.figures import name_curve
from kmm.experiments.number_formats import NOTHING, show_estimate, show_number, show_value
from kmm.experiments.page_parts import Section, Table, group_rows, link_inside
from kmm.experiments.schema import Summary, choose_metric, iterate_models
from kmm.experiments.titles import DEFAULT, title_briefly, title_metric, title_model, title_variant
from kmm.explain.output.markup import format_percent, is_known

CLOSE = 0.01  # of ROC AUC: a baseline of words this near to the joint model does as well
MOST_STUDIES = 40  # of a list


def probe_leak(summary: Summary) -> Section | None:
    """Says how much of the answer the words of the reports give away, before and after redaction."""
    models, leak = summary.get("models") or {}, summary.get("leak") or {}
    rows, lines = [], []
    for variant, found in models.items():
        probe = (found.get("tfidf") or {}).get("roc_auc") or {}
        mean = probe.get("mean")
        joint = ((found.get("joint") or {}).get("roc_auc") or {}).get("mean")
        if is_known(mean):
            rows.append([title_variant(variant) or DEFAULT, show_estimate(probe), show_number(joint)])
            if is_known(joint) and mean >= joint - CLOSE:
                where = f"With {title_variant(variant)}, counting" if variant else "Counting"
                lines.append(
                    f"{where} words does as well as the joint model: the text gives the answer away. Such results say "
                    "how well a report can be read, and little about reading films."
                )
    if leak.get("tfidf_auc_after") is not None:
        spans = f" It hid {leak['redacted']} spans of text." if leak.get("redacted") else ""
        lines.append(
            f"Before redaction the probe's ROC AUC was {show_number(leak['tfidf_auc_before'])}, after it "
            f"{show_number(leak['tfidf_auc_after'])}.{spans}"
        )
    if not rows and not lines:
        return None
    text = "The leak probe: TF-IDF with logistic regression on exactly the text that the models read."
    head = ("Variant", "ROC AUC of the probe", "ROC AUC of the joint model")
    tables = (Table("Leak probe, test part", head, rows),) if rows else ()
    return Section("leak", "Does the report give the answer away?", (text, *lines), tables=tables)


def share_sides(summary: Summary) -> Section | None:
    """Says what film and report each give, by Shapley's value, by what is present, and by the errors they mend."""
    tables = [*_list_shares(summary), *_list_present(summary), *_list_alone(summary), *_list_mended(summary)]
    if not tables:
        return None
    lines = []
    if summary.get("shapley"):
        lines.append(
            "The Shapley value of a side is the mean of what it adds to nothing and what it adds to the other side. "
            "The interaction is what both give together beyond their sum: it is negative where they say the same."
        )
    return Section("sides", "What film and report give", lines, figures=("shapley",), tables=tuple(tables))


def _list_shares(summary):
    found = summary.get("shapley") or {}
    rows = [
        [
            title_variant(variant) or DEFAULT,
            *(show_number((one.get("values") or {}).get(name)) for name in ("none", "both")),
            *(_show_share(one.get(name)) for name in ("image", "text", "interaction")),
        ]
        for variant, one in found.items()
    ]
    if not rows:
        return []
    metric = title_metric(next(iter(found.values())).get("metric", "roc_auc"))
    head = ("Variant", "Seeing nothing", "Seeing both", "Share of the film", "Share of the report", "Interaction")
    return [Table(f"Shapley values of the joint model's {metric}", head, rows)]


def _show_share(share):
    return show_value((share or {}).get("value"), (share or {}).get("interval"))


def _list_present(summary):
    found = summary.get("by_present") or ()
    rows = [
        [
            ", ".join(filter(None, (one["group"], title_variant(one.get("variant", ""))))),
            title_briefly(one.get("model", "joint")),
            str(one["n"]),
            f"{title_metric(one['metric'])} {show_value(one.get('value'), one.get('interval'))}",
            one.get("note") or "",
        ]
        for one in found
    ]
    head = ("Present", "Model", "Studies", "Result", "Note")
    return [Table("Results by what a study has", head, rows, words=(1, 4))] if rows else []


def _list_alone(summary):
    """Lists the joint model when one side of each study is hidden, beside the models of the sides."""
    metric, rows = choose_metric(summary), []
    for variant, found in (summary.get("models") or {}).items():
        for side, hidden in (("image", "joint-image"), ("text", "joint-text")):
            if hidden in found:
                pair = [(found.get(name) or {}).get(metric) for name in (hidden, side)]
                title = ", ".join(filter(None, (f"{side} alone", title_variant(variant))))
                rows.append([title, *map(show_estimate, pair)])
    head = ("What the model sees", "Joint model, other side hidden", "Model of that side")
    return [Table(f"The joint model when it sees one side: {title_metric(metric)}", head, rows)] if rows else []


def _list_mended(summary):
    tables = []
    for variant, sides in (summary.get("errors_mended") or {}).items():
        for side, found in sides.items():
            studies = found.get("studies") or ()
            rows = [
                [
                    link_inside(str(one["study"]), one.get("explanation")),
                    str(one.get("label", NOTHING)),
                    "positive" if one.get("truth") else "negative",
                    str(one["outcome"]),
                ]
                for one in studies[:MOST_STUDIES]
            ]
            where = f" ({title_variant(variant)})" if variant else ""
            more = f"; the first {MOST_STUDIES} are listed" if len(studies) > MOST_STUDIES else ""
            caption = (
                f"Errors of the {side} model that the joint model mended ({found.get('mended', 0)}), and right "
                f"decisions that it broke ({found.get('broken', 0)}){where}{more}"
            )
            tables.append(Table(caption, ("Study", "Label", "Truth", "Joint model"), rows, words=(1, 2, 3)))
    return tables


def swap_reports(summary: Summary) -> Section | None:
    """Says how far the joint model is misled by the report of another study."""
    found = summary.get("wrong_report") or {}
    rows = [
        [
            title_variant(variant) or DEFAULT,
            str(one.get("n", NOTHING)),
            *(show_number(one.get(name)) for name in ("right", "wrong", "image")),
            format_percent(one.get("flipped")),
        ]
        for variant, one in found.items()
    ]
    if not rows:
        return None
    metric = title_metric(next(iter(found.values())).get("metric", "roc_auc"))
    text = (
        "Each film was given the report of another study. A model that reads the film would stay near the image model; "
        "a model that follows the report would fall to chance."
    )
    head = ("Variant", "Studies", "Own report", "Another's report", "Image model", "Decisions changed")
    return Section("wrong-report", "With a wrong report", (text,), tables=(Table(metric, head, rows),))


def measure_calibration(summary: Summary) -> Section | None:
    """Lists the errors of the probabilities."""
    metrics = ("brier", "log_loss", "ece")
    groups: dict[str, list[list[str]]] = {}
    for variant, name, found in iterate_models(summary):
        if "brier" in found:
            row = [title_model(name), *(show_estimate(found.get(metric)) for metric in metrics)]
            groups.setdefault(title_variant(variant), []).append(row)
    rows = group_rows(groups)
    if not rows:
        return None
    text = (
        "Lower is better. Probabilities were calibrated on validation. ECE is the expected calibration error in bins "
        "of equal mass; it is biased upwards in small test parts."
    )
    table = Table("Errors of the probabilities on the test part", ("Model", *map(title_metric, metrics)), rows)
    return Section("calibration", "Calibration", (text,), tables=(table,))


def measure_selection(summary: Summary) -> Section | None:
    """Lists the risk when the least certain studies are left undecided, and conformal sets."""
    tables, figures = [], []
    for number, (variant, models) in enumerate((summary.get("selective") or {}).items(), start=1):
        coverages = list(dict.fromkeys(at["coverage"] for one in models.values() for at in one["risk"]))
        rows = []
        for name, one in models.items():
            risks = {at["coverage"]: at["risk"] for at in one["risk"]}
            areas = [show_number(one.get(key)) for key in ("aurc", "oracle", "random")]
            rows.append([title_briefly(name), *(show_number(risks.get(at)) for at in coverages), *areas])
        if rows:
            where = f" ({title_variant(variant)})" if variant else ""
            head = (
                "Model",
                *(f"{100 * at:.0f} % decided" for at in coverages),
                "Mean risk",
                "Best possible",
                "Random order",
            )
            tables.append(Table(f"Fraction of wrong decisions among the studies decided{where}", head, rows))
            figures.append(name_curve("risk-coverage", number))
    tables += _list_sets(summary.get("conformal") or {})
    if not tables:
        return None
    text = (
        "If the model may leave the least certain studies to a reader, how many of the others does it decide wrongly?"
    )
    return Section("selective", "Selective prediction", (text,), figures=tuple(figures), tables=tuple(tables))


def _list_sets(found):
    rows = [
        [
            ", ".join(filter(None, (title_briefly(name), title_variant(variant)))),
            format_percent(one.get("level")),
            format_percent(one.get("coverage")),
            show_number(one.get("mean_size"), 2),
            format_percent(one.get("abstained")),
        ]
        for variant, models in found.items()
        for name, one in models.items()
    ]
    head = ("Model", "Nominal coverage", "Measured coverage", "Mean size of a set", "No decision")
    return [Table("Mondrian conformal sets on the test part", head, rows)] if rows else []


def trace_benefit(summary: Summary) -> Section | None:
    """Lists net benefit at some thresholds, below the decision curve."""
    tables, figures = [], []
    for number, (variant, models) in enumerate((summary.get("decision_curve") or {}).items(), start=1):
        if not models:
            continue
        first = next(iter(models.values()))
        places = _choose_places(first["thresholds"])
        rows = [
            [title_briefly(name), *(show_number(one["net_benefit"][place]) for place in places)]
            for name, one in models.items()
        ]
        rows.append(["Act on every study", *(show_number(first["treat_all"][place]) for place in places)])
        where = f" ({title_variant(variant)})" if variant else ""
        head = ("Net benefit at threshold", *(f"{first['thresholds'][place]:.2f}" for place in places))
        tables.append(Table(f"Net benefit{where}; acting on none is 0", head, rows))
        figures.append(name_curve("decision-curve", number))
    if not tables:
        return None
    text = "Net benefit: true positives per study, less false positives times the odds of the threshold."
    return Section("decision", "Decision curve", (text,), figures=tuple(figures), tables=tuple(tables))


def _choose_places(thresholds: Iterable[float]) -> list[int]:
    """Returns the places of the thresholds nearest to round numbers."""
    values = list(thresholds)
    wanted = (0.1, 0.2, 0.3, 0.5, 0.7)
    return list(dict.fromkeys(min(range(len(values)), key=lambda i: abs(values[i] - one)) for one in wanted))


def list_subgroups(summary: Summary) -> Section | None:
    """Lists results by subgroup, with a note where there are too few studies."""
    rows: list[Any] = [
        [
            ", ".join(filter(None, (f"{one['attribute']}: {one['group']}", title_variant(one.get("variant", ""))))),
            title_briefly(one.get("model", "joint")),
            f"{one['n']} ({one.get('n_positive', NOTHING)})",
            f"{title_metric(one['metric'])} {show_value(one.get('value'), one.get('interval'))}",
            one.get("note") or "",
        ]
        for one in summary.get("subgroups") or ()
    ]
    if not rows:
        return None
    text = "Many subgroups were looked at, without correction: a subgroup that stands out is a question, not a finding."
    head = ("Subgroup", "Model", "n (positive)", "Result", "Note")
    table = Table("Subgroups of the test part", head, rows, words=(1, 4))
    return Section("subgroups", "Subgroups", (text,), figures=("subgroups",), tables=(table,))
