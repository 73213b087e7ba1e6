"""Make queries of studies that are not in an index: read them, and compute their vectors by the classifier."""

from collections.abc import Sequence

import numpy as np

from kmm.classifier import Classifier
from kmm.data.study import Problem, Study
from kmm.errors import InputError
from kmm.retrieval.exclusions import hash_study
from kmm.retrieval.index import Index, check_model
from kmm.retrieval.layers import LayerReader, digest_model
from kmm.retrieval.readings import Reading, read_study
from kmm.retrieval.regions import encode_region
from kmm.retrieval.results import Query

Circle = tuple[float, float, float]


class QueryReader:
    """Makes queries for an index by the classifier that it was built with.

    Args:
        classifier: `Classifier`.
        index: `Index`.

    Raises:
        ArtefactError: if the index was built with another classifier.
    """

    def __init__(self, classifier: Classifier, index: Index) -> None:
        check_model(index.folder, index.description, digest_model(classifier))
        self.classifier, self.index = classifier, index
        self._reader = LayerReader(classifier, index.layer)

    def read(self, study: Study, *, pattern: str | None = None, region: Circle | None = None) -> Query:
        """Makes the query of a study.

        Args:
            study: `Study` with a film, a report, or both.
            pattern: str, what of it is compared; None for all that it has.
            region: `(x, y, radius)` in pixels of its film: only the places inside this circle are compared.

        Returns:
            `Query`.

        Raises:
            InputError: if the study cannot be used, lacks a side of the pattern, or a region cannot be compared.
        """
        found = read_study(self.classifier, study)
        if not isinstance(found, Reading):
            raise type(found)(f"study {study.id}: {found}")
        return self._make(found, pattern, region)

    def read_many(self, studies: Sequence[Study], *, pattern: str | None = None) -> tuple[list[Query], list[Problem]]:
        """Makes the queries of studies, without those that cannot be used, which are returned as `Problem`s."""
        queries, problems = [], []
        for study in studies:
            try:
                queries.append(self.read(study, pattern=pattern))
            except InputError as error:
                problems.append(Problem(f"study {study.id}", str(error).removeprefix(f"study {study.id}: ")))
        return queries, problems

    def _make(self, found: Reading, pattern: str | None, region: Circle | None) -> Query:
        study, batch = found.study, found.batch
        encoded = self._reader.encode(batch)
        present = batch.present
        if region is not None:
            encoded = {**encoded, "image_vector": self._encode_region(found, region)}
            present = present * np.array([[1, 0]], np.float32)
        features = self._reader.read_encoded(encoded, present)
        chosen = [name for name, one in features.items() if one.has[0] and pattern in (None, name)]
        if not chosen:
            asked = pattern or " or ".join(features)
            raise InputError(f"study {study.id}: it lacks what the index compares ({asked}).")
        one = features[chosen[0]]
        hashes = hash_study(study, self.index.salt)
        return Query(study.id, chosen[0], one.vectors[0], one.predicted[0], hashes, None, study, region)

    def _encode_region(self, found, region):
        preparation, batch = self.classifier.batches.image, found.batch
        if preparation is None or not batch.present[0, 0]:
            raise InputError(f"study {found.study.id}: a region needs a film.")
        x, y, radius = region
        height, width = batch.film_sizes[0].tolist()
        if not (0 <= x < width and 0 <= y < height and radius > 0):
            raise InputError(
                f"study {found.study.id}: a region is x,y,radius in pixels of the film, {width} x {height}. "
                f"Received: {x:g},{y:g},{radius:g}."
            )
        model = self.classifier.models[self.classifier.main]
        return encode_region(model, batch.image, preparation.mapping((height, width)), region)
