"""Addresses of gRPC servers: a host and port, or a Unix socket."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote

from kmm.errors import InputError
from kmm.protocol.addresses import is_loopback

DEFAULT_PORT = 8500
MAX_SOCKET_BYTES = 107  # longest path in the kernel's address of a Unix socket
FORMS = "host:port, host:port/model, unix:/path or unix:/path:model"
_HOST = re.compile(
    r"(?P<host>\[(?P<v6>[^\]]*)\]|[\w.-]+)(?::(?P<port>\d{1,5}))?(?:/(?P<model>[^/\s]+))?", re.ASCII | re.DOTALL
)
_SOCKET = re.compile(r"unix:(?://(?=/))?(?P<socket>/(?!/)[^:\x00-\x1f\x7f\ud800-\udfff]+)(?::(?P<model>[^:/\s]+))?")


@dataclass(frozen=True)
class Address:
    """Address of a gRPC server.

    Attributes:
        host: str. A name, an IPv4 address, or an IPv6 address in brackets; empty for a Unix socket.
        port: int. 0 for a Unix socket.
        model: str or None. Name of the served model, where the address gives one.
        socket: str or None. Path of a Unix socket.
    """

    host: str
    port: int = DEFAULT_PORT
    model: str | None = None
    socket: str | None = None

    def __str__(self):
        return f"unix:{self.socket}" if self.socket else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """The address as gRPC expects it: a URI, so that no host name is mistaken for a scheme."""
        return f"unix:{quote(self.socket)}" if self.socket else f"dns:///{self}"

    @property
    def is_loopback(self) -> bool:
        """Whether the address is on this machine, so that nothing travels over a network."""
        return self.socket is not None or is_loopback(self.host)


def parse_address(text: str) -> Address:
    """Parses the address of a gRPC server.

    Args:
        text: str: `host`, `host:port`, `host:port/model`, or for a Unix socket `unix:/path` or `unix:/path:model`;
            `unix:///path` means the same. An IPv6 address is written in brackets. The path of a socket is absolute and
            contains no colon.

    Returns:
        `Address`; the port defaults to 8500 and the model to None.

    Raises:
        InputError: if the text has none of these forms.

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
        raise InputError(f"An address is a str: {FORMS}. Received: {type(text).__name__}.")
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
    if match is None or not 0 < port < 65536:
        raise InputError(f"{_shorten(text)} is not the address of a gRPC server. An address is {FORMS}.")
    if match["v6"] is not None:
        _check_ipv6(match["v6"], text)
    return Address(match["host"], port, match["model"])


def _check_ipv6(host, text):
    if "%" in host:
        raise InputError(f"{_shorten(text)} contains an IPv6 zone. Give a name or an IPv6 address without a zone.")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise InputError(f"{_shorten(text)} has no valid IPv6 address in brackets. An address is {FORMS}.") from None


def _shorten(text):
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
