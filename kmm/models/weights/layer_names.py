"""Names of layers that several versions of Keras give the layers of one network, as a fresh process of Keras 3 does."""

import re
from typing import Any

COUNTED = r"(conv2d|convolution2d|batch_?normalization|layer_normalization)(?:_(\d+))?"


def normalise_names(layers: dict[str, Any]) -> dict[str, Any]:
    """Renames layers that Keras named by a counter (`conv2d_7`, in Keras 1 `convolution2d_3`) as a fresh process would,
    and those with a slash (`conv1/bn` of Keras 2) as Keras 3 does (`conv1_bn`).

    Example:
        >>> list(normalise_names({"conv2d_7": 1, "conv2d_9": 2, "conv1/bn": 3, "logits": 4}))
        ['conv1_bn', 'logits', 'conv2d', 'conv2d_1']
    """
    counted: dict[str, list[tuple[int, str]]] = {}
    renamed: dict[str, Any] = {}
    for name in layers:
        if found := re.fullmatch(COUNTED, name):
            stem = "conv2d" if found[1].startswith("conv") else found[1].replace("batchn", "batch_n")
            counted.setdefault(stem, []).append((int(found[2] or 0), name))
        else:
            renamed[name.replace("/", "_")] = layers[name]
    for stem, names in counted.items():
        for rank, (_, name) in enumerate(sorted(names)):
            renamed[f"{stem}_{rank}" if rank else stem] = layers[name]
    return renamed
