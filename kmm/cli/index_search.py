"""`kmm index search`: find similar studies."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kmm.cli import retrieval_tables
from kmm.cli.command import PLACE, Command, group_options, json_option, views_option
from kmm.cli.index_pages import rank_again, write_pages
from kmm.cli.output import check_place, list_problems, load_keras_quietly, write_result
from kmm.data.study import part_problems
from kmm.errors import InputError

if TYPE_CHECKING:
    from kmm.classifier import Classifier
    from kmm.retrieval.index import Index

FILTER = "NAME=VALUE, NAME!=VALUE or NAME=VALUE|VALUE, with label, view, part, study or a column as NAME; repeatable"


def overlap_options(meaning: str) -> Callable[[Any], Any]:
    """Returns the options of ranking again by explanations."""
    depth = "Studies of each query that --overlap explains and ranks again; 2 k when not given."
    return group_options(
        click.option("--overlap", type=click.FloatRange(0, 1), default=0.0, show_default=True, help=meaning),
        click.option("--depth", type=click.IntRange(1), help=depth),
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
@click.option("--filter", "filters", multiple=True, help=f"{FILTER}.")
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
@overlap_options("Weight of common places and words of explanations; explains each query and what it finds.")
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
    overlap: float,
    depth: int | None,
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
    many = k if not overlap else max(k, depth or 2 * k)
    results = opened.search(asked, k=many, filters=filters, against=against, include=include, rerank=rerank)
    if overlap:
        results, more = rank_again(opened, load_model(opened, model), results, weight=overlap, k=k)
        problems = [*problems, *more]
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
        "overlap": overlap,
        "results": [one.as_dict() for one in results],
        "pages": [str(page) for page in pages],
        "set_aside": set_aside,
        "notes": notes,
    }
    write_result(json_file, found, lambda: retrieval_tables.print_hits(found))
    sys.exit(0 if results else 2)


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
