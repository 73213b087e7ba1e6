"""Worker of a comparison, which any engine of `kmm.engines` can run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kmm.errors import KmmError, describe_error
from kmm.experiments.tasks.task import Task
from kmm.keras_backend import load_keras_quietly
from kmm.training.preparation.prepared_studies import PreparedStudies


@dataclass(frozen=True)
class TaskWorker:
    """Runs tasks. It can be sent to another process; films stay in their files.

    Attributes:
        out: Path of the folder of tasks.
        cache: Path of the folder of prepared films and features.
        prepared: mapping of the key of a preparation to its `PreparedStudies`.
        models: Path of the folder in which classifiers are kept.
        explanations: Path of the folder of explanations.
        keep_models: bool. Whether classifiers are kept.
    """

    out: Path
    cache: Path
    prepared: Mapping[str, PreparedStudies]
    models: Path
    explanations: Path
    keep_models: bool = False

    def load(self, parent: int | None = None) -> Self:
        """Loads Keras; returns the worker itself."""
        with load_keras_quietly():
            import kmm.experiments.tasks.complete  # noqa: F401
        return self

    def run(self, task: Task, notify: Callable[[int], None] = lambda count: None) -> dict[str, Any] | str:
        """Runs a task.

        Returns:
            dict of its `minutes` and `memory_gb`, or the reason (str) why it failed: the other tasks go on.

        Raises:
            OSError: if the disk is full, which would end every other task too.
        """
        from kmm.experiments.tasks.complete import complete_task
        from kmm.experiments.tasks.given import keep_given

        prepared = self.prepared[task.preparation]
        keep_given(self.out, task.settings)
        try:
            result = complete_task(
                task,
                prepared,
                out=self.out,
                cache=self.cache,
                models=self.models,
                explanations=self.explanations,
                keep_model=self.keep_models,
                notify=notify,
            )
        except OSError:
            raise
        except KmmError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  its message may quote a report, so only its origin is named
            return f"unexpected {describe_error(error)}"
        return {name: result.facts[name] for name in ("minutes", "memory_gb")}
