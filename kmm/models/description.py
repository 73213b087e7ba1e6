"""Descriptions of encoders: what the rest of kmm asks about a network, as plain values that a saved classifier keeps.

An entry of a table of encoders is a description with the function that builds the network. After a fit only the
description is needed, so a classifier whose encoder is in no table is explained and exported like any other.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kmm.errors import ArtefactError


@dataclass(frozen=True, kw_only=True)
class _Description:
    """Fields and conversions that both kinds of description share.

    Attributes:
        source: str. Link of the publication, or a description.
    """

    source: str

    def describe(self) -> dict[str, Any]:
        """Returns the fields of the description, without those that a table entry adds, as a dict for JSON."""
        kind = next(kind for kind in type(self).__mro__ if kind in _KINDS)
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(kind)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Makes a description from the dict that `describe` returned.

        Raises:
            ArtefactError: if a field is missing, unknown or of another type.
        """
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        try:
            made = cls(**values)
        except TypeError:
            raise ArtefactError(f"The description of an encoder has other fields: {', '.join(values)}.") from None
        for field in dataclasses.fields(cls):
            if not _fits(getattr(made, field.name), field.type):
                raise ArtefactError(f"The description of an encoder has a wrong value of `{field.name}`.")
        return made


def _fits(value, kind):
    """Returns whether a value read from JSON has the type of a field."""
    if kind == tuple[str, ...]:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, int | float if kind is float else kind)


@dataclass(frozen=True, kw_only=True)
class ImageDescription(_Description):
    """Description of an image encoder.

    Attributes:
        pixels: int. Default height and width of the film.
        fixed_pixels: bool. Whether the network takes films of no other size.
        multiple: int. Number of pixels of which `pixels` must be a multiple, such as the side of a patch.
        channels: int. 3 repeats the gray film, for networks made for colour images; else 1.
        scaling: str. Key of `SCALINGS`: the conversion of gray levels 0 to 255 to the network's range.
        pooling: str. Key of `POOLINGS`: the reduction of the feature map to a vector.
        stem: str. The last layer whose output is an affine function of the film, provided that its normalisation uses
            stored statistics.
        blocks: tuple of str. The last layer of each block, in the order of the network; each returns a map
            `(n, rows, columns, channels)`, or tokens `(n, t, channels)` that the layer `feature_map` arranges as one.
        feature_map: str. The layer that returns the last feature map.
        top: str. The first layer to train when only the top of the network is trained.
        held: float > 0. Memory per path point, as a multiple of the bytes that
            `kmm.explain.attribution.held_memory` counts for the layers. 1 suffices unless a layer of one's own holds
            more than its output and does not say so: `check_image_encoder` of the tests says how much a point holds and
            how much is counted.

    Example:
        >>> from kmm.models.encoders_image import IMAGE_ENCODERS
        >>> IMAGE_ENCODERS["small-cnn"].describe()["stem"]
        'block1_bn'
    """

    pixels: int
    fixed_pixels: bool = False
    channels: int
    scaling: str
    pooling: str
    stem: str
    blocks: tuple[str, ...]
    feature_map: str
    top: str
    held: float = 1.0
    multiple: int = 1


@dataclass(frozen=True, kw_only=True)
class TextDescription(_Description):
    """Description of a text encoder.

    Attributes:
        filters: int. Default number of filters per kernel size.
        stem: tuple of str. Layers whose outputs are affine functions of the rows and determine all later layers.
        length: int. The only number of words per report that the network takes; 0 if it takes any.
        embedding_size: int. The only size of a word's row that the network takes; 0 if it takes any.
        top: str. The first layer to train when only the top of the network is trained; empty for all of its layers. The
            rows of words, which are below the network, stay as they are.
    """

    filters: int
    stem: tuple[str, ...]
    length: int = 0
    embedding_size: int = 0
    top: str = ""


_KINDS = (ImageDescription, TextDescription)
