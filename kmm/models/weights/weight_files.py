"""Reading of weight files as arrays by layer name, without running code, configurations or pickles in them.

Keras HDF5 (`.h5` of Keras 1 and 2, `.weights.h5` of Keras 3) and `.keras` files are recognised by content, PyTorch
(`.pth`, `.pt`, `.pth.tar`) and safetensors files by suffix.
"""

import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from kmm.errors import WeightsError, require
from kmm.models.encoders_image import IMAGE_ENCODERS

MAX_BYTES = 4 * 2**30
KERAS_FORMATS, TORCH_FORMATS = (".h5", ".weights.h5", ".keras"), (".pth", ".pt", ".pth.tar")
WEIGHT_FORMATS = f"{', '.join(KERAS_FORMATS + TORCH_FORMATS)} or .safetensors"
KERAS_LAYERS = {"layout": "keras-layers-1"}  # metadata of a safetensors file whose tensors are named layer/index
UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError)


@contextmanager
def open_layers(path: Path, encoder_name: str) -> Iterator[dict[str, Any]]:
    """Opens a file of weights as a context.

    Args:
        path: Path of the file, of at most 4 GiB.
        encoder_name: str. The target image encoder, whose layer names replace those of PyTorch.

    Yields:
        dict from layer name to its arrays, in the order of `keras.layers.Layer.weights`. Arrays of HDF5 are read only
        when accessed.

    Raises:
        WeightsError: if the file is missing, of no known format or damaged.
        MissingPackageError: if the package that reads the file is not installed.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is not a file. Give `imagenet` or a file {WEIGHT_FORMATS}.")
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise WeightsError(f"{path.name} has {size:,} bytes. A file of weights may have 1 to {MAX_BYTES:,} bytes.")
    try:
        with _open(path, encoder_name) as layers:
            yield layers
    except WeightsError:
        raise
    except UNREADABLE as error:
        raise WeightsError(
            f"{path.name} is damaged or contains more than weights ({type(error).__name__}). Expected {WEIGHT_FORMATS}."
        ) from error


@contextmanager
def _open(path, encoder_name):
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            yield _hdf5_layers(file, path)
    elif zipfile.is_zipfile(path) and (weights := _keras_weights(path)):
        with h5py.File(weights, "r") as file:
            yield _hdf5_layers(file, path)
    elif path.suffix == ".safetensors":
        state, metadata = _read_safetensors(path)
        yield _split_layers(state, path) if metadata == KERAS_LAYERS else _translate(state, encoder_name, path)
    elif path.suffix in (".pth", ".pt", ".tar"):
        yield _translate(_read_torch(path), encoder_name, path)
    else:
        raise WeightsError(f"{path.name} is not a file of weights. Expected {WEIGHT_FORMATS}.")


def _keras_weights(path):
    """Returns the weights inside a `.keras` file as a file in memory; None when it is another kind of archive."""
    with zipfile.ZipFile(path) as archive:
        if "model.weights.h5" not in archive.namelist():
            return None
        member = archive.getinfo("model.weights.h5")
        if member.file_size > MAX_BYTES:
            raise WeightsError(f"{path.name} unpacks to {member.file_size:,} bytes. Allowed: at most {MAX_BYTES:,}.")
        return io.BytesIO(archive.read(member))


def _hdf5_layers(file, path):
    datasets, names = {}, {}

    def visit(name, item):  # follows neither soft nor external links
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise WeightsError(f"{path.name} refers to data in other files. All weights must be in this file.")
            datasets[name] = item
        elif name.split("/")[-1] == "vars" and "name" in item.attrs:
            names[name] = _text(item.attrs["name"])

    root = file.get("model_weights", file)
    root.visititems(visit)
    if "layer_names" in root.attrs:
        return _legacy_layers(root, datasets)
    if not names:
        raise WeightsError(
            f"{path.name} contains no layer names, so Keras did not write it. Save the weights again with Keras 3."
        )
    return _keras3_layers(datasets, names)


def _legacy_layers(root, datasets):
    """Reads Keras 1 and 2: each layer lists its arrays; a layer that is a model lists those of all its layers."""
    layers = {}
    for layer_name in map(_text, root.attrs["layer_names"]):
        weight_names = [_text(name) for name in root[layer_name].attrs["weight_names"]]
        owners = [name.rpartition("/")[0] for name in weight_names]
        nested = len(set(owners)) > 1
        for owner, weight_name in zip(owners, weight_names):
            layers.setdefault(owner if nested else layer_name, []).append(datasets[f"{layer_name}/{weight_name}"])
    return layers


def _keras3_layers(datasets, names):
    """Reads Keras 3: each layer has a group `vars` with its name and numbered arrays. Repeated names are left out."""
    layers, twice = {}, set()
    for group, name in names.items():
        keys = [key for key in datasets if key.startswith(f"{group}/")]
        if not keys or group.startswith("optimizer"):
            continue
        if name in layers:
            twice.add(name)
        layers[name] = [datasets[key] for key in sorted(keys, key=lambda key: int(key.rpartition("/")[2]))]
    return {name: arrays for name, arrays in layers.items() if name not in twice}


def _text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _read_safetensors(path):
    safe_open = require("safetensors", "safetensors").safe_open
    try:
        with safe_open(path, framework="numpy") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            return state, file.metadata()
    except (TypeError, require("safetensors", "safetensors").SafetensorError) as error:
        raise WeightsError(
            f"{path.name} is damaged or has a number type that NumPy lacks. Expected {WEIGHT_FORMATS}."
        ) from error


def join_layers(layers: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Names the arrays of layers for a safetensors file that `open_layers` reads without translating names.

    Args:
        layers: dict from layer name to its arrays, in the order of `keras.layers.Layer.weights`.

    Returns:
        dict from `"layer/index"` to array, and the metadata of the file.

    Example:
        >>> tensors, metadata = join_layers({"logits": ["kernel", "bias"]})
        >>> tensors, metadata
        ({'logits/0': 'kernel', 'logits/1': 'bias'}, {'layout': 'keras-layers-1'})
    """
    named = {f"{name}/{index}": array for name, arrays in layers.items() for index, array in enumerate(arrays)}
    return named, KERAS_LAYERS


def _split_layers(state, path):
    layers = {}
    for key in state:
        layer, _, index = key.rpartition("/")
        if not layer or not index.isascii() or not index.isdigit():
            raise WeightsError(f"{path.name} is damaged: a tensor is not named layer/index. Convert the weights again.")
        layers.setdefault(layer, []).append((int(index), state[key]))
    return {name: [array for _, array in sorted(pairs, key=lambda pair: pair[0])] for name, pairs in layers.items()}


def _read_torch(path):
    """Reads a `state_dict`, bare or in a training checkpoint. `weights_only` rejects pickled objects except tensors."""
    torch = require("torch", "torch")
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise WeightsError(f"{path.name} contains a {type(state).__name__}. Expected a PyTorch state_dict.")
    return {key: value.float().numpy() for key, value in state.items() if isinstance(value, torch.Tensor)}


def _translate(state, encoder_name, path):
    translate = IMAGE_ENCODERS[encoder_name].torch_layers
    if translate is None:
        known = ", ".join(sorted(name for name, entry in IMAGE_ENCODERS.loaded().items() if entry.torch_layers))
        raise WeightsError(f"{path.name} is a PyTorch file, which can be read only for {known}, not {encoder_name}.")
    return translate(state)
