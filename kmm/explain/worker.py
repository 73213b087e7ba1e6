"""Who explains batches of studies: a process that loads the model once and writes files while it computes the next."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kmm.errors import KmmError
from kmm.explain.ledger import PARTS, write_lines
from kmm.explain.outputs import write_outputs
from kmm.explain.table import describe_explanation, describe_failure
from kmm.faults import tell_fault

WRITERS = 2  # threads that draw and write
IN_FLIGHT = 4  # explanations that wait for them at most


@dataclass(frozen=True)
class Batch:
    """Some studies, the unit of work: done as a whole or not at all.

    Attributes:
        name: str. Digest of the keys: the name of the file that says that it is done.
        studies: tuple of `Study`.
        keys: tuple of str, one a study: digests of all that its explanation depends on.
    """

    name: str
    studies: tuple
    keys: tuple[str, ...]


class FolderWorker:
    """Explains batches with one classifier. Until `load` is called it is a description that can be sent elsewhere.

    What a batch gives depends on its studies alone, and not on the batches before it or on who does it.

    Args:
        model: path of a saved classifier.
        out: Path of the folder to write into.
        settings: `ExplainSettings`.
        outputs: `Outputs`.
    """

    def __init__(self, model, out, settings, outputs):
        self.model, self.out, self.settings, self.outputs = Path(model), Path(out), settings, outputs
        self.explainer = None

    def load(self):
        """Loads the model; returns the worker itself.

        Raises:
            InputError: as `Explainer.load`.
        """
        from kmm.explain.explainer import Explainer  # brings TensorFlow, which only those who explain need

        self.explainer = Explainer.load(self.model, self.settings)
        return self

    def explain_batch(self, batch, tell=lambda count: None):
        """Explains the studies of a batch and writes their files, and at last the one that says so.

        Args:
            batch: `Batch`.
            tell: callable. It is told on the way how many studies of the batch are explained or set aside.

        Returns:
            list of dict, one a study: `study`, its `key`, the names of its `files`, and its `row` of the table.

        Raises:
            OSError: if a file cannot be written.
        """
        failed, written, pending = {}, {}, deque()
        with ThreadPoolExecutor(WRITERS) as pool:
            for count, explanation in enumerate(self._explain(batch.studies, failed), start=1):
                pending.append((explanation.study, pool.submit(self._write, explanation)))
                del explanation
                tell(count + len(failed))
                if len(pending) >= IN_FLIGHT:
                    _collect(*pending.popleft(), written, failed)
            for study, future in pending:
                _collect(study, future, written, failed)
        lines = []
        for study, key in zip(batch.studies, batch.keys, strict=True):
            names, row = written.get(study.id) or ([], describe_failure(study, failed[study.id]))
            lines.append({"study": study.id, "key": key, "files": names, "row": row})
        write_lines(self.out / PARTS / f"{batch.name}.jsonl", lines)
        return lines

    def _explain(self, studies, failed):
        """Yields explanations. A study that fails on the way is found by explaining those that are left one by one."""
        left = {study.id: study for study in studies}

        def set_aside(problem):
            study_id = problem.source.removeprefix("study ")
            failed[study_id] = problem.reason
            del left[study_id]

        try:
            for explanation in self.explainer.explain(studies, set_aside):
                del left[explanation.study]
                yield explanation
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  what nobody thought of costs a study, not the folder
            if len(studies) == 1:
                failed[studies[0].id] = error if isinstance(error, KmmError) else _name(error)
                return
            for study in list(left.values()):
                yield from self._explain([study], failed)

    def _write(self, explanation):
        names, notes = write_outputs(explanation, self.out, self.outputs)
        return names, describe_explanation(explanation, notes)


def _collect(study, future, written, failed):
    """Takes what was written of a study, or why it could not be drawn."""
    try:
        written[study] = future.result()
    except (KmmError, OSError):  # a package or the disk: so it would be with the next one
        raise
    except Exception as error:  # noqa: BLE001  as above
        failed[study] = _name(error)


def _name(error):
    return f"unexpected {tell_fault(error)}"
