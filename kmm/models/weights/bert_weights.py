"""Weights of a BERT in the text encoder: which tensor belongs where, whether all fit, and loading all or none."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import keras
import numpy as np

from kmm.errors import WeightsError
from kmm.models.transformer.shape import TransformerShape
from kmm.models.weights.bert_folder import WORDS, BertFolder
from kmm.models.weights.checkpoints import WeightsReport

USED, UNUSED, MISSING, WRONG = "used", "unused", "missing", "other shape"
PLACES, SEGMENTS = "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"
FRAME, FRAME_NORM = "frame", "frame_norm"
DENSE = {  # layer of a block: the name of its tensors
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mixed": "attention.output.dense",
    "hidden": "intermediate.dense",
    "result": "output.dense",
}
NORMS = {"mixed_norm": "attention.output.LayerNorm", "result_norm": "output.LayerNorm"}


@dataclass(frozen=True)
class ListedTensor:
    """A tensor of a folder, or one that it lacks.

    Attributes:
        name: str, without the prefix of the encoder.
        use: str. `"used"`, `"unused"`, `"missing"` or `"other shape"`.
        expected, received: tuple of int, the shapes; None where there is none.
    """

    name: str
    use: str
    expected: tuple[int, ...] | None
    received: tuple[int, ...] | None


def list_tensors(folder: BertFolder) -> list[ListedTensor]:
    """Lists the tensors of a folder: those that its shape needs, in the order of the network, then the others.

    Args:
        folder: `BertFolder`.

    Returns:
        list of `ListedTensor`.
    """
    needed = dict(_list_needed(folder))
    listed = []
    for name, expected in needed.items():
        received = folder.tensors.get(name)
        use = MISSING if received is None else USED if received == expected else WRONG
        listed.append(ListedTensor(name, use, expected, received))
    return listed + [
        ListedTensor(name, UNUSED, None, size) for name, size in folder.tensors.items() if name not in needed
    ]


def check_tensors(folder: BertFolder, lines: int) -> list[ListedTensor]:
    """Checks that a folder has all tensors of its shape, and rows for its word pieces.

    Args:
        folder: `BertFolder`.
        lines: int. Lines of its vocabulary. The weights may have up to 127 rows more, with which some models fill up
            their number of words.

    Returns:
        the list of `list_tensors`.

    Raises:
        WeightsError: if a tensor is missing or has another shape, or the vocabulary is that of another model.
    """
    listed = list_tensors(folder)
    name, count = folder.path.name, sum(row.use != UNUSED for row in listed)
    faults = [row for row in listed if row.use in (MISSING, WRONG)]
    if faults:
        said = [f"{row.name} expected {row.expected}, received {row.received or 'none'}" for row in faults[:3]]
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsError(
            f"{name} holds weights for another shape than its config.json says: {len(faults)} of {count} tensors do "
            f"not fit: {'; '.join(said)}{more}."
        )
    deeper = [row.name for row in listed if row.use == UNUSED and row.name.startswith("encoder.layer.")]
    if deeper:
        raise WeightsError(
            f"{name} holds weights of more layers than the {folder.shape.layers} that its config.json says, first "
            f"{deeper[0]}."
        )
    if not lines <= folder.words < lines + 128:
        raise WeightsError(
            f"{name} has the vocabulary of another model: vocab.txt has {lines} lines, the weights have {folder.words} "
            "rows of word pieces."
        )
    return listed


def load_text_weights(encoder: keras.Model, folder: BertFolder, marks: tuple[int, int]) -> WeightsReport:
    """Loads the weights of a folder into a text encoder of its shape. On an error no weight is changed.

    Args:
        encoder: `keras.Model` named `text_encoder`, changed in place.
        folder: `BertFolder` that `check_tensors` accepted.
        marks: tuple of two int, the rows of [CLS] and [SEP].

    Returns:
        `WeightsReport`. Its digest is that of the file of weights; rows of words count.

    Raises:
        WeightsError: if the encoder has another shape, or a tensor cannot be read.
    """
    targets = {layer.name: layer for layer in encoder.layers if layer.weights}
    arrays = dict(_list_arrays(folder, marks, length=targets[FRAME].weights[1].shape[0]))
    if {name: _shapes(layer.weights) for name, layer in targets.items()} != {
        name: _shapes(values) for name, values in arrays.items()
    }:
        raise WeightsError(f"{folder.path.name} has another shape than the text encoder.")
    for name, values in arrays.items():
        targets[name].set_weights(values)
    return report_weights(folder)


def report_weights(folder: BertFolder) -> WeightsReport:
    """Returns the report of a folder that `check_tensors` accepted."""
    listed = list_tensors(folder)
    sizes = [prod(row.received) for row in listed if row.use == USED and row.received is not None]
    extra = tuple(sorted(row.name for row in listed if row.use == UNUSED))
    opened = folder.opened
    return WeightsReport(
        folder.path.resolve().name, opened.digest(), len(sizes), sum(sizes), extra, licence=opened.licence
    )


def _shapes(weights: Any) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in weights]


def _list_blocks(shape: TransformerShape) -> Iterator[tuple[str, str]]:
    """Yields the beginnings of the names of each block's layers and of its tensors."""
    yield from ((f"block{number + 1}", f"encoder.layer.{number}") for number in range(shape.layers))


def _list_needed(folder):
    """Yields the name and shape of each tensor that the encoder needs. The rows of words may be any number."""
    shape = folder.shape
    width = shape.width
    yield WORDS, (folder.words, width)
    yield PLACES, (shape.positions, width)
    yield SEGMENTS, (max(folder.tensors.get(SEGMENTS, (2,))[0], 1), width)
    yield from ((f"embeddings.LayerNorm.{part}", (width,)) for part in ("weight", "bias"))
    for _, start in _list_blocks(shape):
        for layer, name in DENSE.items():
            rows = shape.hidden if layer == "hidden" else width
            yield f"{start}.{name}.weight", (rows, shape.hidden if layer == "result" else width)
            yield f"{start}.{name}.bias", (rows,)
        for name in NORMS.values():
            yield from ((f"{start}.{name}.{part}", (width,)) for part in ("weight", "bias"))


def _list_arrays(folder, marks, length):
    """Yields the name of each layer with weights and its arrays; `length` is the number of places of the frame."""
    words = folder.read(WORDS)
    yield FRAME, [words[list(marks)], folder.read(PLACES)[:length], folder.read(SEGMENTS)[0]]

    def read(name, *, turned=False):
        kernel = folder.read(f"{name}.weight")
        return [np.ascontiguousarray(kernel.T) if turned else kernel, folder.read(f"{name}.bias")]

    yield FRAME_NORM, read("embeddings.LayerNorm")
    for block, start in _list_blocks(folder.shape):
        yield from ((f"{block}_{layer}", read(f"{start}.{name}", turned=True)) for layer, name in DENSE.items())
        yield from ((f"{block}_{layer}", read(f"{start}.{name}")) for layer, name in NORMS.items())
