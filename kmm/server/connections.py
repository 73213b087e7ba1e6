"""The open connections of a listener: at most so many, so that silent ones never keep a new client out."""

import logging
import time
from collections import Counter, OrderedDict

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None

RESERVED_FILES = 40  # descriptors for models, logs, listeners and event loops
SECONDS_PER_LINE = 60  # of log, however many connections are closed
logger = logging.getLogger("kmm.server")


def count_free_files():
    """How many descriptors this process may spend on connections: its limit, less those that it needs itself.

    The soft limit of the process is raised to the hard one first.

    Returns:
        int, at least 4.

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
    return max(4, soft - RESERVED_FILES)


class Connections:
    """Open connections, at most `most`. Where one more comes, the one that was silent longest is closed for it.

    Not for use by several threads.

    Args:
        most: int, at least 1. Connections that may be open at once.
        most_per_address: int, or None for no limit. Connections of one address. Clients behind a proxy share one.

    Example:
        >>> closed, connections = [], Connections(2)
        >>> first = connections.add("192.0.2.1", lambda: closed.append("first"))
        >>> second = connections.add("192.0.2.1", lambda: closed.append("second"))
        >>> first.touch()
        >>> third = connections.add("192.0.2.2", lambda: closed.append("third"))
        >>> closed, len(connections)
        (['second'], 2)
    """

    def __init__(self, most, most_per_address=None):
        self._most, self._most_per_address = most, most_per_address
        self._open = OrderedDict()  # Connection: None; the one that was silent longest first
        self._addresses = Counter()
        self._unsaid, self._next_line = 0, 0.0

    def __len__(self):
        return len(self._open)

    def add(self, address, close):
        """Counts a new connection.

        Args:
            address: str. The host that connects.
            close: function without arguments that closes the connection at once.

        Returns:
            `Connection`, or None if it may not stay: its address has its share, or all others are at work. The caller
            closes it.
        """
        share = self._most_per_address
        if share is not None and self._addresses[address] >= share:
            self._report()
            return None
        if len(self._open) >= self._most and not self.close_silent():
            return None
        connection = Connection(self, address, close)
        self._open[connection] = None
        self._addresses[address] += 1
        return connection

    def close_silent(self):
        """Closes the connection that was silent longest, to make room.

        Returns:
            bool. False if all are at work.
        """
        self._report()
        silent = next((connection for connection in self._open if not connection.working), None)
        if silent is None:
            return False
        silent.remove()
        silent.close()
        return True

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
            logger.warning("connections: %d open; %d closed to make room or refused", len(self._open), self._unsaid)
            self._unsaid, self._next_line = 0, time.monotonic() + SECONDS_PER_LINE


class Connection:
    """One open connection.

    Attributes:
        address: str. The host that connected.
        close: function without arguments that closes it.
        working: bool. Whether a request of it is being answered; it is not closed for another one meanwhile.
    """

    def __init__(self, connections, address, close):
        self._connections, self.address, self.close, self.working = connections, address, close, False

    def touch(self):
        """Says that the client sent something, or took something."""
        self._connections._touch(self)

    def remove(self):
        """Says that the connection ended. A second time does nothing."""
        self._connections._remove(self)
