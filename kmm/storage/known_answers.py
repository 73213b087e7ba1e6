"""Known answers: what a classifier says of made-up studies, kept when it is saved and compared later.

Files can be whole and a classifier wrong all the same: another version of a library, another backend or processor may
compute something else. A known-answer test finds that out.
"""

import keras
import numpy as np

TOLERANCE = 1e-4  # largest difference of a probability; backends and processors differ by about 1e-6
MIXED_TOLERANCE = 2e-2  # of a model that computes in 16 bits
SIDE = 160  # pixels of the made-up film
WORDS = 40  # of the made-up report


def compute_answers(classifier):
    """Predicts made-up studies: with film and report, with a film alone and with a report alone, as the model reads.

    The film is a pattern, the report words of the vocabulary at even distances: both go through the classifier's own
    preparation.

    Args:
        classifier: `Classifier`.

    Returns:
        dict of part (`"joint"`, `"image"`, `"text"`) to a list of studies, each a list of probabilities in [0, 1], one
        a label.
    """
    batches = classifier.batches
    reads = [batches.image is not None, batches.text is not None]
    present = np.array([row for row in ([1, 1], [1, 0], [0, 1]) if _fits(row, reads)] or [reads], np.float32)
    inputs = {
        "image": _draw_film(batches) * present[:, :1, None, None],
        "token_ids": (_write_report(batches) * present[:, 1:]).astype(np.int32),
        "present": present,
    }
    return {
        part: classifier.probabilities(_run(model, inputs), present, part).tolist()
        for part, model in classifier.models.items()
    }


def compare_answers(classifier, expected):
    """Compares what a classifier says now with what it said when it was saved.

    Args:
        classifier: `Classifier`.
        expected: dict as `compute_answers` returned it.

    Returns:
        (float, the largest difference of a probability, infinity where the answers have another shape; float, the
        difference that is tolerated).
    """
    found, worst = compute_answers(classifier), 0.0
    for part, rows in found.items():
        known = np.array(expected.get(part, []), np.float64)
        if known.shape != np.shape(rows) or not np.isfinite(known).all():
            return np.inf, TOLERANCE
        worst = float(np.maximum(worst, np.abs(known - rows).max()))
    return worst, MIXED_TOLERANCE if "16" in classifier.settings.precision else TOLERANCE


def _fits(row, reads):
    """Whether a study holds nothing that the model does not read."""
    return all(read or not there for there, read in zip(row, reads, strict=True))


def _draw_film(batches):
    """float32 `(1, pixels, pixels, 1)`: waves and a bright disc, prepared as films are; one pixel without films."""
    if batches.image is None:
        return np.zeros((1, 1, 1, 1), np.float32)
    down, across = np.mgrid[0:SIDE, 0 : SIDE - 32] / SIDE
    film = 90 + 70 * np.sin(9 * across) * np.cos(7 * down)
    film[(down - 0.6) ** 2 + (across - 0.3) ** 2 < 0.01] = 230
    return batches.image.apply(film.astype(np.float32))[None]


def _write_report(batches):
    """int32 `(1, length)`: ids of words of the vocabulary; `(1, 0)` without text."""
    if batches.text is None:
        return np.zeros((1, 0), np.int32)
    words = batches.vocabulary.words[2:] or ["unknown"]
    chosen = [words[len(words) * number // WORDS] for number in range(min(WORDS, len(words)))]
    found = [word.text for word in batches.text.find(" ".join(chosen))]
    return batches.vocabulary.encode(found, batches.text.length, truncate=batches.text.truncate)[None]


def _run(model, inputs):
    """Logits float32, without a trace of the model that is made for these few rows alone."""
    names = [tensor.name for tensor in model.inputs]
    found = model({name: keras.ops.convert_to_tensor(inputs[name]) for name in names}, training=False)
    return np.asarray(keras.ops.convert_to_numpy(found), np.float32)
