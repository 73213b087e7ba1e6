"""An image encoder made of a Keras model: its stem, blocks, feature map and top are found in the graph, or given."""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kmm.errors import InputError, look_up
from kmm.models.encoders_image import SCALINGS, ImageEncoder, assemble_image_encoder
from kmm.models.image_vector import POOLINGS
from kmm.models.own.network import OwnNetwork, check_model
from kmm.models.views.graph_cuts import list_cuts

PIXELS = 224  # side of the film for a model that takes any size
STEM = "scaling"  # the stem of a network whose first layer is not affine
SPREAD = 300.0  # standard deviation of the noise that tells affine layers from others; a film has 0 to 255
ROUNDING = 1e-3  # largest relative deviation of an affine layer


@dataclass(frozen=True)
class ImageOptions:
    """Properties of a model that becomes an image encoder. Those that are None are found in the model.

    Attributes:
        pixels: int, at least 32. Height and width of the film: those of the model's input, or 224 if it takes any.
        scaling: str. Key of `kmm.models.encoders_image.SCALINGS`. `"none"`: the model reads gray levels 0 to 255.
        pooling: str. Key of `kmm.models.image_vector.POOLINGS`: how the feature map becomes a vector; the average if
            the model ends in a map. A model that ends in a vector pools itself.
        stem: str. Name of a layer of the model; a layer of a nested model is named `outer/inner`. `ImageDescription`
            explains it and the next three.
        blocks: tuple of such names.
        feature_map, top: str. Such names.
        source: str. Link of the publication, or a description.
        held: float > 0. See `ImageDescription`.

    Raises:
        InputError: for an unknown scaling or pooling.
    """

    pixels: int | None = None
    scaling: str = "none"
    pooling: str | None = None
    stem: str | None = None
    blocks: tuple[str, ...] | None = None
    feature_map: str | None = None
    top: str | None = None
    source: str = "a Keras model"
    held: float = 1.0

    def __post_init__(self) -> None:
        look_up(SCALINGS, self.scaling, "scaling")
        if self.pooling is not None:
            look_up(POOLINGS, self.pooling, "pooling")
        if self.blocks is not None:
            object.__setattr__(self, "blocks", tuple(self.blocks))


class OwnImageNetwork:
    """The `network` of an `ImageEncoder` that is made of a Keras model.

    Args:
        model: functional `keras.Model` from image `(n, h, w, c)` to a map `(n, h', w', d)` or a vector `(n, d)`.
        name: str. Name of the encoder, for messages.
        options: `ImageOptions`. Its `feature_map` names the layer that returns the feature map of a model that ends in
            a vector; None: the last map from which all of the vector follows.
    """

    def __init__(self, model: keras.Model, name: str, options: ImageOptions):
        self.layers, self.options = OwnNetwork(model, name), options

    def __call__(self, x: keras.KerasTensor, weights: str | None) -> Any:
        """Applies copies of the model's layers to a scaled film; see `ImageEncoder.network`."""
        output = self.layers.repeat(x, copy_weights=weights == "given")
        if _is_map(output):
            return _end_in_layer(output, self.layers.tensors)
        return self._find_map(x, output), output

    def _find_map(self, x, vector):
        tensors = self.layers.tensors
        if self.options.feature_map is not None:
            return self.layers.find(tensors, self.options.feature_map)
        cuts = {copy.name: name for name, copy in self.layers.copies.items()}
        names = [cuts[name] for name in list_cuts(keras.Model(x, vector)) if name in cuts]
        maps = [tensors[name] for name in names if _is_map(tensors[name])]
        if not maps:
            raise InputError(
                f"The model of the encoder {self.layers.name!r} has no layer that returns a map (n, rows, columns, "
                "channels) from which all of its vector follows. Give a model that ends in a map."
            )
        return maps[-1]


def make_image_entry(made: Any, name: str, options: ImageOptions | None = None) -> ImageEncoder:
    """Makes an entry of the table of image encoders.

    Args:
        made: `ImageEncoder`; a functional `keras.Model`, which starts from its present weights; or a function without
            arguments that returns one of them.
        name: str. Name of the encoder, for messages.
        options: `ImageOptions` for a model.

    Returns:
        `ImageEncoder`.

    Raises:
        InputError: if the model cannot be used, or a layer that the options name does not fit; it says what to do.

    Example:
        >>> film = keras.Input((64, 64, 3))
        >>> x = layers.Conv2D(4, 3, strides=2, name="conv")(film)
        >>> x = layers.ReLU(name="relu")(x)
        >>> entry = make_image_entry(keras.Model(film, x), "mine", ImageOptions(scaling="unit"))
        >>> entry.pixels, entry.stem, entry.blocks, entry.feature_map
        (64, 'conv', ('relu',), 'relu')
    """
    if not isinstance(made, ImageEncoder | keras.Model) and callable(made):
        made = made()
    if isinstance(made, ImageEncoder):
        return made
    options = options or ImageOptions()
    check_model(made, name, inputs=1)
    pixels, channels = _read_shapes(made, name, options)
    ends_in_map = len(made.outputs[0].shape) == 4
    if not ends_in_map and options.pooling not in (None, "network"):
        raise InputError(f"The model of the encoder {name!r} ends in a vector. Leave out `pooling`: it pools itself.")
    if ends_in_map and options.pooling == "network":
        raise InputError(f"The model of the encoder {name!r} ends in a map. Give the `pooling` average or max-average.")
    entry = ImageEncoder(
        network=OwnImageNetwork(made, name, options),
        pixels=pixels,
        fixed_pixels=made.inputs[0].shape[1] is not None,
        channels=channels,
        scaling=options.scaling,
        pooling=(options.pooling or "average") if ends_in_map else "network",
        stem=STEM,
        blocks=(),
        feature_map=STEM,
        top=STEM,
        given=True,
        source=options.source,
        held=options.held,
    )
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return _find_layers(entry, options)
    finally:
        keras.config.set_dtype_policy(policy)


def _read_shapes(model, name, options):
    """Returns the side of the film and the number of channels that a model takes."""
    start, shape, ends = f"The model of the encoder {name!r}", model.inputs[0].shape, model.outputs[0].shape
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise InputError(
            f"{start} must read images (n, rows, columns, channels) with 1 or 3 channels. Received: {tuple(shape)}."
        )
    if shape[1] != shape[2]:
        raise InputError(f"{start} must read square images. Received: {tuple(shape)}.")
    if len(ends) not in (2, 4) or ends[-1] is None:
        raise InputError(
            f"{start} must end in a map (n, rows, columns, channels) or a vector (n, d). Received: {tuple(ends)}."
        )
    pixels = options.pixels or shape[1] or PIXELS
    if shape[1] not in (None, pixels):
        raise InputError(f"{start} reads images of {shape[1]} pixels. Leave out `pixels`. Received: {pixels}.")
    if pixels < 32:
        raise InputError(f"{start} must read images of at least 32 pixels. Received: {pixels}.")
    return pixels, shape[3]


def _find_layers(entry, options):
    """Completes the description of an entry with the layers that its options name, or that are found in its graph."""
    encoder = assemble_image_encoder(entry, pixels=entry.pixels)
    own = entry.network.layers
    names = [layer.name for layer in encoder.layers]
    given = {
        field: own.find(own.copies, getattr(options, field)).name
        for field in ("stem", "feature_map", "top")
        if getattr(options, field) is not None
    }
    last = encoder.get_layer("places").input
    feature_map = next(layer.name for layer in encoder.layers if layer.output is last)
    if given.get("feature_map", feature_map) != feature_map:
        raise InputError(
            f"The model of the encoder {own.name!r} ends in a map, so `feature_map` must be its last layer. Received: "
            f"{options.feature_map!r}."
        )
    cuts = list_cuts(encoder)
    cuts = cuts[: cuts.index(feature_map) + 1] if feature_map in cuts else cuts
    if "stem" in given:
        _check_stem(encoder, given["stem"], cuts, own.name, options.stem)
    stem = given.get("stem") or _find_stem(encoder, cuts[:-1])
    blocks = tuple(own.find(own.copies, name).name for name in options.blocks or ())
    blocks = blocks or _find_blocks(encoder, cuts[cuts.index(stem) + 1 :])
    top = given.get("top") or _find_top(encoder, names, (stem, *blocks))
    return replace(entry, stem=stem, blocks=blocks, feature_map=feature_map, top=top)


def _find_stem(encoder, cuts):
    """Returns the last layer at which the encoder can be cut before its first layer that is not affine."""
    stem = STEM
    for name in cuts[cuts.index(STEM) + 1 :]:
        if not is_affine(encoder, name):
            break
        stem = name
    return stem


def _check_stem(encoder, stem, cuts, encoder_name, layer_name):
    if stem not in cuts[:-1]:
        raise InputError(
            f"The encoder {encoder_name!r} cannot be cut behind the layer {layer_name!r}: it is the feature map, or "
            "later layers also read others. Give another `stem`, or none."
        )
    if not is_affine(encoder, stem):
        raise InputError(
            f"The layer {layer_name!r} of the encoder {encoder_name!r} is not an affine function of the film. Give an "
            "earlier layer as `stem`, or none."
        )


def _find_blocks(encoder, cuts):
    """Returns the last layer of each size of map: the sizes of maps fall towards the last one."""
    sides: dict[int, str] = {}
    for name in cuts:
        output = encoder.get_layer(name).output
        if _is_map(output) and output.shape[1] is not None:
            sides = {side: last for side, last in sides.items() if side >= output.shape[1]}
            sides[output.shape[1]] = name
    return tuple(sides.values())


def _find_top(encoder, names, ends):
    """Returns the first layer with weights behind the last size of map but one."""
    below = ends[-3] if len(ends) > 3 else ends[-2]
    after = [name for name in names[names.index(below) + 1 :] if encoder.get_layer(name).weights]
    return after[0] if after else ends[-1]


def is_affine(encoder: keras.Model, name: str) -> bool:
    """Returns whether a layer of an image encoder is an affine function of the film, whatever the weights.

    It is tried on noise far beyond the gray levels of a film, with weights that are no special ones.
    """
    part = keras.models.clone_model(keras.Model(encoder.input, encoder.get_layer(name).output))
    random = np.random.default_rng(0)
    for weight in part.weights:
        value = ops.convert_to_numpy(weight.value)
        if np.issubdtype(value.dtype, np.floating) and (value.ndim < 2 or not value.any()):
            weight.assign(random.uniform(0.5, 1.5, value.shape).astype(value.dtype))
    first, second = random.normal(scale=SPREAD, size=(2, *encoder.input.shape[1:])).astype(np.float32)
    films = np.stack([first, second, 0.7 * first + 0.3 * second])
    x, y, between = (value.astype(np.float64) for value in ops.convert_to_numpy(ops.cast(part(films), "float32")))
    return bool(np.abs(0.7 * x + 0.3 * y - between).max() <= ROUNDING * max(np.abs(x).max(), np.abs(y).max()))


def _is_map(tensor):
    return len(tensor.shape) == 4


def _end_in_layer(output, tensors):
    """Returns a map as the output of a layer, because a model is cut behind layers alone."""
    if any(output is tensor for tensor in tensors.values()):
        return output
    return layers.Identity(name="own_map")(output)
