"""Stored maps: one file per study, from which pictures and pages can be drawn again without the model.

`maps/<name>.npz` is an archive of NumPy arrays, without pickle: `mark` and `record` are JSON in UTF-8 as bytes, and
`heat_0`, `heat_1`, ... are the float32 maps of the labels, on the area of the film, at the model's resolution.
`docs/explanation.md` describes the record.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from kmm.batches import read_film
from kmm.errors import ImageError, InputError
from kmm.explain.attribution.result import Attribution
from kmm.explain.explanation import Explanation, show_film
from kmm.explain.output.table import drop_unknown, make_writable
from kmm.explain.regions.find import find_regions
from kmm.explain.settings import ExplainSettings, RegionSettings
from kmm.explain.words import WordScore

MAPS = "maps"  # name of the folder of maps, beside the files of the studies
MAP_SCHEMA = "kmm-map-1"
MOST_BYTES = 1_000_000_000  # size limit of all arrays of a file, checked before they are decoded
# Fields of an `Explanation` that are recomputed, read again, or stored in another form.
_OWN_FORM = {"film", "heat", "regions", "settings", "attribution", "words", "image"}
_DAMAGED = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, zipfile.BadZipFile, InputError)


def place_of(out: Path, name: str) -> Path:
    """Returns the path of a study's map in the folder `out`, where `name` is the name of the study's files."""
    return out / MAPS / f"{name}.npz"


def write_map(path: Path, mark: Mapping[str, str], explanations: Sequence[Explanation]) -> None:
    """Writes the map of a study.

    Args:
        path: path of the file, in an existing folder.
        mark: dict of str: digests of run and study, by which a later run sees whether the map is still valid.
        explanations: list of `Explanation` of one study, one per label.

    Raises:
        OSError: if the file cannot be written.
    """
    record = {
        "schema": MAP_SCHEMA,
        "film_size": next((list(one.film.shape) for one in explanations if one.film is not None), None),
        "explanations": [_describe(one) for one in explanations],
    }
    heats: dict[str, Any] = {
        f"heat_{place}": np.float32(one.heat) for place, one in enumerate(explanations) if one.heat is not None
    }
    with open(path, "wb") as file:
        np.savez_compressed(file, mark=_encode(mark), record=_encode(record), **heats)


def read_map_mark(path: Path) -> dict[str, Any] | None:
    """Reads the mark of a map; None if there is no map or it is damaged."""
    try:
        with _open(path) as arrays:
            mark = _decode(arrays["mark"])
            return mark if isinstance(mark, dict) else None
    except _DAMAGED:
        return None


def read_map(path: Path, regions: RegionSettings, image: str | None) -> list[Explanation]:
    """Reads a map and the study's film, and finds the circles for the given settings.

    Args:
        path: path of the map.
        regions: `RegionSettings`.
        image: str or None. Path of the study's film.

    Returns:
        list of `Explanation`, one per label. Their attributions have sums, but no values.

    Raises:
        ImageError: if the film cannot be read.
        InputError: if the map is missing or damaged, belongs to a film of another size, or a setting is out of range.
    """
    try:
        with _open(path) as arrays:
            record = _decode(arrays["record"])
            heats = [arrays.get(f"heat_{place}") for place in range(len(record["explanations"]))]
        film = None
        if record["film_size"] is not None:
            if image is None:
                raise InputError("it has a film, and the study has none")
            film = show_film(read_film(Path(image)))
            if list(film.shape) != record["film_size"]:
                raise InputError("it belongs to a film of another size")
        if record["schema"] != MAP_SCHEMA or any(map(_is_invalid, heats)):
            raise InputError("this version of kmm does not know its format")
        read = list(zip(record["explanations"], heats, strict=True))
        return [_restore(values, heat, regions, film, image) for values, heat in read]
    except ImageError:
        raise
    except _DAMAGED as error:
        reason = error if isinstance(error, InputError) else f"{type(error).__name__} while reading it"
        raise InputError(f"{path}: the map cannot be drawn: {reason}.") from None


def _describe(explanation):
    found = explanation.attribution
    kept = {field.name: getattr(explanation, field.name) for field in fields(Explanation)}
    own = {
        "attribution": {
            "target": found.target,
            "score": found.score,
            "scores": list(map(float, found.scores)),
            "baseline_score": found.baseline_score,
            "completeness_gap": found.completeness_gap,
            "map_error": found.map_error,
            "steps": found.steps,
            "warnings": list(found.warnings),
            "kept_sums": found.sums,
        },
        "settings": {name: value for name, value in explanation.settings.as_dict().items() if name != "regions"},
        "words": [word.as_dict() for word in explanation.words],
        "image": explanation.image and make_writable(explanation.image),
    }
    return drop_unknown({**{name: value for name, value in kept.items() if name not in _OWN_FORM}, **own})


def _restore(values, heat, regions, film, image):
    numbers = {name: nan if value is None else value for name, value in values["attribution"].items()}
    attribution = Attribution(
        **{
            **numbers,
            "values": {},
            "scores": np.array(numbers["scores"], np.float64),
            "warnings": tuple(numbers["warnings"]),
        }
    )
    own = {
        "attribution": attribution,
        "settings": ExplainSettings.from_dict(values["settings"], regions),
        "words": [WordScore(**word) for word in values["words"]],
        "thresholds": {name: nan if value is None else value for name, value in values["thresholds"].items()},
        "sections": [tuple(section) for section in values["sections"]],
        "redacted": [tuple(span) for span in values.get("redacted", [])],
        "warnings": tuple(values["warnings"]),
        "image": None if film is None else image,
        "film": film,
        "heat": heat,
        "regions": [] if heat is None else find_regions(heat, regions, film_size=film.shape),
    }
    return Explanation(**{**values, **own})


def _open(path):
    """Opens the arrays of a file, after checking their sizes."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
            raise InputError(f"it holds more than {MOST_BYTES // 1_000_000} MB")
    return np.load(path, allow_pickle=False)


def _encode(value):
    return np.frombuffer(json.dumps(value, allow_nan=False).encode("ascii"), np.uint8)


def _decode(array):
    return json.loads(array.tobytes())


def _is_invalid(heat):
    return heat is not None and (heat.dtype != np.float32 or heat.ndim != 2 or not np.isfinite(heat).all())
