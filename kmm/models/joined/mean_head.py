"""The head of several members of the image side: its logits are exactly the mean of theirs."""

from collections.abc import Sequence

import keras
import numpy as np

from kmm.models.heads import EPSILON, HEADS, STANDARD, write_linear

STAND_IN = "image_stand_in"


def join_members(fusion: keras.Model, members: Sequence[keras.Model], head: str) -> None:
    """Sets the head of an image side to the mean of the heads of its members, each of which reads its own part of the
    vector.

    Args:
        fusion: `keras.Model` from `kmm.models.fusion.build_fusion` of the image side, changed in place. Its vector has
            those of the members side by side, and its decoder is as wide as theirs together.
        members: sequence of such models, the trained fusion of each member.
        head: str, key of `kmm.models.heads.HEADS` of all.
    """
    parts = {str(number): member for number, member in enumerate(members)}
    count = members[0].output.shape[-1]
    weights = {name: np.full(count, 1 / len(members)) for name in parts}
    stand_ins = [member.get_layer(STAND_IN).get_weights()[0] for member in members]
    fusion.get_layer(STAND_IN).set_weights([np.concatenate(stand_ins)])
    HEADS[head].join(fusion, parts, weights, np.zeros(count))


def is_linear(fusion: keras.Model, head: str) -> bool:
    """Returns whether the logits of an image side are a linear function of its vector: those of a head without a
    decoder, or whose decoder adds nothing to them."""
    if not HEADS[head].linear:
        return False
    size = len(fusion.get_layer(STANDARD).get_weights()[0])
    return not np.any(fusion.get_layer("logits").get_weights()[0][size:])


def average_linear(fusion: keras.Model, members: Sequence[keras.Model]) -> None:
    """Sets the head of an image side to the mean of linear heads that read the same vector, which is a linear head.

    Args:
        fusion: `keras.Model` of the image side as it was built, changed in place.
        members: sequence of such models with linear heads, see `is_linear`.

    Example:
        >>> from kmm.models.fusion import FUSIONS, build_fusion
        >>> encoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        >>> encoder = keras.Model(encoder.inputs, {"vector": encoder.outputs[0]})
        >>> sizes = {"label_count": 1, "units": 4, "dropout": 0.0, "head": "linear"}
        >>> one, other, mean = (build_fusion(FUSIONS["concat"], {"image": encoder}, **sizes) for _ in range(3))
        >>> write_linear(one, "image", mean=[1, 2], scale=[2, 1], coef=[[4], [1]], intercept=[0.5])
        >>> write_linear(other, "image", mean=[0, 2], scale=[1, 3], coef=[[1], [3]], intercept=[1.5])
        >>> average_linear(mean, [one, other])
        >>> features = {"image_vector": np.array([[3.0, 2.0], [9.0, 9.0]]), "present": np.array([[1, 0], [0, 0]])}
        >>> keras.ops.convert_to_numpy(mean(features)).round(4).tolist()  # of 4.5 and 4.5, and of 0.5 and 1.5
        [[4.5], [1.0]]
    """
    mean, variance = (np.mean(values, axis=0) for values in zip(*map(_read_standard, members), strict=True))
    scale = np.sqrt(variance + EPSILON)
    slopes, offsets, absent = zip(*map(_read_linear, members), strict=True)
    slope, offset = np.mean(slopes, axis=0), np.mean(offsets, axis=0)
    coef, intercept = slope * scale[:, None], offset + mean @ slope
    write_linear(fusion, "image", mean=mean, scale=scale, coef=coef, intercept=intercept)
    # An absent film gets the vector next to the mean at which the logits are the mean of those of the members.
    moved, *_ = np.linalg.lstsq(coef.T, np.mean(absent, axis=0) - intercept, rcond=None)
    fusion.get_layer(STAND_IN).set_weights([mean + scale * moved])


def _read_standard(fusion):
    """Returns the means and variances by which a head standardises its vector, float64."""
    return [np.asarray(values, np.float64) for values in fusion.get_layer(STANDARD).get_weights()]


def _read_linear(fusion):
    """Returns slope and offset of the logits as a function of the vector, and the logits of an absent film."""
    mean, variance = _read_standard(fusion)
    kernel, bias = (np.asarray(values, np.float64) for values in fusion.get_layer("logits").get_weights())
    slope = kernel[: len(mean)] / np.sqrt(variance + EPSILON)[:, None]
    offset = bias - mean @ slope
    (stand_in,) = fusion.get_layer(STAND_IN).get_weights()
    return slope, offset, np.asarray(stand_in, np.float64) @ slope + offset
