"""`kmm index search` and `kmm index measure`: find similar studies, and measure what is found."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kmm.cli import retrieval_tables
from kmm.cli.command import PLACE, SEED, Command, json_option, views_option
from kmm.cli.index_pages import explain_pairs, write_pages
from kmm.cli.output import check_place, list_problems, load_keras_quietly, make_progress, write_result
from kmm.data.study import part_problems
from kmm.errors import InputError

if TYPE_CHECKING:
    from kmm.classifier import Classifier
    from kmm.retrieval.index import Index

RERANK = 0.25
_filter_help = (
    "NAME=VALUE, NAME!=VALUE or NAME=VALUE|VALUE, with label, view, part, study or a column as NAME; repeatable"
)
model_option = click.option(
    "--model", type=PLACE, help="Folder of the classifier, if it is no longer where it was when the index was built."
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


@click.command(cls=Command)
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
@click.option(
    "--html",
    "html_folder",
    type=PLACE,
    help="Folder for a page per query: query and studies side by side, and the places and words that make them alike.",
)
@model_option
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
    html_folder: Path | None,
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
        given, problems = _read_queries(opened, model, paths, report, views, pattern, region, patient)
        asked += given
    results = opened.search(asked, k=k, filters=filters, against=against, include=include, rerank=rerank)
    pages: list[Path] = []
    if html_folder:
        pages, more = write_pages(opened, load_model(opened, model), results, html_folder)
        problems = [*problems, *more]
    list_problems(problems)
    set_aside, notes = part_problems(problems)
    found = {
        "index": str(index),
        "k": k,
        "filters": list(filters),
        "rerank": rerank,
        "results": [one.as_dict() for one in results],
        "pages": [str(page) for page in pages],
        "set_aside": set_aside,
        "notes": notes,
    }
    write_result(json_file, found, lambda: retrieval_tables.print_hits(found))
    sys.exit(0 if results else 2)


@click.command(cls=Command)
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
@click.option(
    "--explain",
    type=click.IntRange(1),
    help="Queries whose first study is explained, and what is named removed as a test; none when not given.",
)
@model_option
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
    explain: int | None,
    model: Path | None,
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
    classifier = load_model(opened, model) if explain else None
    studies = read_again(opened) if baselines or explain else {}
    made = {}
    if baselines:
        made = make_baselines(opened, studies, np.arange(len(opened)), progress)
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
    if explain and classifier is not None:
        chosen = {"most": explain, "queries": queries, "among": among, "repeats": repeats, "seed": seed}
        found["explained"] = explain_pairs(opened, classifier, studies, progress=progress, **chosen)
    write_result(json_file, found, lambda: retrieval_tables.print_retrieval(found))


def load_model(opened: "Index", model: Path | None) -> "Classifier":
    """Loads the classifier of an index.

    Args:
        opened: `Index`.
        model: path of its folder; None for where it was when the index was built.

    Raises:
        InputError: if there is none.
    """
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

    classifier = load_model(opened, model)
    reader = QueryReader(classifier, opened)
    if report:
        text = classifier.batches.text
        studies = [place_report(studies[0], text.sections if text else ())]
    if len(studies) == 1:
        return [reader.read(studies[0], pattern=pattern, region=region)], problems
    queries, more = reader.read_many(studies, pattern=pattern)
    return queries, [*problems, *more]
