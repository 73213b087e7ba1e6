"""Studies that a query never finds unless asked: itself, the same patient, an identical report body or film."""

import hashlib
from collections.abc import Collection, Mapping

import numpy as np

from kmm.data.study import Study
from kmm.retrieval.shards import HASHES

EXCLUDED = ("self", *HASHES)


def hash_value(kind: str, value: str, salt: bytes) -> int:
    """Hashes what identifies a patient, a report body or a film.

    Args:
        kind: str, one of `kmm.retrieval.shards.HASHES`.
        value: str; empty for none.
        salt: bytes of the index. Without them nobody can find out whether a known value is in it; the index has them.

    Returns:
        int from 1 to 2**64 - 1, or 0 for an empty value.

    Example:
        >>> hash_value("patient", "ann", b"1") == hash_value("patient", "ann", b"2"), hash_value("body", "", b"1")
        (False, 0)
    """
    if not value:
        return 0
    found = hashlib.blake2b(f"{kind} {value}".encode("utf-8", "surrogateescape"), key=salt, digest_size=8)
    return int.from_bytes(found.digest(), "big") or 1


def hash_study(study: Study, salt: bytes) -> np.ndarray:
    """Hashes patient, report body and film of a study.

    Args:
        study: `Study`, with the `pixel_digest` of its frontal film.
        salt: bytes of the index.

    Returns:
        uint64 `(3,)`, 0 for what is absent or not known: a made-up patient stands for this study alone.

    Example:
        >>> from kmm.data.study import Report
        >>> one, other = (Study(id, "ann", report=Report(findings=text)) for id, text in (("1", "A."), ("2", "a.")))
        >>> (hash_study(one, b"salt") == hash_study(other, b"salt")).tolist()
        [True, True, True]
    """
    film = study.frontal.pixel_digest if study.frontal is not None else None
    values = {
        "patient": study.patient if study.knows_patient else "",
        "body": study.report.body if study.report is not None else "",
        "film": film or "",
    }
    return np.array([hash_value(kind, values[kind], salt) for kind in HASHES], np.uint64)


class Forbidden:
    """Finds the rows that a query must not find.

    Args:
        hashes: uint64 `(n, 3)` of all rows.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self._orders = [np.argsort(column, kind="stable") for column in hashes.T]
        self._sorted = [column[order] for column, order in zip(hashes.T, self._orders, strict=True)]

    def list_rows(
        self, hashes: np.ndarray, row: int | None, include: Collection[str] = ()
    ) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """Lists the rows that a query must not find.

        Args:
            hashes: uint64 `(3,)` of the query.
            row: int, its own row; None if it is not in the index.
            include: of `EXCLUDED`: what it may find.

        Returns:
            sorted int array of rows; and a dict of each reason to its rows, which may overlap.
        """
        reasons: dict[str, np.ndarray] = {}
        if row is not None and "self" not in include:
            reasons["self"] = np.array([row], np.int64)
        for kind, value, known, order in zip(HASHES, hashes, self._sorted, self._orders, strict=True):
            if value and kind not in include:
                low, high = np.searchsorted(known, value, "left"), np.searchsorted(known, value, "right")
                found = np.sort(order[low:high])
                reasons[kind] = found if row is None else found[found != row]
        if row is not None and "self" in include:  # the study itself has its own patient
            return _join([rows[rows != row] for rows in reasons.values()]), reasons
        return _join(list(reasons.values())), reasons


def _join(parts):
    return np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))
