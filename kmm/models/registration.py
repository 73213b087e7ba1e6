"""Encoders of one's own: registered under a name, or given to a fit as Keras models.

`kmm.register_image_encoder` and `kmm.register_text_encoder` are the functions of this module. `kmm.fit` passes a model
that it is given to `give_image_encoder` or `give_text_encoder`, and every fit begins with `keep_given_models`.
"""

import dataclasses
import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kmm.errors import InputError, look_up
from kmm.models.encoder_table import EncoderTable
from kmm.models.encoders_image import IMAGE_ENCODERS, ImageEncoder
from kmm.models.encoders_text import TEXT_ENCODERS, TextEncoder
from kmm.models.own.image import ImageOptions, OwnImageNetwork, make_image_entry
from kmm.models.own.text import OwnTextNetwork, TextOptions, make_text_entry
from kmm.models.weights.checkpoints import GIVEN, model_digest
from kmm.settings import FitSettings
from kmm.storage.archive import check_members
from kmm.storage.classifier_folder import read_json
from kmm.storage.files import replace_file, write_json


@dataclass(frozen=True)
class _Kind:
    """Table, classes and maker of one kind of encoder."""

    table: EncoderTable[Any]
    entry: type
    options: type
    make: Callable[..., Any]


@dataclass(frozen=True)
class _Maker:
    """Makes the entry of a registered function, when its name is first used."""

    make: Callable[..., Any]
    build: Callable[[], Any]
    name: str
    options: Any

    def __call__(self) -> Any:
        return self.make(self.build, self.name, self.options)


IMAGE = _Kind(IMAGE_ENCODERS, ImageEncoder, ImageOptions, make_image_entry)
TEXT = _Kind(TEXT_ENCODERS, TextEncoder, TextOptions, make_text_entry)
SIDES = {"image_encoder": IMAGE, "text_encoder": TEXT}


def register_image_encoder(name: str, encoder: ImageEncoder | keras.Model | Callable[[], Any], **options: Any) -> None:
    """Adds an image encoder to the table, for this process: `kmm.fit(studies, image_encoder=name)`.

    Args:
        name: str. A new name, of letters, digits, `.`, `_` and `-`; or that of the same encoder, registered again.
        encoder: a functional `keras.Model` from image `(n, h, w, c)`, with 1 or 3 channels, to a feature map
            `(n, h', w', d)` or a vector `(n, d)`; a function without arguments that returns one, called when the name
            is first used; or an entry of the table, `kmm.models.encoders_image.ImageEncoder`. With
            `image_weights="given"` a fit starts from the model's weights.
        options: fields of `kmm.models.own.image.ImageOptions`, for a model.

    Raises:
        InputError: if the name is taken by another encoder, an option is unknown, or the model cannot be used; it says
            what to do.

    Example:
        >>> film = keras.Input((64, 64, 1))
        >>> x = keras.layers.Conv2D(8, 3, strides=4, activation="relu")(film)
        >>> register_image_encoder("tiny", keras.Model(film, x), scaling="unit")
        >>> IMAGE_ENCODERS.pop("tiny").pixels
        64
    """
    _register(IMAGE, name, encoder, options)


def register_text_encoder(name: str, encoder: TextEncoder | keras.Model | Callable[[], Any], **options: Any) -> None:
    """Adds a text encoder to the table, for this process: `kmm.fit(studies, text_encoder=name)`.

    Args:
        name: str. A new name, of letters, digits, `.`, `_` and `-`; or that of the same encoder, registered again.
        encoder: a functional `keras.Model` from the inputs `rows (n, t, d)` and `padding_mask (n, t)` to a vector
            `(n, d)` or a sequence `(n, m, k)`, whose weights every fit starts from; a function without arguments that
            returns one, called when the name is first used; or an entry of the table,
            `kmm.models.encoders_text.TextEncoder`.
        options: fields of `kmm.models.own.text.TextOptions`, for a model.

    Raises:
        InputError: if the name is taken by another encoder, an option is unknown, or the model cannot be used; it says
            what to do.

    Example:
        >>> rows, mask = keras.Input((None, None), name="rows"), keras.Input((None,), name="padding_mask")
        >>> register_text_encoder("mean", keras.Model([rows, mask], keras.ops.mean(rows, axis=1)))
        Traceback (most recent call last):
        kmm.errors.InputError: The model of the encoder 'mean' must end in a vector (n, d) or a sequence (n, m, k). \
Received: (None, None).
    """
    _register(TEXT, name, encoder, options)


def _register(kind, name, encoder, options):
    if options and isinstance(encoder, kind.entry):
        raise InputError(f"The entry {name!r} describes itself. Leave out: {', '.join(options)}.")
    chosen = _choose_options(kind, options)
    if isinstance(encoder, kind.entry | keras.Model):
        made = kind.make(encoder, name, chosen)
        if not _is_registered(kind, name, made):
            kind.table.add(name, made)
    elif callable(encoder):
        made = _Maker(kind.make, encoder, name, chosen)
        if not _is_registered(kind, name, made):
            kind.table.add(name, made)
    else:
        raise InputError(
            f"The encoder {name!r} must be a keras.Model, a function that returns one, or a {kind.entry.__name__}. "
            f"Received: {type(encoder).__name__}."
        )


def _choose_options(kind, options):
    known = {field.name: field for field in dataclasses.fields(kind.options)}
    for option in options:
        look_up(known, option, f"option of the {kind.table.noun}")
    return kind.options(**options)


def _is_registered(kind, name, made):
    """Returns whether a name stands for the same model or function already, as when a cell of a notebook runs again."""
    known = kind.table.find_added(name)
    if known is None or known == made:
        return known is not None
    networks = [getattr(entry, "network", None) for entry in (known, made)]
    own = all(isinstance(network, OwnImageNetwork | OwnTextNetwork) for network in networks)
    return own and _digest(networks[0]) == _digest(networks[1])


def give_image_encoder(model: keras.Model, **options: Any) -> dict[str, Any]:
    """Adds a Keras model to the table of image encoders, under a name made of its own name and its digest.

    Args:
        model, options: as for `register_image_encoder`.

    Returns:
        dict of settings of a fit that starts from the model's weights: `image_encoder`, `image_weights` and, if the
        model takes films of one size only, `pixels`.

    Raises:
        InputError: if the model cannot be used; it says what to do.
    """
    name, entry = _give(IMAGE, model, options)
    pixels = {"pixels": entry.pixels} if entry.fixed_pixels or options.get("pixels") else {}
    return {"image_encoder": name, "image_weights": GIVEN, **pixels}


def give_text_encoder(model: keras.Model, **options: Any) -> dict[str, Any]:
    """Adds a Keras model to the table of text encoders, under a name made of its own name and its digest.

    Args:
        model, options: as for `register_text_encoder`.

    Returns:
        dict of settings of a fit: `text_encoder` and, if the model takes only one, `length` and `embedding_size`.

    Raises:
        InputError: if the model cannot be used; it says what to do.
    """
    name, entry = _give(TEXT, model, options)
    sizes = {field: getattr(entry, field) for field in ("length", "embedding_size") if getattr(entry, field)}
    return {"text_encoder": name, **sizes}


def _give(kind, model, options):
    if not isinstance(model, keras.Model):
        raise InputError(
            f"Expected the name of an encoder or a keras.Model. Received: {type(model).__name__}. Register it under a "
            "name, and give the name."
        )
    entry = kind.make(model, model.name, _choose_options(kind, options))
    stem = re.sub(r"[^\w.-]+", "-", re.sub(r"_\d+$", "", model.name))
    name = f"{stem}-{_digest(entry.network)[:8]}"
    if name not in kind.table:
        kind.table.add(name, entry)
    return name, kind.table[name]


def _digest(network):
    """Identifies a model with its weights and options, in every process that builds or loads it."""
    options = json.dumps(dataclasses.asdict(network.options), sort_keys=True)
    return hashlib.sha256(f"{model_digest(network.layers.model)} {options}".encode()).hexdigest()


def keep_given_models(settings: FitSettings, folder: Path | str) -> None:
    """Keeps the Keras models that are a fit's encoders in its work folder; a resumed fit gets them back from there.

    Args:
        settings: `FitSettings`, whose `image_encoder` and `text_encoder` are the names.
        folder: path of the work folder, created if a model is kept in it. Encoders that are no Keras models, such as
            those of kmm, leave no file.

    Raises:
        InputError: if a name stands for another model than when the fit was started.
        ArtefactError: if a kept file is damaged.
    """
    for side, kind in SIDES.items():
        name, path = getattr(settings, side), Path(folder, f"{side}.json")
        if name is None:
            continue
        known: dict[str, Any] = read_json(path) if path.exists() else {"name": None}
        if known["name"] == name and name not in kind.table:
            model = _load(path.with_suffix(".keras"))
            kind.table.add(name, kind.make(model, name, kind.options(**known["options"])))
        if name not in kind.table:
            continue  # unknown: an error of those who look it up
        network = kind.table[name].network
        if not isinstance(network, OwnImageNetwork | OwnTextNetwork):
            continue
        digest = _digest(network)
        if known["name"] != name:
            _keep(path, network, {"name": name, "digest": digest, "options": dataclasses.asdict(network.options)})
        elif known["digest"] != digest:
            raise InputError(
                f"{folder} cannot be resumed: the model of the encoder {name!r} changed since this run started. "
                "Register the earlier model, or start over with --overwrite."
            )


def _keep(path, network, facts):
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path.with_suffix(".keras")) as place:
        network.layers.model.save(place)
    write_json(path, facts)


def _load(path):
    with zipfile.ZipFile(path) as archive:
        check_members(path, archive)
    return keras.models.load_model(path, compile=False)
