"""What a served classifier takes and gives: the contract between an export, a server and its clients.

Every input and output has a name and a batch axis first. Nothing here loads a framework.

    serving_default   one of the next three, chosen at the export; the first unless told otherwise
    serving_tensors   a prepared film and word ids, for programs that prepare as kmm does; only where it is no default
    serving_bytes     the bytes of a PNG or JPEG file and a report: all preparation happens in the graph
    tf_example        the same in a serialized tf.Example
    classify          the Classify RPC: a tf.Example in, classes and scores out
    explain           as serving_tensors, with a target: integrated gradients
    explain_bytes     as serving_bytes, with a target: integrated gradients
    embed             as serving_tensors: the features from which the logits are made
    embed_bytes       as serving_bytes: the same
    describe          what the classifier is, as JSON

What a study lacks is an image of zeros, empty bytes, ids of padding or an empty report: the learned stand-in takes its
place. A study that lacks both is refused.
"""

from dataclasses import dataclass

IMAGE, TOKEN_IDS, IMAGE_BYTES, REPORT = "image", "token_ids", "image_bytes", "report"
TARGET, EXAMPLES, CLASSIFY_INPUT, QUERY = "target", "examples", "inputs", "query"
ANY_TARGET = -1  # the label of the highest probability
MOST_ROWS, MOST_EXPLAINED = 1024, 64  # of one call
PROBABILITIES, LOGITS, LABEL_NAMES, THRESHOLDS = "probabilities", "logits", "label_names", "thresholds"
DECISIONS, CLASSES, SCORES, FEATURES, DESCRIPTION = "decisions", "classes", "scores", "features", "description"
IMAGE_ATTRIBUTION, IMAGE_BOX = "image_attribution", "image_box"
TOKEN_ATTRIBUTION, TOKEN_ENERGY, TOKEN_WORDS = "token_attribution", "token_energy", "token_words"
SCORE, BASELINE_SCORE, GAP, MAP_ERROR = "score", "baseline_score", "completeness_gap", "map_error"
DEFAULT_SIGNATURE = "serving_default"
DEFAULTS = {"tensors": "serving_tensors", "bytes": "serving_bytes", "tf_example": "tf_example"}


@dataclass(frozen=True)
class Field:
    """A named tensor.

    Attributes:
        name: str.
        dtype: `"float32"`, `"int32"`, `"bool"` or `"string"`.
        shape: tuple of int; None is the batch, always first.
        meaning: str, one line.
    """

    name: str
    dtype: str
    shape: tuple
    meaning: str


@dataclass(frozen=True)
class Signature:
    """A way to call a served classifier.

    Attributes:
        name: str.
        inputs, outputs: tuple of `Field`.
        kind: str. The name of the signature that does the same; that of `serving_default` hangs on the export.
        most: int. Rows of one call at most.
    """

    name: str
    inputs: tuple
    outputs: tuple
    kind: str

    @property
    def most(self):
        return MOST_EXPLAINED if self.kind.startswith("explain") else MOST_ROWS


def list_signatures(*, pixels, length, label_count, feature_size, default="tensors", explain=True):
    """The signatures of an export.

    Args:
        pixels: int, the side of the prepared film; None for a model of reports alone.
        length: int, the words that are read of a report; None for a model of films alone.
        label_count: int.
        feature_size: int. Features behind the logits.
        default: key of `DEFAULTS`: which one is `serving_default`.
        explain: bool. Whether explanations are exported.

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
    image, text = pixels is not None, length is not None
    tensors = _keep(
        (image, Field(IMAGE, "float32", (None, pixels, pixels, 1), "prepared film, gray levels 0..255; zeros: none")),
        (text, Field(TOKEN_IDS, "int32", (None, length), "ids of the words or word pieces; 0 is padding")),
    )
    raw = _keep(
        (image, Field(IMAGE_BYTES, "string", (None,), "bytes of a PNG or JPEG file; empty: none")),
        (text, Field(REPORT, "string", (None,), "text of the report in UTF-8; empty: none")),
    )
    examples = (
        Field(EXAMPLES, "string", (None,), "serialized tf.Example of `image_bytes`, and `report` or its sections"),
    )
    labels = (None, label_count)
    predicted = (
        Field(PROBABILITIES, "float32", labels, "calibrated probability of each label"),
        Field(LOGITS, "float32", labels, "score of each label, before calibration"),
        Field(LABEL_NAMES, "string", labels, "names of the labels"),
        Field(THRESHOLDS, "float32", labels, "probability from which a label is decided, by what the study holds"),
        Field(DECISIONS, "bool", labels, "whether the probability is at or above the threshold"),
    )
    target = (Field(TARGET, "int32", (None,), "number of the label to explain; -1: that of the highest probability"),)
    found = [
        _make("serving_tensors", tensors, predicted),
        _make("serving_bytes", raw, predicted),
        _make("tf_example", examples, predicted),
        _make(
            "classify",
            (Field(CLASSIFY_INPUT, "string", (None,), "serialized tf.Example, as of `tf_example`"),),
            (
                Field(CLASSES, "string", labels, "names of the labels"),
                Field(SCORES, "float32", labels, "calibrated probability of each label"),
            ),
        ),
    ]
    features = (Field(FEATURES, "float32", (None, feature_size), "features from which the logits are made"),)
    found += [_make("embed", tensors, features), _make("embed_bytes", raw, features)]
    described = (Field(DESCRIPTION, "string", (None,), "JSON: labels, preparation, calibration, digest, versions"),)
    found.append(_make("describe", (Field(QUERY, "string", (None,), "not read"),), described))
    if explain:
        explained = _list_explained(pixels, length)
        places = _keep(
            (image, Field(IMAGE_BOX, "int32", (None, 4), "top, left, height, width of the film in the square")),
            (text, Field(TOKEN_WORDS, "string", (None, length), "words or word pieces as read; empty: padding")),
        )
        found.append(_make("explain", tensors + target, predicted + explained))
        found.append(_make("explain_bytes", raw + target, predicted + explained + places))
    chosen = next(signature for signature in found if signature.name == DEFAULTS[default])
    kept = [signature for signature in found if signature.name != "serving_tensors"]
    if default != "tensors":
        kept.append(found[0])
    first = Signature(DEFAULT_SIGNATURE, chosen.inputs, chosen.outputs, chosen.kind)
    return {signature.name: signature for signature in (first, *kept)}


def _list_explained(pixels, length):
    return (
        *_keep(
            (
                pixels is not None,
                Field(IMAGE_ATTRIBUTION, "float32", (None, pixels, pixels), "what each pixel of the square added"),
            ),
            (length is not None, Field(TOKEN_ATTRIBUTION, "float32", (None, length), "what each word or piece added")),
            (
                length is not None,
                Field(TOKEN_ENERGY, "float32", (None, length), "sum of squares of each one's attribution"),
            ),
        ),
        Field(TARGET, "int32", (None,), "number of the label that was explained"),
        Field(SCORE, "float32", (None,), "its logit"),
        Field(BASELINE_SCORE, "float32", (None,), "its logit at the baseline"),
        Field(GAP, "float32", (None,), "how far the attributions are from adding up to the difference, relative"),
        Field(MAP_ERROR, "float32", (None,), "estimated error of the maps, relative"),
    )


def _make(name, inputs, outputs):
    return Signature(name, inputs, outputs, name)


def _keep(*choices):
    return tuple(field for kept, field in choices if kept)
