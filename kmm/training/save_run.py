"""Saving of a run: the classifier's folder with its split, learning curves, pictures and model card."""

import shutil
from pathlib import Path

from kmm.classifier import Classifier
from kmm.evaluate.result_files import write_results
from kmm.storage.files import write_json
from kmm.training.fit import Run


def save_run(
    classifier: Classifier, run: Run, folder: Path | str, *, overwrite: bool = False, keep_work: bool = False
) -> None:
    """Saves the classifier with its split, learning curves, pictures and model card, and removes the work folder.

    Args:
        classifier, run: results of `fit_classifier`.
        folder: path of the new folder.
        overwrite: bool. Replaces an existing saved classifier.
        keep_work: bool. Leaves the work folder, which other runs share.

    Raises:
        InputError: if the folder exists and `overwrite` is false, or it is not a saved classifier.
    """
    classifier.provenance["name"] = Path(folder).name

    def extra(temporary):
        run.split.save(temporary / "split.csv")
        write_json(temporary / "history.json", run.history)
        write_results(classifier, run.predictions.get("test"), run.history, temporary, path=folder)

    classifier.save(folder, overwrite=overwrite, extra=extra)
    if not keep_work:
        shutil.rmtree(run.work)
