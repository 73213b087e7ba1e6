"""Saved classifiers that were altered or are incomplete."""

import json
import shutil

import pytest

from tests.factories.commands import refuse


@pytest.mark.parametrize("name", ["joint.keras", "vocabulary.txt", "settings.json", "linear.npz", "model_card.md"])
def test_an_altered_classifier(tiny_run, good, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(tiny_run[2], folder)
    with open(folder / name, "ab") as file:
        file.write(b"x")
    refuse("predict", folder, good, says=(str(folder / name), "its digest differs"))
    (folder / name).unlink()
    refuse("predict", folder, good, says=(f"lacks the file {name}",))


@pytest.mark.parametrize("change", ["format", "files", "parts", "way out", "nonsense", "empty", "missing"])
def test_a_folder_that_is_not_a_classifier_is_refused(tiny_run, good, tmp_path, change):
    folder = tmp_path / "model"
    shutil.copytree(tiny_run[2], folder)
    path = folder / "classifier.json"
    said = json.loads(path.read_text())
    if change == "way out":
        said["files"]["../secret"] = "0" * 64
        (tmp_path / "secret").write_text("x")
    elif change == "format":
        said["format"] = 99
    else:
        said.pop(change, None)
    texts = {"nonsense": "\x00", "empty": ""}
    path.write_text(texts.get(change, json.dumps(said)))
    if change == "missing":
        path.unlink()
    for arguments in (["predict", folder, good], ["evaluate", folder, good.parent.parent]):
        refuse(*arguments, says=(str(folder),))
    refuse("predict", tmp_path / "nowhere", good, says=("nowhere", "is not a classifier"))
