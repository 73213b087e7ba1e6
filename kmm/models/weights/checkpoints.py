"""Loading of pretrained weights into image encoders: all of them, with a report, or none, with an error."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from kmm.errors import WeightsError
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.weights.assignment import Layers, find_normalisation, fit_layers, set_layers, translate
from kmm.models.weights.names.torch_names import IMAGENET_CHANNELS, Normalisation
from kmm.models.weights.random_weights import scale_kernels
from kmm.models.weights.weight_files import WEIGHT_FORMATS, OpenedWeights, open_weights

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
        licence: str. Licence of a file as its publisher writes it, `"unknown"` if nothing says it; empty for random
            weights and those that a network brings.
        origin: str. Name and digest of the file from which kmm converted this one; empty for other files.
        random: tuple of str. Layers that the file does not have, or that were random when kmm converted it.
    """

    source: str
    sha256: str
    tensors: int
    parameters: int
    extra: tuple[str, ...] = ()
    licence: str = ""
    origin: str = ""
    random: tuple[str, ...] = ()


def load_image_weights(model: keras.Model, encoder_name: str, source: Path | str) -> WeightsReport:
    """Loads pretrained weights into an image encoder. On an error no weight is changed.

    Args:
        model: `keras.Model` named `image_encoder`, changed in place.
        encoder_name: str, its key in `IMAGE_ENCODERS`.
        source: `"imagenet"` (downloaded by Keras), `"given"` (those that the network of the entry brings), `"random"`
            (those that the model has, of its seed, scaled by `kmm.models.weights.random_weights`: the baseline of
            pretrained ones) or path of a local file, or of a folder with one.

    Returns:
        `WeightsReport`.

    Raises:
        WeightsError: if the file is missing, unreadable or for another network, or the download fails.
        MissingPackageError: if a PyTorch or safetensors file is given and the package that reads it is not installed.
    """
    if str(source) == IMAGENET:
        return _assign(model, _imagenet_layers(model, encoder_name), encoder_name, IMAGENET)
    if str(source) == GIVEN:
        return _assign(model, _given_layers(model, encoder_name), encoder_name, GIVEN)
    if str(source) == RANDOM:
        scale_kernels(model)
        sizes = [weight.size for weight in model.get_weights()]
        return WeightsReport(RANDOM, weights_digest(model), len(sizes), sum(sizes))
    with open_weights(Path(source)) as opened:
        return load_opened(model, encoder_name, opened)


def load_opened(
    model: keras.Model, encoder_name: str, opened: OpenedWeights, *, partial: bool = False
) -> WeightsReport:
    """Loads opened weights into an image encoder. On an error no weight is changed.

    Args:
        model, encoder_name: as for `load_image_weights`.
        opened: `OpenedWeights`.
        partial: bool. Keep the weights of layers that the file does not have; the report names them.

    Returns:
        `WeightsReport`.

    Raises:
        WeightsError: if the weights do not fit.
    """
    name, origin = opened.path.name, opened.origin
    layers = translate(opened, encoder_name)
    report = _assign(model, layers, encoder_name, name, find_normalisation(opened, encoder_name), partial=partial)
    random = {*report.random, *(str(layer) for layer in origin.get("random") or ())}
    return replace(
        report,
        sha256=opened.digest(),
        licence=opened.licence,
        origin=f"{origin['source']} ({str(origin.get('sha256'))[:16]})" if origin.get("source") else "",
        random=tuple(sorted(random)),
    )


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


def _assign(
    model: keras.Model,
    layers: Layers,
    encoder_name: str,
    name: str,
    normalisation: Normalisation = IMAGENET_CHANNELS,
    *,
    partial: bool = False,
) -> WeightsReport:
    """Checks every layer against the arrays, then sets the weights of all layers."""
    fitted, missing, faults = fit_layers(model, layers, encoder_name, normalisation)
    count = sum(bool(layer.weights) for layer in model.layers)
    said = faults if partial and len(missing) < count else [*faults, *(f"{layer} is missing" for layer in missing)]
    if said:
        more = f" and {len(said) - 3} more" if len(said) > 3 else ""
        raise WeightsError(
            f"{name} holds weights for another network: {len(said)} of {count} layers do not fit: "
            f"{'; '.join(said[:3])}{more}."
        )
    tensors, parameters = set_layers(model, fitted, name)
    extra = tuple(sorted(set(fitted) - {layer.name for layer in model.layers}))
    return WeightsReport(name, weights_digest(model), tensors, parameters, extra, random=tuple(missing))
