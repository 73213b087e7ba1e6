"""An image encoder cut in two behind a layer, whether it is a plain one, reads views of a film, or has members.

The rows of both halves are studies: views and members are side by side in the channels of what is between them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import layers

from kmm.models.joined.film_views import FilmViews, MeanOfPlaces, MeanOfViews, fold_views, unfold_views
from kmm.models.joined.joined_encoder import count_views, list_members, list_order

Step = Callable[[Any], Any]


class OnViews(layers.Layer):
    """Runs a model on the views of films. It is part of a cut, and is not saved.

    Args:
        network: `keras.Model`, whose rows are views.
        views: int, see `kmm.models.joined.film_views.FilmViews`.
        before: function from what the layer takes, one row per study, to the rows of the network.
        after: function from what the network returns to what the layer returns, one row per study.
    """

    def __init__(self, network: keras.Model, views: int, before: Step, after: Step):
        super().__init__()
        self.network, self.views, self._before, self._after = network, views, before, after

    def call(self, values: Any, training: bool | None = None) -> Any:
        """Takes a tensor `(n, ...)`; returns one or a list of them."""
        return self._after(self.network(self._before(values), training=training))

    def get_config(self) -> dict[str, Any]:
        """Returns what describes the layer; it cannot be made again from this."""
        return {**super().get_config(), "views": self.views}


def take_front(encoder: keras.Model, layer: str) -> keras.Model:
    """Returns the first half of an image encoder.

    Args:
        encoder: `keras.Model` named `image_encoder`.
        layer: str. Name of the layer behind which it is cut, of each of its members.

    Returns:
        `keras.Model` from film `(n, h, w, 1)` to `(n, ..., views * encoders * k)`: of each view the channels of each
        encoder.
    """
    members, views = list_members(encoder), count_views(encoder)
    if len(members) == views == 1:
        return keras.Model(members[0].input, members[0].get_layer(layer).output)
    film = keras.Input(encoder.input.shape[1:], name="film")
    found = [keras.Model(member.input, member.get_layer(layer).output)(film) for member in members]
    joined = layers.Concatenate()(found) if len(found) > 1 else found[0]
    if views == 1:
        return keras.Model(film, joined)
    front = OnViews(keras.Model(film, joined), views, FilmViews(views), lambda values: unfold_views(values, views))
    return keras.Model(film, front(film))


def finish_encoder(encoder: keras.Model, layer: str, inner: keras.KerasTensor, parts: Iterable[str]) -> dict[str, Any]:
    """Computes parts of the encoding of films with the second half of an image encoder.

    Args:
        encoder, layer: as for `take_front`.
        inner: `(n, ...)`, what the first half returns.
        parts: of `"vector"`, `"sequence"` and `"mask"`.

    Returns:
        dict of the parts to KerasTensor.
    """
    members, views, names = list_members(encoder), count_views(encoder), list(parts)
    shape = (*inner.shape[1:-1], inner.shape[-1] // views)
    given = keras.Input(shape, dtype=inner.dtype)
    size = shape[-1] // len(members)
    found = []
    for number, member in enumerate(members):
        own = given[..., number * size : (number + 1) * size] if len(members) > 1 else given
        back = keras.Model(member.get_layer(layer).output, [member.output[name] for name in names])
        found.append(dict(zip(names, keras.tree.flatten(back(own)), strict=True)))
    order, joined = list_order(encoder), []
    for name in names:
        chosen = {"vector": order, "sequence": range(len(members)), "mask": (0,)}[name]
        values = [found[number][name] for number in chosen]
        joined.append(layers.Concatenate()(values) if len(values) > 1 else values[0])
    network = keras.Model(given, joined)
    if views == 1:
        return dict(zip(names, keras.tree.flatten(network(inner)), strict=True))
    rows = members[0].get_layer("places").input.shape[1]
    vectors, places = MeanOfViews(views), MeanOfPlaces(views, rows)
    means: dict[str, Step] = {"vector": vectors, "sequence": places, "mask": vectors}  # masks of views are equal

    def average(values: Any) -> list[Any]:
        return [means[name](value) for name, value in zip(names, keras.tree.flatten(values), strict=True)]

    back = OnViews(network, views, lambda values: fold_views(values, views), average)
    return dict(zip(names, keras.tree.flatten(back(inner)), strict=True))
