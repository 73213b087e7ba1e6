"""Read Open-i (Indiana University) as published: report XML in an archive or a folder, with PNG or DICOM films."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from kmm.data.film_files import walk_files
from kmm.data.names import IMAGE_SUFFIXES, find_image_id, is_inside, is_safe_id, make_printable, sort_key
from kmm.data.study import SECTIONS, Collection, ImageFile, Problem, Report, Study
from kmm.errors import InputError, ReportError
from kmm.storage.file_kinds import is_dicom

REPORT_SOURCES = ("NLMCXR_reports.tgz", "ecgen-radiology", "ecgen/ecgen-radiology")
IMAGE_FOLDERS = ("NLMCXR_dcm", "NLMCXR_png", "images")
MAX_XML_BYTES = 1 << 23
MAX_ARCHIVE_BYTES = 1 << 30


def read_openi(folder: Path | str) -> Collection:
    """Reads the original layout: one XML per report, in a folder or a streamed archive, and films if there are any.

    Args:
        folder: contains `NLMCXR_reports.tgz`, `ecgen-radiology/` or `ecgen/ecgen-radiology/`; films, if any, in
            `NLMCXR_dcm/`, `NLMCXR_png/` or `images/`, matched by `find_image_id`. Of several, the folder with most of
            the images that the reports name is read.

    Returns:
        `Collection`, views not yet decided. A study's id and patient are the report number. Its images are those that
        the XML names, sorted by id, including those whose file is missing; empty if there is no folder of films. A
        report with four empty sections is None. An XML that is malformed, declares entities, or is larger than 8 MiB is
        a `Problem`.

    Raises:
        InputError: if the folder has no reports, or the archive is damaged.
    """
    folder = Path(folder)
    source = find_reports(folder)
    if source is None:
        raise InputError(f"{folder}: expected reports in one of {', '.join(REPORT_SOURCES)}")
    problems: list[Problem] = []
    parsed: dict[str, tuple[Study, list[str]]] = {}
    for name, data, reason in (_stream_folder if source.is_dir() else _stream_archive)(source):
        try:
            if reason:
                raise ReportError(reason)
            study, image_ids = parse_report(data)
            if study.id in parsed:
                raise ReportError("an earlier file has the report with this number")
            parsed[study.id] = study, sorted(image_ids)
        except ReportError as error:
            problems.append(Problem(make_printable(name), str(error)))
    films, files = _choose_films(folder, [image_id for _, ids in parsed.values() for image_id in ids], problems)
    studies = [
        replace(study, images=tuple(_find_image(films, files, image_id) for image_id in ids) if films else ())
        for study, ids in parsed.values()
    ]
    layout = f"Open-i original ({source.relative_to(folder)}, {f'films in {films.name}' if films else 'no films'})"
    ordered = sorted(studies, key=lambda study: sort_key(study.id))
    return Collection(folder, layout, tuple(ordered), tuple(problems))


def _choose_films(
    folder: Path, image_ids: Sequence[str], problems: list[Problem]
) -> tuple[Path | None, dict[str, Path]]:
    """Returns the folder with most of the images, and its files by image id; None and an empty dict without one."""
    found = []
    for place in (folder / name for name in IMAGE_FOLDERS):
        if place.is_dir():
            of_place: list[Problem] = []
            files = index_images(place, of_place)
            found.append((sum(image_id in files for image_id in image_ids), place, files, of_place))
    if not found:
        return None, {}
    _, films, files, of_films = max(found, key=lambda one: one[0])
    problems += of_films
    return films, files


def find_reports(folder: Path | str) -> Path | None:
    """Returns the path of the original reports in a folder, archive first, or None."""
    return next((path for name in REPORT_SOURCES if (path := Path(folder, name)).exists()), None)


def parse_report(data: bytes) -> tuple[Study, tuple[str, ...]]:
    """Reads one Open-i report.

    Args:
        data: bytes of the XML.

    Returns:
        `Study` without images, and the tuple of its image ids, as `"1_IM-0001-3001"`.

    Raises:
        ReportError: if the XML is not a valid report; it gives the reason only, and the caller adds the file.

    Example:
        >>> study, image_ids = parse_report(
        ...     b'<eCitation><uId id="CXR7"/><Abstract><AbstractText Label="FINDINGS">Clear.</AbstractText></Abstract>'
        ...     b'<MeSH><major>normal</major></MeSH><parentImage id="CXR7_IM-0001-1001"/></eCitation>')
        >>> study.id, study.report.findings, study.mesh_major, image_ids
        ('7', 'Clear.', ('normal',), ('7_IM-0001-1001',))
    """
    try:
        root = defusedxml.ElementTree.fromstring(data)
    except DefusedXmlException:
        raise ReportError("declares XML entities or external references, which are not allowed") from None
    except (ParseError, ValueError, LookupError) as error:
        raise ReportError(f"not well-formed XML: {error}") from None
    uid = root.find("uId") if root.tag == "eCitation" else None
    study_id = uid.get("id", "").removeprefix("CXR") if uid is not None else ""
    if not is_safe_id(study_id):
        raise ReportError('expected an <eCitation> with <uId id="CXR...">')
    texts = dict.fromkeys(SECTIONS, "")
    for element in root.iter("AbstractText"):
        name = element.get("Label", "").lower()
        if name in texts:
            texts[name] = f"{texts[name]} {''.join(element.itertext()).strip()}".strip()
    major, automatic = (
        tuple(text for element in root.findall(f"MeSH/{kind}") if (text := (element.text or "").strip()))
        for kind in ("major", "automatic")
    )
    study = Study(
        id=study_id,
        patient=study_id,
        made_up=frozenset({"patient"}),  # the collection has one study per patient
        report=Report(**texts) if any(texts.values()) else None,
        mesh_major=major,
        mesh_automatic=automatic,
    )
    return study, tuple(find_image_id(image.get("id", "")) for image in root.iter("parentImage"))


def index_images(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Finds the image files in a folder and its subfolders.

    Image files are files with the suffix of an image, and DICOM files by content. Hidden files and files that kmm wrote
    are skipped.

    Args:
        folder: Path.
        problems: list to which a `Problem` is added for each link that leads out of the folder and each further file of
            an image.

    Returns:
        dict of image id (`find_image_id`) to Path.
    """
    files: dict[str, Path] = {}
    for path in walk_files(folder):
        if not path.name.lower().endswith(IMAGE_SUFFIXES) and not is_dicom(path):
            continue
        name = make_printable(path.name)
        if path.is_symlink() and not is_inside(folder, path):
            problems.append(Problem(name, "the file is a link that leads out of the folder"))
        elif files.setdefault(find_image_id(path.name), path) != path:
            problems.append(Problem(name, "another file has the image with this id"))
    return files


class _BoundedReader:
    """Reads a stream up to a maximum number of bytes, so that an archive cannot unpack without end."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self.stream = stream
        self.left = limit

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise InputError(f"the archive unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes")
        return data


def _stream_archive(path):
    """Yields `(name, bytes, reason to reject)` for each regular *.xml member; nothing is written to disk."""
    try:
        with (
            gzip.open(path) as unpacked,
            tarfile.open(fileobj=_BoundedReader(unpacked, MAX_ARCHIVE_BYTES), mode="r|") as archive,
        ):
            for member in archive:
                if member.isreg() and member.name.lower().endswith(".xml"):
                    reason = _refuse_size(member.size)
                    yield member.name, b"" if reason else archive.extractfile(member).read(), reason
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InputError(
            f"{path}: expected a whole .tgz of report XML; the file is damaged or has another format"
        ) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _stream_folder(folder: Path) -> Iterator[tuple[str, bytes, str]]:
    for path in sorted(folder.glob("*.xml"), key=lambda path: sort_key(path.name)):
        data, reason = b"", "expected a plain file inside the folder"
        try:
            if path.is_file() and is_inside(folder, path):
                reason = _refuse_size(path.stat().st_size)
                data = b"" if reason else path.read_bytes()
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        yield path.name, data, reason


def _refuse_size(size: int) -> str:
    return "" if size <= MAX_XML_BYTES else f"expected at most {MAX_XML_BYTES:,} bytes. Received: {size:,}"


def _find_image(films: Path, files: Mapping[str, Path], image_id: str) -> ImageFile:
    path = files.get(image_id)
    if path is None:
        return ImageFile(films / make_printable(image_id).replace("/", "?"))
    return ImageFile(path)
