"""Conversion of a server's replies to results, with checks, because a client may be pointed at any server."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError

from kmm.client.outputs import check_range, name_number, read_labels, read_outputs
from kmm.client.results import ServedExplanation, ServedWord
from kmm.errors import ServerError
from kmm.protocol import signatures as names
from kmm.protocol.messages import load_stubs
from kmm.protocol.predictions import Prediction
from kmm.protocol.tensors import TENSOR_TYPES
from kmm.text.word_pieces import CONTINUED

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow_serving.apis.classification_pb2 import ClassificationResponse
    from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse
    from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
    from tensorflow_serving.apis.model_pb2 import ModelSpec

PREDICTED = {
    names.PROBABILITIES: ("float32", 2),
    names.LOGITS: ("float32", 2),
    names.LABEL_NAMES: ("string", 2),
    names.THRESHOLDS: ("float32", 2),
    names.DECISIONS: ("bool", 2),
}
EXPLAINED = {
    names.TARGET: ("int32", 1),
    names.SCORE: ("float32", 1),
    names.BASELINE_SCORE: ("float32", 1),
    names.GAP: ("float32", 1),
    names.MAP_ERROR: ("float32", 1),
}
PLACES = {names.IMAGE_ATTRIBUTION: ("float32", 3), names.IMAGE_BOX: ("int32", 2)}
WORDS = {
    names.TOKEN_ATTRIBUTION: ("float32", 2),
    names.TOKEN_ENERGY: ("float32", 2),
    names.TOKEN_WORDS: ("string", 2),
}


def read_predictions(spec: "ModelSpec", outputs: "Mapping[str, TensorProto]", count: int) -> list[Prediction]:
    """Converts the outputs of `serving_bytes` and similar signatures to a list of `Prediction`."""
    found = read_outputs(outputs, PREDICTED, count)
    if len({array.shape for array in found.values()}) != 1:
        raise ServerError("The reply has different numbers of labels, probabilities or thresholds.")
    for name in (names.PROBABILITIES, names.THRESHOLDS):
        check_range(name, found[name], 0, 1)
    labels = read_labels(found[names.LABEL_NAMES].tolist())
    return [
        Prediction(
            **{
                name: dict(zip(labels, found[name][row].tolist()))
                for name in (names.PROBABILITIES, names.LOGITS, names.THRESHOLDS, names.DECISIONS)
            },
            model=spec.name,
            version=spec.version.value,
        )
        for row in range(count)
    ]


def read_features(outputs: "Mapping[str, TensorProto]", count: int) -> np.ndarray:
    """Converts the outputs of `embed_bytes` to float32 `(count, features)`."""
    features = read_outputs(outputs, {names.FEATURES: ("float32", 2)}, count)[names.FEATURES]
    if not features.shape[1]:
        raise ServerError("The reply contains no features.")
    return features


def read_explanations(
    spec: "ModelSpec", outputs: "Mapping[str, TensorProto]", films: Sequence[bool], taken: set[str]
) -> list[ServedExplanation]:
    """Converts the outputs of `explain_bytes` to a list of `ServedExplanation`.

    Args:
        spec: `ModelSpec` of the reply.
        outputs: mapping of name to `TensorProto`.
        films: sequence of bool: whether each study was sent with a film.
        taken: set of str: the inputs that the model takes. Models of films return maps, models of reports words.
    """
    count = len(films)
    predictions = read_predictions(spec, outputs, count)
    found = read_outputs(outputs, EXPLAINED, count)
    places = read_outputs(outputs, PLACES, count) if names.IMAGE_BYTES in taken else None
    words = read_outputs(outputs, WORDS, count) if names.REPORT in taken else None
    for name in (names.GAP, names.MAP_ERROR):
        check_range(name, found[name], 0, math.inf)
    explanations = []
    for row, prediction in enumerate(predictions):
        labels, target = list(prediction.probabilities), int(found[names.TARGET][row])
        if not 0 <= target < len(labels):
            raise ServerError(f"The target of the reply must be from 0 to {len(labels) - 1}. Received: {target}.")
        explanations.append(
            ServedExplanation(
                prediction=prediction,
                target=labels[target],
                **{name: float(found[name][row]) for name in EXPLAINED if name != names.TARGET},
                heat=_crop_map(places, row) if places and films[row] else None,
                words=_read_words(words, row) if words else (),
                modality_share=_share_modalities(
                    image=places[names.IMAGE_ATTRIBUTION][row] if places else 0,
                    text=words[names.TOKEN_ATTRIBUTION][row] if words else 0,
                ),
            )
        )
    return explanations


def read_classes(reply: "ClassificationResponse", count: int) -> list[dict[str, float]]:
    """Converts the reply to a Classify call to a list of dict of label name to probability."""
    rows = reply.result.classifications
    if len(rows) != count:
        raise ServerError(f"The reply must have {count} classifications. Received: {len(rows)}.")
    labels = read_labels([[found.label for found in row.classes] for row in rows])
    scores = np.array([[found.score for found in row.classes] for row in rows])
    if not np.isfinite(scores).all():
        raise ServerError("The scores of the reply contain NaN or infinity.")
    check_range(names.SCORES, scores, 0, 1)
    return [dict(zip(labels, row)) for row in scores.tolist()]


def read_status(reply: "GetModelStatusResponse", version: int | None = None) -> list[dict[str, Any]]:
    """Converts the reply to a GetModelStatus call to a list of dict.

    Args:
        reply: `GetModelStatusResponse`.
        version: int. The requested version; None for any.
    """
    stubs = load_stubs()
    if version is not None and [found.version for found in reply.model_version_status] != [version]:
        raise ServerError(f"The reply must give the state of version {version} only.")
    states = stubs.get_model_status_pb2.ModelVersionStatus.State
    return [
        {
            "version": found.version,
            "state": name_number(states, found.state),
            "error_code": name_number(stubs.error_codes_pb2.Code, found.status.error_code),
            "error_message": found.status.error_message,
        }
        for found in reply.model_version_status
    ]


def read_metadata(reply: "GetModelMetadataResponse") -> dict[str, Any]:
    """Converts the reply to a GetModelMetadata call to a dict: `model`, `version`, `signatures`."""
    stubs = load_stubs()
    signatures = stubs.get_model_metadata_pb2.SignatureDefMap()
    try:
        is_valid = reply.metadata["signature_def"].Unpack(signatures)
    except DecodeError:
        is_valid = False
    if not is_valid:
        raise ServerError('The reply has no valid "signature_def".')
    return {
        "model": reply.model_spec.name,
        "version": reply.model_spec.version.value,
        "signatures": {
            name: {
                "inputs": {key: _read_info(info) for key, info in sorted(found.inputs.items())},
                "outputs": {key: _read_info(info) for key, info in sorted(found.outputs.items())},
            }
            for name, found in sorted(signatures.signature_def.items())
            if not name.startswith("__")
        },
    }


def _crop_map(places, row):
    """Crops the square map to the area of the film."""
    square, box = places[names.IMAGE_ATTRIBUTION][row], places[names.IMAGE_BOX][row].tolist()
    if len(box) != 4 or min(box[:2]) < 0 or min(box[2:]) < 1:
        raise ServerError(f"The reply gives an invalid box of the film: {box}. Expected top, left, height, width.")
    top, left, height, width = box
    if square.shape[0] != square.shape[1]:
        raise ServerError(f"The map of the reply must be square. Received: {square.shape}.")
    if top + height > square.shape[0] or left + width > square.shape[1]:
        raise ServerError(f"The box of the film in the reply exceeds the map of {square.shape}: {box}.")
    return square[top : top + height, left : left + width].copy()


def _read_words(words, row):
    """Reads the words of a reply and sums the pieces of each word."""
    read = [text.decode("utf-8", "replace") for text in words[names.TOKEN_WORDS][row]]
    signed, energy = words[names.TOKEN_ATTRIBUTION][row], words[names.TOKEN_ENERGY][row].astype(np.float64)
    if not len(read) == len(signed) == len(energy):
        raise ServerError("The reply has different numbers of words and of their attributions.")
    check_range(names.TOKEN_ENERGY, energy, 0, math.inf)
    kept = [place for place, text in enumerate(read) if text]
    total = energy[kept].sum()
    shares = energy / total if total > 0 else np.zeros(len(read))
    found = []
    for place in kept:
        text, share, moved = read[place], float(shares[place]), float(signed[place])
        if found and text.startswith(CONTINUED):
            word = found.pop()
            text, share, moved = word.text + text.removeprefix(CONTINUED), word.share + share, word.signed + moved
        found.append(ServedWord(text, share, moved))
    return tuple(found)


def _share_modalities(**attributions):
    """Divides the absolute sum of attributions of each modality by the total; 0 where nothing was attributed."""
    sums = {side: abs(float(np.sum(values, dtype=np.float64))) for side, values in attributions.items()}
    total = sum(sums.values())
    return {side: value / total if total > 0 else 0.0 for side, value in sums.items()}


def _read_info(info):
    number = info.dtype
    kind = next((name for name, known in TENSOR_TYPES.items() if known.number == number), None)
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = [None if dimension.size < 0 else dimension.size for dimension in info.tensor_shape.dim]
    return {"dtype": kind or name_number(load_stubs().types_pb2.DataType, number), "shape": shape}
