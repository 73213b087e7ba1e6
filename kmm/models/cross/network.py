"""Attention between the rows of film and report, in layers that each read the rows of the layer before."""

from collections.abc import Mapping

import keras
from keras import layers

from kmm.models.cross.rows import Places, StandInRows
from kmm.models.cross.shape import CrossShape
from kmm.models.encoding import MaskedMean
from kmm.models.networks.vision_layers import ResidualScale
from kmm.models.transformer.attention import Attention

SIDES = ("image", "text")  # in the order of the columns of `present`
GATE = "cross_gate"  # the layer that multiplies the result by weights which start at 0
RESIDUAL = 0.1  # start of the learned weights of what a part of a layer adds to its rows
HIDDEN = 2  # times the width: the hidden layer of a layer


def add_cross_attention(
    features: Mapping[str, Mapping[str, keras.KerasTensor]], present: keras.KerasTensor, shape: CrossShape
) -> keras.KerasTensor:
    """Adds attention between film and report.

    The rows of each side are normalised, brought to one width, get learned places, and read each other once. Then, in
    each layer, the film reads the report and the report reads the film, both as the layer before has left them; a
    hidden layer and, if wanted, an adapter follow. What each part adds is multiplied by learned weights. The result is
    the mean of the rows of each side, multiplied by a gate that starts at 0: the fusion starts as if this was not
    there.

    Padding, and all rows of an absent side, have exactly the weight 0 everywhere. Each layer `<name>_attention` returns
    its weights `(n, heads, q, k)` beside its rows: `image_self`, `text_self`, and for each layer `cross<i>_image`,
    whose queries are places of the film and whose keys are words, and `cross<i>_text`.

    Args:
        features: dict of `"image"` and `"text"` to a dict with `"sequence" (n, m, k)` and `"mask" (n, m)`.
        present: KerasTensor `(n, 2)`.
        shape: `CrossShape`.

    Returns:
        KerasTensor `(n, 2 * shape.width)`.

    Source: https://arxiv.org/abs/1908.07490

    Example:
        >>> features = {"sequence": keras.Input((5, 3)), "mask": keras.Input((5,))}
        >>> add_cross_attention({"image": features, "text": features}, keras.Input((2,)), CrossShape(width=8)).shape
        (None, 16)
    """
    rows, read = {}, {}
    for side in SIDES:
        rows[side], read[side] = _open_side(side, features[side], present, shape)
    image, text = SIDES
    for number in range(1, shape.layers + 1):
        rate = shape.stochastic_depth * number / shape.layers
        before = dict(rows)
        for side, other in ((image, text), (text, image)):
            name = f"cross{number}_{side}"
            x = _attend(before[side], before[other], read[other], shape, name, rate)
            x = _add_dense(x, HIDDEN * shape.width, f"{name}_hidden", rate)
            rows[side] = _add_dense(x, shape.adapter, f"{name}_adapter", rate) if shape.adapter else x
    means = [
        MaskedMean(name=f"cross_{side}_mean")(_normalise(rows[side], f"cross_{side}"), read[side]) for side in SIDES
    ]
    return ResidualScale(0.0, name=GATE)(layers.Concatenate(name="cross_means")(means))


def _open_side(side, parts, present, shape):
    """Returns the rows of a side, brought to the width of the fusion, after they have read each other; and which are
    read."""
    rows, read = StandInRows(SIDES.index(side), name=f"{side}_rows")(parts["sequence"], parts["mask"], present)
    x = layers.Dense(shape.width, name=f"{side}_rows_width")(_normalise(rows, f"{side}_rows"))
    x = Places(name=f"{side}_rows_places")(x)
    return _attend(x, x, read, shape, f"{side}_self", 0.0), read


def _attend(rows, others, read, shape, name, rate):
    """Adds what rows read of others, or of themselves."""
    query = _normalise(rows, name)
    key = query if others is rows else _normalise(others, f"{name}_other")
    given = [
        layers.Dense(shape.width, name=f"{name}_query")(query),
        layers.Dense(shape.width, use_bias=False, name=f"{name}_key")(key),  # a bias would change no weight
        layers.Dense(shape.width, name=f"{name}_value")(key),
    ]
    mixed, _ = Attention(shape.heads, return_weights=True, name=f"{name}_attention")(*given, read)
    return _join(rows, layers.Dense(shape.width, name=f"{name}_mixed")(mixed), name, rate)


def _add_dense(rows, hidden, name, rate):
    """Adds what a hidden layer makes of each row."""
    x = layers.Dense(hidden, activation="gelu", name=name)(_normalise(rows, name))
    return _join(rows, layers.Dense(rows.shape[-1], name=f"{name}_result")(x), name, rate)


def _join(rows, result, name, rate):
    """Adds a result to rows, times learned weights; a part of the training studies goes without it."""
    result = ResidualScale(RESIDUAL, name=f"{name}_scale")(result)
    if rate:
        result = layers.Dropout(rate, noise_shape=(None, 1, 1), name=f"{name}_depth")(result)
    return layers.Add(name=f"{name}_sum")([rows, result])


def _normalise(rows, name):
    return layers.LayerNormalization(name=f"{name}_norm")(rows)
