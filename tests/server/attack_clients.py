"""Clients that open connections and calls, and then say nothing, or little at a time."""

import contextlib
import selectors
import socket
import ssl
import struct
import time
from collections import Counter

from tests.server import http2
from tests.server.attack_messages import PREDICT

CONNECT_SECONDS = 2  # for all connections of a swarm
AT_ONCE = 64  # connections: a burst beyond a listener's backlog is lost in the system, and tells nothing of the server
DRIP = 0.5  # seconds between two bytes of a slow sender


class Swarm:
    """Many connections to one port.

    Attributes:
        sockets: list of those that the server took.
    """

    def __init__(self, port, count, opened, *, buffer=None):
        self.sockets, self.count = [], count
        end = time.monotonic() + CONNECT_SECONDS
        for place in range(0, count, AT_ONCE):
            started = [self._start(port, opened, buffer) for _ in range(min(AT_ONCE, count - place))]
            self._await(started, end)

    def _start(self, port, opened, buffer):
        client = opened.enter_context(socket.socket())
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        return client

    def _await(self, started, end):
        """Keeps those that the server takes in time."""
        with selectors.DefaultSelector() as selector:
            for client in started:
                selector.register(client, selectors.EVENT_WRITE)
            while selector.get_map() and time.monotonic() < end:
                for key, _ in selector.select(0.1):
                    selector.unregister(key.fileobj)
                    if not key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        self.sockets.append(key.fileobj)

    def send(self, data):
        """Sends what fits into the buffers, over every connection that is open."""
        for client in self.sockets:
            with contextlib.suppress(OSError):  # the server closed it, or reads no more: tell() counts
                client.send(data)

    def add(self, other, first, said):
        """Takes over the connections of another swarm, which ask `first`, read the answer, and then say `said`."""
        if first:
            other.send(first)
            for client in other.sockets:
                client.settimeout(0.05)
                with contextlib.suppress(OSError):  # no answer in time
                    client.recv(2**16)
                client.setblocking(False)
        other.send(said)
        self.sockets += other.sockets
        self.count += other.count

    def drip(self, data, seconds):
        """Sends bytes of `data` one at a time, in turns, for so many seconds."""
        end, place = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            if data:
                self.send(data[place % len(data) : place % len(data) + 1])
            place += 1
            time.sleep(min(DRIP, max(0, end - time.monotonic())))

    def tell(self):
        """How many connections the server closed, and what it said over them before."""
        closed, said = 0, Counter()
        for client in self.sockets:
            try:
                received = client.recv(2**16)
                if received[:5] == b"HTTP/":
                    said[received[9:12].decode("ascii", "replace")] += 1
                while received:
                    received = client.recv(2**16)
                closed += 1
            except BlockingIOError:
                pass
            except OSError:
                closed += 1
        answers = "".join(f", {number} x {code}" for code, number in said.items())
        refused = f", {self.count - len(self.sockets)} not taken" if self.count > len(self.sockets) else ""
        return f"{len(self.sockets)} opened, {closed} closed{answers}{refused}"


def stay_silent(victim, opened, *, count, protocol, said=b"", drip=b"", first=b""):
    """Opens connections that say `first`, read the answer, say `said`, and then a byte now and then, or nothing."""
    port = victim.port if protocol == "grpc" else victim.rest_port
    if protocol == "grpc" or not said:
        swarm = Swarm(port, count, opened)
        swarm.send(said)
    else:  # one after the other, so that the last ones come when the first ones are at their place
        swarm = Swarm(port, 0, opened)
        for _ in range(count):
            swarm.add(Swarm(port, 1, opened), first, said)
    swarm.drip(drip, victim.hold)
    return swarm.tell()


def stay_silent_everywhere(victim, opened, *, count):
    """Silent connections on both ports at once."""
    swarms = [Swarm(port, count // 2, opened) for port in (victim.port, victim.rest_port)]
    time.sleep(victim.hold)
    return "; ".join(swarm.tell() for swarm in swarms)


def open_streams(victim, opened, *, count, each=False, path=PREDICT, with_token=False, said=b"", drip=b""):
    """Opens calls that send no message, or one a byte at a time: over one connection, or `each` over one of its own."""
    connections = [http2.Connection(victim.port, timeout=2) for _ in range(count if each else 1)]
    for connection in connections:
        opened.callback(connection.close)
        connection.read(0 if each else 0.2)
    streams = []
    for number in range(count):
        connection = connections[number if each else 0]
        streams.append((connection, connection.open(path, token=victim.token if with_token else None)))
        if said:
            connection.send_data(streams[-1][1], said)
    end = time.monotonic() + victim.hold
    while time.monotonic() < end:
        for connection, stream in streams if drip else ():
            connection.send_data(stream, drip)
        for connection in connections:
            connection.read(0)
        time.sleep(min(DRIP, max(0, end - time.monotonic())))
    ended = sum(stream in connection.ended or connection.closed for connection, stream in streams)
    return f"{count} calls, {ended} ended by the server"


def stop_handshake(victim, opened, *, protocol):
    """Sends the first message of a handshake of TLS over 200 connections, and no more."""
    sent, received = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(received, sent, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):  # it waits for the server's answer
        client.do_handshake()
    return stay_silent(victim, opened, count=200, protocol=protocol, said=sent.read())


def hold_messages(victim, opened, *, count, size, protocol):
    """Sends large messages but for their last byte, each over a connection of its own, for at most six seconds."""
    end, sent, block = time.monotonic() + 6, 0, bytes(2**16)
    for _ in range(count):
        if time.monotonic() > end:
            break
        if protocol == "grpc":
            connection = http2.Connection(victim.port, timeout=2)
            opened.callback(connection.close)
            connection.read(0.1)
            stream = connection.open(PREDICT, token=victim.token)
            sent += connection.send_data(stream, struct.pack(">?I", False, size) + bytes(size - 1))
        else:
            client = opened.enter_context(socket.create_connection(("127.0.0.1", victim.rest_port), timeout=2))
            with contextlib.suppress(OSError):  # refused, or read no more
                client.sendall(
                    f"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
                )
                for _ in range((size - 1) // len(block)):
                    client.sendall(block)
                sent += 1
    return f"{sent} of {count} taken but for the last byte"
