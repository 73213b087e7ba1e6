"""Control access to the server: addresses, TLS, tokens."""

import contextlib
import hashlib
import hmac
import os
import ssl
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from kmm.errors import InputError
from kmm.protocol.addresses import is_loopback
from kmm.server.settings import ServeSettings
from kmm.server.status import ServingError
from kmm.server.text_configs import parse_text
from kmm.server.watching import WatchedFiles

MOST_TOKEN_CHARACTERS = 4096
_PEM = "certificates in PEM"
_REFUSED = ("UNAUTHENTICATED", "Expected the header authorization: Bearer TOKEN, with a token of this server.")


def check_address(settings: ServeSettings, certificates: "Certificates") -> None:
    """Checks that other hosts cannot connect in plain text by accident, and cannot load models without proof.

    Args:
        settings: `ServeSettings`.
        certificates: `Certificates` of these settings.

    Raises:
        InputError: if other hosts could.
    """
    if not (is_loopback(settings.host) or certificates.in_use or settings.allow_plaintext):
        raise InputError(
            f"{settings.host}: other hosts may connect with TLS only (--tls-cert, --tls-key), or in plain text behind "
            "a proxy that encrypts (--allow-plaintext)."
        )
    if settings.allow_reload and not (is_loopback(settings.host) or settings.token_file or certificates.ask_clients):
        raise InputError(
            f"{settings.host}: other hosts may load folders (--allow-reload) only with a token (--token-file) or a "
            "client certificate (--tls-client-ca)."
        )


class Tokens:
    """The bearer tokens that the server accepts, from a file that may change while the server runs.

    Each line holds a token, or a name and a token. A comment begins with # at the start of the line or after a space,
    and ends with the line. Each token gives access to the whole server.

    Args:
        path: path of the file; None accepts every request.

    Raises:
        InputError: if the file cannot be read, holds no token, or has an invalid line. Tokens are not quoted.

    Example:
        >>> Tokens().check("")
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self._watched = (
            WatchedFiles("tokens", [(path, "a file of tokens")], lambda content: _parse_tokens(content, path))
            if path
            else None
        )

    def check(self, header: str) -> None:
        """Checks the header `authorization` of a request, in a time that does not depend on the tokens.

        Args:
            header: str, "" if the request has none.

        Raises:
            ServingError: UNAUTHENTICATED if the header holds no accepted token.
        """
        if self._watched is None:
            return
        given = _digest(header.encode("utf-8", "replace"))
        if not sum(hmac.compare_digest(given, known) for known in self._watched.value):  # always compares all
            raise ServingError(*_REFUSED)

    def reload(self, *, at_once: bool = False) -> None:
        """Reads the file again, see `WatchedFiles.reload`."""
        if self._watched is not None:
            self._watched.reload(at_once=at_once)


@dataclass(frozen=True)
class _Material:
    """The TLS material of one set of files, for gRPC and for HTTP; certificate and key belong together."""

    context: ssl.SSLContext
    configuration: object
    ask_clients: bool


class Certificates:
    """Certificate and key of the server and the authorities of clients, from files that may change while it runs.

    They are read as one set, and replace the old ones only if the key belongs to the certificate. Open connections keep
    the set with which they began; each new connection gets the current set.

    Args:
        settings: `ServeSettings`.

    Attributes:
        in_use: bool. Whether TLS is on.
        ask_clients: bool. Whether clients must show a certificate. It does not change while the server runs.

    Raises:
        InputError: if a file is missing, cannot be read or has the wrong content.
    """

    def __init__(self, settings: ServeSettings) -> None:
        files = _list_files(settings)
        parse, names = _read_ssl_config if settings.tls_config else _make_material, [path for path, _ in files]
        ask_clients: bool | None = None

        def parse_alike(*contents):
            material = parse(names, *contents)
            if ask_clients not in (None, material.ask_clients):
                raise InputError(
                    f"{names[0]}: `client_verify` cannot change while the server runs. Restart the server."
                )
            return material

        self._watched = WatchedFiles("certificates", files, parse_alike) if files else None
        self.in_use = self._watched is not None
        self.ask_clients = ask_clients = self._watched is not None and self._watched.value.ask_clients
        self._sent: _Material | None = None  # set that gRPC received last
        self._sending = threading.Lock()

    def reload(self, *, at_once: bool = False) -> None:
        """Reads the files again, see `WatchedFiles.reload`."""
        if self._watched is not None:
            self._watched.reload(at_once=at_once)

    def make_grpc_credentials(self) -> grpc.ServerCredentials | None:
        """Returns gRPC credentials for the server, which follow the files; None without TLS."""
        if self._watched is None:
            return None
        self._sent = self._watched.value
        return grpc.dynamic_ssl_server_credentials(
            self._sent.configuration, self._fetch_configuration, self.ask_clients
        )

    def make_ssl_context(self) -> ssl.SSLContext | None:
        """Returns an OpenSSL context for the server, which follows the files; None without TLS."""
        watched = self._watched
        return None if watched is None else _FollowingContext(lambda: watched.value.context)

    def _fetch_configuration(self):
        """Returns the current set for a new gRPC connection, or None if it did not change.

        gRPC owns and frees each set that it receives, so no set may be returned twice.
        """
        with self._sending:
            current, sent = self._watched.value, self._sent
            self._sent = current
        return None if current is sent else current.configuration


class _FollowingContext(ssl.SSLContext):
    """An SSL context that passes each new connection to the current context.

    Loading new files into an existing context would keep its old authorities, and would resume sessions of clients that
    were checked against these.
    """

    def __new__(cls, find_current):
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context._find_current = find_current
        return context

    def wrap_socket(self, *arguments, **options):
        return self._find_current().wrap_socket(*arguments, **options)

    def wrap_bio(self, *arguments, **options):
        return self._find_current().wrap_bio(*arguments, **options)


def _list_files(settings):
    """Lists the TLS files, each with its expected content; empty without TLS."""
    if settings.tls_config:
        if settings.certificate or settings.key or settings.client_authority:
            raise InputError("TLS needs either --tls-config or --tls-cert and --tls-key. Received: both.")
        return [(settings.tls_config, "the text of an SSLConfig")]
    if bool(settings.certificate) != bool(settings.key):
        raise InputError("TLS needs both a certificate and its key. Received: one of them.")
    if settings.client_authority and not settings.certificate:
        raise InputError("Client certificates need TLS: a certificate and a key of the server. Received: none.")
    if not settings.certificate:
        return []
    files = [(settings.certificate, _PEM), (settings.key, _describe_key(settings.certificate))]
    return [*files, (settings.client_authority, _PEM)] if settings.client_authority else files


def _describe_key(certificate):
    return f"the key of {certificate} in PEM, without a password"


def _read_ssl_config(names, content):
    """Reads TensorFlow Serving's SSLConfig, which holds key and certificates as text."""
    (path,) = names
    config = parse_text("SSLConfig", content, path)
    if config.client_verify and not config.custom_ca:
        raise InputError(f"{path}: `client_verify` needs `custom_ca`, the certificates in PEM to trust.")
    parts = [config.server_cert, config.server_key, *([config.custom_ca] if config.client_verify else [])]
    names = [f"{path}: {field}" for field in ("server_cert", "server_key", "custom_ca")]
    return _make_material(names, *(part.encode("utf-8") for part in parts))


def _make_material(names, certificate, key, authority=None):
    """Checks certificate, key and authorities, and that the key belongs to the certificate.

    Args:
        names: names of the certificate, the key and the authorities, for errors.
        certificate, key, authority: bytes, PEM; `authority` may be None.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, names[0])
    try:
        with _as_file(certificate) as chain, _as_file(key) as private:
            context.load_cert_chain(chain, private, password=lambda: "")  # otherwise OpenSSL prompts for a password
    except (ssl.SSLError, ValueError):
        raise InputError(f"{names[1]}: expected {_describe_key(names[0])}.") from None
    if authority is not None:
        _load_authorities(context, authority, names[2])
        context.verify_mode = ssl.CERT_REQUIRED
    configuration = grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority)
    return _Material(context, configuration, authority is not None)


def _load_authorities(context, content, name):
    text = content.decode("ascii", "replace").replace("\ufffd", "?")  # there may be comments around the certificates
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise InputError(f"{name}: expected {_PEM}.") from None


@contextlib.contextmanager
def _as_file(content):
    """Yields a path from which OpenSSL, which accepts only paths, reads bytes; on Linux they never reach a disk."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("kmm-tls"), "w+b") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "tls.pem")
            path.write_bytes(content)
            yield str(path)


def _parse_tokens(content, path):
    """Returns the digests of the headers that a file of tokens allows."""
    digests = []
    for number, line in enumerate(content.splitlines(), 1):
        words = line.split()
        comment = next((place for place, word in enumerate(words) if word.startswith(b"#")), len(words))
        words = words[:comment]
        if not words:
            continue
        if len(words) > 2 or not all(_is_token(word) for word in words):
            raise InputError(
                f"{path}, line {number}: expected a token, or a name and a token, each a word of ASCII characters."
            )
        digest = _digest(b"Bearer " + words[-1])
        if digest in digests:
            raise InputError(f"{path}, line {number}: expected each token once. This one is already listed above.")
        digests.append(digest)
    if not digests:
        raise InputError(f"{path}: expected a token in at least one line. Received: none.")
    return tuple(digests)


def _digest(header):
    """Hashes a header. Digests have the same length, so a comparison does not reveal the length of a token."""
    return hashlib.sha256(header).digest()


def _is_token(word):
    return 0 < len(word) <= MOST_TOKEN_CHARACTERS and all(33 <= letter < 127 for letter in word)
