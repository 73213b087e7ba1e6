"""A request's body as it arrives: unpacked, counted, and refused as soon as it is too large."""

import asyncio
import zlib

from tornado.util import GzipDecompressor

from kmm.server.rest.answer import tell_text

ENCODINGS = ("", "identity", "gzip", "x-gzip")
STEP_BYTES = 2**20  # that are unpacked at once, so that a bomb does not keep the event loop
ROOM = 16  # largest bodies that may be in memory at once


class Refused(Exception):
    """A body that is refused.

    Attributes:
        answer: `Answer`.
    """

    def __init__(self, answer):
        super().__init__(answer.status)
        self.answer = answer


class Room:
    """Memory for bodies that arrive and answers that clients have not taken, of all connections together.

    Args:
        size: int, bytes.
        note_freed: function of the bytes that are given back.

    Example:
        >>> room = Room(10)
        >>> room.take(8), room.take(8)
        (True, False)
        >>> room.give(8); room.take(8)
        True
    """

    def __init__(self, size, note_freed=lambda size: None):
        self._free, self._note_freed = size, note_freed

    def take(self, size):
        """Takes memory if there is enough; returns whether."""
        if size > self._free:
            return False
        self._free -= size
        return True

    def fill(self, size):
        """Takes memory that is used already, whether there is enough or not."""
        self._free -= size

    def give(self, size):
        """Gives memory back."""
        self._free += size
        self._note_freed(size)


class Body:
    """Collects the body of a request.

    Args:
        headers: mapping of str to str, of the request.
        most_bytes: int. The largest body, before and after it is unpacked.
        room: `Room`.

    Attributes:
        size: int, bytes that are held.

    Raises:
        Refused: if the headers tell that it cannot be read.
    """

    def __init__(self, headers, most_bytes, room):
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            text = "Expected a body without Content-Encoding, or with gzip."
            raise Refused(tell_text(415, text, Accept_Encoding="gzip"))
        self._most, self._room = most_bytes, room
        if _read_length(headers) > most_bytes:
            raise self._refuse_size()
        self._unpacker = GzipDecompressor() if encoding.endswith("gzip") else None
        self._chunks, self._received, self.size = [], 0, 0

    def add(self, chunk):
        """Adds bytes as they arrive.

        Returns:
            awaitable for a body that is to be unpacked, else None.

        Raises:
            Refused: if the body is too large, damaged, or there is no room for it.
        """
        self._received += len(chunk)
        if self._received > self._most:
            raise self._refuse_size()
        if self._unpacker is not None:
            return self._unpack(chunk)
        self._keep(chunk)
        return None

    def take(self):
        """The whole body; it is counted until `drop`.

        Raises:
            Refused: if it ends before it should.
        """
        if self._unpacker is not None:
            try:
                self._unpacker.flush()
            except zlib.error:
                raise _refuse_gzip() from None
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)

    def drop(self):
        """Forgets the body and gives its room back. A second time does nothing."""
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
            raise Refused(tell_text(503, "The server is busy: the bodies of other requests fill its memory."))
        self.size += len(chunk)
        self._chunks.append(chunk)

    def _refuse_size(self):
        return Refused(tell_text(413, f"A request may have at most {self._most >> 20} MiB."))


def _read_length(headers):
    """The length that the headers declare; 0 where there is none, or none that Tornado accepts."""
    length = headers.get("Content-Length", "0").partition(",")[0]
    if not (length.isascii() and length.isdigit()):
        return 0
    return int(length[:19]) if len(length.lstrip("0")) < 20 else 2**63


def _refuse_gzip():
    return Refused(tell_text(400, "The body is not valid gzip."))
