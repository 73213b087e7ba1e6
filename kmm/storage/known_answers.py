"""Known-answer test of a classifier: its probabilities for made-up studies, recorded when it is saved.

A classifier with unaltered files may still compute other results with another version of a library, another backend or
another processor. A known-answer test detects this.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import keras
import numpy as np

ANSWER_TOLERANCE = 1e-4  # largest difference of a probability; backends and processors differ by about 1e-6
MIXED_TOLERANCE = 2e-2  # for a model that computes in 16 bits
SIDE = 160  # pixels of the made-up film
WORDS = 40  # of the made-up report


class Answering(Protocol):
    """The members of `kmm.classifier.Classifier` that a known-answer test uses."""

    @property
    def models(self) -> Mapping[str, keras.Model]: ...

    @property
    def batches(self) -> Any: ...

    @property
    def settings(self) -> Any: ...

    def probabilities(self, logits: Any, present: Any, part: str | None = None) -> np.ndarray: ...


def compute_answers(classifier: Answering) -> dict[str, list[list[float]]]:
    """Predicts made-up studies: one with film and report, one with a film, one with a report, as far as the model
    reads them.

    The film is a pattern; the report consists of words at equal distances in the vocabulary. Both pass through the
    classifier's own preparation.

    Args:
        classifier: `Classifier`.

    Returns:
        dict of part (`"joint"`, `"image"`, `"text"`) to a list of studies, each a list of probabilities in [0, 1], one
        per label.
    """
    batches = classifier.batches
    reads = [batches.image is not None, batches.text is not None]
    rows = [row for row in ([1, 1], [1, 0], [0, 1]) if _fits(row, reads)]
    present = np.array(rows, np.float32)
    inputs = {
        "image": _draw_film(batches) * present[:, :1, None, None],
        "token_ids": (_write_report(batches) * present[:, 1:]).astype(np.int32),
        "present": present,
    }
    return {
        part: classifier.probabilities(_run(model, inputs), present, part).tolist()
        for part, model in classifier.models.items()
    }


def compare_answers(classifier: Answering, expected: Mapping[str, Any]) -> tuple[float, float]:
    """Compares the current answers of a classifier with those recorded when it was saved.

    Args:
        classifier: `Classifier`.
        expected: dict that `compute_answers` returned.

    Returns:
        (float, the largest difference of a probability, infinity if the answers have another shape; float, the
        tolerated difference).
    """
    found, worst = compute_answers(classifier), 0.0
    for part, rows in found.items():
        known = np.array(expected.get(part, []), np.float64)
        if known.shape != np.shape(rows) or not np.isfinite(known).all():
            return np.inf, ANSWER_TOLERANCE
        worst = float(np.maximum(worst, np.abs(known - rows).max()))
    return worst, MIXED_TOLERANCE if "16" in classifier.settings.precision else ANSWER_TOLERANCE


def _fits(row, reads):
    """Returns whether the model reads every part of a study."""
    return all(read or not there for there, read in zip(row, reads, strict=True))


def _draw_film(batches):
    """Draws a prepared film of waves and a bright disc, float32 `(1, pixels, pixels, 1)`; one pixel without films."""
    if batches.image is None:
        return np.zeros((1, 1, 1, 1), np.float32)
    down, across = np.mgrid[0:SIDE, 0 : SIDE - 32] / SIDE
    film = 90 + 70 * np.sin(9 * across) * np.cos(7 * down)
    film[(down - 0.6) ** 2 + (across - 0.3) ** 2 < 0.01] = 230
    return batches.image.apply(film.astype(np.float32))[None]


def _write_report(batches):
    """Returns int32 `(1, length)`: ids of words of the vocabulary; `(1, 0)` without text."""
    if batches.text is None:
        return np.zeros((1, 0), np.int32)
    words = batches.vocabulary.words[2:] or ["unknown"]
    chosen = [words[len(words) * number // WORDS] for number in range(min(WORDS, len(words)))]
    found = [word.text for word in batches.text.find(" ".join(chosen))]
    return batches.vocabulary.encode(found, batches.text.length, truncate=batches.text.truncate)[None]


def _run(model, inputs):
    """Returns float32 logits; calls the model directly, because `predict` would trace it for these few rows."""
    names = [tensor.name for tensor in model.inputs]
    found = model({name: keras.ops.convert_to_tensor(inputs[name]) for name in names}, training=False)
    return np.asarray(keras.ops.convert_to_numpy(found), np.float32)
