"""Features of a layer of a classifier, of unit length, for each pattern in which a study can be read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from kmm.batches import Batch
from kmm.classifier import Classifier, choose_size, pad_rows
from kmm.data.modalities import PATTERNS, hide_sides, list_patterns
from kmm.errors import InputError, look_up
from kmm.models.fusion import find_features
from kmm.models.views.feature_view import view_encoder
from kmm.models.views.parts import encoders_of, fusion_of, parts_read
from kmm.models.views.projection import Projection
from kmm.models.views.shared_encoders import predict_batch
from kmm.models.weights.checkpoints import weights_digest

SIDES = ("image", "text")
BATCH = 32


@dataclass(frozen=True)
class Layer:
    """A row of the table `LAYERS`.

    Attributes:
        side: str or None. The side whose encoder returns the features; None for those of the fusion, and of several.
        title: str, for people.
        projected: bool. Whether vectors are mapped into one space by the classifier's `Projection`.
    """

    side: str | None
    title: str
    projected: bool = False


LAYERS = {
    "joint": Layer(None, "features from which the logits are computed"),
    "image": Layer("image", "vector of the image encoder"),
    "text": Layer("text", "vector of the text encoder"),
    "projection": Layer(None, "projections of contrastive terms", projected=True),
}
NO_PROJECTION = (
    "This classifier keeps no projections, because it was fitted without contrastive terms. Use the layer joint, or "
    "fit with --set contrastive=infonce."
)


@dataclass(frozen=True)
class Features:
    """What a classifier computes of some studies when it reads one pattern of them.

    Attributes:
        vectors: float32 `(n, d)`, of length 1; zeros for a study that lacks a side of the pattern.
        predicted: float32 `(n, n_labels)` in [0, 1], calibrated probabilities; zeros for such a study.
        has: bool `(n,)`. Whether a study has every side of the pattern.
    """

    vectors: np.ndarray
    predicted: np.ndarray
    has: np.ndarray


class LayerReader:
    """Computes the features of a layer. Each encoder runs once per batch, the fusion once for each pattern.

    Args:
        classifier: `kmm.classifier.Classifier`.
        layer: str, a name in `LAYERS`.

    Raises:
        InputError: if the layer is unknown, or the classifier does not read its side, or keeps no projections.
    """

    def __init__(self, classifier: Classifier, layer: str = "joint") -> None:
        self.classifier, self.layer = classifier, layer
        self._entry = look_up(LAYERS, layer, "layer")
        model = classifier.models[classifier.main]
        sides = [side for side in SIDES if encoders_of(model, side)]
        if self._entry.side is not None and self._entry.side not in sides:
            read = "films" if sides == ["image"] else "reports"
            raise InputError(f"This classifier reads {read} only, so it has no layer {layer!r}. Use the layer joint.")
        if self._entry.projected:
            self._find_projection()  # or says that there is none
        self._model, self._sides = model, sides

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns in which studies are read, of `kmm.data.modalities.PATTERNS`, the fullest first."""
        if self._entry.side is not None:
            return (self._entry.side,)
        if self._entry.projected:
            names = self._find_projection().names
            both = "joint" in names or {"image", "text"} <= set(names)
            return tuple(name for name in PATTERNS if name in names or (name == "both" and both))
        return list_patterns(image="image" in self._sides, text="text" in self._sides)

    def _find_projection(self) -> Projection:
        if self.classifier.projection is None:
            raise InputError(NO_PROJECTION)
        return self.classifier.projection

    def can_read(self, present: np.ndarray) -> bool:
        """Returns whether studies, by `present` `(n, 2)`, have every side of a pattern, the same or another each."""
        return bool(np.any([hide_sides(present, pattern)[1] for pattern in self.patterns], axis=0).all())

    @property
    def size(self) -> int:
        """The number of features."""
        if self._entry.projected:
            return self._find_projection().units
        if self._entry.side is None:
            return int(find_features(fusion_of(self._model)).shape[-1])
        return int(encoders_of(self._model, self._entry.side)[-1].output["vector"].shape[-1])

    @cached_property
    def _encoders(self) -> dict[str, keras.Model]:
        parts = {side: sorted({"vector", *parts_read(self._model, side)}) for side in self._sides}
        return {side: view_encoder(self._model, side, parts[side]) for side in self._sides}

    @cached_property
    def _head(self) -> keras.Model:
        fusion = fusion_of(self._model)
        return keras.Model(fusion.input, {"logits": fusion.output, "features": find_features(fusion)})

    def encode(self, batch: Batch) -> dict[str, np.ndarray]:
        """Runs the encoders on a batch.

        Args:
            batch: `Batch` of n studies.

        Returns:
            dict of `"image_vector"` and the other parts of an encoding that the model reads, `(n, ...)`.
        """
        count = len(batch.present)
        inputs = pad_rows(batch.inputs(), choose_size(count, BATCH)) if count <= BATCH else batch.inputs()
        found: dict[str, np.ndarray] = {}
        for side, encoder in self._encoders.items():
            parts = predict_batch(encoder, inputs)
            found |= {f"{side}_{part}": np.asarray(rows)[:count] for part, rows in parts.items()}
        return found

    def read(self, batch: Batch) -> dict[str, Features]:
        """Computes the features of a batch.

        Args:
            batch: `Batch` of n studies.

        Returns:
            dict of each of `patterns` to `Features`.
        """
        return self.read_encoded(self.encode(batch), batch.present)

    def read_encoded(self, encoded: Mapping[str, np.ndarray], present: np.ndarray) -> dict[str, Features]:
        """Computes the features from what the encoders return, see `encode`.

        Args:
            encoded: dict of arrays `(n, ...)`.
            present: float `(n, 2)`: whether each study has a film, and words.
        """
        return {pattern: self._read_pattern(encoded, present, pattern) for pattern in self.patterns}

    def _read_pattern(self, encoded, present, pattern):
        hidden, has = hide_sides(present, pattern)
        count = len(hidden)
        size = choose_size(count, BATCH) if count <= BATCH else count
        names = [tensor.name for tensor in self._head.inputs]
        given = pad_rows({**encoded, "present": np.asarray(hidden, np.float32)}, size)
        found = self._head.predict_on_batch({name: given[name] for name in names})
        logits = np.asarray(found["logits"], np.float32)[:count]
        rows = {side: encoded[f"{side}_vector"][:count] for side in self._sides}
        vectors = self._choose_vectors({**rows, "joint": np.asarray(found["features"], np.float32)[:count]}, pattern)
        predicted = self.classifier.probabilities(logits, hidden)
        return Features(vectors * has[:, None], (predicted * has[:, None]).astype(np.float32), has)

    def _choose_vectors(self, rows, pattern):
        """Returns the vectors of the layer, of length 1, from those of the encoders and of the fusion."""
        if not self._entry.projected:
            return normalise(rows[self._entry.side or "joint"])
        projection = self._find_projection()
        name = "joint" if pattern == "both" else pattern
        if name in projection.names:
            return normalise(projection.project(name, rows[name]))
        return normalise(sum(normalise(projection.project(side, rows[side])) for side in SIDES))


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Divides vectors by their lengths; a vector of zeros stays as it is.

    Args:
        vectors: float `(n, d)`.

    Returns:
        float32 `(n, d)`.

    Example:
        >>> normalise(np.array([[3.0, 4.0], [0.0, 0.0]])).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def digest_model(classifier: Classifier) -> str:
    """Computes a digest of everything in a classifier that decides its features and its predictions.

    A classifier has the same digest in memory, in its folder and in an archive of `kmm model pack`; one whose weights,
    preparation, vocabulary or temperatures differ has another.

    Args:
        classifier: `kmm.classifier.Classifier`.

    Returns:
        str of 64 hexadecimal digits.
    """
    main, batches = classifier.main, classifier.batches
    words: Any = () if batches.vocabulary is None else list(batches.vocabulary.words)
    described = {
        "main": main,
        "weights": weights_digest(classifier.models[main]),
        "preparation": batches.as_dict(),
        "words": words,
        "temperatures": np.asarray(classifier.temperatures[main]).tolist(),
        "patterns": PATTERNS,
    }
    if classifier.projection is not None:
        described["projection"] = classifier.projection.digest
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
