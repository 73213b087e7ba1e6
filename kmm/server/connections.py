"""Limit open connections, so that silent ones never keep a new client out."""

import logging
import os
import time
from collections import Counter, OrderedDict

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

RESERVED_FILES = 32  # descriptors that models, logs, listeners and event loops open after the start
ACCEPTED_AT_ONCE = 64  # connections, before others have their turn
SECONDS_PER_LINE = 60  # between two lines of log, however many connections are closed
logger = logging.getLogger("kmm.server")


def count_free_files():
    """Counts the descriptors that this process may spend on connections.

    The soft limit of the process is raised to the hard one first.

    Returns:
        int, at least 4: the limit, less the descriptors that are open or reserved.

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
        except (ValueError, OSError) as error:  # some systems allow less than they say
            logger.warning("the limit of open files stays at %d: %s", soft, error)
    if soft == resource.RLIM_INFINITY:
        return 2**20
    return max(4, soft - len(os.listdir("/dev/fd")) - RESERVED_FILES)


def count_connections(most, files_each, free_files):
    """Counts the connections that each of several listeners may hold open.

    Args:
        most: int. Connections that an operator allows each listener.
        files_each: list of int. Descriptors that one connection of each listener takes.
        free_files: int. Descriptors for all of them.

    Returns:
        int, at least 1 and at most `most`; the same for each listener.

    Example:
        >>> count_connections(1000, [4, 1], free_files=30), count_connections(1000, [4, 1], free_files=2**20)
        (6, 1000)
    """
    return max(1, min(most, free_files // sum(files_each)))


class Connections:
    """Open connections, at most `most`. Where one more comes, the one that was silent longest is closed for it.

    Not for use by several threads.

    Args:
        most: int, at least 1. Connections that may be open at once.
        most_per_address: int, or None for no limit. Connections of one address. Clients behind a proxy share one.
        noun: str. What the log calls them.

    Example:
        >>> closed, connections = [], Connections(2)
        >>> first = connections.add("192.0.2.1", lambda: closed.append("first"))
        >>> second = connections.add("192.0.2.1", lambda: closed.append("second"))
        >>> first.touch()
        >>> third = connections.add("192.0.2.2", lambda: closed.append("third"))
        >>> closed, len(connections)
        (['second'], 2)
    """

    def __init__(self, most, most_per_address=None, *, noun="connections"):
        self._most, self._most_per_address, self._noun = most, most_per_address, noun
        self._open = OrderedDict()  # Connection: None; the one that was silent longest first
        self._addresses = Counter()
        self._unsaid, self._next_line = 0, 0.0

    def __len__(self):
        return len(self._open)

    @property
    def at_once(self):
        """How many may be accepted before they are counted."""
        return max(1, min(ACCEPTED_AT_ONCE, self._most // 8))

    @property
    def is_full(self):
        """Whether the next connection takes another one's place."""
        return len(self._open) >= self._most

    def add(self, address, close):
        """Counts a new connection.

        Args:
            address: str, the host that connects; "" where it has none, as over a Unix socket.
            close: function without arguments that closes the connection at once.

        Returns:
            `Connection`, or None if it may not stay: its address has its share, or all others are at work. The caller
            closes it.
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

    def close_silent(self):
        """Closes the connection that was silent longest, among those without a request at work, to make room.

        Returns:
            bool. Whether there was one.
        """
        silent = next((connection for connection in self._open if not connection.working), None)
        if silent is None:
            self._report()
        else:
            self.close(silent)
        return silent is not None

    def close(self, connection):
        """Closes one connection to make room, for others or for their messages."""
        self._report()
        connection.remove()
        connection.close()

    def close_all(self):
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
        self._unsaid += 1
        if time.monotonic() >= self._next_line:
            logger.warning("%s: %d open; %d closed to make room or refused", self._noun, len(self._open), self._unsaid)
            self._unsaid, self._next_line = 0, time.monotonic() + SECONDS_PER_LINE


class Connection:
    """One open connection.

    Attributes:
        address: str. The host that connected.
        close: function without arguments that closes it.
        working: int. Requests of it that are being answered; it is not closed for another one meanwhile.
    """

    def __init__(self, connections, address, close):
        self._connections, self.address, self.close, self.working = connections, address, close, 0

    def touch(self):
        """Says that the client sent a whole request, or took a part of an answer: a byte now and then is no more than
        silence."""
        self._connections._touch(self)

    def remove(self):
        """Says that the connection ended. A second time does nothing."""
        self._connections._remove(self)
