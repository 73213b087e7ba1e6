"""`kmm evaluate` and `kmm predict`: use a saved classifier."""

import sys

import click

from kmm import tables
from kmm.cli.command import PLACE, Command, json_option, strict_option, views_option
from kmm.cli.output import check_place, check_problems, hushed, list_problems, make_progress, write_result


@click.command(cls=Command)
@click.argument("model", type=PLACE)
@click.argument("folder", type=PLACE)
@views_option
@json_option("EVALUATE")
@strict_option
def evaluate(model, folder, views, json_file, strict):
    """Measure the classifier MODEL on the studies of FOLDER, beside the baselines.

    Studies that MODEL was trained on are left out; those it was calibrated on are reported apart, as validation.

    \b
    Example: kmm evaluate saved_models/openi other-hospital --json results.json
    """
    from kmm.data.collection import read_collection

    check_place(json_file)
    collection = read_collection(folder, view_overrides=views)
    check_problems(collection, strict)
    with hushed():
        from kmm.classifier import Classifier
        from kmm.evaluate.report import evaluate_studies

    classifier = Classifier.load(model)
    results, problems = evaluate_studies(classifier, collection.studies, strict=strict, progress=make_progress())
    list_problems([*collection.problems, *problems])
    write_result(json_file, results, lambda: tables.print_results(results))


@click.command(cls=Command)
@click.argument("model", type=PLACE)
@click.argument("files", nargs=-1, required=True, type=PLACE)
@click.option("--report", type=PLACE, help="Text file with the report of the one image.")
@views_option
@json_option("PREDICT")
@strict_option
def predict(model, files, report, views, json_file, strict):
    """Predict images, DICOM files, manifests or folders with the classifier MODEL.

    Example: kmm predict saved_models/openi film.dcm --report report.txt
    """
    from kmm.data.inputs import place_report, read_inputs

    check_place(json_file)
    collection = read_inputs(files, report=report, view_overrides=views)
    check_problems(collection, strict)
    with hushed():
        from kmm.classifier import Classifier, describe_predictions

    classifier = Classifier.load(model, main_only=True)
    studies = collection.studies
    if report:
        text = classifier.batches.text
        studies = [place_report(studies[0], text.sections if text else ())]
    predictions = classifier.predict(studies, strict=strict, progress=make_progress())
    problems = [*collection.problems, *predictions.problems]
    list_problems(problems)
    rows = describe_predictions(classifier, predictions)
    result = {"model": str(model), "predictions": rows, "set_aside": [str(problem) for problem in problems]}
    write_result(json_file, result, lambda: tables.print_predictions(rows))
    sys.exit(0 if rows else 2)
