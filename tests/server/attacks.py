"""What strangers may try against a server: each bounded in count and time, on this host alone.

An attack takes a `Victim` and an `ExitStack` on which it leaves what it opened, so that it goes on until the end of the
measurement; it returns a line that says what it saw. `ATTACKS` names all of them, with the kind of server that each is
for.
"""

import contextlib
import selectors
import socket
import ssl
import struct
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import partial

import grpc
import numpy as np

from tests.server import http2
from tests.server.tiny_model import make_spec, make_tensor, stubs

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
REST_PREDICT = "/v1/models/tiny:predict"
SECONDS = 10  # for an answer to a bomb
DRIP = 0.5  # seconds between two bytes of a slow sender
BOMB_BYTES = 1_000_000_000  # what a compressed bomb becomes


@dataclass(frozen=True)
class Attack:
    """An attack and the kind of server that it is for.

    Attributes:
        run: function, see above.
        kind: str, a key of `victim.KINDS`.
        expected: str. The pattern of what the attacker must see.
    """

    run: object
    kind: str = "open"
    expected: str = ""


class Swarm:
    """Many connections to one port.

    Attributes:
        sockets: list of those that the server took within two seconds.
    """

    def __init__(self, port, count, opened, *, buffer=None):
        self.sockets, self.lost = [], 0
        started = []
        with selectors.DefaultSelector() as selector:
            for _ in range(count):
                client = opened.enter_context(socket.socket())
                if buffer:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                selector.register(client, selectors.EVENT_WRITE)
                started.append(client)
            end = time.monotonic() + 2
            while started and len(self.sockets) + self.lost < count and time.monotonic() < end:
                for key, _ in selector.select(0.1):
                    selector.unregister(key.fileobj)
                    if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        self.lost += 1
                    else:
                        self.sockets.append(key.fileobj)
        self.count = count

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


# Connections and streams that say nothing, or little at a time


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


# Requests over HTTP that break the rules of sizes and order


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
    return _count(codes)


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
    return _count(Counter(send_http(victim, head + trick, seconds=3) for trick in tricks))


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
    return _count(codes)


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
    return f"gRPC: {len(connection.ended)} of 1000 ended; HTTP: {_count(codes)}"


# Frames of HTTP/2 that a client of gRPC never sends


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


def make_settings(number):
    return http2.make_frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 4, 65535 + number))


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
    request = _make_doubled(np.zeros(1000, np.float32))
    for _ in range(50):
        connection.open(PREDICT, token=victim.token, message=request)
        connection.read(0)
    time.sleep(victim.hold)
    connection.read(0)
    return f"50 answers not taken, connection {'closed' if connection.closed else 'kept'}"


# Requests that are small and become large


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
    return _count(codes)


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


def make_gzip_bomb(size):
    """A gzip stream of zeros: about a thousandth of what it becomes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(bytes(10**6)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(10**6)) + packer.flush(zlib.Z_FULL_FLUSH)  # each stands for itself
    return head + block * (size // 10**6 - 1)


def make_png(pixels):
    """A PNG of `pixels` x `pixels` transparent pixels, of about a thousandth of their bytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer, data = zlib.compressobj(9), b""
    for _ in range(pixels):
        data += packer.compress(bytes(1 + 4 * pixels))
    header = struct.pack(">IIBBBBB", pixels, pixels, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data + packer.flush()) + chunk(b"IEND", b"")


def make_jpeg():
    """A JPEG whose header says 65500 x 65500 pixels of three colours."""
    import cv2

    data = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


def make_films(make, count=1):
    """A request of the classifier of films."""
    request = stubs.predict_pb2.PredictRequest(model_spec=make_spec("film", signature="serving_bytes"))
    request.inputs["image_bytes"].CopyFrom(make_tensor(np.array([make()] * count, object)))
    return request.SerializeToString()


def make_film_examples(make, count):
    """A request of classification with films in tf.Examples."""
    request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec("film", signature="classify"))
    film = make()
    for _ in range(count):
        feature = request.input.example_list.examples.add().features.feature
        feature["image_bytes"].bytes_list.value.append(film)
    return request.SerializeToString()


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


def make_shared_context():
    """Many empty examples that share a context of a megabyte."""
    request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec(signature="classify"))
    held = request.input.example_list_with_context
    held.context.features.feature["image_bytes"].bytes_list.value.append(bytes(10**6))
    for _ in range(100_000):
        held.examples.add()
    return request.SerializeToString()


def make_many_features():
    """An example of 300,000 features that nobody asked for."""
    request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec(signature="classify"))
    features = request.input.example_list.examples.add().features.feature
    for number in range(300_000):
        features[f"feature{number}"].int64_list.value.append(number)
    return request.SerializeToString()


def make_declared(dimensions, **values):
    """A tensor that says it is of this shape, with few values."""
    request = stubs.predict_pb2.PredictRequest(model_spec=make_spec(signature="double"))
    tensor = request.inputs["values"]
    tensor.dtype = 7 if "string_val" in values else 1
    for size in dimensions:
        tensor.tensor_shape.dim.add(size=size)
    for name, held in values.items():
        getattr(tensor, name).extend(held)
    return request.SerializeToString()


def make_repeated_string(count, size):
    """One string of bytes that stands for `count`."""
    request = stubs.predict_pb2.PredictRequest(model_spec=make_spec(signature="many"))
    request.inputs["inputs"].dtype = 7
    request.inputs["inputs"].tensor_shape.dim.add(size=count)
    request.inputs["inputs"].string_val.append(bytes(size))
    return request.SerializeToString()


def make_reload():
    request = stubs.model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="tiny", base_path="/", model_platform="tensorflow")
    return request.SerializeToString()


def declare_shapes(victim, opened):
    """Tensors that declare more elements than there are numbers for."""
    shapes = [[2**31], [2**16, 2**16], [2**62, 4], [2**40], [-1], [-2, -2], [2**31, 0, 2**31], [1] * 300]
    requests = [make_declared(shape, float_val=[1.0]) for shape in shapes]
    requests += [make_declared(shape) for shape in shapes]
    requests += [make_declared(shape, string_val=[b"x" * 100]) for shape in shapes]
    return _count(Counter(send_grpc(victim, PREDICT, request) for request in requests))


def _make_doubled(values):
    request = stubs.predict_pb2.PredictRequest(model_spec=make_spec(signature="double"))
    request.inputs["values"].CopyFrom(make_tensor(values))
    return request.SerializeToString()


def _count(codes):
    return ", ".join(f"{number} x {code}" for code, number in sorted(codes.items()))


def _wrap(values):
    return b'{"signature_name": "double", "instances": [' + values + b"]}"


HEALTH_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW_BODY = f"POST {REST_PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{{".encode()
GZIP = ["Content-Encoding: gzip"]
ALL_ENDED = r"^(\d+) calls, \1 ended"
ONLY_REFUSED = r"^\d+ x (4\d\d|closed|INVALID_ARGUMENT|RESOURCE_EXHAUSTED)$"
NEVER_FAILED = r"^(?!.* x (5\d\d|200|no answer))"
SLOW_MESSAGE = struct.pack(">?I", False, 1000) + b"\n"

ATTACKS = {
    "27 silent streams, no token": Attack(partial(open_streams, count=27), "token", ALL_ENDED),
    "170 silent streams, no token": Attack(partial(open_streams, count=170), "token", ALL_ENDED),
    "170 silent streams, with the token": Attack(partial(open_streams, count=170, with_token=True), "token"),
    "170 connections of a silent stream, no token": Attack(
        partial(open_streams, count=170, each=True), "token", ALL_ENDED
    ),
    "27 silent streams": Attack(partial(open_streams, count=27), "small"),
    "170 silent streams": Attack(partial(open_streams, count=170)),
    "170 connections of a silent stream": Attack(partial(open_streams, count=170, each=True)),
    "170 silent streams of reflection": Attack(partial(open_streams, count=170, path=REFLECTION)),
    "170 silent streams of Health/Check": Attack(partial(open_streams, count=170, path=http2.HEALTH), "token"),
    "170 messages, a byte at a time": Attack(partial(open_streams, count=170, said=SLOW_MESSAGE, drip=b"\0")),
    "1,100 silent connections, gRPC": Attack(partial(stay_silent, count=1100, protocol="grpc")),
    "300 halves of a preface": Attack(partial(stay_silent, count=300, protocol="grpc", said=http2.PREFACE[:12])),
    "64 files, 100 silent connections, gRPC": Attack(partial(stay_silent, count=100, protocol="grpc"), "files"),
    "64 files, 100 silent connections, REST": Attack(partial(stay_silent, count=100, protocol="rest"), "files"),
    "64 files, 200 silent connections, both": Attack(partial(stay_silent_everywhere, count=200), "files"),
    "1,100 silent connections, REST": Attack(partial(stay_silent, count=1100, protocol="rest")),
    "215 connections, a request and a byte": Attack(
        partial(stay_silent, count=215, protocol="rest", first=HEALTH_REQUEST, said=b"G")
    ),
    "215 slow heads": Attack(
        partial(stay_silent, count=215, protocol="rest", said=b"GET /healthz HTTP/1.1\r\nX: ", drip=b"a")
    ),
    "215 slow bodies": Attack(partial(stay_silent, count=215, protocol="rest", said=SLOW_BODY, drip=b"[")),
    "215 slow bodies of a second request": Attack(
        partial(stay_silent, count=215, protocol="rest", first=HEALTH_REQUEST, said=SLOW_BODY, drip=b"[")
    ),
    "215 bodies never finished": Attack(
        partial(stay_silent, count=215, protocol="rest", said=SLOW_BODY + b"[" * 10_000)
    ),
    "answers never read": Attack(leave_answers),
    "100,000 fields of a head": Attack(partial(flood_headers, count=100_000, size=1)),
    "a field of 10 MB": Attack(partial(flood_headers, count=1, size=10**7)),
    "20,000 requests in a pipeline": Attack(pipeline),
    "chunks without end": Attack(send_chunks),
    "lengths that contradict": Attack(mix_lengths, expected=r"^(?!.* x (5\d\d|200))"),
    "paths as names": Attack(try_paths, expected=NEVER_FAILED),
    "unknown methods": Attack(flood_methods, expected=r"1000 of 1000 ended; HTTP: (?!.* x 200)"),
    "gzip: 1 MB for 1 GB, REST": Attack(
        partial(post, make=partial(make_gzip_bomb, BOMB_BYTES), fields=GZIP), expected=ONLY_REFUSED
    ),
    "gzip: 10 MB for 10 GB, REST": Attack(
        partial(post, make=partial(make_gzip_bomb, 10 * BOMB_BYTES), fields=GZIP), expected=ONLY_REFUSED
    ),
    "gzip: 1 MB for 1 GB, gRPC": Attack(send_zipped_message),
    "JSON: 100,000 lists deep": Attack(
        partial(post, make=lambda: _wrap(b"[" * 100_000 + b"]" * 100_000)), expected=ONLY_REFUSED
    ),
    "JSON: 60 MB of numbers": Attack(
        partial(post, make=lambda: _wrap(b"0.123456," * 6_600_000 + b"1")), expected=ONLY_REFUSED
    ),
    "JSON: numbers of 100,000 digits": Attack(
        partial(post, make=lambda: _wrap(b",".join([b"9" * 100_000] * 300))), expected=ONLY_REFUSED
    ),
    "JSON: 10 million strings": Attack(
        partial(post, make=lambda: _wrap(b'"",' * 10_000_000 + b'""')), expected=ONLY_REFUSED
    ),
    "JSON: 4 million keys": Attack(
        partial(post, make=lambda: _wrap(b"{" + b",".join(b'"%d":0' % key for key in range(4_000_000)) + b"}")),
        expected=ONLY_REFUSED,
    ),
    "PNG of 7071 x 7071": Attack(partial(call_model, make=partial(make_films, partial(make_png, 7071))), "films"),
    "60 PNGs of 7071 x 7071": Attack(
        partial(call_model, make=partial(make_films, partial(make_png, 7071), 60)), "films", ONLY_REFUSED
    ),
    "60 PNGs of 7071 x 7071 in tf.Examples": Attack(
        partial(call_model, make=partial(make_film_examples, partial(make_png, 7071), 60), path=CLASSIFY),
        "films",
        ONLY_REFUSED,
    ),
    "4 clients of 20 PNGs of 2000 x 2000 that leave": Attack(
        partial(ask_and_leave, make=partial(make_films, partial(make_png, 2000), 20), count=4),
        "films",
        r": OK after [0-4]\.",
    ),
    "JPEG of 65500 x 65500": Attack(partial(call_model, make=partial(make_films, make_jpeg)), "films", ONLY_REFUSED),
    "a string for 4 million": Attack(
        partial(call_model, make=partial(make_repeated_string, 2**22, 64)), expected=ONLY_REFUSED
    ),
    "a string of 1 MB for 100,000": Attack(
        partial(call_model, make=partial(make_repeated_string, 100_000, 10**6)), expected=ONLY_REFUSED
    ),
    "tensors of 2^31 elements": Attack(declare_shapes, expected=ONLY_REFUSED),
    "a context of 1 MB for 100,000 examples": Attack(partial(call_model, make=make_shared_context, path=CLASSIFY)),
    "an example of 300,000 features": Attack(partial(call_model, make=make_many_features, path=CLASSIFY)),
    "1,000 pings": Attack(partial(flood_frames, make=make_ping)),
    "1,000 settings": Attack(partial(flood_frames, make=make_settings)),
    "1,000 calls reset at once": Attack(partial(flood_frames, make=make_reset)),
    "1,000 parts of a head": Attack(partial(flood_frames, make=make_continuation)),
    "50 answers that no window takes": Attack(close_windows),
    "100 reloads without the right": Attack(partial(call_model, make=make_reload, times=100, path=RELOAD)),
    "200 handshakes that stop, gRPC": Attack(partial(stop_handshake, protocol="grpc"), "tls"),
    "200 handshakes that stop, REST": Attack(partial(stop_handshake, protocol="rest"), "tls"),
}
