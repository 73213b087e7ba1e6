"""Reading of weight files as arrays by layer name, without running code, configurations or pickles in them.

Keras HDF5 (`.h5` of Keras 1 and 2, `.weights.h5` of Keras 3) and `.keras` files are recognised by content, PyTorch
(`.pth`, `.pt`, `.pth.tar`, `.bin`) and safetensors files by suffix, and folders by the files in them.
"""

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from kmm.errors import WeightsError
from kmm.models.weights.files.model_folder import ModelFolder, describe_file, open_folder
from kmm.models.weights.files.safetensors_file import read_safetensors
from kmm.models.weights.files.torch_file import read_torch
from kmm.models.weights.layer_names import normalise_names

MAX_BYTES = 4 * 2**30
KERAS_FORMATS, TORCH_FORMATS = (".h5", ".weights.h5", ".keras"), (".pth", ".pt", ".pth.tar", ".bin")
WEIGHT_FORMATS = f"{', '.join(KERAS_FORMATS + TORCH_FORMATS)}, .safetensors or a folder with one of the last two"
LAYOUT, KERAS_LAYERS = "layout", "keras-layers-1"  # of a safetensors file whose tensors are named layer/index
ORIGIN = "kmm_origin"  # in the metadata of a file that kmm converted: where its weights are from
UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError)


@dataclass(frozen=True)
class OpenedWeights:
    """Weights of a file or folder, under the names that they have there.

    Attributes:
        path: Path of the file or folder.
        folder: `ModelFolder`: the files of weights, and what stands beside them.
        layers: dict of layer name to its arrays, in the order of `keras.layers.Layer.weights`, if Keras or kmm wrote
            the file; arrays of HDF5 are read only when accessed. Otherwise None.
        state: dict of tensor name to array, if PyTorch wrote it; those of safetensors are read only when an array is
            made of them. Otherwise None.
        origin: dict. Of a file that kmm converted: the `source`, `sha256` and `licence` of its weights and the layers
            that were `random`; otherwise empty.
    """

    path: Path
    folder: ModelFolder
    layers: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def licence(self) -> str:
        """Licence of the weights as their publisher writes it, or `"unknown"`."""
        return str(self.origin.get("licence") or self.folder.licence)

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by the name that it has in the file; one of Keras's is `layer/index`."""
        if self.layers is None:
            return {name: tuple(array.shape) for name, array in (self.state or {}).items()}
        return {
            f"{layer}/{index}": tuple(array.shape)
            for layer, arrays in self.layers.items()
            for index, array in enumerate(arrays)
        }

    def digest(self) -> str:
        """Returns the SHA-256, in hex, of the file of weights; of several files that of their digests."""
        found = []
        for path in self.folder.files:
            with path.open("rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


@contextmanager
def open_weights(path: Path) -> Iterator[OpenedWeights]:
    """Opens a file of weights, or a folder with one, as a context.

    Args:
        path: Path of the file, of at most 4 GiB, or folder.

    Yields:
        `OpenedWeights`.

    Raises:
        WeightsError: if the file is missing, of no known format or damaged.
        MissingPackageError: if the package that reads the file is not installed.
    """
    if not path.exists():
        raise WeightsError(f"{path} is not a file. Give `imagenet` or a file {WEIGHT_FORMATS}.")
    folder = open_folder(path) if path.is_dir() else describe_file(path)
    for file in folder.files:
        size = file.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise WeightsError(f"{file.name} has {size:,} bytes. A file of weights may have 1 to {MAX_BYTES:,} bytes.")
    try:
        with _open(path, folder) as opened:
            yield opened
    except WeightsError:
        raise
    except UNREADABLE as error:
        raise WeightsError(
            f"{path.name} is damaged or contains more than weights ({type(error).__name__}). Expected {WEIGHT_FORMATS}."
        ) from error


@contextmanager
def _open(path, folder):
    first, state, metadata = folder.files[0], dict[str, Any](), {}
    if h5py.is_hdf5(first):
        with h5py.File(first, "r") as file:
            origin = _read_origin(file.attrs.get(ORIGIN))
            yield OpenedWeights(path, folder, layers=normalise_names(_hdf5_layers(file, first)), origin=origin)
        return
    if zipfile.is_zipfile(first) and (weights := _keras_weights(first)):
        with h5py.File(weights, "r") as file:
            yield OpenedWeights(path, folder, layers=normalise_names(_hdf5_layers(file, first)))
        return
    for part in folder.files:
        if part.suffix == ".safetensors":
            found, metadata = read_safetensors(part)
        elif part.suffix in (".pth", ".pt", ".tar", ".bin"):
            found, metadata = read_torch(part, MAX_BYTES), {}
        else:
            raise WeightsError(f"{part.name} is not a file of weights. Expected {WEIGHT_FORMATS}.")
        if twice := sorted(set(found) & set(state)):
            raise WeightsError(f"{part.name} has the tensor {twice[0]} that another file has. Download them again.")
        state |= found
    if metadata.get(LAYOUT) == KERAS_LAYERS:
        origin = _read_origin(metadata.get(ORIGIN))
        yield OpenedWeights(path, folder, layers=_split_layers(state, first), origin=origin)
    else:
        yield OpenedWeights(path, folder, state=state)


def _read_origin(text):
    try:
        found = json.loads(text) if text else {}
    except (TypeError, ValueError):
        found = {}
    return found if isinstance(found, dict) else {}


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


def join_layers(layers: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Names the arrays of layers for a safetensors file that `open_weights` reads without translating names.

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
    return named, {LAYOUT: KERAS_LAYERS}


def _split_layers(state, path):
    layers = {}
    for key in state:
        layer, _, index = key.rpartition("/")
        if not layer or not index.isascii() or not index.isdigit():
            raise WeightsError(f"{path.name} is damaged: a tensor is not named layer/index. Convert the weights again.")
        layers.setdefault(layer, []).append((int(index), state[key]))
    return {name: [array for _, array in sorted(pairs, key=lambda pair: pair[0])] for name, pairs in layers.items()}
