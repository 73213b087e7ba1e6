"""Names of a ResNet's weights: torchvision and timm."""

import re
from collections import Counter
from collections.abc import Mapping

from kmm.models.networks.resnet import ResNet
from kmm.models.weights.names.torch_names import Scheme, Shapes, TorchNames

_KIND = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
_RULES = (
    (r"conv1\.(weight)", "conv1", r"\1"),
    (rf"bn1{_KIND}", "bn1", r"\1"),
    (rf"layer(\d)\.(\d+)\.((?:conv|bn)\d){_KIND}", r"layer\1_\2_\3", r"\4"),
    (rf"layer(\d)\.(\d+)\.downsample\.0{_KIND}", r"layer\1_\2_shortcut_conv", r"\3"),
    (rf"layer(\d)\.(\d+)\.downsample\.1{_KIND}", r"layer\1_\2_shortcut_bn", r"\3"),
)


def name_resnet(network: ResNet) -> TorchNames:
    """Returns the names of the weights of a `ResNet`.

    Example:
        >>> names = name_resnet(ResNet((2, 2, 2, 2)))
        >>> names.place(["module.layer1.0.conv1.weight", "module.layer2.0.downsample.1.bias", "module.fc.bias"])
        {'module.layer1.0.conv1.weight': ('layer1_0_conv1', 'weight'), \
'module.layer2.0.downsample.1.bias': ('layer2_0_shortcut_bn', 'bias')}
    """

    def recognises(layers: Mapping[str, Shapes]) -> bool:
        ends = [re.fullmatch(r"layer(\d)_(\d+)_conv1", layer) for layer in layers]
        blocks = Counter(int(match[1]) for match in ends if match)
        width = layers.get("layer1_0_conv1", {}).get("weight", (0,))[0]
        found = tuple(blocks[stage] for stage in range(1, 5)), "layer1_0_conv3" in layers, width
        return found == (network.blocks, network.bottleneck, network.widths[0])

    return TorchNames((Scheme("torchvision and timm", r"layer1\.0\.conv1\.weight", _RULES),), recognises=recognises)
