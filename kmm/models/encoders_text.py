"""Text encoders, one table entry each: from embedded words to an `Encoding`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
from keras import layers, ops

from kmm.errors import InputError, look_up
from kmm.models.description import TextDescription
from kmm.models.encoder_table import EncoderTable
from kmm.models.encoding import Encoding, encoder_model
from kmm.models.transformer.bert import STEM, TOP, build_bert, list_block_starts
from kmm.models.transformer.shape import TransformerShape

KERNELS = (3, 4, 5)
CONVOLUTIONS = tuple(f"conv{kernel}" for kernel in KERNELS)


@dataclass(frozen=True, kw_only=True)
class TextEncoder(TextDescription):
    """A row of the table `TEXT_ENCODERS`: a description, with the function that builds the network.

    Attributes:
        network: function `(rows (n, t, d), padding_mask (n, t), filters, dropout) -> Encoding`. That of a transformer
            takes the keyword `shape` too.
        shape: `TransformerShape`, the default of a transformer; None for other networks.
        weights: bool. Whether a fit takes it with weights only, and the shape from them: `text_weights`.
        starts: function from the network to the layers at which its blocks begin, from the top down, for gradual
            unfreezing; None for a network that starts from no weights.
        any_length: bool. Whether the network, built for reports of some length, reads shorter ones too, and says the
            same of a report however much padding it has.
        low_rank: bool. Whether its attention takes low-rank factors, see `kmm.models.views.low_rank`.
    """

    network: Callable[..., Encoding]
    shape: TransformerShape | None = None
    weights: bool = False
    starts: Callable[[keras.Model], Sequence[str]] | None = None
    any_length: bool = False
    low_rank: bool = False


def build_text_encoder(
    entry: TextEncoder,
    *,
    length: int,
    embedding_size: int,
    filters: int,
    dropout: float,
    shape: TransformerShape | None = None,
) -> keras.Model:
    """Builds the nested model of one text encoder.

    Args:
        entry: `TextEncoder`, a value of `TEXT_ENCODERS`.
        length: int, at least 2. Words per report.
        embedding_size: int. Size of a word's embedding row.
        filters: int. Filters per kernel size.
        dropout: float in [0, 1). Fraction of inputs dropped in training.
        shape: `TransformerShape` of a transformer; None for that of the entry.

    Returns:
        `keras.Model` named `text_encoder`, from `{"rows": (n, length, embedding_size), "padding_mask": (n, length)}` to
        `{"vector": (n, d), "sequence": (n, m, k), "mask": (n, m)}`. In both masks 1 is a word and 0 padding.

    Raises:
        InputError: if the network takes rows of another size only, or the entry names a top that it does not have.

    Example:
        >>> entry = TEXT_ENCODERS["text-cnn-paper"]
        >>> build_text_encoder(entry, length=140, embedding_size=8, filters=10, dropout=0.5).output["vector"].shape
        (None, 4170)
    """
    if entry.embedding_size not in (0, embedding_size):
        raise InputError(
            f"The text encoder takes rows of {entry.embedding_size} numbers only. Set `embedding_size` to "
            f"{entry.embedding_size}, or give word vectors of that size. Received: {embedding_size}."
        )
    rows = keras.Input((length, embedding_size), name="rows")
    mask = keras.Input((length,), name="padding_mask")
    shaped = {"shape": shape or entry.shape} if entry.shape else {}
    encoding = entry.network(rows, mask, filters, dropout, **shaped)
    encoder = encoder_model({"rows": rows, "padding_mask": mask}, encoding, name="text_encoder")
    if entry.top:
        look_up({layer.name: layer for layer in encoder.layers}, entry.top, "layer of the text encoder")
    return encoder


def _text_cnn(rows, mask, filters, dropout):
    """Takes the maximum over the report of convolutions over 3, 4 and 5 words. The vector does not depend on the length
    of the padding, and is zero for a report without words."""
    word = layers.Reshape((mask.shape[1], 1), name="word_mask")(mask)
    x = ops.multiply(layers.Dropout(dropout, name="rows_dropout")(rows), word)
    maps = [
        layers.ReLU(name=f"relu{kernel}")(layers.Conv1D(filters, kernel, padding="same", name=f"conv{kernel}")(x))
        for kernel in KERNELS
    ]
    sequence = ops.multiply(layers.Concatenate(name="maps")(maps), word)
    return Encoding(layers.GlobalMaxPooling1D(name="max_pool")(sequence), sequence, mask)


def _text_cnn_paper(rows, mask, filters, dropout):
    """Builds the network exactly as published: maxima over neighbouring pairs, all positions kept, padding unmasked."""
    x = layers.Dropout(dropout, name="rows_dropout")(rows)
    maps = []
    for kernel in KERNELS:
        convolution = layers.Conv1D(
            filters,
            kernel,
            padding="same",
            kernel_regularizer=keras.regularizers.L2(0.03),
            name=f"conv{kernel}",
        )
        active = layers.ReLU(name=f"relu{kernel}")(convolution(x))
        maps.append(layers.MaxPooling1D(2, strides=1, padding="valid", name=f"pool{kernel}")(active))
    vector = layers.Concatenate(name="flat_maps")([layers.Flatten(name=f"flat{k}")(m) for k, m in zip(KERNELS, maps)])
    vector = layers.ReLU(name="vector_relu")(layers.Dropout(dropout, name="vector_dropout")(vector))
    pair = layers.MaxPooling1D(2, strides=1, padding="valid", name="pool_mask")(ops.expand_dims(mask, -1))
    return Encoding(vector, layers.Concatenate(name="maps")(maps), ops.squeeze(pair, -1))


_ENTRIES = {
    "text-cnn": TextEncoder(
        network=_text_cnn, filters=100, stem=(*CONVOLUTIONS, "word_mask"), source="https://arxiv.org/abs/1408.5882"
    ),
    "text-cnn-paper": TextEncoder(
        network=_text_cnn_paper, filters=10, stem=CONVOLUTIONS, source="https://arxiv.org/abs/1902.08888"
    ),
    "transformer-small": TextEncoder(
        network=build_bert,
        filters=1,
        stem=STEM,
        top=TOP,
        shape=TransformerShape(layers=2, heads=4, width=128, hidden=256, positions=1026),
        any_length=True,
        source="https://arxiv.org/abs/1706.03762",
    ),
    "bert": TextEncoder(
        network=build_bert,
        filters=1,
        stem=STEM,
        top=TOP,
        shape=TransformerShape(),
        weights=True,
        starts=list_block_starts,
        any_length=True,
        low_rank=True,
        source="https://arxiv.org/abs/1810.04805",
    ),
}


def _make_entry(made, name):
    """Makes an entry of what a program registers or a package offers."""
    from kmm.models.own.text import make_text_entry

    return make_text_entry(made, name)


TEXT_ENCODERS: EncoderTable[TextEncoder] = EncoderTable("text encoder", "kmm.text_encoders", _ENTRIES, _make_entry)
