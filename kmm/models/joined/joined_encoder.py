"""An image encoder made of others: one that reads several views of a film, or several members side by side."""

import re
from collections.abc import Sequence

import keras
from keras import layers

from kmm.models.encoding import Encoding, encoder_model, full_mask
from kmm.models.joined.film_views import FilmViews, MeanOfPlaces, MeanOfViews
from kmm.models.views.graph_cuts import list_parents

MEMBER = "member_"  # start of the names of nested encoders
VIEWS_LAYER, VECTORS = "views", "vectors"


def join_encoders(encoders: Sequence[keras.Model], *, order: Sequence[int] = (0,), views: int = 1) -> keras.Model:
    """Makes one image encoder of several, each of which runs once on all views of a film.

    Args:
        encoders: sequence of `keras.Model` from `kmm.models.encoders_image.build_image_encoder`, of the same network;
            they become parts of the result, under other names.
        order: sequence of int, one per member: the number of its encoder, from 0. Members may share an encoder.
        views: int. Views of a film, see `kmm.models.joined.film_views.FilmViews`; 1 for the film itself.

    Returns:
        `keras.Model` named `image_encoder`, of the same input. Its vector `(n, members * d)` consists of those of the
        members, side by side; each is the mean over the views. Its sequence `(n, m, encoders * k)` likewise.

    Example:
        >>> from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
        >>> encoder = build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=32)
        >>> join_encoders([encoder], views=5).output["vector"].shape
        (None, 256)
    """
    film = keras.Input(encoders[0].input.shape[1:], name="film")
    films = FilmViews(views, name=VIEWS_LAYER)(film) if views > 1 else film
    vectors, sequences = [], []
    for number, encoder in enumerate(encoders, start=1):
        encoder.name = f"{MEMBER}{number}"
        found = encoder(films)
        vector, sequence = found["vector"], found["sequence"]
        if views > 1:
            vector = MeanOfViews(views, name=f"mean_{number}")(vector)
            rows = encoder.get_layer("places").input.shape[1]
            sequence = MeanOfPlaces(views, rows, name=f"places_{number}")(sequence)
        vectors.append(vector)
        sequences.append(sequence)
    ordered = [vectors[number] for number in order]
    vector = layers.Concatenate(name=VECTORS)(ordered) if len(ordered) > 1 else ordered[0]
    sequence = layers.Concatenate(name="all_places")(sequences) if len(sequences) > 1 else sequences[0]
    return encoder_model(film, Encoding(vector, sequence, full_mask(sequence)), name="image_encoder")


def list_members(encoder: keras.Model) -> list[keras.Model]:
    """Lists the encoders that an image encoder is made of; of a plain one, itself."""
    found = [layer for layer in encoder.layers if isinstance(layer, keras.Model) and _is_member(layer.name)]
    return found or [encoder]


def list_order(encoder: keras.Model) -> tuple[int, ...]:
    """Lists the number of the encoder of each member of an image encoder, see `join_encoders`.

    Example:
        >>> from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
        >>> encoders = [build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=32) for _ in range(2)]
        >>> list_order(join_encoders(encoders, order=(0, 1, 0), views=3))
        (0, 1, 0)
    """
    for layer in encoder.get_config()["layers"]:
        if layer["config"]["name"] == VECTORS:
            return tuple(int(name.rpartition("_")[2]) - 1 for name, _ in list_parents(layer["inbound_nodes"]))
    return (0,)


def count_views(encoder: keras.Model) -> int:
    """Returns the number of views of a film that an image encoder averages: 1 if it reads the film alone."""
    return next((layer.views for layer in encoder.layers if isinstance(layer, FilmViews)), 1)


def _is_member(name):
    return re.fullmatch(rf"{MEMBER}\d+", name) is not None
