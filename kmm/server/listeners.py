"""Bind the addresses that a server listens on."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from kmm.errors import InputError

BACKLOG = 1024  # connections that the system queues until they are accepted; clients beyond it retry after a second
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # for example ::1 for localhost on a machine without IPv6


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Binds every address of a host to one port. Clients are refused until `listen` is called on the sockets.

    Args:
        host: str. A name, an IPv4 address, or an IPv6 address with or without brackets. "::" accepts IPv4 too.
        port: int; 0 is any free port.

    Returns:
        list of `socket.socket`, not empty, non-blocking, all on the same port.

    Raises:
        InputError: if the address is in use or does not belong to this machine.

    Example:
        >>> (listener,) = bind_tcp("127.0.0.1", 0)
        >>> listener.getsockname()[1] > 0
        True
        >>> listener.close()
    """
    bound: list[socket.socket] = []
    name, fault = host.strip("[]"), OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            shared = bound[0].getsockname()[1] if bound else port
            try:
                bound.append(_bind(family, (address[0], shared, *address[2:])))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                fault = error
        if not bound:
            raise fault
    except (OSError, UnicodeError) as error:
        close_all(bound)
        reason = getattr(error, "strerror", None) or "not a host name"
        raise InputError(f"{host}:{port}: cannot listen on this address. {reason}.") from None
    return bound


def bind_unix(path: Path | str) -> socket.socket:
    """Binds a Unix socket to which only this user may connect. Replaces a socket that a stopped server left behind.

    Args:
        path: path of the socket.

    Returns:
        `socket.socket`, non-blocking.

    Raises:
        InputError: if the path exists or cannot be used, or if this system has no Unix sockets.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise InputError(f"{path}: this system has no Unix sockets. Use a port instead.")
    bound = socket.socket(socket.AF_UNIX)
    try:
        if _is_abandoned(path):
            Path(path).unlink()
        bound.bind(str(path))
        os.chmod(path, 0o600)  # nobody can connect before `listen`
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise InputError(f"{path}: cannot listen on this path. {error.strerror or error}.") from None
    return bound


def listen(listeners: Iterable[socket.socket]) -> None:
    """Lets clients connect.

    Raises:
        InputError: if another process has started to listen on an address since it was bound.
    """
    for listener in listeners:
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            raise InputError(f"{_name(listener)}: cannot listen on this address. {error.strerror}.") from None


def close_all(listeners: Iterable[socket.socket]) -> None:
    """Closes listeners. The path of a Unix socket stays, see `remove`."""
    for listener in listeners:
        listener.close()


def remove(path: Path | str) -> None:
    """Removes the path of a Unix socket that this process bound, if it still exists."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _name(listener):
    name = listener.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"


def _bind(family, address):
    """Binds without SO_REUSEADDR if possible: with it, two servers that start together could both bind."""
    try:
        return _bind_once(family, address, reuse=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or os.name == "nt":  # on Windows the option lets a server take a used port
            raise
        return _bind_once(family, address, reuse=True)  # succeeds if only closed connections still use the port


def _bind_once(family, address, *, reuse):
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if reuse:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        bound.bind(address)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _is_abandoned(path):
    """Returns whether a path is a socket on which no process listens."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED
