"""A worker writes what it is given, finds the study that fails, and says nothing is done that is not."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from kmm.data.study import Problem, Study
from kmm.errors import InputError
from kmm.explain.attribution.result import Attribution
from kmm.explain.explanation import Explanation
from kmm.explain.folder import worker as module
from kmm.explain.folder.journal import lock_folder
from kmm.explain.folder.lock import GATE, LOCK, WORK_FOLDER, FolderLock, take_folder
from kmm.explain.folder.maps import MAPS
from kmm.explain.folder.worker import FolderWorker, Job, Stamp
from kmm.explain.output.files import Outputs
from kmm.explain.output.pictures import draw_picture
from kmm.explain.regions.find import Region
from kmm.explain.settings import ExplainSettings
from kmm.storage.output_mark import MARK


def make_explanation(study):
    film = np.arange(64, dtype=np.uint8).reshape(8, 8)
    return Explanation(
        study=study,
        image="films/\udcff.png",
        target="mass",
        attribution=Attribution({}, 0, 1.5, np.array([1.5])),
        probabilities={"mass": 0.75},
        thresholds={"mass": 0.5},
        film=film,
        heat=film.astype(np.float32),
        regions=[Region(5.0, 6.0, 2.0, 0.5)],
        text="A secret.",
        sections=[("findings", 0, 9)],
        words=[],
        modality_share={"image": 1.0, "text": 0.0},
        settings=ExplainSettings(),
    )


class StubSource:
    """Sets aside studies `broken-...`, and fails on the way at `nan-...` and `odd-...`, whoever is explained beside."""

    computes = True

    def explain_studies(self, studies, set_aside):
        for study in reversed(studies):
            if study.id.startswith("broken"):
                set_aside(Problem(f"study {study.id}", "expected a film."))
            elif study.id.startswith("nan"):
                raise InputError("expected finite\nscores.")
            elif study.id.startswith("odd"):
                raise MemoryError("a patient's name")
            else:
                yield study.id, [make_explanation(study.id)]


@pytest.fixture
def worker(tmp_path):
    with lock_folder(tmp_path) as token:
        (tmp_path / MAPS).mkdir()
        yield FolderWorker(StubSource(), FolderLock(tmp_path, token), Outputs(), Stamp("run", "drawing", "1"))


@pytest.fixture
def odd_writer(monkeypatch):
    """Writing `unwritten-...` raises an unexpected error."""
    write = module.write_outputs

    def fail(explanation, *arguments, **options):
        if explanation.study.startswith("unwritten"):
            raise TypeError("a patient's name")
        return write(explanation, *arguments, **options)

    monkeypatch.setattr(module, "write_outputs", fail)


def make_batch(*ids):
    known = tuple({"key": f"key of {name}", "film": None} for name in ids)
    return Job("done", tuple(Study(name, name) for name in ids), ids, known)


def test_an_unexpected_error_skips_one_study_and_quotes_nothing_of_it(worker, odd_writer):
    lines = worker.run(make_batch("1", "odd-2", "3", "unwritten-4", *(f"{n}" for n in range(5, 12))))
    errors = {line["study"]: line["rows"][0]["error"] for line in lines if line["rows"][0]["error"]}
    assert set(errors) == {"odd-2", "unwritten-4"}
    assert errors["odd-2"].startswith("unexpected MemoryError at kmm/explain/folder/worker.py:")
    assert errors["unwritten-4"].startswith("unexpected TypeError at kmm/explain/folder/worker.py:")


def test_the_good_are_done_and_the_broken_have_one_line_each(worker, tmp_path):
    told = []
    lines = worker.run(make_batch("1", "broken-2", "3", "nan-4", "5"), told.append)
    assert told == [1, 2, 4]  # the broken one with the first after it
    assert [(line["study"], line["rows"][0]["error"]) for line in lines] == [
        ("1", ""),
        ("broken-2", "expected a film."),
        ("3", ""),
        ("nan-4", "expected finite scores."),
        ("5", ""),
    ]
    assert lines[0]["files"] == ["1.json", "1.png", "1.thumb.jpg", "1.html"] and lines[1]["files"] == []
    assert lines[0]["key"] == "key of 1" and lines[0]["rows"][0]["map_error"] is None
    names = {path.name for path in tmp_path.iterdir()} - {MARK, WORK_FOLDER, MAPS}
    assert names == {f"{study}.{kind}" for study in "135" for kind in ("json", "png", "thumb.jpg", "html")}
    text = (tmp_path / WORK_FOLDER / "done.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == lines and "secret" not in text
    said = json.loads((tmp_path / "1.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert said["map_error"] is None and said["image"] == "films/\\udcff.png"


def test_few_explanations_are_held_at_once(worker, monkeypatch):
    held, most = set(), []

    def explain(studies, set_aside):
        for study in studies:
            held.add(study.id)
            most.append(len(held))
            yield study.id, [make_explanation(study.id)]

    def write(explanation, out, outputs, **names):
        held.discard(explanation.study)
        return [], []

    worker.source.explain_studies = explain
    monkeypatch.setattr(module, "write_outputs", write)
    assert len(worker.run(make_batch(*map(str, range(40))))) == 40
    assert max(most) <= module.IN_FLIGHT + 1


def test_a_full_disk_ends_the_batch_and_nothing_is_said_to_be_done(worker, tmp_path, monkeypatch):
    def fail(descriptor, *rest):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        worker.run(make_batch("1", "2"))
    assert {path.name for path in tmp_path.iterdir()} == {MARK, WORK_FOLDER, MAPS} and not list(
        (tmp_path / MAPS).iterdir()
    )
    assert {path.name for path in (tmp_path / WORK_FOLDER).iterdir()} == {LOCK, GATE}


def test_a_worker_of_a_run_that_another_one_followed_writes_nothing(worker, tmp_path):
    with open(tmp_path / WORK_FOLDER / LOCK, "a", encoding="ascii") as lock:  # as a run that found the lock free
        take_folder(lock)
    with pytest.raises(InputError, match="another run has taken over"):
        worker.run(make_batch("1"))
    assert {path.name for path in tmp_path.iterdir()} == {MARK, WORK_FOLDER, MAPS} and not list(
        (tmp_path / MAPS).iterdir()
    )
    assert {path.name for path in (tmp_path / WORK_FOLDER).iterdir()} == {LOCK, GATE}


def test_a_worker_that_has_lost_its_parent_writes_nothing(worker, tmp_path):
    worker.claim = replace(worker.claim, parent=os.getpid())  # which is not the parent of this process
    with pytest.raises(InputError, match="has ended"):
        worker.run(make_batch("1"))
    assert {path.name for path in tmp_path.iterdir()} == {MARK, WORK_FOLDER, MAPS}


@pytest.mark.parametrize("picture", ["circles", "side-by-side", "sensitivities"])
def test_kinds_of_pictures(worker, tmp_path, picture):
    """Each is the picture of that kind, with its caption, which pads these tiny ones to 320 pixels."""
    from PIL import Image

    worker.outputs = replace(worker.outputs, picture=picture, page=False)
    assert worker.run(make_batch("1"))[0]["files"] == ["1.json", "1.png", "1.thumb.jpg"]
    with Image.open(tmp_path / "1.png") as image:
        assert image.mode == "RGB" and image.width == 320
        np.testing.assert_array_equal(np.asarray(image), draw_picture(make_explanation("1"), picture))


def test_unknown_pictures_are_refused():
    with pytest.raises(InputError, match="Known: circles, side-by-side, sensitivities"):
        Outputs(picture="photo")
