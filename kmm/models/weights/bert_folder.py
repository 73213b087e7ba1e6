"""Folder of a BERT as Hugging Face writes it: its shape, the names and shapes of its tensors, and their numbers.

Opening a folder reads config.json and the headers of the files of weights. Tensors are read when they are asked for,
one after the other. Nothing is unpickled but tensors (`weights_only`).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kmm.errors import InputError, WeightsError, require
from kmm.models.transformer.shape import TransformerShape
from kmm.models.weights.weight_files import MAX_BYTES, UNREADABLE
from kmm.storage.config_file import read_config

CONFIG, SAFETENSORS, TORCH, INDEX = "config.json", "model.safetensors", "pytorch_model.bin", ".index.json"
WORDS = "embeddings.word_embeddings.weight"
TYPES = ("bert", "cxr-bert")  # values of `model_type`
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh", "relu": "relu"}
FIELDS = {  # of config.json: the field of a shape, and its value where it is not given
    "num_hidden_layers": ("layers", None),
    "num_attention_heads": ("heads", None),
    "hidden_size": ("width", None),
    "intermediate_size": ("hidden", None),
    "max_position_embeddings": ("positions", 512),
    "layer_norm_eps": ("epsilon", 1e-12),
}
REFUSED = {"position_embedding_type": ("absolute",), "is_decoder": (False,), "add_cross_attention": (False,)}
OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of layer normalisation


@dataclass(frozen=True)
class BertFolder:
    """An opened folder.

    Attributes:
        path: Path of the folder.
        shape: `TransformerShape`, of config.json.
        tensors: dict of the name of each tensor, without a prefix such as `bert.`, to its shape.
        files: tuple of the Paths of the files of weights.
    """

    path: Path
    shape: TransformerShape
    tensors: Mapping[str, tuple[int, ...]]
    files: tuple[Path, ...]
    _readers: Mapping[str, Callable[[], Any]] = field(repr=False)

    @property
    def words(self) -> int:
        """Number of rows of word pieces; 0 if there are none."""
        return self.tensors.get(WORDS, (0,))[0]

    def read(self, name: str) -> np.ndarray:
        """Reads a tensor as float32.

        Raises:
            WeightsError: if it cannot be read, or has NaN or infinity.
        """
        try:
            array = np.asarray(self._readers[name](), np.float32)
        except UNREADABLE as error:
            raise _damaged(self.path, error) from None
        if not np.isfinite(array).all():
            raise WeightsError(f"{self.path.name} contains NaN or infinity, first in {name}.")
        return array

    def digest(self) -> str:
        """Returns the SHA-256, in hex, of the file of weights; of several files that of their digests."""
        found = []
        for path in self.files:
            with path.open("rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def find_folder(path: Path | str) -> Path:
    """Returns the folder of a path that is one, or a file of weights inside it.

    Raises:
        WeightsError: if there is none.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise WeightsError(f"{path} is no file or folder. Give the folder of a BERT, with config.json and vocab.txt.")
    return folder


def open_bert(path: Path | str) -> BertFolder:
    """Opens a folder.

    Args:
        path: path of the folder, or of the file of weights inside it that is to be read.

    Returns:
        `BertFolder`. Whether its tensors fit its shape, `kmm.models.weights.bert_weights` says.

    Raises:
        WeightsError: if a file is missing, damaged or of another model; in one line.
        MissingPackageError: if the file is PyTorch's, and torch is not installed.
    """
    folder = find_folder(path)
    shape = _read_shape(folder / CONFIG)
    files = (Path(path),) if Path(path).is_file() else _find_files(folder)
    found: dict[str, tuple[tuple[int, ...], Callable[[], Any]]] = {}
    for file in files:
        if not 0 < file.stat().st_size <= MAX_BYTES:
            raise WeightsError(f"{file.name} has {file.stat().st_size:,} bytes. Expected 1 to {MAX_BYTES:,} bytes.")
        try:
            found |= _open_safetensors(file) if file.suffix == ".safetensors" else _open_torch(file)
        except UNREADABLE as error:
            raise _damaged(file, error) from None
    named = _rename(found, folder)
    tensors = {name: size for name, (size, _) in named.items()}
    return BertFolder(folder, shape, tensors, files, {name: read for name, (_, read) in named.items()})


def _damaged(path, error):
    return WeightsError(f"{path.name} is damaged or contains more than weights ({type(error).__name__}).")


def _read_shape(path):
    try:
        config = read_config(path)
        if config.get("model_type", TYPES[0]) not in TYPES:
            raise InputError(f"the model is {str(config['model_type'])[:40]!r}. Expected: bert.")
        for name, expected in REFUSED.items():
            if config.get(name, expected[0]) not in expected:
                raise InputError(f"`{name}` is {str(config[name])[:40]!r}. Expected: {expected[0]!r}.")
        activation = config.get("hidden_act", "gelu")
        if activation not in ACTIVATIONS:
            raise InputError(f"`hidden_act` is {str(activation)[:40]!r}. Expected: {', '.join(ACTIVATIONS)}.")
        values = {name: config.get(key, default) for key, (name, default) in FIELDS.items()}
        return TransformerShape(**values, activation=ACTIVATIONS[activation])
    except InputError as error:
        raise WeightsError(f"{path} cannot be used: {error}") from None


def _find_files(folder):
    """Returns the files of weights of a folder: one, or those that an index names, which must be files beside it."""
    for name in (SAFETENSORS, TORCH):
        if (folder / name).is_file():
            return (folder / name,)
        if (folder / f"{name}{INDEX}").is_file():
            break
    else:
        raise WeightsError(f"{folder} has no weights. Expected {SAFETENSORS} or {TORCH}.")
    index = folder / f"{name}{INDEX}"
    try:
        parts = read_config(index).get("weight_map")
    except InputError as error:
        raise WeightsError(str(error)) from None
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()) or not parts:
        raise WeightsError(f"{index} names no files of weights.")
    names = sorted(set(parts.values()))
    for part in names:
        if Path(part).name != part or Path(part).suffix not in (".safetensors", ".bin"):
            raise WeightsError(f"{index} names {part[:60]!r}, which is no file of weights in its folder.")
        if not (folder / part).is_file():
            raise WeightsError(f"{index} names {part}, which is missing.")
    return tuple(folder / part for part in names)


def _open_safetensors(path):
    package = require("safetensors", "safetensors")
    try:
        with package.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            sizes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except package.SafetensorError as error:
        raise _damaged(path, error) from None

    def read(name):
        try:
            with package.safe_open(path, framework="numpy") as file:
                return file.get_tensor(name)
        except (TypeError, AttributeError, package.SafetensorError) as error:  # such as bfloat16
            raise WeightsError(f"{path.name} has a number type that NumPy lacks. Save it as float32.") from error

    return {name: (size, lambda name=name: read(name)) for name, size in sizes.items()}


def _open_torch(path):
    torch = require("torch", "torch")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # the format before PyTorch 1.6, which cannot be mapped
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise WeightsError(f"{path.name} contains a {type(state).__name__}. Expected a PyTorch state_dict.")
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    return {
        name: (tuple(value.shape), lambda value=value: value.detach().float().numpy())
        for name, value in tensors.items()
    }


def _rename(found, folder):
    """Takes the prefix of the encoder from the names of its tensors, and gives old names their present form."""
    places = [name for name in found if name.endswith(WORDS)]
    if len(places) != 1:
        raise WeightsError(f"{folder.name} is not a BERT: {len(places)} tensors are called {WORDS}. Expected one.")
    prefix, renamed = places[0].removesuffix(WORDS), {}
    for name, value in found.items():
        start, _, last = name.removeprefix(prefix).rpartition(".")
        last = OLD_NAMES.get(last, last) if start.endswith("LayerNorm") else last
        renamed[f"{start}.{last}" if start else last] = value
    return renamed
