"""A saved classifier in one file, for a colleague: a zip archive whose members are checked before any is read."""

import contextlib
import hashlib
import json
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path

from kmm.errors import ArtefactError
from kmm.storage.classifier_folder import DESCRIPTION, MAX_JSON_BYTES, digest_description, read_json
from kmm.storage.files import replace_file

MOST_MEMBERS = 1000
MOST_BYTES = 16 * 2**30  # of all members together, unpacked
MOST_GROWTH = 200  # times the size of the archive that its members may become, besides SPARE_BYTES
SPARE_BYTES = 2**26
CHUNK_BYTES = 2**20
_PART = r"(?!\.{1,2}(?:/|$))[\w.-]{1,100}"
_NAME = re.compile(rf"(?:{_PART}/){{0,2}}{_PART}", re.ASCII)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


def write_archive(folder, path):
    """Writes the folder of a saved classifier as an archive, whole or not at all.

    Args:
        folder: Path of a saved classifier; only the files of its description are taken.
        path: Path of the archive. A file that is there is replaced.

    Raises:
        OSError: if the archive cannot be written.
    """
    names = [DESCRIPTION, *sorted(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["files"])]
    with replace_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            member = zipfile.ZipInfo(name)  # of no date and no owner
            member.compress_type = zipfile.ZIP_STORED if name.endswith(".keras") else zipfile.ZIP_DEFLATED
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            with open(folder / name, "rb") as file, archive.open(member, "w", force_zip64=True) as target:
                shutil.copyfileobj(file, target, CHUNK_BYTES)


@contextlib.contextmanager
def open_classifier(place):
    """Hands out the folder of a saved classifier, of an archive too.

    Args:
        place: path of a folder, or of an archive that `kmm model pack` wrote.

    Yields:
        Path of a folder. That of an archive lies in a temporary place and is gone after the block.

    Raises:
        ArtefactError: if an archive is damaged, or holds other members than those of a classifier.

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
        except ArtefactError as error:  # whoever gave the archive does not know the temporary folder
            raise ArtefactError(str(error).replace(str(folder), str(place))) from None


def unpack_archive(path, folder):
    """Unpacks an archive of a saved classifier.

    Its members must be `classifier.json` and the files that it lists, no more and no others: regular files with plain
    relative names, each once, of sizes that fit the archive.

    Args:
        path: Path of the archive.
        folder: Path of the folder to make.

    Raises:
        ArtefactError: if the archive is not so. Nothing is written outside `folder`.
    """
    with _telling(path), zipfile.ZipFile(path) as archive:
        members = check_members(path, archive)
        if DESCRIPTION not in members:
            raise ArtefactError(f"{path}: expected an archive that `kmm model pack` wrote. {DESCRIPTION} is missing.")
        listed = _list_files(path, archive, members)
        if set(members) != {DESCRIPTION, *listed}:
            raise ArtefactError(f"{path}: expected the files that its {DESCRIPTION} lists, and no others.")
        for name, member in members.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _unpack(archive, member, target)


def check_members(path, archive, *, most_bytes=MOST_BYTES):
    """Checks the names and the sizes of an archive's members, before any of them is unpacked.

    Args:
        path: of the archive, for the error.
        archive: `zipfile.ZipFile`.
        most_bytes: int. Bytes of all members together, unpacked.

    Returns:
        dict of name to `zipfile.ZipInfo`.

    Raises:
        ArtefactError: if a name leads out of a folder, comes twice or is no plain one; if a member is no regular file,
            is encrypted or is packed in another way than stored or deflated; if there are too many or too large ones.
    """
    found, size = archive.infolist(), Path(path).stat().st_size
    most_bytes = min(most_bytes, MOST_GROWTH * size + SPARE_BYTES)
    if len(found) > MOST_MEMBERS:
        raise ArtefactError(f"{path}: expected at most {MOST_MEMBERS} files in the archive. Found {len(found)}.")
    if sum(member.file_size for member in found) > most_bytes:
        raise ArtefactError(f"{path}: expected at most {most_bytes} bytes in the archive. It declares more.")
    for number, member in enumerate(found):
        kind = stat.S_IFMT(member.external_attr >> 16)
        plain = _NAME.fullmatch(member.orig_filename) and kind in (0, stat.S_IFREG) and not member.flag_bits & 1
        if not plain or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArtefactError(
                f"{path}: expected regular files with plain names in the archive. Entry {number + 1} is none."
            )
    names = [member.filename for member in found]
    if len({name.casefold() for name in names}) < len(names):
        raise ArtefactError(f"{path}: expected each file once in the archive. Found a name twice.")
    return dict(zip(names, found, strict=True))


def digest_classifier(place):
    """The digest of a saved classifier's description, of a folder or an archive; see `digest_description`."""
    if not Path(place).is_file():
        return digest_description(place)
    with _telling(place), zipfile.ZipFile(place) as archive:
        members = check_members(place, archive)
        return hashlib.sha256(_read_member(place, archive, members, DESCRIPTION)).hexdigest()


def peek_description(place):
    """Reads the description of a saved classifier, of a folder or an archive, without a look at its other files.

    Returns:
        dict; nothing in it was checked.

    Raises:
        ArtefactError: if it is missing, too large or not JSON.
    """
    if not Path(place).is_file():
        return read_json(Path(place) / DESCRIPTION)
    with _telling(place), zipfile.ZipFile(place) as archive:
        return _read_description(place, archive, check_members(place, archive))


def read_text(place, name):
    """Reads a text file of a saved classifier, of a folder or an archive, and compares it with its digest.

    Args:
        place: path of the folder or archive.
        name: str. Name of the file in it, as the description lists it.

    Returns:
        str.

    Raises:
        ArtefactError: if the file is missing, altered, too large or not UTF-8.
    """
    description = peek_description(place)
    files = description.get("files") if isinstance(description, dict) else None
    digest = files.get(name) if isinstance(files, dict) else None
    if digest is None:
        raise ArtefactError(f"{place} has no {name}. Train or pack the classifier again.")
    if Path(place).is_file():
        with _telling(place), zipfile.ZipFile(place) as archive:
            data = _read_member(place, archive, check_members(place, archive), name)
    else:
        data = _read_file(Path(place, name))
    if hashlib.sha256(data).hexdigest() != digest:
        raise ArtefactError(f"{place}: {name} was altered since it was saved: its digest differs.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ArtefactError(f"{place}: {name} is not UTF-8 text.") from None


def _read_file(path):
    if not path.is_file():
        raise ArtefactError(f"{path} is missing. Train the classifier again.")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ArtefactError(f"{path} has more than {MAX_JSON_BYTES} bytes.")
    return path.read_bytes()


def _list_files(path, archive, members):
    listed = _read_description(path, archive, members).get("files")
    if not isinstance(listed, dict):
        raise ArtefactError(f"{path}: expected a {DESCRIPTION} as `kmm model pack` writes it.")
    return list(listed)


def _read_description(path, archive, members):
    data = _read_member(path, archive, members, DESCRIPTION)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ArtefactError(f"{path}: expected a {DESCRIPTION} as `kmm model pack` writes it.")
    return found


def _read_member(path, archive, members, name):
    if name not in members or members[name].file_size > MAX_JSON_BYTES:
        raise ArtefactError(f"{path}: expected an archive of a classifier with a {name} of a sensible size.")
    with archive.open(members[name]) as file:
        return file.read(MAX_JSON_BYTES)


def _unpack(archive, member, target):
    """Writes a member, never more of it than it declares."""
    left = member.file_size
    with archive.open(member) as source, open(target, "wb") as file:
        while left and (chunk := source.read(min(left, CHUNK_BYTES))):
            file.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            raise zipfile.BadZipFile("a member is not of the size that it declares")


@contextlib.contextmanager
def _telling(path):
    try:
        yield
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            raise
        raise ArtefactError(
            f"{path}: expected a classifier's folder, or an archive that `kmm model pack` wrote. It is neither."
        ) from None
