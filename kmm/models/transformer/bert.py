"""Text encoder with the network of BERT: frame, normalisation, blocks of attention."""

import re
from collections.abc import Sequence

import keras
from keras import layers

from kmm.models.encoding import Encoding
from kmm.models.transformer.attention import add_block
from kmm.models.transformer.frame import FirstPlace, Frame, FrameMask
from kmm.models.transformer.shape import TransformerShape

STEM = ("frame", "frame_mask")
TOP = "top"  # the layer from which the upper third of the blocks follows
_BLOCK = re.compile(r"(block\d+)_")


def build_bert(
    rows: keras.KerasTensor, mask: keras.KerasTensor, filters: int, dropout: float, shape: TransformerShape
) -> Encoding:
    """Applies the network to embedded words.

    The vector is the last row of the mark [CLS]. BERT's pooler, a dense layer with tanh behind it, is left out: what
    classifiers of BERT learn in it, the head of kmm learns. The sequence has the rows of all places, of both marks too.

    Args:
        rows: KerasTensor `(n, t, d)`. Rows of another width than `shape.width` are projected to it.
        mask: KerasTensor `(n, t)`, 1 = a word, 0 = padding.
        filters: int, not used.
        dropout: float in [0, 1). Fraction dropped in training of the frame and in each block.
        shape: `TransformerShape`.

    Returns:
        `Encoding` of `vector (n, width)`, `sequence (n, t + 2, width)` and its mask `(n, t + 2)`.

    Source: https://arxiv.org/abs/1810.04805
    """
    if rows.shape[-1] != shape.width:
        rows = layers.Dense(shape.width, use_bias=False, name="projection")(rows)
    row_mask = FrameMask(name="frame_mask")(mask)
    x = layers.LayerNormalization(epsilon=shape.epsilon, name="frame_norm")(Frame(name="frame")(rows, mask))
    x = layers.Dropout(dropout, name="frame_dropout")(x)
    upper = max(1, shape.layers // 3)
    for number in range(1, shape.layers + 1):
        if number == shape.layers - upper + 1:
            x = layers.Identity(name=TOP)(x)
        x = add_block(x, row_mask, shape, dropout, f"block{number}")
    return Encoding(FirstPlace(name="first")(x), x, layers.Identity(name="row_mask")(row_mask))


def list_block_starts(encoder: keras.Model) -> Sequence[str]:
    """Lists the layers at which the blocks of an encoder begin, from its top down; the last one is its first layer.

    Example:
        >>> rows, mask = keras.Input((5, 8), name="rows"), keras.Input((5,), name="padding_mask")
        >>> encoding = build_bert(rows, mask, 1, 0.1, TransformerShape(layers=3, width=8, heads=2, hidden=16))
        >>> starts = list_block_starts(keras.Model([rows, mask], encoding._asdict()))
        >>> [name.partition("_")[0] for name in starts[:3]]
        ['block3', 'block2', 'block1']
    """
    starts: dict[str, str] = {}
    for layer in encoder.layers:
        if block := find_block(layer.name):
            starts.setdefault(block, layer.name)
    return [*reversed(starts.values()), encoder.layers[0].name]


def find_block(layer: str) -> str:
    """Returns the block that a layer belongs to by its name; empty for a layer outside the blocks.

    Example:
        >>> find_block("block2_query"), find_block("frame")
        ('block2', '')
    """
    found = _BLOCK.match(layer)
    return found[1] if found else ""
