"""TLS connections: the client's certificates and keys, and the diagnosis of failed handshakes."""

import contextlib
import os
import pkgutil
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from kmm.errors import InputError

if TYPE_CHECKING:
    from kmm.client.address import Address

MAX_FILE_BYTES = 10_000_000
ALERT_SECONDS = 0.5  # longest wait for a server to reject the client's certificate
ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")  # environment variables that gRPC reads
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f:]+")
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_NO_MATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


@dataclass(frozen=True)
class Tls:
    """PEM files for an encrypted connection.

    Attributes:
        ca: path of the certificates to trust; None for those that gRPC includes.
        cert, key: paths of the client's own certificate and key, for servers that require them (mutual TLS). The key
            must have no password.
        server_name: str. The name in the server's certificate, if it differs from the host name.

    Raises:
        InputError: if only one of `cert` and `key` is given, or an argument has the wrong type.
    """

    ca: Path | str | None = None
    cert: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None

    def __post_init__(self):
        for name in ("ca", "cert", "key"):
            value = getattr(self, name)
            if not isinstance(value, str | Path | None) or "\0" in str(value):
                raise InputError(f"`{name}` of `Tls` must be the path of a PEM file. Received: {type(value).__name__}.")
        if (self.cert is None) != (self.key is None):
            raise InputError("`Tls` takes `cert` and `key` together. Received: only one of them.")
        name = self.server_name
        if name is not None and not (isinstance(name, str) and len(name) <= 253 and _NAME.fullmatch(name)):
            raise InputError("`server_name` of `Tls` is not a valid host name. Give a DNS name or an IP address.")


def read_files(tls: Tls) -> tuple[grpc.ChannelCredentials, ssl.SSLContext]:
    """Reads and checks the files of `Tls`, because gRPC reports an invalid file only as an unavailable server.

    Args:
        tls: `Tls`.

    Returns:
        (`grpc.ChannelCredentials`, `ssl.SSLContext` with the same certificates).

    Raises:
        InputError: if a file cannot be read or is invalid, or the key does not belong to the certificate.
    """
    ca, cert, key = map(_read_file, (tls.ca, tls.cert, tls.key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_ciphers("ALL:@SECLEVEL=0")  # gRPC itself rejects weak ciphers
    context.set_alpn_protocols(["h2"])
    _trust(context, tls.ca or os.environ.get(ROOTS_VARIABLE), _read_roots() if ca is None else ca)
    if tls.cert is not None:
        _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls.cert, cert)
        try:
            context.load_cert_chain(tls.cert, tls.key, password=lambda: "")  # without this, Python would prompt
        except ssl.SSLError:
            raise InputError(f"{tls.key} is not the PEM key of {tls.cert}, or it has a password.") from None
    return grpc.ssl_channel_credentials(ca, key, cert), context


def find_fault(address: "Address", tls: Tls | None, context: ssl.SSLContext | None, seconds: float) -> str | None:
    """Tries a handshake to find out why gRPC cannot connect, which gRPC does not say.

    Args:
        address: `kmm.client.address.Address`.
        tls: `Tls`; None where the client sends plain text.
        context: `ssl.SSLContext` of `read_files`; None where `tls` is None.
        seconds: float. Time limit.

    Returns:
        str with the fault and its remedy; None where there is no fault or it cannot be found.
    """
    if seconds <= 0 or (not address.is_loopback and any(os.environ.get(name) for name in PROXY_VARIABLES)):
        return None
    found = []

    def work():
        with contextlib.suppress(OSError, ValueError):  # gRPC itself reports a refused connection and an unknown host
            found.append(_try_with_tls(address, tls, context, seconds) if tls else _try_without_tls(address, seconds))

    thread = threading.Thread(target=work, daemon=True)  # name resolution has no time limit
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def _try_with_tls(address, tls, context, seconds):
    name = tls.server_name or ("localhost" if address.socket else address.host.strip("[]"))
    try:
        with _connect(address, context, name, seconds) as secure:
            if secure.selected_alpn_protocol() != "h2":
                return "The server speaks TLS but not gRPC. Give the port of gRPC, not that of HTTP."
            if not _stays_open(secure, min(seconds, ALERT_SECONDS)):
                return _explain_client_certificate(tls)
    except ssl.SSLCertVerificationError as error:
        return _explain_untrusted(error, tls, name)
    except ssl.SSLError as error:
        return _explain_refused(error.reason or "", tls)
    return None


def _stays_open(secure, seconds):
    """Returns whether the server keeps the connection after the handshake: only then TLS 1.3 checks the client."""
    secure.settimeout(seconds)
    try:
        return bool(secure.recv(1))  # the server's HTTP/2 settings; empty where it closes the connection, as gRPC does
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def _try_without_tls(address, seconds):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # no data is sent
    context.set_alpn_protocols(["h2"])
    fault = "The server speaks TLS. Encrypt the connection: `tls` (--tls, --tls-ca)."
    try:
        with _connect(address, context, None, seconds):
            return fault
    except ssl.SSLError as error:
        return fault if "_ALERT_" in (error.reason or "") else None


def _connect(address, context, name, seconds):
    if address.socket:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(seconds)
    else:
        plain = socket.create_connection((address.host.strip("[]"), address.port), seconds)
    with plain:
        if address.socket:
            plain.connect(address.socket)
        return context.wrap_socket(plain, server_hostname=name)


def _explain_untrusted(error, tls, name):
    if error.verify_code in _NO_MATCH:
        return (
            f'The server\'s certificate is not valid for "{name}". Give the name that it is valid for as '
            "`server_name` (--tls-server-name)."
        )
    reason = (error.verify_message or "not trusted").rstrip(".")
    trusted = tls.ca or "gRPC's own list, as no `ca` (--tls-ca) was given"
    return f"The server's certificate is not trusted: {reason}. Trusted certificates: {trusted}."


def _explain_refused(reason, tls):
    if reason in _NO_TLS:
        return "The server does not speak TLS. Give the port that does, or leave out `tls` (--tls, --tls-ca)."
    alert = reason.partition("_ALERT_")[2].replace("_", " ").lower()
    if "cert" in alert or alert in ("unknown ca", "handshake failure", "access denied", "decrypt error"):
        return f"{_explain_client_certificate(tls)} Its alert: {alert}."
    return f"The server refuses the handshake: {alert}." if alert else None


def _explain_client_certificate(tls):
    if tls.cert:
        return f"The server does not accept the client's certificate, {tls.cert}."
    return "The server requires a client certificate. Give `cert` and `key` (--tls-cert, --tls-key)."


def _trust(context, path, data):
    try:
        context.load_verify_locations(cadata=data.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):  # ValueError: the file is empty
        raise InputError(f"{path} contains no PEM certificate.") from None


def _read_roots():
    """Reads the certificates that gRPC trusts by default."""
    place = os.environ.get(ROOTS_VARIABLE)
    return _read_file(place) if place else pkgutil.get_data("grpc", "_cython/_credentials/roots.pem")


def _read_file(path):
    try:
        if path is None:
            return None
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{path} is larger than {MAX_FILE_BYTES} bytes, so it is not a PEM certificate or key.")
    return data
