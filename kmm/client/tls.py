"""Encrypted connections: the files that a client brings, and why a handshake fails."""

import contextlib
import os
import pkgutil
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from kmm.errors import InputError

MAX_FILE_BYTES = 10_000_000
ALERT_SECONDS = 0.5  # that a server may take to refuse the client's certificate
ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")  # in which gRPC looks for a proxy
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|[0-9A-Fa-f:]+")
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_NO_MATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


@dataclass(frozen=True)
class Tls:
    """Files for an encrypted connection, all PEM.

    Attributes:
        ca: path of the certificates to trust; None: those that gRPC brings.
        cert, key: paths of the client's own certificate and key, where the server asks for them (mutual TLS). The key
            has no password.
        server_name: str. The name in the server's certificate, where it is not the host's.

    Raises:
        InputError: if only one of `cert` and `key` is given, or an argument is of another type.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self):
        for name in ("ca", "cert", "key"):
            value = getattr(self, name)
            if not isinstance(value, str | Path | None) or "\0" in str(value):
                raise InputError(f"`{name}` of `Tls` must be the path of a PEM file. Received: {type(value).__name__}.")
        if (self.cert is None) != (self.key is None):
            raise InputError("`Tls` takes `cert` and `key` together. Received: one of them.")
        name = self.server_name
        if name is not None and not (isinstance(name, str) and len(name) <= 253 and _NAME.fullmatch(name)):
            raise InputError("`server_name` of `Tls` must be the name of a host. Received: something else.")


def read_files(tls):
    """Reads the files of `Tls`, and checks each, because gRPC reports a faulty one as a server that is not there.

    Args:
        tls: `Tls`.

    Returns:
        (`grpc.ChannelCredentials`, `ssl.SSLContext` that trusts and shows the same).

    Raises:
        InputError: if a file cannot be read, is not what it should be, or the key is not the certificate's.
    """
    ca, cert, key = map(_read_file, (tls.ca, tls.cert, tls.key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_ciphers("ALL:@SECLEVEL=0")  # what is too weak, gRPC refuses itself
    context.set_alpn_protocols(["h2"])
    _trust(context, tls.ca or os.environ.get(ROOTS_VARIABLE), _read_roots() if ca is None else ca)
    if cert is not None:
        _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls.cert, cert)
        try:
            context.load_cert_chain(tls.cert, tls.key, password=lambda: "")  # else a prompt asks for it
        except ssl.SSLError:
            raise InputError(f"{tls.key} is not the PEM key of {tls.cert}, or it has a password.") from None
    return grpc.ssl_channel_credentials(ca, key, cert), context


def find_fault(address, tls, context, seconds):
    """Tries a handshake to learn why that of gRPC fails, which gRPC does not tell.

    Args:
        address: `kmm.client.address.Address`.
        tls: `Tls`; None where the client sends plain text.
        context: `ssl.SSLContext` of `read_files`; None with `tls`.
        seconds: float. How long it may take.

    Returns:
        str that says what is wrong and what to do; None where nothing is, or it cannot be told.
    """
    if seconds <= 0 or (not address.is_loopback and any(os.environ.get(name) for name in PROXY_VARIABLES)):
        return None
    found = []

    def work():
        with contextlib.suppress(OSError, ValueError):  # no connection, or no name of a host: gRPC says so itself
            found.append(_try_with_tls(address, tls, context, seconds) if tls else _try_without_tls(address, seconds))

    thread = threading.Thread(target=work, daemon=True)  # looking up a name knows no time limit
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def _try_with_tls(address, tls, context, seconds):
    name = tls.server_name or ("localhost" if address.socket else address.host.strip("[]"))
    try:
        with _shake(address, context, name, seconds) as secure:
            if secure.selected_alpn_protocol() != "h2":
                return "The server speaks TLS but not gRPC. Give the port of gRPC, not that of HTTP."
            if not _is_kept(secure, min(seconds, ALERT_SECONDS)):
                return _tell_client(tls)
    except ssl.SSLCertVerificationError as error:
        return _tell_untrusted(error, tls, name)
    except ssl.SSLError as error:
        return _tell_refused(error.reason or "", tls)
    return None


def _is_kept(secure, seconds):
    """Whether a server goes on after the handshake: only then does TLS 1.3 check the client's certificate."""
    secure.settimeout(seconds)
    try:
        return bool(secure.recv(1))  # its settings; nothing where it ends the connection, as gRPC's does
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def _try_without_tls(address, seconds):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent over it
    context.set_alpn_protocols(["h2"])
    speaks = "The server speaks TLS. Encrypt the connection: `tls` (--tls, --tls-ca)."
    try:
        with _shake(address, context, None, seconds):
            return speaks
    except ssl.SSLError as error:
        return speaks if "_ALERT_" in (error.reason or "") else None


def _shake(address, context, name, seconds):
    if address.socket:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(seconds)
    else:
        plain = socket.create_connection((address.host.strip("[]"), address.port), seconds)
    with plain:
        if address.socket:
            plain.connect(address.socket)
        return context.wrap_socket(plain, server_hostname=name)


def _tell_untrusted(error, tls, name):
    if error.verify_code in _NO_MATCH:
        return (
            f'The certificate of the server is not valid for "{name}". Give the name that it is valid for as '
            "`server_name` (--tls-server-name)."
        )
    said = (error.verify_message or "not trusted").rstrip(".")
    trusted = tls.ca or "gRPC's own list, without `ca` (--tls-ca)"
    return f"The certificate of the server is refused: {said}. Certificates trusted: {trusted}."


def _tell_refused(reason, tls):
    if reason in _NO_TLS:
        return "The server does not speak TLS. Give the port that does, or leave out `tls` (--tls, --tls-ca)."
    said = reason.partition("_ALERT_")[2].replace("_", " ").lower()
    if "cert" in said or said in ("unknown ca", "handshake failure", "access denied", "decrypt error"):
        return f"{_tell_client(tls)} Its alert: {said}."
    return f"The server refuses the handshake: {said}." if said else None


def _tell_client(tls):
    if tls.cert:
        return f"The server does not accept the certificate of the client, {tls.cert}."
    return "The server asks for a certificate of the client: `cert` and `key` (--tls-cert, --tls-key)."


def _trust(context, path, data):
    try:
        context.load_verify_locations(cadata=data.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):  # ValueError: it is empty
        raise InputError(f"{path} holds no certificate in PEM.") from None


def _read_roots():
    """The certificates that gRPC trusts by itself."""
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
        raise InputError(f"{path} is larger than {MAX_FILE_BYTES} bytes. Give a PEM file.")
    return data
