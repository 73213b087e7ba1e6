"""What an explanation depends on: the film's bytes and the report of a study, and the settings of a run."""

import hashlib
import json
import os

from kmm.explain.settings import ExplainSettings
from kmm.storage.classifier_folder import digest_file

NUMBERS = 1  # raised by a version of kmm that computes other numbers from the same model, settings and studies
DRAWING = 1  # raised by a version of kmm that draws the same numbers otherwise
FREE = ("regions", "memory_gb")  # settings that no attribution depends on, but for the last digits of its sums


def identify_study(study, known=None):
    """The identity of what is explained of a study. A film is its bytes, whatever its path or time of change.

    Args:
        study: `Study`. Its film may be missing.
        known: dict or None: the `film` of an earlier identity. A file of the same path, size and time of change is not
            read again.

    Returns:
        dict of `key`, 64 hexadecimal digits that tell id, film and report; and `film`: None, or a dict of `path`,
        `size`, `mtime_ns` and `digest`, the last three None where the file cannot be read.

    Example:
        >>> from kmm.data.study import Study
        >>> identify_study(Study("7", "7"))["film"] is None, len(identify_study(Study("7", "7"))["key"])
        (True, 64)
    """
    film = None if study.frontal is None else _identify_film(study.frontal.path, known or {})
    report = None if study.report is None else list(vars(study.report).values())
    said = json.dumps([study.id, film and [film["digest"]], report])
    return {"key": hashlib.sha256(said.encode("ascii")).hexdigest(), "film": film}


def _identify_film(path, known):
    film = {"path": os.path.realpath(path), "size": None, "mtime_ns": None, "digest": None}
    try:
        stat = os.stat(path)
        film.update(size=stat.st_size, mtime_ns=stat.st_mtime_ns)
        if {**known, "digest": None} == film:
            return known
        return {**film, "digest": digest_file(path)}
    except OSError:  # why it cannot be read is said when it is explained
        return {**film, "size": None, "mtime_ns": None}


def describe_attribution(model, settings):
    """What all attributions of a run depend on besides their study.

    Args:
        model: str. Digest of the classifier.
        settings: dict of `ExplainSettings.as_dict`, perhaps of an earlier version, which lacks some.

    Returns:
        dict that JSON can hold.
    """
    kept = {**ExplainSettings().as_dict(), **settings}
    return {
        "numbers": NUMBERS,
        "model": model,
        "settings": {name: value for name, value in kept.items() if name not in FREE},
    }


def describe_drawing(settings, outputs):
    """What the files of a run depend on besides the attributions: dict that JSON can hold.

    Args:
        settings: `ExplainSettings`.
        outputs: `kmm.explain.output.files.Outputs`.
    """
    return {"drawing": DRAWING, "regions": settings.as_dict()["regions"], "outputs": outputs.as_dict()}


def digest_record(record):
    """The digest of a dict that JSON can hold, whatever the order of its names: 32 hexadecimal digits.

    Example:
        >>> digest_record({"a": 1, "b": 2}) == digest_record({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode("ascii")).hexdigest()[:32]
