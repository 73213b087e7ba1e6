"""No command reads what kmm wrote, whatever the order of runs."""

import json
import os

import cv2
import numpy as np
import pytest

from kmm.data.collection import bare_images
from kmm.errors import InputError
from kmm.explain import explain
from kmm.explain.settings import ExplainSettings
from kmm.storage.output_mark import MARK
from tests.factories.commands import run

FAST = ("--steps", 4, "--sensitivity", 0.5, "--no-pages")


@pytest.fixture
def films(tmp_path):
    """Two films that are no PNG, so that the pictures of explanations have names of their own."""
    folder = tmp_path / "data" / "films"
    folder.mkdir(parents=True)
    for name in "ab":
        noise = np.random.default_rng(ord(name)).integers(0, 255, (48, 48), np.uint8)
        cv2.imwrite(str(folder / f"{name}.jpg"), noise)
    return folder


def predict(model, folder):
    result = run("predict", model, folder, "--json", "-")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert not said["set_aside"]
    return [(row["study"], os.path.basename(row["image"])) for row in said["predictions"]], result.stderr


@pytest.mark.parametrize("place", ["explained", ".", ".."])
def test_explanations_are_never_studies(films, model, place):
    out, expected = films / place, [("a", "a.jpg"), ("b", "b.jpg")]
    said = []
    for _ in range(2):
        result = run("explain", model, films, "--out", out, "--json", films.parent.parent / "rows.json", *FAST)
        assert result.exit_code == 0, result.stderr
        said.append(json.loads((films.parent.parent / "rows.json").read_text())["rows"])
        assert [row["study"] for row in said[-1]] == ["a", "b"]
    assert said[0] == said[1]
    for folder in (films, films.parent):
        found, stderr = predict(model, folder)
        assert found == expected
    assert "skipped: " in stderr and "results of kmm" in stderr
    assert (films / "a.jpg").is_file() and (out / "a.png").is_file()


def test_results_that_are_named_as_input_are_refused_in_one_line(films, model):
    out = films / "explained"
    assert run("explain", model, films / "a.jpg", "--out", out, *FAST).exit_code == 0
    for command in (
        ("predict", model, out),
        ("predict", model, out / "a.png"),
        ("explain", model, out, "--out", films / "twice"),
        ("evaluate", model, out),
        ("data", "verify", out),
        ("data", "split", out, "--out", films / "split.csv"),
        ("fit", out, "--out", films / "saved"),
        ("predict", model, model),
    ):
        result = run(*command)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.stderr
        assert "of kmm" in result.stderr
    (out / MARK).unlink()  # now its pictures are the user's
    (out / "a.thumb.jpg").unlink()
    (out / "a.png").rename(films / "mine.png")
    assert [study for study, _ in predict(model, films)[0]] == ["a", "b", "mine"]


@pytest.mark.large
def test_tables_beside_results_read_and_verify_as_before(films, model):
    """Explanations into the folder of a manifest whose films lie beside it."""
    rows = "id,image,report\n1,a.jpg,There is a mass.\n2,b.jpg,There is no mass.\n"
    (films / "manifest.csv").write_text(rows, encoding="utf-8")
    before = json.loads(run("data", "verify", films, "--json", "-").stdout)
    assert run("explain", model, films, "--out", films, *FAST).exit_code == 0
    after = json.loads(run("data", "verify", films, "--json", "-").stdout)
    changed = [check["name"] for check, old in zip(after["checks"], before["checks"]) if check != old]
    assert after["ok"] and changed == ["files passed over"] and after["counts"] == before["counts"]


@pytest.mark.large
def test_pictures_of_an_evaluation_are_no_films(films, tiny_folder, model):
    assert run("evaluate", model, tiny_folder, "--pictures", films / "pictures").exit_code == 0
    assert (films / "pictures/test/roc.png").is_file()
    assert predict(model, films)[0] == [("a", "a.jpg"), ("b", "b.jpg")]


def test_a_film_is_never_overwritten(films, model):
    noise = np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)
    cv2.imwrite(str(films / "c.png"), noise)
    data = (films / "c.png").read_bytes()
    result = run("explain", model, films, "--out", films, *FAST)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "c.png" in result.stderr
    assert (films / "c.png").read_bytes() == data


@pytest.mark.large
def test_explanations_saved_from_python_are_never_studies_and_replace_no_film(films, loaded):
    study = bare_images([films / "a.jpg"])[0]
    explanation = explain(loaded, study, ExplainSettings(rule="midpoint", steps=4))
    for folder in (films, films / "explained", films / "explained"):
        explanation.save(folder)
    assert [study.images[0].path.name for study in bare_images([films])] == ["a.jpg", "b.jpg"]
    film = (films / "a.png").replace(films.parent / "a.png")
    data = film.read_bytes()
    with pytest.raises(InputError, match=r"a\.png already exists, and kmm did not write it"):
        explanation.save(films.parent)
    assert film.read_bytes() == data and not (films.parent / "a.json").exists()
