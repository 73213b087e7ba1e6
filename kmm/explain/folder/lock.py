"""Lock of an output folder: only processes of the run that holds the folder can write into it.

The run that holds a folder keeps its token in `.parts/lock`. A process that writes for it takes a shared lock on
`.parts/gate` and then checks the token. A later run takes the exclusive lock on the gate before it changes the token.
So writes that an earlier run has begun are complete by then, and it can begin no others.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from kmm.errors import InputError

WORK_FOLDER = ".parts"
LOCK, GATE = "lock", "gate"


@dataclass(frozen=True)
class FolderLock:
    """Permission of a process to write into a folder for the run that holds it.

    Attributes:
        out: Path of the folder.
        token: str. Token of the run, from `lock_folder`.
        parent: int or None. Id of the process that must still be this one's parent; None: not checked.
    """

    out: Path
    token: str
    parent: int | None = None

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """Holds the shared lock while files are put in place; renames only, as a later run waits for it.

        Raises:
            InputError: if another run has taken over the folder, or the run of this process has ended.
        """
        import fcntl

        with open(self.out / WORK_FOLDER / GATE, "a", encoding="ascii") as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)
            if self.parent is not None and os.getppid() != self.parent:
                raise InputError(f"{self.out}: the run of this process has ended. Nothing was written.")
            if (self.out / WORK_FOLDER / LOCK).read_text(encoding="ascii") != self.token:
                raise InputError(f"{self.out}: another run has taken over this folder. Nothing was written.")
            yield


def take_folder(lock: TextIO) -> str:
    """Gives a folder to this run by writing a new token into its lock file.

    Args:
        lock: text file `.parts/lock`, open for appending and locked by this process.

    Returns:
        str: the token of the run.
    """
    import fcntl

    token = secrets.token_hex(16)
    with open(Path(lock.name).with_name(GATE), "a", encoding="ascii") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(token)
        lock.flush()
    return token
