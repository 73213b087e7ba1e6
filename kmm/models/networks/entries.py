"""Image encoders that kmm has, by name: each network with the layers that the rest of kmm asks about."""

from functools import partial
from typing import Any

import keras

from kmm.models.image_encoder import ImageEncoder
from kmm.models.networks.applications import Network, apply_application, unpack_application
from kmm.models.networks.resnet import ResNet
from kmm.models.networks.small_cnn import build_small_cnn
from kmm.models.networks.swin_transformer import SwinTransformer
from kmm.models.networks.vision_transformer import VisionTransformer
from kmm.models.weights.names.densenet import name_densenet
from kmm.models.weights.names.resnet import name_resnet
from kmm.models.weights.names.swin import name_swin
from kmm.models.weights.names.vision_transformer import name_transformer


def describe_convolutional(network: Network, *, source: str, **described: Any) -> ImageEncoder:
    """Makes the entry of a network for colour images that ends in a map, whose mean is the vector.

    Args:
        network: function, see `ImageEncoder`.
        source: str. Link of the publication.
        described: other fields of the entry; those that are not given are those of most such networks.
    """
    values: dict[str, Any] = {
        "pixels": 224,
        "channels": 3,
        "scaling": "imagenet",
        "pooling": "average",
        "source": source,
    }
    return ImageEncoder(network=network, **values | described)


def describe_densenet(*, channels: int, **described: Any) -> ImageEncoder:
    """Makes the entry of DenseNet121 for films of 3 channels, or of 1 as in torchxrayvision."""
    return describe_convolutional(
        apply_application(keras.applications.DenseNet121),
        channels=channels,
        stem="conv1_bn",
        blocks=("conv2_block6_concat", "conv3_block12_concat", "conv4_block24_concat", "conv5_block16_concat"),
        feature_map="relu",
        top="conv5_block1_0_bn",
        starts=(*(f"conv{number}_block1_0_bn" for number in (5, 4, 3, 2)), "conv1_conv"),
        imagenet=channels == 3,
        torch_layers=name_densenet((6, 12, 24, 16), channels),
        **described,
    )


def describe_resnet(network: ResNet) -> ImageEncoder:
    """Makes the entry of a `ResNet`."""
    starts = tuple(f"layer{stage}_0_conv1" for stage in (4, 3, 2, 1))
    return describe_convolutional(
        network,
        stem="bn1",
        blocks=network.ends,
        feature_map=network.ends[-1],
        top=starts[0],
        starts=(*starts, "conv1"),
        source="https://arxiv.org/abs/1512.03385",
        torch_layers=name_resnet(network),
    )


def describe_transformer(network: VisionTransformer, source: str, pixels: int = 224) -> ImageEncoder:
    """Makes the entry of a `VisionTransformer`. Its patches do not overlap the border, so one channel is exact."""
    return ImageEncoder(
        network=network,
        pixels=pixels,
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
        positions="tokens",
        torch_layers=name_transformer(network),
        low_rank=True,
    )


def describe_swin(network: SwinTransformer) -> ImageEncoder:
    """Makes the entry of a `SwinTransformer`. Its patches do not overlap the border, so one channel is exact."""
    return ImageEncoder(
        network=network,
        pixels=network.multiple,
        multiple=network.multiple,
        channels=1,
        scaling="symmetric",
        pooling="average",
        stem="patches",
        blocks=network.ends,
        feature_map="norm",
        top=network.starts[0],
        starts=network.starts,
        source="https://arxiv.org/abs/2103.14030",
        gray_stem="patches",
        torch_layers=name_swin(network),
        low_rank=True,
    )


def _vit(size, heads):
    return describe_transformer(VisionTransformer(size, 12, heads, patch=16), "https://arxiv.org/abs/2010.11929")


def _dinov2(size, depth, heads):
    network = VisionTransformer(size, depth, heads, patch=14, registers=4, residual_scale=True)
    return describe_transformer(network, "https://arxiv.org/abs/2304.07193")


def _siglip(size, depth, heads, patch, pixels, units=0):
    network = VisionTransformer(size, depth, heads, patch, units=units, class_token=False, activation="gelu-tanh")
    return describe_transformer(network, "https://arxiv.org/abs/2303.15343", pixels)


def _clip(patch, activation):
    network = VisionTransformer(768, 12, 12, patch, activation=activation, pre_norm=True, epsilon=1e-5)
    return describe_transformer(network, "https://arxiv.org/abs/2103.00020")


ENTRIES = {
    "clip-base-16": _clip(16, "gelu"),
    "clip-base-16-quick": _clip(16, "quick-gelu"),
    "clip-base-32": _clip(32, "gelu"),
    "clip-base-32-quick": _clip(32, "quick-gelu"),
    "convnext-tiny": describe_convolutional(
        unpack_application(partial(keras.applications.ConvNeXtTiny, include_preprocessing=False)),
        stem="convnext_tiny_stem_conv",
        blocks=(*(f"convnext_tiny_downsampling_conv_{number}" for number in range(3)), "layer_normalization"),
        feature_map="layer_normalization",
        top="convnext_tiny_downsampling_layernorm_2",
        starts=(*(f"convnext_tiny_downsampling_layernorm_{stage}" for stage in (2, 1, 0)), "convnext_tiny_stem_conv"),
        imagenet=True,
        source="https://arxiv.org/abs/2201.03545",
    ),
    "densenet121": describe_densenet(channels=3, scaling="imagenet", source="https://arxiv.org/abs/1608.06993"),
    "densenet121-xrv": describe_densenet(channels=1, scaling="xrv", source="https://arxiv.org/abs/2111.00595"),
    "dinov2-base": _dinov2(768, 12, 12),
    "dinov2-large": _dinov2(1024, 24, 16),
    "dinov2-small": _dinov2(384, 12, 6),
    "efficientnet-b0": describe_convolutional(
        unpack_application(keras.applications.EfficientNetB0, first="stem_conv_pad"),
        stem="stem_bn",
        blocks=("block1a_project_bn", "block2b_add", "block3b_add", "block4c_add", "block6d_add", "top_activation"),
        feature_map="top_activation",
        top="block6a_expand_conv",
        starts=(*(f"block{number}a_expand_conv" for number in (6, 4, 2)), "stem_conv"),
        imagenet=True,
        source="https://arxiv.org/abs/1905.11946",
    ),
    "resnet18": describe_resnet(ResNet((2, 2, 2, 2))),
    "resnet50": describe_resnet(ResNet((3, 4, 6, 3), bottleneck=True)),
    "siglip-base": _siglip(768, 12, 12, patch=16, pixels=224),
    "siglip-so400m": _siglip(1152, 27, 16, patch=14, pixels=448, units=4304),
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
    "swin-base": describe_swin(SwinTransformer(128, (2, 2, 18, 2), heads=(4, 8, 16, 32))),
    "swin-tiny": describe_swin(SwinTransformer(96, (2, 2, 6, 2), heads=(3, 6, 12, 24))),
    "vit-base": _vit(768, 12),
    "vit-small": _vit(384, 6),
    "xception": describe_convolutional(
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
