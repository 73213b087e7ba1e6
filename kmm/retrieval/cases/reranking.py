"""Rank what a search found again by the overlap of explanations: common places of films and common words of reports."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kmm.data.study import Problem, Study
from kmm.errors import InputError
from kmm.progress import Progress
from kmm.retrieval.cases.explainer import GONE
from kmm.retrieval.cases.naming import NamingExplainer
from kmm.retrieval.measures.overlap import NOTHING, Named, measure_overlap
from kmm.retrieval.results import Hit, SearchResult
from kmm.retrieval.search import DECIMALS


def rerank_results(
    results: Sequence[SearchResult],
    explainer: NamingExplainer,
    studies: Mapping[str, Study],
    *,
    weight: float,
    k: int,
    progress: Progress | None = None,
) -> tuple[list[SearchResult], list[Problem]]:
    """Ranks the hits of searches again by `(1 - weight) * score + weight * overlap`, see
    `kmm.retrieval.measures.overlap.measure_overlap`.

    Each query and each hit is explained, a study that several searches found only once. That takes as long as `kmm
    explain` takes for them; so search for a few times k studies.

    Args:
        results: sequence of `SearchResult` of one index.
        explainer: `NamingExplainer` of this index.
        studies: mapping of study id to `Study`, of the index.
        weight: float in [0, 1].
        k: int, at least 1. Most hits to keep of each search.
        progress: `Progress`.

    Returns:
        list of `SearchResult`, whose hits have an `overlap`; and list of `Problem`: hits that cannot be explained, and
        have an overlap of 0.

    Raises:
        InputError: if a query is compared by a film with reports or the reverse, or by a region; or it is no longer
            where it was, or cannot be explained.
    """
    for result in results:
        _check(result)
    named: dict[tuple[str, str], Named] = {}
    wanted: dict[str, dict[str, Study]] = {}
    problems = []
    for result in results:
        some = wanted.setdefault(result.against, {})
        for hit in result.hits:
            if hit.study in studies:
                some[hit.study] = studies[hit.study]
            else:
                problems.append(Problem(f"study {hit.study}", GONE))
    outside = {id(result): _find_query(result, studies) for result in results}
    total = sum(map(len, wanted.values())) + len(results)
    with (progress or Progress()).step("Explaining for overlaps", total) as advance:
        for pattern, some in wanted.items():
            found = explainer.name(list(some.values()), pattern, problems.append, advance)
            named |= {(pattern, study): one for study, one in found.items()}
        ranked = []
        for result in results:
            own = _name_query(result, outside[id(result)], explainer, named, advance)
            ranked.append(_rank(result, own, named, weight, k))
    return ranked, list(dict.fromkeys(problems))


def _check(result):
    query = result.query
    if query.pattern != result.against:
        raise InputError(
            f"study {query.name}: overlaps compare films with films and reports with reports, not {query.pattern} with "
            f"{result.against}. Leave the overlap out, or compare the same of both."
        )
    if query.region is not None:
        raise InputError(f"study {query.name}: overlaps compare whole films. Leave out the overlap, or the region.")


def _find_query(result, studies):
    query = result.query
    study = query.study or studies.get(query.name)
    if study is None:
        raise InputError(f"study {query.name}: {GONE}. Give its files as the query.")
    return study


def _name_query(result, study, explainer, named, advance):
    """Returns what the explanation of a query names; that of a study of the index may be known already."""
    query = result.query
    known = named.get((query.pattern, query.name)) if query.row is not None else None
    if known is not None:
        advance()
        return known
    problems: list[Problem] = []
    found = explainer.name([study], query.pattern, problems.append, advance)
    if problems:
        raise InputError(f"study {query.name}: {problems[0].reason}")
    return found[study.id]


def _rank(result: SearchResult, own: Named, named: Mapping[tuple[str, str], Named], weight: float, k: int):
    def blend(hit: Hit) -> Hit:
        overlap = measure_overlap(own, named.get((result.against, hit.study), NOTHING), result.against)
        score = round((1 - weight) * hit.score + weight * overlap, DECIMALS)
        return replace(hit, score=score, overlap=round(overlap, DECIMALS))

    order = sorted(map(blend, result.hits), key=lambda hit: (-hit.score, hit.rank))[:k]
    return replace(result, hits=tuple(replace(hit, rank=rank) for rank, hit in enumerate(order, 1)))
