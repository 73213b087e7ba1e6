"""Sections of the page of an audit, from its numbers."""

from collections.abc import Mapping
from typing import Any

from kmm.audit.page_audits import compare_schemes, count_copies, count_views, tabulate_pairs, tabulate_rules
from kmm.audit.page_numbers import say, show, tabulate_classes
from kmm.audit.terms import Terms
from kmm.explain.output.markup import format_percent
from kmm.pages.parts import Section, Table

SIZES = ("Reports", "Median", "99th percentile", "Most")
SIDES = {
    **{"film_and_report": "Film and report", "film": "Film alone", "report": "Report alone"},
    "neither": "Neither",
}
Numbers = Mapping[str, Any]


def list_sections(audit: Numbers, terms: Terms, classes: Numbers | None) -> list[Section]:
    """Lists the sections of the page in their order.

    Args:
        audit: of `kmm.audit.collection_audit.audit_collection`.
        terms: `Terms`.
        classes: the labels whose classes are shown, or None.

    Returns:
        list of `Section`. One whose subject is absent says so.
    """
    return [
        _describe_studies(audit),
        _show_classes(audit, classes),
        _count_words(audit),
        _list_terms(audit, terms),
        compare_schemes(audit),
        count_views(audit),
        count_copies(audit),
        _state_content(terms),
    ]


def _describe_studies(audit):
    studies, unknown = audit["studies"], audit["studies"] - audit["patients_known"]
    of = f" of {say(audit['patients'], 'patient')}" if audit["patients_known"] else ""
    points = [f"{say(studies, 'study', 'studies')}{of}, read as {audit['layout']}."]
    if unknown:
        points.append(f"The patient of {say(unknown, 'study', 'studies')} is not known; each counts as a patient.")
    aside = say(audit["set_aside"], "study, file or row was", "studies, files or rows were")
    points.append(f"{aside} set aside.")
    having = [[title, show(audit["studies_with"][name])] for name, title in SIDES.items()]
    tables = [Table("Studies by what they have (films: frontal)", ("", "Studies"), having)]
    if "parts" in audit:
        rows = [[part, show(count)] for part, count in audit["parts"].items()]
        tables.append(Table("Studies by published part", ("Part", "Studies"), rows))
    return Section("studies", "Studies", points=points, tables=tuple(tables))


def _show_classes(audit, classes):
    if not classes or not classes.get("counts"):
        return Section("classes", "Class distribution", ["The studies have no labels."])
    lines = [f"Label scheme: {classes['scheme']}."]
    table = tabulate_classes("Studies of each class", classes["counts"])
    long = len(table.rows) > 20
    return Section(
        "classes",
        "Class distribution",
        lines,
        figures=("classes",),
        tables=() if long else (table,),
        folded=(*((table,) if long else ()), *tabulate_pairs(classes), *tabulate_rules(classes)),
        notes=("Prevalence: positives among known labels.",),
    )


def _count_words(audit):
    ways = audit["report_words"]
    if not any(way["reports"] for way in ways) and not any(one["reports"] for one in audit["sections"].values()):
        return Section("words", "Words per report", ["No study has a report with words."])
    sections = [
        [name, show(one["reports"]), *(show(one[f"{key}_words"]) for key in ("median", "p99", "most"))]
        for name, one in audit["sections"].items()
    ]
    presets = [
        [
            ", ".join(way["presets"]),
            f"{', '.join(way['sections'])}; {way['cleaning']}",
            *(show(way[key]) for key in ("reports", "median", "p99", "most", "length", "cut")),
            format_percent(way["cut"] / way["reports"] if way["reports"] else None),
        ]
        for way in ways
    ]
    head = ("Preset", "Sections; cleaning", *SIZES, "Length", "Cut", "Share cut")
    tables = (
        Table("Words of each section", ("Section", *SIZES), sections),
        Table("Words that presets read, and reports that they cut", head, presets, words=(1,)),
    )
    notes = [
        "Words of a section are separated by white space; those of a preset are counted after its cleaning. Word "
        "pieces are shorter than words: a model that reads pieces cuts more reports at the same length."
    ]
    if most := max(way["unreadable"] for way in ways):
        notes.append(f"{say(most, 'report is', 'reports are')} too long to be read.")
    return Section("words", "Words per report", figures=("words",), tables=tables, notes=notes)


def _list_terms(audit, terms):
    if not terms.reports:
        return Section("terms", "Frequent terms", ["No study has a report with words."])
    least = say(terms.min_patients, "patient")
    lines = [
        f"Only words in the reports of at least {least} are shown, because this page may leave the building and a rare "
        f"word may be a name. {say(terms.withheld, 'word of fewer patients is', 'words of fewer patients are')} "
        "withheld. A word that several patients share can be a name too: read the list before you pass the page on."
    ]
    if unknown := audit["studies"] - audit["patients_known"]:
        lines.append(
            f"The patient of {say(unknown, 'study', 'studies')} is not known. Each counts as a patient, so a word of "
            "one patient with several reports may be among those shown."
        )
    if not terms.counts:
        lines.append("No word is shared by so many patients.")
    rows = [[word, show(count), format_percent(count / terms.reports)] for word, count in terms.counts.items()]
    table = Table("Words by number of reports", ("Word", "Reports", "Share"), rows)
    notes = (
        "Words after cleaning, of the sections that a fit reads by default. Stop words (also no and not), numbers, "
        "single letters and the token of removed names are left out.",
    )
    return Section("terms", "Frequent terms", lines, figures=("terms",), folded=(table,) * bool(rows), notes=notes)


def _state_content(terms):
    points = (
        "Numbers, the layout with the name of a manifest, names of labels, entries of label rules, and the terms "
        "above. No report, no film, no name or id of a patient, study or film.",
        f"Terms: words that at least {say(terms.min_patients, 'patient')} share (--min-word-patients).",
        "Small numbers, for example of a rare label, can concern one patient.",
    )
    return Section("content", "What this page contains", points=points)
