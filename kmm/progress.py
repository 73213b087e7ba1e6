"""Progress with rate and time left: a moving bar on a terminal or in a notebook, plain lines elsewhere, silent by
default."""

import importlib
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


class NotebookProgress(Progress):
    """One line per step in the output of a notebook's cell, which is replaced while the step goes on.

    Args:
        show: function of a dict of MIME types, with `raw` and `display_id`, that returns a handle with `update`:
            `IPython.display.display`.
        seconds: float. Least time between two updates.
    """

    def __init__(self, show: Any, seconds: float = 0.5) -> None:
        self.show, self.seconds = show, seconds

    @contextmanager
    def step(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        start = last = time.monotonic()
        before, latest = done, ""

        def describe(end: str) -> dict[str, str]:
            return {"text/plain": " ".join(filter(None, (f"{title}: {done}/{total}{end}", latest)))}

        handle = self.show(describe(""), raw=True, display_id=True)

        def advance(count: int = 1, text: str = "") -> None:
            nonlocal done, latest, last
            done, latest, now = done + count, text or latest, time.monotonic()
            if now - last >= self.seconds and before < done < total:
                last, rate = now, (done - before) / (now - start)
                handle.update(describe(f", {rate:.3g}/s, {(total - done) / rate:.0f} s left"), raw=True)

        yield advance
        handle.update(describe(f" in {time.monotonic() - start:.1f} s"), raw=True)

    def note(self, text: str) -> None:
        self.show({"text/plain": text}, raw=True)


def choose_progress(stream: TextIO | None = None) -> Progress:
    """Returns a moving bar if the stream is a terminal, a replaced line in a notebook, plain lines otherwise."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    if stream is None and getattr(shell, "kernel", None) is not None:
        return NotebookProgress(importlib.import_module("IPython.display").display)
    stream = stream or sys.stderr
    return TerminalProgress(stream) if stream.isatty() else PlainProgress(stream)
