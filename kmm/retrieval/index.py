"""An index of studies, open for exact search."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kmm.errors import ArtefactError, InputError
from kmm.retrieval.agreement import blend_agreement
from kmm.retrieval.columns import IndexColumns
from kmm.retrieval.exclusions import EXCLUDED, Forbidden
from kmm.retrieval.filters import apply_filters, parse_filter
from kmm.retrieval.results import Hit, Query, SearchResult
from kmm.retrieval.search import DECIMALS, Neighbours, find_nearest
from kmm.retrieval.shards import TEXTS

QUERIES = 256  # at a time


class Index(IndexColumns):
    """An index of the features of studies, which `kmm index build` or `kmm.Classifier.index` wrote.

    An index that is added to meanwhile answers as it was when it was opened. Arguments and attributes are those of
    `kmm.retrieval.columns.IndexColumns`.
    """

    @cached_property
    def forbidden(self) -> Forbidden:
        """The rows that a query must not find, by its hashes."""
        return Forbidden(self.hashes)

    def query(self, study: str, pattern: str | None = None) -> Query:
        """Makes the query for studies like one of the index. It needs no classifier.

        Args:
            study: str, its id.
            pattern: str, what of the study is compared; None for all that it has.

        Raises:
            InputError: if there is no such study, or it lacks a side of the pattern.
        """
        row = self.find(study)
        if row is None:
            raise InputError(f"{self.folder} has no study {study!r}.")
        chosen = [name for name in self.patterns if pattern in (None, name) and self.has(name)[row]]
        if not chosen:
            raise InputError(f"Study {study} has no vector of the pattern {pattern or ' or '.join(self.patterns)!r}.")
        return Query(
            name=study,
            pattern=chosen[0],
            vector=self.read_vectors(chosen[0], [row])[0],
            predicted=self.read_predicted(chosen[0], [row])[0],
            hashes=self.hashes[row],
            row=row,
        )

    def search(
        self,
        queries: Query | str | Sequence[Query | str],
        *,
        k: int = 10,
        filters: Sequence[str] = (),
        against: str | None = None,
        include: Collection[str] = (),
        rerank: float = 0.0,
    ) -> list[SearchResult]:
        """Finds the studies most like each query.

        Args:
            queries: `Query`, id of a study of the index, or a sequence of these.
            k: int, at least 1.
            filters: sequence of str, each of which every hit fulfils: see `kmm.retrieval.filters`.
            against: str, the pattern of the studies that is compared with the query: `"both"`, `"image"` or `"text"`;
                None for that of the query. Only studies that have it are found.
            include: of `kmm.retrieval.exclusions.EXCLUDED`: studies that would otherwise never be found, such as those
                of the same `"patient"`.
            rerank: float in [0, 1]. Weight of the agreement of the predicted probabilities, see
                `kmm.retrieval.agreement`; the cosine has the rest. Known labels are never used.

        Returns:
            list of `SearchResult` in the order of the queries.

        Raises:
            InputError: if an argument is out of range, or a study or a name in a filter is unknown.
        """
        _check_search(k, include, rerank)
        if against is not None and against not in self.patterns:
            raise InputError(f"`against` must be one of {', '.join(self.patterns)}. Received: {against!r}.")
        given = [queries] if isinstance(queries, Query | str) else list(queries)
        asked = [self.query(one) if isinstance(one, str) else one for one in given]
        kept = apply_filters(self, [parse_filter(one) for one in filters])
        results: dict[int, SearchResult] = {}
        for pattern in dict.fromkeys(against or one.pattern for one in asked):
            places = [place for place, one in enumerate(asked) if (against or one.pattern) == pattern]
            for start in range(0, len(places), QUERIES):
                cut = places[start : start + QUERIES]
                found = self._search([asked[place] for place in cut], pattern, kept, k, include, rerank)
                results |= dict(zip(cut, found, strict=True))
        return [results[place] for place in range(len(asked))]

    def _search(self, queries, pattern, kept, k, include, rerank):
        has = self.has(pattern) & kept
        allowed = None if has.all() else np.flatnonzero(has)
        count = len(self) if allowed is None else len(allowed)
        excluded = [self.forbidden.list_rows(one.hashes, one.row, include) for one in queries]
        forbidden = [rows for rows, _ in excluded]
        vectors = np.stack([one.vector for one in queries])
        adjust = None
        if rerank:
            adjust = blend_agreement(np.stack([one.predicted for one in queries]), self.predicted(pattern), rerank)
        found = find_nearest(
            vectors,
            self.blocks(pattern),
            len(self),
            k,
            allowed=allowed,
            forbidden=forbidden,
            read_ids=lambda rows: self.ids[rows],
            adjust=adjust,
        )
        hits = self._make_hits(queries, pattern, found)
        return [
            SearchResult(
                query=query,
                against=pattern,
                hits=some,
                allowed=count,
                excluded={reason: number for reason, rows in reasons.items() if (number := int(has[rows].sum()))},
            )
            for query, some, (_, reasons) in zip(queries, hits, excluded, strict=True)
        ]

    def _make_hits(self, queries: Sequence[Query], pattern: str, found: Sequence[Neighbours]) -> list[tuple[Hit, ...]]:
        """Makes the hits of each query; each column is read once for all."""
        rows = np.concatenate([np.zeros(0, np.int64), *(near.rows for near in found)])
        texts = {name: self.read_texts(name, rows) for name in (*TEXTS, *self.columns)}
        predicted, vectors = self.read_predicted(pattern, rows), self.read_vectors(pattern, rows)
        hits, place = [], 0
        for query, near in zip(queries, found, strict=True):
            some = []
            for rank, (row, score) in enumerate(zip(near.rows.tolist(), near.scores.tolist(), strict=True), 1):
                hit = Hit(
                    rank=rank,
                    study=texts["id"][place],
                    row=row,
                    score=score,
                    cosine=round(float(vectors[place] @ query.vector), DECIMALS),
                    film=texts["film"][place] or None,
                    view=texts["view"][place],
                    part=texts["part"][place],
                    source=texts["source"][place],
                    labels=_known(self.label_names, self.labels[row]),
                    predicted=dict(zip(self.predicted_names, predicted[place].tolist(), strict=True)),
                    columns={name: texts[name][place] for name in self.columns},
                )
                some.append(hit)
                place += 1
            hits.append(tuple(some))
        return hits


def open_index(folder: Path | str, *, model: str | None = None) -> Index:
    """Opens an index.

    Args:
        folder: path of the index.
        model: str, the digest of the classifier that is going to ask, from `kmm.retrieval.layers.digest_model`; None
            if none is.

    Raises:
        ArtefactError: if there is no index, it was altered, or was built with another classifier.
    """
    index = Index(folder)
    if model is not None:
        check_model(index.folder, index.description, model)
    return index


def check_model(folder: Path, description: Mapping[str, Any], model: str) -> None:
    """Refuses a classifier other than that of an index.

    Args:
        folder: Path of the index, for the message.
        description: dict of the index.
        model: str, the digest of the classifier.

    Raises:
        ArtefactError: if the digests differ.
    """
    own = description["model"]["digest"]
    if own != model:
        raise ArtefactError(
            f"{folder} was built with another classifier (digest {own[:12]}, not {model[:12]}), so its vectors cannot "
            "be compared. Give the classifier that it was built with, or build an index with this one."
        )


def _check_search(k, include, rerank):
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"`k` must be a whole number of at least 1. Received: {k!r}.")
    if unknown := sorted(set(include) - set(EXCLUDED)):
        raise InputError(f"`include` has names of {', '.join(EXCLUDED)}. Received: {', '.join(unknown)}.")
    if not 0 <= rerank <= 1:
        raise InputError(f"`rerank` must be in [0, 1]. Received: {rerank}.")


def _known(names, values):
    return {name: float(value) for name, value in zip(names, values.tolist(), strict=True) if value == value}
