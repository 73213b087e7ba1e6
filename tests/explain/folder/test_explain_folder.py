"""A folder of studies: whole, resumable, the same whoever does it."""

import csv
import json
import os
import re
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
from kmm.engines.runners import choose_runner
from kmm.errors import ArtefactError, InputError
from kmm.explain.explainer import Explainer
from kmm.explain.folder.explain_folder import BATCH, cut_batches, explain_folder
from kmm.explain.folder.journal import FOLDER_FILES, lock_folder
from kmm.explain.folder.lock import WORK_FOLDER
from kmm.explain.output.files import Outputs
from kmm.explain.output.table import TABLE_COLUMNS
from kmm.explain.settings import ExplainSettings, RegionSettings
from kmm.progress import Progress
from kmm.storage.output_mark import MARK

SETTINGS = ExplainSettings(steps=8)
COUNT = 40
RUN = """
import sys
from test_explain_folder import SETTINGS, list_studies
from kmm.explain.folder.explain_folder import explain_folder
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
    """A runner that does nothing and remembers what it was asked to compute, and to draw."""

    def __init__(self):
        self.computed, self.drawn = [], []

    def __call__(self, worker, cut, begin, notify):
        begin()
        for batch in cut(1):
            (self.computed if worker.source.computes else self.drawn).extend(study.id for study in batch.studies)
            yield batch, "not now."


class Drawer(Recorder):
    """A runner that draws, and computes nothing."""

    def __call__(self, worker, cut, begin, notify):
        if worker.source.computes:
            yield from super().__call__(worker, cut, begin, notify)
        else:
            for batch, lines in choose_runner("process")(worker, cut, begin, notify):
                self.drawn += [study.id for study in batch.studies]
                yield batch, lines


def read_files(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != MARK}


def read_studies(out):
    return {name: data for name, data in read_files(out).items() if name not in FOLDER_FILES}


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
        ["" if row[name] is None else str(row[name]) for name in TABLE_COLUMNS] for row in rows
    ]
    for public in (out / "explanations.csv", out / "index.html", *(out / WORK_FOLDER).iterdir()):
        assert "There is" not in public.read_text(encoding="utf-8")
    assert {path.name for path in (out / "maps").iterdir()} == {
        f"{row['file']}.npz" for row in rows if not row["error"]
    }
    said = json.loads((out / f"{rows[0]['study']}.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert said["score"] == rows[0]["score"] and len(said["regions"]) == rows[0]["regions"]


def test_a_second_run_does_nothing_and_a_lost_table_is_written(again):
    model, studies, out, rows = again
    before = read_files(out)
    (out / "explanations.csv").unlink()
    runner = Recorder()
    assert explain_folder(model, studies, out, settings=SETTINGS, runner=runner) == rows
    assert runner.computed == runner.drawn == [] and read_files(out) == before


def test_only_what_changed_is_computed_and_what_is_missing_is_drawn(again):
    model, studies, out, rows = again
    (out / f"{studies[0].id}.png").unlink()
    studies[1] = replace(studies[1], report=Report(findings="A mass."))
    studies[2] = replace(studies[2], images=(replace(studies[2].frontal, path=studies[4].frontal.path),))
    new = replace(studies[4], id="new")
    runner = Recorder()
    changed = explain_folder(model, [*studies[:20], new], out, settings=SETTINGS, runner=runner)
    assert runner.drawn == [studies[0].id]
    assert runner.computed == [study.id for study in (*studies[:3], new)]  # what was not drawn is computed
    assert [row["error"] for row in changed[:3]] == ["not now."] * 3 and changed[3:20] == rows[3:20]
    for study in (studies[1], studies[30]):
        assert (out / f"{study.id}.json").exists()


def test_another_path_or_time_of_the_same_film_changes_nothing(again, tmp_path, monkeypatch):
    model, studies, out, rows = again
    good = [place for place in range(20) if not rows[place]["error"] and studies[place].frontal]
    film = Path(shutil.copyfile(studies[good[0]].frontal.path, tmp_path / "film.png"))
    os.utime(film, (1, 1))
    monkeypatch.chdir(studies[good[1]].frontal.path.parent)
    relative = Path(studies[good[1]].frontal.path.name)
    for place, path in zip(good, (film, relative)):
        studies[place] = replace(studies[place], images=(replace(studies[place].frontal, path=path),))
    runner = Recorder()
    assert explain_folder(model, studies, out, settings=SETTINGS, runner=runner) == rows
    monkeypatch.setattr("kmm.__version__", "9.9")  # only what failed is tried again by another version
    explain_folder(model, studies, out, settings=replace(SETTINGS, memory_gb=2.5), runner=runner)
    assert set(runner.computed) == {row["study"] for row in rows if row["error"]} and runner.drawn == []


REGIONS = replace(SETTINGS, regions=RegionSettings(sensitivity=0.5))


@pytest.mark.large
@pytest.mark.parametrize(
    ("change", "gone"),
    [({"settings": REGIONS}, ()), ({"outputs": Outputs(picture="side-by-side", page=False)}, (".html",))],
)
def test_what_only_changes_the_drawing_draws_again_and_gives_what_a_new_folder_gives(
    tiny, again, tmp_path, change, gone
):
    model, studies, out, rows = again
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    (out / ".123-notes.txt").write_text("mine", encoding="utf-8")
    (out / f".123-{studies[0].id}.json").write_text("half", encoding="utf-8")
    runner, options = Drawer(), {"settings": SETTINGS, **change}
    drawn = explain_folder(model, studies, out, runner=runner, **options)
    good = [row["study"] for row in rows if not row["error"]]
    assert runner.drawn == good and runner.computed == []
    found = read_files(out)
    assert found.pop("notes.txt") == found.pop(".123-notes.txt") == b"mine"
    few = [study for study in studies if study.id in good][:3]
    few_rows = explain_folder(model, few, tmp_path / "new", **options)
    assert few_rows == [row for row in drawn if row["study"] in {study.id for study in few}]
    for name, data in read_files(tmp_path / "new").items():
        assert name in FOLDER_FILES or found[name] == data
    assert not any(name.endswith(gone) for name in found if gone and name != "index.html")
    assert explain_folder(model, studies, out, settings=SETTINGS, runner=Drawer()) == rows  # and back again
    assert {**found, **read_files(out)}.keys() - {"notes.txt", ".123-notes.txt"} == read_files(tiny[2]).keys()


@pytest.mark.large
def test_what_is_drawn_again_is_there_all_the_time(again):
    model, studies, out, _ = again
    before = read_files(out)

    def interrupted(worker, cut, begin, notify):
        begin()
        yield cut(1)[0], worker.load().run(cut(1)[0])
        assert before.keys() <= read_files(out).keys()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_folder(model, studies, out, settings=REGIONS, runner=interrupted)
    after = read_files(out)
    assert before.keys() == after.keys() and any(before[name] != after[name] for name in before)
    runner = Drawer()  # the first settings again: what was not drawn is not taken for it
    explain_folder(model, studies, out, settings=SETTINGS, runner=runner)
    assert read_files(out) == before and len(runner.drawn) == len(list((out / "maps").iterdir()))


def test_redraw_computes_nothing_and_names_what_has_no_map(again):
    model, studies, out, rows = again
    good = [row["study"] for row in rows if not row["error"]]
    before = read_files(out)
    (out / "maps" / f"{good[0]}.npz").unlink()
    (out / "maps" / f"{good[1]}.npz").write_bytes(b"PK\x03\x04 damaged")
    new, runner = replace(studies[0], id="new"), Drawer()
    drawn = explain_folder(model, [*studies, new], out, settings=REGIONS, runner=runner, mode="redraw")
    assert runner.computed == [] and runner.drawn == good[2:]
    failed = {row["study"]: row["error"] for row in drawn if row["error"]}
    assert {study for study, error in failed.items() if "no map" in error} == {"new", good[0], good[1]}
    after = read_files(out)
    assert before.keys() == after.keys() and before[f"{good[0]}.json"] == after[f"{good[0]}.json"]
    assert before[f"{good[2]}.json"] != after[f"{good[2]}.json"]
    assert good[0] in after["explanations.csv"].decode() and "no map" not in after["explanations.csv"].decode()


OTHERS = {
    "method": ({"settings": replace(SETTINGS, method="gradient")}, "method integrated-gradients instead of gradient"),
    "label": ({"settings": replace(SETTINGS, target="abnormal")}, "target none instead of abnormal"),
    "model": ({"model": "other"}, "they are of another model"),
}


@pytest.mark.large
@pytest.mark.parametrize("other", OTHERS)
def test_another_model_or_method_is_refused_unless_it_may_overwrite(again, tmp_path, other):
    model, studies, out, rows = again
    change, said = OTHERS[other]
    if "model" in change:
        change = {"model": shutil.copytree(model, tmp_path / "other")}
        settings = json.loads((change["model"] / "classifier.json").read_text(encoding="utf-8"))
        (change["model"] / "classifier.json").write_text(json.dumps(settings), encoding="utf-8")
    before, runner, options = read_files(out), Recorder(), {"model": model, "settings": SETTINGS, **change}
    for mode in ("resume", "redraw"):
        with pytest.raises(InputError, match=f"{said}.*--overwrite"):
            explain_folder(studies=studies, out=out, runner=runner, mode=mode, **options)
    assert read_files(out) == before and runner.computed == runner.drawn == []
    explain_folder(studies=studies, out=out, runner=runner, mode="overwrite", **options)
    assert len(runner.computed) == COUNT and read_files(out).keys() == before.keys()
    explain_folder(studies=studies, out=out, runner=runner, **options)  # it goes on without being told again
    assert len(runner.computed) == 2 * COUNT and read_files(out).keys() == before.keys()
    runner = Drawer()  # and nothing is lost for those who change their mind
    assert explain_folder(model, studies, out, settings=SETTINGS, runner=runner) == rows
    assert runner.computed == [] and read_files(out) == before


@pytest.mark.large
def test_what_overwrites_removes_at_last_what_nothing_took_the_place_of(again, tmp_path):
    model, studies, out, rows = again
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    other = replace(SETTINGS, method="gradient")
    few = [study for study, row in zip(studies, rows) if not row["error"]][:2]
    explain_folder(model, few, out, settings=other, mode="overwrite")
    explain_folder(model, few, tmp_path / "new", settings=other)
    found = read_files(out)
    assert found.pop("notes.txt") == b"mine" and found == read_files(tmp_path / "new")
    assert len(list((out / "maps").iterdir())) == 2


def test_index_and_table_hold_every_study_of_the_folder(tiny, again):
    model, studies, out, rows = again
    before = read_files(out)
    some = [study for study in studies if study.id in {row["study"] for row in rows[10:13]}]
    assert explain_folder(model, some, out, settings=SETTINGS, runner=Recorder()) == rows[10:13]
    with open(out / "explanations.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {row["study"] for row in table} == {row["study"] for row in rows} and len(table) == COUNT
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all(f"<bdi>{row['study']}</bdi>" in page for row in rows)
    assert read_files(out).keys() == before.keys()


@pytest.mark.large
def test_the_index_links_the_pages_that_are_there_and_no_others(tiny, tmp_path):
    model, (one, two, *_), _, _ = tiny
    explain_folder(model, [one], tmp_path, settings=SETTINGS, outputs=Outputs(page=False))
    for page in (True, False):  # whatever the last run writes of its own studies
        explain_folder(model, [two], tmp_path, settings=SETTINGS, outputs=Outputs(page=page))
        index = (tmp_path / "index.html").read_text(encoding="utf-8")
        assert set(re.findall(r'href="\./([^"]+)"', index)) == {
            f"{one.id}.png",
            f"{two.id}.{'html' if page else 'png'}",
        }
    explain_folder(model, [one], tmp_path, settings=SETTINGS)
    explain_folder(model, [two], tmp_path, settings=SETTINGS, outputs=Outputs(page=False))
    assert f'href="./{one.id}.html"' in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_film_that_is_gone_for_a_while_loses_nothing(again, tmp_path):
    model, studies, out, rows = again
    place = next(place for place, row in enumerate(rows) if not row["error"] and studies[place].frontal)
    film = studies[place].frontal
    away = replace(studies[place], images=(replace(film, path=tmp_path / "unmounted.png"),))
    before = read_files(out)
    (failed,) = explain_folder(model, [away], out, settings=SETTINGS)
    assert "unmounted.png" in failed["error"]
    runner = Drawer()
    assert explain_folder(model, studies, out, settings=SETTINGS, runner=runner) == rows
    assert runner.computed == [] and runner.drawn == [studies[place].id] and read_files(out) == before


@pytest.mark.large
def test_a_folder_of_the_version_before_keeps_its_files_until_there_are_new_ones(again):
    """The first version wrote no maps, and its lines had one row and knew a film by path and time."""
    model, studies, out, rows = again
    run = json.loads((out / WORK_FOLDER / "run.json").read_text(encoding="utf-8"))
    settings = {**SETTINGS.as_dict()}
    del settings["targets"]
    said = {"run": {"model": run["runs"][run["run"]]["model"], "settings": settings}}
    (out / WORK_FOLDER / "run.json").write_text(json.dumps({**said, "studies": [study.id for study in studies]}))
    lines = [json.loads(line) for line in (out / WORK_FOLDER / "done.jsonl").read_text(encoding="utf-8").splitlines()]
    old = [{"study": one["study"], "key": 64 * "0", "files": one["files"], "row": one["rows"][0]} for one in lines]
    (out / WORK_FOLDER / "done.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    shutil.rmtree(out / "maps")
    before, few, runner = read_files(out), studies[:3], Recorder()
    drawn = explain_folder(model, few, out, settings=REGIONS, runner=runner, mode="redraw")
    assert ["no map" in row["error"] for row in drawn] == [True] * 3
    assert read_studies(out).items() <= before.items() and read_files(out).keys() == before.keys()
    explain_folder(model, few, out, settings=SETTINGS, runner=runner)
    assert runner.computed == [study.id for study in few] and read_files(out).keys() == before.keys()
    assert explain_folder(model, studies, out, settings=SETTINGS) == rows and read_files(out) == before
    with pytest.raises(InputError, match="method integrated-gradients instead of gradient"):
        explain_folder(model, few, out, settings=replace(SETTINGS, method="gradient"), runner=runner)


def test_files_that_are_not_of_kmm_are_not_replaced(tiny, tmp_path):
    model, studies, _, _ = tiny
    for name in (f"{studies[0].id}.png", "index.html", "maps"):
        out = tmp_path / f"beside {name}"
        out.mkdir()
        (out / name).write_text("mine", encoding="utf-8")
        with pytest.raises(InputError, match=f"{name} already exists"):
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
        ([], "There are no studies to explain"),
        (["1", "2", "1"], "The id 1 occurs twice"),
    ],
)
def test_ids_must_differ(tmp_path, ids, said):
    with pytest.raises(InputError, match=said):
        explain_folder(tmp_path, [Study(name, name) for name in ids], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_frees_the_folder(tiny, tmp_path):
    model, studies, _, _ = tiny

    def interrupted(worker, cut, begin, notify):
        begin()
        yield cut(1)[0], "not now."
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_folder(model, studies, tmp_path / "out", settings=SETTINGS, runner=interrupted)
    with lock_folder(tmp_path / "out"):
        assert (tmp_path / "out" / WORK_FOLDER / "run.json").is_file()


@pytest.mark.large
def test_a_run_that_is_killed_and_resumed_gives_what_an_undisturbed_one_gives(tiny, tiny_folder, tmp_path):
    model, studies, whole, rows = tiny
    (tmp_path / "run.py").write_text(RUN, encoding="utf-8")
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    run = subprocess.Popen(
        [sys.executable, tmp_path / "run.py", model, tiny_folder, tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    while not list((tmp_path / "out" / WORK_FOLDER).glob(32 * "?" + ".jsonl")) and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    computed = []

    def counted(worker, cut, begin, notify):
        if worker.source.computes:
            computed.extend(cut(1))
        return choose_runner("process")(worker, cut, begin, notify)

    assert explain_folder(model, studies, tmp_path / "out", settings=SETTINGS, runner=counted) == rows
    assert len(computed) < -(-COUNT // BATCH)
    assert read_files(tmp_path / "out") == read_files(whole)


@given(st.integers(1, 600), st.integers(1, 9))
def test_every_worker_has_batches_to_do(count, workers):
    studies = [Study(str(number), "1") for number in range(count)]
    batches = cut_batches(studies, {study.id: study.id for study in studies}, {}, workers)
    assert [study for batch in batches for study in batch.studies] == studies
    assert len({batch.name for batch in batches}) == len(batches)
    sizes = [len(batch.studies) for batch in batches]
    assert max(sizes) <= BATCH and len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]
    assert len(batches) >= min(count, workers)


@pytest.mark.large
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

    def repeated(worker, cut, begin, notify):
        begin()
        for batch in cut(1):
            for count in (1, 3, 1, 2, 5):  # after 3 its process is killed
                notify(batch, count)
            yield batch, "not now."

    explain_folder(model, studies, tmp_path / "out", settings=SETTINGS, runner=repeated, progress=Counting())
    assert sum(counts) == COUNT and counts[:4] == [1, 2, 2, BATCH - 5]


def test_ids_that_a_file_system_would_confuse_have_safe_files_and_are_kept_in_the_data(tiny, tmp_path):
    model, studies, _, rows = tiny
    good = next(study for study, row in zip(studies, rows) if not row["error"])
    ids = ["CON", "a.", "Index", "b", "B", "../1", "explanations"]
    made = explain_folder(model, [replace(good, id=name) for name in ids], tmp_path, settings=SETTINGS)
    assert [row["study"] for row in made] == ids and not any(row["error"] for row in made)
    names = [row["file"] for row in made]
    assert len({name.casefold() for name in names}) == len(ids) and names[3] == "b"
    assert not {name.partition(".")[0].casefold() for name in names} & {"con", "index", "explanations"}
    assert not any(name.endswith(".") or "/" in name for name in names)
    assert [json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["study"] for name in names] == ids
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<bdi>CON</bdi>" in page and f'href="./{names[0]}.html"' in page
    again = explain_folder(model, [replace(good, id="B")], tmp_path, settings=SETTINGS, runner=Recorder())
    assert again == [made[4]]


@pytest.mark.large
def test_several_labels_of_a_study_in_one_run(build_classifier, studies, tmp_path):
    classifier = build_classifier(labels=("mass", "Pleural Effusion", "cyst"))
    classifier.thresholds["joint"][:] = (0.0, 1.01, 0.0)
    classifier.save(tmp_path / "model")
    out, settings = tmp_path / "all", replace(SETTINGS, targets=("all",))
    rows = explain_folder(tmp_path / "model", studies[:2], out, settings=settings)
    assert [row["study"] for row in rows] == [study.id for study in studies[:2] for _ in range(3)]
    assert [row["target"] for row in rows[:3]] == list(classifier.label_names)
    assert [row["file"].rpartition(".")[2] for row in rows[:3]] == ["mass", "Pleural-Effusion", "cyst"]
    maps = {path.name for path in (out / "maps").iterdir()}
    assert maps == {f"{study.id}.npz" for study in studies[:2]}
    for row in rows:
        said = json.loads((out / f"{row['file']}.json").read_text(encoding="utf-8"))
        alone = replace(SETTINGS, target=row["target"])
        (study,) = [study for study in studies if study.id == row["study"]]
        one = next(Explainer(classifier, alone).explain([study]))
        assert said["schema"] == "kmm-explanation-1" and said["target"] == said["settings"]["target"] == row["target"]
        assert said["score"] == pytest.approx(one.attribution.score, abs=1e-5)
        assert said["modality_sum"]["image"] == pytest.approx(one.modality_sum["image"], abs=1e-5)
        page = (out / f"{row['file']}.html").read_text(encoding="utf-8")
        linked = {other["target"] for other in rows if f'href="./{other["file"]}.html"' in page}
        assert linked == {*classifier.label_names} - {row["target"]}
    runner, other = Drawer(), replace(settings, regions=RegionSettings(sensitivity=0.3))
    explain_folder(tmp_path / "model", studies[:2], out, settings=other, runner=runner)
    assert runner.computed == [] and len(runner.drawn) == 2
    positive = replace(SETTINGS, targets=("positive",))
    rows = explain_folder(tmp_path / "model", studies[:1], tmp_path / "positive", settings=positive)
    assert [row["target"] for row in rows] == ["mass", "cyst"]
    explain_folder(tmp_path / "model", studies[:1], out, settings=positive, mode="overwrite")
    kinds = {path.name.removeprefix(f"{studies[0].id}.") for path in out.iterdir() if path.is_file()}
    assert kinds - {*FOLDER_FILES, MARK} == {
        f"{label}.{kind}" for label in ("mass", "cyst") for kind in ("json", "png", "thumb.jpg", "html")
    }


@pytest.mark.large
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
