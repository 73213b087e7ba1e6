"""Save a classifier with its model card and the files of its fit, and export it for serving."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from kmm.classifier import Classifier
from kmm.errors import InputError
from kmm.evaluate.changed_weights import describe_change
from kmm.evaluate.result_files import describe_for_card, write_card
from kmm.storage.classifier_folder import CARD, read_description


def save_record(record: Classifier, folder: Path, *, source: Path | None, overwrite: bool = False) -> None:
    """Saves a classifier with its model card, completely or not at all.

    Args:
        record: `kmm.classifier.Classifier`. Its provenance gets the name of the folder.
        folder: path of the folder to make.
        source: path of the folder from which it was loaded, or to which its fit saved it, for the split, learning
            curves and pictures in it; None if there is none.
        overwrite: bool. Whether to replace a saved classifier.

    Raises:
        InputError: if the folder exists and `overwrite` is false, it is not a saved classifier, or it cannot be
            written.
    """
    if folder.exists() and not overwrite:
        raise InputError(f"{folder} already exists. Choose another name, or pass overwrite=True.")
    record.provenance["name"] = folder.name
    with tempfile.TemporaryDirectory() as kept:
        if source is not None and source.is_dir():
            _copy_files(source, Path(kept), pictures=not describe_change(record))

        def extra(place: Path) -> None:
            shutil.copytree(kept, place, dirs_exist_ok=True)
            card = write_card(describe_for_card(record, folder, beside=place))
            (place / CARD).write_text(card, encoding="utf-8")

        record.save(folder, overwrite=overwrite, extra=extra)


def export_record(record: Classifier, folder: Path, *, source: Path | None, **options: Any) -> None:
    """Exports a classifier as a version of a model that is served.

    Args:
        record, source: as for `save_record`.
        folder: path of the version to make. Its last part is the number of the version, the one before it the model's
            name.
        options: as for `kmm.export.write.export_to`.

    Raises:
        InputError: if the version exists or is no number, or Keras does not run on TensorFlow.
    """
    from kmm.export.write import choose_version, export_to

    if not folder.name.isdecimal():
        raise InputError(f"{folder}: the last part must be the number of the version, as in {folder / '1'}.")
    choose_version(folder.parent, int(folder.name))
    name = folder.absolute().parent.name
    with tempfile.TemporaryDirectory() as temporary:
        saved = Path(temporary, name or "kmm")
        save_record(record, saved, source=source)
        export_to(saved, folder, name=name, **options)


def _copy_files(source, place, *, pictures):
    """Copies the files of a fit that the classifier itself does not write: split, learning curves, pictures."""
    for name in read_description(source)["files"]:
        if name in ("split.csv", "history.json") or (pictures and name.startswith("pictures/")):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, place / name)
