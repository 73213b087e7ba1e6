"""Replies of a server to results: checked, because a client may be pointed at any server."""

import math

import numpy as np
from google.protobuf.message import DecodeError

from kmm import signature as names
from kmm.client.results import Prediction, ServedExplanation, ServedWord
from kmm.errors import InputError, ServerError
from kmm.stubs import DEFAULT_MODEL, load_stubs
from kmm.text.word_pieces import CONTINUED
from kmm.wire import KINDS, decode_tensor

MAX_BYTES = 256 * 2**20  # of one output: maps of 256 films of 512 pixels
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


def check_spec(spec, *, model, version=None):
    """Checks that the model and version that were asked for have answered.

    Args:
        spec: `ModelSpec` of the reply. TensorFlow Serving and `kmm serve` always fill it.
        model: str. The name that was asked for. `default` may be answered by any name: it is another name of a model
            that is served alone.
        version: int or None for any.

    Raises:
        ServerError: if another one has answered, or the reply does not say which one has.
    """
    if not spec.name or (spec.name != model and model != DEFAULT_MODEL):
        raise ServerError(f'Expected an answer of the model "{model}". Received: of {_quote(spec.name)}.')
    if spec.WhichOneof("version_choice") != "version":
        raise ServerError("Expected an answer that names its version. Received: none.")
    if version not in (None, spec.version.value):
        raise ServerError(f"Expected an answer of version {version}. Received: of {spec.version.value}.")


def read_outputs(outputs, wanted, count):
    """Decodes named outputs of a reply.

    Args:
        outputs: mapping of name to `TensorProto`.
        wanted: dict of name to `(type, dimensions)`.
        count: int. Rows that each must have.

    Returns:
        dict of name to numpy array.

    Raises:
        ServerError: if one is missing, malformed, incomplete, too large, not finite, or of another type or shape.
    """
    found = {}
    for name, (kind, dimensions) in wanted.items():
        if name not in outputs:
            raise ServerError(f'Expected a reply with "{name}". Received: {", ".join(sorted(outputs)) or "nothing"}.')
        proto = outputs[name]
        shape = [dimension.size for dimension in proto.tensor_shape.dim]
        if proto.dtype != KINDS[kind].number or len(shape) != dimensions or shape[0] != count:
            came = _name_number(load_stubs().types_pb2.DataType, proto.dtype)
            raise ServerError(
                f'Expected "{name}" of {kind} with {count} rows in {dimensions} dimensions. Received: {came} {shape}.'
            )
        try:
            found[name] = decode_tensor(proto, max_bytes=MAX_BYTES)
        except InputError as error:
            raise ServerError(f'Expected a reply with "{name}" as a tensor. {error}') from None
        values = len(getattr(proto, KINDS[kind].values))
        if not proto.tensor_content and values != found[name].size:  # TensorFlow reads a short list, but writes none
            raise ServerError(f'Expected {found[name].size} values of "{name}". Received: {values}.')
        if found[name].dtype.kind == "f" and not np.isfinite(found[name]).all():
            raise ServerError(f'Expected finite numbers in "{name}". Received: NaN or infinity.')
    return found


def read_predictions(spec, outputs, count):
    """Outputs of `serving_bytes` and the like to a list of `Prediction`."""
    found = read_outputs(outputs, PREDICTED, count)
    if len({array.shape for array in found.values()}) != 1:
        raise ServerError("Expected a reply with as many probabilities as labels. Received: other numbers of them.")
    for name in (names.PROBABILITIES, names.THRESHOLDS):
        _check_range(name, found[name], 0, 1)
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


def read_features(outputs, count):
    """Outputs of `embed_bytes` to float32 `(count, features)`."""
    features = read_outputs(outputs, {names.FEATURES: ("float32", 2)}, count)[names.FEATURES]
    if not features.shape[1]:
        raise ServerError("Expected a reply with features. Received: none.")
    return features


def read_explanations(spec, outputs, films, taken):
    """Outputs of `explain_bytes` to a list of `ServedExplanation`.

    Args:
        spec: `ModelSpec` of the reply.
        outputs: mapping of name to `TensorProto`.
        films: list of bool. Which studies came with a film.
        taken: set of str: the inputs that the model takes. A map belongs to films, words belong to reports.
    """
    count = len(films)
    predictions = read_predictions(spec, outputs, count)
    found = read_outputs(outputs, EXPLAINED, count)
    places = read_outputs(outputs, PLACES, count) if names.IMAGE_BYTES in taken else None
    words = read_outputs(outputs, WORDS, count) if names.REPORT in taken else None
    for name in (names.GAP, names.MAP_ERROR):
        _check_range(name, found[name], 0, math.inf)
    explanations = []
    for row, prediction in enumerate(predictions):
        labels, target = list(prediction.probabilities), int(found[names.TARGET][row])
        if not 0 <= target < len(labels):
            raise ServerError(f"Expected a target of 0 to {len(labels) - 1} in a reply. Received: {target}.")
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


def read_classes(reply, count):
    """The reply of the Classify call to a list of dict of label name to probability."""
    rows = reply.result.classifications
    if len(rows) != count:
        raise ServerError(f"Expected a reply with {count} classifications. Received: {len(rows)}.")
    labels = read_labels([[found.label for found in row.classes] for row in rows])
    scores = np.array([[found.score for found in row.classes] for row in rows])
    if not np.isfinite(scores).all():
        raise ServerError("Expected finite scores in a reply. Received: NaN or infinity.")
    _check_range(names.SCORES, scores, 0, 1)
    return [dict(zip(labels, row)) for row in scores.tolist()]


def read_labels(rows):
    """The names of labels of a reply, checked.

    Args:
        rows: list of list of str, or of bytes in UTF-8: those of each study, which are the same.

    Returns:
        list of str.

    Raises:
        ServerError: if there is none, one is empty, doubled or no text, or the studies have different ones.

    Example:
        >>> read_labels([[b"mass", b"effusion"]])
        ['mass', 'effusion']
    """
    first = rows[0]
    if not first or any(row != first for row in rows):
        raise ServerError("Expected the same names of labels for each study in a reply. Received: none, or others.")
    try:
        labels = [label.decode("utf-8") if isinstance(label, bytes) else label for label in first]
    except UnicodeDecodeError:
        raise ServerError("Expected names of labels in UTF-8 in a reply. Received: other bytes.") from None
    for label in labels:
        if not label.strip() or any(letter < " " or "\x7f" <= letter < "\xa0" for letter in label):
            raise ServerError(f"Expected names of labels in a reply. Received: {_quote(label)}.")
    if len(set(labels)) != len(labels):
        raise ServerError("Expected different names of labels in a reply. Received: one of them twice.")
    return labels


def read_status(reply, version=None):
    """The reply of the GetModelStatus call to a list of dict.

    Args:
        reply: `GetModelStatusResponse`.
        version: int. The one that was asked for; None for any.
    """
    stubs = load_stubs()
    if version is not None and [found.version for found in reply.model_version_status] != [version]:
        raise ServerError(f"Expected the state of version {version} in a reply. Received: of others, or none.")
    states = stubs.get_model_status_pb2.ModelVersionStatus.State
    return [
        {
            "version": found.version,
            "state": _name_number(states, found.state),
            "error_code": _name_number(stubs.error_codes_pb2.Code, found.status.error_code),
            "error_message": found.status.error_message,
        }
        for found in reply.model_version_status
    ]


def read_metadata(reply):
    """The reply of the GetModelMetadata call to a dict: model, version, signatures."""
    stubs = load_stubs()
    signatures = stubs.get_model_metadata_pb2.SignatureDefMap()
    try:
        is_there = reply.metadata["signature_def"].Unpack(signatures)
    except DecodeError:
        is_there = False
    if not is_there:
        raise ServerError('Expected a reply with "signature_def". Received: none.')
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


def _check_range(name, numbers, least, most):
    wrong = numbers[(numbers < least) | (numbers > most)]
    if wrong.size:
        raise ServerError(f'Expected numbers from {least} to {most} in "{name}". Received: {wrong[0]:g}.')


def _crop_map(places, row):
    """The part of the map that lies on the film."""
    square, box = places[names.IMAGE_ATTRIBUTION][row], places[names.IMAGE_BOX][row].tolist()
    if len(box) != 4 or min(box[:2]) < 0 or min(box[2:]) < 1:
        raise ServerError(f"Expected the place of a film in a reply. Received: {box}.")
    top, left, height, width = box
    if square.shape[0] != square.shape[1]:
        raise ServerError(f"Expected a square map in a reply. Received: {square.shape}.")
    if top + height > square.shape[0] or left + width > square.shape[1]:
        raise ServerError(f"Expected the place of a film inside a map of {square.shape}. Received: {box}.")
    return square[top : top + height, left : left + width].copy()


def _read_words(words, row):
    """The words of a reply; pieces of a word are summed."""
    read = [text.decode("utf-8", "replace") for text in words[names.TOKEN_WORDS][row]]
    signed, energy = words[names.TOKEN_ATTRIBUTION][row], words[names.TOKEN_ENERGY][row].astype(np.float64)
    if not len(read) == len(signed) == len(energy):
        raise ServerError("Expected a reply with as many words as attributions of them. Received: other numbers.")
    _check_range(names.TOKEN_ENERGY, energy, 0, math.inf)
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
    """The sizes of the sums over film and report, as parts of both together; 0 where nothing was attributed."""
    sums = {side: abs(float(np.sum(values, dtype=np.float64))) for side, values in attributions.items()}
    total = sum(sums.values())
    return {side: value / total if total > 0 else 0.0 for side, value in sums.items()}


def _read_info(info):
    number = info.dtype
    kind = next((name for name, known in KINDS.items() if known.number == number), None)
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = [None if dimension.size < 0 else dimension.size for dimension in info.tensor_shape.dim]
    return {"dtype": kind or _name_number(load_stubs().types_pb2.DataType, number), "shape": shape}


def _name_number(table, number):
    """The name of an enumeration's number, or the number where it is newer than this table."""
    return table.Name(number) if number in table.values() else str(number)


def _quote(text):
    """What a server calls something, in one line of bounded length."""
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
