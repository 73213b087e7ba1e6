"""Worker of a run: explains batches of studies, and writes the files of one study while it computes the next.

The files of a study are written into a folder of their own, and moved into place together when all are complete.
"""

import os
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from kmm.data.study import Study
from kmm.errors import KmmError, describe_error
from kmm.explain.folder.fingerprints import identify_study
from kmm.explain.folder.journal import WORK, write_lines
from kmm.explain.folder.lock import WORK_FOLDER, FolderLock
from kmm.explain.folder.maps import place_of, write_map
from kmm.explain.folder.sources import MapSource, ModelSource
from kmm.explain.output.files import Outputs, write_outputs
from kmm.explain.output.table import describe_explanation, describe_failure

WRITERS = 2  # threads that draw and write
IN_FLIGHT = 4  # most studies that wait to be written


@dataclass(frozen=True)
class Stamp:
    """Digests of a run's settings and the version of kmm, recorded with each study.

    Attributes:
        run: str. Digest of the model and of the settings that attributions depend on.
        drawing: str. Digest of the other settings that files depend on.
        kmm: str. Version of kmm.
    """

    run: str
    drawing: str
    kmm: str


@dataclass(frozen=True)
class Job:
    """A batch of studies, the unit of work: done as a whole or not at all.

    Attributes:
        name: str. Digest of the names of its studies: the name of the file that records that it is done.
        studies: tuple of `Study`.
        names: tuple of str, one per study: the name of its files, without suffixes.
        identities: tuple, one per study: dict from `kmm.explain.folder.fingerprints.identify_study`, or None if it is
            not known yet.
    """

    name: str
    studies: tuple[Study, ...]
    names: tuple[str, ...]
    identities: tuple[dict[str, Any] | None, ...]


class FolderWorker:
    """Explains batches for a run. Before `load` is called it can be pickled and sent to another process.

    The result of a batch depends only on its studies, not on earlier batches or on the process that runs it.

    Args:
        source: `kmm.explain.folder.sources.ModelSource` or `MapSource`.
        claim: `kmm.explain.folder.lock.FolderLock` of the run.
        outputs: `Outputs`.
        stamp: `Stamp` of the run.
        labels: dict of label to the part of a file's name that follows the study's name; None: studies have one label
            each, and files are named by the study only.
    """

    def __init__(
        self,
        source: ModelSource | MapSource,
        claim: FolderLock,
        outputs: Outputs,
        stamp: Stamp,
        labels: Mapping[str, str] | None = None,
    ):
        self.source, self.claim, self.outputs, self.stamp, self.labels = source, claim, outputs, stamp, labels

    @property
    def out(self) -> Path:
        """Path of the output folder."""
        return self.claim.out

    def load(self, parent: int | None = None) -> Self:
        """Loads the source, possibly a model; returns the worker itself.

        Args:
            parent: int or None. Id of the process that must still be this one's parent whenever it writes.

        Raises:
            InputError: as `Explainer.load`.
        """
        self.claim = replace(self.claim, parent=parent)
        self.source.load()
        return self

    def run(self, batch: Job, notify: Callable[[int], None] = lambda count: None) -> list[dict[str, Any]]:
        """Explains the studies of a batch and writes their files, then the file that records that they are done.

        Args:
            batch: `Job`.
            notify: callable taking the number of studies of the batch that are explained or set aside so far.

        Returns:
            list of dict, one per study: `study`, the `run`, `drawing` and `kmm` of the stamp, the `key` and `film` of
            its identity, the names of its `files`, and its `rows` of the table, one per label. A study that cannot be
            explained has a row with an `error`, and no files.

        Raises:
            OSError: if a file cannot be written.
            InputError: if the run has ended.
        """
        failed: dict[str, Any] = {}
        written: dict[str, tuple[list[str], list[dict[str, Any]]]] = {}
        pending: deque[tuple[str, Future]] = deque()
        known = zip(batch.studies, batch.identities, strict=True)
        identities = {study.id: identity or identify_study(study) for study, identity in known}
        names = dict(zip(identities, batch.names, strict=True))
        with ThreadPoolExecutor(WRITERS) as pool:
            for count, (study, explanations) in enumerate(self._explain(batch.studies, failed), start=1):
                mark = {"run": self.stamp.run, "key": identities[study]["key"]}
                pending.append((study, pool.submit(self._write, names[study], mark, explanations)))
                del explanations
                notify(count + len(failed))
                if len(pending) >= IN_FLIGHT:
                    _collect(*pending.popleft(), written, failed)
            for study, future in pending:
                _collect(study, future, written, failed)
        lines = []
        for study in batch.studies:
            files, rows = written.get(study.id) or ([], [describe_failure(study, failed[study.id])])
            lines.append({"study": study.id, **vars(self.stamp), **identities[study.id], "files": files, "rows": rows})
        done = lines if self.source.computes else [line for line in lines if line["study"] in written]
        with self.claim.publishing():
            write_lines(self.out / WORK_FOLDER / f"{batch.name}.jsonl", done)
        return lines

    def _explain(self, studies, failed):
        """Yields study ids and explanations. After an unexpected error, explains the rest one by one to isolate it."""
        left = {study.id: study for study in studies}

        def set_aside(problem):
            study_id = problem.source.removeprefix("study ")
            failed[study_id] = problem.reason
            del left[study_id]

        try:
            for study, explanations in self.source.explain_studies(studies, set_aside):
                del left[study]
                yield study, explanations
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  an unexpected error costs one study, not the whole folder
            if len(studies) == 1:
                failed[studies[0].id] = error if isinstance(error, KmmError) else _name(error)
                return
            for study in list(left.values()):
                yield from self._explain([study], failed)

    def _write(self, name, mark, explanations):
        """Writes the files of a study and moves them into place; returns their names and the rows of the table."""
        out, made = self.out, self.out / WORK_FOLDER / f"{WORK}{self.claim.token}-{os.getpid()}-{name}"
        files, rows = [], []
        made.mkdir()
        try:
            names = {
                one.target: name if self.labels is None else f"{name}.{self.labels[one.target]}" for one in explanations
            }
            for explanation in explanations:
                own = names[explanation.target]
                others = {label: other for label, other in names.items() if label != explanation.target}
                done, notes = write_outputs(explanation, made, self.outputs, name=own, others=others)
                files += done
                rows.append(describe_explanation(explanation, notes, name=own))
            places = {made / file: out / file for file in files}
            if self.source.computes:
                write_map(made / "map", mark, explanations)
                places = {made / "map": place_of(out, name), **places}
            with self.claim.publishing():
                for here, there in places.items():
                    os.replace(here, there)
        except OSError as error:
            if str(error.filename).startswith(str(made)):
                error.filename, error.filename2 = str(out / os.path.basename(error.filename)), None
            raise
        finally:
            shutil.rmtree(made)
        return files, rows


def _collect(study, future, written, failed):
    """Stores the files and rows of a study, or the reason why it could not be drawn."""
    try:
        written[study] = future.result()
    except (KmmError, OSError):  # a missing package, the disk or the end of the run would affect every study
        raise
    except Exception as error:  # noqa: BLE001  as above
        failed[study] = _name(error)


def _name(error):
    return f"unexpected {describe_error(error)}"
