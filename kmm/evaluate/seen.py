"""Recognise studies that a classifier was trained or calibrated on, before it is evaluated."""

import contextlib
import hashlib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from kmm.batches import TextPreparation
from kmm.data.study import Study
from kmm.errors import ImageError
from kmm.image.decoding import decode_ahead
from kmm.image.film_identity import digest_film, sketch_film
from kmm.image.prepare import PreparedFilm
from kmm.image.read import require_content
from kmm.image.source import FilmContent
from kmm.progress import Progress
from kmm.storage.seen_studies import SEEN_PARTS, SeenStudies

if typing.TYPE_CHECKING:
    from kmm.classifier import Classifier


def film_prints(*, file_digest: str = "", pixel_digest: str | None = None) -> set[int]:
    """Returns the fingerprints of a film.

    Args:
        file_digest: str, SHA-256 of the bytes of its file, or empty. It does not depend on the decoder.
        pixel_digest: str from `kmm.image.film_identity.digest_film`, or None. It does not depend on the file format.

    Returns:
        set of int below 2**64.

    Example:
        >>> len(film_prints(file_digest="ab", pixel_digest="cd")), film_prints()
        (2, set())
    """
    keys = [f"film {file_digest}"] if file_digest else []
    return {_hash(key) for key in (*keys, *([f"pixels {pixel_digest}"] if pixel_digest else []))}


def record_prints(study: Study, text: str = "", *, film: bool = False) -> dict[str, int]:
    """Returns the fingerprints of a study's record: its report body with what the data say of whose it is.

    Many reports have the same body and many hospitals use the same ids, so neither alone identifies a study. The number
    of a row identifies none at all: it changes with the order of the table.

    Args:
        study: `Study`.
        text: str, the part of the report that the classifier reads. It replaces an empty body if there is no film.
        film: bool. Whether the study has a film that the classifier reads.

    Returns:
        dict of kind to int below 2**64, empty if the study has no text to identify it: `study` (id, patient and body),
        `patient` (patient and body, unless the patient was made up), and the body alone: as `report`, which is kept of
        a study that has neither id nor patient in the data, and as `body`, by which such a study is looked up. Only
        FINDINGS and IMPRESSION make a `body`, as in a split.

    Example:
        >>> from kmm.data.study import Report, Study
        >>> one, other = (Study(id, "a", report=Report(findings="Clear.")) for id in "12")
        >>> [kind for kind, known in record_prints(one).items() if known == record_prints(other)[kind]]
        ['report', 'patient', 'body']
        >>> record_prints(Study("1", "1"))
        {}
    """
    body = study.report.body if study.report else ""
    identity = body or ("" if film else text)
    if not identity:
        return {}
    known = study.knows_patient
    keys = {"study": [study.id, study.patient if known else study.id], "report": []}
    keys |= {"patient": [study.patient]} if known else {}
    keys |= {"body": []} if body else {}
    return {kind: _hash("\x1e".join([kind, *key, identity])) for kind, key in keys.items()}


def _kept_records(study, text, *, film):
    """Returns the fingerprints that are kept of a study. The number of a row says nothing."""
    found = record_prints(study, text, film=film)
    left_out = {"study" if "id" in study.made_up else "", "body" if _is_nameless(study) else "report"}
    return {value for kind, value in found.items() if kind not in left_out}


def _asked_records(study, text, *, film):
    """Returns the fingerprints by which a study is looked up. Two named studies may share a body, so that the body of a
    named study is only compared with those of nameless ones."""
    found = record_prints(study, text, film=film)
    return {value for kind, value in found.items() if kind != "body" or _is_nameless(study)}


def _is_nameless(study):
    """Returns whether the data have neither the id nor the patient of a study."""
    return "id" in study.made_up and not study.knows_patient


def gather_seen(
    studies: Iterable[Study], digests: Iterable[str], sketches: Iterable[int], text: TextPreparation | None = None
) -> SeenStudies:
    """Gathers the fingerprints of the studies of one part.

    Args:
        studies: sequence of `Study`, with their `pixel_digest`.
        digests: sequence of str: SHA-256 of each film's file; empty if there is no film.
        sketches: sequence of int: `kmm.image.film_identity.sketch_film` of each film; ignored if there is no film.
        text: `kmm.batches.TextPreparation`, or None for a classifier of films alone.

    Returns:
        `SeenStudies`.
    """
    prints: set[int] = set()
    records: set[tuple[int, int]] = set()
    for study, digest, sketch in zip(studies, digests, sketches, strict=True):
        film = study.frontal if digest else None
        prints |= film_prints(file_digest=digest, pixel_digest=film.pixel_digest if film else None)
        found = _kept_records(study, text.text(study) if text else "", film=bool(digest))
        if digest:
            records |= {(record, sketch) for record in found}
        else:
            prints |= found
    return SeenStudies.gather(prints, records)


def part_studies(
    classifier: "Classifier", studies: Sequence[Study], *, progress: Progress | None = None
) -> dict[str, list[Study]]:
    """Sorts studies by the part that they had when the classifier was trained; unseen studies are test.

    A study counts as trained on if there is any evidence for it: the bytes of its film, the pixels of its film, its
    report body with its id and patient or with its patient alone, or the body alone if either of the two studies has
    neither id nor patient in the data. Hospitals share ids and report templates, so the report does not count if both
    studies have a film and the films look clearly different. A resized or compressed copy of a film does not look
    different in this sense.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`.
        progress: `kmm.progress.Progress`.

    Returns:
        dict with `"train"`, `"validation"` and `"test"`: lists of `Study`.
    """
    parts: dict[str, list[Study]] = {"train": [], "validation": [], "test": []}
    if not classifier.seen:
        return parts | {"test": list(studies)}
    found = decode_ahead(partial(recognise_study, classifier), studies, size=classifier.batches.film_bytes)
    with (progress or Progress()).step("Comparing with training", len(studies)) as advance, contextlib.closing(found):
        for study, recognised in found:
            parts[recognised.part].append(study)
            advance()
    return parts


def find_part(
    seen: Mapping[str, SeenStudies], study: Study, *, text: str = "", file_digest: str = "", sketch: int = 0
) -> str:
    """Finds the part that a study had in some training, `"test"` if it was not seen; see `part_studies`.

    Args:
        seen: mapping of part to `SeenStudies`.
        study: `Study`, with the `pixel_digest` of its film.
        text: str, the part of its report that is read.
        file_digest: str, SHA-256 of its film's file; empty if there is no film.
        sketch: int, `kmm.image.film_identity.sketch_film` of its film; ignored without one.
    """
    records = _asked_records(study, text, film=bool(file_digest))
    film = study.frontal if file_digest else None
    prints = film_prints(file_digest=file_digest, pixel_digest=film.pixel_digest if film else None) | records
    return _look_up(seen, prints, records, sketch if file_digest else None)


@dataclass(frozen=True)
class RecognisedStudy:
    """What `recognise_study` found.

    Attributes:
        part: `"train"`, `"validation"` or `"test"`.
        film: `PreparedFilm`; None if the study has none that the classifier reads, if it cannot be used, or if it was
            not decoded.
        error: `ImageError` that says why the film cannot be used; None for others.
    """

    part: str
    film: PreparedFilm | None = None
    error: ImageError | None = None


def recognise_study(classifier: "Classifier", study: Study) -> RecognisedStudy:
    """Finds the part that a study had, `"test"` if the classifier never saw it; see `part_studies`.

    The film's file is read once. It is decoded only if its bytes and the record do not already show that the study was
    trained on. A film that cannot be read does not count as evidence.
    """
    text, preparation, film = classifier.batches.text, classifier.batches.image, study.frontal
    content, digest, error = _read_content(film if preparation else None)
    records = _asked_records(study, text.text(study) if text else "", film=bool(digest))
    prints = film_prints(file_digest=digest) | records
    part = _look_up(classifier.seen, prints, set() if digest else records)
    if part == "train" or film is None or preparation is None or content is None:
        return RecognisedStudy(part, error=error)
    try:
        levels = content.decode()
        square = preparation.apply(levels)
        if classifier.seen:
            prints |= film_prints(pixel_digest=digest_film(levels))
            part = _look_up(classifier.seen, prints, records, sketch_film(square))
        require_content(levels, str(film.path))
    except ImageError as caught:
        return RecognisedStudy(part, error=caught)
    return RecognisedStudy(part, PreparedFilm(square, levels.shape))


def _read_content(film):
    """Returns content and digest of a film's file, and the error if it cannot be read."""
    try:
        content = FilmContent(film) if film else None
        return content, content.digest if content else "", None
    except ImageError as error:
        return None, "", error


def _look_up(seen, prints, records, sketch=None) -> str:
    """Returns the first part with one of the fingerprints, or with a record and a film similar to the sketch."""
    for part in SEEN_PARTS:
        known = seen.get(part)
        if known and (known.holds(prints) or any(known.holds_record(record, sketch=sketch) for record in records)):
            return part
    return "test"


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
