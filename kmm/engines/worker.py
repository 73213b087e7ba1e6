"""Protocols of an engine: a worker, and the jobs that it is given one after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol


class Job(Protocol):
    """A unit of work, done as a whole or not at all. It can be sent to another process."""

    @property
    def name(self) -> str:
        """Name that no other job of the run has."""


class Worker(Protocol):
    """Runs jobs. Before `load` is called it can be pickled and sent to another process."""

    def load(self, parent: int | None = None) -> Any:
        """Prepares for the first job.

        Args:
            parent: int or None. Id of the process that must still be this one's parent whenever the worker writes.
        """

    def run(self, job: Any, notify: Callable[[int], None] = lambda count: None) -> Any:
        """Runs a job.

        Args:
            job: `Job`.
            notify: function of the amount of the job that is done so far.

        Returns:
            reply that can be sent to another process; no str, which is the reason why a job was given up, unless it is
            one.
        """


# Arguments of a runner, and the runner itself: see `kmm.engines.runners`.
Cut = Callable[[int], Sequence[Any]]
Begin = Callable[[], None]
Notify = Callable[[Any, int], None]
Runner = Callable[[Any, Cut, Begin, Notify], Iterator[tuple[Any, Any]]]
