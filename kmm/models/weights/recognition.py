"""Recognition of the image encoder that weights are for, by the names and shapes of their tensors."""

from collections.abc import Mapping
from typing import Any

from kmm.errors import WeightsError
from kmm.models.encoders_image import IMAGE_ENCODERS, ImageEncoder
from kmm.models.weights.assignment import find_contradiction
from kmm.models.weights.names.torch_names import Shapes
from kmm.models.weights.weight_files import OpenedWeights


def recognise_encoder(opened: OpenedWeights) -> str:
    """Returns the name of the image encoder that opened weights are for.

    Raises:
        WeightsError: if their names are those of no encoder, or of several.
    """
    found = sorted(name for name, entry in IMAGE_ENCODERS.loaded().items() if _fits(entry, opened))
    if len(found) > 1:  # networks that differ in nothing but a function
        found = [name for name in found if not find_contradiction(opened.folder, IMAGE_ENCODERS[name])] or found
    if len(found) == 1:
        return found[0]
    which = f"may be weights of {' or '.join(found)}" if found else "names the layers of no encoder of kmm"
    raise WeightsError(f"{opened.path.name} {which}. Name the encoder with --encoder; see kmm weights list.")


def _fits(entry: ImageEncoder, opened: OpenedWeights) -> bool:
    if opened.layers is None:
        fits = getattr(entry.torch_layers, "fits", None)
        return bool(fits and fits(opened.tensors))
    recognises = getattr(entry.torch_layers, "recognises", None)
    if recognises:
        return bool(recognises({name: _describe(arrays) for name, arrays in opened.layers.items()}))
    return {entry.top, *entry.starts} <= set(opened.layers)


def _describe(arrays: Any) -> Shapes:
    """Returns the shapes of the arrays of a layer of Keras by the kinds that PyTorch would give them."""
    shapes = [tuple(array.shape) for array in arrays]
    if [len(shape) for shape in shapes] == [2, 3]:  # the tokens of a vision transformer
        return {"class": shapes[0], "positions": shapes[1]}
    first = shapes[0] if shapes else ()
    return {"weight": (*first[:1:-1], *first[:2])} if len(first) == 4 else {"weight": first[::-1]}


def list_tensors(opened: OpenedWeights, encoder_name: str, layers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lists the tensors of opened weights with the layers of an image encoder that they are for.

    Args:
        opened: `OpenedWeights`.
        encoder_name: str, a key of `IMAGE_ENCODERS`.
        layers: the layers of the encoder by name.

    Returns:
        list of dicts for JSON: `name`, `shape` (list of int) and `layer`, None for a tensor that is not used. Where the
        names of PyTorch are translated by a function of one's own, which names no tensors, `layer` is always None.
    """
    place = getattr(IMAGE_ENCODERS[encoder_name].torch_layers, "place", None)
    if opened.layers is not None:
        owners = {name: name.rpartition("/")[0] for name in opened.tensors}
    else:
        owners = {name: layer for name, (layer, _) in place(opened.tensors).items()} if place else {}
    return [
        {"name": name, "shape": list(shape), "layer": owner if (owner := owners.get(name)) in layers else None}
        for name, shape in opened.tensors.items()
    ]
