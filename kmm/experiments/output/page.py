"""One offline page of a comparison, to be read from top to bottom, with its figures, methods paragraph and references.

This module chooses the sections and prepares their values; layout is in `comparison.html` and `kmm/pages`. The
page has no script. What is not in the summary has no section.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kmm.evaluate.label_source import say_mined_variants
from kmm.experiments.output.claims import state_answers
from kmm.experiments.output.figures.drawings import SUFFIXES, list_figures
from kmm.experiments.output.figures.prediction_curves import Curves, trace_predictions
from kmm.experiments.output.methods import describe_resampling, show_command, write_methods, write_plain_methods
from kmm.experiments.output.number_formats import show_number
from kmm.experiments.output.page_data import describe_data, describe_training, list_epochs, list_labels, list_parts
from kmm.experiments.output.page_decisions import leave_undecided, measure_calibration, trace_benefit
from kmm.experiments.output.page_results import compare_variants, list_differences, list_results, state_published_claim
from kmm.experiments.output.page_sides import (
    list_errors,
    list_subgroups,
    probe_leak,
    share_sides,
    swap_reports,
    vary_labels,
)
from kmm.experiments.output.page_sizes import show_sizes
from kmm.experiments.output.references import REFERENCES, list_references, write_bibtex
from kmm.experiments.schema import Summary
from kmm.experiments.tables import Columns, list_values
from kmm.experiments.titles import title_briefly
from kmm.explain.output.markup import replace_forbidden_characters
from kmm.pages.parts import Link, Section, Table
from kmm.pages.render import render_sections

PAGE, METHODS, BIBTEX, FIGURES = "comparison.html", "methods.md", "references.bib", "figures"
STAGING = ".pages"  # where files are written first
LIMITS = (
    "Not for diagnosis. The models are not medical devices.",
    "The labels come from reports or their index terms and are not a second reading of the films; they have errors.",
    "One collection of studies was used. Numbers elsewhere will differ with its patients, films and ways of writing.",
    "An interval over splits says how much a result varies with the split of these studies. It does not cover other "
    "hospitals.",
    "A difference that is not shown may still exist: the studies may be too few to see it.",
)


def write_pages(
    folder: Path | str, comparison: Columns, predictions: Columns, history: Columns, summary: Summary
) -> None:
    """Writes the page, the figures as PNG and SVG, the methods paragraph and the references, all or none of them.

    Args:
        folder: path of the existing folder of the comparison.
        comparison, predictions, history: columns of its tables.
        summary: `Summary`.

    Raises:
        OSError: if a file cannot be written.
    """
    folder, staging = Path(folder), Path(folder, STAGING)
    curves = trace_predictions(predictions)
    drawings = list_figures(comparison, history, summary, curves)
    files = {f"{FIGURES}/{name}{suffix}": one.encode(suffix) for name, one in drawings.items() for suffix in SUFFIXES}
    texts = {
        PAGE: _render(comparison, predictions, history, summary, curves, drawings),
        METHODS: write_methods(comparison, predictions, summary),
        BIBTEX: write_bibtex(list_references(summary)),
    }
    files |= {name: replace_forbidden_characters(text).encode("utf-8") for name, text in texts.items()}
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
    try:
        (staging / FIGURES).mkdir(parents=True)
        for name, content in files.items():
            (staging / name).write_bytes(content)
        shutil.rmtree(folder / FIGURES, ignore_errors=True)
        os.replace(staging / FIGURES, folder / FIGURES)
        for name in texts:
            os.replace(staging / name, folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def render_comparison(comparison: Columns, predictions: Columns, history: Columns, summary: Summary) -> str:
    """Renders a comparison as one HTML page that needs no other file.

    Args:
        comparison, predictions, history: columns of its tables; see `kmm.experiments.schema`.
        summary: `Summary`. A key that is absent has no section.

    Returns:
        str. HTML, to be written as UTF-8. It has ids of studies where the summary lists errors; no text of reports.
    """
    curves = trace_predictions(predictions)
    drawings = list_figures(comparison, history, summary, curves)
    return _render(comparison, predictions, history, summary, curves, drawings)


def _render(comparison, predictions, history, summary, curves, drawings):
    return render_sections(
        "Comparison: film, report, and both",
        "Results of research models on one collection of studies.",
        list_sections(comparison, predictions, history, summary, curves),
        drawings,
        folder=FIGURES,
        template="comparison.html",
        package="kmm.experiments.output",
        question=_ask(comparison, summary),
        answers=state_answers(summary),
    )


def list_sections(
    comparison: Columns, predictions: Columns, history: Columns, summary: Summary, curves: Curves
) -> list[Section]:
    """Lists the sections of the page below the answer, in their order.

    Args:
        comparison, predictions, history, summary: as in `render_comparison`.
        curves: dict of variant to dict of model to `PredictionCurves`.

    Returns:
        list of `Section`.
    """
    found = [
        describe_data(comparison, predictions, summary),
        describe_training(summary),
        *_state_mined(summary, _list_results(comparison, predictions, history, summary, curves)),
        Section("limits", "Limits", points=LIMITS),
        _state_cost(summary),
        _show_reproduction(summary),
        _show_citation(comparison, predictions, summary),
    ]
    return [section for section in found if section is not None]


def _list_results(comparison, predictions, history, summary, curves):
    return [
        list_results(summary),
        list_labels(comparison, summary),
        list_parts(comparison, summary),
        list_epochs(history),
        list_differences(summary),
        state_published_claim(summary),
        probe_leak(summary),
        share_sides(summary),
        list_errors(summary),
        swap_reports(summary),
        measure_calibration(summary),
        leave_undecided(summary, curves),
        trace_benefit(curves),
        list_subgroups(summary),
        vary_labels(summary),
        compare_variants(summary),
        show_sizes(summary),
    ]


def _state_mined(summary: Summary, sections: Sequence[Section | None]) -> list[Section | None]:
    """Adds to the caption of each table that a model reads the words that its labels were made from."""
    said = say_mined_variants(summary.get("mined") or {})

    def mark(tables: Sequence[Table]) -> tuple[Table, ...]:
        return tuple(replace(table, caption=f"{table.caption}; {said}") for table in tables)

    if not said:
        return list(sections)
    return [one and replace(one, tables=mark(one.tables), folded=mark(one.folded)) for one in sections]


def _ask(comparison: Columns, summary: Summary) -> str:
    models = set(list_values(comparison["model"]))
    others = [title_briefly(name).lower() for name in ("image", "text") if name in models]
    labels = [label for label in list_values(comparison["label"]) if label != "macro"]
    what = f'"{labels[0]}"' if len(labels) == 1 else f"{len(labels)} labels"
    where = f", over {describe_resampling(summary['resampling'])}" if summary.get("resampling") else ""
    return (
        f"Does a model of film and report predict {what} better than {' and '.join(others) or 'other models'} and "
        f"better than simple baselines on the same studies{where}?"
    )


def _state_cost(summary):
    facts = []
    if summary.get("minutes") is not None:
        facts.append(f"Training and measuring: {show_number(summary['minutes'], 1)} minutes, summed over all tasks.")
    if summary.get("memory_gb") is not None:
        facts.append(f"Largest memory of one process: {show_number(summary['memory_gb'], 1)} GB.")
    return Section("cost", "Cost", points=facts) if facts else None


def _show_reproduction(summary):
    command, tables = show_command(summary), []
    for key, title in (("versions", "Versions"), ("digests", "Digests")):
        if rows := [[str(name), str(value)] for name, value in (summary.get(key) or {}).items()]:
            tables.append(Table(title, ("Name", "Value"), rows, words=(1,)))
    lines = ["All numbers of this page follow from the tables of its folder: comparison.csv, history.csv, predictions."]
    if command and not summary.get("command"):
        lines.append("FOLDER is the folder of the studies, OUT that of the results; plan.json has all settings.")
    code = (("Command", command),) if command else ()
    return Section("reproduce", "How to reproduce", lines, code=code, tables=tuple(tables))


def _show_citation(comparison, predictions, summary):
    keys = list_references(summary)
    points = []
    for key in keys:
        found = REFERENCES[key]
        authors = found.fields["author"].strip("{}").replace(" and ", "; ")
        text = f"{authors} ({found.fields.get('year', 'no year')}). {found.title}."
        points.append(Link(text, found.link) if found.link else text)
    code = (
        ("Methods paragraph (also methods.md)", write_plain_methods(comparison, predictions, summary)),
        ("BibTeX (also references.bib)", write_bibtex(keys)),
    )
    return Section("cite", "How to cite", points=points, code=code)
