"""Made-up studies to check an export before it is published and to warm up a server."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from kmm.data.phantom.report import compose_report
from kmm.protocol import signatures as names

if TYPE_CHECKING:
    from kmm.classifier import Classifier

SIDE = 256
WORDS = 24


def make_reports(count: int) -> list[str]:
    """Makes reports of the phantom set, always the same ones: text that comes from no patient.

    Example:
        >>> len(make_reports(2)), make_reports(1)[0] == make_reports(2)[0]
        (2, True)
    """
    return [compose_report([], np.random.default_rng(row), abnormal=False)[0].text() for row in range(count)]


def make_samples(
    classifier: "Classifier", count: int, *, reports: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Makes studies in the form that each signature takes.

    Args:
        classifier: `Classifier`.
        count: int >= 1. The first study has every input of the model. For a model of films and reports, the second has
            only a film, the third only a report, and so on.
        reports: sequence of `count` str; None for random words from the whole vocabulary. Random words must not be
            saved, as they may come from patients.

    Returns:
        dict of input name to array of `count` rows: `image`, `token_ids`, `image_bytes`, `report`, `target`,
        `examples`, `inputs`, `query`, without those that the model does not read.
    """
    batches, random = classifier.batches, np.random.default_rng(0)
    found = {}
    if batches.image:
        films = [_draw_film(random) for _ in range(count)]
        files = [cv2.imencode(".png", film)[1].tobytes() for film in films]
        squares = [batches.image.apply(film.astype(np.float32)) for film in films]
        found[names.IMAGE_BYTES], found[names.IMAGE] = np.array(files, object), np.stack(squares)
    if batches.text and batches.vocabulary:
        words = np.array(batches.vocabulary.words[2:] or ["unknown"])
        reports = reports or [" ".join(random.choice(words, WORDS)) for _ in range(count)]
        found[names.REPORT] = np.array([text.encode() for text in reports], object)
        found[names.TOKEN_IDS] = np.stack([_encode(text, batches) for text in reports])
    if batches.image and batches.text:
        found[names.REPORT][1::3], found[names.TOKEN_IDS][1::3] = b"", 0
        found[names.IMAGE_BYTES][2::3], found[names.IMAGE][2::3] = b"", 0
    found[names.TARGET] = np.full(count, names.ANY_TARGET, np.int32)
    examples = [_write_example({name: found[name][row] for name in found}) for row in range(count)]
    found[names.EXAMPLES] = found[names.CLASSIFY_INPUT] = np.array(examples, object)
    found[names.QUERY] = np.full(count, b"", object)
    return found


def _draw_film(random):
    """Draws a film, uint8 `(side, side - 32)`: noise over a soft pattern, with black and white pixels."""
    coarse = cv2.resize(random.uniform(0, 255, (6, 6)).astype(np.float32), (SIDE - 32, SIDE))
    film = np.clip(coarse + random.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)
    film[0, :2] = 0, 255
    return film


def _encode(text, batches):
    words = [word.text for word in batches.text.find(text)]
    return batches.vocabulary.encode(words, batches.text.length, truncate=batches.text.truncate)


def _write_example(row):
    from kmm.protocol.messages import load_stubs

    stubs = load_stubs()
    example = stubs.example_pb2.Example()
    for name in (names.IMAGE_BYTES, names.REPORT):
        if name in row:
            example.features.feature[name].bytes_list.value.append(row[name])
    return example.SerializeToString()
