"""Who may connect: addresses, TLS, tokens."""

import hmac
import ssl
from pathlib import Path

import grpc

from kmm.errors import InputError
from kmm.hosts import is_loopback
from kmm.server.status import ServingError

OPEN_METHODS = {"/grpc.health.v1.Health/Check"}
_REFUSED = ("UNAUTHENTICATED", "Expected the header authorization: Bearer TOKEN, with the token of this server.")


def check_address(settings):
    """Refuses what is not safe: other hosts in plain text, unless told to; reloads by anyone; faulty certificates.

    Args:
        settings: `ServeSettings`.

    Raises:
        InputError: if so, or if a file of TLS cannot be read or is not what it should be.
    """
    if bool(settings.certificate) != bool(settings.key):
        raise InputError("TLS needs both a certificate and its key. Received: one of them.")
    if settings.client_authority and not settings.certificate:
        raise InputError("Certificates of clients need TLS: a certificate and a key of the server. Received: none.")
    if not (is_loopback(settings.host) or settings.certificate or settings.allow_plaintext):
        raise InputError(
            f"{settings.host}: other hosts may connect with TLS only (--tls-cert, --tls-key), or in plain text where "
            "something before the server encrypts (--allow-plaintext)."
        )
    if settings.allow_reload and not (is_loopback(settings.host) or settings.token or settings.client_authority):
        raise InputError(
            f"{settings.host}: other hosts may load folders (--allow-reload) only with a token (--token-file) or a "
            "certificate of their own (--tls-client-ca)."
        )
    if settings.certificate:
        _check_files(settings)


def _check_files(settings):
    """Reads the files of TLS as it will be read later, for an error that names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def read_key(path):
        context.load_cert_chain(settings.certificate, path, password=lambda: "")  # else a prompt asks for it

    checks = [
        (settings.certificate, "certificates in PEM", context.load_verify_locations),
        (settings.key, f"the key of {settings.certificate} in PEM, without a password", read_key),
        (settings.client_authority, "certificates in PEM", context.load_verify_locations),
    ]
    for path, expected, read in checks:
        try:
            if path is not None:
                read(path)
        except ssl.SSLError:
            raise InputError(f"{path}: expected {expected}.") from None
        except OSError as error:
            raise InputError(f"{path}: expected {expected}. {error.strerror}.") from None


def read_token(path):
    """The token of a file, without the white space around it.

    Raises:
        InputError: if the file holds none, or more than a header can.
        OSError: if it cannot be read.
    """
    token = Path(path).read_bytes().strip()
    if not token or len(token) > 4096 or not all(33 <= letter < 127 for letter in token):
        raise InputError(f"{path}: expected a token, one word of ASCII characters.")
    return token.decode("ascii")


def check_token(header, token):
    """Checks the header `authorization` of a request, in a time that tells nothing of the token.

    Args:
        header: str, "" where there was none.
        token: str, or None where none is needed.

    Raises:
        ServingError: UNAUTHENTICATED.

    Example:
        >>> check_token("Bearer word", "word")
    """
    if token is not None and not hmac.compare_digest(header.encode("utf-8"), f"Bearer {token}".encode()):
        raise ServingError(*_REFUSED)


def make_credentials(settings, fetch=lambda: None):
    """Makes gRPC's credentials of the server.

    Args:
        settings: `ServeSettings`.
        fetch: function without arguments that returns what `read_certificate` does, or None where nothing changed.
            gRPC calls it for each new connection.

    Returns:
        `grpc.ServerCredentials`, or None without TLS.
    """
    if not settings.certificate:
        return None
    return grpc.dynamic_ssl_server_credentials(
        read_certificate(settings), fetch, require_client_authentication=settings.client_authority is not None
    )


def make_ssl_context(settings):
    """Python's TLS of the server, for HTTP; None without TLS.

    Args:
        settings: `ServeSettings`, checked by `check_address`.

    Returns:
        `ssl.SSLContext`.
    """
    if not settings.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.certificate, settings.key)
    context.set_alpn_protocols(["http/1.1"])
    if settings.client_authority:
        context.load_verify_locations(settings.client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def read_certificate(settings):
    """Reads the files of TLS into a `grpc.ServerCertificateConfiguration`."""
    authority = settings.client_authority
    return grpc.ssl_server_certificate_configuration(
        [(Path(settings.key).read_bytes(), Path(settings.certificate).read_bytes())],
        root_certificates=Path(authority).read_bytes() if authority else None,
    )
