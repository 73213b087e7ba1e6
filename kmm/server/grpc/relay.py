"""Accept connections and carry their bytes to a private address, where the server of gRPC listens.

C-core, which speaks HTTP/2 and TLS, can refuse new connections at a limit, but not close an idle one in favour of a new
one. The relay can. On an idle machine it costs a request of 16 KB about 0.1 ms, one of 600 KB 0.1 to 0.4 ms.
"""

import asyncio
import contextlib
import errno
import os
import socket

from kmm.server.memory import MemoryReturn

FILES_EACH = 4  # descriptors of a connection: towards the client, both ends of the private one, one not yet released
RETRY_SECONDS = 0.05  # after the system had no descriptor left
MOMENT_SECONDS = 0.001  # for an evicted connection to release its descriptors
HANDSHAKE_SECONDS = 10  # for a new connection to send something, and then to say that it speaks HTTP/2
HEAD_BYTES = 1000  # of a request, beside its message: about as many
WAITING_BYTES = 2**18  # sent by one side and not taken by the other, before the first side is no longer read
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Relay:
    """Carries connections of public listeners to private addresses. All its methods run in the event loop.

    Args:
        folder: str. A private folder for Unix sockets, or None where the private addresses are ports of this host.
        connections: `Connections`.
        most_bytes: int. Bytes of messages that have not arrived in whole, of all connections together. Beyond it, the
            connection that sent most of them is closed.

    Attributes:
        memory: `MemoryReturn`, to be told of large messages that are dropped.
    """

    def __init__(self, folder, connections, most_bytes):
        self._folder, self._connections, self._most_bytes = folder, connections, most_bytes
        self._loop = asyncio.get_running_loop()
        self.memory, self._unfinished = MemoryReturn(self._loop), 0
        self._listeners, self._tasks, self._ends, self._by_peer, self._count = [], set(), set(), {}, 0

    def start(self, listener, address):
        """Accepts connections of a listener, few in each turn of the loop, since they are counted in the next one.

        Args:
            listener: `socket.socket` that listens and does not block.
            address: the private address: path of a Unix socket, or `(host, port)`.
        """
        self._listeners.append(listener)
        self._loop.add_reader(listener, self._accept, listener, address)

    def stop_accepting(self):
        """Accepts no more; open connections go on."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        self._listeners = []

    async def close(self, seconds):
        """Waits until the last answers were sent, once the server of gRPC has ended, and closes all connections."""
        sending = [end.lost for end in self._ends if end.other is not None]
        if sending:
            await asyncio.wait(sending, timeout=seconds)
        self._connections.close_all()
        while self._ends or self._tasks:
            await asyncio.sleep(0)

    @contextlib.contextmanager
    def hold(self, peer):
        """Keeps a connection from being closed in favour of a new one during the block.

        Args:
            peer: str. What gRPC calls the client of a request.
        """
        front = self._by_peer.get(peer)
        if front is not None:
            front.connection.working += 1
        try:
            yield
        finally:
            if front is not None:
                front.connection.working -= 1

    async def receive(self, peer, work):
        """Awaits a message, which then does not count as unfinished any more.

        Args:
            peer: as of `hold`.
            work: awaitable of bytes.
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
        """Counts bytes of messages, of which nobody knows yet where they end."""
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
                continue  # it was gone already
            client.setblocking(False)
            self._begin(self._open_front(client, address))
        if self._connections.is_full:  # the connections that have to go need a moment
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
        """A socket that is connected, and the name by which gRPC will know it."""
        private = socket.socket(socket.AF_INET if self._folder is None else socket.AF_UNIX)
        private.setblocking(False)
        try:
            if self._folder is None:
                await self._loop.sock_connect(private, address)
                return private, "ipv4:{}:{}".format(*private.getsockname())
            self._count += 1
            path = os.path.join(self._folder, str(self._count))
            private.bind(path)
            os.unlink(path)  # the name stays with the socket
            await self._loop.sock_connect(private, address)
            return private, f"unix:{path}"
        except BaseException:
            private.close()
            raise


class _End(asyncio.Protocol):
    """One of the two connections of a client: what it receives is sent on the other one."""

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
            self.other.transport.close()  # after what is on its way


class _Front(_End):
    """The connection towards the client. The private one is opened with the first bytes: silence costs little."""

    def __init__(self, relay, address):
        super().__init__()
        self._relay, self._address = relay, address
        self._first, self._deadline = b"", None
        self.messages, self.unfinished = 0, 0  # on their way, and the bytes of them that have come

    def connection_made(self, transport):
        super().connection_made(transport)
        self._relay._ends.add(self)
        name = transport.get_extra_info("peername")
        host = name[0] if isinstance(name, tuple) else ""  # that of a Unix socket has no address
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
        """Begins to carry bytes in both directions."""
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
