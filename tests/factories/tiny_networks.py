"""Tiny networks of the families of image encoders, as entries of the table."""

from kmm.models.networks.entries import describe_resnet, describe_swin, describe_transformer
from kmm.models.networks.resnet import ResNet
from kmm.models.networks.swin_transformer import SwinTransformer
from kmm.models.networks.vision_transformer import VisionTransformer

SOURCE = "made for a test"
TINY_RESNET = ResNet((1, 2, 1, 1), widths=(4, 6, 8, 10))
TINY_BOTTLENECK = ResNet((1, 1, 1, 1), bottleneck=True, widths=(2, 3, 4, 5))
TINY_VIT = VisionTransformer(size=8, depth=4, heads=2, patch=8)
TINY_DINOV2 = VisionTransformer(size=12, depth=4, heads=3, patch=7, registers=4, residual_scale=True)
TINY_SIGLIP = VisionTransformer(size=8, depth=4, heads=2, patch=8, units=20, class_token=False, activation="gelu-tanh")
TINY_CLIP = VisionTransformer(size=8, depth=4, heads=2, patch=8, pre_norm=True, activation="quick-gelu", epsilon=1e-5)
TINY_SWIN = SwinTransformer(width=6, depths=(2, 1, 2), heads=(2, 3, 4), patch=2, window=3)
TINY_ENTRIES = {
    "tiny-resnet": describe_resnet(TINY_RESNET),
    "tiny-bottleneck": describe_resnet(TINY_BOTTLENECK),
    "tiny-vit": describe_transformer(TINY_VIT, SOURCE),
    "tiny-dinov2": describe_transformer(TINY_DINOV2, SOURCE),
    "tiny-siglip": describe_transformer(TINY_SIGLIP, SOURCE),
    "tiny-clip": describe_transformer(TINY_CLIP, SOURCE),
    "tiny-swin": describe_swin(TINY_SWIN),
}
PIXELS = {
    **{"tiny-resnet": 64, "tiny-bottleneck": 66, "tiny-vit": 32, "tiny-dinov2": 42, "tiny-siglip": 32},
    **{"tiny-swin": 48, "tiny-clip": 32},
}
