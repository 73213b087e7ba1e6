"""TLS, certificates of clients, tokens, addresses; and their files, which change while the server runs."""

import contextlib
import logging
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kmm.errors import InputError
from kmm.server.access import Certificates, Tokens
from kmm.server.grpc import relay
from kmm.server.server import Server
from kmm.server.settings import ModelSettings, ServeSettings
from kmm.server.status import ServingError
from tests.factories.saved_model import make_predict
from tests.factories.servers import running, wait_for

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
    pairs = (("server", "authority"), ("next", "authority"), ("client", "authority"), ("stranger", "other"))
    for name, authority in pairs:
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
    openssl("rsa", "-aes256", "-passout", "pass:word", "-in", "server.key", "-out", "locked.key")
    return folder


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


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


@pytest.mark.large
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
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "text, good, bad",
    [
        (b"one\ntwo\n", ["one", "two"], ["", "one two", "three"]),
        (b"# all\n\nviewer one # since May\n  two\t\r\n", ["one", "two"], ["viewer", "#", "viewer one"]),
        (b"viewer one\nviewer two", ["one", "two"], ["viewer"]),  # the old and the new token of a client
        (b"a#b\nname c#d", ["a#b", "c#d"], ["a", "c"]),
        (b"x" * 4096, ["x" * 4096], ["x" * 4095]),
    ],
)
def test_several_tokens(tmp_path, text, good, bad):
    (tmp_path / "tokens").write_bytes(text)
    tokens = Tokens(tmp_path / "tokens")
    for token in good:
        tokens.check(f"Bearer {token}")
    for header in [f"Bearer {token}" for token in bad] + [*good, "", "\udcff", "Bearer ü", f"Bearer {good[0]} "]:
        with pytest.raises(ServingError, match="Bearer TOKEN") as caught:
            tokens.check(header)
        assert caught.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "text, complaint",
    [
        (b"", "tokens: expected a token in at least one line. Received: none."),
        (b"# nothing\n\n", "tokens: expected a token in at least one line. Received: none."),
        (b"secret\nname secret2 more\n", "tokens, line 2: expected a token, or a name and a token"),
        (b"secret\n\xff\n", "tokens, line 2: expected a token"),
        (b"x" * 4097, "tokens, line 1: expected a token"),
        (b"secret\nother secret\n", "tokens, line 2: expected each token once."),
    ],
)
def test_faulty_files_of_tokens(tmp_path, text, complaint):
    (tmp_path / "tokens").write_bytes(text)
    with pytest.raises(InputError) as caught:
        Tokens(tmp_path / "tokens")
    assert complaint in str(caught.value) and "secret" not in str(caught.value)


def test_all_tokens_are_compared(tmp_path, monkeypatch):
    """The time of an answer does not tell which token matched, or how far."""
    import hmac

    tokens, compared = Tokens(write(tmp_path / "tokens", "one", "two", "three")), []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *given: compared.append(given) or compare(*given))
    for header in ("Bearer one", "Bearer three"):
        tokens.check(header)
    with pytest.raises(ServingError):
        tokens.check("")
    assert len(compared) == 9 and {len(part) for given in compared for part in given} == {32}


class Stream:
    """Clients that ask again and again, over gRPC and HTTP, with a token that changes: what failed."""

    def __init__(self, server, face, token):
        self.token, self.failures, self.count, self._done = token, [], 0, threading.Event()
        self._server, self._face = server, face
        self._threads = [threading.Thread(target=ask) for ask in (self._ask_grpc, self._ask_http)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.count > 5)
        return self

    def __exit__(self, *error):
        wait_for(lambda count=self.count: self.count > count + 5)
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask_grpc(self):
        while not self._done.is_set():
            try:
                self._face.predict.Predict(make_predict(), metadata=bearer(self.token), timeout=20)
                self.count += 1
            except grpc.RpcError as error:
                self.failures.append(error)

    def _ask_http(self):
        with httpx.Client(base_url=f"http://localhost:{self._server.rest_port}", timeout=20) as client:
            while not self._done.is_set():
                found = client.get("/v1/models/tiny", headers=dict(bearer(self.token)))
                self.count += 1
                if found.status_code != 200:
                    self.failures.append(found.text)


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


def is_allowed(server, face, token):
    """Whether a token opens both faces; they must agree."""
    url = f"http://localhost:{server.rest_port}/v1/models/tiny"
    by_http = httpx.get(url, headers=dict(bearer(token))).status_code
    try:
        face.predict.Predict(make_predict(), metadata=bearer(token), timeout=20)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        return by_http != 401  # one of the two requests may have come before the change
    return by_http == 200


@pytest.mark.large
def test_tokens_change_under_load(versions, tmp_path, caplog):
    caplog.set_level("INFO")
    path = write(tmp_path / "tokens", "old")
    settings = {"rest_port": 0, "token_file": path, "poll_seconds": 0.05}
    with running(ModelSettings("tiny", versions), **settings) as (server, face), Stream(server, face, "old") as stream:
        write(path, "old", "viewer new")
        wait_for(lambda: is_allowed(server, face, "new"))
        stream.token = "new"
        time.sleep(0.3)  # until the last requests with the old token are answered
        write(path, "viewer new")
        began = time.monotonic()
        wait_for(lambda: not is_allowed(server, face, "old"))
        assert time.monotonic() - began < 5
        for fault in ("", "a b c\n", "viewer new"):  # empty, faulty, without its newline
            path.write_text(fault)
            time.sleep(0.05)
        path.write_text("viewer ne")  # half written: gone before it could be seen twice
        path.write_text("")
        time.sleep(0.3)
        assert is_allowed(server, face, "new") and not is_allowed(server, face, "old")
    assert not stream.failures
    faults = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(set(faults)) == len(faults) >= 1 and all(
        said.startswith("tokens: not reloaded, the last valid ones") for said in faults
    )


def find_serial(port, folder, *, protocols=(), client=None):
    """The serial number of the certificate that a new connection gets; None if it is refused."""
    context = ssl.create_default_context(cafile=str(folder / "authority.pem"))
    if protocols:
        context.set_alpn_protocols(protocols)
    if client:
        context.load_cert_chain(folder / f"{client}.pem", folder / f"{client}.key")
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" if not protocols else b"")
            refused = client is not None and not secure.recv(1)  # TLS 1.3 refuses a client after its handshake
            return None if refused else secure.getpeercert()["serialNumber"]
    except (ssl.SSLError, ConnectionError):
        return None


def find_serials(server, folder, **options):
    return {
        find_serial(server.port, folder, protocols=["h2"], **options),
        find_serial(server.rest_port, folder, **options),
    }


def read_serial(path):
    done = subprocess.run(
        ["openssl", "x509", "-serial", "-noout", "-in", path], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().removeprefix("serial=")


def put(folder, name, content):
    """Replaces a file in one step."""
    (folder / ".new").write_bytes(content)
    os.replace(folder / ".new", folder / name)


@pytest.fixture
def mounted(certificates, tmp_path):
    """A folder with a certificate and a key that a test may change."""
    for name in ("server.pem", "server.key", "authority.pem"):
        shutil.copy(certificates / name, tmp_path / name)
    return tmp_path


@pytest.mark.large
def test_certificates_change_while_the_server_runs(versions, certificates, mounted, caplog):
    """The pair is replaced one file after the other: until both are there the old pair answers."""
    settings = {"certificate": mounted / "server.pem", "key": mounted / "server.key", "rest_port": 0}
    credentials = grpc.ssl_channel_credentials(*read(certificates, "authority.pem"))
    model = ModelSettings("tiny", versions)
    with running(model, credentials=credentials, poll_seconds=0.05, **settings) as (server, face):
        first, second = read_serial(certificates / "server.pem"), read_serial(certificates / "next.pem")
        assert find_serials(server, certificates) == {first} != {second}
        put(mounted, "server.pem", (certificates / "next.pem").read_bytes())
        wait_for(lambda: "server.key: expected the key of" in caplog.text)
        assert find_serials(server, certificates) == {first}
        put(mounted, "server.key", (certificates / "next.key").read_bytes())
        wait_for(lambda: find_serials(server, certificates) == {second})
        assert face.predict.Predict(make_predict(), timeout=20).outputs  # the open connection goes on
        for fault in (b"", (certificates / "next.pem").read_bytes()[:200]):
            (mounted / "server.pem").write_bytes(fault)
            time.sleep(0.2)
            assert find_serials(server, certificates) == {second}
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == len(set(said)) and all(
        line.startswith("certificates: not reloaded, the last valid ones") for line in said
    )


def test_grpc_is_given_each_set_of_certificates_once(certificates, mounted):
    """It owns a set and frees it: whoever gives the same one again lets it free memory twice."""
    held = Certificates(ServeSettings(certificate=mounted / "server.pem", key=mounted / "server.key"))
    held.make_grpc_credentials()
    assert held._fetch_configuration() is None
    put(mounted, "server.key", (certificates / "next.key").read_bytes())
    put(mounted, "server.pem", (certificates / "next.pem").read_bytes())
    held.reload(at_once=True)
    assert held._fetch_configuration() is not None
    assert held._fetch_configuration() is None


def test_an_authority_of_clients_that_is_replaced_is_trusted_no_more(versions, certificates, mounted):
    settings = {"certificate": mounted / "server.pem", "key": mounted / "server.key", "rest_port": 0}
    files = ("authority.pem", "client.key", "client.pem")
    credentials = grpc.ssl_channel_credentials(*read(certificates, *files))
    with running(
        ModelSettings("tiny", versions),
        client_authority=mounted / "authority.pem",
        credentials=credentials,
        poll_seconds=0.05,
        **settings,
    ) as (server, face):
        assert face.predict.Predict(make_predict(), timeout=20).outputs
        assert find_serial(server.rest_port, certificates, client="client")
        assert find_serial(server.rest_port, certificates, client="stranger") is None
        put(mounted, "authority.pem", (certificates / "other.pem").read_bytes())
        wait_for(lambda: find_serial(server.rest_port, certificates, client="stranger"))
        assert find_serial(server.rest_port, certificates, client="client") is None
        assert fail(f"localhost:{server.port}", credentials) == grpc.StatusCode.UNAVAILABLE
        assert face.predict.Predict(make_predict(), timeout=20).outputs  # it was let in before


def write_config(path, **fields):
    """An SSLConfig in text form, with files inside it."""
    lines = [
        f'{name}: "{value.read_text().replace(chr(10), chr(92) + "n")}"'
        if name != "client_verify"
        else f"{name}: {value}"
        for name, value in fields.items()
    ]
    path.with_suffix(".new").write_text("\n".join(lines) + "\n")
    path.with_suffix(".new").replace(path)
    return path


def test_the_ssl_config_of_tensorflow_serving(versions, certificates, tmp_path, caplog):
    def write_pair(name, **fields):
        pair = {"server_cert": certificates / f"{name}.pem", "server_key": certificates / f"{name}.key"}
        return write_config(tmp_path / "ssl.config", **pair, **fields)

    ask = {"custom_ca": certificates / "authority.pem", "client_verify": "true"}
    path = write_pair("server", **ask)
    credentials = grpc.ssl_channel_credentials(*read(certificates, "authority.pem", "client.key", "client.pem"))
    model, settings = ModelSettings("tiny", versions), {"rest_port": 0, "poll_seconds": 0.05}
    with running(model, tls_config=path, credentials=credentials, **settings) as (server, face):
        assert face.predict.Predict(make_predict(), timeout=20).outputs
        assert find_serial(server.rest_port, certificates, client="stranger") is None
        write_pair("next", **ask)
        second = read_serial(certificates / "next.pem")
        wait_for(lambda: find_serial(server.rest_port, certificates, client="client") == second)
        write_pair("server")
        wait_for(lambda: "`client_verify` cannot change while the server runs" in caplog.text)
        assert find_serial(server.rest_port, certificates, client="client") == second
    with pytest.raises(InputError, match="`client_verify` needs `custom_ca`"):
        Certificates(ServeSettings(tls_config=write_pair("server", client_verify="true")))
    with pytest.raises(InputError, match="either --tls-config or --tls-cert"):
        Certificates(ServeSettings(tls_config=path, certificate=certificates / "server.pem"))
    path.write_text('server_key: "PRIVATE')
    with pytest.raises(InputError, match="expected the text of a SSLConfig") as caught:
        Certificates(ServeSettings(tls_config=path))
    assert "PRIVATE" not in str(caught.value)


def test_certificate_and_key_in_one_file(versions, certificates, tmp_path):
    path = tmp_path / "both.pem"
    path.write_bytes(b"".join(read(certificates, "server.pem", "server.key")))
    credentials = grpc.ssl_channel_credentials(*read(certificates, "authority.pem"))
    settings = {"certificate": path, "key": path, "credentials": credentials, "rest_port": 0}
    with running(ModelSettings("tiny", versions), **settings) as (server, face):
        assert face.predict.Predict(make_predict(), timeout=20).outputs
        assert find_serials(server, certificates) == {read_serial(certificates / "server.pem")}


@pytest.mark.parametrize(
    "settings, complaint",
    [
        ({"host": "0.0.0.0"}, "other hosts may connect with TLS only"),
        ({"host": "::"}, "other hosts may connect with TLS only"),
        ({"certificate": "server.pem"}, "both a certificate and its key"),
        ({"client_authority": "authority.pem"}, "Client certificates need TLS"),
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
    monkeypatch.setattr("kmm.server.rest.http_server.RestServer._run", lambda server: None)
    server = Server([ModelSettings("tiny", versions)], ServeSettings(port=0, rest_port=0))
    with pytest.raises(InputError, match=f"127.0.0.1:{server.rest_port}: the HTTP server stopped at its start"):
        server.start()


def test_an_address_that_is_taken(versions, tiny):
    for taken in ({"port": tiny[0].port}, {"port": 0, "rest_port": tiny[0].rest_port}):
        with pytest.raises(InputError, match="cannot listen on this address"):
            Server([ModelSettings("tiny", versions)], ServeSettings(**{"rest_port": None, **taken}))
