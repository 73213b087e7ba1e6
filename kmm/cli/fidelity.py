"""`kmm fidelity`: measure whether the circles and words of explanations are right."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from kmm.cli import result_tables
from kmm.cli.command import PLACE, Command, json_option, views_option
from kmm.cli.explain import AUTO, DEFAULTS, REGION_DEFAULTS, read_explain_settings, sensitivity_option, setting_options
from kmm.cli.output import check_place, list_problems, load_keras_quietly, make_progress, write_result
from kmm.errors import InputError
from kmm.explain.settings import SENSITIVITY_FILE
from kmm.storage.output_mark import marking_file

TRIED = ("integrated-gradients", "gradient", "gradient-x-input", "smoothgrad", "grad-cam", "layer-cam")
TRIED_WITH_ATTENTION = ("rollout", "gradient-rollout")  # too, for a model whose attention can be followed


@click.command(cls=Command)
@click.argument("model", type=PLACE)
@click.argument("folder", type=PLACE)
@click.option("--boxes", type=PLACE, help="CSV of boxes, with ChestX-ray14's BBox columns.")
@click.option(
    "--words",
    type=PLACE,
    help="CSV with the columns uid, words (which name the finding) and, optionally, finding.",
)
@click.option("--method", "methods", multiple=True, help="Method to measure; repeatable. Several when not given.")
@click.option("--target", help="Label to explain; each study's most probable label when not given.")
@setting_options
@sensitivity_option(AUTO, "chosen by this command")
@click.option(
    "--studies",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Most studies per part; with --boxes or --words, of the studies in these tables.",
)
@click.option("--curve", type=PLACE, help="PNG file for the plot of sensitivities.")
@click.option("--save", is_flag=True, help="Store the chosen sensitivity in MODEL for --sensitivity auto.")
@views_option
@json_option("FIDELITY")
def fidelity(
    model: Path,
    folder: Path,
    boxes: Path | None,
    words: Path | None,
    methods: tuple[str, ...],
    studies: int,
    curve: Path | None,
    save: bool,
    views: Mapping[str, str] | None,
    json_file: str | None,
    **values: Any,
) -> None:
    """Measure whether explanations are right.

    With --sensitivity auto, the region sensitivity is chosen on studies of FOLDER in MODEL's validation part. Methods
    are measured on studies that MODEL has not seen, and compared with integrated gradients if these are among them.
    Without --boxes, the pointing game is left out. Without --target, a
    MODEL of several labels explains the label of each film's box.

    \b
    Example: kmm fidelity saved_models/small saved_models/.phantom --boxes saved_models/.phantom/boxes.csv
    """
    for place in (json_file, curve):
        check_place(place)
    sweep = values["sensitivity"] == AUTO
    if not sweep and (curve or save):
        raise InputError("--curve and --save need --sensitivity auto: with a number no sensitivity is chosen.")
    if save and Path(model).is_file():
        raise InputError(f"{model} is an archive, which --save cannot change. Give the folder of a classifier.")
    with load_keras_quietly():
        from kmm.classifier import Classifier
        from kmm.data.collection import read_collection
        from kmm.explain.attribution.methods import choose_method
        from kmm.explain.fidelity.evaluation import sweep_studies, try_methods
        from kmm.explain.fidelity.measures import measure_fidelity

    for name in methods:
        choose_method(name)
    classifier, progress = Classifier.load(model, main_only=True), make_progress()
    _check_sides(classifier, boxes=boxes, words=words, curve=curve, save=save)
    sweep = sweep and bool(classifier.batches.image)
    methods = _choose_methods(classifier, methods, progress)
    if values["sensitivity"] == AUTO:  # replaced below when it is chosen
        values["sensitivity"] = REGION_DEFAULTS.sensitivity
    settings = read_explain_settings(model, {**values, "method": DEFAULTS.method})
    truth = _read_truth(classifier, boxes, words, settings.target)
    collection = read_collection(folder, view_overrides=views)
    validation, test = _choose_studies(classifier, collection, truth, sweep=sweep, most=studies)
    problems = list(collection.problems)
    result: dict[str, Any] = {}
    options = {"truth": truth, "set_aside": problems.append, "progress": progress}
    if sweep:
        rows, rule, best = sweep_studies(classifier, validation, settings=settings, **options)
        _keep_sweep(rows, rule, best, curve=curve, kept=Path(model) / SENSITIVITY_FILE if save else None)
        result["sensitivity"] = {"chosen": best, "rule": rule, "sweep": [row.as_dict() for row in rows]}
        settings = replace(settings, regions=replace(settings.regions, sensitivity=best))
    result["methods"] = measure_fidelity(try_methods(classifier, test, methods, settings=settings, **options))
    list_problems(problems)
    write_result(json_file, result, lambda: result_tables.print_fidelity(result))


def _check_sides(classifier, *, boxes, words, curve, save):
    """Rejects options for films or reports if the model reads none."""
    for side, name, options in (
        (classifier.batches.image, "films", {"--boxes": boxes, "--curve": curve, "--save": save}),
        (classifier.batches.text, "reports", {"--words": words}),
    ):
        given = [option for option, value in options.items() if value]
        if given and side is None:
            raise InputError(f"{', '.join(given)}: expected a model that reads {name}. This one reads none.")


def _choose_methods(classifier, names, progress):
    """Chooses the methods to measure: the given ones, else those of `TRIED` and `TRIED_WITH_ATTENTION` that suit the
    model.
    """
    from kmm.explain.attribution.methods import METHODS
    from kmm.models.views.attention_view import find_obstacle

    obstacle = find_obstacle(classifier.models[classifier.main])
    chosen = names or (*TRIED, *TRIED_WITH_ATTENTION * (not obstacle))
    followed = [name for name in chosen if METHODS[name].at_attention]
    if followed and obstacle:
        raise InputError(f"--method {', '.join(followed)}: {obstacle}")
    alone = [name for name in chosen if "rows" not in METHODS[name].inputs]
    if classifier.batches.image or not alone:
        return chosen
    if names:
        raise InputError(f"--method {', '.join(alone)}: expected a model that reads films. This one reads none.")
    progress.note(f"left out, because they explain films only: {', '.join(alone)}")
    return [name for name in chosen if name not in alone]


def _read_truth(classifier, boxes, words, target):
    from kmm.explain.fidelity.boxes import read_boxes
    from kmm.explain.fidelity.ground_truth import make_truth, read_naming_words

    return make_truth(
        classifier.label_names,
        boxes=read_boxes(boxes) if boxes else None,
        words=read_naming_words(words) if words else None,
        target=target,
    )


def _choose_studies(classifier, collection, truth, *, sweep, most):
    """Chooses at most `most` studies of the validation part for the sweep, and of the test part to measure on.

    If tables of boxes or words were given, only studies in them are chosen.
    """
    from kmm.evaluate.seen import part_studies
    from kmm.image.pixel_aspect import find_pixel_scale

    has_tables = bool(truth.boxes or truth.words)
    studies = collection.studies
    if truth.boxes or (has_tables and not sweep):  # the others are not measured, and they may be many
        studies = [study for study in studies if truth.knows(study)]
    parts = part_studies(classifier, studies)
    validation = [study for study in parts["validation"] if (truth.has_box(study) if truth.boxes else study.frontal)]
    test = [study for study in parts["test"] if truth.knows(study) or not has_tables]
    if sweep and not validation:
        raise InputError(
            f"{collection.folder}: expected films {'with a box ' * bool(truth.boxes)}of the classifier's validation "
            "part, to choose the sensitivity on. Found none. Give a sensitivity, for example --sensitivity 0.8."
        )
    if not test:
        raise InputError(
            f"{collection.folder}: expected studies that the classifier was not trained on"
            f"{' and that are in --boxes or --words' * has_tables}. Found none."
        )
    chosen = validation[: most * sweep], test[:most]
    truth.check_films(
        [*chosen[0], *chosen[1]], classifier.batches.film, lambda study: find_pixel_scale(study.frontal.path)
    )
    return chosen


def _keep_sweep(rows, rule, best, *, curve, kept):
    """Writes the results of the sweep if asked for: the plot, and the sensitivity beside the model."""
    from kmm.explain.fidelity.sensitivity import plot_sensitivity
    from kmm.storage.results import write_with_schema

    if curve:
        with marking_file(curve):
            plot_sensitivity(rows, curve, chosen=best)
    if kept:
        write_with_schema(kept, {"sensitivity": best, "rule": rule, "films": rows[0].films})
