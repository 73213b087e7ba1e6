"""What strangers may try against a server: each attack bounded in count and time, on this host alone.

An attack takes a `Victim` and an `ExitStack` on which it leaves what it opened, so that it goes on until the end of the
measurement; it returns a line that says what it saw. `ATTACKS` names all of them.
"""

import struct
from dataclasses import dataclass
from functools import partial

from tests.server import http2
from tests.server.attack_clients import hold_messages, open_streams, stay_silent, stay_silent_everywhere, stop_handshake
from tests.server.attack_grpc import (
    ask_and_leave,
    call_model,
    close_windows,
    declare_shapes,
    flood_frames,
    leave_at_once,
    make_continuation,
    make_ping,
    make_reset,
    send_zipped_message,
)
from tests.server.attack_http import (
    REST_PREDICT,
    flood_headers,
    flood_methods,
    leave_answers,
    mix_lengths,
    pipeline,
    post,
    send_chunks,
    try_paths,
)
from tests.server.attack_messages import (
    BOMB_BYTES,
    CLASSIFY,
    RELOAD,
    make_film_examples,
    make_films,
    make_gzip_bomb,
    make_jpeg,
    make_many_features,
    make_png,
    make_reload,
    make_repeated_string,
    make_shared_context,
    wrap_values,
)

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
HEALTH_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW_BODY = f"POST {REST_PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{{".encode()
GZIP = ["Content-Encoding: gzip"]
ALL_ENDED = r"^(\d+) calls, \1 ended"
ONLY_REFUSED = r"^\d+ x (4\d\d|closed|INVALID_ARGUMENT|RESOURCE_EXHAUSTED)$"
NEVER_FAILED = r"^(?!.* x (5\d\d|200|no answer))"
SLOW_MESSAGE = struct.pack(">?I", False, 1000) + b"\n"


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


ATTACKS = {
    "170 silent streams, no token": Attack(partial(open_streams, count=170), "token", ALL_ENDED),
    "170 silent streams, with the token": Attack(partial(open_streams, count=170, with_token=True), "token"),
    "170 connections of a silent stream, no token": Attack(
        partial(open_streams, count=170, each=True), "token", ALL_ENDED
    ),
    "170 silent streams": Attack(partial(open_streams, count=170)),
    "170 silent streams of reflection": Attack(partial(open_streams, count=170, path=REFLECTION)),
    "170 silent streams of Health/Check": Attack(partial(open_streams, count=170, path=http2.HEALTH), "token"),
    "170 messages, a byte at a time": Attack(partial(open_streams, count=170, said=SLOW_MESSAGE, drip=b"\0")),
    "1,100 silent connections, gRPC": Attack(partial(stay_silent, count=1100, protocol="grpc")),
    "300 halves of a preface": Attack(partial(stay_silent, count=300, protocol="grpc", said=http2.PREFACE[:12])),
    "64 files, 200 silent connections, both": Attack(partial(stay_silent_everywhere, count=200), "files"),
    "1,100 silent connections, REST": Attack(partial(stay_silent, count=1100, protocol="rest")),
    "215 connections, a request and a byte": Attack(
        partial(stay_silent, count=215, protocol="rest", first=HEALTH_REQUEST, said=b"G")
    ),
    "215 slow heads": Attack(
        partial(stay_silent, count=215, protocol="rest", said=b"GET /healthz HTTP/1.1\r\nX: ", drip=b"a")
    ),
    "215 slow bodies of a second request": Attack(
        partial(stay_silent, count=215, protocol="rest", first=HEALTH_REQUEST, said=SLOW_BODY, drip=b"[")
    ),
    "30 messages of 60 MB, all but a byte, gRPC": Attack(
        partial(hold_messages, count=30, size=60_000_000, protocol="grpc")
    ),
    "30 bodies of 60 MB, all but a byte, REST": Attack(
        partial(hold_messages, count=30, size=60_000_000, protocol="rest")
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
    "gzip: 1 MB for 1 GB, gRPC": Attack(send_zipped_message),
    "JSON: 100,000 lists deep": Attack(
        partial(post, make=lambda: wrap_values(b"[" * 100_000 + b"]" * 100_000)), expected=ONLY_REFUSED
    ),
    "JSON: 60 MB of numbers": Attack(
        partial(post, make=lambda: wrap_values(b"0.123456," * 6_600_000 + b"1")), expected=ONLY_REFUSED
    ),
    "JSON: numbers of 100,000 digits": Attack(
        partial(post, make=lambda: wrap_values(b",".join([b"9" * 100_000] * 300))), expected=ONLY_REFUSED
    ),
    "JSON: 10 million strings": Attack(
        partial(post, make=lambda: wrap_values(b'"",' * 10_000_000 + b'""')), expected=ONLY_REFUSED
    ),
    "JSON: 4 million keys": Attack(
        partial(post, make=lambda: wrap_values(b"{" + b",".join(b'"%d":0' % key for key in range(4_000_000)) + b"}")),
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
    "1,000 calls reset at once": Attack(partial(flood_frames, make=make_reset)),
    "1,000 parts of a head": Attack(partial(flood_frames, make=make_continuation)),
    "50 answers that no window takes": Attack(close_windows),
    "50 clients that leave before their answer": Attack(partial(leave_at_once, count=50)),
    "100 reloads without the right": Attack(partial(call_model, make=make_reload, times=100, path=RELOAD)),
    "200 handshakes that stop, gRPC": Attack(partial(stop_handshake, protocol="grpc"), "tls"),
    "200 handshakes that stop, REST": Attack(partial(stop_handshake, protocol="rest"), "tls"),
}
