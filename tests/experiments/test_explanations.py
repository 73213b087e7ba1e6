"""Which studies are explained, and what is kept of it; with real models, the pages and their links."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import kmm
from kmm.data.split import Split
from kmm.data.study import Study
from kmm.errors import InputError
from kmm.experiments.comparison import Comparison
from kmm.experiments.run_comparison import EXPLANATIONS, TASKS
from kmm.experiments.summary import _list_errors
from kmm.experiments.tables import PREDICTIONS, make_columns
from kmm.experiments.tasks import explanations as room
from kmm.experiments.tasks.explanations import (
    EXPLAINED,
    choose_studies,
    describe_problem,
    explain_errors,
    lacks_explanations,
    read_explained,
    share_out,
)
from kmm.experiments.tasks.task import Task
from kmm.settings import FitSettings
from tests.factories.commands import run
from tests.factories.stages import record_stages
from tests.factories.studies import TINY

# Probabilities of studies 1 to 6, all positive: the joint model mends 1, 2 and 3, and breaks 5 and 6.
JOINT, IMAGE, TEXT = (0.9, 0.8, 0.7, 0.9, 0.2, 0.4), (0.4, 0.1, 0.4, 0.8, 0.6, 0.6), (0.3, 0.6, 0.4, 0.7, 0.9, 0.7)


def tabulate(labels=("mass",), models=("joint", "image", "text")):
    scores = dict(zip(("joint", "image", "text"), (JOINT, IMAGE, TEXT), strict=True))
    place = {"split": "1", "variant": "", "part": "test", "patient": "", "has_image": 1, "has_report": 1}
    tables = [
        make_columns(
            PREDICTIONS,
            {
                **{**place, "model": model, "label": label, "study": [str(n) for n in range(1, 7)], "truth": 1.0},
                **{"probability": list(scores[model]), "threshold": 0.5},
            },
        )
        for label in labels
        for model in models
    ]
    return {name: np.concatenate([table[name] for table in tables]) for name in PREDICTIONS}


def test_every_split_explains_its_share():
    assert (
        share_out(5, 10) == [1] * 5 + [0] * 5 and share_out(23, 10) == [3] * 3 + [2] * 7 and share_out(0, 2) == [0, 0]
    )
    assert all(sum(share_out(count, splits)) == count for count in range(9) for splits in range(1, 9))


def test_the_clearest_studies_are_chosen_whichever_side_was_wrong():
    chosen = choose_studies(tabulate(), 2)
    assert [(one["what"], one["study"]) for one in chosen] == [
        *(("mended", "2"), ("mended", "1")),  # 0.7 from the image model, 0.6 from the text model
        *(("broken", "5"), ("broken", "6")),
    ]
    assert [one["study"] for one in choose_studies(tabulate(), 9)] == ["2", "1", "3", "5", "6"]
    assert choose_studies(tabulate(models=("image", "text")), 2) == []


def test_equal_studies_are_in_the_order_of_their_names():
    both = choose_studies(tabulate(labels=("mass", "edema")), 3)
    assert [(one["study"], one["label"]) for one in both[:3]] == [("2", "edema"), ("2", "mass"), ("1", "edema")]


@pytest.fixture
def task(tmp_path):
    (tmp_path / TASKS).mkdir()
    made = Task("1", "", FitSettings(), "", Split({}, {}), False, "k" * 64, explained=1)
    (tmp_path / TASKS / made.name).mkdir()
    return made


@pytest.fixture
def explained(monkeypatch):
    """Calls of `explain_folder`, which writes empty pages; studies named in `failing` fail."""
    calls = SimpleNamespace(places=[], failing=set())

    def explain_folder(model, studies, out, *, settings, mode):
        calls.places.append((out.name, settings.target, [study.id for study in studies]))
        out.mkdir(parents=True, exist_ok=True)
        for study in studies:
            (out / f"{study.id}.html").touch()
        return [
            {"study": study.id, "file": study.id, "error": "no" if study.id in calls.failing else ""}
            for study in studies
        ]

    monkeypatch.setattr(room, "explain_folder", explain_folder)
    return calls


def explain(task, place, predictions):
    prepared = SimpleNamespace(studies=[Study(str(n), "p") for n in range(1, 7)])
    folder = place / TASKS / task.name
    explain_errors(task, predictions, place / "classifier", prepared, folder=folder, out=place / EXPLANATIONS)
    return read_explained(folder)


def test_pages_are_recorded_with_paths_from_the_folder_of_the_comparison(task, tmp_path, explained):
    assert lacks_explanations(task, tmp_path / TASKS)
    found = explain(task, tmp_path, tabulate())
    assert found["rows"] == [
        {"study": "2", "label": "mass", "what": "mended", "page": f"{EXPLANATIONS}/{task.name}/2.html"},
        {"study": "5", "label": "mass", "what": "broken", "page": f"{EXPLANATIONS}/{task.name}/5.html"},
    ]
    assert not lacks_explanations(task, tmp_path / TASKS) and describe_problem(task, found) == []
    assert lacks_explanations(replace(task, explained=2), tmp_path / TASKS)
    assert not lacks_explanations(replace(task, explained=0), tmp_path / TASKS)
    (tmp_path / found["rows"][0]["page"]).unlink()
    assert lacks_explanations(task, tmp_path / TASKS)


def test_each_of_several_labels_has_a_folder_with_a_safe_name(task, tmp_path, explained):
    found = explain(replace(task, explained=9), tmp_path, tabulate(labels=("Pleural/Effusion", "..")))
    names = [name for name, _, _ in explained.places]
    assert len(set(names)) == 2 and names[0] == "Pleural-Effusion" and names[1].isalnum()
    assert [target for _, target, _ in explained.places] == ["Pleural/Effusion", ".."]
    assert all((tmp_path / row["page"]).resolve().is_relative_to(tmp_path / EXPLANATIONS) for row in found["rows"])


def test_what_cannot_be_explained_is_said_and_loses_no_result(task, tmp_path, explained, monkeypatch):
    explained.failing = {"2"}
    found = explain(task, tmp_path, tabulate())
    assert found["failed"] == 1 and [row["study"] for row in found["rows"]] == ["5"]
    assert describe_problem(task, found)[0].startswith("split 1: 1 studies could not be explained")
    for error, says in ((InputError("no label."), "no label."), (ValueError("a report"), "unexpected ValueError")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(room, "explain_folder", fail)
        lines = describe_problem(task, explain(task, tmp_path, tabulate()))
        assert says in lines[0] and "a report" not in lines[0]
        assert not lacks_explanations(task, tmp_path / TASKS)


def test_explained_studies_come_first_in_the_table_of_errors():
    pages = [{"study": "3", "label": "mass", "what": "mended", "page": "explanations/a/3.html"}]
    facts = [{"split": "1", "variant": "", "explained": pages}, {"split": "2", "variant": ""}]
    for row in _list_errors(tabulate(), facts):
        listed = [study["study"] for study in row["studies"]]
        assert listed[0] == "3" and row["studies"][0]["explanation"] == "explanations/a/3.html"
        assert not any("explanation" in study for study in row["studies"][1:])
    plain = _list_errors(tabulate(), [])
    assert not any("explanation" in study for row in plain for study in row["studies"])


ERRING = {"tune_epochs": 0, "head": "decoder", "text_teacher": 0}  # models that err on some of the tiny studies
SETTINGS = [word for name, value in {**TINY, **ERRING}.items() for word in ("--set", f"{name}={value}")]


def compare(folder, out, *words):
    words = ("--splits", 2, "--epochs", 1, *words)
    return run("compare", folder, "--out", out, "--cache", out.parent / "cache", *SETTINGS, *words)


@pytest.fixture(scope="module")
def plain(tiny_folder, tmp_path_factory):
    """A comparison without explanations whose classifiers are kept."""
    out = tmp_path_factory.mktemp("plain") / "out"
    assert compare(tiny_folder, out, "--keep-models").exit_code == 0
    return out


def check_pages(out, count):
    """Checks that so many studies are explained, and that the page of the comparison links to them."""
    records = [json.loads(path.read_text()) for path in sorted(out.glob(f"{TASKS}/*/{EXPLAINED}"))]
    pages = [row["page"] for record in records for row in record["rows"]]
    assert len(records) == 2 and 0 < len(pages) <= count and not any(record["problem"] for record in records)
    shown = (out / "comparison.html").read_text()
    for page in pages:
        assert (out / page).read_text().startswith("<!DOCTYPE html>") and f'href="{page}"' in shown
        assert (out / page).with_suffix(".png").is_file()
    listed = [study for row in Comparison.load(out).summary["errors_mended"] for study in row["studies"]]
    assert {study["explanation"] for study in listed if "explanation" in study} == set(pages)
    assert not list(out.glob(f"{TASKS}/*/classifier")) and not list(out.glob(f"{TASKS}/stages-*"))
    return records


@pytest.mark.large
def test_errors_are_explained_and_an_interruption_repeats_no_training(plain, tiny_folder, tmp_path, monkeypatch):
    from kmm.experiments.tasks import complete

    def stop(*_, **__):
        raise KeyboardInterrupt

    out, done = tmp_path / "out", complete.explain_errors
    monkeypatch.setattr(complete, "explain_errors", stop)
    assert compare(tiny_folder, out, "--explain", 4).exit_code == 130
    monkeypatch.setattr(complete, "explain_errors", done)
    assert len(list(out.glob(f"{TASKS}/*/classifier"))) == 1
    with record_stages() as stages:
        result = compare(tiny_folder, out, "--explain", 4)
    assert result.exit_code == 0, result.output
    assert {name.partition("-")[2][:3] for name, _ in stages} == {"002"}
    records = check_pages(out, 8)
    assert [record["count"] for record in records] == [2, 2]
    assert all([row["what"] for row in record["rows"]].count("mended") <= 2 for record in records)
    found, expected = Comparison.load(out), Comparison.load(plain)
    np.testing.assert_array_equal(found.rows["value"], expected.rows["value"])
    assert found.summary["command"][:3] == ["kmm", "compare", tiny_folder.name]
    assert "--explain 4" in (out / "comparison.html").read_text()


@pytest.mark.large
def test_explanations_of_kept_models_need_no_training(plain, tiny_folder):
    times = {path: path.stat().st_mtime_ns for path in plain.glob(f"{TASKS}/*/result.npz")}
    with record_stages() as stages:
        result = compare(tiny_folder, plain, "--explain", 2)
    assert result.exit_code == 0 and stages == [], result.output
    assert {path: path.stat().st_mtime_ns for path in times} == times
    check_pages(plain, 4)
    assert compare(tiny_folder, plain).exit_code == 0  # without the option the pages stay
    check_pages(plain, 4)


def test_a_number_of_explanations_below_0_is_an_error(tmp_path):
    row = {"report": "Clear.", "a": 1, "who": "p"}
    studies = kmm.studies([row], report="report", label="a", patient="who")
    with pytest.raises(InputError, match="`explain` must be a whole number"):
        kmm.compare(studies, out=tmp_path / "out", explain=-1)
