"""Construction of a model from its specification, as nested Keras models.

    embed:  token_ids (n, t) int32                                             -> rows (n, t, d)
    core:   image (n, h, w, 1), rows (n, t, d), padding_mask (n, t), present (n, 2) -> logits (n, n_labels)
    model:  image, token_ids, present                                          -> logits (n, n_labels)

A model of images alone has no embed and takes image and present; one of reports alone takes token_ids and present.
`present` always has two columns, image and text: 1 = present, 0 = absent. No activation follows the logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from kmm.errors import InputError, look_up
from kmm.models.cross.shape import CrossShape
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.encoders_text import TEXT_ENCODERS, build_text_encoder
from kmm.models.fusion import FUSIONS, build_fusion
from kmm.models.heads import HEADS
from kmm.models.image_vector import choose_depths
from kmm.models.joined.film_views import VIEWS
from kmm.models.joined.joined_encoder import join_encoders
from kmm.models.transformer.frame import MARKS
from kmm.models.transformer.shape import TransformerShape


@dataclass(frozen=True)
class ModelSpec:
    """Specification of a model, of plain values only, for JSON: `ModelSpec(**dataclasses.asdict(spec)) == spec`.

    Attributes:
        image_encoder: str, a key of `IMAGE_ENCODERS`, or None for a model of reports alone.
        text_encoder: str, a key of `TEXT_ENCODERS`, or None for a model of images alone.
        fusion: str, a key of `FUSIONS`.
        pixels: int, at least 32. Height and width of the film; None for the encoder's default.
        length: int, at least 2. Words per report.
        embedding_size: int, at least 1. Size of a word's embedding row.
        train_embedding: bool. Whether the embedding rows are trained.
        text_filters: int, at least 1. Filters per kernel size of the text encoder; None for the encoder's default.
        text_dropout: float in [0, 1). Fraction of the text encoder's inputs dropped in training.
        fusion_units: int, at least 1. Width of the decoder.
        fusion_dropout: float in [0, 1). Fraction of the decoder's outputs dropped in training.
        head: str, a key of `HEADS`. A specification that lacks it is of a version that had only `decoder`.
        image_depths: int, at least 1. Depths of the image encoder that make up its vector, see
            `kmm.models.image_vector.choose_depths`.
        image_grid: int, at least 1. Cells along each side of the film over which the means of its vector are taken, see
            `kmm.models.image_vector.GridMeans`.
        tta: int from 1 to 9. Views of a film whose vectors the image encoder averages; 1 for the film alone. See
            `kmm.models.joined.film_views`.
        members: tuple of int, one per member of the image side: the number of its encoder, from 0. One member is the
            encoder itself; see `kmm.models.joined.joined_encoder.join_encoders`.
        text_shape: `TransformerShape` of a text encoder that is a transformer, or the dict of its fields; None for the
            encoder's default, and of other encoders.
        fusion_shape: `CrossShape` of a fusion that has one, or the dict of its fields; None for the fusion's default,
            and of other fusions.

    Raises:
        InputError: if a name is unknown, both encoders are None or a number is out of range.

    Example:
        >>> ModelSpec(image_encoder="small-cnn").pixels
        128
        >>> ModelSpec(text_encoder="bert").text_shape.layers
        12
        >>> ModelSpec(text_encoder="lstm")
        Traceback (most recent call last):
        kmm.errors.InputError: Unknown text encoder 'lstm'. Known: text-cnn, text-cnn-paper, transformer-small, bert.
    """

    image_encoder: str | None = None
    text_encoder: str | None = None
    fusion: str = "concat"
    pixels: int | None = None
    length: int = 140
    embedding_size: int = 300
    train_embedding: bool = True
    text_filters: int | None = None
    text_dropout: float = 0.5
    fusion_units: int = 512
    fusion_dropout: float = 0.3
    head: str = "decoder"
    image_depths: int = 1
    image_grid: int = 1
    tta: int = 1
    members: tuple[int, ...] = (0,)
    text_shape: TransformerShape | None = None
    fusion_shape: CrossShape | None = None

    def __post_init__(self):
        if self.image_encoder is None and self.text_encoder is None:
            raise InputError("A model needs an image encoder, a text encoder or both. Received neither.")
        self._check_fusion(look_up(FUSIONS, self.fusion, "fusion"))
        look_up(HEADS, self.head, "head")
        if self.image_encoder is not None:
            entry = look_up(IMAGE_ENCODERS, self.image_encoder, "image encoder")
            object.__setattr__(self, "pixels", entry.pixels if self.pixels is None else self.pixels)
            _check_least(self, pixels=32, image_depths=1, image_grid=1)
            choose_depths(entry.blocks, self.image_depths)
            if entry.fixed_pixels and self.pixels != entry.pixels:
                raise InputError(
                    f"The image encoder {self.image_encoder!r} takes films of {entry.pixels} pixels only. Set `pixels` "
                    f"to {entry.pixels}. Received: {self.pixels}."
                )
            if self.pixels % entry.multiple:
                raise InputError(
                    f"The image encoder {self.image_encoder!r} takes films of a multiple of {entry.multiple} pixels. "
                    f"Set `pixels` to {max(self.pixels // entry.multiple, 1) * entry.multiple}, for example. Received: "
                    f"{self.pixels}."
                )
        if self.text_encoder is not None:
            entry = look_up(TEXT_ENCODERS, self.text_encoder, "text encoder")
            object.__setattr__(self, "text_filters", entry.filters if self.text_filters is None else self.text_filters)
            _check_least(self, length=2, embedding_size=1, text_filters=1)
            if entry.length and self.length != entry.length:
                raise InputError(
                    f"The text encoder {self.text_encoder!r} takes reports of {entry.length} words only. Set `length` "
                    f"to {entry.length}. Received: {self.length}."
                )
            self._check_shape(entry)
        _check_least(self, fusion_units=1, tta=1)
        if self.tta > len(VIEWS):
            raise InputError(f"`tta` must be at most {len(VIEWS)}. Received: {self.tta}.")
        object.__setattr__(self, "members", tuple(self.members))  # of JSON, a list
        if sorted(set(self.members)) != list(range(max(self.members, default=-1) + 1)) or not self.members:
            raise InputError(f"`members` must be numbers of encoders from 0. Received: {self.members}.")
        for name in ("text_dropout", "fusion_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"`{name}` must be in [0, 1). Received: {getattr(self, name)}.")

    def _check_fusion(self, entry):
        """Takes the shape of the fusion from its entry, or makes it of the dict of JSON."""
        shape = self.fusion_shape or entry.shape
        if shape is not None and entry.shape is None:
            raise InputError(f"The fusion {self.fusion!r} has no shape. Leave out `fusion_shape`.")
        object.__setattr__(self, "fusion_shape", CrossShape(**shape) if isinstance(shape, Mapping) else shape)

    def _check_shape(self, entry):
        """Takes the shape of a transformer from its entry, or makes it of the dict of JSON."""
        shape = self.text_shape or entry.shape
        if isinstance(shape, Mapping):
            shape = TransformerShape(**shape)
        if shape is not None and entry.shape is None:
            raise InputError(f"The text encoder {self.text_encoder!r} has no shape. Leave out `text_shape`.")
        if shape is not None and self.length + MARKS > shape.positions:
            raise InputError(
                f"The text encoder {self.text_encoder!r} takes reports of at most {shape.positions - MARKS} words. "
                f"Lower `length`. Received: {self.length}."
            )
        object.__setattr__(self, "text_shape", shape)


def _check_least(spec, **least):
    for name, bound in least.items():
        if getattr(spec, name) < bound:
            raise InputError(f"`{name}` must be at least {bound}. Received: {getattr(spec, name)}.")


def build_model(
    spec: ModelSpec,
    *,
    label_count: int,
    vocabulary_size: int | None = None,
    embedding: np.ndarray | None = None,
    seed: int = 0,
) -> keras.Model:
    """Builds the model of a specification with random weights, except for given embedding rows.

    Args:
        spec: `ModelSpec`.
        label_count: int, at least 1. The model has one logit per label; the probability is the sigmoid of the logit.
        vocabulary_size: int. Rows of the embedding, including padding and unknown. Required with a text encoder unless
            `embedding` is given.
        embedding: float array `(vocabulary_size, spec.embedding_size)`, or None for random rows.
        seed: int. Sets the seeds of Python, NumPy and the backend: equal seeds give equal weights and equal dropout.

    Returns:
        `keras.Model` from `{"image": (n, h, w, 1) float32 0..255, "token_ids": (n, t) int32, "present": (n, 2)
        float32}`, without the input of a missing encoder, to logits float32 `(n, label_count)`.

    Raises:
        InputError: if `label_count` or the shape of `embedding` does not fit.

    Example:
        >>> spec = ModelSpec(image_encoder="small-cnn", text_encoder="text-cnn", pixels=32, length=9, embedding_size=4)
        >>> model = build_model(spec, label_count=2, vocabulary_size=50)
        >>> sorted(model.input), model.output.shape
        (['image', 'present', 'token_ids'], (None, 2))
    """
    if label_count < 1:
        raise InputError(f"`label_count` must be at least 1. Received: {label_count}.")
    keras.utils.set_random_seed(seed)
    embed = _build_embed(spec, vocabulary_size, embedding) if spec.text_encoder else None
    core = _build_core(spec, label_count)
    present = keras.Input((2,), name="present")
    inputs, core_inputs = {"present": present}, {"present": present}
    if spec.image_encoder:
        inputs["image"] = core_inputs["image"] = keras.Input((spec.pixels, spec.pixels, 1), name="image")
    if embed is not None:
        token_ids = inputs["token_ids"] = keras.Input((spec.length,), dtype="int32", name="token_ids")
        core_inputs["rows"] = embed(token_ids)
        core_inputs["padding_mask"] = ops.cast(ops.not_equal(token_ids, 0), "float32")
    logits = layers.Identity(dtype="float32", name="logits")(core(core_inputs))
    return keras.Model(inputs, logits, name="model")


def _build_embed(spec, vocabulary_size, matrix):
    if matrix is not None:
        matrix = np.asarray(matrix, dtype="float32")
        expected = (vocabulary_size or len(matrix), spec.embedding_size)
        if matrix.shape != expected:
            raise InputError(f"The embedding must have the shape {expected}. Received: {matrix.shape}.")
        vocabulary_size = len(matrix)
    if not vocabulary_size or vocabulary_size < 2:
        raise InputError(f"`vocabulary_size` must be at least 2 (padding, unknown). Received: {vocabulary_size}.")
    token_ids = keras.Input((spec.length,), dtype="int32", name="ids")
    embedding = layers.Embedding(vocabulary_size, spec.embedding_size, name="embedding")
    embed = keras.Model(token_ids, embedding(token_ids), name="embed")
    if matrix is not None:
        embedding.set_weights([matrix])
    embed.trainable = spec.train_embedding
    return embed


def _build_core(spec, label_count):
    present = keras.Input((2,), name="present")
    inputs, encoders, outputs = {"present": present}, {}, {}
    if spec.image_encoder:
        inputs["image"] = keras.Input((spec.pixels, spec.pixels, 1), name="image")
        encoders["image"] = _build_image_encoder(spec)
        outputs["image"] = encoders["image"](inputs["image"])
    if spec.text_encoder:
        text = {
            "rows": keras.Input((spec.length, spec.embedding_size), name="rows"),
            "padding_mask": keras.Input((spec.length,), name="padding_mask"),
        }
        inputs.update(text)
        encoders["text"] = build_text_encoder(
            TEXT_ENCODERS[spec.text_encoder],
            length=spec.length,
            embedding_size=spec.embedding_size,
            filters=spec.text_filters,
            dropout=spec.text_dropout,
            shape=spec.text_shape,
        )
        outputs["text"] = encoders["text"](text)
    fusion = build_fusion(
        FUSIONS[spec.fusion],
        encoders,
        label_count=label_count,
        units=spec.fusion_units,
        dropout=spec.fusion_dropout,
        head=spec.head,
        shape=spec.fusion_shape,
    )
    read = FUSIONS[spec.fusion].parts(encoders)
    features = {f"{side}_{part}": output[part] for side, output in outputs.items() for part in read}
    return keras.Model(inputs, fusion({**features, "present": present}), name="core")


def _build_image_encoder(spec):
    entry = IMAGE_ENCODERS[spec.image_encoder]
    made = [
        build_image_encoder(entry, pixels=spec.pixels, depths=spec.image_depths, grid=spec.image_grid)
        for _ in set(spec.members)
    ]
    if spec.tta == len(spec.members) == 1:
        return made[0]
    return join_encoders(made, order=spec.members, views=spec.tta)
