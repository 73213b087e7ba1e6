"""`kmm index build` and `kmm index add`, and the group of these and of searching and measuring."""

from collections.abc import Mapping
from pathlib import Path

import click

from kmm.cli import retrieval_tables
from kmm.cli.command import LIST, PLACE, Group, group_options, json_option, strict_option, views_option
from kmm.cli.index_measure import measure
from kmm.cli.index_search import load_model, model_option, search
from kmm.cli.output import (
    check_place,
    check_problems,
    list_problems,
    load_keras_quietly,
    make_progress,
    name_file_in_errors,
    print_layout,
    print_problems_on_error,
    write_result,
)

_from_options = group_options(
    click.option("--split", type=PLACE, help="split.csv with the part of each study; recognised when not given."),
    click.option("--columns", type=LIST, help="Columns of the manifest to keep, to filter by."),
    click.option("--table", type=PLACE, help="Table with the column id and --columns; the manifest when not given."),
)


@click.group(cls=Group)
def index() -> None:
    """Index studies, find similar ones, measure what is found."""


@index.command()
@click.argument("model", type=PLACE)
@click.argument("folder", type=PLACE)
@click.option("--out", required=True, type=PLACE, help="Folder of the index; the same command continues in it.")
@click.option(
    "--layer", default="joint", show_default=True, help="Features to compare: joint, image, text or projection."
)
@click.option("--labels", help="Label scheme by which results are filtered and measured; MODEL's when not given.")
@click.option(
    "--label-min-count",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Fewest studies per finding, for --labels findings.",
)
@_from_options
@views_option
@click.option("--overwrite", is_flag=True, help="Replace an index of this name, once the new one is complete.")
@json_option("INDEX_BUILD")
@strict_option
def build(
    model: Path,
    folder: Path,
    out: Path,
    layer: str,
    labels: str | None,
    label_min_count: int,
    split: Path | None,
    columns: list[str] | None,
    table: Path | None,
    views: Mapping[str, str] | None,
    overwrite: bool,
    json_file: str | None,
    strict: bool,
) -> None:
    """Build an index of the studies of FOLDER.

    Keeps the features of MODEL for film and report, for the film alone and for the report alone; ids, labels, paths of
    films, and salted hashes of patients, report bodies and films; no report text and no pixels. The index belongs to
    MODEL. After an interruption, the same command continues; until it has finished, an index of this name answers as
    before.

    \b
    Example: kmm index build saved_models/openi openi --out openi.index --labels findings
    """
    check_place(json_file)
    given = _read_collection(folder, split, columns, table, views, strict)
    with load_keras_quietly():
        from kmm.classifier import Classifier
        from kmm.retrieval.additions import build_index

    collection, more = given
    with name_file_in_errors(out), print_problems_on_error(collection.problems):
        added = build_index(
            Classifier.load(model),
            collection,
            out,
            layer=layer,
            model=model.absolute(),
            labels=labels,
            label_min_count=label_min_count,
            overwrite=overwrite,
            strict=strict,
            progress=make_progress(),
            **more,
        )
    list_problems([*collection.problems, *added.problems])
    write_result(json_file, added.as_dict(), lambda: retrieval_tables.print_index(added.as_dict()))


@index.command()
@click.argument("index", type=PLACE)
@click.argument("folder", type=PLACE)
@model_option
@_from_options
@views_option
@json_option("INDEX_ADD")
@strict_option
def add(
    index: Path,
    folder: Path,
    model: Path | None,
    split: Path | None,
    columns: list[str] | None,
    table: Path | None,
    views: Mapping[str, str] | None,
    json_file: str | None,
    strict: bool,
) -> None:
    """Add the studies of FOLDER to an index.

    Studies that it has already are left out, so that a folder that has grown can be added again. The other studies are
    not read. After an interruption, the same command continues; until it has finished, the index answers as before.

    \b
    Example: kmm index add openi.index other-hospital
    """
    from kmm.retrieval.index import Index

    check_place(json_file)
    opened = Index(index)
    given = _read_collection(folder, split, columns or opened.columns, table, views, strict)
    with load_keras_quietly():
        from kmm.retrieval.additions import add_studies

    collection, more = given
    with name_file_in_errors(index), print_problems_on_error(collection.problems):
        classifier = load_model(opened, model)
        added = add_studies(classifier, collection, index, strict=strict, progress=make_progress(), **more)
    list_problems([*collection.problems, *added.problems])
    write_result(json_file, added.as_dict(), lambda: retrieval_tables.print_index(added.as_dict()))


index.add_command(search)
index.add_command(measure)


def _read_collection(folder, split, columns, table, views, strict):
    """Reads the studies of a folder, and what the index keeps of them beside."""
    from kmm.data.collection import read_collection
    from kmm.data.split import read_parts
    from kmm.retrieval.extra_columns import read_columns

    collection = read_collection(folder, view_overrides=views)
    print_layout(collection)
    check_problems(collection, strict)
    parts = read_parts(split) if split else None
    kept = read_columns(table or folder, columns) if columns else {}
    return collection, {"parts": parts, "columns": kept, "source": folder}
