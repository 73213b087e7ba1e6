"""Files that may change while the server runs, and the threads that look at them."""

import logging
import threading
import time
from pathlib import Path

from kmm.errors import InputError
from kmm.tracebacks import describe_error

MOST_BYTES = 2**20  # of a file
SETTLE_SECONDS = 0.05  # between two reads that must agree before a change counts
logger = logging.getLogger("kmm.server")


class WatchedFiles:
    """A value that is parsed from files, and parsed again when they change.

    The new value replaces the old one in one step. Files that cannot be read or parsed leave the old value in place,
    and the fault is logged once. Contents are compared, not times, so that a symbolic link that is pointed elsewhere
    counts as a change. A file that is still being written does not: two reads must agree, and a text that does not end
    with a newline is taken only if it is the same at the next look.

    A path that is no regular file, such as a pipe, is read once and keeps its content.

    Args:
        name: str. What the log calls the value, for example `"tokens"`.
        files: list of (path, what the file should hold), for example `[("a.pem", "certificates in PEM")]`.
        parse: function that takes the content of each file, as bytes, and returns the value.

    Attributes:
        value: what the last good files hold. Never changed, only replaced: read it once for what belongs together.

    Raises:
        InputError: if a file cannot be read, is larger than 1 MiB, or `parse` refuses it.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "number")
        ...     _ = path.write_text("1\\n")
        ...     watched = WatchedFiles("numbers", [(path, "a number")], int)
        ...     _ = path.write_text("2\\n")
        ...     watched.value, watched.reload(), watched.value
        (1, True, 2)
    """

    def __init__(self, name, files, parse):
        self._name, self._parse = name, parse
        self._files = [(Path(path), expected) for path, expected in files]
        self._kept = {}  # content of what can be read only once
        self._seen = self._refused = self._fault = None
        self._contents = self._read()
        self.value = parse(*self._contents)
        read = zip(self._files, self._contents, strict=True)
        self._kept = {path: content for (path, _), content in read if not path.is_file()}

    def reload(self, *, at_once=False):
        """Reads the files again.

        Args:
            at_once: bool. The files are complete, whether or not they end with a newline.

        Returns:
            bool. Whether the value was replaced.
        """
        contents = None
        try:
            contents = self._read()
            if contents == self._contents:
                self._seen = self._refused = self._fault = None
                return False
            if contents == self._refused or not self._is_complete(contents, at_once):
                return False
            value = self._parse(*contents)
        except InputError as error:
            self._refused = contents
            if str(error) != self._fault:
                logger.error("%s: the last good ones stay in use: %s", self._name, error)
            self._fault = str(error)
            return False
        self.value, self._contents = value, contents
        self._seen = self._refused = self._fault = None
        logger.info("%s were read again", self._name)
        return True

    def _is_complete(self, contents, at_once):
        """Whether files that changed are not being written any more."""
        seen, self._seen = self._seen, contents
        if contents == seen or at_once:
            return True
        if not all(content.endswith(b"\n") for content in contents):
            return False
        time.sleep(SETTLE_SECONDS)
        return self._read() == contents

    def _read(self):
        return tuple(
            self._kept[path] if path in self._kept else _read_file(path, expected) for path, expected in self._files
        )


class Watcher:
    """Calls a function every so many seconds, and whenever it is woken, in a thread of its own.

    An error of the function that nobody thought of is logged once, without its text, and does not end the thread.

    Args:
        name: str. Name of the thread.
        seconds: float. 0 is only when woken.
        look: function that is called with `at_once`, whether `wake` was called.
    """

    def __init__(self, name, seconds, look):
        self._seconds, self._look = seconds or None, look
        self._woken, self._closed = threading.Event(), False
        self._fault = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self):
        self._thread.start()

    def wake(self):
        """Looks now."""
        self._woken.set()

    def close(self):
        """Ends the thread; waits a second for what it is doing."""
        self._closed = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(1)

    def _run(self):
        while True:
            woken = self._woken.wait(self._seconds)
            self._woken.clear()
            if self._closed:
                return
            try:
                self._look(at_once=woken)
                self._fault = None
            except Exception as error:  # noqa: BLE001  the thread must live on
                fault = describe_error(error)
                if fault != self._fault:
                    logger.error("%s: %s", self._thread.name, fault)
                self._fault = fault


def _read_file(path, expected):
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: expected {expected}. {error.strerror}.") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{path}: expected {expected}, at most {MOST_BYTES} bytes. Received: more.")
    return content
