"""A folder of studies: whole, resumable, the same whoever does it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kmm.data.collection import read_collection
from kmm.data.study import Report, Study
from kmm.errors import ArtefactError, InputError
from kmm.explain.folder import BATCH, cut_batches, explain_folder
from kmm.explain.ledger import PARTS, lock_folder
from kmm.explain.outputs import Outputs
from kmm.explain.runners import choose_runner
from kmm.explain.settings import ExplainSettings, RegionSettings
from kmm.explain.table import COLUMNS
from kmm.progress import Progress

SETTINGS = ExplainSettings(steps=8)
COUNT = 40
RUN = """
import sys
from test_folder import SETTINGS, list_studies
from kmm.explain.folder import explain_folder
if __name__ == "__main__":
    explain_folder(sys.argv[1], list_studies(sys.argv[2]), sys.argv[3], settings=SETTINGS)
"""


def list_studies(folder):
    """Forty studies; of five of them something is wrong, or a side is missing."""
    folder = Path(folder)
    studies = list(read_collection(folder).studies[:COUNT])
    black = folder / "black.png"
    if not black.exists():
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(black)
    studies[3] = replace(studies[3], images=(replace(studies[3].frontal, path=folder / "gone.png"),))
    studies[5] = replace(studies[5], images=(replace(studies[5].frontal, path=black),))
    studies[7] = Study("neither", "7")
    studies[9] = replace(studies[9], images=())
    studies[11] = replace(studies[11], report=None)
    return studies


@pytest.fixture(scope="module")
def tiny(tiny_run, tiny_folder, tmp_path_factory):
    """Path of a model, studies, and the folder of an undisturbed run with its rows."""
    studies, out = list_studies(tiny_folder), tmp_path_factory.mktemp("explained") / "new" / "folder"
    rows = explain_folder(tiny_run[2], studies, out, settings=SETTINGS)
    return tiny_run[2], studies, out, rows


@pytest.fixture
def again(tiny, tmp_path):
    """The same with a copy of the folder."""
    model, studies, out, rows = tiny
    return model, list(studies), shutil.copytree(out, tmp_path / "out"), rows


class Recorder:
    """A runner that does nothing and remembers what it was asked to do."""

    def __init__(self):
        self.asked = []

    def __call__(self, worker, cut, begin, tell):
        begin()
        for batch in cut(1):
            self.asked.append([study.id for study in batch.studies])
            yield batch, "not now."


def read_files(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_every_study_is_a_row_and_the_good_ones_have_files(tiny):
    _, studies, out, rows = tiny
    assert [row["study"] for row in rows] == [study.id for study in studies]
    failed = {row["study"]: row["error"] for row in rows if row["error"]}
    assert set(failed) == {studies[place].id for place in (3, 5)} | {"neither"}
    assert "gone.png" in failed[studies[3].id] and "black" in failed[studies[5].id]
    names = {"index.html", "explanations.csv"}
    for row in rows:
        if not row["error"]:
            kinds = ("json", "html", "png", "thumb.jpg") if row["image"] else ("json", "html")
            names.update(f"{row['study']}.{kind}" for kind in kinds)
    assert set(read_files(out)) == names
    with open(out / "explanations.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [list(row.values()) for row in table] == [
        ["" if row[name] is None else str(row[name]) for name in COLUMNS] for row in rows
    ]
    for public in (out / "explanations.csv", out / "index.html", *(out / PARTS).iterdir()):
        assert "There is" not in public.read_text(encoding="utf-8")
    said = json.loads((out / f"{rows[0]['study']}.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert said["score"] == rows[0]["score"] and len(said["regions"]) == rows[0]["regions"]


def test_a_second_run_does_nothing_and_a_lost_table_is_written(again):
    model, studies, out, rows = again
    before = read_files(out)
    (out / "explanations.csv").unlink()
    runner = Recorder()
    assert explain_folder(model, studies, out, settings=SETTINGS, runner=runner) == rows
    assert runner.asked == [] and read_files(out) == before


def test_only_what_is_missing_or_changed_is_done(tiny, again, tmp_path):
    model, studies, out, rows = again
    (out / f"{studies[0].id}.png").unlink()
    studies[1] = replace(studies[1], report=Report(findings="A mass."))
    film = shutil.copy(studies[2].frontal.path, tmp_path / "film.png")
    studies[2] = replace(studies[2], images=(replace(studies[2].frontal, path=Path(film)),))
    new = replace(studies[4], id="new")
    runner = Recorder()
    changed = explain_folder(model, [*studies[:20], new], out, settings=SETTINGS, runner=runner)
    assert runner.asked == [[study.id for study in (*studies[:3], new)]]
    assert [row["error"] for row in changed[:3]] == ["not now."] * 3 and changed[3:20] == rows[3:20]
    assert not (out / f"{studies[1].id}.json").exists() and (out / f"{studies[30].id}.json").exists()
    runner = Recorder()  # the file is as it was, but its explanation is gone
    explain_folder(model, tiny[1][2:3], out, settings=SETTINGS, runner=runner)
    assert runner.asked == [[studies[2].id]]


@pytest.mark.parametrize(
    "change",
    [
        {"settings": replace(SETTINGS, regions=RegionSettings(sensitivity=0.5))},
        {"outputs": Outputs(picture="side-by-side")},
        {"model": "other"},
    ],
)
def test_another_model_or_setting_starts_anew_and_leaves_foreign_files(again, tmp_path, change):
    model, studies, out, _ = again
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    (out / ".123-notes.txt").write_text("mine", encoding="utf-8")
    (out / f".123-{studies[0].id}.json").write_text("half", encoding="utf-8")
    if "model" in change:
        change = {"model": tmp_path / "other"}
        change["model"].mkdir()
        (change["model"] / "classifier.json").write_text("{}", encoding="utf-8")
    runner, options = Recorder(), {"model": model, "settings": SETTINGS, **change}
    rows = explain_folder(studies=studies, out=out, runner=runner, **options)
    assert sum(map(len, runner.asked)) == COUNT and all(row["error"] for row in rows)
    assert set(read_files(out)) == {"notes.txt", ".123-notes.txt", "index.html", "explanations.csv"}


def test_files_that_are_not_of_kmm_are_not_replaced(tiny, tmp_path):
    model, studies, _, _ = tiny
    for name in (f"{studies[0].id}.png", "index.html"):
        out = tmp_path / Path(name).suffix[1:]
        out.mkdir()
        (out / name).write_text("mine", encoding="utf-8")
        with pytest.raises(InputError, match=f"{name}: expected a free name"):
            explain_folder(model, studies, out, runner=Recorder())
        assert read_files(out) == {name: b"mine"}


def test_a_folder_that_cannot_be_used_is_one_line(tiny, tmp_path, monkeypatch):
    model, studies, _, _ = tiny
    (tmp_path / "file").write_text("", encoding="utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(InputError, match=f"^{out}: expected a folder that can be written"):
            explain_folder(model, studies, out, runner=Recorder())
    with lock_folder(tmp_path / "busy"), pytest.raises(InputError, match="another run writes into this folder"):
        explain_folder(model, studies, tmp_path / "busy", runner=Recorder())
    with pytest.raises(ArtefactError, match=r"classifier\.json is missing"):
        explain_folder(tmp_path, studies, tmp_path / "out", runner=Recorder())
    monkeypatch.setattr(Path, "mkdir", lambda self, **options: os.mkdir("/proc/self/nothing"))
    with pytest.raises(InputError, match="expected a folder that can be written"):
        explain_folder(model, studies, tmp_path / "read-only", runner=Recorder())


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "Received: none"),
        (["1", "2", "1"], "Received twice: 1"),
        (["index"], "beside index.html"),
        (["../1"], "beside index.html"),
    ],
)
def test_ids_must_name_files(tmp_path, ids, said):
    with pytest.raises(InputError, match=said):
        explain_folder(tmp_path, [Study(name, name) for name in ids], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_frees_the_folder(tiny, tmp_path):
    model, studies, _, _ = tiny

    def interrupted(worker, cut, begin, tell):
        begin()
        yield cut(1)[0], "not now."
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_folder(model, studies, tmp_path / "out", settings=SETTINGS, runner=interrupted)
    with lock_folder(tmp_path / "out"):
        assert (tmp_path / "out" / PARTS / "run.json").is_file()


def test_a_run_that_is_killed_and_resumed_gives_what_an_undisturbed_one_gives(tiny, tiny_folder, tmp_path):
    model, studies, whole, rows = tiny
    (tmp_path / "run.py").write_text(RUN, encoding="utf-8")
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    run = subprocess.Popen(
        [sys.executable, tmp_path / "run.py", model, tiny_folder, tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    while not list((tmp_path / "out" / PARTS).glob(32 * "?" + ".jsonl")) and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    done = {}

    def counted(worker, cut, begin, tell):
        done["batches"] = len(cut(1))
        return choose_runner("process")(worker, cut, begin, tell)

    assert explain_folder(model, studies, tmp_path / "out", settings=SETTINGS, runner=counted) == rows
    assert done["batches"] < -(-COUNT // BATCH)
    assert read_files(tmp_path / "out") == read_files(whole)


@given(st.integers(1, 600), st.integers(1, 9))
def test_every_worker_has_batches_to_do(count, workers):
    studies = [Study(str(number), "1") for number in range(count)]
    batches = cut_batches(studies, {study.id: study.id for study in studies}, workers)
    assert [study for batch in batches for study in batch.studies] == studies
    assert len({batch.name for batch in batches}) == len(batches)
    sizes = [len(batch.studies) for batch in batches]
    assert max(sizes) <= BATCH and len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]
    assert len(batches) >= min(count, workers)


def test_two_processes_give_the_same_rows_and_files(tiny, tmp_path):
    model, studies, whole, rows = tiny
    runner = choose_runner("workers", count=2)
    assert explain_folder(model, studies, tmp_path, settings=SETTINGS, runner=runner) == rows
    assert read_files(tmp_path) == read_files(whole)


def test_progress_counts_each_study_once_though_a_batch_is_done_again(tiny, tmp_path):
    model, studies, _, _ = tiny
    counts = []

    class Counting(Progress):
        @contextmanager
        def step(self, title, total, done=0):
            assert (title, total, done) == ("Explaining", COUNT, 0)
            yield lambda count=1, text="": counts.append(count)

    def repeated(worker, cut, begin, tell):
        begin()
        for batch in cut(1):
            for count in (1, 3, 1, 2, 5):  # after 3 its process is killed
                tell(batch, count)
            yield batch, "not now."

    explain_folder(model, studies, tmp_path / "out", settings=SETTINGS, runner=repeated, progress=Counting())
    assert sum(counts) == COUNT and counts[:4] == [1, 2, 2, BATCH - 5]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data")  # Ray warns of its own defaults
def test_two_nodes_of_ray_give_the_same_rows_and_files(tiny, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    model, studies, whole, rows = tiny
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        runner = choose_runner("ray", count=2, address=cluster.address)
        assert explain_folder(model, studies, tmp_path, settings=SETTINGS, runner=runner) == rows
        assert read_files(tmp_path) == read_files(whole)
        assert not ray.is_initialized()
    finally:
        cluster.shutdown()
