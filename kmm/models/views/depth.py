"""Depth of the layers of an encoder: groups of layers from its head down, and the blocks at its top."""

from collections.abc import Iterator

import keras

from kmm.models.views.parts import image_encoder_of

GROUPS = 8  # of the layers of an encoder, by their depth


def group_by_depth(encoder: keras.Model, groups: int = GROUPS) -> list[list[keras.layers.Layer]]:
    """Divides the layers of an encoder that have weights into groups of equal size, up to one layer.

    The order is that of the computation, as Keras sorts the layers of a functional model; the layers of a nested model
    follow each other. So the rule holds for any network, whatever its layers are called.

    Args:
        encoder: functional `keras.Model`.
        groups: int. Number of groups; an encoder of fewer layers has one group for each.

    Returns:
        list of lists of layers, the group next to the head first; empty for an encoder without weights.

    Example:
        >>> x = film = keras.Input((8, 8, 1))
        >>> for number in (1, 2, 3):
        ...     x = keras.layers.ReLU()(keras.layers.Conv2D(2, 3, name=f"conv{number}")(x))
        >>> [[layer.name for layer in group] for group in group_by_depth(keras.Model(film, x), groups=2)]
        [['conv3'], ['conv1', 'conv2']]
    """
    found = [layer for layer in _list_layers(encoder) if layer.weights]
    groups = min(groups, len(found))
    divided: list[list[keras.layers.Layer]] = [[] for _ in range(groups)]
    for number, layer in enumerate(found):
        divided[groups - 1 - number * groups // len(found)].append(layer)
    return divided


def scale_by_depth(model: keras.Model, decay: float) -> tuple[float, ...]:
    """Returns factors of the learning rate that fall with the depth of a layer of the image encoder: `decay` for the
    group of `group_by_depth` next to the head, `decay ** 2` for the next one, and so on.

    Args:
        model: `keras.Model` with what is trained marked.
        decay: float in (0, 1].

    Returns:
        tuple with one factor for each trainable variable of the model, in their order, 1 outside the encoder; empty if
        all are 1.

    Source: https://arxiv.org/abs/1801.06146

    Example:
        >>> from kmm.models.build import ModelSpec, build_model
        >>> model = build_model(ModelSpec(image_encoder="small-cnn", pixels=32), label_count=1)
        >>> factors = scale_by_depth(model, 0.5)
        >>> factors[0] == 0.5**8, sorted(set(factors), reverse=True)[:3]  # the first layer; head and upper groups
        (True, [1.0, 0.5, 0.25])
    """
    encoder = image_encoder_of(model)
    if decay == 1 or encoder is None:
        return ()
    factors = {
        id(variable): decay**depth
        for depth, group in enumerate(group_by_depth(encoder), start=1)
        for layer in group
        for variable in layer.variables
    }
    found = tuple(factors.get(id(variable), 1.0) for variable in model.trainable_variables)
    return () if set(found) <= {1.0} else found


def _list_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _list_layers(layer)
        else:
            yield layer
