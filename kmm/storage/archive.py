"""Archive of a saved classifier: one zip file to share, whose members are checked before any of them is read."""

import contextlib
import hashlib
import json
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmm.errors import ArtefactError
from kmm.storage.classifier_folder import DESCRIPTION, MAX_JSON_BYTES, digest_description, read_json
from kmm.storage.files import replace_file

MOST_MEMBERS = 1000
MOST_BYTES = 16 * 2**30  # of all unpacked members together
MOST_GROWTH = 200  # largest ratio of unpacked members to archive, not counting SPARE_BYTES
SPARE_BYTES = 2**26
CHUNK_BYTES = 2**20
_PART = r"(?!\.{1,2}(?:/|$))[\w.-]{1,100}"
_NAME = re.compile(rf"(?:{_PART}/){{0,2}}{_PART}", re.ASCII)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


def write_archive(folder: Path, path: Path) -> None:
    """Writes the folder of a saved classifier as an archive, atomically.

    Args:
        folder: Path of a saved classifier. Only the files listed in its description are included.
        path: Path of the archive. An existing file is replaced.

    Raises:
        OSError: if the archive cannot be written.
    """
    names = [DESCRIPTION, *sorted(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["files"])]
    with replace_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            member = zipfile.ZipInfo(name)  # without date and owner
            member.compress_type = zipfile.ZIP_STORED if name.endswith(".keras") else zipfile.ZIP_DEFLATED
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            with open(folder / name, "rb") as file, archive.open(member, "w", force_zip64=True) as target:
                shutil.copyfileobj(file, target, CHUNK_BYTES)


@contextlib.contextmanager
def open_classifier(place: Path | str) -> Iterator[Path]:
    """Provides the folder of a saved classifier; unpacks an archive to a temporary folder.

    Args:
        place: path of a folder, or of an archive that `kmm model pack` wrote.

    Yields:
        Path of a folder. The folder of an archive is temporary and removed after the block.

    Raises:
        ArtefactError: if an archive is damaged, or has other members than those of a classifier.

    Example:
        >>> with open_classifier("saved_models/demo") as folder:
        ...     folder.name
        'demo'
    """
    place = Path(place)
    if not place.is_file():
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="kmm-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary, "classifier")
        unpack_archive(place, folder)
        try:
            yield folder
        except (
            ArtefactError
        ) as error:  # names the archive instead of the temporary folder, which the user does not know
            raise ArtefactError(str(error).replace(str(folder), str(place))) from None


def unpack_archive(path: Path, folder: Path) -> None:
    """Unpacks an archive of a saved classifier. Nothing is written outside `folder`.

    The members must be exactly `classifier.json` and the files that it lists: regular files with plain relative names,
    each once, of sizes in proportion to the archive.

    Args:
        path: Path of the archive.
        folder: Path of the folder to create.

    Raises:
        ArtefactError: if the archive is damaged or its members break these rules.
    """
    with _explaining_damage(path), zipfile.ZipFile(path) as archive:
        members = check_members(path, archive)
        if DESCRIPTION not in members:
            raise ArtefactError(f"{path} is not an archive that `kmm model pack` wrote: {DESCRIPTION} is missing.")
        listed = _list_files(path, archive, members)
        if set(members) != {DESCRIPTION, *listed}:
            raise ArtefactError(
                f"{path} does not contain exactly the files that its {DESCRIPTION} lists. Pack the classifier again."
            )
        for name, member in members.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _unpack(archive, member, target)


def check_members(
    path: Path | str, archive: zipfile.ZipFile, *, most_bytes: int = MOST_BYTES
) -> dict[str, zipfile.ZipInfo]:
    """Checks the names and sizes of an archive's members before any of them is unpacked.

    Args:
        path: path of the archive, for its size and the error message.
        archive: `zipfile.ZipFile`.
        most_bytes: int. Most bytes of all unpacked members together.

    Returns:
        dict of name to `zipfile.ZipInfo`.

    Raises:
        ArtefactError: if a name leads out of a folder, is repeated or is not plain; if a member is not a regular file,
            is encrypted, or is compressed by another method than deflate; if members are too many or too large.
    """
    found, size = archive.infolist(), Path(path).stat().st_size
    most_bytes = min(most_bytes, MOST_GROWTH * size + SPARE_BYTES)
    if len(found) > MOST_MEMBERS:
        raise ArtefactError(f"{path} contains {len(found)} files. An archive may contain at most {MOST_MEMBERS}.")
    if sum(member.file_size for member in found) > most_bytes:
        raise ArtefactError(f"{path} declares too many bytes. Its files may unpack to at most {most_bytes}.")
    for number, member in enumerate(found):
        kind = stat.S_IFMT(member.external_attr >> 16)
        plain = _NAME.fullmatch(member.orig_filename) and kind in (0, stat.S_IFREG) and not member.flag_bits & 1
        if not plain or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArtefactError(
                f"{path}: entry {number + 1} of the archive is not a regular file with a plain name. Pack it again."
            )
    names = [member.filename for member in found]
    if len({name.casefold() for name in names}) < len(names):
        raise ArtefactError(f"{path} contains two files of the same name. Pack the classifier again.")
    return dict(zip(names, found, strict=True))


def digest_classifier(place: Path | str) -> str:
    """Returns the digest of the description in a classifier's folder or archive; see `digest_description`."""
    if not Path(place).is_file():
        return digest_description(place)
    with _explaining_damage(place), zipfile.ZipFile(place) as archive:
        members = check_members(place, archive)
        return hashlib.sha256(_read_member(place, archive, members, DESCRIPTION)).hexdigest()


def peek_description(place: Path | str) -> dict[str, Any]:
    """Reads the description in a classifier's folder or archive without checking it or reading other files.

    Returns:
        dict, unchecked.

    Raises:
        ArtefactError: if the description is missing, too large or not JSON.
    """
    if not Path(place).is_file():
        return read_json(Path(place) / DESCRIPTION)
    with _explaining_damage(place), zipfile.ZipFile(place) as archive:
        return _read_description(place, archive, check_members(place, archive))


def read_text(place: Path | str, name: str) -> str:
    """Reads a text file from a classifier's folder or archive, and checks its digest.

    Args:
        place: path of the folder or archive.
        name: str. Name of the file, as listed in the description.

    Returns:
        str, the text.

    Raises:
        ArtefactError: if the file is missing, altered, too large or not UTF-8.
    """
    description = peek_description(place)
    files = description.get("files") if isinstance(description, dict) else None
    digest = files.get(name) if isinstance(files, dict) else None
    if digest is None:
        raise ArtefactError(f"{place} has no {name}. Train or pack the classifier again.")
    if Path(place).is_file():
        with _explaining_damage(place), zipfile.ZipFile(place) as archive:
            data = _read_member(place, archive, check_members(place, archive), name)
    else:
        data = _read_file(Path(place, name))
    if hashlib.sha256(data).hexdigest() != digest:
        raise ArtefactError(
            f"{place}: {name} was altered after it was saved; its digest differs. Pack or train the classifier again."
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ArtefactError(f"{place}: {name} is not UTF-8 text.") from None


def _read_file(path):
    if not path.is_file():
        raise ArtefactError(f"{path} is missing. Train the classifier again.")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ArtefactError(f"{path} is larger than {MAX_JSON_BYTES} bytes. Train the classifier again.")
    return path.read_bytes()


def _list_files(path, archive, members):
    listed = _read_description(path, archive, members).get("files")
    if not isinstance(listed, dict):
        raise ArtefactError(f"{path}: {DESCRIPTION} is not a description that `kmm model pack` wrote.")
    return list(listed)


def _read_description(path, archive, members):
    data = _read_member(path, archive, members, DESCRIPTION)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ArtefactError(f"{path}: {DESCRIPTION} is not a description that `kmm model pack` wrote.")
    return found


def _read_member(path, archive, members, name):
    if name not in members or members[name].file_size > MAX_JSON_BYTES:
        raise ArtefactError(
            f"{path} is not an archive of a classifier: {name} is missing or larger than {MAX_JSON_BYTES} bytes."
        )
    with archive.open(members[name]) as file:
        return file.read(MAX_JSON_BYTES)


def _unpack(archive, member, target):
    """Writes a member to a file; fails if it has another size than it declares."""
    left = member.file_size
    with archive.open(member) as source, open(target, "wb") as file:
        while left and (chunk := source.read(min(left, CHUNK_BYTES))):
            file.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            raise zipfile.BadZipFile("a member has another size than it declares")


@contextlib.contextmanager
def _explaining_damage(path):
    try:
        yield
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:  # an error of the disk
            raise
        raise ArtefactError(
            f"{path} is neither a classifier's folder nor an archive that `kmm model pack` wrote, or it is damaged."
        ) from None
