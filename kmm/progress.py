"""Progress with rate and time left: a moving bar on a terminal, plain lines elsewhere, nothing when not asked."""

import sys
import time
from contextlib import contextmanager


class Progress:
    """Says nothing. The rooms of kmm call `step` and `note`; the command line hands them a talking one.

    Example:
        >>> with Progress().step("Reading", 2) as advance:
        ...     advance(); advance(text="loss 0.3")
    """

    @contextmanager
    def step(self, title, total, done=0):
        """A piece of work of `total` units, `done` of them before. Yields `advance(count=1, text="")`."""
        yield lambda count=1, text="": None

    def note(self, text):
        """One line that is worth keeping."""


class PlainProgress(Progress):
    """Lines on a stream, at most one every `seconds` and one at each end."""

    def __init__(self, stream=None, seconds=10.0):
        self.stream = stream or sys.stderr
        self.seconds = seconds

    @contextmanager
    def step(self, title, total, done=0):
        start = last = time.monotonic()
        before, said = done, ""

        def advance(count=1, text=""):
            nonlocal done, said, last
            done, said, now = done + count, text or said, time.monotonic()
            if now - last >= self.seconds and before < done < total:
                last, rate = now, (done - before) / (now - start)
                self.note(f"{title}: {done}/{total}, {rate:.3g}/s, {(total - done) / rate:.0f} s left {said}".rstrip())

        yield advance
        seconds = time.monotonic() - start
        self.note(f"{title}: {done}/{total} in {seconds:.1f} s {said}".rstrip())

    def note(self, text):
        print(text, file=self.stream, flush=True)


class TerminalProgress(Progress):
    """A moving bar with rate and time left, by rich, on a terminal."""

    def __init__(self, stream=None):
        from rich.console import Console

        self.console = Console(file=stream or sys.stderr, highlight=False)

    @contextmanager
    def step(self, title, total, done=0):
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[said]}"),
        )
        with Bar(*columns, console=self.console) as bar:
            task = bar.add_task(title, total=total, completed=done, said="", rate="")

            def advance(count=1, text=""):
                said = {"said": text} if text else {}
                bar.update(task, advance=count, **said)
                speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
                bar.update(task, rate=f"{speed:.3g}/s" if speed else "")

            yield advance

    def note(self, text):
        self.console.print(text, markup=False)


def choose_progress(stream=None):
    """A moving bar when the stream is a terminal, plain lines when it is a file or a pipe."""
    stream = stream or sys.stderr
    return TerminalProgress(stream) if stream.isatty() else PlainProgress(stream)
