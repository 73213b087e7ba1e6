"""Fingerprints of everything that an explanation depends on: film and report of a study, and settings of a run."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from kmm.data.study import Study
from kmm.explain.output.files import Outputs
from kmm.explain.settings import ExplainSettings
from kmm.image.source import digest_source

NUMBERS = 1  # increased when kmm computes different numbers from the same model, settings and studies
DRAWING = 1  # increased when kmm draws the same numbers differently
FREE = ("regions", "memory_gb")  # settings that attributions do not depend on, except for the last digits of sums


def identify_study(study: Study, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Computes the identity of a study. A film is identified by its bytes, not by its path or modification time.

    Args:
        study: `Study`. Its film may be missing.
        known: dict or None: the `film` of an earlier identity. A file with the same path, size and modification time is
            not read again.

    Returns:
        dict of `key`, 64 hexadecimal digits of the digest of id, film and report; and `film`: None, or a dict of
        `path`, `size`, `mtime_ns` and `digest`, the last three None if the file cannot be read.

    Example:
        >>> from kmm.data.study import Study
        >>> identify_study(Study("7", "7"))["film"] is None, len(identify_study(Study("7", "7"))["key"])
        (True, 64)
    """
    film = None if study.frontal is None else _identify_film(study.frontal, known or {})
    report = None if study.report is None else list(vars(study.report).values())
    content = json.dumps([study.id, film and [film["digest"]], report])
    return {"key": hashlib.sha256(content.encode("ascii")).hexdigest(), "film": film}


def _identify_film(source, known):
    path = source.path
    if source.memory is not None:
        return {"path": str(path), "size": None, "mtime_ns": None, "digest": digest_source(source)}
    film = {"path": os.path.realpath(path), "size": None, "mtime_ns": None, "digest": None}
    try:
        stat = os.stat(path)
        film.update(size=stat.st_size, mtime_ns=stat.st_mtime_ns)
        if {**known, "digest": None} == film:
            return known
        return {**film, "digest": digest_source(source)}
    except OSError:  # explaining the study reports the error
        return {**film, "size": None, "mtime_ns": None}


def describe_attribution(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Describes everything, apart from the study, that the attributions of a run depend on.

    Args:
        model: str. Digest of the classifier.
        settings: dict from `ExplainSettings.as_dict`. An earlier version may have written it without some settings.

    Returns:
        dict that JSON can hold.
    """
    kept = {**ExplainSettings().as_dict(), **settings}
    return {
        "numbers": NUMBERS,
        "model": model,
        "settings": {name: value for name, value in kept.items() if name not in FREE},
    }


def describe_drawing(settings: ExplainSettings, outputs: Outputs) -> dict[str, Any]:
    """Describes everything, apart from attributions, that the files of a run depend on, as a dict that JSON can hold.

    Args:
        settings: `ExplainSettings`.
        outputs: `kmm.explain.output.files.Outputs`.
    """
    return {"drawing": DRAWING, "regions": settings.as_dict()["regions"], "outputs": outputs.as_dict()}


def digest_record(record: Mapping[str, Any]) -> str:
    """Computes the digest of a JSON-like dict, independent of the order of its keys: 32 hexadecimal digits.

    Example:
        >>> digest_record({"a": 1, "b": 2}) == digest_record({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode("ascii")).hexdigest()[:32]
