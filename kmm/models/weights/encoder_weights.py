"""Check, conversion and list of pretrained weights of encoders."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from kmm.errors import InputError, WeightsError, look_up, require
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.weights.checkpoints import GIVEN, IMAGENET, RANDOM, load_image_weights, weights_digest
from kmm.models.weights.weight_files import KERAS_FORMATS, TORCH_FORMATS, join_layers
from kmm.storage.files import replace_file

FOLDER = "folder of Hugging Face"
KERAS_SUFFIX, SAFETENSORS_SUFFIX = ".weights.h5", ".safetensors"


def check_weights(path: Path | str, encoder_name: str) -> dict[str, Any]:
    """Loads a file of weights into a new image encoder and reports whether they fit.

    Args:
        path: path of a file in one of the formats of `kmm.models.weights.weight_files`.
        encoder_name: str, a key of `IMAGE_ENCODERS`.

    Returns:
        dict for JSON: `fits` (bool), `encoder`, `pixels`; if the weights fit, also `layers` (list of str, in the order
        of the network), `weights_sha256` (digest of the loaded weights, the same for every file format) and the fields
        of `kmm.models.weights.checkpoints.WeightsReport`; otherwise `reason` (str).

    Raises:
        InputError: if the encoder is unknown or the file is missing.
        MissingPackageError: if the package that reads the file is not installed.
    """
    model, path = _build(path, encoder_name)
    try:
        return _load(model, path, encoder_name)
    except WeightsError as error:
        return {"fits": False, "encoder": encoder_name, "pixels": model.input.shape[1], "reason": str(error)}


def convert_weights(path: Path | str, encoder_name: str, out: Path | str) -> dict[str, Any]:
    """Converts a file of weights to one that `load_image_weights` reads without translating names.

    Args:
        path: path of a file in one of the formats of `kmm.models.weights.weight_files`.
        encoder_name: str, a key of `IMAGE_ENCODERS`.
        out: path of the file to write, ending in `.weights.h5` (Keras 3) or `.safetensors`. An existing file is
            replaced.

    Returns:
        dict as from `check_weights`, with `out` (str).

    Raises:
        InputError: if the encoder is unknown, the file is missing or `out` has another ending.
        WeightsError: if the weights do not fit the encoder; nothing is written.
        MissingPackageError: if the package that reads or writes the format is not installed.
    """
    out = Path(out)
    if not out.name.endswith((KERAS_SUFFIX, SAFETENSORS_SUFFIX)):
        raise InputError(
            f"{out} has an unknown format. Choose a name that ends in {KERAS_SUFFIX} or {SAFETENSORS_SUFFIX}."
        )
    model, path = _build(path, encoder_name)
    result = _load(model, path, encoder_name)
    with replace_file(out) as place:
        if out.name.endswith(KERAS_SUFFIX):
            model.save_weights(place)
        else:
            _save_safetensors(model, place)
    return {**result, "out": str(out)}


def list_encoders(*, count_parameters: bool = False) -> list[dict[str, Any]]:
    """Lists the encoders of both tables.

    Args:
        count_parameters: bool. Whether to build each image encoder, which takes seconds, to count its parameters. The
            number for a text encoder depends on the settings of a fit.

    Returns:
        list of dicts: `name`, `reads` (`"films"` or `"reports"`), `pixels` (int, side of the film, or None),
        `parameters` (int or None), `weights` (list of str: `"imagenet"`, `"random"`, `"given"` and file suffixes) and
        `source`. An encoder of a package that cannot be loaded has no weights and the error as its source.

    Example:
        >>> [row["weights"] for row in list_encoders() if row["name"] == "small-cnn"]
        [['random', '.h5', '.weights.h5', '.keras', '.safetensors']]
    """
    rows = []
    for reads, table in (("films", IMAGE_ENCODERS), ("reports", TEXT_ENCODERS)):
        for name in table:
            row: dict[str, Any] = {"name": name, "reads": reads, "pixels": None, "parameters": None, "weights": []}
            try:
                entry = table[name]
            except InputError as error:  # of a package
                rows.append({**row, "source": str(error)})
                continue
            given = {"weights": [FOLDER]} if getattr(entry, "weights", False) else {}
            known = _describe_image(entry, count_parameters) if reads == "films" else given
            rows.append({**row, **known, "source": entry.source})
    return rows


def _describe_image(entry, count_parameters):
    formats = [*KERAS_FORMATS, *(TORCH_FORMATS if entry.torch_layers else ()), SAFETENSORS_SUFFIX]
    named = [IMAGENET] * entry.imagenet + [GIVEN] * entry.given + [RANDOM]
    count = build_image_encoder(entry, pixels=entry.pixels).count_params() if count_parameters else None
    return {"pixels": entry.pixels, "parameters": count, "weights": named + formats}


def _build(path, encoder_name):
    entry = look_up(IMAGE_ENCODERS, encoder_name, "image encoder")
    path = Path(path).absolute()  # a file may be called imagenet
    if not path.is_file():
        raise InputError(f"{path} is not a file. Name a file of weights.")
    return build_image_encoder(entry, pixels=entry.pixels), path


def _load(model, path, encoder_name):
    report = load_image_weights(model, encoder_name, path)
    return {
        "fits": True,
        "encoder": encoder_name,
        "pixels": model.input.shape[1],
        "layers": [layer.name for layer in model.layers if layer.weights],
        "weights_sha256": weights_digest(model),
        **dataclasses.asdict(report),
        "extra": list(report.extra),
    }


def _save_safetensors(model, path):
    layers = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    tensors, metadata = join_layers(layers)
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    require("safetensors.numpy", "safetensors").save_file(arrays, path, metadata)
