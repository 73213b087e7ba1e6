"""Accept connections and forward their bytes to a private address on which the gRPC server listens.

C-core, which implements HTTP/2 and TLS, can refuse new connections at a limit, but cannot close an idle connection in
favor of a new one. The relay can. On an idle machine it adds about 0.1 ms to a request of 16 KB, and 0.1 to 0.4 ms to
one of 600 KB.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Iterator
from typing import TypeVar

from kmm.server.connections import Connections
from kmm.server.memory import MemoryReturn

FILES_EACH = 4  # descriptors per connection: client, both ends of the private connection, one not yet released
RETRY_SECONDS = 0.05  # pause after the system ran out of descriptors
MOMENT_SECONDS = 0.001  # time in which a closed connection releases its descriptors
HANDSHAKE_SECONDS = 10  # time limit for a new connection to send its first bytes, and then for the HTTP/2 handshake
HEAD_BYTES = 1000  # approximate size of a request without its message
WAITING_BYTES = 2**18  # bytes buffered for one side before reading from the other side pauses
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_Message = TypeVar("_Message")


class Relay:
    """Forwards connections of public listeners to private addresses. All its methods run in the event loop.

    Args:
        folder: str. A private folder for Unix sockets, or None if the private addresses are ports of this host.
        connections: `Connections`.
        most_bytes: int. Limit on the bytes of partly received messages of all connections. Beyond it, the connection
            that sent most of them is closed.

    Attributes:
        memory: `MemoryReturn`, which must be notified of large messages that are dropped.
    """

    def __init__(self, folder: str | None, connections: Connections, most_bytes: int) -> None:
        self._folder, self._connections, self._most_bytes = folder, connections, most_bytes
        self._loop = asyncio.get_running_loop()
        self.memory, self._unfinished = MemoryReturn(self._loop), 0
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task] = set()
        self._ends: set[_Front] = set()
        self._by_peer: dict[str, _Front] = {}
        self._count = 0

    def start(self, listener: socket.socket, address: str | tuple[str, int]) -> None:
        """Accepts connections of a listener: a few per turn of the event loop, since they are counted in the next turn.

        Args:
            listener: `socket.socket` that listens and is non-blocking.
            address: the private address: path of a Unix socket, or `(host, port)`.
        """
        self._listeners.append(listener)
        self._loop.add_reader(listener, self._accept, listener, address)

    def stop_accepting(self) -> None:
        """Stops accepting connections; open connections stay."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        self._listeners = []

    async def close(self, seconds: float) -> None:
        """Waits for the last answers after the gRPC server has stopped, and closes all connections.

        Args:
            seconds: float. Longest time to wait.
        """
        sending = [end.lost for end in self._ends if end.other is not None]
        if sending:
            await asyncio.wait(sending, timeout=seconds)
        self._connections.close_all()
        while self._ends or self._tasks:
            await asyncio.sleep(0)

    @contextlib.contextmanager
    def hold(self, peer: str) -> Iterator[None]:
        """Protects a connection from being closed in favor of a new one during the block.

        Args:
            peer: str. gRPC's name for the client of a request.
        """
        front = self._by_peer.get(peer)
        if front is not None:
            front.connection.working += 1
        try:
            yield
        finally:
            if front is not None:
                front.connection.working -= 1

    async def receive(self, peer: str, work: Awaitable[_Message]) -> _Message:
        """Awaits a message, and then stops counting its bytes as unfinished.

        Args:
            peer: as in `hold`.
            work: awaitable of bytes.

        Returns:
            the result of `work`.
        """
        front = self._by_peer.get(peer)
        if front is None:
            return await work
        front.messages += 1
        size = 0
        try:
            data = await work
            if isinstance(data, bytes):
                size = len(data) + len(data) // 1000 + HEAD_BYTES  # with its frames
                front.connection.touch()
            return data
        finally:
            front.messages -= 1
            self._finish(front, size if front.messages else front.unfinished)

    def _note_bytes(self, front, size):
        """Counts bytes of messages whose ends are not known yet."""
        front.unfinished += size
        self._unfinished += size
        if self._unfinished > self._most_bytes:
            self._connections.close(max(self._ends, key=lambda end: end.unfinished).connection)

    def _finish(self, front, size):
        size = min(size, front.unfinished)
        front.unfinished -= size
        self._unfinished -= size
        self.memory.note(size)

    def _accept(self, listener, address):
        for _ in range(self._connections.at_once):
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._connections.close_silent()
                    self._pause(listener, address, RETRY_SECONDS)
                    return
                continue  # the client has already disconnected
            client.setblocking(False)
            self._begin(self._open_front(client, address))
        if self._connections.is_full:  # connections that must be closed need a moment
            self._pause(listener, address, MOMENT_SECONDS)

    def _pause(self, listener, address, seconds):
        self._loop.remove_reader(listener)
        self._loop.call_later(seconds, self._resume, listener, address)

    def _resume(self, listener, address):
        if listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener, address)

    def _begin(self, work):
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_front(self, client, address):
        try:
            await self._loop.connect_accepted_socket(lambda: _Front(self, address), client)
        except OSError:
            client.close()

    async def _connect(self, front, address):
        """Opens the private connection of a client that has sent its first bytes."""
        back = _End(front.connection, front)
        try:
            private, peer = await self._open_private(address)
            await self._loop.create_connection(lambda: back, sock=private)
        except OSError:
            front.transport.abort()
            return
        if front.lost.done():
            back.transport.abort()
            return
        self._by_peer[peer] = front
        front.lost.add_done_callback(lambda _: self._by_peer.pop(peer))
        front.join(back)

    async def _open_private(self, address):
        """Opens a socket to the private address: (socket, gRPC's name for its peer)."""
        private = socket.socket(socket.AF_INET if self._folder is None else socket.AF_UNIX)
        private.setblocking(False)
        try:
            if self._folder is None:
                await self._loop.sock_connect(private, address)
                return private, "ipv4:{}:{}".format(*private.getsockname())
            self._count += 1
            path = os.path.join(self._folder, str(self._count))
            private.bind(path)
            os.unlink(path)  # the socket keeps its name
            await self._loop.sock_connect(private, address)
            return private, f"unix:{path}"
        except BaseException:
            private.close()
            raise


class _End(asyncio.Protocol):
    """One of the two connections for a client; sends the bytes that it receives to the other one."""

    def __init__(self, connection=None, other=None):
        self.connection, self.transport, self.other = connection, None, other
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(WAITING_BYTES)

    def data_received(self, data):
        self.other.transport.write(data)

    def pause_writing(self):
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self):
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error):
        self.lost.set_result(None)
        if self.other is not None:
            self.other.transport.close()  # after buffered bytes have been sent


class _Front(_End):
    """The connection to the client. Its first bytes open the private connection, so a silent client costs little."""

    def __init__(self, relay, address):
        super().__init__()
        self._relay, self._address = relay, address
        self._first, self._deadline = b"", None
        self.messages, self.unfinished = 0, 0  # arriving messages, and their bytes received so far

    def connection_made(self, transport):
        super().connection_made(transport)
        self._relay._ends.add(self)
        name = transport.get_extra_info("peername")
        host = name[0] if isinstance(name, tuple) else ""  # a client of a Unix socket has no address
        self.connection = self._relay._connections.add(host, self._abort)
        if self.connection is None:
            transport.abort()
            return
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, transport.abort)

    def data_received(self, data):
        if self.other is not None:
            super().data_received(data)
            self._relay._note_bytes(self, len(data))
        elif self.connection is not None:
            self._deadline.cancel()
            self.transport.pause_reading()
            self._first = data
            self._relay._begin(self._relay._connect(self, self._address))

    def join(self, back):
        """Starts forwarding bytes in both directions."""
        self.other = back
        back.transport.write(self._first)
        self._first = b""
        self.transport.resume_reading()

    def connection_lost(self, error):
        if self._deadline is not None:
            self._deadline.cancel()
        if self.connection is not None:
            self.connection.remove()
        self._relay._ends.discard(self)
        self._relay._finish(self, self.unfinished)
        self.lost.set_result(None)
        if self.other is not None:
            self.other.transport.abort()

    def _abort(self):
        self._relay._finish(self, self.unfinished)
        self.transport.abort()
        if self.other is not None:
            self.other.transport.abort()
