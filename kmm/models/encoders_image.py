"""Image encoders, one table entry each: from a film of gray levels 0 to 255 to an `Encoding`."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from kmm.errors import InputError, look_up
from kmm.models.description import ImageDescription
from kmm.models.encoder_table import EncoderTable
from kmm.models.encoding import Encoding, encoder_model, full_mask
from kmm.models.image_vector import POOLINGS, add_depths, choose_depths
from kmm.models.networks.applications import apply_application, unpack_application
from kmm.models.networks.resnet import ResNet
from kmm.models.networks.small_cnn import build_small_cnn
from kmm.models.networks.vision_transformer import VisionTransformer
from kmm.models.scalings import SCALINGS
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
        gray_stem: str. A convolution of one channel, without padding, whose kernel a file may have for three: the
            channels are then summed, with the file's scaling of each. Empty: a kernel must have the network's channels.
    """

    network: Callable[[keras.KerasTensor, str | None], Any]
    imagenet: bool = False
    given: bool = False
    torch_layers: Callable[[Mapping[str, np.ndarray]], dict[str, list[np.ndarray]]] | None = None
    starts: tuple[str, ...] = ()
    gray_stem: str = ""


def build_image_encoder(
    entry: ImageEncoder, *, pixels: int, weights: str | None = None, depths: int = 1
) -> keras.Model:
    """Builds the nested model of one image encoder.

    Args:
        entry: `ImageEncoder`, a value of `IMAGE_ENCODERS`.
        pixels: int, at least 32. Height and width of the film.
        weights: None (random), `"imagenet"` (downloaded by Keras) or `"given"` (those that the network brings).
        depths: int >= 1. Depths of the network that make up the vector: the means of the feature maps of `depths - 1`
            blocks, see
            `kmm.models.image_vector.choose_depths`, before the vector of the last one.

    Returns:
        `keras.Model` named `image_encoder`, from image float `(n, pixels, pixels, 1)`, 0 = black to 255 = white, to
        `{"vector": (n, d), "sequence": (n, m, k), "mask": (n, m)}`. Its layers keep the names of `keras.applications`.

    Raises:
        InputError: if the entry names a layer that its network does not have, or a feature map that is not its output;
            if it has too few blocks.

    Example:
        >>> build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=64).output["vector"].shape
        (None, 256)
        >>> build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=64, depths=3).output["vector"].shape
        (None, 384)
    """
    encoder = assemble_image_encoder(entry, pixels=pixels, weights=weights, depths=depths)
    _check_names(encoder, entry)
    return encoder


def assemble_image_encoder(
    entry: ImageEncoder, *, pixels: int, weights: str | None = None, depths: int = 1
) -> keras.Model:
    """Builds an image encoder as `build_image_encoder` does, whichever layers its description names."""
    image = keras.Input((pixels, pixels, 1), name="film")
    x = layers.Concatenate(name="colour")([image] * entry.channels) if entry.channels > 1 else image
    output = entry.network(SCALINGS[entry.scaling](x), weights)
    features, vector = POOLINGS[entry.pooling](output)
    if depths > 1:
        network = keras.Model(image, output)
        _normalise_names(network)
        vector = add_depths(network, choose_depths(entry.blocks, depths), vector, entry.feature_map)
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


def _convolutional(network, *, source, **described):
    """Makes the entry of a network for colour images that ends in a map of averaged features."""
    values = {"pixels": 224, "channels": 3, "scaling": "imagenet", "pooling": "average", "source": source}
    return ImageEncoder(network=network, **values | described)


def _resnet(network):
    """Makes the entry of a `ResNet`."""
    starts = tuple(f"layer{stage}_0_conv1" for stage in (4, 3, 2, 1))
    return _convolutional(
        network,
        stem="bn1",
        blocks=network.ends,
        feature_map=network.ends[-1],
        top=starts[0],
        starts=(*starts, "conv1"),
        source="https://arxiv.org/abs/1512.03385",
    )


def _transformer(network, source):
    """Makes the entry of a `VisionTransformer`. Its patches do not overlap the border, so one channel is exact."""
    return ImageEncoder(
        network=network,
        pixels=224,
        multiple=network.patch,
        channels=1,
        scaling="symmetric",
        pooling="average",
        stem="tokens",
        blocks=network.ends,
        feature_map="map",
        top=network.starts[0],
        starts=network.starts,
        source=source,
        gray_stem="patches",
    )


def _vit(size, heads):
    return _transformer(VisionTransformer(size, 12, heads, patch=16), "https://arxiv.org/abs/2010.11929")


def _dinov2(size, depth, heads):
    network = VisionTransformer(size, depth, heads, patch=14, registers=4, residual_scale=True)
    return _transformer(network, "https://arxiv.org/abs/2304.07193")


_ENTRIES = {
    "convnext-tiny": _convolutional(
        unpack_application(partial(keras.applications.ConvNeXtTiny, include_preprocessing=False)),
        stem="convnext_tiny_stem_conv",
        blocks=(*(f"convnext_tiny_downsampling_conv_{number}" for number in range(3)), "layer_normalization"),
        feature_map="layer_normalization",
        top="convnext_tiny_downsampling_layernorm_2",
        starts=(*(f"convnext_tiny_downsampling_layernorm_{stage}" for stage in (2, 1, 0)), "convnext_tiny_stem_conv"),
        imagenet=True,
        source="https://arxiv.org/abs/2201.03545",
    ),
    "densenet121": _convolutional(
        apply_application(keras.applications.DenseNet121),
        stem="conv1_bn",
        blocks=("conv2_block6_concat", "conv3_block12_concat", "conv4_block24_concat", "conv5_block16_concat"),
        feature_map="relu",
        top="conv5_block1_0_bn",
        starts=(*(f"conv{number}_block1_0_bn" for number in (5, 4, 3, 2)), "conv1_conv"),
        imagenet=True,
        source="https://arxiv.org/abs/1608.06993",
        torch_layers=densenet_layers,
    ),
    "dinov2-base": _dinov2(768, 12, 12),
    "dinov2-large": _dinov2(1024, 24, 16),
    "dinov2-small": _dinov2(384, 12, 6),
    "efficientnet-b0": _convolutional(
        unpack_application(keras.applications.EfficientNetB0, first="stem_conv_pad"),
        stem="stem_bn",
        blocks=("block1a_project_bn", "block2b_add", "block3b_add", "block4c_add", "block6d_add", "top_activation"),
        feature_map="top_activation",
        top="block6a_expand_conv",
        starts=(*(f"block{number}a_expand_conv" for number in (6, 4, 2)), "stem_conv"),
        imagenet=True,
        source="https://arxiv.org/abs/1905.11946",
    ),
    "resnet18": _resnet(ResNet((2, 2, 2, 2))),
    "resnet50": _resnet(ResNet((3, 4, 6, 3), bottleneck=True)),
    "small-cnn": ImageEncoder(
        network=build_small_cnn,
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
    "vit-base": _vit(768, 12),
    "vit-small": _vit(384, 6),
    "xception": _convolutional(
        apply_application(keras.applications.Xception),
        scaling="symmetric",
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
