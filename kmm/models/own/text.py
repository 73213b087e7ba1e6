"""A text encoder made of a Keras model that reads rows of words and the mask of padding."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from kmm.errors import InputError
from kmm.models.encoders_text import TextEncoder
from kmm.models.encoding import Encoding, MaskedMean, full_mask
from kmm.models.own.network import OwnNetwork, check_model

NAMES = ("rows", "padding_mask")
STEM = ("stem_rows", "stem_mask")  # copies of both inputs: every model can be cut behind them


@dataclass(frozen=True)
class TextOptions:
    """Properties of a model that becomes a text encoder.

    Attributes:
        source: str. Link of the publication, or a description.
    """

    source: str = "a Keras model"


class OwnTextNetwork:
    """The `network` of a `TextEncoder` that is made of a Keras model. It always starts from the model's weights.

    Args:
        model: functional `keras.Model` with the inputs `rows (n, t, d)` and `padding_mask (n, t)` and one output, a
            vector `(n, d)` or a sequence `(n, m, k)`.
        name: str. Name of the encoder, for messages.
        options: `TextOptions`.
    """

    def __init__(self, model: keras.Model, name: str, options: TextOptions):
        self.options = options
        named = {tensor.name: tensor for tensor in model.inputs}
        self.layers = OwnNetwork(keras.Model([named[name] for name in NAMES], model.outputs[0], name=model.name), name)

    def __call__(self, rows: keras.KerasTensor, mask: keras.KerasTensor, filters: int, dropout: float) -> Encoding:
        """Applies copies of the model's layers; see `TextEncoder.network`. `filters` and `dropout` are not used."""
        stem = [layers.Identity(name=name)(tensor) for name, tensor in zip(STEM, (rows, mask), strict=True)]
        output = self.layers.repeat(stem, copy_weights=True)
        sequence = output if len(output.shape) == 3 else self._find_sequence(output)
        # The mask follows from the stem, not from the input, so that the model can be cut behind its stem.
        worded = sequence.shape[1] == mask.shape[1]
        row_mask = layers.Identity(name="row_mask")(stem[1]) if worded else full_mask(sequence)
        vector = MaskedMean(name="masked_mean")(sequence, row_mask) if sequence is output else output
        return Encoding(vector, sequence, row_mask)

    def _find_sequence(self, vector):
        """Returns the last sequence `(n, m, k)` inside a model that ends in a vector; else the vector as one row."""
        inner = [tensor for tensor in self.layers.tensors.values() if len(getattr(tensor, "shape", ())) == 3]
        return inner[-1] if inner else layers.Reshape((1, vector.shape[-1]), name="one_place")(vector)


def make_text_entry(made: Any, name: str, options: TextOptions | None = None) -> TextEncoder:
    """Makes an entry of the table of text encoders.

    Args:
        made: `TextEncoder`; a functional `keras.Model`, as for `OwnTextNetwork`; or a function without arguments that
            returns one of them.
        name: str. Name of the encoder, for messages.
        options: `TextOptions` of a model.

    Returns:
        `TextEncoder`.

    Raises:
        InputError: if the model cannot be used; it says what to do.

    Example:
        >>> rows, mask = keras.Input((None, 6), name="rows"), keras.Input((None,), name="padding_mask")
        >>> output = layers.Dense(4)(rows * keras.ops.expand_dims(mask, -1))
        >>> entry = make_text_entry(keras.Model([rows, mask], output), "mine")
        >>> entry.length, entry.embedding_size, entry.stem
        (0, 6, ('stem_rows', 'stem_mask'))
    """
    if not isinstance(made, TextEncoder | keras.Model) and callable(made):
        made = made()
    if isinstance(made, TextEncoder):
        return made
    options = options or TextOptions()
    check_model(made, name, inputs=2)
    shapes = {tensor.name: tuple(tensor.shape) for tensor in made.inputs}
    start, output = f"The model of the encoder {name!r}", tuple(made.outputs[0].shape)
    if set(shapes) != set(NAMES) or (len(shapes["rows"]), len(shapes["padding_mask"])) != (3, 2):
        received = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(
            f"{start} must have the inputs rows (n, t, d) and padding_mask (n, t): keras.Input(..., name='rows'). "
            f"Received: {received}."
        )
    if len(output) not in (2, 3) or output[-1] is None:
        raise InputError(f"{start} must end in a vector (n, d) or a sequence (n, m, k). Received: {output}.")
    return TextEncoder(
        network=OwnTextNetwork(made, name, options),
        filters=1,
        stem=STEM,
        length=shapes["rows"][1] or shapes["padding_mask"][1] or 0,
        embedding_size=shapes["rows"][2] or 0,
        source=options.source,
    )
