"""Recognise studies that a classifier was trained or calibrated on, before it is evaluated."""

import contextlib
import hashlib
import typing
from collections.abc import Iterable, Sequence
from functools import partial

from kmm.batches import TextPreparation
from kmm.data.study import Study
from kmm.errors import ImageError
from kmm.image.decoding import decode_ahead
from kmm.image.film_identity import digest_film, sketch_film
from kmm.image.source import digest_source, read_source
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


def record_print(study: Study, text: str = "", *, film: bool = False) -> int | None:
    """Returns the fingerprint of a study's record: patient, id and report body.

    Many reports have the same body and many hospitals use the same ids, so neither alone identifies a study.

    Args:
        study: `Study`.
        text: str, the part of the report that the classifier reads. It replaces an empty body if there is no film.
        film: bool. Whether the study has a film that the classifier reads.

    Returns:
        int below 2**64, or None if the study has no text to identify it.

    Example:
        >>> from kmm.data.study import Report, Study
        >>> one, other = (Study("1", "1", report=Report(findings=text)) for text in ("Clear.", "A mass."))
        >>> record_print(one) == record_print(other), record_print(Study("1", "1"))
        (False, None)
    """
    body = study.report.body if study.report else ""
    identity = body or ("" if film else text)
    return _hash("\x1e".join(["study", study.id, study.patient, identity])) if identity else None


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
    records: dict[int, int] = {}
    for study, digest, sketch in zip(studies, digests, sketches, strict=True):
        film = study.frontal if digest else None
        prints |= film_prints(file_digest=digest, pixel_digest=film.pixel_digest if film else None)
        record = record_print(study, text.text(study) if text else "", film=bool(digest))
        if record is not None and digest:
            records[record] = sketch
        elif record is not None:
            prints.add(record)
    return SeenStudies.gather(prints, records)


def part_studies(
    classifier: "Classifier", studies: Sequence[Study], *, progress: Progress | None = None
) -> dict[str, list[Study]]:
    """Sorts studies by the part that they had when the classifier was trained; unseen studies are test.

    A study counts as trained on if there is any evidence for it: the bytes of its film, the pixels of its film, or
    patient, id and report body together. Hospitals share ids and report templates, so patient, id and body do not count
    if both studies have a film and the films look clearly different. A resized or compressed copy of a film does not
    look different in this sense.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`.
        progress: `kmm.progress.Progress`.

    Returns:
        dict with `"train"`, `"validation"` and `"test"`: lists of `Study`.
    """
    parts: dict[str, list[Study]] = {"train": [], "validation": [], "test": []}
    found = decode_ahead(partial(find_part, classifier), studies, size=classifier.batches.film_bytes)
    with (progress or Progress()).step("Comparing with training", len(studies)) as advance, contextlib.closing(found):
        for study, part in found:
            parts[part].append(study)
            advance()
    return parts


def find_part(classifier: "Classifier", study: Study) -> str:
    """Returns the part that a study had, `"test"` if the classifier never saw it; see `part_studies`.

    A film is decoded only if its bytes and the record do not already show that the study was trained on. A film that
    cannot be read is ignored.
    """
    if not classifier.seen:
        return "test"
    film, preparation = study.frontal, classifier.batches.image
    text, digest = classifier.batches.text, ""
    if film and preparation:
        with contextlib.suppress(OSError, ImageError):  # such a study is set aside when it is predicted
            digest = digest_source(film)
    record = record_print(study, text.text(study) if text else "", film=bool(digest))
    prints = film_prints(file_digest=digest) | ({record} if record is not None else set())
    part = _look_up(classifier.seen, prints, None if digest else record)
    if part != "train" and film and preparation and digest:
        with contextlib.suppress(ImageError):
            pixels = read_source(film)
            prints |= film_prints(pixel_digest=digest_film(pixels))
            part = _look_up(classifier.seen, prints, record, sketch_film(preparation.apply(pixels)))
    return part


def _look_up(seen, prints, record, sketch=None):
    """Returns the first part with one of the fingerprints, or with the record and a film similar to the sketch."""
    for part in SEEN_PARTS:
        known = seen.get(part)
        if known and (known.holds(prints) or (record is not None and known.holds_record(record, sketch=sketch))):
            return part
    return "test"


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
