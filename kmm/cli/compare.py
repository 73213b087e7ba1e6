"""`kmm compare`: models and baselines over many splits, with the tests of their differences."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kmm.cli import result_tables
from kmm.cli.command import LIST, PLACE, Command, json_option, views_option
from kmm.cli.fit import make_phantom_set
from kmm.cli.fit_options import fit_options, set_option
from kmm.cli.output import (
    check_place,
    check_problems,
    list_problems,
    load_keras_quietly,
    make_progress,
    name_file_in_errors,
    print_problems_on_error,
    write_result,
)
from kmm.cli.typed_words import list_typed
from kmm.keras_backend import check_backend, has_accelerator
from kmm.presets import SETTING_NAMES, gather_settings


@click.command(cls=Command, settings=SETTING_NAMES)
@click.argument("folder", type=PLACE, required=False)
@click.option("--out", required=True, type=PLACE, help="Folder of the comparison; the same command continues in it.")
@click.option("--protocol", default="quick", show_default=True, help="Protocol: high, low (as published) or quick.")
@click.option("--folds", type=int, help="Folds of a cross-validation, instead of repeated splits.")
@click.option("--splits", type=int, help="Number of repeated splits; the protocol's number when not given.")
@click.option("--repeats", type=int, default=1, show_default=True, help="Number of cross-validations.")
@click.option("--plain-split", is_flag=True, help="Split study by study, as the paper does; such splits leak.")
@click.option("--vary", multiple=True, metavar="NAME=V1|V2", help="Setting to vary on the same splits; repeatable.")
@click.option(
    "--sizes",
    type=LIST,
    is_flag=False,
    flag_value="auto",
    metavar="[N,N,...]",
    help="Numbers of training studies to compare beside all; without numbers, halves down to about 100.",
)
@click.option("--wanted", type=float, metavar="AUC", help="ROC AUC for which --sizes says how many studies it takes.")
@click.option("--tune", is_flag=True, help="Train pretrained encoders too, without an accelerator as well.")
@fit_options
@set_option("COMPARE")
@views_option
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Number of processes.")
@click.option("--engine", help="process, workers or ray; chosen by --workers when not given.")
@click.option("--address", help="Address of a Ray cluster.")
@click.option("--keep-models", is_flag=True, help="Keep the classifier of every task, in OUT/models.")
@click.option(
    "--explain",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Most studies of each variant that the joint model mends, and that it breaks, to explain in OUT/explanations.",
)
@click.option("--predictions", default="csv", show_default=True, help="Format of the predictions: csv or parquet.")
@click.option(
    "--cache", type=PLACE, default="saved_models", show_default=True, help="Folder of classifiers, whose cache is used."
)
@json_option("COMPARE")
def compare(
    folder: Path | None,
    out: Path,
    protocol: str,
    folds: int | None,
    splits: int | None,
    repeats: int,
    plain_split: bool,
    vary: tuple[str, ...],
    sizes: list[str] | None,
    wanted: float | None,
    tune: bool,
    more: tuple[str, ...],
    config: Mapping[str, Any],
    views: Mapping[str, str] | None,
    workers: int,
    engine: str | None,
    address: str | None,
    keep_models: bool,
    explain: int,
    predictions: str,
    cache: Path,
    json_file: str | None,
    **values: Any,
) -> None:
    """Compare models and baselines over many splits.

    Trains the image, text and joint model on every split, measures them beside linear baselines, and tests the
    differences across the splits. --vary compares settings on the same splits, --sizes fewer training studies. After an
    interruption, the same command continues. Without FOLDER, the built-in phantom set is used. Exit code 1: a split
    failed; 2: all did.

    \b
    Examples: kmm compare openi --out compared --protocol high --preset paper
              kmm compare openi --out sections --vary "sections=report|pre-read" --workers 2
              kmm compare openi --out sizes --sizes --wanted 0.8
    """
    from kmm.data.collection import read_collection
    from kmm.experiments.planning.variants import parse_variations

    check_backend()
    check_place(json_file)
    progress = make_progress()
    variations = parse_variations(vary)
    given = {name: value for name, value in values.items() if value is not None}
    gather_settings(given, more=more, config=config)  # reports a wrong option before Keras is loaded
    with load_keras_quietly():
        from kmm.engines.runners import choose_runner
        from kmm.experiments.planning.plan import make_plan
        from kmm.experiments.run_comparison import compare_studies
        from kmm.experiments.tables import check_format
        from kmm.training.run_folders import CACHE

    plan = make_plan(
        lambda changes, base: gather_settings({**given, **changes}, more=more, config=config, protocol=base),
        protocol=protocol,
        folds=folds,
        splits=splits,
        repeats=repeats,
        plain=plain_split,
        vary=variations,
        tune=tune,
        sizes=sizes,
        wanted=wanted,
        accelerator=has_accelerator(),
    )
    runner = choose_runner(engine or ("workers" if workers > 1 else "process"), count=workers, address=address)
    check_format(predictions)
    collection = read_collection(folder or make_phantom_set(cache, progress), view_overrides=views)
    progress.note(f"{collection.folder}: {collection.layout}, {len(collection.studies)} studies")
    check_problems(collection, bool(given.get("strict")))
    with name_file_in_errors(out), print_problems_on_error(collection.problems):
        found = compare_studies(
            collection,
            plan,
            out,
            cache=cache / CACHE,
            runner=runner,
            keep_models=keep_models,
            explain=explain,
            predictions=predictions,
            command=list_typed("compare"),
            progress=progress,
        )
    list_problems(collection.problems)
    write_result(json_file, found.as_dict(), lambda: result_tables.print_comparison(found.summary))
    progress.note(f"Saved: {out}")
    sys.exit(1 if found.summary["failed"] else 0)
