"""Check, conversion and list of pretrained weights of encoders."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from kmm.errors import InputError, WeightsError, look_up
from kmm.models.encoders_image import IMAGE_ENCODERS, ImageEncoder, build_image_encoder
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.weights.assignment import translate
from kmm.models.weights.checkpoints import GIVEN, IMAGENET, RANDOM, load_opened, weights_digest
from kmm.models.weights.recognition import list_tensors, recognise_encoder
from kmm.models.weights.reference_features import compare_features
from kmm.models.weights.weight_files import KERAS_FORMATS, ORIGIN, TORCH_FORMATS, join_layers, open_weights
from kmm.storage.files import replace_file

FOLDER = "folder of Hugging Face"
KERAS_SUFFIX, SAFETENSORS_SUFFIX = ".weights.h5", ".safetensors"
MAX_PIXELS = 1024  # largest film that an encoder is built for because of a file


def check_weights(
    path: Path | str, encoder_name: str | None = None, *, partial: bool = False, against: str | None = None
) -> dict[str, Any]:
    """Loads a file of weights into a new image encoder and reports whether they fit.

    Args:
        path: path of a file in one of the formats of `kmm.models.weights.weight_files`, or of a folder with one.
        encoder_name: str, a key of `IMAGE_ENCODERS`; None: the one that the names of the tensors tell.
        partial: bool. Whether layers may be missing; `random` then names them.
        against: str. A program to compare the features with, see `kmm.models.weights.reference_features`; None: none.

    Returns:
        dict for JSON: `fits` (bool), `encoder` (str, or None if it was not recognised), `pixels`, `file` (list of the
        tensors of the file, see `kmm.models.weights.recognition.list_tensors`), `missing` (list of layers);
        if the weights fit, also `layers` (list of str, in the order of the network), `weights_sha256` (digest of the
        loaded weights, the same for every file format) and the fields of
        `kmm.models.weights.checkpoints.WeightsReport`, and `against`, the result of `compare_features`, if that is
        wanted; otherwise `reason` (str).

    Raises:
        InputError: if the encoder is unknown or the file is missing.
        MissingPackageError: if the package that reads the file, or computes the other features, is not installed.
    """
    place = _find(path, encoder_name)
    listed: dict[str, Any] = {"encoder": encoder_name, "pixels": None, "file": [], "missing": []}
    try:
        with open_weights(place) as opened:
            result, model = _load(opened, encoder_name, listed, partial=partial)
            if against:
                result["against"] = compare_features(opened, result["encoder"], model, against)
            return {"fits": True, **result}
    except WeightsError as error:
        return {"fits": False, **listed, "reason": str(error)}


def convert_weights(
    path: Path | str, encoder_name: str | None, out: Path | str, *, partial: bool = False
) -> dict[str, Any]:
    """Converts a file of weights to one that `load_image_weights` reads without translating names.

    Args:
        path, encoder_name: as for `check_weights`.
        out: path of the file to write, ending in `.weights.h5` (Keras 3) or `.safetensors`. An existing file is
            replaced. It keeps the name, digest and licence of the file that it was made from.
        partial: bool. Whether layers may be missing; they get random weights of the seed 0, and the file says so.

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
    with open_weights(_find(path, encoder_name)) as opened:
        result, model = _load(opened, encoder_name, {}, partial=partial)
    facts = {name: result[name] for name in ("source", "sha256", "licence", "random")}
    with replace_file(out) as place:
        if out.name.endswith(KERAS_SUFFIX):
            model.save_weights(place)
            with h5py.File(place, "r+") as file:
                file.attrs[ORIGIN] = json.dumps(facts)
        else:
            _save_safetensors(model, place, facts)
    return {"fits": True, **result, "out": str(out)}


def list_encoders(*, count_parameters: bool = False) -> list[dict[str, Any]]:
    """Lists the encoders of both tables.

    Args:
        count_parameters: bool. Whether to build each image encoder, which takes seconds, to count its parameters. The
            number for a text encoder depends on the settings of a fit.

    Returns:
        list of dicts: `name`, `reads` (`"films"` or `"reports"`), `pixels` (int, side of the film, or None),
        `parameters` (int or None), `weights` (list of str: `"imagenet"`, `"random"`, `"given"`, file suffixes and
        `"folder"`) and `source`. An encoder of a package that cannot be loaded has no weights and the error as its
        source.

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
    formats += ["folder"] if entry.torch_layers else []
    named = [IMAGENET] * entry.imagenet + [GIVEN] * entry.given + [RANDOM]
    count = build_image_encoder(entry, pixels=entry.pixels).count_params() if count_parameters else None
    return {"pixels": entry.pixels, "parameters": count, "weights": named + formats}


def _find(path, encoder_name):
    if encoder_name is not None:
        look_up(IMAGE_ENCODERS, encoder_name, "image encoder")
    path = Path(path).absolute()  # a file may be called imagenet
    if not path.exists():
        raise InputError(f"{path} is not a file. Name a file of weights.")
    return path


def _load(opened, encoder_name, listed, *, partial):
    """Loads opened weights into a new encoder; returns the result and the encoder. Fills `listed` as far as it gets."""
    encoder_name = encoder_name or recognise_encoder(opened)
    entry = IMAGE_ENCODERS[encoder_name]
    layers = translate(opened, encoder_name)
    pixels = find_pixels(entry, layers)
    keras.utils.set_random_seed(0)
    model = build_image_encoder(entry, pixels=pixels)
    own = {layer.name: layer for layer in model.layers if layer.weights}
    listed |= {
        "encoder": encoder_name,
        "pixels": pixels,
        "file": list_tensors(opened, encoder_name, own),
        "missing": [name for name in own if name not in layers],
    }
    report = load_opened(model, encoder_name, opened, partial=partial)
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(report).items()}
    return {**listed, "layers": list(own), "weights_sha256": weights_digest(model), **facts}, model


def find_pixels(entry: ImageEncoder, layers: Mapping[str, Any]) -> int:
    """Returns the side of the films that weights were made for: the table of positions of a transformer has a place per
    patch. Weights without such a table are of the entry's size."""
    arrays: Any = layers.get(entry.positions, ()) if entry.positions else ()
    shape = tuple(arrays[-1].shape) if len(arrays) else ()
    side = shape[0] * entry.multiple if len(shape) == 3 else 0
    return side if 32 <= side <= MAX_PIXELS else entry.pixels


def _save_safetensors(model, path, facts):
    from safetensors.numpy import save_file

    layers = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    tensors, metadata = join_layers(layers)
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(arrays, path, {**metadata, ORIGIN: json.dumps(facts)})
