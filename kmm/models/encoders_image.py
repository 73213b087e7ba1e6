"""Image encoders, one table entry each: from a film of gray levels 0 to 255 to an `Encoding`."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from kmm.errors import InputError, look_up
from kmm.models.description import ImageDescription
from kmm.models.encoder_table import EncoderTable
from kmm.models.encoding import Encoding, encoder_model, full_mask
from kmm.models.image_vector import POOLINGS, add_depths, choose_depths
from kmm.models.weights.torch_names import densenet_layers


@dataclass(frozen=True, kw_only=True)
class ImageEncoder(ImageDescription):
    """A row of the table `IMAGE_ENCODERS`: a description, with the function that builds the network.

    Attributes:
        network: function `(x, weights) -> feature map (n, rows, columns, d)`. `x` is the scaled film
            `(n, pixels, pixels, channels)`; `weights` is None (random), `"imagenet"` or `"given"`. With the pooling
            `"network"` it returns the pair of feature map and vector `(n, d)`.
        imagenet: bool. Whether ImageNet weights can be downloaded.
        given: bool. Whether the network brings weights of its own.
        torch_layers: function from a PyTorch state dict of arrays to a dict of Keras layer name to its arrays; None if
            PyTorch weights cannot be read. See `kmm.models.weights.torch_names`.
        starts: tuple of str. The first layer of each block that gradual unfreezing thaws, from the top of the network
            down. Empty: each of `blocks` is such a block.
    """

    network: Callable[[keras.KerasTensor, str | None], Any]
    imagenet: bool = False
    given: bool = False
    torch_layers: Callable[[Mapping[str, np.ndarray]], dict[str, list[np.ndarray]]] | None = None
    starts: tuple[str, ...] = ()


def build_image_encoder(
    entry: ImageEncoder, *, pixels: int, weights: str | None = None, depths: int = 1, grid: int = 1
) -> keras.Model:
    """Builds the nested model of one image encoder.

    Args:
        entry: `ImageEncoder`, a value of `IMAGE_ENCODERS`.
        pixels: int, at least 32. Height and width of the film.
        weights: None (random), `"imagenet"` (downloaded by Keras) or `"given"` (those that the network brings).
        depths: int >= 1. Depths of the network that make up the vector: the means of the feature maps of `depths - 1`
            blocks, see `kmm.models.image_vector.choose_depths`, before the vector of the last one.
        grid: int >= 1. Cells along each side of the film over which the means of each feature map are taken, see
            `kmm.models.image_vector.GridMeans`.

    Returns:
        `keras.Model` named `image_encoder`, from image float `(n, pixels, pixels, 1)`, 0 = black to 255 = white, to
        `{"vector": (n, d), "sequence": (n, m, k), "mask": (n, m)}`. Its layers keep the names of `keras.applications`.

    Raises:
        InputError: if the entry names a layer that its network does not have, or a feature map that is not its output;
            if it has too few blocks, or a feature map smaller than the grid.

    Example:
        >>> build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=64).output["vector"].shape
        (None, 256)
        >>> build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=64, depths=3).output["vector"].shape
        (None, 384)
        >>> build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=64, grid=2).output["vector"].shape
        (None, 640)
    """
    encoder = assemble_image_encoder(entry, pixels=pixels, weights=weights, depths=depths, grid=grid)
    _check_names(encoder, entry)
    return encoder


def assemble_image_encoder(
    entry: ImageEncoder, *, pixels: int, weights: str | None = None, depths: int = 1, grid: int = 1
) -> keras.Model:
    """Builds an image encoder as `build_image_encoder` does, whichever layers its description names."""
    image = keras.Input((pixels, pixels, 1), name="film")
    x = layers.Concatenate(name="colour")([image] * entry.channels) if entry.channels > 1 else image
    output = entry.network(SCALINGS[entry.scaling](x), weights)
    features, vector = POOLINGS[entry.pooling](output, grid)
    if depths > 1:
        network = keras.Model(image, output)
        _normalise_names(network)
        vector = add_depths(network, choose_depths(entry.blocks, depths), vector, grid)
    sequence = layers.Reshape((-1, features.shape[-1]), name="places")(features)
    encoder = encoder_model(image, Encoding(vector, sequence, full_mask(sequence)), name="image_encoder")
    _normalise_names(encoder)
    return encoder


def _check_names(encoder, entry):
    """Checks that the network has the layers that an entry names."""
    layers_by_name = {layer.name: layer for layer in encoder.layers}
    for name in (entry.stem, *entry.blocks, entry.feature_map, entry.top, *entry.starts):
        look_up(layers_by_name, name, "layer of the image encoder")
    if layers_by_name[entry.feature_map].output is not layers_by_name["places"].input:
        raise InputError(f"The layer {entry.feature_map!r} is not the output of the image encoder's network.")


def list_starts(entry: ImageEncoder, encoder: keras.Model) -> tuple[str, ...]:
    """Lists the first layer of each block of an image encoder, from the top of the network down.

    Args:
        entry: `ImageEncoder`. If its `starts` is empty, a block begins at the first layer with weights behind the last
            layer of the block before it.
        encoder: `keras.Model` that was built from it.

    Returns:
        tuple of layer names, at least one.

    Example:
        >>> entry = IMAGE_ENCODERS["small-cnn"]
        >>> list_starts(entry, build_image_encoder(entry, pixels=32))[:2]
        ('block5_conv', 'block4_conv')
    """
    if entry.starts:
        return entry.starts
    ends, starts, behind = set(entry.blocks[:-1]), list[str](), True
    for layer in encoder.layers:
        if behind and layer.weights:
            starts.append(layer.name)
            behind = False
        behind = behind or layer.name in ends
    return tuple(reversed(starts)) or (entry.top,)


def _normalise_names(model: keras.Model) -> None:
    """Renames layers that Keras named by a counter (`conv2d_7`) as a fresh process would, so that names are the same
    for every build."""
    seen: Counter[str] = Counter()
    for layer in model.layers:
        stem = re.sub(r"_\d+$", "", layer.name)
        if stem == re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower():
            layer.name = f"{stem}_{seen[stem]}" if seen[stem] else stem
            seen[stem] += 1


def _unit(x):
    """Scales 0..255 to 0..1."""
    return layers.Rescaling(1 / 255, dtype="float32", name="scaling")(x)


def _symmetric(x):
    """Scales 0..255 to -1..1."""
    return layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="scaling")(x)


def _imagenet(x):
    """Scales 0..255 so that ImageNet's channels have mean 0 and standard deviation 1."""
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    scale = [1 / (255 * d) for d in deviation]
    offset = [-m / d for m, d in zip(mean, deviation)]
    return layers.Rescaling(scale, offset=offset, dtype="float32", name="scaling")(x)


def _none(x):
    """Keeps 0..255."""
    return layers.Identity(dtype="float32", name="scaling")(x)


SCALINGS = {"none": _none, "unit": _unit, "symmetric": _symmetric, "imagenet": _imagenet}


def _application(build):
    """Wraps a function of `keras.applications` as a network.

    A network that scales its own input, such as MobileNetV3, is passed with `include_preprocessing=False`.
    """
    return lambda x, weights: build(include_top=False, weights=weights, input_tensor=x).output


def _small_cnn(x, weights):
    """Builds five blocks of convolution, normalisation and ReLU, with max pooling between them."""
    for number, filters in enumerate((16, 32, 64, 96, 128), start=1):
        if number > 1:
            x = layers.MaxPooling2D(name=f"block{number}_pool")(x)
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"block{number}_conv")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"block{number}_bn")(x)
        x = layers.ReLU(name=f"block{number}_relu")(x)
    return x


_ENTRIES = {
    "densenet121": ImageEncoder(
        network=_application(keras.applications.DenseNet121),
        pixels=224,
        channels=3,
        scaling="imagenet",
        pooling="average",
        stem="conv1_bn",
        blocks=("conv2_block6_concat", "conv3_block12_concat", "conv4_block24_concat", "conv5_block16_concat"),
        feature_map="relu",
        top="conv5_block1_0_bn",
        starts=(*(f"conv{number}_block1_0_bn" for number in (5, 4, 3, 2)), "conv1_conv"),
        imagenet=True,
        source="https://arxiv.org/abs/1608.06993",
        torch_layers=densenet_layers,
    ),
    "small-cnn": ImageEncoder(
        network=_small_cnn,
        pixels=128,
        channels=1,
        scaling="unit",
        pooling="max-average",
        stem="block1_bn",
        blocks=tuple(f"block{number}_relu" for number in range(1, 6)),
        feature_map="block5_relu",
        top="block4_conv",
        source="five convolutions, trained from scratch",
    ),
    "xception": ImageEncoder(
        network=_application(keras.applications.Xception),
        pixels=224,
        channels=3,
        scaling="symmetric",
        pooling="average",
        stem="block1_conv1_bn",
        blocks=("block1_conv2_act", "add", *(f"add_{number}" for number in range(1, 12)), "block14_sepconv2_act"),
        feature_map="block14_sepconv2_act",
        top="block13_sepconv1",
        starts=("block13_sepconv1", "block9_sepconv1", "block5_sepconv1", "block1_conv1"),
        imagenet=True,
        source="https://arxiv.org/abs/1610.02357",
    ),
}


def _make_entry(made, name):
    """Makes an entry of what a program registers or a package offers."""
    from kmm.models.own.image import make_image_entry

    return make_image_entry(made, name)


IMAGE_ENCODERS: EncoderTable[ImageEncoder] = EncoderTable("image encoder", "kmm.image_encoders", _ENTRIES, _make_entry)
