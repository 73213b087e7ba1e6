"""Inputs and outputs of a served classifier: the contract between an export, a server and its clients.

Every tensor has a name, and its first axis is the batch. No framework is loaded here.

    serving_default   one of the next three, chosen at export; by default the first
    serving_tensors   takes a prepared film and word ids, for programs that prepare them as kmm does; left out when it
                      is the default
    serving_bytes     takes the bytes of a PNG or JPEG file and a report; the graph does all preparation
    tf_example        takes the same in a serialized tf.Example
    classify          the Classify RPC: a tf.Example in, classes and scores out
    explain           inputs of serving_tensors and a target; returns integrated gradients
    explain_bytes     inputs of serving_bytes and a target; returns integrated gradients
    embed             inputs of serving_tensors; returns the features behind the logits
    embed_bytes       inputs of serving_bytes; returns the features behind the logits
    describe          describes the classifier as JSON

A missing film is an image of zeros or empty bytes; a missing report is padding ids or an empty text. The model replaces
the missing part by its learned substitute. A study without a film and a report is refused.
"""

from dataclasses import dataclass

IMAGE, TOKEN_IDS, IMAGE_BYTES, REPORT = "image", "token_ids", "image_bytes", "report"
TARGET, EXAMPLES, CLASSIFY_INPUT, QUERY = "target", "examples", "inputs", "query"
ANY_TARGET = -1  # explain the label with the highest probability
MOST_ROWS, MOST_EXPLAINED = 1024, 64  # rows per call
PROBABILITIES, LOGITS, LABEL_NAMES, THRESHOLDS = "probabilities", "logits", "label_names", "thresholds"
DECISIONS, CLASSES, SCORES, FEATURES, DESCRIPTION = "decisions", "classes", "scores", "features", "description"
IMAGE_ATTRIBUTION, IMAGE_BOX = "image_attribution", "image_box"
TOKEN_ATTRIBUTION, TOKEN_ENERGY, TOKEN_WORDS = "token_attribution", "token_energy", "token_words"
SCORE, BASELINE_SCORE, GAP, MAP_ERROR = "score", "baseline_score", "completeness_gap", "map_error"
DEFAULT_SIGNATURE = "serving_default"
DESCRIBE = "describe"  # only exports of kmm have this signature
EXPLAIN = "explain"  # prefix of the names of explanation signatures
LAST_VERSION = 2**63 - 1  # TensorFlow Serving reads versions as int64
DEFAULT_SIGNATURES = {"tensors": "serving_tensors", "bytes": "serving_bytes", "tf_example": "tf_example"}


@dataclass(frozen=True)
class Field:
    """A named tensor.

    Attributes:
        name: str.
        dtype: `"float32"`, `"int32"`, `"bool"` or `"string"`.
        shape: tuple of int; the first axis is the batch, None.
        meaning: str, one line.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    meaning: str


@dataclass(frozen=True)
class Signature:
    """A way to call a served classifier.

    Attributes:
        name: str.
        inputs, outputs: tuple of `Field`.
        kind: str. Equal to `name`, except for `serving_default`: there, the name of the signature chosen at export.
        most: int. Maximum rows per call.
    """

    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    kind: str

    @property
    def most(self) -> int:
        return MOST_EXPLAINED if self.kind.startswith("explain") else MOST_ROWS


def list_signatures(
    *,
    pixels: int | None,
    length: int | None,
    label_count: int,
    feature_size: int,
    default: str = "tensors",
    explain: bool = True,
) -> dict[str, Signature]:
    """Lists the signatures of an export.

    Args:
        pixels: int, the side of the prepared film in pixels; None for a text-only model.
        length: int, the number of tokens read from a report; None for an image-only model.
        label_count: int.
        feature_size: int. Number of features behind the logits.
        default: key of `DEFAULT_SIGNATURES`. The signature that becomes `serving_default`.
        explain: bool. Whether to export explanations.

    Returns:
        dict of name to `Signature`.

    Example:
        >>> signatures = list_signatures(pixels=64, length=140, label_count=1, feature_size=8)
        >>> list(signatures)
        ['serving_default', 'serving_bytes', 'tf_example', 'classify', 'embed', 'embed_bytes', 'describe', 'explain', \
'explain_bytes']
        >>> [field.name for field in signatures["explain_bytes"].inputs]
        ['image_bytes', 'report', 'target']
    """
    tensors, raw = _list_tensors(pixels, length), _list_raw(pixels, length)
    predicted = _list_predicted((None, label_count))
    features = (Field(FEATURES, "float32", (None, feature_size), "features behind the logits"),)
    found = [
        _make("serving_tensors", tensors, predicted),
        _make("serving_bytes", raw, predicted),
        *_list_examples((None, label_count), predicted),
        _make("embed", tensors, features),
        _make("embed_bytes", raw, features),
        _make(
            "describe",
            (Field(QUERY, "string", (None,), "ignored"),),
            (Field(DESCRIPTION, "string", (None,), "JSON: labels, preparation, calibration, digest, versions"),),
        ),
    ]
    if explain:
        target = (Field(TARGET, "int32", (None,), "index of the label to explain; -1: the most probable label"),)
        explained = _list_explained(pixels, length)
        found.append(_make("explain", tensors + target, predicted + explained))
        found.append(_make("explain_bytes", raw + target, predicted + explained + _list_places(pixels, length)))
    chosen = next(signature for signature in found if signature.name == DEFAULT_SIGNATURES[default])
    kept = [signature for signature in found if signature.name != "serving_tensors"]
    if default != "tensors":
        kept.append(found[0])
    first = Signature(DEFAULT_SIGNATURE, chosen.inputs, chosen.outputs, chosen.kind)
    return {signature.name: signature for signature in (first, *kept)}


def _list_tensors(pixels, length):
    """Lists the inputs of a prepared study."""
    return _keep(
        (
            pixels is not None,
            Field(IMAGE, "float32", (None, pixels, pixels, 1), "prepared film, gray levels 0..255; zeros: no film"),
        ),
        (
            length is not None,
            Field(TOKEN_IDS, "int32", (None, length), "ids of the words or word pieces; 0 is padding"),
        ),
    )


def _list_raw(pixels, length):
    """Lists the inputs of a study as files and text."""
    return _keep(
        (
            pixels is not None,
            Field(IMAGE_BYTES, "string", (None,), "bytes of a PNG or JPEG file; empty: no film"),
        ),
        (length is not None, Field(REPORT, "string", (None,), "text of the report in UTF-8; empty: no report")),
    )


def _list_predicted(labels):
    return (
        Field(PROBABILITIES, "float32", labels, "calibrated probability of each label"),
        Field(LOGITS, "float32", labels, "logit of each label, before calibration"),
        Field(LABEL_NAMES, "string", labels, "names of the labels"),
        Field(THRESHOLDS, "float32", labels, "decision threshold of each label, for the modalities of the study"),
        Field(DECISIONS, "bool", labels, "whether the probability is at or above the threshold"),
    )


def _list_examples(labels, predicted):
    """Lists the signatures that read serialized tf.Examples."""
    studies = Field(
        EXAMPLES, "string", (None,), "serialized tf.Example with `image_bytes`, and `report` or its sections"
    )
    classified = Field(CLASSIFY_INPUT, "string", (None,), "serialized tf.Example, as for `tf_example`")
    classes = (
        Field(CLASSES, "string", labels, "names of the labels"),
        Field(SCORES, "float32", labels, "calibrated probability of each label"),
    )
    return _make("tf_example", (studies,), predicted), _make("classify", (classified,), classes)


def _list_places(pixels, length):
    """Lists the outputs that relate the maps to the film and the text as they were sent."""
    return _keep(
        (
            pixels is not None,
            Field(IMAGE_BOX, "int32", (None, 4), "top, left, height, width of the film in the square"),
        ),
        (
            length is not None,
            Field(TOKEN_WORDS, "string", (None, length), "words or word pieces as read; empty: padding"),
        ),
    )


def _list_explained(pixels, length):
    return (
        *_keep(
            (
                pixels is not None,
                Field(IMAGE_ATTRIBUTION, "float32", (None, pixels, pixels), "attribution of each pixel of the square"),
            ),
            (
                length is not None,
                Field(TOKEN_ATTRIBUTION, "float32", (None, length), "attribution of each word or word piece"),
            ),
            (
                length is not None,
                Field(TOKEN_ENERGY, "float32", (None, length), "sum of squares of each token's attribution"),
            ),
        ),
        Field(TARGET, "int32", (None,), "index of the explained label"),
        Field(SCORE, "float32", (None,), "logit of the explained label"),
        Field(BASELINE_SCORE, "float32", (None,), "logit of the explained label at the baseline"),
        Field(GAP, "float32", (None,), "relative gap between the sum of attributions and the difference of the logits"),
        Field(MAP_ERROR, "float32", (None,), "estimated relative error of the maps"),
    )


def _make(name, inputs, outputs):
    return Signature(name, inputs, outputs, name)


def _keep(*choices):
    return tuple(field for kept, field in choices if kept)
