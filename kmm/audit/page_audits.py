"""Sections of the page of an audit on label schemes, views and copies."""

from collections.abc import Mapping
from typing import Any

from kmm.audit.page_numbers import say, show, tabulate_classes
from kmm.audit.view_sources import VIEWS
from kmm.pages.parts import Section, Table

Audit = Mapping[str, Any]


def compare_schemes(audit: Audit) -> Section:
    """Shows what each label scheme says of the studies, and how many studies change between two schemes."""
    schemes = audit["label_schemes"]
    given = [row for row in schemes if "reason" not in row]
    notes = _list_reasons(schemes)
    if not given:
        return Section("labels", "Audit of labels", ["No label scheme gives a label."], notes=notes)
    rows = [
        [row["scheme"], row["description"].replace("`", ""), *(show(row[key]) for key in ("studies", "left_out")),
         show(len(row["counts"])), *(show(row[kind]) for kind in ("positive", "negative", "unknown"))]
        for row in given
    ]  # fmt: skip
    head = ("Scheme", "Rule", "Studies", "Left out", "Labels", "Positive", "Negative", "Unknown")
    tables = [Table("Label schemes side by side (positive, negative, unknown: sums over labels)", head, rows, (1,))]
    if changes := audit["label_changes"]:
        cells = [
            [f"{row['scheme']} and {row['other']}", *(show(row[key]) for key in ("labels", "changed", "flipped"))]
            for row in changes
        ]
        titles = ("Schemes", "Labels in common", "Studies that change", "Of these, 0 to 1 or back")
        tables.append(Table("Studies whose labels change between two schemes", titles, cells))
        if any(row["changed"] > row["flipped"] for row in changes):
            notes.append("The other studies that change have a label that only one of the two schemes knows.")
    folded = [
        tabulate_classes(f"Labels of the scheme {row['scheme']}", row["counts"])
        for row in given
        if len(row["counts"]) > 1
    ]
    return Section("labels", "Audit of labels", tables=tuple(tables), folded=tuple(folded), notes=notes)


def tabulate_pairs(classes: Audit) -> list[Table]:
    """Makes the table of labels that occur together, as of `kmm.data.label_pairs.count_pairs`; none for one label."""
    rows = [
        [row["label"], row["other"], *(show(row[key]) for key in ("both", "expected", "known"))]
        for row in classes.get("pairs") or []
    ]
    head = ("Label", "Other label", "Studies with both", "Expected by chance", "Both known")
    return [Table("Labels that occur together", head, rows, (1,))] if rows else []


def tabulate_rules(classes: Audit) -> list[Table]:
    """Makes the table of what the entries of label rules took, as of `kmm.rules.rule_audit.audit_rules`; none without
    rules."""
    counts = ("studies", "affirmed", "negated", "uncertain", "decided")
    rows = [
        [row["label"], entry["kind"], entry["entry"], *(show(entry[count]) for count in counts)]
        for row in classes.get("rules") or []
        for entry in row["entries"]
    ]
    head = ("Label", "List", "Entry", *map(str.capitalize, counts))
    return [Table("Studies that each entry of the label rules took", head, rows, (1, 2))] if rows else []


def _list_reasons(schemes):
    """Says why schemes give no label, those with the same reason together."""
    names: dict[str, list[str]] = {}
    for row in schemes:
        if "reason" in row:
            names.setdefault(row["reason"], []).append(row["scheme"])
    return [f"No label by {', '.join(found)}. {reason}" for reason, found in names.items()]


def count_views(audit: Audit) -> Section:
    """Shows the films by view and by the source of the view."""
    films = audit["films"]
    if not sum(films.values()):
        return Section("views", "Audit of views", ["No study has a film."])
    found = audit["view_sources"]
    rows = [[source, *(show(counts[view]) for view in VIEWS)] for source, counts in found["sources"].items()]
    rows.append(["All", *(show(films[view]) for view in VIEWS)])
    table = Table("Films by view and by what decided it", ("Source of the view", *map(str.capitalize, VIEWS)), rows)
    conflicts = f"{say(found['conflicts'], 'film has', 'films have')} evidence for another view."
    return Section("views", "Audit of views", [conflicts], tables=(table,))


def count_copies(audit: Audit) -> Section:
    """Shows identical reports and films, and the studies per patient."""
    copies, lines = audit["copies"], []
    kinds = [("Reports with the same findings and impression", copies["reports"])]
    films = copies["films"]
    if films is None:
        lines.append("Films were not read, so copies of films were not counted.")
    elif sum(audit["films"].values()):
        kinds += [
            ("Film files with the same bytes", films["same_bytes"]),
            ("Frontal films with the same pixels", films["same_pixels"]),
        ]
    keys = ("groups", "members", "studies", "patients", "across_patients")
    rows = [[title, *(show(found[key]) for key in keys)] for title, found in kinds]
    head = ("What is identical", "Groups", "Members", "Studies", "Patients", "Groups of several patients")
    patients = [[count, show(number)] for count, number in audit["studies_of_a_patient"].items()]
    tables = (Table("Copies", head, rows), Table("Studies per patient", ("Studies", "Patients"), patients))
    reports = copies["reports"]
    if reports["conflicting"]:
        lines.append(
            f"{say(reports['conflicting'], 'group', 'groups')} of identical reports, with "
            f"{say(reports['conflicting_studies'], 'study', 'studies')}, "
            f"{'has' if reports['conflicting'] == 1 else 'have'} contradicting labels (scheme {copies['labels']}): the "
            "same words are called 0 in one study and 1 in another."
        )
    if films:
        lines += [
            f"{say(films[key], f'frontal film {one}', f'frontal films {several}')}."
            for key, one, several in (
                ("unreadable", "cannot be read", "cannot be read"),
                ("blank", "has one gray level only", "have one gray level only"),
            )
            if films[key]
        ]
    notes = (
        "Copies that are on both sides of a split make results too good; kmm data split and kmm fit keep them in one "
        "part. Pixels are compared after decoding, so copies in other lossless formats count; resized or lossy copies "
        "do not.",
    )
    return Section("copies", "Audit of duplicates", lines, tables=tables, notes=notes)
