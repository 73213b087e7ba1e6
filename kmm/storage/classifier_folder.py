"""The folder of a saved classifier: written whole or not at all, its description and every file with a digest."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from kmm.errors import ArtefactError, InputError
from kmm.storage.files import write_json

FORMAT = 2
READABLE = (1, 2)  # 1 had one calibration for every study, and what was trained on in the description itself
DESCRIPTION = "classifier.json"
CARD = "model_card.md"
MAX_JSON_BYTES = 100_000_000


def write_classifier_folder(folder, write, description, *, overwrite=False):
    """Writes a folder: all of it, or nothing.

    Args:
        folder: path of the folder to make.
        write: callable that is given a temporary folder and writes the files into it.
        description: dict that JSON holds. With format, digests of the files and one of its own it becomes the file
            `classifier.json`.
        overwrite: bool. Replace a saved classifier that is there; versions that were exported into it stay.

    Raises:
        InputError: if the folder is there and `overwrite` is false, or it is no saved classifier.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise InputError(f"{folder}: expected a name that is free. Choose another name, or overwrite it.")
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise InputError(f"{folder}: expected a saved classifier to overwrite. Found another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
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


def read_description(folder):
    """Reads the description of a saved classifier; it and every file are checked against their digests.

    Args:
        folder: path that `write_classifier_folder` wrote.

    Returns:
        dict.

    Raises:
        ArtefactError: if a file is missing, altered or of another format.
    """
    folder = Path(folder)
    description = read_json(folder / DESCRIPTION)
    try:
        _check_description(folder, description)
        _check_files(folder, description)
    except (KeyError, TypeError, AttributeError) as error:
        raise not_as_expected(folder, error) from None
    return description


def digest_description(folder):
    """The digest of a saved classifier's description, which tells every file of it: str of 64 hexadecimal digits.

    Raises:
        ArtefactError: if the folder has none.
    """
    path = Path(folder) / DESCRIPTION
    try:
        return digest_file(path)
    except OSError:
        raise ArtefactError(f"{folder}: expected a classifier that `kmm fit` saved. {path.name} is missing.") from None


def not_as_expected(folder, error):
    """The error of a folder whose description lacks what `kmm fit` writes."""
    said = " ".join(str(error).split())[:300]  # Keras quotes whole descriptions of networks
    return ArtefactError(f"{folder}: expected a classifier that `kmm fit` saved. Not as expected: {said}")


def sign_description(description):
    """Puts into the description of a classifier the digest of all the rest of it.

    Args:
        description: dict that JSON holds; a digest that it has is replaced.

    Returns:
        dict with `digest`, the sha256 of the rest as JSON with sorted names.

    Example:
        >>> sign_description({"format": 1})["digest"][:12]
        '3f0a99256bee'
    """
    rest = {name: value for name, value in description.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return {**rest, "digest": hashlib.sha256(text.encode()).hexdigest()}


def digest_file(path):
    """sha256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path):
    """Reads a JSON file of a saved classifier.

    Raises:
        ArtefactError: if it is missing, too large or not JSON.
    """
    if path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
        raise ArtefactError(f"{path}: expected at most {MAX_JSON_BYTES} bytes.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(
            f"{path.parent}: expected a classifier that `kmm fit` saved. {path.name} is missing."
        ) from None
    except (OSError, ValueError):
        raise ArtefactError(f"{path}: expected JSON in UTF-8. Received: something else.") from None


def _swap(new, folder, old):
    """Puts `new` in the place of `folder`, exported versions kept; when that fails, all is as it was."""
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
    """The description is of this format, and as it was saved."""
    if description.get("format") not in READABLE:
        known = " or ".join(map(str, READABLE))
        raise ArtefactError(
            f"{folder}: expected a classifier of format {known}. Received: {description.get('format')}. "
            "Update kmm, or train the classifier again."
        )
    path = folder / DESCRIPTION
    if "digest" not in description:
        raise ArtefactError(f"{path}: expected a description with its digest. Received: one without; train it again.")
    if sign_description(description) != description:
        raise ArtefactError(f"{path}: expected the file as it was saved. Its digest differs.")


def _check_files(folder, description):
    """Every file of a description lies in the folder, unaltered."""
    for name, digest in description["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise ArtefactError(f"{folder}: expected the file {name}. It is missing.")
        if digest_file(path) != digest:
            raise ArtefactError(f"{path}: expected the file as it was saved. Its digest differs.")
