"""Who may connect: addresses, TLS, tokens."""

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
from kmm.server.status import ServingError
from kmm.server.text_configs import parse_text
from kmm.server.watching import WatchedFiles

OPEN_METHODS = {"/grpc.health.v1.Health/Check"}
MOST_TOKEN_CHARACTERS = 4096
_PEM = "certificates in PEM"
_REFUSED = ("UNAUTHENTICATED", "Expected the header authorization: Bearer TOKEN, with the token of this server.")


def check_address(settings, certificates):
    """Refuses what is not safe: other hosts in plain text, unless told to; reloads by anyone.

    Args:
        settings: `ServeSettings`.
        certificates: `Certificates` of these settings.

    Raises:
        InputError: if so.
    """
    if not (is_loopback(settings.host) or certificates.in_use or settings.allow_plaintext):
        raise InputError(
            f"{settings.host}: other hosts may connect with TLS only (--tls-cert, --tls-key), or in plain text where "
            "something before the server encrypts (--allow-plaintext)."
        )
    if settings.allow_reload and not (is_loopback(settings.host) or settings.token_file or certificates.ask_clients):
        raise InputError(
            f"{settings.host}: other hosts may load folders (--allow-reload) only with a token (--token-file) or a "
            "certificate of their own (--tls-client-ca)."
        )


def read_token(path):
    """The token of a file, without the white space around it.

    Raises:
        InputError: if the file holds none, or more than a header can.
        OSError: if it cannot be read.
    """
    token = Path(path).read_bytes().strip()
    if not _is_token(token):
        raise InputError(f"{path}: expected a token, one word of ASCII characters.")
    return token.decode("ascii")


class Tokens:
    """The tokens that requests may bear, of a file that may change while the server runs.

    Each line holds a token, or a name for it and the token; the rest of a line after # is a comment, if # begins the
    line or follows a space. Any of them opens the server.

    Args:
        path: path of the file; None lets every request through.

    Raises:
        InputError: if the file cannot be read, holds no token, or a line that is none. Tokens are not quoted.

    Example:
        >>> Tokens().check("")
    """

    def __init__(self, path=None):
        self._watched = path and WatchedFiles(
            "tokens", [(path, "a file of tokens")], lambda content: _parse_tokens(content, path)
        )

    def check(self, header):
        """Checks the header `authorization` of a request, in a time that tells nothing of the tokens.

        Args:
            header: str, "" where there was none.

        Raises:
            ServingError: UNAUTHENTICATED.
        """
        if self._watched is None:
            return
        given = _digest(header.encode("utf-8", "replace"))
        if not sum(hmac.compare_digest(given, known) for known in self._watched.value):  # all of them, found or not
            raise ServingError(*_REFUSED)

    def reload(self, *, at_once=False):
        """Reads the file again, see `WatchedFiles.reload`."""
        if self._watched is not None:
            self._watched.reload(at_once=at_once)


@dataclass(frozen=True)
class _Material:
    """What both servers need of one set of files: certificate and key belong together."""

    context: ssl.SSLContext
    configuration: object
    ask_clients: bool


class Certificates:
    """The server's certificate and key, and the authorities of clients, of files that may change while it runs.

    They are read as one set, and replace the old ones only if the key is that of the certificate. Connections that are
    open keep what they began with; each new one gets what is current.

    Args:
        settings: `ServeSettings`.

    Attributes:
        in_use: bool. Whether there is TLS at all.
        ask_clients: bool. Whether clients must show a certificate. Stays as it was at the start.

    Raises:
        InputError: if a file is missing, cannot be read or is not what it should be.
    """

    def __init__(self, settings):
        files = _list_files(settings)
        parse, names = _read_ssl_config if settings.tls_config else _make_material, [path for path, _ in files]
        self.in_use, self.ask_clients = bool(files), None
        self._given, self._giving = None, threading.Lock()

        def parse_alike(*contents):
            material = parse(names, *contents)
            if self.ask_clients not in (None, material.ask_clients):
                raise InputError(f"{names[0]}: `client_verify` cannot change while the server runs. Start it anew.")
            return material

        self._watched = files and WatchedFiles("certificates", files, parse_alike)
        self.ask_clients = self.in_use and self._watched.value.ask_clients

    def reload(self, *, at_once=False):
        """Reads the files again, see `WatchedFiles.reload`."""
        if self.in_use:
            self._watched.reload(at_once=at_once)

    def make_grpc_credentials(self):
        """gRPC's credentials of the server, which follow the files; None without TLS."""
        if not self.in_use:
            return None
        self._given = self._watched.value
        return grpc.dynamic_ssl_server_credentials(
            self._given.configuration, self._fetch_configuration, self.ask_clients
        )

    def make_ssl_context(self):
        """A context of OpenSSL for a server, which follows the files; None without TLS."""
        return _FollowingContext(lambda: self._watched.value.context) if self.in_use else None

    def _fetch_configuration(self):
        """What gRPC asks for each new connection. It owns what it is given, and frees it: each set is given once."""
        with self._giving:
            current, given = self._watched.value, self._given
            self._given = current
        return None if current is given else current.configuration


class _FollowingContext(ssl.SSLContext):
    """Hands each new connection to the context that is current then.

    A context that is loaded anew would keep the authorities that it had, and resume sessions of clients that were
    checked against them.
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
    """The files of TLS, each with what it should hold; none without TLS."""
    if settings.tls_config:
        if settings.certificate or settings.key or settings.client_authority:
            raise InputError("TLS needs either --tls-config or --tls-cert and --tls-key. Received: both.")
        return [(settings.tls_config, "the text of an SSLConfig")]
    if bool(settings.certificate) != bool(settings.key):
        raise InputError("TLS needs both a certificate and its key. Received: one of them.")
    if settings.client_authority and not settings.certificate:
        raise InputError("Certificates of clients need TLS: a certificate and a key of the server. Received: none.")
    if not settings.certificate:
        return []
    files = [(settings.certificate, _PEM), (settings.key, _tell_key(settings.certificate))]
    return [*files, (settings.client_authority, _PEM)] if settings.client_authority else files


def _tell_key(certificate):
    return f"the key of {certificate} in PEM, without a password"


def _read_ssl_config(names, content):
    """TensorFlow Serving's SSLConfig, which holds key and certificates as text."""
    (path,) = names
    config = parse_text("SSLConfig", content, path)
    if config.client_verify and not config.custom_ca:
        raise InputError(f"{path}: `client_verify` needs `custom_ca`, the certificates in PEM to trust.")
    parts = [config.server_cert, config.server_key, *([config.custom_ca] if config.client_verify else [])]
    names = [f"{path}: {field}" for field in ("server_cert", "server_key", "custom_ca")]
    return _make_material(names, *(part.encode("utf-8") for part in parts))


def _make_material(names, certificate, key, authority=None):
    """Checks that certificate, key and authorities are what they should be, and belong together.

    Args:
        names: of the certificate, the key and the authorities, for errors.
        certificate, key, authority: bytes, PEM; the last may be None.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, names[0])
    try:
        with _as_file(certificate) as chain, _as_file(key) as private:
            context.load_cert_chain(chain, private, password=lambda: "")  # else a prompt asks for it
    except (ssl.SSLError, ValueError):
        raise InputError(f"{names[1]}: expected {_tell_key(names[0])}.") from None
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
    """A path by which OpenSSL, which only takes paths, reads bytes; on Linux they never reach a disk."""
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
    """The digests of the headers that a file of tokens allows."""
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
            raise InputError(f"{path}, line {number}: expected each token once. Received: one that stands above.")
        digests.append(digest)
    if not digests:
        raise InputError(f"{path}: expected a token in at least one line. Received: none.")
    return tuple(digests)


def _digest(header):
    """Headers are compared by digests, which all have one length."""
    return hashlib.sha256(header).digest()


def _is_token(word):
    return 0 < len(word) <= MOST_TOKEN_CHARACTERS and all(33 <= letter < 127 for letter in word)
