"""Print what `kmm index` built, found and measured, as tables on standard output."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

TITLES = {"both": "film and report", "image": "film", "text": "report"}
ROWS = {
    "cosine": "features",
    "reranked": "features and predictions",
    "overlap": "with explanations",
    "tfidf": "TF-IDF of reports",
    "film": "gray levels of films",
    "oracle": "oracle",
    "chance": "chance",
}
SHOWN = {"precision": "P@{k}", "recall": "R@{k}", "map": "mAP", "mrr": "MRR@{k}", "ndcg": "nDCG@{k}"}
REMOVED = {"both": "named places and words", "film": "named places", "words": "named words"}
MOST_LABELS = 4  # in a line of hits


def print_index(built: Row) -> None:
    """Prints the counts of `kmm.retrieval.additions.Added`."""
    patterns = ", ".join(TITLES[name] for name in built["patterns"])
    print(f"{built['index']}: {built['studies']} studies, {built['size']} features of the layer {built['layer']}")
    print(f"  added: {built['added']}; already in it: {built['known']}; set aside: {len(built['set_aside'])}")
    print(f"  compared by: {patterns}")
    print(f"  labels: {', '.join(built['labels']) or 'none'}")
    if built["columns"]:
        print(f"  columns: {', '.join(built['columns'])}")


def print_hits(found: Row) -> None:
    """Prints the studies that `kmm.retrieval.index.Index.search` found for each query."""
    for result in found["results"]:
        left = ", ".join(f"{reason} {count}" for reason, count in result["excluded"].items() if count)
        rows = [
            [
                hit["rank"],
                hit["study"],
                f"{hit['score']:.4f}",
                hit["part"],
                hit["view"],
                _list_labels(hit["labels"]),
                hit["film"] or "",
            ]
            for hit in result["hits"]
        ]
        compared = f"{TITLES[result['pattern']]} against {TITLES[result['against']]}"
        title = f"{result['query']}: {compared}, {result['allowed']} studies{f'; left out: {left}' if left else ''}"
        _print_table(["", "study", "score", "part", "view", "labels", "film"], rows, title)
    for page in found.get("pages", ()):
        print(f"page: {page}")


def print_retrieval(found: Row) -> None:
    """Prints the tables of `kmm.retrieval.measures.measurement.measure_index`."""
    k = found["k"]
    print(f"{found['index']}: {found['studies']} studies, layer {found['layer']}, labels {found['labels']}")
    print(f"relevant: {_describe_relevance(found['relevant_from'])}; {found['unknown']} studies without known labels")
    if found["overlap"]:
        again = found["overlap"]
        failed = f", {again['set_aside']} could not be" if again["set_aside"] else ""
        print(f"overlap: {again['explained']} explanations{failed}, for {again['depth']} studies of each query")
    for mode in found["modes"]:
        title = f"{TITLES[mode['query']]} against {TITLES[mode['against']]}"
        counts = f"{mode['queries']} queries of {mode['patients']} patients, {mode['candidates']} studies"
        print(f"\n{title}: {counts}")
        print(
            f"  queries without a relevant study, left out: {mode['without_relevant']}; with ties: {mode['with_ties']}"
        )
        head = ["", *(name.format(k=k) for name in SHOWN.values()), "lift of nDCG"]
        rows = [
            [
                ROWS[name],
                *(_bracket(row[measure]["mean"], row[measure]["interval"]) for measure in SHOWN),
                _bracket(row["ndcg"].get("lift"), row["ndcg"].get("lift_interval"), 2),
            ]
            for name, row in mode["rows"].items()
        ]
        _print_table(head, rows)
        findings = [
            [
                one["finding"],
                one["queries"],
                f"{one['precision']:.3f}",
                f"{one['chance']:.3f}",
                _bracket(one["lift"], one["lift_interval"], 2),
            ]
            for one in mode["findings"]
        ]
        _print_table(["finding of the query", "queries", f"P@{k}", "chance", "lift"], findings)
    if "explained" in found:
        _print_explained(found["explained"])


def _print_explained(found: Row) -> None:
    """Prints what similarities lose without what their explanations name."""
    gap = found["completeness_gap"]
    print(f"\nExplanations of {found['pairs']} pairs of {found['patients']} patients, by {TITLES[found['pattern']]}")
    if gap["largest"] is not None:
        print(f"  error of the sum: median {100 * gap['median']:.2f} %, largest {100 * gap['largest']:.2f} %")
    rows = [
        [
            REMOVED[name],
            row["n"],
            _bracket(row["named"], None, 4),
            _bracket(row["by_chance"], None, 4),
            _bracket(row["difference"], row["interval"], 4),
            "" if row["larger"] is None else f"{100 * row['larger']:.0f} %",
        ]
        for name, row in ((name, found[name]) for name in REMOVED)
    ]
    _print_table(["removed", "studies", "cosine lost", "by chance", "difference", "lose more"], rows)


def _describe_relevance(least):
    return f"at least {least:g} of the weight of the findings is common" if least else "any common finding"


def _list_labels(labels: Mapping[str, float]) -> str:
    names = [name for name, value in labels.items() if value == 1]
    more = f" and {len(names) - MOST_LABELS} more" if len(names) > MOST_LABELS else ""
    return ", ".join(names[:MOST_LABELS]) + more


def _bracket(value, between, digits=3):
    if value is None:
        return ""
    ends = f" [{between[0]:.{digits}f}, {between[1]:.{digits}f}]" if between else ""
    return f"{value:.{digits}f}{ends}"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    from kmm.evaluate.output.tables import write_table

    print(write_table(columns, rows, title=title, terminal=sys.stdout.isatty()), end="")
