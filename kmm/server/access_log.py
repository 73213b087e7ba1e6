"""Write the access log: one line of JSON per request, without any text that a client chose."""

import contextlib
import contextvars
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

logger = logging.getLogger("kmm.server.access_log")
_current: contextvars.ContextVar["Entry | None"] = contextvars.ContextVar("current request", default=None)


@dataclass
class Entry:
    """An entry of the access log. It never holds texts, ids, addresses or tokens of a client.

    Attributes:
        protocol: `"GRPC"` or `"REST"`.
        method: str, for example `"Predict"`.
        model: str, a served model, or None for any other name.
        version: int, the version that answers, or None if no version was found.
        signature: str, a signature of this version, or None.
        code: str, a key of `kmm.server.status.NUMBERS`.
        milliseconds: float. Time from the start of the request to its end.
        request_bytes, answer_bytes: int, sizes of the messages, or None if unknown.
    """

    protocol: str
    method: str
    model: str | None = None
    version: int | None = None
    signature: str | None = None
    code: str = "INTERNAL"
    milliseconds: float | None = None
    request_bytes: int | None = None
    answer_bytes: int | None = None

    def write(self) -> None:
        """Writes the line, if the logger `kmm.server.access_log` is enabled for INFO.

        Example:
            >>> logger.isEnabledFor(logging.INFO)
            False
            >>> Entry("GRPC", "Predict").write()
        """
        if logger.isEnabledFor(logging.INFO):
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            logger.info("%s", json.dumps({"time": now, **asdict(self)}))


@contextlib.contextmanager
def log_request(protocol: str, method: str, model: str) -> Iterator[Entry]:
    """Opens the current entry of this thread or task for the length of the block, and writes it at the end.

    Args:
        protocol, method: str, as in `Entry`.
        model: str, a served model; "" for any other name.

    Yields:
        `Entry`, for the block to complete.
    """
    entry = Entry(protocol, method, model or None)
    token = _current.set(entry)
    try:
        yield entry
    finally:
        _current.reset(token)
        entry.write()


def note_version(version: int, signature: str | None) -> None:
    """Notes the version and the signature that answer the request in the current entry, if there is one.

    Args:
        version: int.
        signature: str, a signature of the version, or None.

    Example:
        >>> with log_request("GRPC", "Predict", "film") as entry:
        ...     note_version(3, "serving_bytes")
        >>> note_version(4, None)
        >>> entry.version, entry.signature
        (3, 'serving_bytes')
    """
    entry = _current.get()
    if entry is not None:
        entry.version, entry.signature = version, signature
