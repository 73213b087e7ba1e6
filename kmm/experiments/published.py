"""Numbers of the publication whose experiments a comparison repeats, each with its source."""

from typing import Any

PAPER = "https://arxiv.org/abs/1902.08888"
CODE = "https://github.com/lezral/medical-multimodal-with-transfer-learning"
_MODELS = ("joint", "text", "image")


def _rows(what, metric, part, values, source, protocol="", printed=False):
    common = {"metric": metric, "part": part, "source": source, "protocol": protocol, "printed": printed}
    return [{"what": what, "model": model, "value": value, **common} for model, value in values.items()]


def _text(what, values, source):
    parts = ("train", "validation", "test")
    return [row for part, value in zip(parts, values) for row in _rows(what, "accuracy", part, {"text": value}, source)]


# Open-i as a whole, labels normal and abnormal; the published splits leak, and were made by other code.
PUBLISHED: list[dict[str, Any]] = [
    *_rows("table 3, high rate", "accuracy", "test", dict(zip(_MODELS, (0.81, 0.77, 0.74))), PAPER, "high", True),
    *_rows("table 3, low rate", "accuracy", "test", dict(zip(_MODELS, (0.77, 0.74, 0.66))), PAPER, "low", True),
    *_rows("notebooks", "roc_auc", "test", dict(zip(_MODELS, (0.86, 0.85, 0.74))), CODE, printed=True),
    *_rows("213 images", "accuracy", "test", dict(zip(_MODELS, (0.751, 0.723, 0.742))), CODE),
    *_text("table 2, own word vectors", (0.88, 0.80, 0.75), PAPER),
    *_text("table 2, GloVe", (0.72, 0.71, 0.69), PAPER),
    *_text("table 1, private set, own word vectors", (0.88, 0.80, 0.76), PAPER),
    *_text("table 1, private set, GloVe", (0.73, 0.73, 0.68), PAPER),
]


def list_published(protocol: str) -> list[dict[str, Any]]:
    """Lists the published numbers that stand beside a comparison.

    Args:
        protocol: str. Numbers of another protocol are left out; those of no protocol stay.

    Returns:
        list of dict: `what` (the table), `model`, `metric`, `part`, `value`, `source`, `protocol`, and `printed`,
        whether a short table has it. They were measured on other splits, by other code, and in part with known errors:
        they are no baseline.

    Example:
        >>> [(row["model"], row["value"]) for row in list_published("low")][:3]
        [('joint', 0.77), ('text', 0.74), ('image', 0.66)]
    """
    return [row for row in PUBLISHED if row["protocol"] in ("", protocol) or protocol not in ("high", "low")]
