"""Loading of pretrained weights into image encoders: all of them, with a report, or none, with an error."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kmm.errors import WeightsError
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.weights.random_weights import scale_kernels
from kmm.models.weights.weight_files import WEIGHT_FORMATS, open_layers

IMAGENET, GIVEN, RANDOM = "imagenet", "given", "random"
# Weights that are no file: Keras's, those that a network brings, and random ones, which are used as if pretrained.
NAMED_WEIGHTS = (IMAGENET, GIVEN, RANDOM)


@dataclass(frozen=True)
class WeightsReport:
    """Report on loaded weights. Every field is a plain value, for JSON.

    Attributes:
        source: str. `"imagenet"`, `"given"`, `"random"` or the name of the file, without its folder.
        sha256: str. Digest of the file; without a file, of the loaded weights.
        tensors: int. Number of loaded arrays: always all that the network has.
        parameters: int. Number of values in them.
        extra: tuple of str. Layers of the file that the network does not have, for example its old head.
    """

    source: str
    sha256: str
    tensors: int
    parameters: int
    extra: tuple[str, ...] = ()


def load_image_weights(model: keras.Model, encoder_name: str, source: Path | str) -> WeightsReport:
    """Loads pretrained weights into an image encoder. On an error no weight is changed.

    Args:
        model: `keras.Model` named `image_encoder`, changed in place.
        encoder_name: str, its key in `IMAGE_ENCODERS`.
        source: `"imagenet"` (downloaded by Keras), `"given"` (those that the network of the entry brings), `"random"`
            (those that the model has, of its seed, scaled by `kmm.models.weights.random_weights`: the baseline of
            pretrained ones) or path of a local file.

    Returns:
        `WeightsReport`.

    Raises:
        WeightsError: if the file is missing, unreadable or for another network, or the download fails.
        MissingPackageError: if a PyTorch or safetensors file is given and the package that reads it is not installed.
    """
    if str(source) == IMAGENET:
        return _assign(model, _imagenet_layers(model, encoder_name), IMAGENET, None)
    if str(source) == GIVEN:
        return _assign(model, _given_layers(model, encoder_name), GIVEN, None)
    if str(source) == RANDOM:
        scale_kernels(model)
        sizes = [weight.size for weight in model.get_weights()]
        return WeightsReport(RANDOM, weights_digest(model), len(sizes), sum(sizes))
    path = Path(source)
    with open_layers(path, encoder_name) as layers:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _assign(model, layers, path.name, digest)


def weights_digest(model: keras.Model) -> str:
    """Returns the SHA-256, in hex, of a model's weights: values, names, shapes. Saving and loading do not change it.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones", name="sum")])
        >>> weights_digest(model)[:12]
        '5ea95516d656'
    """
    digest = hashlib.sha256()
    for name, variable in sorted(_named_weights(model), key=lambda pair: pair[0]):
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def architecture_digest(model: keras.Model) -> str:
    """Returns the SHA-256, in hex, of a model's layers and operations, their settings and their connections.

    Weights do not count, nor which of them are trained, nor names, which Keras numbers differently in every model.

    Example:
        >>> one, other = (keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]) for _ in range(2))
        >>> architecture_digest(one) == architecture_digest(other)
        True
    """
    config = _number_names(keras.saving.serialize_keras_object(model)["config"], {})
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def model_digest(model: keras.Model) -> str:
    """Returns the SHA-256, in hex, of a model: its configuration and its weights.

    The names of layers do not count, because Keras numbers them by what was built before in the process: a model that
    is built again, or loaded from its file, has the same digest.

    Example:
        >>> digests = []
        >>> for activation in ("relu", "relu", "tanh"):
        ...     rows = keras.Input((2,))
        ...     dense = keras.layers.Dense(1, activation, kernel_initializer="ones")
        ...     digests.append(model_digest(keras.Model(rows, dense(rows))))
        >>> digests[0] == digests[1], digests[0] == digests[2]
        (True, False)
    """
    digest = hashlib.sha256(architecture_digest(model).encode())
    for weight in model.weights:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(weight.value))
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


NAMED = ("name", "keras_history", "input_layers", "output_layers")  # where the config of a model has names


def _number_names(value, numbers, *, named=False):
    """Replaces each name of a layer or operation with its number, in the order in which they first occur, and leaves
    out what is trainable."""
    if isinstance(value, dict):
        if str(value.get("class_name")).endswith("DTypePolicy"):  # its name is a setting
            return value
        return {
            key: _number_names(item, numbers, named=named or key in NAMED)
            for key, item in value.items()
            if key != "trainable"
        }
    if isinstance(value, list | tuple):
        return [_number_names(item, numbers, named=named) for item in value]
    return numbers.setdefault(value, len(numbers)) if named and isinstance(value, str) else value


def _named_weights(model, prefix=""):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _named_weights(layer, f"{prefix}{layer.name}/")
        else:
            yield from ((f"{prefix}{layer.name}/{index}", weight) for index, weight in enumerate(layer.weights))


def _imagenet_layers(model, encoder_name):
    entry = IMAGE_ENCODERS[encoder_name]
    if not entry.imagenet:
        raise WeightsError(
            f"Keras provides no ImageNet weights for {encoder_name}. Give a local file: {WEIGHT_FORMATS}."
        )
    try:
        donor = build_image_encoder(entry, pixels=model.input.shape[1], weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception when a download fails
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"The ImageNet weights of {encoder_name} could not be downloaded ({reason}). "
            f"Give a local file: {WEIGHT_FORMATS}."
        ) from error
    return _list_weights(donor)


def _given_layers(model, encoder_name):
    entry = IMAGE_ENCODERS[encoder_name]
    if not entry.given:
        raise WeightsError(f"The network of {encoder_name} brings no weights. Give a local file: {WEIGHT_FORMATS}.")
    return _list_weights(build_image_encoder(entry, pixels=model.input.shape[1], weights=GIVEN))


def _list_weights(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def _assign(model, layers, name, digest):
    """Checks every layer against the file, then sets the weights of all layers."""
    layers = _normalise_names(layers)
    targets = {layer.name: layer for layer in model.layers if layer.weights}
    faults = [fault for layer in targets.values() if (fault := _fault(layer, layers.get(layer.name)))]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsError(
            f"{name} holds weights for another network: {len(faults)} of {len(targets)} layers do not fit: "
            f"{'; '.join(faults[:3])}{more}."
        )
    arrays = {key: [np.asarray(array, dtype="float32") for array in layers[key]] for key in targets}
    broken = [key for key, values in arrays.items() if not all(np.isfinite(array).all() for array in values)]
    if broken:
        raise WeightsError(f"{name} contains NaN or infinity, first in layer {broken[0]}.")
    for key, layer in targets.items():
        layer.set_weights(arrays[key])
    sizes = [array.size for values in arrays.values() for array in values]
    extra = tuple(sorted(set(layers) - set(targets)))
    return WeightsReport(name, digest or weights_digest(model), len(sizes), sum(sizes), extra)


def _fault(layer, arrays):
    """Describes how the arrays of a file differ from those that a layer needs; None when they fit."""
    if arrays is None:
        return f"{layer.name} is missing"
    expected, received = [[tuple(array.shape) for array in side] for side in (layer.weights, arrays)]
    if expected != received:
        pairs = [pair for pair in zip(expected, received) if pair[0] != pair[1]]
        wanted, came = pairs[0] if pairs else (f"{len(expected)} arrays", f"{len(received)} arrays")
        return f"{layer.name} expected {wanted}, received {came}"
    return None


def _normalise_names(layers: dict[str, Any]) -> dict[str, Any]:
    """Renames layers that Keras named by a counter (`conv2d_7`, in Keras 1 `convolution2d_3`) as a fresh process would,
    and those with a slash (`conv1/bn` of Keras 2) as Keras 3 does (`conv1_bn`)."""
    counted: dict[str, list[tuple[int, str]]] = {}
    renamed: dict[str, Any] = {}
    for name in layers:
        if found := re.fullmatch(r"(conv2d|convolution2d|batch_?normalization)(?:_(\d+))?", name):
            stem = "conv2d" if found[1].startswith("conv") else "batch_normalization"
            counted.setdefault(stem, []).append((int(found[2] or 0), name))
        else:
            renamed[name.replace("/", "_")] = layers[name]
    for stem, names in counted.items():
        for rank, (_, name) in enumerate(sorted(names)):
            renamed[f"{stem}_{rank}" if rank else stem] = layers[name]
    return renamed
