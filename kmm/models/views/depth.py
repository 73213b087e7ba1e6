"""Depth of the layers of an encoder: groups of layers from its head down, and the blocks at its top."""

from collections.abc import Iterator

import keras

from kmm.models.transformer.bert import find_block
from kmm.models.views.parts import embed_of, image_encoder_of, text_encoder_of

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


def group_by_block(encoder: keras.Model) -> list[list[keras.layers.Layer]]:
    """Divides the layers of a text encoder that have weights into its blocks of attention, and what is below them.

    Args:
        encoder: functional `keras.Model` named `text_encoder`.

    Returns:
        list of lists of layers, the block next to the head first, the layers below all blocks last; empty for an
        encoder without such blocks.

    Example:
        >>> from kmm.models.encoders_text import TEXT_ENCODERS, build_text_encoder
        >>> entry = TEXT_ENCODERS["transformer-small"]
        >>> encoder = build_text_encoder(entry, length=9, embedding_size=128, filters=1, dropout=0.1)
        >>> [len(group) for group in group_by_block(encoder)], group_by_block(encoder)[-1][0].name
        ([8, 8, 2], 'frame')
    """
    divided: dict[str, list[keras.layers.Layer]] = {}
    for layer in _list_layers(encoder):
        if layer.weights:
            divided.setdefault(find_block(layer.name), []).append(layer)
    below = divided.pop("", [])
    return [*reversed(divided.values()), below] if divided else []


def scale_by_depth(model: keras.Model, decay: float) -> tuple[float, ...]:
    """Returns factors of the learning rate that fall with the depth of a layer of an encoder: `decay` for the group
    next to the head, `decay ** 2` for the next one, and so on.

    The groups are those of `group_by_depth` for the image encoder, and of `group_by_block` for the text encoder; rows
    of words belong to the lowest one.

    Args:
        model: `keras.Model` with what is trained marked.
        decay: float in (0, 1].

    Returns:
        tuple with one factor for each trainable variable of the model, in their order, 1 outside the encoders; empty if
        all are 1.

    Source: https://arxiv.org/abs/1801.06146

    Example:
        >>> from kmm.models.build import ModelSpec, build_model
        >>> model = build_model(ModelSpec(image_encoder="small-cnn", pixels=32), label_count=1)
        >>> factors = scale_by_depth(model, 0.5)
        >>> factors[0] == 0.5**8, sorted(set(factors), reverse=True)[:3]  # the first layer; head and upper groups
        (True, [1.0, 0.5, 0.25])
    """
    factors = {
        id(variable): decay**depth
        for groups in (_group_image(model), _group_text(model))
        for depth, group in enumerate(groups, start=1)
        for layer in group
        for variable in layer.variables
    }
    found = tuple(factors.get(id(variable), 1.0) for variable in model.trainable_variables)
    return () if set(found) <= {1.0} else found


def _group_image(model):
    encoder = image_encoder_of(model)
    return [] if encoder is None else group_by_depth(encoder)


def _group_text(model):
    encoder, embed = text_encoder_of(model), embed_of(model)
    groups = [] if encoder is None else group_by_block(encoder)
    if groups and embed is not None:
        groups[-1] += [layer for layer in _list_layers(embed) if layer.weights]
    return groups


def _list_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _list_layers(layer)
        else:
            yield layer
