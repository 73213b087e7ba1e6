"""Names of a ResNet's weights: torchvision and timm, Hugging Face."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from kmm.models.networks.resnet import ResNet
from kmm.models.weights.names.torch_names import Rule, Scheme, Shapes, TorchNames

_KIND = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
_RULES = (
    (r"conv1\.(weight)", "conv1", r"\1"),
    (rf"bn1{_KIND}", "bn1", r"\1"),
    (rf"layer(\d)\.(\d+)\.((?:conv|bn)\d){_KIND}", r"layer\1_\2_\3", r"\4"),
    (rf"layer(\d)\.(\d+)\.downsample\.0{_KIND}", r"layer\1_\2_shortcut_conv", r"\3"),
    (rf"layer(\d)\.(\d+)\.downsample\.1{_KIND}", r"layer\1_\2_shortcut_bn", r"\3"),
)


def _name_hugging_face() -> Iterator[Rule]:
    """Lists the rules of Hugging Face, which numbers stages and convolutions from 0."""
    yield r"embedder\.embedder\.convolution\.(weight)", "conv1", r"\1"
    yield rf"embedder\.embedder\.normalization{_KIND}", "bn1", r"\1"
    for stage in range(4):
        block, name = rf"encoder\.stages\.{stage}\.layers\.(\d+)", rf"layer{stage + 1}_\1"
        yield rf"{block}\.shortcut\.convolution\.(weight)", f"{name}_shortcut_conv", r"\2"
        yield rf"{block}\.shortcut\.normalization{_KIND}", f"{name}_shortcut_bn", r"\2"
        for number in range(3):
            yield rf"{block}\.layer\.{number}\.convolution\.(weight)", f"{name}_conv{number + 1}", r"\2"
            yield rf"{block}\.layer\.{number}\.normalization{_KIND}", f"{name}_bn{number + 1}", r"\2"


_SCHEMES = (
    Scheme("torchvision and timm", r"layer1\.0\.conv1\.weight", _RULES),
    Scheme("Hugging Face", r"embedder\.embedder\.convolution\.weight", tuple(_name_hugging_face())),
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

    return TorchNames(_SCHEMES, expected=_expect(network), recognises=recognises)


def _expect(network: ResNet) -> dict[str, Any]:
    return {
        "depths": list(network.blocks),
        "layer_type": "bottleneck" if network.bottleneck else "basic",
        "embedding_size": network.widths[0],
        "hidden_sizes": [width * (4 if network.bottleneck else 1) for width in network.widths],
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }
