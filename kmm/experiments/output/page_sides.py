"""Sections of the page of a comparison on what lies behind the results: leak, sides, errors, subgroups, label rules."""

from typing import Any

from kmm.evaluate.output.p_values import show_p
from kmm.experiments.output.claims import find_claims
from kmm.experiments.output.figures.drawings import capitalize
from kmm.experiments.output.figures.interval_figures import ALL
from kmm.experiments.output.number_formats import show_estimate, show_number, show_signed, show_value
from kmm.experiments.output.unmeasured import list_unmeasured
from kmm.experiments.schema import Summary, choose_metric, choose_shares
from kmm.experiments.titles import DEFAULT, SIDES, title_briefly, title_metric, title_variant
from kmm.explain.output.markup import format_percent, is_known
from kmm.pages.parts import Section, Table, group_rows, link_inside

HIGH = 0.9  # ROC AUC of words alone with which they give the answer away
TELLING = (
    "the text gives the answer away. Such results say how well a report can be read, and little about reading films."
)
NO_GAIN = "neither the film nor the order of the words adds anything that shows."
CLOSE = 0.01  # of ROC AUC: a baseline of words this near to the joint model does as well
FEW_STUDIES = 50  # of a subgroup: no interval of its accuracy is shown
SMALL = f"fewer than {FEW_STUDIES} studies"
MOST_STUDIES = 10  # of a comparison and label
SHARES = ("Share of the film", "Share of the report")
WRONG, RULES = "With a wrong report", "Other label rules"  # titles of sections
REPORTS = ("right_report", "wrong_report", "film_alone")


def probe_leak(summary: Summary) -> Section | None:
    """Says how much of the answer the words of the reports give away, before and after redaction."""
    leak = summary.get("leak") or {}
    redacted = any((found or {}).get("redacted") for found in leak.values())
    rows, lines = [], []
    for variant, models in (summary.get("models") or {}).items():
        probe = (models.get("tfidf") or {}).get("roc_auc") or {}
        joint, mean = ((models.get("joint") or {}).get("roc_auc") or {}).get("mean"), probe.get("mean")
        if not is_known(mean):
            continue
        before = [show_estimate((leak.get(variant) or {}).get("tfidf_auc_before"))] if redacted else []
        found = find_claims(summary, variant, "roc_auc", beside=True).get("tfidf") or {}
        value = found.get("difference")
        gain = show_value(value, found.get("interval"), signed=True)
        rows.append([title_variant(variant) or DEFAULT, *before, show_estimate(probe), show_number(joint), gain])
        if is_known(value) and value <= CLOSE:
            where = f"With {title_variant(variant)}, counting" if variant else "Counting"
            lines.append(f"{where} words does as well as the joint model: {TELLING if mean >= HIGH else NO_GAIN}")
    if not rows:
        return None
    text = (
        "The leak probe: TF-IDF with logistic regression on exactly the text that the models read. Joint − probe is "
        "measured on the studies of both, those with a report."
    )
    if redacted:
        text += " Spans of the reports were hidden from the models; the probe was measured before and after that."
    head = ("Variant", *(["Probe before redaction"] if redacted else []), "Probe", "Joint model", "Joint − probe")
    table = Table("ROC AUC of the leak probe and of the joint model, test part", head, rows)
    return Section("leak", "Does the report give the answer away?", (text, *lines), tables=(table,))


def share_sides(summary: Summary) -> Section | None:
    """Says what film and report each give, by Shapley's value, and what the joint model does with one side alone."""
    shares = choose_shares(summary)
    tables = [*_list_shares(shares, title_metric(choose_metric(summary))), *_list_alone(summary)]
    notes = list_unmeasured(summary, "shapley")
    if not tables and not notes:
        return None
    lines = []
    if shares:
        lines.append(
            "The Shapley value of a side is the mean of what it adds to nothing and what it adds to the other side. "
            "The interaction is what both give together beyond their sum: it is negative where they say the same. "
            "Measured on studies with film and report, one side hidden."
        )
    return Section("sides", "What film and report give", lines, figures=("shapley",), tables=tuple(tables), notes=notes)


def _list_shares(shares, metric):
    rows = [
        [
            title_variant(variant) or DEFAULT,
            *(show_number(((found.get("values") or {}).get(name) or {}).get("mean")) for name in ("none", "both")),
            *(show_estimate((found.get(name) or {}).get("value")) for name in ("image", "text", "interaction")),
        ]
        for variant, found in shares.items()
    ]
    head = ("Variant", "Seeing nothing", "Seeing both", "Share of the film", "Share of the report", "Interaction")
    return [Table(f"Shapley values of the joint model's {metric}", head, rows)] if rows else []


def _list_alone(summary):
    """Lists the joint model when one side of each study is hidden, beside the models of the sides."""
    metric, groups = choose_metric(summary), {}
    for variant, found in (summary.get("models") or {}).items():
        for side, title, hidden in (("image", "film alone", "joint-image"), ("text", "report alone", "joint-text")):
            if hidden in found:
                pair = [show_estimate((found.get(name) or {}).get(metric)) for name in (hidden, side)]
                groups.setdefault(title_variant(variant), []).append([title, *pair])
    head = ("What the model sees", "Joint model", "Model of that side")
    caption = f"The joint model when it sees one side of each study: {title_metric(metric)}"
    return [Table(caption, head, group_rows(groups))] if groups else []


def list_errors(summary: Summary) -> Section | None:
    """Lists the studies that the joint model mends and breaks."""
    found = summary.get("errors_mended") or ()
    groups: dict[str, list[Any]] = {}
    studies: dict[str, list[Any]] = {}
    for one in found:
        against = "image and text model" if one["other"] == "all" else f"{one['other']} model"
        counts = [str(one[name]) for name in ("n", "both_right", "mended", "broken", "both_wrong")]
        variant = title_variant(one["variant"])
        groups.setdefault(variant, []).append([against, one["label"], *counts, show_p(one.get("p"))])
        if one["other"] != "all":
            for study in one["studies"][:MOST_STUDIES]:
                truth = "positive" if study["truth"] else "negative"
                other = show_number((study.get("others") or {}).get(one["other"]))
                link = link_inside(str(study["study"]), study.get("explanation"))
                shares = [show_signed(study.get(name)) for name in ("image_share", "report_share")]
                numbers = [show_number(study.get("probability")), *shares, other]
                where = f"{variant}, {against}" if variant else against
                studies.setdefault(capitalize(where), []).append([link, one["label"], study["what"], truth, *numbers])
    if not groups:
        return None
    text = (
        "Mended: the joint model is right where the other model is wrong. Broken: the reverse. Decisions on the test "
        "parts of all splits are counted, so a study may count several times; then there is no p (of McNemar's test)."
    )
    head = ("Compared with", "Label", "Decisions", "Both right", "Mended", "Broken", "Both wrong", "p")
    tables = [Table("Decisions of the joint model and of another one", head, group_rows(groups), words=(1,))]
    if studies:
        columns = ("Study", "Label", "Joint model", "Truth", "Joint probability", *SHARES, "Other probability")
        explained = any(study.get("explanation") for one in found for study in one["studies"])
        which = f"the {MOST_STUDIES} clearest" if not explained else f"{MOST_STUDIES}, those with an explanation first,"
        caption = (
            f"Studies mended and broken: {which} of each comparison and label. The shares of film and report (Shapley) "
            "sum to the joint probability minus the prevalence"
        )
        tables.append(Table(caption, columns, group_rows(studies), words=(1, 2, 3)))
    return Section("errors", "Errors mended and broken", (text,), tables=tuple(tables))


def swap_reports(summary: Summary) -> Section | None:
    """Says how far the joint model is misled by the report of another study."""
    groups: dict[str, list[Any]] = {}
    for variant, found in (summary.get("wrong_report") or {}).items():
        for label, one in ((found or {}).get("per_label") or {}).items():
            areas = [show_estimate((one.get("roc_auc") or {}).get(name)) for name in REPORTS]
            shares = [format_percent((one.get(name) or {}).get("mean")) for name in ("flipped", "follows_report")]
            groups.setdefault(title_variant(variant), []).append([label, *areas, *shares])
    notes = list_unmeasured(summary, "wrong_report")
    if not groups:
        return Section("wrong-report", WRONG, notes) if notes else None
    text = (
        "Each film was given the report of another study, with the other label where possible. A model that reads the "
        "film would stay near its result with the film alone; a model that follows the report would fall far below. "
        "ROC AUC is measured against the label of the film."
    )
    head = ("Label", "Right report", "Wrong report", "Film alone", "Decisions changed", "Decided as the report says")
    caption = "ROC AUC of the joint model with right and wrong reports, and what becomes of its decisions"
    table = Table(caption, head, group_rows(groups))
    return Section("wrong-report", WRONG, (text,), tables=(table,), notes=notes)


def list_subgroups(summary: Summary) -> Section | None:
    """Lists results by subgroup, with a note where there are too few studies."""
    groups: dict[str, list[Any]] = {}
    several = len(summary.get("labels") or ()) > 1
    for variant, found in (summary.get("subgroups") or {}).items():
        for one in found or ():
            name = ", ".join(filter(None, (str(one["value"]), one["label"] if several else "")))
            numbers = [(one.get(key) or {}).get("mean") for key in ("n", "n_positive")]
            few = not is_known(numbers[0]) or numbers[0] < FEW_STUDIES
            accuracy: Any = one.get("accuracy") or {}
            cells = [
                *(show_number(number, 0) for number in numbers),
                show_estimate(one.get("roc_auc")),
                show_number(accuracy.get("mean")) if few else show_estimate(accuracy),
            ]
            grouping = "all studies" if one["grouping"] == ALL else str(one["grouping"])
            title = ", ".join(filter(None, (title_variant(variant), grouping)))
            groups.setdefault(title, []).append([name, *cells, one.get("note") or _note_missing(one) or SMALL * few])
    notes = list_unmeasured(summary, "subgroups")
    if not groups:
        return Section("subgroups", "Subgroups", notes) if notes else None
    text = (
        "Many subgroups were looked at, without correction: a subgroup that stands out is a question, not a finding. "
        "Counts are means over splits. A split in which a subgroup has too few studies of a class gives no ROC AUC."
    )
    head = ("Subgroup", "Studies", "Positive", "ROC AUC", "Accuracy", "Note")
    table = Table("The main model in subgroups of the test part", head, group_rows(groups), words=(5,))
    return Section("subgroups", "Subgroups", (text,), figures=("subgroups",), tables=(table,), notes=notes)


def _note_missing(one):
    """Says in how many splits a subgroup was too small for a ROC AUC."""
    area = one.get("roc_auc") or {}
    left_out, measured = area.get("left_out") or 0, area.get("n") or 0
    if not measured:
        return "too few studies of a class for a ROC AUC"
    return f"too small in {left_out} of {left_out + measured} splits" if left_out else ""


def vary_labels(summary: Summary) -> Section | None:
    """Lists the same predictions measured against the labels of other rules."""
    groups: dict[str, list[list[str]]] = {}
    names: list[str] = []
    for variant, schemes in (summary.get("label_schemes") or {}).items():
        for scheme, found in (schemes or {}).items():
            measured = found.get("rows") or {}
            names = names or [name for name in (*SIDES, "tfidf") if name in measured]
            changed = show_number((found.get("changed") or {}).get("mean"), 0)
            cells = [show_estimate((measured.get(name) or {}).get("roc_auc")) for name in names]
            same = f" (same as {found['same_as']})" if found.get("same_as") else ""
            groups.setdefault(title_variant(variant), []).append([f"{scheme}{same}", changed, *cells])
    notes = list_unmeasured(summary, "label_schemes")
    if not groups:
        return Section("label-rules", RULES, notes) if notes else None
    text = "The models are the same; only the labels that they are measured against follow another rule."
    head = ("Label rule", "Labels changed", *(f"{title_briefly(name)}, ROC AUC" for name in names))
    table = Table("Results under other label rules", head, group_rows(groups))
    return Section("label-rules", RULES, (text,), tables=(table,), notes=notes)
