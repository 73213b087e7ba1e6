"""The access log: a line of JSON for each request, with nothing in it that a client made up."""

import contextlib
import contextvars
import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

logger = logging.getLogger("kmm.server.access_log")
_current = contextvars.ContextVar("current request", default=None)


@dataclass
class Entry:
    """What is logged of a request. It never holds texts, ids, addresses or tokens of a client.

    Attributes:
        protocol: `"GRPC"` or `"REST"`.
        method: str, for example `"Predict"`.
        model: str, a model that is served, or None for any other name.
        version: int, the version that answers, or None where none was found.
        signature: str, a signature that this version has, or None.
        code: str, a key of `kmm.server.status.NUMBERS`.
        milliseconds: float.
        request_bytes, answer_bytes: int, sizes of the messages, or None where they are not known.
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

    def write(self):
        """Writes the line, if the logger `kmm.server.access_log` takes it.

        Example:
            >>> logger.isEnabledFor(logging.INFO)
            False
            >>> Entry("GRPC", "Predict").write()
        """
        if logger.isEnabledFor(logging.INFO):
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            logger.info("%s", json.dumps({"time": now, **asdict(self)}))


@contextlib.contextmanager
def log_request(protocol, method, model):
    """Makes the current entry of this thread or task for the length of the block, and writes it at the end.

    Args:
        protocol, method: str, as of `Entry`.
        model: str, a model that is served; "" for any other name.

    Yields:
        `Entry`, to be completed.
    """
    entry = Entry(protocol, method, model or None)
    token = _current.set(entry)
    try:
        yield entry
    finally:
        _current.reset(token)
        entry.write()


def note_version(version, signature):
    """Notes in the current entry, if there is one, which version answers the request, and by which signature.

    Args:
        version: int.
        signature: str, a signature that the version has, or None.

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
