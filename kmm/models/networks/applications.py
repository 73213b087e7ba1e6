"""Networks of `keras.applications`, applied to a film that is scaled already."""

from collections.abc import Callable

import keras

from kmm.models.own.network import OwnNetwork

Network = Callable[[keras.KerasTensor, str | None], keras.KerasTensor]


def apply_application(build: Callable[..., keras.Model]) -> Network:
    """Wraps a function of `keras.applications` as a network.

    Args:
        build: such a function, whose network does not scale its input.

    Returns:
        function `(x, weights) -> feature map`; see `kmm.models.encoders_image.ImageEncoder`.
    """
    return lambda x, weights: build(include_top=False, weights=weights, input_tensor=x).output


def unpack_application(build: Callable[..., keras.Model], *, first: str = "") -> Network:
    """Wraps a function of `keras.applications` as a network without its nested models and its scaling.

    Args:
        build: such a function.
        first: str. Name of the layer behind the scaling; empty if there is none.

    Returns:
        function `(x, weights) -> feature map`. The layers of nested models take their model's place under their own
        names, so that a film's map, a stem or a block may be any of them.
    """

    def apply(x, weights):
        model = build(include_top=False, weights=weights, input_shape=tuple(x.shape[1:]))
        start = model.get_layer(first).input if first else model.input
        return OwnNetwork(keras.Model(start, model.output), model.name).repeat(x, copy_weights=weights is not None)

    return apply
