"""HTTP/2 by hand: a client that may break every rule that a client of gRPC's own keeps.

Source: RFC 9113 (frames), RFC 7541 (headers, here always literal), gRPC's PROTOCOL-HTTP2.md (messages).
"""

import select
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\0\0\0\0\2\x08\1"  # the message of a healthy server
FRAME_BYTES = 16384  # the longest frame that every server takes


def make_frame(kind, flags=0, stream=0, payload=b""):
    """One frame.

    Example:
        >>> make_frame(PING, 0, 0, bytes(8)).hex()
        '0000080600000000000000000000000000'
    """
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def make_headers(fields):
    """A block of literal headers that no table remembers.

    Args:
        fields: pairs of bytes or str.
    """

    def write(value):
        value = value.encode() if isinstance(value, str) else value
        size = len(value)
        if size < 127:
            return bytes((size,)) + value
        size, head = size - 127, b"\x7f"
        while size >= 128:
            head, size = head + bytes((size % 128 + 128,)), size // 128
        return head + bytes((size,)) + value

    return b"".join(b"\0" + write(name) + write(value) for name, value in fields)


def make_call(path, *, token=None, fields=()):
    """The headers of a gRPC call."""
    head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    head += [("te", "trailers"), ("content-type", "application/grpc")]
    head += [("authorization", f"Bearer {token}")] if token else []
    return make_headers([*head, *fields])


def make_message(data, *, compressed=False):
    return struct.pack(">?I", compressed, len(data)) + data


class Connection:
    """A connection that counts what the server says.

    Args:
        port: int, of this host.
        settings: pairs of number and value that the client announces.
        timeout: float, seconds.
        tls: `ssl.SSLContext`, or None for plain text.

    Attributes:
        socket: its TCP socket.
        ended: set of the streams that the server ended.
        closed: bool. Whether the server said goodbye or closed the connection.
        body: bytes of all messages that came.
    """

    def __init__(self, port, *, settings=(), timeout=5, tls=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)
        self.ended, self.closed, self.body = set(), False, b""
        self._unread, self._next, self._timeout = b"", 1, timeout
        self._windows, self._initial = {0: 65535}, 65535
        payload = b"".join(struct.pack(">HI", name, value) for name, value in settings)
        self.send(PREFACE + make_frame(SETTINGS, 0, 0, payload))

    def send(self, data):
        """Sends bytes as they are; a server that closed the connection is no error."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def open(self, path=HEALTH, *, token=None, fields=(), message=None):
        """Opens a stream, and ends it with a message where there is one.

        Returns:
            int, the stream.
        """
        stream, self._next = self._next, self._next + 2
        self._windows[stream] = self._initial
        self.send(make_frame(HEADERS, END_HEADERS, stream, make_call(path, token=token, fields=fields)))
        if message is not None:
            self.send_data(stream, make_message(message), end=True)
        return stream

    def send_data(self, stream, data, *, end=False):
        """Sends data as fast as the server allows, for at most the timeout. Returns whether all was taken."""
        limit, data, place = time.monotonic() + self._timeout, memoryview(data), 0
        while place < len(data):
            room = min(self._windows[0], self._windows[stream], FRAME_BYTES)
            if room <= 0:
                self.read(0.1)
            else:
                part = bytes(data[place : place + room])
                place += len(part)
                self.send(make_frame(DATA, END_STREAM * (end and place == len(data)), stream, part))
                self._windows[0] -= len(part)
                self._windows[stream] -= len(part)
            if self.closed or stream in self.ended or time.monotonic() > limit:
                return False
        return True

    def read(self, seconds=0.0):
        """Takes what the server sent, waiting at most so long for the first byte."""
        while not self.closed and (self._pending() or select.select([self.socket], [], [], seconds)[0]):
            seconds = 0
            try:
                received = self.socket.recv(2**20)
            except OSError:
                received = b""
            self.closed = not received
            self._unread += received
            self._take_frames()

    def close(self):
        self.socket.close()

    def _pending(self):
        return getattr(self.socket, "pending", int)()  # bytes that TLS decrypted already

    def _take_frames(self):
        while len(self._unread) >= 9:
            size = int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < 9 + size:
                return
            kind, flags, stream = self._unread[3], self._unread[4], int.from_bytes(self._unread[5:9], "big")
            payload, self._unread = self._unread[9 : 9 + size], self._unread[9 + size :]
            if kind == DATA:
                self.body += payload
                if size:
                    self.send(make_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", size)))
            if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                self.ended.add(stream)
            elif kind == GOAWAY:
                self.closed = True
            elif kind == WINDOW_UPDATE:
                self._windows[stream] = self._windows.get(stream, self._initial) + int.from_bytes(payload, "big")
            elif kind == PING and not flags & ACK:
                self.send(make_frame(PING, ACK, 0, payload))
            elif kind == SETTINGS and not flags & ACK:
                for place in range(0, size, 6):
                    name, value = struct.unpack(">HI", payload[place : place + 6])
                    if name == 4:  # SETTINGS_INITIAL_WINDOW_SIZE
                        for known in self._windows:
                            self._windows[known] += (value - self._initial) * (known > 0)
                        self._initial = value
                self.send(make_frame(SETTINGS, ACK))


def ask_health(port, timeout=1.0, tls=None):
    """Returns whether a new connection learns within so many seconds that the server is healthy."""
    connection, limit = Connection(port, timeout=timeout, tls=tls), time.monotonic() + timeout
    try:
        connection.open(message=b"")
        while not (connection.ended or connection.closed) and time.monotonic() < limit:
            connection.read(max(0, limit - time.monotonic()))
        return SERVING in connection.body
    finally:
        connection.close()
