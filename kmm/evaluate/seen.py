"""Which studies a classifier has seen: they are looked up before it is measured."""

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from kmm.errors import ImageError
from kmm.film_identity import digest_film, sketch_film
from kmm.image.read import read_image
from kmm.progress import Progress
from kmm.storage.classifier_folder import digest_file
from kmm.storage.seen_studies import SEEN_PARTS, SeenStudies

AT_ONCE = 64


def film_prints(*, file_digest="", pixel_digest=None):
    """Prints of a film.

    Args:
        file_digest: str, SHA-256 of the bytes of its file, or nothing. It holds whatever decodes the file.
        pixel_digest: str from `kmm.film_identity.digest_film`, or None. It holds whatever the format of the file.

    Returns:
        set of int below 2**64.

    Example:
        >>> len(film_prints(file_digest="ab", pixel_digest="cd")), film_prints()
        (2, set())
    """
    keys = [f"film {file_digest}"] if file_digest else []
    return {_hash(key) for key in (*keys, *([f"pixels {pixel_digest}"] if pixel_digest else []))}


def record_print(study, text="", *, film=False):
    """Print of a study without its film: of patient, id and report body.

    Bodies are shared by many reports and ids by many hospitals, so neither alone identifies a study.

    Args:
        study: `Study`.
        text: str, what the classifier reads of the report. It takes the place of a body, where there is no film.
        film: bool. Whether the study has a film that the classifier reads.

    Returns:
        int below 2**64, or None where the study has nothing to tell it by.

    Example:
        >>> from kmm.data.study import Report, Study
        >>> one, other = (Study("1", "1", report=Report(findings=text)) for text in ("Clear.", "A mass."))
        >>> record_print(one) == record_print(other), record_print(Study("1", "1"))
        (False, None)
    """
    body = study.report.body if study.report else ""
    told_by = body or ("" if film else text)
    return _hash("\x1e".join(["study", study.id, study.patient, told_by])) if told_by else None


def gather_seen(studies, digests, sketches, text=None):
    """Gathers what is kept of the studies of one part.

    Args:
        studies: sequence of `Study`, with their `pixel_digest`.
        digests: sequence of str: SHA-256 of each film's file; empty where there is none.
        sketches: sequence of int: `kmm.film_identity.sketch_film` of each film; not read where there is none.
        text: `kmm.batches.TextPreparation`, or None for a classifier of films alone.

    Returns:
        `SeenStudies`.
    """
    prints, records = set(), {}
    for study, digest, sketch in zip(studies, digests, sketches, strict=True):
        prints |= film_prints(file_digest=digest, pixel_digest=study.frontal.pixel_digest if digest else None)
        record = record_print(study, text.text(study) if text else "", film=bool(digest))
        if record is not None and digest:
            records[record] = sketch
        elif record is not None:
            prints.add(record)
    return SeenStudies.gather(prints, records)


def part_studies(classifier, studies, *, progress=None):
    """Sorts studies by the part that they had when the classifier was trained; studies it never saw are test.

    A study counts as trained on if any evidence says so: the bytes of its film, the pixels of its film, or patient, id
    and report body together. Patient, id and body are no evidence where both have a film and the films differ at a
    glance: hospitals share ids and report templates. A resized or compressed copy of a film does not differ so.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`.
        progress: `kmm.progress.Progress`.

    Returns:
        dict with `"train"`, `"validation"` and `"test"`: lists of `Study`.
    """
    parts = {"train": [], "validation": [], "test": []}
    find = partial(find_part, classifier)
    with (
        (progress or Progress()).step("Comparing with training", len(studies)) as advance,
        ThreadPoolExecutor() as pool,
    ):
        for start in range(0, len(studies), AT_ONCE):
            chunk = studies[start : start + AT_ONCE]
            for study, part in zip(chunk, pool.map(find, chunk), strict=True):
                parts[part].append(study)
            advance(len(chunk))
    return parts


def find_part(classifier, study):
    """The part that one study had, `"test"` where the classifier never saw it; see `part_studies`.

    A film is decoded only where its bytes and the record do not already say that the study was trained on. A film that
    cannot be read says nothing.
    """
    film, preparation = study.frontal, classifier.batches.image
    text, digest = classifier.batches.text, ""
    if film and preparation and film.path.is_file():
        with contextlib.suppress(OSError):  # such a study is set aside where it is predicted
            digest = digest_file(film.path)
    record = record_print(study, text.text(study) if text else "", film=bool(digest))
    prints = film_prints(file_digest=digest) | ({record} - {None})
    part = _look_up(classifier.seen, prints, None if digest else record)
    if part != "train" and digest:
        with contextlib.suppress(ImageError):
            pixels = read_image(film.path)
            prints |= film_prints(pixel_digest=digest_film(pixels))
            part = _look_up(classifier.seen, prints, record, sketch_film(preparation.apply(pixels)))
    return part


def _look_up(seen, prints, record, sketch=None):
    """The first part that holds one of the prints, or the record with a film like that of the sketch."""
    for part in SEEN_PARTS:
        known = seen.get(part)
        if known and (known.holds(prints) or (record is not None and known.holds_record(record, sketch=sketch))):
            return part
    return "test"


def _hash(key):
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
