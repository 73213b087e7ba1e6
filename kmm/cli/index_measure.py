"""`kmm index measure`: measure what an index finds."""

from pathlib import Path
from typing import Any

import click

from kmm.cli import retrieval_tables
from kmm.cli.command import PLACE, SEED, Command, json_option
from kmm.cli.index_pages import explain_pairs, make_ranking
from kmm.cli.index_search import FILTER, load_model, model_option, overlap_options
from kmm.cli.output import check_place, make_progress, write_result

RERANK = 0.25


@click.command(cls=Command)
@click.argument("index", type=PLACE)
@click.option("--k", "k", type=click.IntRange(1), default=10, show_default=True, help="Places that are counted.")
@click.option("--queries", multiple=True, help=f"Filter of the queries: {FILTER}.")
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
@overlap_options("Weight of common places and words of explanations in the row overlap; 0 leaves it out.")
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
    overlap: float,
    depth: int | None,
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
    (oracle) and chance; brackets hold 95 % intervals over patients. After an interruption, the same command continues.

    \b
    Example: kmm index measure openi.index --queries part=test --json retrieval.json
    """
    import numpy as np

    from kmm.retrieval.index import Index
    from kmm.retrieval.measures.baselines import make_baselines, read_again
    from kmm.retrieval.measures.measurement import measure_index
    from kmm.retrieval.measures.pieces import keeping_pieces

    check_place(json_file)
    opened, progress = Index(index), make_progress()
    classifier = load_model(opened, model) if explain or overlap else None
    studies = read_again(opened) if baselines or explain or overlap else {}
    made = {}
    with keeping_pieces(opened.folder, progress) as pieces:
        shown: dict[str, Any] = {"progress": progress, "pieces": pieces}
        if baselines:
            made = make_baselines(opened, studies, np.arange(len(opened)), **shown)
            if not made:
                progress.note("The studies are no longer where they were indexed, so the baselines are left out")
        chosen = {"queries": queries, "among": among, "repeats": repeats, "seed": seed, **shown}
        ranking = None
        if overlap and classifier is not None:
            ranking = make_ranking(opened, classifier, studies, weight=overlap, depth=depth, **shown)
        options: dict[str, Any] = {
            "relevant_from": relevant_from,
            "rerank": rerank,
            "overlap": ranking,
            "baselines": made,
        }
        found = measure_index(opened, k=k, most=most, **options, **chosen)
        if explain and classifier is not None:
            found["explained"] = explain_pairs(opened, classifier, studies, most=explain, **chosen)
        write_result(json_file, found, lambda: retrieval_tables.print_retrieval(found))
