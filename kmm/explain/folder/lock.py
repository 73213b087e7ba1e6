"""The right of one run to write into a folder: a process whose run is over writes nothing more.

The run that holds a folder keeps a token of its own in `.parts/lock`. Whoever writes for it looks the token up first,
while it holds `.parts/gate` together with the other writers. A later run takes the gate for itself before it changes
the token: what an earlier one had begun to put in place is then in place, and nothing else follows.
"""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from kmm.errors import InputError

WORK_FOLDER = ".parts"
LOCK, GATE = "lock", "gate"


@dataclass(frozen=True)
class FolderLock:
    """What a process needs to write into a folder for the run that holds it.

    Attributes:
        out: Path of the folder.
        token: str. That of the run, as `lock_folder` yields it.
        parent: int or None. The process that must still be this one's parent; None: no matter which.
    """

    out: Path
    token: str
    parent: int | None = None

    @contextlib.contextmanager
    def publishing(self):
        """Holds the folder open while files are put in place, which should be a matter of renames.

        Raises:
            InputError: if another run has taken the folder over, or the run of this process is over.
        """
        import fcntl

        with open(self.out / WORK_FOLDER / GATE, "a", encoding="ascii") as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)
            if self.parent is not None and os.getppid() != self.parent:
                raise InputError(f"{self.out}: the run that this process worked for has ended. Nothing was written.")
            if (self.out / WORK_FOLDER / LOCK).read_text(encoding="ascii") != self.token:
                raise InputError(f"{self.out}: another run has taken over this folder. Nothing was written.")
            yield


def take_folder(lock):
    """Makes a folder, of which the lock file is held, that of this run.

    Args:
        lock: text file `.parts/lock`, open to append and locked by this process.

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
