"""Make rows of an index from studies; recognise studies that an index has already."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kmm.batches import join_batches
from kmm.data.cohorts import name_film_view
from kmm.data.groups import name_some
from kmm.data.study import Study
from kmm.errors import InputError
from kmm.image.source import digest_source
from kmm.retrieval.columns import IndexColumns
from kmm.retrieval.exclusions import hash_study
from kmm.retrieval.layers import LayerReader
from kmm.retrieval.readings import Reading
from kmm.retrieval.shards import UNKNOWN, Rows, name_column


@dataclass(frozen=True)
class StudyFacts:
    """What an index keeps of studies and no model reads.

    Attributes:
        labels: dict of study id to a dict of label to 0.0, 1.0 or NaN.
        parts: dict of study id to its part of a split; None for the part that the classifier recognises.
        columns: dict of the name of a further column to a dict of study id to text.
    """

    labels: Mapping[str, Mapping[str, float]]
    parts: Mapping[str, str] | None = None
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class RowMaker:
    """Makes the rows of an index from studies that were read.

    Args:
        reader: `LayerReader`.
        described: dict, the description of the index.
        facts: `StudyFacts`.
        source: str, path of the folder of the studies; empty if there is none.
    """

    def __init__(self, reader: LayerReader, described: Mapping[str, Any], facts: StudyFacts, source: str) -> None:
        self.reader, self.facts, self.source = reader, facts, source
        self.names, self.column_names = described["labels"]["names"], described["columns"]

    def make(self, readings: Sequence[Reading], salt: bytes) -> Rows:
        """Makes the rows of a batch, which may be empty; `salt` is that of the index."""
        if not readings:
            return Rows({}, {}, np.zeros((0, 2), np.uint8), np.zeros((0, 0), np.uint8), np.zeros((0, 3), np.uint64))
        batch = join_batches([one.batch for one in readings])
        features = self.reader.read(batch)
        studies = [one.study for one in readings]
        values = [[self.facts.labels.get(one.id, {}).get(name, np.nan) for name in self.names] for one in studies]
        labels = np.array(values, np.float64).reshape(len(studies), len(self.names))
        parts = [one.part if self.facts.parts is None else self.facts.parts.get(one.study.id, "") for one in readings]
        texts = {
            "id": [one.id for one in studies],
            "film": [name_film(one) for one in studies],
            "view": [name_film_view(one.frontal) if one.frontal is not None else "" for one in studies],
            "part": parts,
            "source": [self.source] * len(studies),
        }
        for number, name in enumerate(self.column_names):
            texts[name_column(number)] = [self.facts.columns.get(name, {}).get(one.id, "") for one in studies]
        return Rows(
            vectors={pattern: found.vectors for pattern, found in features.items()},
            predicted={pattern: found.predicted for pattern, found in features.items()},
            present=batch.present.astype(np.uint8),
            labels=np.where(np.isnan(labels), UNKNOWN, labels > 0.5).astype(np.uint8),
            hashes=np.stack([hash_study(one, salt) for one in studies]),
            texts=texts,
        )


def name_film(study: Study) -> str:
    """Returns the absolute path of the frontal film of a study; empty if it has none in a file."""
    film = study.frontal
    return os.path.abspath(film.path) if film is not None and film.memory is None else ""


def leave_out_known(index: IndexColumns, studies: Sequence[Study]) -> list[Study]:
    """Returns the studies that an index lacks.

    Raises:
        InputError: if one has the id of another study in it: another patient, report or name of the film.
    """
    wanted = np.array([study.id.encode("utf-8", "surrogateescape") for study in studies])
    places = np.flatnonzero(np.isin(index.ids, wanted))
    rows = dict(zip(index.read_texts("id", places), places.tolist(), strict=True))
    films = dict(zip(rows, index.read_texts("film", list(rows.values())), strict=True))
    other = [
        study.id
        for study in studies
        if study.id in rows
        and (
            (hash_study(study, index.salt)[:2] != index.hashes[rows[study.id]][:2]).any()
            or Path(films[study.id]).name != Path(name_film(study)).name
        )
    ]
    if other:
        raise InputError(
            f"{index.folder} has other studies of the same ids, with another patient, report or film: "
            f"{name_some(other)}. Rename them, or leave them out."
        )
    return [study for study in studies if study.id not in rows]


def identify_addition(described: Mapping[str, Any], studies: Sequence[Study], facts: StudyFacts) -> str:
    """Returns the digest of everything that decides the rows of an addition, 64 hexadecimal digits.

    Args:
        described: dict, the description of the index.
        studies: sequence of `Study`.
        facts: `StudyFacts`.
    """
    labels, parts, columns = facts.labels, facts.parts, facts.columns
    total = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for study in studies:
        known = sorted((name, str(value)) for name, value in labels.get(study.id, {}).items())
        more = [columns[name].get(study.id, "") for name in sorted(columns)]
        part = None if parts is None else parts.get(study.id, "")
        total.update(json.dumps([*describe_study(study), known, part, more]).encode())
    return total.hexdigest()


def describe_study(study: Study) -> list[Any]:
    """Returns what a study is read from, as a list for JSON: id, patient, identity of the film, sections of the report.

    A film in a file is identified by path, size and time of the last change. The list has the report, so only its
    digest may be kept.
    """
    report = None if study.report is None else list(vars(study.report).values())
    return [study.id, study.patient, _identify_film(study), report]


def _identify_film(study):
    film = study.frontal
    if film is None:
        return None
    if film.memory is not None:
        return digest_source(film)
    try:
        found = os.stat(film.path)
    except OSError:  # reading the study reports it
        return str(film.path)
    return [str(film.path), found.st_size, found.st_mtime_ns]
