"""Where a server listens: a host and port, or a Unix socket."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote

from kmm.errors import InputError
from kmm.protocol.addresses import is_loopback

DEFAULT_PORT = 8500
MAX_SOCKET_BYTES = 107  # of a path, in the kernel's address of a Unix socket
FORMS = "host:port, host:port/model, unix:/path or unix:/path:model"
_HOST = re.compile(
    r"(?P<host>\[(?P<v6>[^\]]*)\]|[\w.-]+)(?::(?P<port>\d{1,5}))?(?:/(?P<model>[^/\s]+))?", re.ASCII | re.DOTALL
)
_SOCKET = re.compile(r"unix:(?://(?=/))?(?P<socket>/(?!/)[^:\x00-\x1f\x7f\ud800-\udfff]+)(?::(?P<model>[^:/\s]+))?")


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: str. A name, an IPv4 address, or an IPv6 address in brackets; empty for a Unix socket.
        port: int.
        model: str or None. The model that is served there.
        socket: str or None. Path of a Unix socket.
    """

    host: str
    port: int = DEFAULT_PORT
    model: str | None = None
    socket: str | None = None

    def __str__(self):
        return f"unix:{self.socket}" if self.socket else f"{self.host}:{self.port}"

    @property
    def target(self):
        """The address as gRPC takes it: a URI, so that no host is mistaken for a scheme."""
        return f"unix:{quote(self.socket)}" if self.socket else f"dns:///{self}"

    @property
    def is_loopback(self):
        """Whether it is this machine, so that nothing travels over a network."""
        return self.socket is not None or is_loopback(self.host)


def parse_address(text):
    """Reads the address of a gRPC server.

    Args:
        text: str: `host`, `host:port`, `host:port/model`, or of a Unix socket `unix:/path` or `unix:/path:model`, where
            `unix:///path` is the same. An IPv6 address stands in brackets. The path of a socket is absolute and
            holds no colon.

    Returns:
        `Address`; port 8500 and no model where there is none.

    Raises:
        InputError: if it is something else.

    Example:
        >>> parse_address("localhost/openi")
        Address(host='localhost', port=8500, model='openi', socket=None)
        >>> parse_address("unix:/run/kmm.sock:openi").socket
        '/run/kmm.sock'
        >>> parse_address("http://localhost:8501")
        Traceback (most recent call last):
        kmm.errors.InputError: 'http://localhost:8501' is not the address of a gRPC server. An address is host:port, \
host:port/model, unix:/path or unix:/path:model.
    """
    if not isinstance(text, str):
        raise InputError(f"An address is {FORMS}, as a str. Received: {type(text).__name__}.")
    if text.startswith("unix:"):
        match = _SOCKET.fullmatch(text)
        if match and len(match["socket"].encode("utf-8", "replace")) <= MAX_SOCKET_BYTES:
            return Address("", 0, match["model"], match["socket"])
        raise InputError(
            f"{_shorten(text)} is not a Unix socket. An address is {FORMS}, with an absolute path of at most "
            f"{MAX_SOCKET_BYTES} bytes and no colon in it."
        )
    match = _HOST.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if not 0 < port < 65536:
        raise InputError(f"{_shorten(text)} is not the address of a gRPC server. An address is {FORMS}.")
    if match["v6"] is not None:
        _check_ipv6(match["v6"], text)
    return Address(match["host"], port, match["model"])


def _check_ipv6(host, text):
    if "%" in host:
        raise InputError(f"{_shorten(text)} names a zone of a link. Give a name or an IPv6 address without a zone.")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise InputError(f"{_shorten(text)} holds no IPv6 address in its brackets. An address is {FORMS}.") from None


def _shorten(text):
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
