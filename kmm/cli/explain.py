"""`kmm explain`: explain predictions; and the options that `kmm fidelity` shares with it."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from kmm.cli import result_tables
from kmm.cli.command import PLACE, Command, Decorated, Decorator, group_options, json_option, views_option
from kmm.cli.output import (
    check_place,
    list_problems,
    load_keras_quietly,
    make_progress,
    name_file_in_errors,
    print_skipped,
    write_result,
)
from kmm.errors import InputError
from kmm.explain.settings import ALL, OUTPUTS, POSITIVE, SENSITIVITY_FILE, ExplainSettings, RegionSettings

AUTO = "auto"
DEFAULTS, REGION_DEFAULTS = ExplainSettings(), RegionSettings()


class _Sensitivity(click.ParamType):
    """A number in [0, 1], or `auto`."""

    name = "number|auto"

    def convert(self, value, param, ctx):
        return value if value == AUTO else click.FloatRange(0, 1).convert(value, param, ctx)


_option = partial(click.option, show_default=True)
_ATTRIBUTION_OPTIONS = (
    _option("--output", type=click.Choice(OUTPUTS), default=DEFAULTS.output, help="Model output to explain."),
    _option(
        "--baseline", "baselines", multiple=True, help="Baseline film: black (default), mean, blur or grey; repeatable."
    ),
    _option("--text-baseline", default=DEFAULTS.text_baseline, help="Baseline text: padding or zero."),
    _option("--rule", default=DEFAULTS.rule, help="Quadrature rule: midpoint, left, paper, ..."),
    _option("--steps", type=click.IntRange(1), help="Path points; refined to the tolerances when not given."),
    _option(
        "--map-tolerance",
        type=float,
        default=DEFAULTS.map_tolerance,
        help="Relative error of the map at which refinement stops.",
    ),
    _option(
        "--gap-tolerance",
        type=float,
        default=DEFAULTS.gap_tolerance,
        help="Relative error of the sum of attributions at which refinement stops.",
    ),
    _option("--max-steps", type=click.IntRange(1), default=DEFAULTS.max_steps, help="Most path points."),
    _option("--layer", help="Layer for the Grad-CAM methods; the last feature map when not given."),
    _option("--memory-gb", type=float, default=DEFAULTS.memory_gb, help="Peak memory, in GB."),
)
_REGION_OPTIONS = (
    _option("--region-rule", default=REGION_DEFAULTS.rule, help="Pixels of a region: mass, quantile or paper."),
    _option(
        "--smoothing",
        type=float,
        default=REGION_DEFAULTS.smoothing,
        help="Width of smoothing, as a fraction of the map's diagonal.",
    ),
    _option("--cluster", default=REGION_DEFAULTS.cluster, help="Clustering: single-linkage, dbscan or hdbscan."),
    _option(
        "--distance",
        type=float,
        help="Largest gap in a cluster, in map pixels; 1.5 % of its diagonal when not given.",
    ),
    _option(
        "--min-points", type=click.IntRange(1), default=REGION_DEFAULTS.min_points, help="Fewest pixels of a cluster."
    ),
    _option("--circle", default=REGION_DEFAULTS.circle, help="Circle: centroid, smallest or quantile."),
    _option(
        "--radius-quantile",
        type=float,
        default=REGION_DEFAULTS.radius_quantile,
        help="Fraction of a cluster's pixels inside its circle, for --circle quantile.",
    ),
)


def setting_options(command: Decorated) -> Decorated:
    """Adds the options for settings of an explanation, except the labels."""
    return group_options(*_ATTRIBUTION_OPTIONS, *_REGION_OPTIONS)(command)


def sensitivity_option(default: float | str, auto: str) -> Decorator:
    """Makes the option `--sensitivity`.

    Args:
        default: float in [0, 1], or `AUTO`.
        auto: str. The meaning of `AUTO` for the command, for the help.
    """
    text = f"Region sensitivity, 0 to 1: higher values give fewer circles; auto: {auto}."
    return click.option("--sensitivity", type=_Sensitivity(), default=default, show_default=True, help=text)


@click.command(cls=Command)
@click.argument("model", type=PLACE)
@click.argument("inputs", nargs=-1, required=True, type=PLACE)
@click.option("--out", required=True, type=PLACE, help="Folder to write to; explanations in it are reused.")
@click.option("--report", type=PLACE, help="Text file with the report of the one image.")
@views_option
@click.option("--method", default=DEFAULTS.method, show_default=True, help="Attribution method; see the README.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="Label to explain, repeatable; positive: labels at or above their thresholds; all: every label. Each study's "
    "most probable label when not given.",
)
@setting_options
@sensitivity_option(REGION_DEFAULTS.sensitivity, "the value that `kmm fidelity --save` stored")
@click.option(
    "--picture", default="circles", show_default=True, help="Picture: circles, side-by-side or sensitivities."
)
@click.option("--pages/--no-pages", default=True, show_default=True, help="HTML page <id>.html per study.")
@click.option("--dicom", is_flag=True, help="Structured report and presentation state per DICOM film.")
@click.option("--table", default="csv", show_default=True, help="Table format: csv or parquet.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Number of processes.")
@click.option("--engine", help="process, workers or ray; chosen by --workers when not given.")
@click.option("--ray-address", help="Address of a Ray cluster.")
@click.option("--redraw", is_flag=True, help="Draw again from the maps in OUT, without the model.")
@click.option("--overwrite", is_flag=True, help="Replace explanations in OUT made with another model or method.")
@click.option("--check", is_flag=True, help="Also test whether explanations depend on film and model.")
@json_option("EXPLAIN")
def explain(
    model: Path,
    inputs: tuple[Path, ...],
    out: Path,
    report: Path | None,
    views: Mapping[str, str] | None,
    picture: str,
    pages: bool,
    dicom: bool,
    table: str,
    workers: int,
    engine: str | None,
    ray_address: str | None,
    redraw: bool,
    overwrite: bool,
    check: bool,
    json_file: str | None,
    **values: Any,
) -> None:
    """Explain predictions: circles on films, words in reports.

    Writes a picture, a page and a table row per study. INPUTS are images, DICOM files, folders of images, folders in
    any layout that `kmm fit` reads, or manifests. After an interruption, the same command continues. With another
    sensitivity, other regions or other outputs, existing maps are drawn again without the model. Exit code 1: --check
    failed or could not measure anything; 2: no study was explained.

    \b
    Examples: kmm explain saved_models/openi openi --out explained --workers 2
              kmm explain saved_models/openi film.dcm --report report.txt --dicom --out explained
    """
    from kmm.data.inputs import read_inputs

    check_place(json_file)
    if redraw and (overwrite or check):
        raise InputError("--redraw computes nothing. Leave out --overwrite and --check.")
    settings = read_explain_settings(model, {**values, **_choose_targets(model, values["targets"])})
    collection = read_inputs(inputs, report=report, view_overrides=views)
    print_skipped(collection)
    engine = engine or ("workers" if workers > 1 else "process")
    with load_keras_quietly():
        from kmm.engines.runners import choose_runner
        from kmm.explain.folder.explain_folder import OVERWRITE, REDRAW, RESUME, explain_folder
        from kmm.explain.output.files import Outputs

    studies = list(collection.studies)
    if report:
        studies = [_place_report(model, studies[0])]
    progress = make_progress()
    with name_file_in_errors(out):
        rows = explain_folder(
            model,
            studies,
            out,
            settings=settings,
            outputs=Outputs(picture=picture, page=pages, dicom=dicom),
            table=table,
            runner=choose_runner(engine, count=workers, address=ray_address),
            progress=progress,
            mode=REDRAW if redraw else OVERWRITE if overwrite else RESUME,
        )
    failed = [row for row in rows if row["error"]]
    list_problems([*collection.problems, *(f"study {row['study']}: {row['error']}" for row in failed)])
    result = {"out": str(out), "studies": len(studies), "failed": len(failed), "rows": rows}
    sound = True
    if check and len(failed) < len(studies):
        explained = {row["study"] for row in rows if not row["error"]}
        chosen = [study for study in studies if study.id in explained]
        found, sound = _check(model, chosen, replace(settings, targets=()), progress)
        result.update(found)
    write_result(json_file, result, lambda: result_tables.print_explanations(result))
    sys.exit(2 if len(failed) == len(studies) else 0 if sound else 1)


def _choose_targets(model, names):
    """Makes the settings `target` and `targets` from the option `--target`: one label, or several."""
    from kmm.storage.archive import peek_description

    names = tuple(dict.fromkeys(names))
    if len(names) == 1 and names[0] in (POSITIVE, ALL):  # unless a label has this name
        several = names[0] not in peek_description(model)["preparation"]["label_names"]
    else:
        several = len(names) > 1
    return {"targets": names} if several else {"target": names[0] if names else None, "targets": ()}


def read_explain_settings(model: Path | str, values: Mapping[str, Any]) -> ExplainSettings:
    """Makes settings from the options of a command.

    Args:
        model: path of the classifier, whose stored sensitivity `AUTO` stands for.
        values: mapping of parameter to value for the options of `setting_options` and `sensitivity_option`, `method`,
            and `target` or `targets`.

    Raises:
        InputError: if a value is out of range, or no sensitivity is stored.
    """
    values = dict(values)
    if values["sensitivity"] == AUTO:
        values["sensitivity"] = _read_sensitivity(Path(model))
    regions = {name: values.pop(name) for name in (
        "sensitivity", "smoothing", "cluster", "distance", "min_points", "circle", "radius_quantile")}  # fmt: skip
    regions["rule"] = values.pop("region_rule")
    values["baselines"] = values["baselines"] or DEFAULTS.baselines
    return ExplainSettings(**values, regions=RegionSettings(**regions))


def _read_sensitivity(model):
    """Reads the sensitivity that `kmm fidelity --save` stored for a classifier."""
    path = model / SENSITIVITY_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["sensitivity"]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path} does not exist: no sensitivity is stored. Run `kmm fidelity {model} FOLDER --save` first."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} was not written by `kmm fidelity --save`. Run that command again.") from None
    if not isinstance(value, float | int) or not 0 <= value <= 1:
        raise InputError(f"{path}: the sensitivity must be from 0 to 1. Run `kmm fidelity --save` again.")
    return float(value)


def _place_report(model, study):
    """Moves the report of `--report` to a section that the model reads."""
    from kmm.data.inputs import place_report
    from kmm.storage.archive import peek_description

    text = peek_description(model)["preparation"]["text"]
    return place_report(study, tuple(text["sections"]) if text else ())


def _check(model, studies, settings, progress):
    """Checks that explanations add up, change with the model's weights and find pixels that matter.

    Returns:
        dict of `check` (measures) and `verdict` (criterion to passed, failed or not measured); and whether no criterion
        failed and at least one was measured.
    """
    from kmm.classifier import Classifier
    from kmm.explain.fidelity.evaluation import RANDOM_ORDER, RANDOMISED, try_methods
    from kmm.explain.fidelity.measures import is_sound, judge, measure_fidelity

    classifier, problems = Classifier.load(model, main_only=True), []
    options = {"set_aside": problems.append, "progress": progress}
    rows = try_methods(classifier, studies[:RANDOMISED], [settings.method], settings=settings, **options)
    list_problems(problems)
    measured = measure_fidelity(rows)
    verdict = judge(measured.get(settings.method, {}), measured.get(RANDOM_ORDER, {}), settings.gap_tolerance)
    return {"check": measured, "verdict": verdict}, is_sound(verdict)
