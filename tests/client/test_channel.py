"""Addresses, retries, tokens, arguments, and what may travel in plain text."""

import json

import numpy as np
import pytest

from kmm.client import AsyncClient, Client, Tls
from kmm.client.address import Address, parse_address
from kmm.client.channel import list_options, make_metadata, read_token
from kmm.errors import InputError, ServerError
from tests.client.calls import ask
from tests.factories.stub_server import serve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", Address("localhost", 8500)),
        ("host.example:1/openi", Address("host.example", 1, "openi")),
        ("[::1]:8501/m", Address("[::1]", 8501, "m")),
        ("10.0.0.1:65535", Address("10.0.0.1", 65535)),
        ("[::1]", Address("[::1]", 8500)),
        ("[::ffff:127.0.0.1]:1", Address("[::ffff:127.0.0.1]", 1)),
        ("unix:/run/kmm.sock", Address("", 0, None, "/run/kmm.sock")),
        ("unix:///run/kmm.sock", Address("", 0, None, "/run/kmm.sock")),
        ("unix:/run/kmm.sock:openi", Address("", 0, "openi", "/run/kmm.sock")),
    ],
)
def test_addresses(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "host:0", "host:65536", "http://host", "host:x", "host/a/b", "a b", "::1", None),
        *(
            b"host",
            8500,
            "[::1",
            "[1.2.3.4]:1",
            "[::g]:1",
            "[]:1",
            "[::1\n]:1",
            "host:\u0661",
            "h\u00f6st:1",
            "host:1\n",
            "x" * 9999 + " ",
        ),
        *(
            "unix:",
            "unix:8500",
            "unix:kmm.sock",
            "unix://run/kmm.sock",
            "unix:/a:b:c",
            "unix:/a:",
            "unix:/" + "a" * 107,
        ),
        *("unix:/a\0", "unix:/\ud800", "unix-abstract:a", "vsock:1:2"),
    ],
)
def test_text_that_is_not_an_address_is_refused(text):
    with pytest.raises(InputError, match="An address is") as error:
        parse_address(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_zone_of_a_link_is_refused():
    with pytest.raises(InputError, match="without a zone"):
        Client("[fe80::1%eth0]:8500/openi", allow_plaintext=True)


@pytest.mark.parametrize("name", ["kmm.sock", "a b%20.sock"])
def test_unix_sockets(stub, film, tmp_path, name):
    place = tmp_path / name
    with serve(stub, place=Address("", 0, None, str(place)).target):
        with Client(f"unix:{place}:openi") as client:
            assert client.predict(film).version == 3
            assert repr(client) == f"Client('unix:{place}:openi')"
        with Client(f"unix://{place}", model="openi", token="secret") as client:
            assert client.status()
        assert ask(f"unix:{place}:openi", lambda client: client.status())
    with Client(f"unix:{place}", retries=0) as client, pytest.raises(ServerError, match="UNAVAILABLE") as error:
        client.status()
    assert str(error.value).startswith(f"unix:{place}: ")


@pytest.mark.parametrize(("place", "host"), [("[::1]:0", "[::1]"), ("127.0.0.1:0", "[::ffff:127.0.0.1]")])
def test_ipv6(stub, place, host):
    try:
        running = serve(stub, place=place)
        port = running.__enter__()
    except RuntimeError:
        pytest.skip("this machine has no IPv6")
    with Client(f"{host}:{port}/openi", timeout=5, retries=0) as client:
        assert client.predict(None, "abc").probabilities["effusion"] == pytest.approx(0.03)
    running.__exit__(None, None, None)


def test_this_machine():
    for host in ("localhost", "127.0.0.1", "127.9.9.9", "[::1]"):
        assert Address(host).is_loopback
    for host in ("host", "10.0.0.1", "[2001:db8::1]", "localhost.example"):
        assert not Address(host).is_loopback
    assert Address("", 0, None, "/run/kmm.sock").is_loopback


OTHERS = ["10.0.0.1", "films.example", "localhost.evil.example", "127.0.0.1.nip.io", "2130706433", "127.1", "0.0.0.0"]
OTHERS += ["[2001:db8::1]", "[::]", "[::ffff:10.0.0.1]", "[fe80::1]"]


@pytest.mark.parametrize("host", OTHERS)
def test_nothing_goes_to_another_host_in_plain_text_unless_it_is_allowed(host):
    for make in (Client, AsyncClient):
        with pytest.raises(InputError, match=f"^{host}:8500 is another host, .*allow_plaintext".replace("[", r"\[")):
            make(f"{host}:8500/openi")
    with Client(f"{host}:8500/openi", allow_plaintext=True), Client(f"{host}:8500/openi", tls=Tls()):
        pass
    with pytest.raises(InputError, match="A token is sent only over TLS"):
        Client(f"{host}:8500/openi", allow_plaintext=True, token="secret")


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
        {"timeout": 1e300},
        {"timeout": float("inf")},
        {"timeout": 10**400},
        {"timeout": "30"},
        {"timeout": True},
        {"timeout": np.float32("nan")},
        {"timeout": np.array([1.0])},
        {"retries": 1.0},
        {"retries": -1},
        {"version": 2**63},
        {"version": "1"},
        {"version": True},
        {"version": 1.0},
        {"label": ""},
        {"label": 3},
        {"label": "line\nbreak"},
        {"label": "\ud800"},
        {"model": b"openi"},
        {"model": ""},
        {"token": b"secret"},
        {"token": "a" * 5000},
        {"tls": ""},
        {"allow_plaintext": 1},
        {"allow_plaintext": None},
    ],
)
def test_arguments_out_of_range(options):
    for make in (Client, AsyncClient):
        with pytest.raises(InputError) as error:
            make("localhost:1/openi", **options)
        assert "break" not in str(error.value) and "words" not in str(error.value)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_numbers_of_numpy_are_taken(stub, address):
    numbers = {"version": np.int64(3), "timeout": np.float32(5), "retries": np.int8(1)}
    with Client(address, **numbers) as client:
        assert client.predict(None, "abc").version == 3
        (row,) = client.predict_folder(list_studies(1), concurrency=np.int32(2))
        assert row.prediction


def list_studies(count):
    from kmm.data.study import Report, Study

    return [Study(str(number), "", report=Report(findings="a" * (1 + number % 90))) for number in range(count)]


def test_a_closed_client_says_so(stub, address, film):
    def refused():
        return pytest.raises(InputError, match=r"^The client is closed\. Create a new one\.$")

    client = Client(address)
    client.close()
    client.close()
    for method in ("predict", "explain", "embed", "classify"):
        for arguments in ((film, "ab"), ([],)):
            with refused():
                getattr(client, method)(*arguments)
    for method in ("status", "metadata", "describe", "__enter__"):
        with refused():
            getattr(client, method)()
    with refused():
        client.predict_folder([film])

    async def work(client):
        await client.close()
        for method, arguments in [("predict", (film,)), ("predict", ([],)), ("status", ()), ("describe", ())]:
            with refused():
                await getattr(client, method)(*arguments)
        with refused():
            client.predict_folder([film])

    ask(address, work)


def test_an_async_client_belongs_to_its_loop(address):
    import asyncio

    with pytest.raises(InputError, match="inside a running event loop"):
        AsyncClient(address)

    async def make():
        return AsyncClient(address)

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(make())
    with pytest.raises(InputError, match="the event loop that created it"):
        asyncio.run(client.status())
    loop.run_until_complete(client.close())
    loop.close()


def test_targets_and_sources_of_other_types(stub, client, film):
    for target in (3, b"mass", np.array(["mass"]), ["mass", 1][1:]):
        with pytest.raises(InputError, match="`target` must be the name of a label"):
            client.explain(film, target=target)
    for sources in (None, 5, b"folder", 1.5):
        with pytest.raises(InputError, match="`sources` must be paths or studies"):
            client.predict_folder(sources)
    with pytest.raises(InputError, match="Received one of type int"):
        list(client.predict_folder([film, 5]))


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


def test_files_of_tokens(tmp_path):
    file = tmp_path / "token"
    file.write_text("secret-1\n")
    assert read_token(file) == "secret-1"
    for content in (b"", b"\n", b"two words", "ü".encode()):
        file.write_bytes(content)
        with pytest.raises(InputError, match="does not hold a token"):
            read_token(file)
