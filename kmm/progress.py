"""Progress with rate and time left: a moving bar on a terminal, plain lines elsewhere, silent by default."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO


class Advance(Protocol):
    """Reports progress within a step."""

    def __call__(self, count: int = 1, text: str = "") -> None:
        """Adds finished units of work, and replaces the text beside the bar unless `text` is empty."""


class Progress:
    """Silent progress, the default. The packages of kmm call `step` and `note`; subclasses show them.

    Example:
        >>> with Progress().step("Reading", 2) as advance:
        ...     advance(); advance(text="loss 0.3")
    """

    @contextmanager
    def step(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Starts a step of `total` units, `done` of which are finished already. Yields `advance(count=1, text="")`."""
        yield lambda count=1, text="": None

    def note(self, text: str) -> None:
        """Reports one line that is worth keeping."""


class PlainProgress(Progress):
    """Lines on a stream: at most one every `seconds`, and one at the end of each step."""

    def __init__(self, stream: TextIO | None = None, seconds: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.seconds = seconds

    @contextmanager
    def step(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        start = last = time.monotonic()
        before, latest = done, ""

        def advance(count: int = 1, text: str = "") -> None:
            nonlocal done, latest, last
            done, latest, now = done + count, text or latest, time.monotonic()
            if now - last >= self.seconds and before < done < total:
                last, rate = now, (done - before) / (now - start)
                left = (total - done) / rate
                self.note(f"{title}: {done}/{total}, {rate:.3g}/s, {left:.0f} s left {latest}".rstrip())

        yield advance
        seconds = time.monotonic() - start
        self.note(f"{title}: {done}/{total} in {seconds:.1f} s {latest}".rstrip())

    def note(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


class TerminalProgress(Progress):
    """A moving bar with rate and time left on a terminal, drawn by rich."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console

        self.console = Console(file=stream or sys.stderr, highlight=False)

    @contextmanager
    def step(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[text]}"),
        )
        with Bar(*columns, console=self.console) as bar:
            task = bar.add_task(title, total=total, completed=done, text="", rate="")

            def advance(count: int = 1, text: str = "") -> None:
                fields: dict[str, Any] = {"text": text} if text else {}
                bar.update(task, advance=count, **fields)
                speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
                bar.update(task, rate=f"{speed:.3g}/s" if speed else "")

            yield advance

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)


def choose_progress(stream: TextIO | None = None) -> Progress:
    """Returns a moving bar if the stream is a terminal, plain lines if it is a file or a pipe."""
    stream = stream or sys.stderr
    return TerminalProgress(stream) if stream.isatty() else PlainProgress(stream)
