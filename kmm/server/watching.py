"""Watch files that may change while the server runs."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kmm.errors import InputError, describe_error

MOST_BYTES = 2**20  # per file
SETTLE_SECONDS = 0.05  # between two reads that must agree before a change counts
logger = logging.getLogger("kmm.server")


class WatchedFiles:
    """A value parsed from files, and parsed again when they change.

    The new value replaces the old one in one step. If a file cannot be read or parsed, the old value stays in place
    and the error is logged once. Contents are compared, not times, so redirecting a symbolic link counts as a change.
    A file that is still being written does not count: two reads must agree, and a text that does not end with a newline
    is accepted only if it is the same at the next check.

    A path that is not a regular file, such as a pipe, is read once and keeps its content.

    Args:
        name: str. Name of the value in the log, for example `"tokens"`.
        files: list of (path, expected content), for example `[("a.pem", "certificates in PEM")]`.
        parse: function that takes the content of each file, as bytes, and returns the value.

    Attributes:
        value: value of the last valid files. It is never changed, only replaced; a reader that needs several parts of
            it should read the attribute once.

    Raises:
        InputError: if a file cannot be read, is larger than 1 MiB, or is refused by `parse`.

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

    def __init__(self, name: str, files: Sequence[tuple[Path | str, str]], parse: Callable[..., Any]) -> None:
        self._name, self._parse = name, parse
        self._files = [(Path(path), expected) for path, expected in files]
        self._kept: dict[Path, bytes] = {}  # content of files that can be read only once
        self._seen: tuple[bytes, ...] | None = None
        self._refused: tuple[bytes, ...] | None = None
        self._fault: str | None = None
        self._contents = self._read()
        self.value = parse(*self._contents)
        read = zip(self._files, self._contents, strict=True)
        self._kept = {path: content for (path, _), content in read if not path.is_file()}

    def reload(self, *, at_once: bool = False) -> bool:
        """Reads the files again.

        Args:
            at_once: bool. Treat the files as complete, even without a final newline.

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
                logger.error("%s: not reloaded, the last valid ones stay in use: %s", self._name, error)
            self._fault = str(error)
            return False
        self.value, self._contents = value, contents
        self._seen = self._refused = self._fault = None
        logger.info("%s: reloaded", self._name)
        return True

    def _is_complete(self, contents, at_once):
        """Returns whether changed files are no longer being written."""
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
    """Calls a function periodically, and whenever it is woken, in its own thread.

    An unexpected error of the function is logged once, without its text, and does not end the thread.

    Args:
        name: str. Name of the thread.
        seconds: float. Time between two calls; 0 calls the function only when woken.
        look: function with the keyword argument `at_once`, which is True if `wake` was called.
    """

    def __init__(self, name: str, seconds: float, look: Callable[..., object]) -> None:
        self._seconds, self._look = seconds or None, look
        self._woken, self._closed = threading.Event(), False
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Has the thread call the function now."""
        self._woken.set()

    def close(self) -> None:
        """Ends the thread; waits at most a second for a running call."""
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
        raise InputError(f"{path}: expected {expected}, but the file has more than {MOST_BYTES} bytes.")
    return content
