"""`kmm evaluate` and `kmm predict`: measure a saved classifier, or apply it."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kmm.cli import result_tables
from kmm.cli.command import PLACE, Command, json_option, strict_option, views_option
from kmm.cli.output import (
    check_place,
    check_problems,
    list_problems,
    load_keras_quietly,
    make_progress,
    name_file_in_errors,
    print_layout,
    print_problems_on_error,
    print_skipped,
    write_result,
)
from kmm.data.study import part_problems
from kmm.errors import InputError

if TYPE_CHECKING:
    from kmm.classifier import StudyLogits


@click.command(cls=Command)
@click.argument("model", type=PLACE)
@click.argument("folder", type=PLACE)
@click.option(
    "--pictures",
    type=PLACE,
    help="Folder to write plots to: ROC, precision-recall, calibration, confusion matrix, decision curve.",
)
@click.option(
    "--subgroups",
    is_flag=True,
    help="Print a table of subgroups: view, sections, heading, sex, age, ... (in --json always).",
)
@click.option("--csv", "csv_file", type=PLACE, help="CSV file to write the measures of each label and model to.")
@views_option
@json_option("EVALUATE")
@strict_option
def evaluate(
    model: Path,
    folder: Path,
    pictures: Path | None,
    subgroups: bool,
    csv_file: Path | None,
    views: Mapping[str, str] | None,
    json_file: str | None,
    strict: bool,
) -> None:
    """Measure a classifier and its baselines on a folder.

    Skips the studies of FOLDER that MODEL was trained on and reports those it was calibrated on separately, as
    validation; both are counted. Brackets hold 95 % confidence intervals over patients. The lines below the table of
    the test studies say what differs from the training studies: prevalence, films, words, missing sections.

    \b
    Example: kmm evaluate saved_models/openi other-hospital --json results.json --pictures pictures
    """
    from kmm.data.collection import read_collection

    check_place(json_file)
    check_place(csv_file)
    collection = read_collection(folder, view_overrides=views)
    print_layout(collection)
    check_problems(collection, strict)
    with load_keras_quietly():
        from kmm.classifier import Classifier
        from kmm.evaluate.output.label_tables import write_labels_csv
        from kmm.evaluate.report import evaluate_studies
        from kmm.evaluate.result_files import draw_pictures, list_label_sources
        from kmm.storage.files import replace_file

    classifier = Classifier.load(model)
    if csv_file and len(classifier.label_names) == 1:
        raise InputError("--csv lists the measures of several labels, and this classifier has one. Use --json.")
    progress = make_progress()
    keep: Callable[[str, StudyLogits], None] | None = None
    if pictures:
        keep = lambda part, predictions: draw_pictures(classifier, predictions, pictures / part)  # noqa: E731
    with name_file_in_errors(pictures), print_problems_on_error(collection.problems):
        results, problems = evaluate_studies(
            classifier, collection.studies, strict=strict, progress=progress, keep=keep
        )
    list_problems([*collection.problems, *problems])
    if csv_file:
        with name_file_in_errors(csv_file), replace_file(csv_file) as place:
            place.write_text(write_labels_csv(results, list_label_sources(classifier)), encoding="utf-8")
    write_result(json_file, results, lambda: result_tables.print_results(results, subgroups=subgroups))


@click.command(cls=Command)
@click.argument("model", type=PLACE)
@click.argument("files", nargs=-1, type=PLACE)
@click.option("--report", type=PLACE, help="Text file with the report of the one image, or without an image.")
@click.option(
    "--abstain",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Largest fraction of wrong decisions among the studies of a class, such as 0.1; others are left undecided.",
)
@views_option
@json_option("PREDICT")
@strict_option
def predict(
    model: Path,
    files: tuple[Path, ...],
    report: Path | None,
    abstain: float | None,
    views: Mapping[str, str] | None,
    json_file: str | None,
    strict: bool,
) -> None:
    """Predict films and reports with a classifier.

    FILES are images, DICOM files, manifests or folders. The text of --report counts as one section; headings in it are
    not recognised. The section is FINDINGS if MODEL reads it, else the first section that MODEL reads. A classifier
    trained with --sections pre-read reads INDICATION first, so pass the indication alone, not the whole report.

    With --abstain a study is decided only if the validation studies rule out the other class at that error level.

    \b
    Examples: kmm predict saved_models/openi film.dcm --report report.txt
              kmm predict saved_models/openi --report report.txt
    """
    check_place(json_file)
    if not files and not report:
        raise click.UsageError("Expected FILES, or --report. Received neither.")
    studies, problems = _read_studies(files, report, views, strict)
    with load_keras_quietly():
        from kmm.classifier import Classifier, describe_predictions
        from kmm.evaluate.changed_weights import describe_change
        from kmm.evaluate.decisions.abstention import abstain_from, check_abstention

    classifier, progress = Classifier.load(model, main_only=True), make_progress()
    for line in filter(None, [describe_change(classifier), *check_abstention(classifier, abstain)]) if abstain else ():
        progress.note(line)
    if report:
        studies = [_place_report(classifier, studies[0], progress)]
    predictions = classifier.predict(studies, strict=strict, progress=progress)
    problems += predictions.problems
    list_problems(problems)
    found = abstain_from(classifier, predictions, abstain) if abstain else None
    rows = describe_predictions(classifier, predictions, found)
    set_aside, notes = part_problems(problems)
    result = {
        "model": str(model),
        "abstain": abstain,
        "predictions": rows,
        "set_aside": set_aside,
        "notes": notes,
    }
    write_result(json_file, result, lambda: result_tables.print_predictions(rows))
    sys.exit(0 if rows else 2)


def _read_studies(files, report, views, strict):
    """Reads the studies of FILES; a report without an image is a study too. Returns studies and problems."""
    from kmm.data.inputs import read_inputs, read_report
    from kmm.data.study import Report, Study

    if not files:
        return [Study(report.stem, report.stem, report=Report(findings=read_report(report)))], []
    collection = read_inputs(files, report=report, view_overrides=views)
    if collection.layout == "images":
        print_skipped(collection)
    else:
        print_layout(collection)
    check_problems(collection, strict)
    return list(collection.studies), list(collection.problems)


def _place_report(classifier, study, progress):
    """Moves the report to a section that the classifier reads, and prints the section if it is not FINDINGS."""
    from kmm.data.inputs import place_report

    text = classifier.batches.text
    placed = place_report(study, text.sections if text else ())
    if not placed.report.findings:
        first, read = text.sections[0].upper(), ", ".join(text.sections).upper()
        progress.note(f"The report is taken as {first}: this classifier reads {read} alone")
    return placed
