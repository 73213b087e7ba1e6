"""HTTP as a transport: what strangers send, slowly, wrongly or without end, and what web pages may ask."""

import asyncio.selector_events
import base64
import errno
import gzip
import json
import logging
import socket
import threading
import time
from contextlib import ExitStack

import httpx
import pytest

import kmm.server.server as server_module
from kmm.errors import InputError
from kmm.server.policy import list_versions, parse_policy, parse_version
from kmm.server.rest import app, body, exchange, http_server
from kmm.server.settings import ModelSettings, ServeSettings
from tests.factories.saved_model import PNG, PNG64, ROW
from tests.factories.servers import running

PATH = "/v1/models/tiny:predict"
DOUBLE = {"signature_name": "double", "instances": [1.5]}
LAST = 2**63 - 1


def connect(server):
    return socket.create_connection(("localhost", server.rest_port), timeout=10)


def write_request(content=b"", *, method="POST", path=PATH, headers=()):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def read_all(client):
    """What a server sends until it closes the connection."""
    answer = b""
    try:
        while chunk := client.recv(2**16):
            answer += chunk
    except ConnectionResetError:
        pass
    return answer


def read_until(client, end):
    answer = b""
    while end not in answer:
        chunk = client.recv(2**16)
        assert chunk, answer
        answer += chunk
    return answer


def ask(server, content=None, *, path=PATH, **headers):
    content = json.dumps(DOUBLE).encode() if content is None else content
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"http://localhost:{server.rest_port}{path}", content=content, headers=headers, timeout=20)


def tell_seconds(server):
    """How long /healthz takes."""
    start = time.monotonic()
    assert httpx.get(f"http://localhost:{server.rest_port}/healthz", timeout=5).status_code == 200
    return time.monotonic() - start


# Time and number


def test_connections_that_fall_silent_after_a_request_keep_nobody_out(tiny):
    with ExitStack() as opened:
        for _ in range(230):
            client = opened.enter_context(connect(tiny[0]))
            client.sendall(write_request(method="GET", path="/healthz"))
            read_until(client, b"SERVING")
            client.sendall(b"G")
        assert tell_seconds(tiny[0]) < 1


@pytest.mark.parametrize("head", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_the_head_of_every_request_has_a_time_limit(versions, monkeypatch, head):
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.3)
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, _), connect(server) as client:
        client.sendall(write_request(method="GET", path="/healthz"))
        read_until(client, b"SERVING")
        client.sendall(head)
        start = time.monotonic()
        assert read_all(client) == b"" and time.monotonic() - start < 3


def test_a_head_that_drips_is_not_waited_for(versions, monkeypatch):
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.3)
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, _), connect(server) as client:
        start = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - start < 5:
                client.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - start < 3


def test_the_body_of_a_later_request_has_a_time_limit(versions):
    settings = {"rest_port": 0, "rest_timeout_seconds": 0.3}
    with running(ModelSettings("tiny", versions), **settings) as (server, _), connect(server) as client:
        client.sendall(write_request(json.dumps(DOUBLE).encode()))
        read_until(client, b"[3.0]}")
        client.sendall(write_request(b"{" + b" " * 99)[:-50])
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 504 ") and b"Connection: close" in answer


def test_the_connection_that_was_silent_longest_makes_room(versions, monkeypatch, caplog):
    monkeypatch.setattr(server_module, "count_connections", lambda *counts: 8)
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, _), ExitStack() as opened:
        silent = [opened.enter_context(connect(server)) for _ in range(40)]
        assert tell_seconds(server) < 1
        assert silent[0].recv(1) == b""
        assert ask(server).status_code == 200
    assert (
        len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    )  # however many there were


def test_a_lack_of_descriptors_neither_spins_nor_floods_the_log(versions, monkeypatch, caplog):
    calls, accept = [], asyncio.selector_events.BaseSelectorEventLoop.sock_accept

    async def fail_at_first(loop, listener):
        calls.append(time.monotonic())
        if len(calls) <= 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(loop, listener)

    monkeypatch.setattr(asyncio.selector_events.BaseSelectorEventLoop, "sock_accept", fail_at_first)
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, _):
        assert tell_seconds(server) < 2
    assert calls[3] - calls[0] >= 3 * http_server.PAUSE_SECONDS and len(caplog.records) <= 1


@pytest.mark.large
def test_an_answer_that_nobody_takes_is_given_up(versions, monkeypatch):
    monkeypatch.setattr(exchange, "LEAST_RATE", 2**30)
    content = b'{"signature_name": "double", "instances": [' + b"0.12345," * 800_000 + b"1]}"
    settings = {"rest_port": 0, "rest_timeout_seconds": 3}
    with running(ModelSettings("tiny", versions), **settings) as (server, _), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("localhost", server.rest_port))
        client.sendall(write_request(content))
        registry, end = server._inference.metrics.registry, time.monotonic() + 20
        labels = {"model_name": "tiny", "status": "OK"}
        while not registry.get_sample_value(":tensorflow:serving:request_count", labels):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert server._rest.room._free < body.ROOM << 26
        while server._rest._exchanges:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert server._rest.room._free == body.ROOM << 26 and server._inference.drain(0)


@pytest.mark.large
def test_bodies_have_only_so_much_room_together(versions, monkeypatch):
    monkeypatch.setattr(http_server, "ROOM", 1)
    with (
        running(ModelSettings("tiny", versions), rest_port=0, max_message_mb=1) as (server, _),
        connect(server) as held,
    ):
        held.sendall(write_request(b" " * 1_000_000)[:-9])
        time.sleep(0.3)
        answer = ask(server, b" " * 1_000_000)
        assert answer.status_code == 503 and "fill its memory" in answer.json()["error"]
        assert tell_seconds(server) < 1
        held.close()
        time.sleep(0.3)
        assert ask(server).status_code == 200


def test_a_server_stops_at_once_while_a_body_is_half_sent(versions, caplog):
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, _), connect(server) as client:
        client.sendall(write_request(b"{" * 99)[:-50])
        time.sleep(0.2)
        start = time.monotonic()
        assert server.stop() is True
        assert time.monotonic() - start < 3 and read_all(client) == b""
    assert not caplog.records


# What is sent


def test_the_token_is_asked_for_before_the_body(versions):
    with running(ModelSettings("tiny", versions), rest_port=0, token="word") as (server, _):
        with connect(server) as client:
            client.sendall(write_request(b"x" * 2**20)[: -(2**20)])
            answer = read_until(client, b"}")
            assert answer.startswith(b"HTTP/1.1 401 ") and b"www-authenticate: bearer" in answer.lower()
        assert ask(server, b" " * 2**22).status_code == 401  # and a client that sends first gets to read it
        assert ask(server, Authorization="Bearer word").status_code == 200


def test_a_client_that_asks_first_is_told_to_go_on_or_not(tiny):
    content = json.dumps(DOUBLE).encode()
    for path, first in ((PATH, b"HTTP/1.1 100 "), ("/v1/models/tiny:dream", b"HTTP/1.1 400 ")):
        with connect(tiny[0]) as client:
            head, _, _ = write_request(content, path=path, headers=["Expect: 100-continue"]).partition(b"\r\n\r\n")
            client.sendall(head + b"\r\n\r\n")
            assert client.recv(13) == first
            if first.endswith(b"100 "):
                client.sendall(content)
                assert b"[3.0]}" in read_until(client, b"[3.0]}")
            else:
                assert b"Connection: close" in read_all(client)


def test_gzip(tiny):
    content = json.dumps(DOUBLE).encode()
    for packed in (gzip.compress(content), gzip.compress(content[:9]) + gzip.compress(content[9:])):
        for name in ("gzip", "GZIP", "x-gzip"):
            assert ask(tiny[0], packed, Content_Encoding=name).json() == {"predictions": [3.0]}
    for wrong in (gzip.compress(content)[:-5], content, gzip.compress(content) + b"more"):
        answer = ask(tiny[0], wrong, Content_Encoding="gzip")
        assert (answer.status_code, answer.json()) == (400, {"error": "The body is not valid gzip."})
    answer = ask(tiny[0], content, Content_Encoding="br")
    assert answer.status_code == 415 and answer.headers["Accept-Encoding"] == "gzip"
    assert ask(tiny[0], content, Content_Encoding="identity").status_code == 200


@pytest.mark.large
def test_a_bomb_is_refused_while_it_is_unpacked(versions):
    bomb = gzip.compress(bytes(2**26))
    with running(ModelSettings("tiny", versions), rest_port=0, max_message_mb=1) as (server, _):
        answer = ask(server, bomb, Content_Encoding="gzip")
        assert (answer.status_code, answer.json()) == (413, {"error": "A request may have at most 1 MiB."})
        time.sleep(0.1)
        assert server._rest.room._free == body.ROOM << 20
        empty = gzip.compress(b"") * 60_000  # more than 1 MiB that becomes nothing
        assert ask(server, empty, Content_Encoding="gzip").status_code == 413


def test_chunks_pipelines_and_heads(tiny):
    content = json.dumps(DOUBLE).encode()
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:7], content[7:])) + b"0\r\n\r\n"
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode()
    with connect(tiny[0]) as client:
        client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked + write_request(content) * 2)
        answer = b""
        while answer.count(b"[3.0]}") < 3:
            answer += client.recv(2**16)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    for wrong in (
        head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        head + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        head + b"Content-Length: -3\r\n\r\nabc",
        head + b"Content-Length: 3_0\r\n\r\nabc",
        head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/9\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ):
        with connect(tiny[0]) as client:
            client.sendall(wrong)
            assert read_all(client).startswith(b"HTTP/1.1 400 "), wrong
    with connect(tiny[0]) as client, pytest.raises(OSError):
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 2**23)
        assert read_all(client)
        raise OSError
    assert tell_seconds(tiny[0]) < 1


def test_methods_and_paths(tiny):
    with httpx.Client(base_url=f"http://localhost:{tiny[0].rest_port}", timeout=20) as client:
        for method, path, code, allowed in (
            ("POST", "/healthz", 405, "GET, HEAD"),
            ("DELETE", "/monitoring/prometheus/metrics", 405, "GET, HEAD"),
            ("PUT", PATH, 405, "GET, HEAD, POST"),
            ("OPTIONS", PATH, 405, "GET, HEAD, POST"),
            ("GET", "/", 404, None),
            ("POST", "/v1", 404, None),
            ("GET", "/v1/models", 400, None),
            ("HEAD", "/healthz", 200, None),
            ("GET", "/healthz?now", 200, None),
            ("GET", "/V1/Models/tiny", 200, None),
            ("GET", "/v1/MODELS/tiny/Labels/stable/METADATA", 200, None),
            ("GET", "/v1/models/%74iny/versions/0000000000000000000002", 200, None),
            ("GET", "/v1/models/Tiny", 404, None),
        ):
            answer = client.request(method, path)
            assert (answer.status_code, answer.headers.get("Allow")) == (code, allowed), (method, path)
            if code >= 400:
                assert list(answer.json()) == ["error"] and answer.headers["Content-Type"] == "application/json"
        assert client.post("/V1/Models/tiny/Versions/2:Predict", json=DOUBLE).json() == {"predictions": [3.0]}
        whole = b"GET http://localhost/healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(tiny[0]) as client:
        client.sendall(whole)
        read_until(client, b"SERVING")


def test_versions_of_64_bits(tiny, tmp_path):
    assert parse_version(str(LAST)) == LAST
    for wrong in (str(LAST + 1), "9" * 19, "9" * 5000, "-1", "1_0", "", "²", "١"):
        assert parse_version(wrong) is None
    for name in (str(LAST), str(LAST + 1), "20261127020000123", "0" * 30 + "7"):
        (tmp_path / name).mkdir()
    assert list(list_versions(tmp_path)) == [7, 20261127020000123, LAST]
    assert parse_policy(f"3,{LAST}").versions == (3, LAST)
    with pytest.raises(InputError):
        parse_policy(str(LAST + 1))
    answer = ask(tiny[0], path=f"/v1/models/tiny/versions/{LAST}:predict")
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": f"Servable not found for request: Specific(tiny, {LAST})"},
    )
    answer = ask(tiny[0], path=f"/v1/models/tiny/versions/{LAST + 1}:predict")
    assert (answer.status_code, answer.json()) == (400, {"error": f"Failed to convert version: {LAST + 1} to numeric."})
    assert ask(tiny[0], path=f"/v1/models/tiny/versions/{'9' * 6000}:predict").status_code == 400


@pytest.mark.parametrize(
    "text, code",
    [
        (base64.encodebytes(PNG * 9).decode(), 200),
        (base64.b64encode(PNG).decode().rstrip("="), 200),
        (" \t" + base64.b64encode(PNG).decode()[:8] + "\r\n\v\f" + base64.b64encode(PNG).decode()[8:] + " ", 200),
        (base64.b64encode(PNG + b"12").decode().removesuffix("="), 400),
        (base64.b64encode(PNG).decode() + "====", 400),
        ("A", 400),
        ("AB-_", 400),
        ("AB\u00e9D", 400),
        ("AB\u00a0C", 400),
        ("data:image/png;base64,", 400),
    ],
)
def test_base64_as_tensorflow_serving_reads_it(tiny, text, code):
    assert len(PNG) % 3 == 2 and len(PNG + b"12") % 3 == 1  # with one and two letters of padding
    row = {"image_bytes": {"b64": text}, "report": ""}
    answer = ask(tiny[0], json.dumps({"signature_name": "raw", "instances": [row]}).encode())
    assert answer.status_code == code
    if code == 200:
        film = answer.json()["predictions"][0]["film_bytes"]["b64"]
        assert base64.b64decode(film) == base64.b64decode(text + "=" * (-len("".join(text.split())) % 4))


def test_numbers_that_are_none_in_json(tiny):
    content = (
        b'{"signature_name": "double", "instances": [Inf, -Inf,Infinity , -Infinity, NaN, -NaN,\n1.5], "": "Inf, "}'
    )
    text = '{"predictions": [Infinity, -Infinity, Infinity, -Infinity, NaN, NaN, 3.0]}'
    assert ask(tiny[0], content).text == text
    for wrong in (b"inf", b"Infin", b"nan", b"+Inf", b"1e999", b"-1E+999", b"9" * 5000):
        assert ask(tiny[0], b'{"signature_name": "double", "instances": [' + wrong + b"]}").status_code == 400


@pytest.mark.parametrize(
    "text",
    [b"\xed\xa0\x80", rb"\ud800", rb"\udc00\ud800", rb"\uD83D", b"\xc0\x80", b"\xff", b"\xf4\x90\x80\x80", b"\xe2\x82"],
)
@pytest.mark.parametrize("place", ["value", "key", "name", "example"])
def test_half_a_character_is_400(tiny, caplog, text, place):
    end = "classify" if place == "example" else "predict"
    content = {
        "value": b'{"signature_name": "raw", "instances": [{"image_bytes": "", "report": "%s heart"}]}',
        "key": b'{"signature_name": "raw", "instances": [{"image_bytes": "", "%s": "heart"}]}',
        "name": b'{"signature_name": "%s", "instances": [1]}',
        "example": b'{"signature_name": "classify", "examples": [{"image_bytes": "", "%s": "heart"}]}',
    }[place].replace(b"%s", text)
    answer = ask(tiny[0], content, path=f"/v1/models/tiny:{end}")
    assert answer.status_code == 400 and answer.json()["error"].startswith("JSON Parse error: ")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_byte_order_mark_is_passed_over_and_utf_16_is_not_read(tiny):
    content = json.dumps(DOUBLE)
    assert ask(tiny[0], b"\xef\xbb\xbf" + content.encode()).json() == {"predictions": [3.0]}
    assert ask(tiny[0], content.encode("utf-16")).status_code == 400


@pytest.mark.parametrize(
    "content",
    [
        b'{"instances": [{"image": [' + b"0.5," * 300_000 + b'0.5], "tokens": [1,2,3,4,5]}]}',  # one flat list
        b'{"inputs": {"image": ['
        + b"[0.5]," * 300_000
        + b'[0.5]], "tokens": [[1,2,3,4,5]]}}',  # lists of another shape
        b'{"instances": [' + b"[]," * 300_000 + b"[]]}",
        b'{"instances": [' + b"[" * 300_000,
        b'{"signature_name": "dream", "instances": [' + b"1," * 300_000 + b"1]}",
        b'{"signature_name": "raw", "instances": [' + b"[1]," * 300_000 + b"[1]]}",
    ],
)
def test_values_that_fit_no_signature_are_refused_before_they_are_parsed(tiny, monkeypatch, content):
    parsed, loads = [], json.loads
    monkeypatch.setattr(
        app.json_document.json, "loads", lambda *given, **named: parsed.append(1) or loads(*given, **named)
    )
    answer = ask(tiny[0], content)
    assert answer.status_code == 400 and not parsed


@pytest.mark.large
def test_large_bodies_that_fit_are_read(tiny):
    rows = 2500  # of 64 + 5 values each: more marks than are free
    assert rows * 69 > app.json_limits.FREE_MARKS
    named = {"instances": [ROW] * rows}
    columns = {"inputs": {name: [value] * rows for name, value in ROW.items()}}
    tricky = rb'{"note": "[[,\",\\", "signat\u0075re_name": "double", "instances": [' + b"1," * 200_000 + b"1]}"
    assert len(ask(tiny[0], json.dumps(named).encode()).json()["predictions"]) == rows
    assert len(ask(tiny[0], json.dumps(columns, indent=1).encode()).json()["outputs"]["version"]) == rows
    assert len(ask(tiny[0], tricky).json()["predictions"]) == 200_001
    words = {"signature_name": "raw", "instances": [{"image_bytes": PNG64, "report": "a, [b] \\ " * 50_000}]}
    assert ask(tiny[0], json.dumps(words).encode()).status_code == 200


def test_a_fault_is_told_neutrally_and_logged_without_words(tiny, monkeypatch, caplog):
    def fail(*arguments):
        raise KeyError("Cough since Monday")

    caplog.set_level(logging.DEBUG)
    for name in ("open", "list_headers"):
        with monkeypatch.context() as context:
            context.setattr(app.App, name, fail)
            answer = ask(tiny[0])
            assert (answer.status_code, answer.json()) == (500, {"error": "The server failed with KeyError."})
    with monkeypatch.context() as context:
        context.setattr(exchange.Exchange, "_write", fail)
        with pytest.raises(httpx.RemoteProtocolError):
            ask(tiny[0])
    with connect(tiny[0]) as client:
        client.sendall(b"Cough HTTP/1.1\r\nCough: 1\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 400 ")
    lines = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(lines) == 3 and all("HTTP: KeyError at kmm/server/rest/" in line.getMessage() for line in lines)
    assert "Cough" not in caplog.text


def test_the_port_opens_when_the_models_are_loaded(versions):
    from kmm.server.server import Server

    server = Server([ModelSettings("tiny", versions)], ServeSettings(port=0, rest_port=0))
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    server.start()
    assert tell_seconds(server) < 1
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    stopping.join(10)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


# Web pages


@pytest.mark.large
def test_pages_of_listed_origins_may_ask(versions):
    origin, other = "https://viewer.example:8443", "https://other.example"
    with running(
        ModelSettings("tiny", versions), rest_port=0, token="word", cors_origins=(origin, "http://localhost:3000")
    ) as (server, _):
        url = f"http://localhost:{server.rest_port}"
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = httpx.options(url + PATH, headers=asked)
        assert (preflight.status_code, preflight.content) == (204, b"") and "Content-Length" not in preflight.headers
        assert preflight.headers["Access-Control-Allow-Origin"] == origin
        assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
        refused = httpx.options(url + PATH, headers={**asked, "Origin": other})
        assert refused.status_code == 403 and "Access-Control-Allow-Origin" not in refused.headers
        for token, code in (("word", 200), ("other", 401)):
            answer = ask(server, Origin=origin, Authorization=f"Bearer {token}")
            assert answer.status_code == code and answer.headers["Access-Control-Allow-Origin"] == origin
            assert answer.headers["Vary"] == "Origin" and "Access-Control-Allow-Credentials" not in answer.headers
        answer = ask(server, Origin=other, Authorization="Bearer word")
        assert answer.status_code == 200 and "Access-Control-Allow-Origin" not in answer.headers
        assert "Access-Control-Allow-Origin" not in httpx.get(f"{url}/healthz", headers={"Origin": origin}).headers
    with running(ModelSettings("tiny", versions), rest_port=0, cors_origins=("*",)) as (server, _):
        answer = ask(server, Origin=other)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["viewer.example", "https://viewer.example/", "https://*.example", "null", "", "a b"]
)
def test_an_origin_that_is_none(origin):
    with pytest.raises(InputError, match="`cors_origins`: "):
        ServeSettings(cors_origins=(origin,))


def test_no_page_may_ask_unless_it_is_listed(tiny):
    answer = ask(tiny[0], Origin="https://viewer.example")
    assert answer.status_code == 200 and not [name for name in answer.headers if name.startswith("access-control")]


def test_a_body_of_very_many_chunks_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(http_server, "MOST_CHUNKS", 100)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    content = json.dumps(DOUBLE).encode()
    whole = head + b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\n\r\n"
    with connect(tiny[0]) as client:
        for _ in range(3):  # each request has its own chunks
            client.sendall(whole)
            assert read_until(client, b"[3.0]}").startswith(b"HTTP/1.1 200 ")
        client.sendall(head + b"1\r\n \r\n" * 200)
        assert read_all(client).startswith(b"HTTP/1.1 400 ")


@pytest.mark.large
def test_a_body_that_drips_keeps_its_connection_no_longer_than_silence(versions, monkeypatch):
    monkeypatch.setattr(server_module, "count_connections", lambda *counts: 3)
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, _), ExitStack() as opened:
        dripping, idle = (opened.enter_context(connect(server)) for _ in range(2))
        dripping.sendall(write_request(b"[" * 99)[:-50])
        idle.sendall(write_request(method="GET", path="/healthz"))
        read_until(idle, b"SERVING")
        for _ in range(5):
            dripping.sendall(b"[")
            time.sleep(0.02)
        for _ in range(2):
            opened.enter_context(connect(server))
        assert read_all(dripping) == b""
        idle.sendall(write_request(method="GET", path="/healthz"))
        read_until(idle, b"SERVING")
