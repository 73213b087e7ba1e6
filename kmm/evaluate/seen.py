"""Which studies a classifier has seen: their prints are saved with it, and looked up before it is measured."""

import contextlib
import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from kmm.artefact import digest_file
from kmm.classifier import PRINT, SEEN_PARTS
from kmm.errors import ImageError
from kmm.identity import digest_film
from kmm.image.read import read_image
from kmm.progress import Progress

AT_ONCE = 64


def film_prints(*, file_digest="", pixel_digest=None):
    """Prints of a film.

    Args:
        file_digest: str, SHA-256 of the bytes of its file, or nothing. It holds whatever decodes the file.
        pixel_digest: str from `kmm.identity.digest_film`, or None. It holds whatever the format of the file.

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
    told_by = _told_by(study, text, film)
    return _hash("\x1e".join(["study", study.id, study.patient, told_by])) if told_by else None


def template_print(study):
    """As `record_print`, of a study whose body is a template that other studies share.

    With two different films, an equal id, patient and template do not make two studies one: this print is compared
    with those of studies without a film alone.
    """
    body = study.report.body if study.report else ""
    return _hash("\x1e".join(["template", study.id, study.patient, body])) if body else None


def gather_prints(studies, digests, text=None):
    """Prints of the studies of a part, as they are saved with a classifier.

    Args:
        studies: dict of part to list of `Study`, with their `pixel_digest`.
        digests: dict of part to list of str: SHA-256 of each film's file; empty where there is none.
        text: `kmm.batches.TextPreparation`, or None for a classifier of films alone.

    Returns:
        dict of `"train"` and `"validation"` to sorted uint64 `(k,)`.
    """
    bodies = Counter(study.report.body for part in studies.values() for study in part if study.report)
    found = {}
    for part in SEEN_PARTS:
        prints = set()
        for study, digest in zip(studies[part], digests[part], strict=True):
            prints |= film_prints(file_digest=digest, pixel_digest=study.frontal.pixel_digest if digest else None)
            shared = digest and study.report is not None and bodies[study.report.body] > 1
            said = text.text(study) if text else ""
            prints.add(template_print(study) if shared else record_print(study, said, film=bool(digest)))
        found[part] = np.array(sorted(prints - {None}), PRINT)
    return found


def part_studies(classifier, studies, *, progress=None):
    """Sorts studies by the part that they had when the classifier was trained; studies it never saw are test.

    A study counts as trained on if any evidence says so: the bytes of its film, the pixels of its film, or patient, id
    and report body together. Where both have a film and the films differ, a body that several studies of the fit
    shared is no evidence.

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

    The pixels are decoded only where nothing cheaper says that the study was trained on. A film that cannot be read
    says nothing.
    """
    film = study.frontal if classifier.batches.image else None
    text = classifier.batches.text
    digest = ""
    if film and film.path.is_file():
        with contextlib.suppress(OSError):  # such a study is set aside where it is predicted
            digest = digest_file(film.path)
    prints = film_prints(file_digest=digest)
    prints.add(record_print(study, text.text(study) if text else "", film=bool(digest)))
    if not digest:
        prints.add(template_print(study))
    part = _look_up(classifier.seen, prints)
    if part != "train" and digest:
        with contextlib.suppress(ImageError):
            pixels = study.frontal.pixel_digest or digest_film(read_image(film.path))
            part = _look_up(classifier.seen, prints | film_prints(pixel_digest=pixels))
    return part


def _look_up(seen, prints):
    """The first part that holds one of the prints."""
    wanted = np.array(sorted(prints - {None}), PRINT)
    for part in SEEN_PARTS:
        known = seen.get(part, wanted[:0])
        places = np.searchsorted(known, wanted)
        inside = places < len(known)
        if (known[places[inside]] == wanted[inside]).any():
            return part
    return "test"


def _told_by(study, text, film):
    body = study.report.body if study.report else ""
    return body or ("" if film else text)


def _hash(key):
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
