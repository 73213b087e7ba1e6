"""A worker without a model, which spawned processes can import: what it does follows from the names of the batches."""

import errno
import os
import signal
import time
from pathlib import Path

from kmm.errors import ImageError


class StubWorker:
    """Answers with its process and threads; of batches `kill-N` it dies N times; `load` may fail too.

    Of batches `slow` it writes a file every tenth of a second, for minutes.
    """

    def __init__(self, out, load=None):
        self.out, self.how = Path(out), load

    def load(self, parent=None):
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "refused":
            raise ImageError("expected a model.")
        return self

    def run(self, batch, notify=lambda count: None):
        notify(1)
        kind, _, times = batch.name.partition("-")
        if kind == "kill":
            with open(self.out / batch.name, "a+", encoding="ascii") as file:
                file.write("x")
                if file.tell() <= int(times):
                    file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
        if kind == "slow":
            for number in range(2000):
                (self.out / f"{number}.txt").write_text("written", encoding="ascii")
                time.sleep(0.1)
        if kind == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/1.png")
        if kind == "bug":
            raise ZeroDivisionError("division by zero")
        return [{"process": os.getpid(), "threads": os.environ.get("TF_NUM_INTRAOP_THREADS")}]
