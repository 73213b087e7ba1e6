"""`kmm index`: build and extend an index of studies, find similar studies, and measure what it finds."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kmm.cli import retrieval_tables
from kmm.cli.command import LIST, PLACE, SEED, Group, group_options, json_option, strict_option, views_option
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
from kmm.data.study import part_problems
from kmm.errors import InputError

if TYPE_CHECKING:
    from kmm.classifier import Classifier
    from kmm.retrieval.index import Index

RERANK = 0.25
_filter_help = (
    "NAME=VALUE, NAME!=VALUE or NAME=VALUE|VALUE, with label, view, part, study or a column as NAME; repeatable"
)
_model_option = click.option(
    "--model", type=PLACE, help="Folder of the classifier, if it is no longer where it was when the index was built."
)
_from_options = group_options(
    click.option("--split", type=PLACE, help="split.csv with the part of each study; recognised when not given."),
    click.option("--columns", type=LIST, help="Columns of the manifest to keep, to filter by."),
    click.option("--table", type=PLACE, help="Table with the column id and --columns; the manifest when not given."),
)


class _Region(click.ParamType):
    """Three numbers: x, y and radius."""

    name = "x,y,radius"

    def convert(self, value, param, ctx):
        try:
            x, y, radius = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not x,y,radius, three numbers", param, ctx)
        return x, y, radius


@click.group(cls=Group)
def index() -> None:
    """Index studies, find similar ones, measure what is found."""


@index.command()
@click.argument("model", type=PLACE)
@click.argument("folder", type=PLACE)
@click.option("--out", required=True, type=PLACE, help="Folder of the index; the same command continues in it.")
@click.option("--layer", default="joint", show_default=True, help="Features to compare: joint, image or text.")
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
@_model_option
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
        classifier = _load_model(opened, model)
        added = add_studies(classifier, collection, index, strict=strict, progress=make_progress(), **more)
    list_problems([*collection.problems, *added.problems])
    write_result(json_file, added.as_dict(), lambda: retrieval_tables.print_index(added.as_dict()))


@index.command()
@click.argument("index", type=PLACE)
@click.argument("queries", nargs=-1)
@click.option("--report", type=PLACE, help="Text file with the report of the one film, or without a film.")
@click.option("--k", "k", type=click.IntRange(1), default=10, show_default=True, help="Studies to find.")
@click.option("--filter", "filters", multiple=True, help=f"{_filter_help}.")
@click.option("--pattern", help="What of the query is compared: both, image or text; all that it has when not given.")
@click.option("--against", help="What of the studies is compared: both, image or text; as the query when not given.")
@click.option("--region", type=_Region(), help="Circle in pixels of the film; only places inside it are compared.")
@click.option("--patient", help="Patient of the query, whose other studies are not found.")
@click.option(
    "--include",
    multiple=True,
    type=click.Choice(["self", "patient", "body", "film"]),
    help="Also find the query itself, its patient, identical report bodies or identical films; repeatable.",
)
@click.option(
    "--rerank",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Weight of the agreement of predicted labels beside that of the features.",
)
@_model_option
@views_option
@json_option("INDEX_SEARCH")
def search(
    index: Path,
    queries: tuple[str, ...],
    report: Path | None,
    k: int,
    filters: tuple[str, ...],
    pattern: str | None,
    against: str | None,
    region: tuple[float, float, float] | None,
    patient: str | None,
    include: tuple[str, ...],
    rerank: float,
    model: Path | None,
    views: Mapping[str, str] | None,
    json_file: str | None,
) -> None:
    """Find the studies most like each query.

    QUERIES are ids of studies of the index, or images, DICOM files, manifests and folders; a name that is both is taken
    as the id (write ./NAME for the file). Never finds the query itself, studies of its patient, or with an identical
    report body or film, unless --include says so. Search is exact: every allowed study is compared.

    \b
    Examples: kmm index search openi.index film.dcm --report report.txt --k 5
              kmm index search openi.index 1 2 --filter "label=Effusion" --filter "part!=train"
    """
    from kmm.retrieval.index import Index

    check_place(json_file)
    opened = Index(index)
    known = [word for word in queries if opened.find(word) is not None]
    paths = [word for word in queries if word not in known]
    if not queries and not report:
        raise click.UsageError("Expected QUERIES, or --report. Received neither.")
    if known and (report or region or patient):
        raise InputError("--report, --region and --patient belong to a film that is given. Leave them out for ids.")
    problems: list[Any] = []
    asked: list[Any] = [opened.query(word, pattern) for word in known]
    if paths or report:
        more, problems = _read_queries(opened, model, paths, report, views, pattern, region, patient)
        asked += more
    results = opened.search(asked, k=k, filters=filters, against=against, include=include, rerank=rerank)
    list_problems(problems)
    set_aside, notes = part_problems(problems)
    found = {
        "index": str(index),
        "k": k,
        "filters": list(filters),
        "rerank": rerank,
        "results": [one.as_dict() for one in results],
        "set_aside": set_aside,
        "notes": notes,
    }
    write_result(json_file, found, lambda: retrieval_tables.print_hits(found))
    sys.exit(0 if results else 2)


@index.command()
@click.argument("index", type=PLACE)
@click.option("--k", "k", type=click.IntRange(1), default=10, show_default=True, help="Places that are counted.")
@click.option("--queries", multiple=True, help=f"Filter of the queries: {_filter_help}.")
@click.option("--among", multiple=True, help="Filter of the studies that are found; repeatable.")
@click.option("--most", type=click.IntRange(1), default=2000, show_default=True, help="Most queries.")
@click.option(
    "--relevant-from",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Least share of common findings of a relevant study; any common finding for 0.",
)
@click.option(
    "--rerank",
    type=click.FloatRange(0, 1),
    default=RERANK,
    show_default=True,
    help="Weight of predicted labels in the row reranked; 0 leaves it out.",
)
@click.option(
    "--baselines/--no-baselines",
    default=True,
    show_default=True,
    help="Whether to read reports and films for the baselines.",
)
@click.option("--repeats", type=click.IntRange(0), default=1000, show_default=True, help="Bootstrap draws.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the draws.")
@json_option("INDEX_MEASURE")
def measure(
    index: Path,
    k: int,
    queries: tuple[str, ...],
    among: tuple[str, ...],
    most: int,
    relevant_from: float,
    rerank: float,
    baselines: bool,
    repeats: int,
    seed: int,
    json_file: str | None,
) -> None:
    """Measure what an index finds, beside chance.

    Studies of the index are queries for each other. A study is as relevant as the share of findings that both have,
    rare ones weighing more. Beside the index stand TF-IDF of the reports, gray levels of small films, a perfect ranking
    (oracle) and chance; brackets hold 95 % intervals over patients.

    \b
    Example: kmm index measure openi.index --queries part=test --json retrieval.json
    """
    import numpy as np

    from kmm.retrieval.index import Index
    from kmm.retrieval.measures.baselines import make_baselines, read_again
    from kmm.retrieval.measures.measurement import measure_index

    check_place(json_file)
    opened, progress = Index(index), make_progress()
    made = {}
    if baselines:
        made = make_baselines(opened, read_again(opened), np.arange(len(opened)), progress)
        if not made:
            progress.note("The studies are no longer where they were indexed, so the baselines are left out")
    found = measure_index(
        opened,
        k=k,
        queries=queries,
        among=among,
        most=most,
        relevant_from=relevant_from,
        rerank=rerank,
        baselines=made,
        repeats=repeats,
        seed=seed,
        progress=progress,
    )
    write_result(json_file, found, lambda: retrieval_tables.print_retrieval(found))


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


def _load_model(opened: "Index", model: Path | None) -> "Classifier":
    """Loads the classifier of an index, from where it was or from the given folder."""
    from kmm.classifier import Classifier

    path = model or opened.description["model"]["path"]
    if not path or not Path(path).exists():
        raise InputError(f"{opened.folder}: its classifier is not at {path or 'any path'}. Give its folder as --model.")
    return Classifier.load(path, main_only=True)


def _read_queries(opened, model, paths, report, views, pattern, region, patient):
    """Reads films and reports, and makes queries of them; returns these and the problems."""
    from kmm.data.inputs import place_report, read_inputs, read_report
    from kmm.data.study import Report, Study

    if paths:
        collection = read_inputs(paths, report=report, view_overrides=views)
        studies, problems = list(collection.studies), list(collection.problems)
    else:
        made_up = frozenset({"patient"})
        studies, problems = (
            [Study(report.stem, report.stem, report=Report(findings=read_report(report)), made_up=made_up)],
            [],
        )
    if region and len(studies) != 1:
        raise InputError(f"--region belongs to one film. Received: {len(studies)} studies.")
    if patient:
        studies = [replace(study, patient=patient, made_up=study.made_up - {"patient"}) for study in studies]
    with load_keras_quietly():
        from kmm.retrieval.queries import QueryReader

    classifier = _load_model(opened, model)
    reader = QueryReader(classifier, opened)
    if report:
        text = classifier.batches.text
        studies = [place_report(studies[0], text.sections if text else ())]
    if len(studies) == 1:
        return [reader.read(studies[0], pattern=pattern, region=region)], problems
    queries, more = reader.read_many(studies, pattern=pattern)
    return queries, [*problems, *more]
