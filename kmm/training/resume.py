"""Check that a stopped run goes on with the settings, data, files and code that it began with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from kmm.data.given_parts import GivenParts
from kmm.data.split import Split
from kmm.data.study import Collection
from kmm.errors import InputError
from kmm.models.weights.files.model_folder import digest_folder
from kmm.rules.rule_file import LabelRules
from kmm.rules.rule_scheme import KEPT
from kmm.settings import FitSettings
from kmm.storage.classifier_folder import digest_file, read_json
from kmm.storage.files import write_json
from kmm.training.preparation.prepared_studies import PreparedStudies
from kmm.training.preparation.text_weights import list_text_files
from kmm.training.source_code import digest_code

FILES = ("word_pieces", "word_vectors", "image_weights")  # settings that name files, compared by their bytes


def check_settings(work: Path, settings: FitSettings, source: Collection | PreparedStudies | None) -> None:
    """Checks that a work folder belongs to the same settings and collection, before the first film is read.

    Args:
        work: Path of the folder.
        settings: `FitSettings`.
        source: `Collection`, or `PreparedStudies` of one.

    Raises:
        InputError: if it belongs to others.
    """
    facts = source.facts if isinstance(source, PreparedStudies) else _describe_collection(source)
    now = {"settings": settings.as_dict(), "studies": facts["studies"], "layout": facts["layout"]}
    path = work / "run.json"
    if not path.exists():
        write_json(path, now)
        return
    before = read_json(path)
    old = before.get("settings", {})
    changed = [name for name, value in settings.as_dict().items() if old.get(name) != value]
    _require_same(work, changed + _list_changed(before, now, ("studies", "layout")))


def check_data(
    work: Path, settings: FitSettings, prepared: PreparedStudies, split: Split | GivenParts | Path | str | None
) -> None:
    """Checks that a work folder belongs to the same data, files and code.

    Raises:
        InputError: if it belongs to others.
    """
    files = {name: getattr(settings, name) for name in FILES}
    if not isinstance(split, Split | GivenParts):
        files["split"] = split
    text = prepared.maker.text
    now = {
        "data": prepared.digest(),
        "parts": prepared.split.digest,
        **{name: digest_file(Path(file)) for name, file in files.items() if file and Path(file).is_file()},
        **{name: digest_folder(Path(file)) for name, file in files.items() if file and Path(file).is_dir()},
        **({"text_weights": list(map(digest_file, texts))} if (texts := list_text_files(settings)) else {}),
        **({"split": split.digest} if isinstance(split, Split | GivenParts) else {}),
        **({KEPT: LabelRules.from_dict(prepared.facts[KEPT]).digest} if KEPT in prepared.facts else {}),
        **({"redact": text.redaction.digest} if text and text.redaction else {}),
        "code": digest_code(),
        "backend": keras.backend.backend(),
    }
    path = work / "data.json"
    before = read_json(path) if path.exists() else now
    _require_same(work, _list_changed(before, now, {**before, **now}))
    write_json(path, now)


def _describe_collection(collection):
    return {"studies": len(collection.studies), "layout": collection.layout}


def _list_changed(before: Mapping[str, Any], now: Mapping[str, Any], names):
    return [name for name in names if before.get(name) != now.get(name)]


def _require_same(work, changed):
    if changed:
        raise InputError(
            f"{work} cannot be resumed: {', '.join(changed)} changed since this run started. Restore the earlier "
            "state, or start over with --overwrite."
        )
