"""How a server is reached: options of the channel, privacy, token, retries, and what its errors say."""

import json
import re

from kmm.client.arguments import take_whole
from kmm.errors import InputError, ServerError

MAX_RETRIES = 4  # gRPC makes at most five attempts
RETRY_BUFFER_BYTES = 256 * 2**20  # a larger request is not sent again; gRPC's own limit is less than a film
MAX_TOKEN = 4096  # characters
_NODES = re.compile(r"\s*\[\[\{\{.*|\{\{function_node [^}]*\}\}\s*", re.DOTALL)  # where in its graph TensorFlow failed
_ASSERTION = re.compile(r".*assertion failed: \[(.*)\]\s*", re.DOTALL)  # a graph of kmm refuses by these
_QUOTED_INPUT = re.compile(r"value: '.*", re.DOTALL)  # TensorFlow repeats a tf.Example that it cannot read


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
    retries = take_whole("retries", retries, 0, MAX_RETRIES)
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


def check_privacy(address, *, tls, allow_plaintext):
    """Refuses to send films and reports to another host in plain text, unless that is asked for.

    Args:
        address: `Address`.
        tls: `Tls` or None.
        allow_plaintext: bool.

    Raises:
        InputError: if they would travel a network unencrypted, or `allow_plaintext` is no bool.

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
        raise InputError("A token must be printable ASCII without spaces. Received: something else, not shown here.")
    if tls is None and not address.is_loopback:
        raise InputError(f"A token is sent over TLS, or to this machine. {address} is neither: give `tls` too.")
    return (("authorization", f"Bearer {token}"),)


def read_token(path):
    """The token of a file, without the white space around it.

    Raises:
        InputError: if the file holds none, or more than a header can.
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        token = file.read(MAX_TOKEN + 100).strip()
    if not 0 < len(token) <= MAX_TOKEN or not all(33 <= letter < 127 for letter in token):
        raise InputError(f"{path} holds no token: one word of ASCII characters.")
    return token.decode("ascii")


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
