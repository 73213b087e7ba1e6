"""Stages that are trained, as tests count them."""

import contextlib

import pytest

from kmm.training.stages import fit_stage


def name_stage(folder):
    """The work folder and the stage of the folder of a state."""
    return f"{folder.parent.parent.name}/{folder.name}"


@contextlib.contextmanager
def record_stages():
    """Records the stages that this process trains: the name of the folder, and the epoch that training starts from."""
    found, run_epochs = [], fit_stage._run_epochs

    def record(model, train, validation, checkpoint, callbacks):
        found.append((name_stage(checkpoint.folder), checkpoint.state["epoch"]))
        run_epochs(model, train, validation, checkpoint, callbacks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_stage, "_run_epochs", record)
        yield found
