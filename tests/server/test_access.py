"""TLS, certificates of clients, tokens, addresses."""

import contextlib
import shutil
import socket
import ssl
import subprocess

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kmm.errors import InputError
from kmm.server import relay
from kmm.server.access import read_token
from kmm.server.server import Server
from kmm.server.settings import ModelSettings, ServeSettings
from tests.server.conftest import running
from tests.server.tiny_model import make_predict

TOKEN = "a-token-of-the-test"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """An authority with certificates for localhost and for a client: a folder of PEM files."""
    if not shutil.which("openssl"):
        pytest.skip("no command openssl to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes")
    for authority in ("authority", "other"):
        openssl(*new, "-x509", "-days", "2", "-keyout", f"{authority}.key", "-out", f"{authority}.pem",
                "-subj", f"/CN={authority}")  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, authority in (("server", "authority"), ("client", "authority"), ("stranger", "other")):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
    openssl("rsa", "-aes256", "-passout", "pass:word", "-in", "server.key", "-out", "locked.key")
    return folder


def read(folder, *names):
    return [(folder / name).read_bytes() for name in names]


def serving(versions, folder, **settings):
    return running(
        ModelSettings("tiny", versions),
        rest_port=0,
        certificate=folder / "server.pem",
        key=folder / "server.key",
        credentials=grpc.ssl_channel_credentials(*read(folder, "authority.pem", "client.key", "client.pem")),
        **settings,
    )


def fail(address, credentials):
    with grpc.secure_channel(address, credentials) as channel:
        probe = health_pb2_grpc.HealthStub(channel).Check
        with pytest.raises(grpc.RpcError) as caught:
            probe(health_pb2.HealthCheckRequest(), timeout=5)
    return caught.value.code()


def test_tls(versions, certificates):
    with serving(versions, certificates) as (server, face):
        assert face.predict.Predict(make_predict(), timeout=20).outputs
        other = grpc.ssl_channel_credentials(*read(certificates, "other.pem"))
        assert fail(f"localhost:{server.port}", other) == grpc.StatusCode.UNAVAILABLE
        url = f"https://localhost:{server.rest_port}/v1/models/tiny"
        trusted = ssl.create_default_context(cafile=str(certificates / "authority.pem"))
        assert httpx.get(url, verify=trusted).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


def test_a_handshake_that_stops_is_closed(versions, certificates, monkeypatch):
    monkeypatch.setattr(relay, "HANDSHAKE_SECONDS", 0.5)
    with serving(versions, certificates) as (server, face), contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5)) for _ in range(30)
        ]
        for client in clients:
            client.sendall(b"\x16\x03\x01\x02")  # the begin of a ClientHello
        assert face.predict.Predict(make_predict(), timeout=5).outputs
        assert [client.recv(100) for client in clients] == [b""] * 30
        assert face.predict.Predict(make_predict(), timeout=5).outputs


def test_certificates_of_clients(versions, certificates):
    with serving(versions, certificates, client_authority=certificates / "authority.pem") as (server, face):
        assert face.predict.Predict(make_predict(), timeout=20).outputs
        authority, key, stranger = read(certificates, "authority.pem", "stranger.key", "stranger.pem")
        for credentials in (
            grpc.ssl_channel_credentials(authority),
            grpc.ssl_channel_credentials(authority, key, stranger),
        ):
            assert fail(f"localhost:{server.port}", credentials) == grpc.StatusCode.UNAVAILABLE
        url = f"https://localhost:{server.rest_port}/v1/models/tiny"
        trusted = ssl.create_default_context(cafile=str(certificates / "authority.pem"))
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=trusted)
        trusted.load_cert_chain(certificates / "client.pem", certificates / "client.key")
        assert httpx.get(url, verify=trusted).status_code == 200


def test_tokens(versions, caplog):
    caplog.set_level("DEBUG")
    with running(ModelSettings("tiny", versions), rest_port=0, token=TOKEN) as (server, face):
        good = (("authorization", f"Bearer {TOKEN}"),)
        assert face.predict.Predict(make_predict(), metadata=good, timeout=20).outputs
        for bad in ((), (("authorization", "Bearer other"),), (("authorization", TOKEN),), good + good):
            with pytest.raises(grpc.RpcError) as caught:
                face.predict.Predict(make_predict(), metadata=bad, timeout=20)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        probe = health_pb2_grpc.HealthStub(face.channel).Check
        assert probe(health_pb2.HealthCheckRequest(), timeout=20).status == 1
        with httpx.Client(base_url=f"http://localhost:{server.rest_port}") as client:
            for path in ("/v1/models/tiny", "/monitoring/prometheus/metrics"):
                assert client.get(path).status_code == 401
                assert client.get(path, headers={"Authorization": "Bearer ü".encode()}).status_code == 401
                assert client.get(path, headers=dict(good)).status_code == 200
            assert client.get("/healthz").status_code == 200
            metrics = client.get("/monitoring/prometheus/metrics", headers=dict(good)).text
        assert ':tensorflow:serving:request_count{model_name="",status="UNAUTHENTICATED"} 8.0' in metrics
    assert TOKEN not in caplog.text and TOKEN not in repr(ServeSettings(token=TOKEN))


def test_files_of_tokens(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
    for content in (b"", b"\n", b"two words", "ü".encode()):
        file.write_bytes(content)
        with pytest.raises(InputError, match="expected a token"):
            read_token(file)


@pytest.mark.parametrize(
    "settings, complaint",
    [
        ({"host": "0.0.0.0"}, "other hosts may connect with TLS only"),
        ({"host": "::"}, "other hosts may connect with TLS only"),
        ({"certificate": "server.pem"}, "both a certificate and its key"),
        ({"client_authority": "authority.pem"}, "Certificates of clients need TLS"),
        ({"host": "0.0.0.0", "allow_plaintext": True, "allow_reload": True}, "may load folders .* only with a token"),
    ],
)
def test_what_is_not_safe_is_refused(versions, settings, complaint):
    with pytest.raises(InputError, match=complaint):
        Server([ModelSettings("tiny", versions)], ServeSettings(port=0, **settings))


def test_other_hosts_in_plain_text_only_when_told_so(versions):
    with running(ModelSettings("tiny", versions), host="0.0.0.0", allow_plaintext=True) as (_, face):
        assert face.predict.Predict(make_predict(), timeout=20).outputs


def test_other_hosts_may_reload_with_a_token(versions):
    settings = {"host": "0.0.0.0", "allow_plaintext": True, "allow_reload": True, "token": TOKEN}
    with running(ModelSettings("tiny", versions), **settings) as (server, _):
        assert server.models == {"tiny": [2]}


@pytest.mark.parametrize(
    "fault, name, complaint",
    [
        ({"certificate": "none.pem"}, "none.pem", "expected certificates in PEM. No such file or directory."),
        ({"certificate": "names"}, "names", "expected certificates in PEM."),
        ({"key": "none.key"}, "none.key", "server.pem in PEM, without a password. No such file or directory."),
        ({"key": "names"}, "names", "server.pem in PEM, without a password."),
        ({"key": "client.key"}, "client.key", "server.pem in PEM, without a password."),
        ({"key": "locked.key"}, "locked.key", "server.pem in PEM, without a password."),
        ({"client_authority": "names"}, "names", "expected certificates in PEM."),
    ],
)
def test_a_faulty_file_of_tls_is_named(versions, certificates, fault, name, complaint):
    files = {"certificate": "server.pem", "key": "server.key", **fault}
    settings = ServeSettings(port=0, rest_port=None, **{key: certificates / file for key, file in files.items()})
    with pytest.raises(InputError) as caught:
        Server([ModelSettings("tiny", versions)], settings)
    assert str(caught.value).startswith(f"{certificates / name}: expected ")
    assert str(caught.value).endswith(complaint)


def test_a_server_of_http_that_ends_at_its_start(versions, monkeypatch):
    monkeypatch.setattr("uvicorn.Server.run", lambda *arguments: None)
    server = Server([ModelSettings("tiny", versions)], ServeSettings(port=0, rest_port=0))
    with pytest.raises(InputError, match=f"127.0.0.1:{server.rest_port}: the server of HTTP ended at its start"):
        server.start()


def test_an_address_that_is_taken(versions, tiny):
    for taken in ({"port": tiny[0].port}, {"port": 0, "rest_port": tiny[0].rest_port}):
        with pytest.raises(InputError, match="expected an address that is free"):
            Server([ModelSettings("tiny", versions)], ServeSettings(**{"rest_port": None, **taken}))
