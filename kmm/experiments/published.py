"""Published numbers on the Open-i collection, to stand beside measured ones and never among them.

The splits, films and cleaned reports behind them are not available, so a measured number does not reproduce a published
one. They were published without intervals, and a notebook beside them splits by film, so that films of one study are in
train and test.
"""

from dataclasses import dataclass

AYDIN = "https://arxiv.org/abs/1902.08888"
NOTEBOOKS = "https://github.com/lezral/medical-multimodal-with-transfer-learning"


@dataclass(frozen=True)
class PublishedNumber:
    """One number of a publication.

    Attributes:
        model: str, `joint`, `image` or `text`.
        metric: str, a name in `kmm.evaluate.metrics.METRICS`.
        value: float, with the digits that were published.
        part: str, `train`, `validation` or `test`.
        setting: str. What it was measured with.
        place: str. Table or file of the publication.
        protocol: str, `high` or `low`; empty if it belongs to neither.
        source: str. Link to the publication.
    """

    model: str
    metric: str
    value: float
    part: str
    setting: str
    place: str
    protocol: str = ""
    source: str = AYDIN


def _list_protocols():
    numbers = {"high": (0.81, 0.77, 0.74), "low": (0.77, 0.74, 0.66)}
    settings = {"high": "rate 1e-2, 10 splits of 10 epochs", "low": "rate 1e-5, 3 splits of 50 epochs"}
    for protocol, values in numbers.items():
        for model, value in zip(("joint", "text", "image"), values, strict=True):
            yield PublishedNumber(model, "accuracy", value, "test", settings[protocol], "Table 3", protocol)
    for model, value in zip(("joint", "text", "image"), (0.86, 0.85, 0.74), strict=True):
        yield PublishedNumber(model, "roc_auc", value, "test", "one split", "notebooks", source=NOTEBOOKS)


def _list_word_vectors():
    numbers = {
        ("own word vectors, Open-i", "Table 2"): (0.88, 0.80, 0.75),
        ("GloVe vectors, Open-i", "Table 2"): (0.72, 0.71, 0.69),
        ("own word vectors, private hospital", "Table 1"): (0.88, 0.80, 0.76),
        ("GloVe vectors, private hospital", "Table 1"): (0.73, 0.73, 0.68),
    }
    for (setting, place), values in numbers.items():
        for part, value in zip(("train", "validation", "test"), values, strict=True):
            yield PublishedNumber("text", "accuracy", value, part, setting, place)


PUBLISHED = tuple(_list_protocols())
PUBLISHED_WORD_VECTORS = tuple(_list_word_vectors())


def list_published(protocol: str) -> tuple[PublishedNumber, ...]:
    """Lists the published numbers that belong beside a protocol: its own, or those of every protocol if it has none.

    Args:
        protocol: str, a name of the table of protocols.

    Returns:
        tuple of `PublishedNumber`.

    Example:
        >>> [number.value for number in list_published("low") if number.metric == "accuracy"]
        [0.77, 0.74, 0.66]
        >>> len(list_published("quick"))
        9
    """
    own = any(number.protocol == protocol for number in PUBLISHED)
    return tuple(number for number in PUBLISHED if not own or number.protocol in ("", protocol))
