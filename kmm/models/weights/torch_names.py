"""Translation of PyTorch's names and layouts of weights to those of `keras.applications`, one function per network."""

import re
from collections.abc import Mapping

import numpy as np

from kmm.errors import WeightsError

DENSENET_RULES = (
    (r"conv0", r"conv1_conv"),
    (r"norm0", r"conv1_bn"),
    (r"norm5", r"bn"),
    (r"denseblock(\d+)\.denselayer(\d+)\.norm1", r"conv{0}_block\2_0_bn"),
    (r"denseblock(\d+)\.denselayer(\d+)\.conv1", r"conv{0}_block\2_1_conv"),
    (r"denseblock(\d+)\.denselayer(\d+)\.norm2", r"conv{0}_block\2_1_bn"),
    (r"denseblock(\d+)\.denselayer(\d+)\.conv2", r"conv{0}_block\2_2_conv"),
    (r"transition(\d+)\.norm", r"pool{0}_bn"),
    (r"transition(\d+)\.conv", r"pool{0}_conv"),
)


def densenet_layers(state: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Translates torchvision's DenseNet.

    Args:
        state: dict from PyTorch's names to arrays. Any prefix before `features.` is ignored, and the old `norm.1` is
            read as `norm1`.

    Returns:
        dict from Keras layer name to its arrays. Names outside the feature extractor, such as those of a classifier,
        are not changed.

    Raises:
        WeightsError: if two of PyTorch's names translate to one layer, as in a file of several networks.

    Example:
        >>> kernel = np.zeros((64, 3, 7, 7))
        >>> densenet_layers({"module.densenet121.features.conv0.weight": kernel})["conv1_conv"][0].shape
        (7, 7, 3, 64)
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    for key, array in state.items():
        module, _, kind = key.rpartition(".")
        arrays = modules.setdefault(_keras_name(module), {})
        if kind in arrays:
            raise WeightsError(f"Expected the weights of one DenseNet. Received two arrays for {_keras_name(module)}.")
        arrays[kind] = np.asarray(array)
    return {name: _arrays(kinds) for name, kinds in modules.items()}


def _keras_name(module):
    inner = re.sub(r"\b(norm|conv)\.(\d)", r"\1\2", module.rpartition("features.")[2])
    for pattern, name in DENSENET_RULES:
        if found := re.fullmatch(pattern, inner):
            block = int(found[1]) + 1 if found.groups() else None
            return found.expand(name).format(block)
    return module


def _arrays(kinds):
    if "running_mean" in kinds:
        return [kinds[kind] for kind in ("weight", "bias", "running_mean", "running_var") if kind in kinds]
    weight = kinds.get("weight")
    if weight is not None and weight.ndim == 4:
        return [weight.transpose(2, 3, 1, 0)]  # output, input, height, width -> height, width, input, output
    return list(kinds.values())
