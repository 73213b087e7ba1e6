"""Where a server is and how it is reached: address, encryption, token, retries, and what its errors say."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import grpc

from kmm.errors import InputError, ServerError
from kmm.hosts import is_loopback

DEFAULT_PORT = 8500
MAX_RETRIES = 4  # gRPC makes at most five attempts
RETRY_BUFFER_BYTES = 256 * 2**20  # a larger request is not sent again; gRPC's own limit is less than a film
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?(?:/(?P<model>[^/\s]+))?")
_NODES = re.compile(r"\s*\[\[\{\{.*|\{\{function_node [^}]*\}\}\s*", re.DOTALL)  # where in its graph TensorFlow failed
_ASSERTION = re.compile(r".*assertion failed: \[(.*)\]\s*", re.DOTALL)  # a graph of kmm refuses by these
_QUOTED_INPUT = re.compile(r"value: '.*", re.DOTALL)  # TensorFlow repeats a tf.Example that it cannot read


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: str. A name, an IPv4 address, or an IPv6 address in brackets.
        port: int.
        model: str or None. The model that is served there.
    """

    host: str
    port: int = DEFAULT_PORT
    model: str | None = None

    def __str__(self):
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self):
        """Whether it is this machine, so that nothing travels over a network."""
        return is_loopback(self.host)


@dataclass(frozen=True)
class Tls:
    """Files for an encrypted connection, all PEM.

    Attributes:
        ca: path of the certificates to trust; None: those that gRPC brings.
        cert, key: paths of the client's own certificate and key, where the server asks for them (mutual TLS).
        server_name: str. The name in the server's certificate, where it is not the host's.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self):
        if (self.cert is None) != (self.key is None):
            raise InputError("`Tls` takes `cert` and `key` together. Received: one of them.")


def parse_address(text):
    """Reads `host`, `host:port` or `host:port/model`.

    Args:
        text: str.

    Returns:
        `Address`; port 8500 and no model where there is none.

    Raises:
        InputError: if it is something else.

    Example:
        >>> parse_address("localhost/openi")
        Address(host='localhost', port=8500, model='openi')
        >>> parse_address("http://localhost:8501")
        Traceback (most recent call last):
        kmm.errors.InputError: An address is host:port or host:port/model, of gRPC. Received: 'http://localhost:8501'.
    """
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if not 0 < port < 65536:
        raise InputError(f"An address is host:port or host:port/model, of gRPC. Received: {text!r}.")
    return Address(match["host"], port, match["model"])


def list_options(address, *, retries, tls):
    """Options of a channel: messages of any size, retries by gRPC's service config, no proxy to this machine.

    Args:
        address: `Address`.
        retries: int in [0, 4]. Further attempts after UNAVAILABLE, after about 0.2, 0.4, 0.8 and 1.6 seconds.
        tls: `Tls` or None.

    Returns:
        list of `(name, value)`.

    Raises:
        InputError: if `retries` is out of range.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= MAX_RETRIES:
        raise InputError(f"`retries` must be a whole number from 0 to {MAX_RETRIES}. Received: {retries!r}.")
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    if retries:
        options += [
            ("grpc.service_config", json.dumps(_describe_retries(retries))),
            ("grpc.enable_retries", 1),
            ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
        ]
    else:
        options.append(("grpc.enable_retries", 0))
    if address.is_loopback:
        options.append(("grpc.enable_http_proxy", 0))
    if tls and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def make_credentials(tls):
    """Reads the files of `Tls` into credentials of a channel.

    Raises:
        InputError: if a file cannot be read.
    """
    read = [_read_file(path) for path in (tls.ca, tls.key, tls.cert)]
    return grpc.ssl_channel_credentials(*read)


def make_metadata(address, *, token, tls):
    """What goes with each request: the token.

    Args:
        address: `Address`.
        token: str or None.
        tls: `Tls` or None.

    Returns:
        tuple of `(name, value)`.

    Raises:
        InputError: if a token would travel a network unencrypted, or is no token. It is not quoted.

    Example:
        >>> make_metadata(parse_address("localhost:8500"), token="secret", tls=None)
        (('authorization', 'Bearer secret'),)
    """
    if token is None:
        return ()
    if not isinstance(token, str) or not token or not all("!" <= letter <= "~" for letter in token):
        raise InputError("A token must be printable ASCII without spaces. Received: something else, not shown here.")
    if tls is None and not address.is_loopback:
        raise InputError(f"A token is sent over TLS, or to this machine. {address} is neither: give `tls` too.")
    return (("authorization", f"Bearer {token}"),)


def explain_error(error, address):
    """gRPC's error as kmm's.

    Args:
        error: `grpc.RpcError`.
        address: `Address`.

    Returns:
        `ServerError`: one line with the code and the readable part of the server's text, without what the server
        repeats of the input.
    """
    code = error.code().name
    details = _QUOTED_INPUT.sub("value: not shown", error.details() or "")
    said = _NODES.sub("", details)
    refused = _ASSERTION.fullmatch(said)
    said = " ".join((refused[1] if refused else said).split()) or "no text"
    return ServerError(f"{address}: {code}: {said}", code, details)


def may_be_outdated(error):
    """Whether a `ServerError` may come of what was learned of an earlier version; a bad film's does not.

    Example:
        >>> may_be_outdated(ServerError("target 0: expected a label from 0 to 1", "INVALID_ARGUMENT"))
        True
        >>> may_be_outdated(ServerError("image 0: expected a complete PNG file.", "INVALID_ARGUMENT"))
        False
    """
    other_inputs = error.code == "INVALID_ARGUMENT" and re.search("signature|target", str(error), re.IGNORECASE)
    return error.code in ("NOT_FOUND", "FAILED_PRECONDITION") or bool(other_inputs)


def _describe_retries(retries):
    services = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
    policy = {
        "maxAttempts": retries + 1,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return {"methodConfig": [{"name": [{"service": name} for name in services], "retryPolicy": policy}]}


def _read_file(path):
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a readable PEM file. Received: {error.strerror}.") from None
