"""Collect the body of a request while it arrives: decompress it, and refuse it as soon as it is too large."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping

from tornado.util import GzipDecompressor

from kmm.server.rest.answer import HttpAnswer, answer_text

ENCODINGS = ("", "identity", "gzip", "x-gzip")
STEP_BYTES = 2**20  # decompressed at a time, so that a zip bomb does not block the event loop
ROOM = 16  # bodies of the largest size that fit into memory together


class Refused(Exception):
    """Raised when a body is refused.

    Attributes:
        answer: `HttpAnswer` with the reason.
    """

    def __init__(self, answer: HttpAnswer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Room:
    """A budget of memory for arriving bodies and unsent answers of all connections together.

    Args:
        size: int, bytes.
        note_freed: function that is called with the number of bytes given back.

    Example:
        >>> room = Room(10)
        >>> room.take(8), room.take(8)
        (True, False)
        >>> room.give(8); room.take(8)
        True
    """

    def __init__(self, size: int, note_freed: Callable[[int], object] = lambda size: None) -> None:
        self._free, self._note_freed = size, note_freed

    def take(self, size: int) -> bool:
        """Reserves memory if enough is free; returns whether it was."""
        if size > self._free:
            return False
        self._free -= size
        return True

    def fill(self, size: int) -> None:
        """Counts memory that is already in use, even beyond the budget."""
        self._free -= size

    def give(self, size: int) -> None:
        """Gives memory back."""
        self._free += size
        self._note_freed(size)


class Body:
    """Collects the body of a request.

    Args:
        headers: mapping of str to str. Headers of the request.
        most_bytes: int. Largest size of a body, compressed and decompressed.
        room: `Room`.

    Attributes:
        size: int, bytes held in memory.

    Raises:
        Refused: if the headers announce an encoding or a size that is not allowed.
    """

    def __init__(self, headers: Mapping[str, str], most_bytes: int, room: Room) -> None:
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            text = "Expected a body without Content-Encoding, or with gzip."
            raise Refused(answer_text(415, text, Accept_Encoding="gzip"))
        self._most, self._room = most_bytes, room
        if _read_length(headers) > most_bytes:
            raise self._refuse_size()
        self._unpacker = GzipDecompressor() if encoding.endswith("gzip") else None
        self._chunks: list[bytes] = []
        self._received, self.size = 0, 0

    def add(self, chunk: bytes) -> Awaitable[None] | None:
        """Adds bytes that have arrived.

        Returns:
            awaitable that decompresses the bytes of a compressed body, otherwise None.

        Raises:
            Refused: if the body is too large or damaged, or the server has no memory left for it.
        """
        self._received += len(chunk)
        if self._received > self._most:
            raise self._refuse_size()
        if self._unpacker is not None:
            return self._unpack(chunk)
        self._keep(chunk)
        return None

    def take(self) -> bytes:
        """Returns the whole body; its memory counts as used until `drop`.

        Raises:
            Refused: if the compressed data is incomplete.
        """
        if self._unpacker is not None:
            try:
                self._unpacker.flush()
            except zlib.error:
                raise _refuse_gzip() from None
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)

    def drop(self) -> None:
        """Drops the body and gives its memory back. A second call does nothing."""
        self._room.give(self.size)
        self._chunks, self.size = [], 0

    async def _unpack(self, chunk):
        while chunk:
            try:
                self._keep(self._unpacker.decompress(chunk, STEP_BYTES))
            except zlib.error:
                raise _refuse_gzip() from None
            chunk = self._unpacker.unconsumed_tail
            await asyncio.sleep(0)

    def _keep(self, chunk):
        if self.size + len(chunk) > self._most:
            raise self._refuse_size()
        if not self._room.take(len(chunk)):
            raise Refused(answer_text(503, "The server is busy: the bodies of other requests fill its memory."))
        self.size += len(chunk)
        self._chunks.append(chunk)

    def _refuse_size(self):
        return Refused(answer_text(413, f"A request may have at most {self._most >> 20} MiB."))


def _read_length(headers):
    """Returns the length that the headers declare; 0 if they declare none or one that Tornado rejects."""
    length = headers.get("Content-Length", "0").partition(",")[0]
    if not (length.isascii() and length.isdigit()):
        return 0
    return int(length[:19]) if len(length.lstrip("0")) < 20 else 2**63


def _refuse_gzip():
    return Refused(answer_text(400, "The body is not valid gzip."))
