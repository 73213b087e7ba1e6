"""Folder of a saved classifier: written atomically, with a digest of its description and of every file."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kmm.errors import ArtefactError, InputError
from kmm.storage.files import write_json

FORMAT = 2
READABLE = (1, 2)  # format 1 has one calibration for all studies, and hashes of its studies in the description itself
DESCRIPTION = "classifier.json"
CARD = "model_card.md"
MAX_JSON_BYTES = 100_000_000
_REMEDY = "Restore the file, or train the classifier again."


def write_classifier_folder(
    folder: Path | str,
    write: Callable[[Path], Any],
    description: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Writes the folder of a saved classifier atomically.

    Args:
        folder: path of the folder to create.
        write: function of a temporary folder that writes the files into it.
        description: dict for JSON. With the format, the digests of the files and its own digest, it is written as
            `classifier.json`.
        overwrite: bool. Replaces an existing saved classifier, but keeps the versions exported into its folder.

    Raises:
        InputError: if the folder exists and `overwrite` is false, it is not a saved classifier, or it cannot be made.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise InputError(f"{folder} already exists. Choose another name, or overwrite it.")
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise InputError(f"{folder} is not a saved classifier and is not overwritten. Choose another name.")
    make_parent(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = temporary / "new"
        new.mkdir()
        write(new)
        files = sorted(path for path in new.rglob("*") if path.is_file())
        digests = {path.relative_to(new).as_posix(): digest_file(path) for path in files}
        write_json(new / DESCRIPTION, sign_description({"format": FORMAT, **description, "files": digests}))
        _swap(new, folder, temporary / "old")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_parent(folder: Path | str) -> None:
    """Makes the folder in which classifiers are saved, if it is missing.

    Raises:
        InputError: if it cannot be made, or nothing can be written into it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason: str | None = None if os.access(folder, os.W_OK) else "Permission denied"
    except OSError as error:
        reason = "a file has this name" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
    if reason:
        raise InputError(f"The folder {folder} cannot be written to: {reason}. Choose another folder.")


def read_description(folder: Path | str) -> dict[str, Any]:
    """Reads the description of a saved classifier, and checks it and every file against their digests.

    Args:
        folder: path that `write_classifier_folder` wrote.

    Returns:
        dict as in `classifier.json`.

    Raises:
        ArtefactError: if a file is missing or altered, or the format is unknown.
    """
    folder = Path(folder)
    description = read_json(folder / DESCRIPTION)
    try:
        _check_description(folder, description)
        _check_files(folder, description)
    except (KeyError, TypeError, AttributeError) as error:
        raise not_as_expected(folder, error) from None
    return description


def digest_description(folder: Path | str) -> str:
    """Returns the digest of a saved classifier's description, which covers all its files: 64 hexadecimal digits.

    Raises:
        ArtefactError: if the folder has no description.
    """
    path = Path(folder) / DESCRIPTION
    try:
        return digest_file(path)
    except OSError:
        raise ArtefactError(f"{folder} is not a classifier that `kmm fit` saved: {path.name} is missing.") from None


def not_as_expected(folder: Path | str, error: Exception) -> ArtefactError:
    """Returns the error for a folder whose content differs from what `kmm fit` writes."""
    reason = " ".join(str(error).split())[:300]  # Keras quotes whole descriptions of networks
    return ArtefactError(f"{folder} is not a valid classifier as `kmm fit` saves it: {reason}")


def sign_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to the description of a classifier the digest of all its other fields.

    Args:
        description: dict for JSON. An existing digest is replaced.

    Returns:
        dict with `digest`, the sha256 of the other fields as JSON with sorted names.

    Example:
        >>> sign_description({"format": 1})["digest"][:12]
        '3f0a99256bee'
    """
    rest = {name: value for name, value in description.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return {**rest, "digest": hashlib.sha256(text.encode()).hexdigest()}


def digest_file(path: Path | str) -> str:
    """Returns the sha256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Reads a JSON file of a saved classifier.

    Raises:
        ArtefactError: if the file is missing, too large or not JSON.
    """
    if path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
        raise ArtefactError(f"{path} is larger than {MAX_JSON_BYTES} bytes. Train the classifier again.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(
            f"{path.parent} is not a classifier that `kmm fit` saved: {path.name} is missing."
        ) from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is not valid UTF-8 JSON: {error}.") from None


def _swap(new, folder, old):
    """Replaces `folder` by `new` but keeps its exported versions; restores `folder` on failure."""
    if not folder.exists():
        os.replace(new, folder)
        return
    os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        os.replace(old, folder)
        raise
    for version in old.iterdir():
        if version.is_dir() and version.name.isdigit():
            os.replace(version, folder / version.name)


def _check_description(folder, description):
    """Checks the format and the digest of a description."""
    if description.get("format") not in READABLE:
        known = " or ".join(map(str, READABLE))
        raise ArtefactError(
            f"{folder} has the format {description.get('format')}. This version of kmm reads format {known}: update "
            "kmm, or train the classifier again."
        )
    path = folder / DESCRIPTION
    if "digest" not in description:
        raise ArtefactError(f"{path} lacks its digest. Train the classifier again.")
    if sign_description(description) != description:
        raise ArtefactError(f"{path} was altered after it was saved; its digest differs. {_REMEDY}")


def _check_files(folder, description):
    """Checks that every file of a description exists in the folder and has its digest."""
    for name, digest in description["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise ArtefactError(f"{folder} lacks the file {name}, which its description lists. {_REMEDY}")
        if digest_file(path) != digest:
            raise ArtefactError(f"{path} was altered after it was saved; its digest differs. {_REMEDY}")
