"""Build an index from studies, and add studies to one. Both continue where a killed process stopped."""

import contextlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kmm.classifier import Classifier
from kmm.data.groups import name_some
from kmm.data.labels import label_studies
from kmm.data.study import Collection, Problem, Study
from kmm.errors import InputError
from kmm.image.decoding import decode_ahead
from kmm.progress import Progress
from kmm.retrieval.filters import COLUMNS, LABEL
from kmm.retrieval.index import Index, check_model
from kmm.retrieval.index_folder import DESCRIPTION, Addition, adding, check_place
from kmm.retrieval.layers import BATCH, LayerReader, digest_model
from kmm.retrieval.readings import Reading, read_study
from kmm.retrieval.shards import BYTES, ROWS, Rows, join_rows
from kmm.retrieval.study_rows import RowMaker, StudyFacts, identify_addition, leave_out_known

STUDIES = 1024  # a shard is written after this many studies, so that a killed process loses little
Columns = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Added:
    """What was added to an index.

    Attributes:
        index: `Index` with the new studies.
        added: int. Studies that were added.
        known: int. Studies that it had already.
        problems: tuple of `Problem`: studies that could not be used.
    """

    index: Index
    added: int
    known: int
    problems: tuple[Problem, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns counts and what the index holds, as a dict for JSON."""
        index = self.index
        return {
            "index": str(index.folder),
            "model": index.description["model"]["path"],
            "layer": index.layer,
            "patterns": list(index.patterns),
            "size": index.size,
            "labels": list(index.label_names),
            "columns": list(index.columns),
            "added": self.added,
            "known": self.known,
            "set_aside": [str(problem) for problem in self.problems],
            "studies": len(index),
        }


def build_index(
    classifier: Classifier,
    collection: Collection,
    folder: Path | str,
    *,
    layer: str = "joint",
    model: Path | str | None = None,
    labels: str | None = None,
    label_min_count: int = 50,
    parts: Mapping[str, str] | None = None,
    columns: Columns | None = None,
    overwrite: bool = False,
    source: Path | str | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Added:
    """Builds an index of studies.

    Until it is finished, an index that it replaces answers as before. If the process is killed, the same call
    continues.

    Args:
        classifier: `Classifier`.
        collection: `Collection`.
        folder: path of the index.
        layer: str, a name in `kmm.retrieval.layers.LAYERS`.
        model: path of the saved classifier, which the index keeps; None if it is not saved.
        labels: str, the label scheme of the known labels, by which results are measured and filtered; None for the
            labels of the classifier.
        label_min_count: int. Fewest studies of a finding, for the scheme `findings`.
        parts: mapping of study id to its part of a split; None for the published parts of the collection, or those that
            the classifier recognises by the fingerprints of its training.
        columns: mapping of the name of a further column to a mapping of study id to text.
        overwrite: bool. Replace an existing index.
        source: path of the folder, manifest or film from which the studies were read, which the index keeps so that
            they can be shown; None for the folder of the collection.
        strict: bool. Raise at the first study that cannot be used.
        progress: `Progress`.

    Returns:
        `Added`.

    Raises:
        InputError: if the index exists and `overwrite` is false, the folder has other files, two studies have one id,
            a name is unknown, or no study can be used.
    """
    check_place(folder)
    place = Path(folder)
    if (place / DESCRIPTION).exists() and not overwrite:
        raise InputError(f"{place} already exists. Choose another name, pass --overwrite, or add to it.")
    reader = LayerReader(classifier, layer)
    scheme = classifier.settings.labels if labels is None else labels
    names = classifier.label_names if labels is None else None
    labelled, names = label_studies(collection.studies, scheme, min_count=label_min_count, names=names)
    described = {
        "model": {"path": None if model is None else str(model), "digest": digest_model(classifier)},
        "layer": layer,
        "patterns": list(reader.patterns),
        "size": reader.size,
        "preparation": classifier.batches.as_dict(),
        "predicted": list(classifier.label_names),
        "labels": {"scheme": scheme, "names": list(names)},
        "columns": _check_columns(columns or {}),
        "sources": [],
        "shards": [],
    }
    facts = _gather_facts(collection, labelled, parts, columns)
    maker = RowMaker(reader, described, facts, _name_source(collection, source))
    return _add(maker, collection, place, described, strict=strict, progress=progress or Progress())


def add_studies(
    classifier: Classifier,
    collection: Collection,
    folder: Path | str,
    *,
    parts: Mapping[str, str] | None = None,
    columns: Columns | None = None,
    source: Path | str | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Added:
    """Adds studies to an index, which answers as before until they are all in it.

    Studies that it has already are left out. If the process is killed, the same call continues.

    Args:
        classifier: `Classifier` with which the index was built.
        collection, parts, source, strict, progress: as for `build_index`.
        folder: path of the index.
        columns: as for `build_index`, for the columns of the index; text is empty where it says nothing.

    Returns:
        `Added`.

    Raises:
        ArtefactError: if there is no such index, or it was built with another classifier.
        InputError: if a study has the id of another study in the index, two studies have one id, or none can be used.
    """
    index = Index(folder)
    check_model(index.folder, index.description, digest_model(classifier))
    unknown = sorted(set(columns or {}) - set(index.columns))
    if unknown:
        raise InputError(f"{folder} has no column {unknown[0]!r}. Its columns: {', '.join(index.columns) or 'none'}.")
    scheme = index.description["labels"]
    labelled, _ = label_studies(collection.studies, scheme["scheme"], names=scheme["names"])
    reader = LayerReader(classifier, index.layer)
    described = {name: value for name, value in index.description.items() if name != "digest"}
    facts = _gather_facts(collection, labelled, parts, columns)
    maker = RowMaker(reader, described, facts, _name_source(collection, source))
    return _add(maker, collection, index.folder, described, strict=strict, progress=progress or Progress())


def _gather_facts(collection, labelled, parts, columns):
    """Gathers what the index keeps of studies beside their features."""
    labels = {study.id: study.labels for study in labelled}
    return StudyFacts(labels, parts if parts is not None else dict(collection.parts) or None, columns or {})


def _name_source(collection, source):
    """Returns the absolute path of what the studies were read from; empty for studies in memory."""
    place = Path(collection.folder if source is None else source)
    return os.path.abspath(place) if place.exists() else ""


def _add(maker, collection, folder, described, *, strict, progress):
    """Adds the studies of a collection that the index, if it has any, lacks."""
    studies = list(collection.studies)
    if twice := [id for id, count in Counter(study.id for study in studies).items() if count > 1]:
        raise InputError(f"Study ids must be unique. {name_some(twice)} occur twice.")
    index = Index(folder) if described["shards"] else None
    new = studies if index is None else leave_out_known(index, studies)
    if index is not None and not new:
        return Added(index, 0, len(studies), ())
    with adding(folder, described, identify_addition(described, new, maker.facts)) as addition:
        problems = _write(new, addition, maker, strict, progress)
        count = sum(one["rows"] for one in addition.planned)
        if not count and index is None:
            error = InputError(f"Expected studies that can be used. All {len(new)} were set aside.")
            error.problems = problems
            raise error
        kept = {"folder": maker.source, "layout": collection.layout, "studies": count}
        addition.finish(sources=[*described["sources"], kept])
    return Added(Index(folder), count, len(studies) - len(new), tuple(problems))


def _write(studies: Sequence[Study], addition: Addition, maker: RowMaker, strict: bool, progress: Progress):
    """Reads the studies behind those that were read before, and writes their shards; returns all problems."""
    classifier, reader, salt = maker.reader.classifier, maker.reader, bytes.fromhex(addition.description["salt"])
    problems = [Problem(*one) for facts in addition.facts for one in facts]
    done = before = addition.done
    waiting: list[Reading] = []
    rows: list[Rows] = []
    aside: list[Problem] = []
    stream = decode_ahead(
        partial(read_study, classifier), studies[done:], size=classifier.batches.film_bytes, ahead=BATCH
    )
    with progress.step("Indexing", len(studies), done) as advance, contextlib.closing(stream):
        for study, found in stream:
            done += 1
            if isinstance(found, Reading) and not reader.can_read(found.batch.present):
                found = InputError(f"it lacks what the layer {reader.layer} reads")
            if isinstance(found, Reading):
                waiting.append(found)
            elif strict:
                raise type(found)(f"study {study.id}: {found}")
            else:
                aside.append(Problem(f"study {study.id}", str(found)))
            last = done == len(studies)
            if len(waiting) == BATCH or (last and waiting):
                rows.append(maker.make(waiting, salt))
                waiting = []
            full = sum(one.nbytes for one in rows) >= BYTES or sum(map(len, rows)) >= ROWS
            if last or (not waiting and (full or done - before >= STUDIES)):
                made = join_rows(rows) if rows else maker.make([], salt)
                addition.write(made, done, [[one.source, one.reason] for one in aside])
                problems, rows, aside, before = problems + aside, [], [], done
            advance()
    return problems


def _check_columns(columns):
    taken = sorted(set(columns) & {LABEL, *COLUMNS})
    if taken:
        raise InputError(f"A column cannot be called {taken[0]!r}, which filters use otherwise. Rename it.")
    return list(columns)
