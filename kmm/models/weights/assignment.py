"""Weights of a file brought to the layers of a network: translated, compared layer by layer, then set, all or none."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kmm.errors import WeightsError
from kmm.models.encoders_image import IMAGE_ENCODERS, ImageEncoder
from kmm.models.weights.files.model_folder import ModelFolder
from kmm.models.weights.gray_stem import sum_channels
from kmm.models.weights.names.torch_names import IMAGENET_CHANNELS, Normalisation
from kmm.models.weights.weight_files import OpenedWeights

Layers = dict[str, Any]


def translate(opened: OpenedWeights, encoder_name: str) -> Layers:
    """Returns the arrays of opened weights by the layers of an image encoder, with the layers that it does not have.

    Raises:
        WeightsError: if the names of PyTorch are known for other encoders only, or a configuration beside the file
            describes another network.
    """
    entry = IMAGE_ENCODERS[encoder_name]
    _check_config(opened.folder, entry, encoder_name)
    if opened.layers is not None:
        return dict(opened.layers)
    if entry.torch_layers is None:
        known = ", ".join(sorted(name for name, entry in IMAGE_ENCODERS.loaded().items() if entry.torch_layers))
        raise WeightsError(
            f"{opened.path.name} is a PyTorch file, which can be read only for {known}, not {encoder_name}."
        )
    return dict(entry.torch_layers(opened.state or {}))


def _check_config(folder: ModelFolder, entry: ImageEncoder, encoder_name: str) -> None:
    """Compares the configuration beside the file with the network, before anything of its size is made."""
    if key := find_contradiction(folder, entry):
        raise WeightsError(
            f"The configuration of {folder.files[0].name} has `{key}` {str(folder.config[key])[:40]}, and "
            f"{encoder_name} has {getattr(entry.torch_layers, 'expected', {})[key]}. Choose another encoder."
        )


def find_contradiction(folder: ModelFolder, entry: ImageEncoder) -> str:
    """Returns the first key of the configuration of a folder whose value is that of another network; empty if there is
    none."""
    expected: Mapping[str, Any] = getattr(entry.torch_layers, "expected", {})
    return next((key for key, value in expected.items() if folder.config.get(key, value) != value), "")


def find_normalisation(opened: OpenedWeights, encoder_name: str) -> Normalisation:
    """Returns how the films of a file's network are normalised: as its folder says, or as is usual for its names."""
    if opened.folder.normalisation is not None:
        return opened.folder.normalisation
    find = getattr(IMAGE_ENCODERS[encoder_name].torch_layers, "find_scheme", None)
    found = find(opened.tensors) if find and opened.state is not None else None
    return found[0].channels if found else IMAGENET_CHANNELS


def fit_layers(
    model: keras.Model, layers: Layers, encoder_name: str, normalisation: Normalisation
) -> tuple[Layers, list[str], list[str]]:
    """Brings arrays to the layers of an image encoder, as far as they can be: sizes of a film, one channel for three.

    Args:
        model: `keras.Model`, the image encoder.
        layers: dict from `translate`.
        encoder_name: str, a key of `IMAGE_ENCODERS`.
        normalisation: `Normalisation` of the films of the file's network.

    Returns:
        the arrays by layer, the names of layers that are missing, and one text for each layer whose arrays differ.
    """
    entry, fitted = IMAGE_ENCODERS[encoder_name], dict(layers)
    missing, faults = [], []
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name not in fitted:
            missing.append(layer.name)
            continue
        arrays = fitted[layer.name]
        if hasattr(layer, "fit_arrays"):
            arrays = layer.fit_arrays(list(arrays))
        if layer.name == entry.gray_stem and len(arrays[0].shape) == 4 and arrays[0].shape[2] == 3:
            arrays = sum_channels(arrays, normalisation, entry.scaling)
        fitted[layer.name] = arrays
        if fault := _find_fault(layer, arrays):
            faults.append(fault)
    return fitted, missing, faults


def _find_fault(layer: keras.layers.Layer, arrays: Any) -> str | None:
    """Describes how the arrays of a file differ from those that a layer needs; None when they fit."""
    expected, received = [[tuple(array.shape) for array in side] for side in (layer.weights, arrays)]
    if expected == received:
        return None
    pairs = [pair for pair in zip(expected, received) if pair[0] != pair[1]]
    if not pairs:
        return f"{layer.name} expected {len(expected)} arrays, received {len(received)}"
    wanted, came = pairs[0]
    said = f"{layer.name} expected {wanted}, received {came}"
    if len(wanted) == len(came) == 4 and wanted[:2] + wanted[3:] == came[:2] + came[3:]:
        said += f" (films of {came[2]} channel{'s' * (came[2] > 1)}; this network reads {wanted[2]})"
    elif len(wanted) > 1 and sorted(wanted) == sorted(came):
        said += " (transposed?)"
    return said


def set_layers(model: keras.Model, layers: Layers, name: str) -> tuple[int, int]:
    """Sets the weights of all layers that have arrays; none if an array is not finite.

    Args:
        model: `keras.Model`, changed in place.
        layers: dict from `fit_layers` without faults.
        name: str. Name of the file, for messages.

    Returns:
        the numbers of arrays and of values.

    Raises:
        WeightsError: if a number is NaN or infinite.
    """
    targets = {layer.name: layer for layer in model.layers if layer.weights and layer.name in layers}
    arrays = {key: [np.asarray(array, dtype="float32") for array in layers[key]] for key in targets}
    for key, values in arrays.items():
        if not all(np.isfinite(array).all() for array in values):
            raise WeightsError(f"{name} contains NaN or infinity, first in layer {key}.")
    for key, layer in targets.items():
        layer.set_weights(arrays[key])
    sizes = [array.size for values in arrays.values() for array in values]
    return len(sizes), sum(sizes)
