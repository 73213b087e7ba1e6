"""Limit open connections, so that silent ones never keep a new client out."""

import logging
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

RESERVED_FILES = 32  # file descriptors that models, logs, listeners and event loops open after the start
ACCEPTED_AT_ONCE = 64  # connections accepted before other work has its turn
SECONDS_PER_LINE = 60  # at least this time between two log lines about closed connections
logger = logging.getLogger("kmm.server")


def count_free_files() -> int:
    """Counts the file descriptors that this process may use for connections.

    Raises the soft limit of the process to the hard limit first.

    Returns:
        int, at least 4: the limit minus the open and the reserved descriptors.

    Example:
        >>> count_free_files() >= 4
        True
    """
    if resource is None:
        return 4096
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError) as error:  # some systems allow less than the hard limit
            logger.warning("the limit of open files stays at %d: %s", soft, error)
    if soft == resource.RLIM_INFINITY:
        return 2**20
    return max(4, soft - len(os.listdir("/dev/fd")) - RESERVED_FILES)


def count_connections(most: int, files_each: Sequence[int], free_files: int) -> int:
    """Counts the connections that each of several listeners may hold open.

    Args:
        most: int. Connections that the operator allows each listener.
        files_each: list of int. Descriptors per connection, for each listener.
        free_files: int. Descriptors for all listeners together.

    Returns:
        int, at least 1 and at most `most`; the same for each listener.

    Example:
        >>> count_connections(1000, [4, 1], free_files=30), count_connections(1000, [4, 1], free_files=2**20)
        (6, 1000)
    """
    return max(1, min(most, free_files // sum(files_each)))


class Connections:
    """Open connections, at most `most`. A further connection replaces the one that has been silent longest.

    Not thread-safe.

    Args:
        most: int, at least 1. Limit on open connections.
        most_per_address: int, or None for no limit. Limit per address; clients behind a proxy share one address.
        noun: str. Name of the connections in the log.

    Example:
        >>> closed, connections = [], Connections(2)
        >>> first = connections.add("192.0.2.1", lambda: closed.append("first"))
        >>> second = connections.add("192.0.2.1", lambda: closed.append("second"))
        >>> first.touch()
        >>> third = connections.add("192.0.2.2", lambda: closed.append("third"))
        >>> closed, len(connections)
        (['second'], 2)
    """

    def __init__(self, most: int, most_per_address: int | None = None, *, noun: str = "connections") -> None:
        self._most, self._most_per_address, self._noun = most, most_per_address, noun
        self._open: OrderedDict[Connection, None] = OrderedDict()  # silent longest first
        self._addresses: Counter[str] = Counter()
        self._unreported, self._next_line = 0, 0.0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def at_once(self) -> int:
        """int: connections to accept before other work has its turn."""
        return max(1, min(ACCEPTED_AT_ONCE, self._most // 8))

    @property
    def is_full(self) -> bool:
        """bool: whether the next connection has to replace an open one."""
        return len(self._open) >= self._most

    def add(self, address: str, close: Callable[[], object]) -> "Connection | None":
        """Counts a new connection.

        Args:
            address: str, the host that connects; "" if it has no address, as over a Unix socket.
            close: function without arguments that closes the connection immediately.

        Returns:
            `Connection`, or None if the caller must close it: its address is at its limit, or all open connections are
            at work.
        """
        share = self._most_per_address
        if share is not None and address and self._addresses[address] >= share:
            self._report()
            return None
        if self.is_full and not self.close_silent():
            return None
        connection = Connection(self, address, close)
        self._open[connection] = None
        self._addresses[address] += 1
        return connection

    def close_silent(self) -> bool:
        """Closes the connection that has been silent longest, to make room; one with a request at work is kept.

        Returns:
            bool. Whether a connection was closed.
        """
        silent = next((connection for connection in self._open if not connection.working), None)
        if silent is None:
            self._report()
        else:
            self.close(silent)
        return silent is not None

    def close(self, connection: "Connection") -> None:
        """Closes one connection to make room, for others or for their messages."""
        self._report()
        connection.remove()
        connection.close()

    def close_all(self) -> None:
        """Closes every connection."""
        for connection in list(self._open):
            connection.remove()
            connection.close()

    def _touch(self, connection):
        if connection in self._open:
            self._open.move_to_end(connection)

    def _remove(self, connection):
        if connection in self._open:
            del self._open[connection]
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]

    def _report(self):
        self._unreported += 1
        if time.monotonic() >= self._next_line:
            logger.warning(
                "%s: %d open; %d closed to make room or refused", self._noun, len(self._open), self._unreported
            )
            self._unreported, self._next_line = 0, time.monotonic() + SECONDS_PER_LINE


class Connection:
    """One open connection.

    Attributes:
        address: str. The host that connected.
        close: function without arguments that closes the connection.
        working: int. Requests being answered; a connection with any is not closed to make room.
    """

    def __init__(self, connections: Connections, address: str, close: Callable[[], object]) -> None:
        self._connections, self.address, self.close, self.working = connections, address, close, 0

    def touch(self) -> None:
        """Marks the connection as active: the client sent a whole request or read a part of an answer.

        Single bytes do not count, so that a slow client cannot hold its place.
        """
        self._connections._touch(self)

    def remove(self) -> None:
        """Marks the connection as ended. A second call does nothing."""
        self._connections._remove(self)
