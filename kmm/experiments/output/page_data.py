"""Sections of the page of a comparison on data and training: studies, protocol, parts, labels, epochs."""

import numpy as np

from kmm.experiments.output.figures.curve_figures import find_epoch_metrics, trace_epochs
from kmm.experiments.output.methods import GROUPED_BY, PARTS, count_data, describe_resampling
from kmm.experiments.output.number_formats import NOTHING, show_number
from kmm.experiments.schema import MACRO, Summary, choose_metric
from kmm.experiments.tables import Columns, list_values, select
from kmm.experiments.titles import SIDES, title_briefly, title_metric, title_variant
from kmm.pages.parts import Section, Table, group_rows


def describe_data(comparison: Columns, predictions: Columns, summary: Summary) -> Section | None:
    """Describes studies, patients, prevalence, splits, groups and leaks."""
    data, resampling = summary.get("data") or {}, summary.get("resampling") or {}
    facts: list[str] = []
    if counts := count_data(predictions, summary):
        source = f" from {data['name']}" if data.get("name") else ""
        facts.append(f"{' of '.join(f'{count} {name}' for name, count in counts.items())}{source}.")
    if data.get("set_aside"):
        facts.append(f"{data['set_aside']} studies could not be used and were set aside.")
    if resampling:
        facts.append(f"Resampling: {describe_resampling(resampling)}; all models use the same splits.")
    if resampling and not resampling.get("plain"):
        facts.append(f"Studies that share {GROUPED_BY} are in one part. Every split was checked for this.")
    facts += [f"{line}" for line in [_describe_leaks(summary)] if line]
    if data.get("sections"):
        facts.append(f"Sections of the report that the models read: {', '.join(data['sections'])}.")
    facts += [
        f"Split {one['split']}{_name_size(one)} failed and is left out: {one['reason']}"
        for one in summary.get("failed") or ()
    ]
    table = _count_studies(comparison)
    notes = summary.get("notes") or ()
    return Section("data", "Data and splits", points=facts, tables=(table,), notes=notes) if table.rows else None


def _name_size(one):
    return f" with {one['size']} training studies" if one.get("size") else ""


def _describe_leaks(summary):
    leaks = summary.get("leaks") or ()
    if not leaks:
        return ""
    counts = {name: max(one.get(name, 0) for one in leaks) for name in ("patients", "bodies", "films", "studies")}
    return (
        f"Leaks: in up to {len(leaks)} splits, {counts['patients']} patients, {counts['bodies']} report bodies and "
        f"{counts['films']} films are in more than one part, with {counts['studies']} studies. The results are too "
        "optimistic."
    )


def _count_studies(comparison):
    """Counts the studies and positives of each label in a split, as a mean over splits."""
    models = list_values(comparison["model"])
    widest = next((name for name in ("majority", "joint") if name in models), models[0] if models else "")
    first = list_values(comparison["variant"])[:1]
    rows = select(comparison, model=widest, metric="accuracy", variant=first[0] if first else "")
    labels = [label for label in list_values(rows["label"]) if label != MACRO] or list_values(rows["label"])
    lines = []
    for part in PARTS:
        for label in labels:
            found = select(rows, part=part, label=label)
            if len(found["n"]):
                n, positive = float(np.mean(found["n"])), float(np.mean(found["n_positive"]))
                share = f"{100 * positive / n:.1f} %" if n else NOTHING
                lines.append([part, label, f"{n:.0f}", f"{positive:.0f}", share])
    head = ("Part", "Label", "Studies", "Positive", "Prevalence")
    return Table("Studies with a known label per split (mean over splits)", head, lines, words=(1,))


def describe_training(summary: Summary) -> Section | None:
    """Describes the protocol, and what was done otherwise than published."""
    protocol, reduced = summary.get("protocol"), summary.get("reduced")
    if not protocol and reduced is None:
        return None
    lines = [f"Protocol: {protocol}."] if protocol else []
    if reduced:
        lines.append("This is not the published protocol in every respect:")
    elif reduced is not None:
        lines.append("Nothing was reduced against the published protocol.")
    return Section("training", "What was trained, and what was reduced", lines, tuple(reduced or ()))


def list_parts(comparison: Columns, summary: Summary) -> Section | None:
    """Lists accuracy on train, validation and test beside the published tables 1 and 2."""
    rows = select(comparison, metric="accuracy", label=MACRO)
    if "train" not in rows["part"]:
        return None
    groups: dict[str, list[list[str]]] = {}
    for variant in list_values(rows["variant"]):
        for model in (name for name in (*SIDES, "tfidf") if name in rows["model"]):
            cells = [_mean(select(rows, variant=variant, model=model, part=part)["value"]) for part in PARTS]
            groups.setdefault(title_variant(variant), []).append([title_briefly(model), *cells])
    lines = group_rows(groups)
    start = len(lines)
    published = [number for number in summary.get("published") or () if number["metric"] == "accuracy"]
    for what, model in dict.fromkeys((number["what"], number["model"]) for number in published):
        found = {
            number["part"]: number["value"]
            for number in published
            if (number["what"], number["model"]) == (what, model)
        }
        if set(found) == set(PARTS):
            lines.append([f"Published: {title_briefly(model)} ({what})", *(f"{found[part]:.2f}" for part in PARTS)])
    marked = tuple(range(start, len(lines)))
    table = Table("Accuracy by part (mean over splits)", ("Model", *PARTS), lines, published=marked)
    text = "A large gap between train and test is overfitting. Validation chose the epoch, so it is slightly too good."
    return Section("parts", "Train, validation and test", (text,), tables=(table,))


def _mean(values: np.ndarray) -> str:
    numbers = values.astype(float)
    known = numbers[np.isfinite(numbers)]
    return show_number(float(known.mean())) if len(known) else NOTHING


def list_labels(comparison: Columns, summary: Summary) -> Section | None:
    """Lists each label, if there are several."""
    metric = choose_metric(summary)
    rows = select(comparison, part="test", metric=metric)
    labels = [label for label in list_values(rows["label"]) if label != MACRO]
    if len(labels) < 2:
        return None
    labels.sort(key=lambda label: -float(np.mean(select(rows, label=label)["n_positive"])))
    models = [name for name in (*SIDES, "tfidf") if name in rows["model"]]
    groups: dict[str, list[list[str]]] = {}
    for variant in list_values(rows["variant"]):
        for label in labels:
            found = select(rows, variant=variant, label=label)
            if not len(found["value"]):
                continue  # a variant with other labels
            cells = [_mean(select(found, model=model)["value"]) for model in models]
            positive = f"{float(np.mean(found['n_positive'])):.0f}"
            groups.setdefault(title_variant(variant), []).append([label, positive, *cells])
    head = ("Label", "Positive per split", *map(title_briefly, models))
    table = Table(f"{title_metric(metric)} of each label on the test part (mean over splits)", head, group_rows(groups))
    return Section("labels", "Each label", tables=(table,))


def list_epochs(history: Columns) -> Section | None:
    """Lists validation metrics at the last epoch, below figure 5 of the paper."""
    if not len(history.get("metric", ())) or not (metrics := find_epoch_metrics(history)):
        return None
    groups: dict[str, list[list[str]]] = {}
    for variant in list_values(history["variant"]):
        for model in SIDES:
            tables = [trace_epochs(history, variant, model, metric) for metric in metrics.values()]
            if any(table.size for table in tables):
                epochs = str(max(table.shape[1] for table in tables))
                row = [title_briefly(model), epochs, *map(_show_last, tables)]
                groups.setdefault(title_variant(variant), []).append(row)
    head = ("Model", "Epochs", *metrics)
    table = Table("Validation at the last epoch: mean and standard deviation over splits", head, group_rows(groups))
    text = (
        "Figure 5 of Aydin et al. (2019), measured here. The models kept the weights of their best epoch on validation."
    )
    return Section("over-epochs", "Validation over epochs", (text,), figures=("epochs",), tables=(table,))


def _show_last(table):
    known = table[:, -1][np.isfinite(table[:, -1])] if table.size else np.empty(0)
    return f"{show_number(float(known.mean()))} (SD {show_number(float(known.std()))})" if len(known) else NOTHING
