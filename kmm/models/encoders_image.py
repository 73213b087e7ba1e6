"""Image encoders, one table entry each: from a film of gray levels 0 to 255 to an `Encoding`."""

import re
from collections import Counter

import keras
from keras import layers

from kmm.errors import InputError, look_up
from kmm.models.encoder_table import EncoderTable
from kmm.models.encoding import Encoding, encoder_model, full_mask
from kmm.models.image_encoder import ImageEncoder
from kmm.models.image_vector import POOLINGS, add_depths, choose_depths
from kmm.models.networks.entries import ENTRIES
from kmm.models.networks.scalings import SCALINGS


def build_image_encoder(
    entry: ImageEncoder, *, pixels: int, weights: str | None = None, depths: int = 1, grid: int = 1
) -> keras.Model:
    """Builds the nested model of one image encoder.

    Args:
        entry: `ImageEncoder`, a value of `IMAGE_ENCODERS`.
        pixels: int, at least 32. Height and width of the film.
        weights: None (random), `"imagenet"` (downloaded by Keras) or `"given"` (those that the network brings).
        depths: int >= 1. Depths of the network that make up the vector: the means of the feature maps of `depths - 1`
            blocks, see `kmm.models.image_vector.choose_depths`, before the vector of the last one.
        grid: int >= 1. Cells along each side of the film over which the means of each feature map are taken, see
            `kmm.models.image_vector.GridMeans`.

    Returns:
        `keras.Model` named `image_encoder`, from image float `(n, pixels, pixels, 1)`, 0 = black to 255 = white, to
        `{"vector": (n, d), "sequence": (n, m, k), "mask": (n, m)}`. Its layers keep the names of `keras.applications`.

    Raises:
        InputError: if the entry names a layer that its network does not have, or a feature map that is not its output;
            if it has too few blocks, or a feature map smaller than the grid.

    Example:
        >>> build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=64).output["vector"].shape
        (None, 256)
        >>> build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=64, depths=3).output["vector"].shape
        (None, 384)
        >>> build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=64, grid=2).output["vector"].shape
        (None, 640)
    """
    encoder = assemble_image_encoder(entry, pixels=pixels, weights=weights, depths=depths, grid=grid)
    _check_names(encoder, entry)
    return encoder


def assemble_image_encoder(
    entry: ImageEncoder, *, pixels: int, weights: str | None = None, depths: int = 1, grid: int = 1
) -> keras.Model:
    """Builds an image encoder as `build_image_encoder` does, whichever layers its description names."""
    image = keras.Input((pixels, pixels, 1), name="film")
    x = layers.Concatenate(name="colour")([image] * entry.channels) if entry.channels > 1 else image
    output = entry.network(SCALINGS[entry.scaling](x), weights)
    features, vector = POOLINGS[entry.pooling](output, grid)
    if depths > 1:
        network = keras.Model(image, output)
        _normalise_names(network)
        names = choose_depths(entry.blocks, depths)
        vector = add_depths(network, names, vector, entry.feature_map, grid=grid)
    sequence = layers.Reshape((-1, features.shape[-1]), name="places")(features)
    encoder = encoder_model(image, Encoding(vector, sequence, full_mask(sequence)), name="image_encoder")
    _normalise_names(encoder)
    return encoder


def _check_names(encoder, entry):
    """Checks that the network has the layers that an entry names."""
    layers_by_name = {layer.name: layer for layer in encoder.layers}
    for name in (entry.stem, *entry.blocks, entry.feature_map, entry.top, *entry.starts):
        look_up(layers_by_name, name, "layer of the image encoder")
    if layers_by_name[entry.feature_map].output is not layers_by_name["places"].input:
        raise InputError(f"The layer {entry.feature_map!r} is not the output of the image encoder's network.")


def list_starts(entry: ImageEncoder, encoder: keras.Model) -> tuple[str, ...]:
    """Lists the first layer of each block of an image encoder, from the top of the network down.

    Args:
        entry: `ImageEncoder`. If its `starts` is empty, a block begins at the first layer with weights behind the last
            layer of the block before it.
        encoder: `keras.Model` that was built from it.

    Returns:
        tuple of layer names, at least one.

    Example:
        >>> entry = IMAGE_ENCODERS["small-cnn"]
        >>> list_starts(entry, build_image_encoder(entry, pixels=32))[:2]
        ('block5_conv', 'block4_conv')
    """
    if entry.starts:
        return entry.starts
    ends, starts, behind = set(entry.blocks[:-1]), list[str](), True
    for layer in encoder.layers:
        if behind and layer.weights:
            starts.append(layer.name)
            behind = False
        behind = behind or layer.name in ends
    return tuple(reversed(starts)) or (entry.top,)


def _normalise_names(model: keras.Model) -> None:
    """Renames layers that Keras named by a counter (`conv2d_7`) as a fresh process would, so that names are the same
    for every build."""
    seen: Counter[str] = Counter()
    for layer in model.layers:
        stem = re.sub(r"_\d+$", "", layer.name)
        if stem == re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower():
            layer.name = f"{stem}_{seen[stem]}" if seen[stem] else stem
            seen[stem] += 1


def _make_entry(made, name):
    """Makes an entry of what a program registers or a package offers."""
    from kmm.models.own.image import make_image_entry

    return make_image_entry(made, name)


IMAGE_ENCODERS: EncoderTable[ImageEncoder] = EncoderTable("image encoder", "kmm.image_encoders", ENTRIES, _make_entry)
