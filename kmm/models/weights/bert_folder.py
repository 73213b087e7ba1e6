"""Folder of a BERT as Hugging Face writes it: its shape, and its tensors under the names of a network without a prefix.

The files are read by `kmm.models.weights.weight_files`, as those of image encoders.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kmm.errors import InputError, WeightsError
from kmm.models.transformer.shape import TransformerShape
from kmm.models.weights.weight_files import OpenedWeights, open_weights
from kmm.storage.config_file import read_config

CONFIG = "config.json"
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
        opened: `OpenedWeights`: the files, their digest and licence.
    """

    path: Path
    shape: TransformerShape
    opened: OpenedWeights
    _arrays: Mapping[str, Any] = field(repr=False)

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by its name without a prefix such as `bert.`."""
        return {name: tuple(array.shape) for name, array in self._arrays.items()}

    @property
    def words(self) -> int:
        """Number of rows of word pieces; 0 if there are none."""
        return self.tensors.get(WORDS, (0,))[0]

    def read(self, name: str) -> np.ndarray:
        """Returns a tensor as float32.

        Raises:
            WeightsError: if it has NaN or infinity.
        """
        array = np.asarray(self._arrays[name], np.float32)
        if not np.isfinite(array).all():
            raise WeightsError(f"{self.path.name} contains NaN or infinity, first in {name}.")
        return array


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
    with open_weights(Path(path)) as opened:
        if opened.state is None:
            raise WeightsError(f"{opened.path.name} was written by Keras. Expected weights of PyTorch or safetensors.")
        return BertFolder(folder, shape, opened, _rename(opened.state, folder))


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
