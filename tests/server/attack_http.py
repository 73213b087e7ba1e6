"""Requests over HTTP that break the rules of sizes, order and names."""

import contextlib
import socket
import time
from collections import Counter

from tests.server import http2
from tests.server.attack_clients import Swarm

REST_PREDICT = "/v1/models/tiny:predict"
SECONDS = 10  # for an answer


def send_http(victim, data, *, seconds=SECONDS):
    """Sends bytes over one connection and reads the answer: its code, or what became of it."""
    with socket.create_connection(("127.0.0.1", victim.rest_port), timeout=seconds) as client:
        try:
            for place in range(0, len(data), 2**20):
                client.sendall(data[place : place + 2**20])
        except TimeoutError:
            return "not read"
        except OSError:
            pass  # the server refused before it had all
        try:
            received = client.recv(2**16)
        except TimeoutError:
            return "no answer"
        except OSError:
            return "closed"
    return received[9:12].decode("ascii", "replace") if received[:5] == b"HTTP/" else "closed"


def make_post(victim, body, *, path=REST_PREDICT, fields=()):
    """A request over HTTP with a body."""
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *fields]
    head += [f"Authorization: Bearer {victim.token}"] if victim.token else []
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def post(victim, opened, *, make, times=1, fields=()):
    """Posts bodies, one after the other."""
    body, codes = make(), Counter()
    for _ in range(times):
        codes[send_http(victim, make_post(victim, body, fields=fields))] += 1
    return count_codes(codes)


def flood_headers(victim, opened, *, count, size):
    """Sends a head of very many fields, or of very long ones."""
    field = b"X-" + b"a" * 10 + b": " + b"b" * size + b"\r\n"
    return send_http(victim, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + field * count + b"\r\n")


def pipeline(victim, opened):
    """Sends 20,000 requests over one connection, and reads nothing."""
    swarm = Swarm(victim.rest_port, 1, opened, buffer=4096)
    request, end = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100, time.monotonic() + victim.hold
    for _ in range(200):
        swarm.send(request)
        if time.monotonic() > end:
            break
    swarm.drip(b"", max(0, end - time.monotonic()))
    return swarm.tell()


def send_chunks(victim, opened):
    """A chunked body of one byte a chunk that does not end, over ten connections."""
    swarm = Swarm(victim.rest_port, 10, opened)
    swarm.send(f"POST {REST_PREDICT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    end = time.monotonic() + victim.hold
    while time.monotonic() < end:
        swarm.send(b"1\r\n[\r\n" * 2000)
        time.sleep(0.02)
    return swarm.tell()


def leave_answers(victim, opened):
    """Asks for large answers over ten connections with tiny buffers, and reads none of them."""
    body = b'{"signature_name": "double", "instances": [' + b"0.25," * 99_999 + b"0.25]}"
    swarm = Swarm(victim.rest_port, 10, opened, buffer=4096)
    request = make_post(victim, body)
    for client in swarm.sockets:
        client.settimeout(1)
        with contextlib.suppress(OSError):  # the server takes no more
            client.sendall(request)
        client.setblocking(False)
    time.sleep(victim.hold)
    return f"{len(swarm.sockets)} answers left unread"


def mix_lengths(victim, opened):
    """Requests of which two servers could read two different ones; each must be refused."""
    tricks = [
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: +5\r\n\r\nhello",
        b"Content-Length: 1_0\r\n\r\n0123456789",
        b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000 + b"\r\n",
        b"Content-Length : 5\r\n\r\nhello",
        b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"X\0: a\r\nContent-Length: 0\r\n\r\n",
    ]
    head = f"POST {REST_PREDICT} HTTP/1.1\r\nHost: localhost\r\n".encode()
    return count_codes(Counter(send_http(victim, head + trick, seconds=3) for trick in tricks))


def try_paths(victim, opened):
    """Names of models that are paths; none may show a file or fail within the server."""
    names = ["..", "../..", "..%2f..%2fetc%2fpasswd", "%2e%2e", "%00", "tiny%00", "/etc/passwd", "\\..\\..", "%c0%af"]
    names += ["tiny/versions/../../..", "tiny/versions/-1", "tiny/versions/" + "9" * 400, "tiny/labels/%2e%2e%2f"]
    names += ["tiny/versions/1e5", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "a" * 50_000, "tiny//"]
    codes = Counter()
    for name in names:
        for ending in ("", "/metadata", ":predict"):
            method = "POST" if ending == ":predict" else "GET"
            head = f"{method} /v1/models/{name}{ending} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}"
            codes[send_http(victim, head.encode("latin-1"), seconds=3)] += 1
    return count_codes(codes)


def flood_methods(victim, opened):
    """1,000 calls of gRPC that do not exist, and 200 methods of HTTP."""
    codes = Counter()
    connection = http2.Connection(victim.port, timeout=3)
    opened.callback(connection.close)
    for number in range(1000):
        connection.open(f"/tensorflow.serving.PredictionService/Method{number}", message=b"")
        connection.read(0)
    end = time.monotonic() + 5
    while len(connection.ended) < 1000 and not connection.closed and time.monotonic() < end:
        connection.read(0.1)
    for number in range(200):
        codes[send_http(victim, f"M{number} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), seconds=3)] += 1
    return f"gRPC: {len(connection.ended)} of 1000 ended; HTTP: {count_codes(codes)}"


def count_codes(codes):
    return ", ".join(f"{number} x {code}" for code, number in sorted(codes.items()))
