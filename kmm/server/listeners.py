"""Bind the addresses that a server listens on."""

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from kmm.errors import InputError

BACKLOG = 1024  # connections that the system keeps until they are accepted: a burst of them; more are lost for a second
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # for example ::1 of localhost, on a machine without IPv6


def bind_tcp(host, port):
    """Binds every address of a host to one port. Clients are refused until `listen` is called on the sockets.

    Args:
        host: str. A name, or an IPv4 or IPv6 address, the last perhaps in brackets. "::" takes IPv4 too.
        port: int; 0 is any free port.

    Returns:
        list of `socket.socket`, not empty, not blocking, all of the same port.

    Raises:
        InputError: if the address is taken, or is not of this machine.

    Example:
        >>> (listener,) = bind_tcp("127.0.0.1", 0)
        >>> listener.getsockname()[1] > 0
        True
        >>> listener.close()
    """
    bound, name, fault = [], host.strip("[]"), None
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
        raise InputError(f"{host}:{port}: expected an address that is free. {reason}.") from None
    return bound


def bind_unix(path):
    """Binds a Unix socket that only this user may connect to. A socket that an ended server left behind is replaced.

    Args:
        path: path.

    Returns:
        `socket.socket`, not blocking.

    Raises:
        InputError: if the path is taken or cannot be used, or if this system has no Unix sockets.
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
        raise InputError(f"{path}: expected a path that is free. {error.strerror or error}.") from None
    return bound


def listen(listeners):
    """Lets clients connect.

    Raises:
        InputError: if another process took an address meanwhile.
    """
    for listener in listeners:
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            raise InputError(f"{_tell(listener)}: expected an address that is free. {error.strerror}.") from None


def close_all(listeners):
    """Closes listeners. The path of a Unix socket stays: see `remove`."""
    for listener in listeners:
        listener.close()


def remove(path):
    """Removes the path of a Unix socket that this process bound, where it still exists."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _tell(listener):
    name = listener.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"


def _bind(family, address):
    """Binds alone where possible: two servers that start at once could both bind with SO_REUSEADDR."""
    try:
        return _bind_once(family, address, reuse=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or os.name == "nt":  # there the option lets one server take another's port
            raise
        return _bind_once(family, address, reuse=True)  # only connections that ended are left there


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
    """Whether a path is a socket on which nobody listens."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED
