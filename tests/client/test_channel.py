"""Addresses, retries, tokens, encryption."""

import json
import shutil
import subprocess

import grpc
import pytest

from kmm.client import Client, Tls
from kmm.client.address import Address, parse_address
from kmm.client.channel import list_options, make_metadata
from kmm.errors import InputError, ServerError
from tests.client.stub_server import serve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", Address("localhost", 8500)),
        ("host.example:1/openi", Address("host.example", 1, "openi")),
        ("[::1]:8501/m", Address("[::1]", 8501, "m")),
        ("10.0.0.1:65535", Address("10.0.0.1", 65535)),
    ],
)
def test_addresses(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "host:0", "host:65536", "http://host", "host:x", "host/a/b", "a b", "::1", None])
def test_what_is_no_address(text):
    with pytest.raises(InputError, match="An address is"):
        parse_address(text)


def test_this_machine():
    for host in ("localhost", "127.0.0.1", "127.9.9.9", "[::1]"):
        assert Address(host).is_loopback
    for host in ("host", "10.0.0.1", "[2001:db8::1]", "localhost.example"):
        assert not Address(host).is_loopback


def test_retries_stand_in_the_service_config():
    options = dict(list_options(Address("host"), retries=3, tls=None))
    (method,) = json.loads(options["grpc.service_config"])["methodConfig"]
    assert method["retryPolicy"]["maxAttempts"] == 4
    assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert options["grpc.max_receive_message_length"] == -1
    assert "grpc.enable_http_proxy" not in options
    assert dict(list_options(Address("localhost"), retries=0, tls=None))["grpc.enable_http_proxy"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"retries": 5},
        {"retries": True},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": None},
        {"version": 1, "label": "a"},
        {"version": -1},
        {"model": "other"},
        {"tls": "yes"},
        {"token": "two words"},
        {"token": "line\nbreak"},
        {"token": ""},
        {"tls": Tls(ca="gone.pem")},
    ],
)
def test_arguments_out_of_range(options):
    with pytest.raises(InputError) as error:
        Client("localhost:1/openi", **options)
    assert "break" not in str(error.value) and "words" not in str(error.value)


def test_a_certificate_needs_its_key():
    with pytest.raises(InputError, match="`cert` and `key` together"):
        Tls(cert="a.pem")


def test_a_token_never_travels_unencrypted():
    with pytest.raises(InputError) as error:
        Client("10.0.0.1:8500/openi", token="secret")
    assert "TLS" in str(error.value) and "secret" not in str(error.value)
    assert make_metadata(Address("10.0.0.1"), token="secret", tls=Tls()) == (("authorization", "Bearer secret"),)
    assert make_metadata(Address("10.0.0.1"), token=None, tls=None) == ()


def test_the_token_goes_with_each_request(stub, address, film):
    with Client(address, token="secret") as client:
        client.predict(film)
    assert [headers["authorization"] for headers in stub.metadata] == ["Bearer secret"] * 2


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Files of an authority, a server and a client, made by openssl."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")

    def make(name, *more):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", *more],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip

    make("authority")
    for name in ("server.test", "client"):
        make(name, "-CA", "authority.pem", "-CAkey", "authority.key", "-addext", f"subjectAltName=DNS:{name}",
             "-addext", "basicConstraints=CA:FALSE")  # fmt: skip
    return folder


def make_server_credentials(folder, *, mutual):
    pair = [(folder / "server.test.key").read_bytes(), (folder / "server.test.pem").read_bytes()]
    authority = (folder / "authority.pem").read_bytes()
    return grpc.ssl_server_credentials([pair], authority if mutual else None, mutual)


def test_tls(certificates, stub, film):
    tls = Tls(ca=certificates / "authority.pem", server_name="server.test")
    with serve(stub, credentials=make_server_credentials(certificates, mutual=False)) as port:
        with Client(f"127.0.0.1:{port}/openi", tls=tls, token="secret") as client:
            assert client.predict(film).version == 3
        assert stub.metadata[-1]["authorization"] == "Bearer secret"
        with (
            Client(f"127.0.0.1:{port}/openi", tls=True, retries=0) as client,
            pytest.raises(ServerError, match="UNAVAILABLE"),
        ):
            client.status()


def test_mutual_tls(certificates, stub):
    ca = certificates / "authority.pem"
    own = {"cert": certificates / "client.pem", "key": certificates / "client.key"}
    with serve(stub, credentials=make_server_credentials(certificates, mutual=True)) as port:
        with Client(f"127.0.0.1:{port}/openi", tls=Tls(ca=ca, server_name="server.test", **own)) as client:
            assert client.status()
        nameless = Tls(ca=ca, server_name="server.test")
        with (
            Client(f"127.0.0.1:{port}/openi", tls=nameless, retries=0) as client,
            pytest.raises(ServerError, match="UNAVAILABLE"),
        ):
            client.status()
