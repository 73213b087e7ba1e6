"""Encrypted connections, and each way in which they fail: one line that names the cause, at once."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time

import grpc
import pytest

from kmm.client import AsyncClient, Client, Tls
from kmm.errors import InputError, ServerError
from tests.factories.stub_server import serve


def make_server_credentials(folder, *, mutual=False, name="server.test"):
    pair = [(folder / f"{name}.key").read_bytes(), (folder / f"{name}.pem").read_bytes()]
    authority = (folder / "authority.pem").read_bytes()
    return grpc.ssl_server_credentials([pair], authority if mutual else None, mutual)


def test_tls(certificates, stub, film):
    tls = Tls(ca=certificates / "authority.pem", server_name="server.test")
    with serve(stub, credentials=make_server_credentials(certificates)) as port:
        with Client(f"127.0.0.1:{port}/openi", tls=tls, token="secret") as client:
            assert client.predict(film).version == 3
        assert stub.metadata[-1]["authorization"] == "Bearer secret"


def test_mutual_tls(certificates, stub):
    own = {"cert": certificates / "client.pem", "key": certificates / "client.key"}
    tls = Tls(ca=certificates / "authority.pem", server_name="server.test", **own)
    credentials = make_server_credentials(certificates, mutual=True)
    with serve(stub, credentials=credentials) as port, Client(f"127.0.0.1:{port}/openi", tls=tls) as client:
        assert client.status()


def test_tls_over_a_unix_socket(certificates, stub, tmp_path):
    tls = Tls(ca=certificates / "authority.pem", server_name="server.test")
    with serve(stub, credentials=make_server_credentials(certificates), place=f"unix:{tmp_path}/kmm.sock"):
        with Client(f"unix:{tmp_path}/kmm.sock", tls=tls) as client:
            assert client.status()
        refused = pytest.raises(ServerError, match='not valid for "localhost"')
        with Client(f"unix:{tmp_path}/kmm.sock", tls=Tls(ca=tls.ca)) as client, refused:
            client.status()


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"ca": "junk.txt"}, "junk.txt contains no PEM certificate"),
        ({"ca": "empty.pem"}, "empty.pem contains no PEM certificate"),
        ({"ca": "authority.der"}, "authority.der contains no PEM certificate"),
        ({"ca": "authority.key"}, "authority.key contains no PEM certificate"),
        ({"ca": "gone.pem"}, "gone.pem cannot be read: No such file"),
        ({"ca": "."}, "cannot be read: Is a directory"),
        ({"cert": "junk.txt", "key": "client.key"}, "junk.txt contains no PEM certificate"),
        ({"cert": "client.pem", "key": "junk.txt"}, "junk.txt is not the PEM key of .*client.pem"),
        ({"cert": "client.pem", "key": "other.key"}, "other.key is not the PEM key of .*client.pem"),
        ({"cert": "client.pem", "key": "client.pem"}, "client.pem is not the PEM key"),
        ({"cert": "client.pem", "key": "locked.key"}, "locked.key .*password"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named_before_anything_is_sent(certificates, files, named):
    tls = Tls(**{name: certificates / file for name, file in {"ca": "authority.pem", **files}.items()})
    with pytest.raises(InputError, match=named) as error:
        Client("localhost:1/openi", tls=tls)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [{"ca": 3}, {"ca": b"a.pem"}, {"ca": "a\0b"}, {"server_name": ""}, {"server_name": "a b"}, {"server_name": b"a"},
     {"server_name": "line\nbreak"}, {"server_name": ".a"}, {"server_name": "a" * 300}, {"key": "a.key"}],
)  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError):
        Tls(**arguments)


# What is set up wrongly: the server, the client, and what is said of it.
MISTAKES = {
    "host name": ({}, {"server_name": None}, 'not valid for "127.0.0.1"'),
    "another name": ({}, {"server_name": "other.test"}, 'not valid for "other.test".*--tls-server-name'),
    "another authority": ({}, {"ca": "other.pem"}, "not trusted: unable to get local issuer.*other.pem"),
    "gRPC's authorities": ({}, {"ca": None}, "not trusted: unable to get local issuer.*--tls-ca"),
    "expired": ({"name": "expired.test"}, {"server_name": "expired.test"}, "not trusted: certificate has expired"),
    "no certificate of the client": ({"mutual": True}, {}, "requires a client certificate.*--tls-cert"),
    "a stranger's": ({"mutual": True}, {"cert": "other.pem", "key": "other.key"}, "does not accept .*other.pem"),
    "a server in plain text": (None, {}, "does not speak TLS"),
    "a client in plain text": ({}, None, "The server speaks TLS.*--tls"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_failed_handshake_says_why(certificates, stub, name):
    server, client, said = MISTAKES[name]
    credentials = None if server is None else make_server_credentials(certificates, **server)
    tls = None
    if client is not None:
        given = {"ca": "authority.pem", "server_name": "server.test", **client}
        tls = Tls(**{key: value if key == "server_name" or value is None else certificates / value
                     for key, value in given.items()})  # fmt: skip

    async def ask(port):
        async with AsyncClient(f"127.0.0.1:{port}/openi", tls=tls, timeout=10, retries=1) as client:
            await client.status()

    with serve(stub, credentials=credentials) as port:
        began = time.monotonic()
        with Client(f"127.0.0.1:{port}/openi", tls=tls, timeout=10) as client, pytest.raises(ServerError) as error:
            client.status()
        assert time.monotonic() - began < (5 if tls is None else 3)  # without TLS the cause is asked for afterwards
        with pytest.raises(ServerError) as other:
            asyncio.run(ask(port))
    assert error.value.code == "UNAVAILABLE" and "\n" not in str(error.value)
    assert str(error.value) == str(other.value)
    with pytest.raises(ServerError, match=said):
        raise error.value


def test_a_web_server_is_no_grpc_server(certificates):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.test.pem", certificates / "server.test.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve_web():
            plain, _ = listener.accept()
            with plain, context.wrap_socket(plain, server_side=True) as secure:
                secure.recv(1)

        thread = threading.Thread(target=serve_web)
        thread.start()
        tls = Tls(ca=certificates / "authority.pem", server_name="server.test")
        refused = pytest.raises(ServerError, match="Give the port of gRPC")
        with Client(f"127.0.0.1:{listener.getsockname()[1]}", tls=tls, timeout=5) as client, refused:
            client.status()
        thread.join()


def test_a_server_that_says_nothing_costs_no_more_than_the_timeout(certificates):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tls, began = Tls(ca=certificates / "authority.pem"), time.monotonic()
        refused = pytest.raises(ServerError, match=r"DEADLINE_EXCEEDED|UNAVAILABLE")
        with Client(f"127.0.0.1:{listener.getsockname()[1]}", tls=tls, timeout=1, retries=0) as client, refused:
            client.status()
        assert time.monotonic() - began < 2


def test_a_busy_server_is_not_asked_for_its_certificate(stub, client, monkeypatch):
    monkeypatch.setattr("kmm.client.base.find_fault", lambda *given: pytest.fail("a handshake is tried"))
    stub.failures = [(grpc.StatusCode.UNAVAILABLE, "The server is busy")] * 4
    with pytest.raises(ServerError, match="busy"):
        client.status()


@pytest.mark.large
def test_the_command_says_one_line_and_grpc_none(certificates, stub):
    """In a process of its own, because gRPC writes to the file of standard error itself."""
    options = ["--tls-ca", certificates / "other.pem", "--tls-server-name", "server.test"]
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    with serve(stub, credentials=make_server_credentials(certificates)) as port:
        found = [
            subprocess.run(
                [sys.executable, "-m", "kmm", "call", f"127.0.0.1:{port}/openi", "status", *map(str, given)],
                capture_output=True, text=True, timeout=60, env=environment,
            )
            for given in (options, [])
        ]  # fmt: skip
    for run, said in zip(found, ("unable to get local issuer certificate", "The server speaks TLS")):
        assert run.returncode == 2 and run.stdout == "" and run.stderr.count("\n") == 1 and said in run.stderr
