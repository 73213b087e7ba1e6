"""Names of DenseNet's weights: torchvision and timm, and CheXNet's with dots."""

import re
from collections.abc import Mapping
from typing import Any

from kmm.models.weights.names.torch_names import Scheme, TorchNames

_KIND = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
STAGES = (2, 3, 4, 5)  # as Keras numbers them: the stem is the first


def _rules():
    yield rf"features\.conv0{_KIND}", "conv1_conv", r"\1"
    yield rf"features\.norm0{_KIND}", "conv1_bn", r"\1"
    yield rf"features\.norm5{_KIND}", "bn", r"\1"
    parts = {r"norm\.?1": "0_bn", r"conv\.?1": "1_conv", r"norm\.?2": "1_bn", r"conv\.?2": "2_conv"}
    for keras in STAGES:
        torch = keras - 1
        for inner, end in parts.items():
            pattern = rf"features\.denseblock{torch}\.denselayer(\d+)\.{inner}{_KIND}"
            yield pattern, rf"conv{keras}_block\1_{end}", r"\2"
        for inner, end in {"norm": "bn", "conv": "conv"}.items():
            yield rf"features\.transition{torch}\.{inner}{_KIND}", f"pool{keras}_{end}", r"\1"


def name_densenet(blocks: tuple[int, ...], channels: int = 3) -> TorchNames:
    """Returns the names of a DenseNet with a number of layers in each block, for films of some channels.

    Example:
        >>> import numpy as np
        >>> kernel = np.zeros((64, 3, 7, 7))
        >>> name_densenet((6, 12, 24, 16))({"module.densenet121.features.conv0.weight": kernel})["conv1_conv"][0].shape
        (7, 7, 3, 64)
    """

    def recognises(layers: Mapping[str, Any]) -> bool:
        depths = [sum(re.fullmatch(rf"conv{n}_block\d+_2_conv", layer) is not None for layer in layers) for n in STAGES]
        kernel = layers.get("conv1_conv", {}).get("weight", ())
        return tuple(depths) == tuple(blocks) and kernel[1:2] == (channels,)

    schemes = (Scheme("torchvision and timm", rf"features\.(?:conv0|norm0|norm5){_KIND}", tuple(_rules())),)
    return TorchNames(schemes, recognises=recognises)
