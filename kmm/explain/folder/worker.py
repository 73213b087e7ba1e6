"""Who explains batches of studies: a process that writes files while it computes the next, for the run that holds them.

The files of a study are made in a folder of their own and put in place together, when all of them are whole.
"""

import os
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from kmm.errors import KmmError
from kmm.explain.folder.fingerprints import identify_study
from kmm.explain.folder.journal import WORK, write_lines
from kmm.explain.folder.lock import WORK_FOLDER
from kmm.explain.folder.maps import place_of, write_map
from kmm.explain.output.files import write_outputs
from kmm.explain.output.table import describe_explanation, describe_failure
from kmm.tracebacks import describe_error

WRITERS = 2  # threads that draw and write
IN_FLIGHT = 4  # studies that wait for them at most


@dataclass(frozen=True)
class Stamp:
    """What the files of a run were made with, noted with each study.

    Attributes:
        run: str. Digest of what its attributions depend on.
        drawing: str. Digest of what its files depend on besides.
        kmm: str. Version of kmm.
    """

    run: str
    drawing: str
    kmm: str


@dataclass(frozen=True)
class Job:
    """Some studies, the unit of work: done as a whole or not at all.

    Attributes:
        name: str. Digest of the studies: the name of the file that says that it is done.
        studies: tuple of `Study`.
        names: tuple of str, one a study: what its files are called.
        identities: tuple, one a study: dict of `kmm.explain.folder.fingerprints.identify_study`, or None where it
            is not known.
    """

    name: str
    studies: tuple
    names: tuple[str, ...]
    identities: tuple


class FolderWorker:
    """Does batches for a run. Until `load` is called it is a description that can be sent elsewhere.

    What a batch gives depends on its studies alone, and not on the batches before it or on who does it.

    Args:
        source: `kmm.explain.folder.sources.ModelSource` or `MapSource`.
        claim: `kmm.explain.folder.lock.FolderLock` of the run.
        outputs: `Outputs`.
        stamp: `Stamp` of the run.
        labels: dict of label to what its files are called after the study's name; None: studies have one label each,
            and files of the study's name alone.
    """

    def __init__(self, source, claim, outputs, stamp, labels=None):
        self.source, self.claim, self.outputs, self.stamp, self.labels = source, claim, outputs, stamp, labels

    @property
    def out(self):
        """Path of the folder that is written."""
        return self.claim.out

    def load(self, parent=None):
        """Makes ready, which may take the loading of a model; returns the worker itself.

        Args:
            parent: int or None. A process of which this one must be a child whenever it writes.

        Raises:
            InputError: as `Explainer.load`.
        """
        self.claim = replace(self.claim, parent=parent)
        self.source.load()
        return self

    def explain_batch(self, batch, tell=lambda count: None):
        """Explains the studies of a batch and writes their files, and at last the one that says so.

        Args:
            batch: `Job`.
            tell: callable. It is told on the way how many studies of the batch are explained or set aside.

        Returns:
            list of dict, one a study: `study`, the `run`, `drawing` and `kmm` of the stamp, the `key` and `film` of its
            identity, the names of its `files`, and its `rows` of the table, one per label. A study that cannot be
            explained has a row with an `error`, and no files.

        Raises:
            OSError: if a file cannot be written.
            InputError: if the run is over.
        """
        failed, written, pending = {}, {}, deque()
        known = zip(batch.studies, batch.identities, strict=True)
        identities = {study.id: identity or identify_study(study) for study, identity in known}
        names = dict(zip(identities, batch.names, strict=True))
        with ThreadPoolExecutor(WRITERS) as pool:
            for count, (study, explanations) in enumerate(self._explain(batch.studies, failed), start=1):
                mark = {"run": self.stamp.run, "key": identities[study]["key"]}
                pending.append((study, pool.submit(self._write, names[study], mark, explanations)))
                del explanations
                tell(count + len(failed))
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
        """Yields studies and explanations. One that fails on the way is found by explaining the rest one by one."""
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
        except Exception as error:  # noqa: BLE001  what nobody thought of costs a study, not the folder
            if len(studies) == 1:
                failed[studies[0].id] = error if isinstance(error, KmmError) else _name(error)
                return
            for study in list(left.values()):
                yield from self._explain([study], failed)

    def _write(self, name, mark, explanations):
        """Makes the files of a study and puts them in place; returns their names and the rows of the table."""
        out, made = self.out, self.out / WORK_FOLDER / f"{WORK}{self.claim.token}-{os.getpid()}-{name}"
        files, rows = [], []
        made.mkdir()
        try:
            for explanation in explanations:
                own = name if self.labels is None else f"{name}.{self.labels[explanation.target]}"
                done, notes = write_outputs(explanation, made, self.outputs, name=own)
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
    """Takes what was written of a study, or why it could not be drawn."""
    try:
        written[study] = future.result()
    except (KmmError, OSError):  # a package, the disk or the run: so it would be with the next one
        raise
    except Exception as error:  # noqa: BLE001  as above
        failed[study] = _name(error)


def _name(error):
    return f"unexpected {describe_error(error)}"
