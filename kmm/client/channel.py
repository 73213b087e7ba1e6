"""gRPC channel of a client: options, retries, token, the check for plain text, and errors."""

import json
import re
from pathlib import Path

import grpc

from kmm.client.address import Address
from kmm.client.arguments import take_whole
from kmm.client.tls import Tls
from kmm.errors import InputError, ServerError

MAX_RETRIES = 4  # gRPC makes at most five attempts
RETRY_BUFFER_BYTES = 256 * 2**20  # a larger request is not sent again; gRPC's own limit is less than a film
MAX_TOKEN = 4096  # characters
_NODES = re.compile(r"\s*\[\[\{\{.*|\{\{function_node [^}]*\}\}\s*", re.DOTALL)  # the node at which TensorFlow failed
_ASSERTION = re.compile(r".*assertion failed: \[(.*)\]\s*", re.DOTALL)  # kmm's graphs reject input by assertions
_QUOTED_INPUT = re.compile(r"value: '.*", re.DOTALL)  # TensorFlow quotes a tf.Example that it cannot parse


def list_options(address: Address, *, retries: int, tls: Tls | None) -> list[tuple[str, str | int]]:
    """Lists the options of a channel: messages of any size, retries by gRPC's service config, no proxy on loopback.

    Args:
        address: `Address`.
        retries: int in [0, 4]. Retries on UNAVAILABLE, after about 0.2, 0.4, 0.8 and 1.6 seconds.
        tls: `Tls` or None.

    Returns:
        list of `(name, value)`.

    Raises:
        InputError: if `retries` is out of range.
    """
    retries = take_whole("retries", retries, 0, MAX_RETRIES)
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
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


def check_privacy(address: Address, *, tls: Tls | None, allow_plaintext: bool) -> None:
    """Rejects a plain-text connection to another host, which would expose films and reports, unless it is allowed.

    Args:
        address: `Address`.
        tls: `Tls` or None.
        allow_plaintext: bool.

    Raises:
        InputError: if films and reports would cross a network unencrypted, or `allow_plaintext` is not a bool.

    Example:
        >>> from kmm.client.address import parse_address
        >>> check_privacy(parse_address("192.0.2.1"), tls=None, allow_plaintext=False)
        Traceback (most recent call last):
        kmm.errors.InputError: 192.0.2.1:8500 is another host, and films and reports would go there in plain text. \
Use TLS (`tls`, --tls-ca), or permit it with `allow_plaintext` (--allow-plaintext).
    """
    if not isinstance(allow_plaintext, bool):
        raise InputError(f"`allow_plaintext` must be True or False. Received: {type(allow_plaintext).__name__}.")
    if tls is None and not address.is_loopback and not allow_plaintext:
        raise InputError(
            f"{address} is another host, and films and reports would go there in plain text. Use TLS (`tls`, "
            "--tls-ca), or permit it with `allow_plaintext` (--allow-plaintext)."
        )


def make_metadata(address: Address, *, token: str | None, tls: Tls | None) -> tuple[tuple[str, str], ...]:
    """Makes the metadata of each request: the token, if any.

    Args:
        address: `Address`.
        token: str or None.
        tls: `Tls` or None.

    Returns:
        tuple of `(name, value)`.

    Raises:
        InputError: if the token is malformed or would cross a network unencrypted. The message does not quote it.

    Example:
        >>> from kmm.client.address import parse_address
        >>> make_metadata(parse_address("localhost:8500"), token="secret", tls=None)
        (('authorization', 'Bearer secret'),)
    """
    if token is None:
        return ()
    if (
        not isinstance(token, str)
        or not 0 < len(token) <= MAX_TOKEN
        or not all("!" <= letter <= "~" for letter in token)
    ):
        raise InputError(
            f"The token is malformed: it must be 1 to {MAX_TOKEN} printable ASCII characters without spaces."
        )
    if tls is None and not address.is_loopback:
        raise InputError(f"A token is sent only over TLS or to this machine. {address} is neither: give `tls` too.")
    return (("authorization", f"Bearer {token}"),)


def read_token(path: Path | str) -> str:
    """Reads a token from a file and strips surrounding white space.

    Raises:
        InputError: if the file holds no token, or a token longer than 4096 characters.
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        token = file.read(MAX_TOKEN + 100).strip()
    if not 0 < len(token) <= MAX_TOKEN or not all(33 <= letter < 127 for letter in token):
        raise InputError(
            f"{path} does not hold a token: one word of at most {MAX_TOKEN} printable ASCII characters is expected."
        )
    return token.decode("ascii")


def explain_error(error: grpc.RpcError, address: Address) -> ServerError:
    """Converts gRPC's error to kmm's.

    Args:
        error: `grpc.RpcError`.
        address: `Address`.

    Returns:
        `ServerError`: one line with the code and the readable part of the server's text, without any input that the
        server quotes.
    """
    code = error.code().name
    details = _QUOTED_INPUT.sub("value: not shown", error.details() or "")
    text = _NODES.sub("", details)
    assertion = _ASSERTION.fullmatch(text)
    text = " ".join((assertion[1] if assertion else text).split()) or "no text"
    return ServerError(f"{address}: {code}: {text}", code, details)


def may_be_outdated(error: ServerError) -> bool:
    """Returns whether a `ServerError` may come from outdated knowledge of the model rather than from the input.

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
