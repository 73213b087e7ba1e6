"""Splits that are made ahead of a fit, and views that a file says better."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from kmm.data.collection import read_collection
from kmm.data.split import PARTS, check_leaks, load_split, read_parts, split_studies
from tests.factories.commands import read_one_document, run
from tests.factories.studies import TINY

# Splits


@pytest.fixture
def studies(tmp_path):
    """A manifest of 40 studies of 20 patients, some with one report body; two have no known label."""
    rows = [["id", "patient", "report", "label:mass"]]
    bodies = ["Clear."] * 10 + [f"No mass {n}." for n in range(20)] + [f"No mass {n}." for n in range(10)]
    rows += [[n, n // 2, body, "" if n < 2 else n // 2 % 2] for n, body in enumerate(bodies)]
    with open(tmp_path / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "out").mkdir()
    return tmp_path


def make_splits(studies, *options):
    out = studies / "out"
    result = run("data", "split", studies, "--out", out / "split.csv", "--labels", "columns", *options)
    assert result.exit_code == 0, result.stderr
    files = sorted(out.glob("*.csv"), key=lambda file: (len(file.name), file.name))
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [str(file) for file in files]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("options", [[], ["--shares", "0.5,0.25,0.25"], ["--folds", 3], ["--folds", 2, "--repeats", 2]])
def test_splits_hold_every_study_and_leak_nothing(studies, options):
    collection = read_collection(studies)
    for name in make_splits(studies, *options):
        split = load_split(studies / "out" / name, collection.studies)
        check_leaks(split, collection.studies)
        assert len(split.parts) == 40 and all(split.part(part) for part in PARTS)


@pytest.mark.parametrize("options", [[], ["--folds", 3]])
def test_copies_of_a_film_in_other_files_stay_in_one_part(tmp_path, options):
    films = np.random.default_rng(0).integers(0, 256, (24, 32, 32), dtype=np.uint8)
    rows = [["id", "patient", "image", "label:mass"]]
    for n, film in enumerate(films):
        for name in (f"{n}.png", f"{n}.bmp"):
            Image.fromarray(film).save(tmp_path / name)
            rows.append([name, name, name, n % 2])
    with open(tmp_path / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "out").mkdir()
    for name in make_splits(tmp_path, *options):
        parts = read_parts(tmp_path / "out" / name)
        assert all(parts[f"{n}.png"] == parts[f"{n}.bmp"] for n in range(24))


def test_a_film_that_cannot_be_read_is_split_all_the_same_and_listed(studies):
    with open(studies / "manifest.csv", encoding="utf-8") as file:
        header, first, *rows = csv.reader(file)
    with open(studies / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*header, "image"], [*first, "broken.png"], *([*row, ""] for row in rows)])
    (studies / "broken.png").write_bytes(b"nothing")
    result = run("data", "split", studies, "--out", studies / "out" / "s.csv", "--labels", "columns")
    assert result.exit_code == 0 and "study 0: not compared with other films" in result.stderr, result.stderr
    assert len(read_parts(studies / "out" / "s.csv")) == 40


def test_label_columns_that_are_not_stratified_by_are_said(studies):
    told = "Label columns that the scheme 'normal-abnormal' does not read: label:mass. --labels columns reads them"
    with open(studies / "manifest.csv", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with open(studies / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        mesh = ("normal", "Opacity")
        csv.writer(file).writerows([[*header, "mesh"], *([*row, mesh[n % 2]] for n, row in enumerate(rows))])
    for options, said in (((), True), (("--labels", "columns"), False)):
        result = run("data", "split", studies, "--out", studies / "out" / "s.csv", *options)
        assert result.exit_code == 0 and (told in result.stderr) == said, result.stderr


def test_a_split_that_was_altered_is_refused_when_it_is_used_again(studies):
    make_splits(studies)
    place, digest = studies / "out" / "split.csv", studies / "out" / "split.csv.sha256"
    assert digest.read_text() == f"{hashlib.sha256(place.read_bytes()).hexdigest()}  split.csv\n"
    again = (
        "weights",
        "embed",
        studies,
        "--out",
        studies / "v.txt",
        "--dimensions",
        2,
        "--epochs",
        1,
        "--split",
        place,
    )
    assert run(*again).exit_code == 0
    place.write_text(place.read_text().replace("test", "train", 1))
    result = run(*again)
    assert result.exit_code == 2 and "was altered since split.csv.sha256 was written" in result.stderr
    digest.unlink()
    assert run(*again).exit_code == 0
    make_splits(studies)
    assert run(*again).exit_code == 0


def test_the_layout_is_said(studies):
    result = run("data", "split", studies, "--out", studies / "out" / "s.csv", "--labels", "columns")
    assert f"{studies}: manifest (manifest.csv), 40 studies\n" in result.stderr


def test_every_study_is_tested_once_a_repeat(studies):
    names = list(make_splits(studies, "--folds", 3, "--repeats", 2))
    assert names == [f"split-{number}.csv" for number in range(1, 7)]
    for repeat in (names[:3], names[3:]):
        parts = [read_parts(studies / "out" / name) for name in repeat]
        tested = [study for split in parts for study, part in split.items() if part == "test"]
        assert sorted(tested) == sorted(map(str, range(40)))


def test_the_same_seed_gives_the_same_files(studies):
    options = ["--folds", 2, "--repeats", 2]
    first = make_splits(studies, *options, "--seed", 3)
    assert make_splits(studies, *options, "--seed", 3) == first
    other = make_splits(studies, *options, "--seed", 4)
    assert all(other[name] != first[name] for name in first)
    assert len(set(first.values())) == 4


def test_the_shares_are_those_asked_for(studies):
    make_splits(studies, "--shares", "0.25,0.25,0.5")
    parts = list(read_parts(studies / "out" / "split.csv").values())
    assert parts.count("test") == pytest.approx(20, abs=3) and parts.count("train") == pytest.approx(10, abs=3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--repeats", 2], "Give --folds too"),
        (["--folds", 40], "needs as many groups"),
        (["--shares", "0.5,0.5"], "`shares` must be three numbers"),
        (["--labels", "x"], "Unknown label scheme 'x'"),
        (["--labels", "normal-abnormal"], "abnormal"),
    ],
)
def test_a_split_that_cannot_be_is_one_line(studies, options, says):
    result = run("data", "split", studies, "--out", studies / "out" / "s.csv", "--labels", "columns", *options)
    assert result.exit_code == 2 and says in result.stderr and result.stderr.count("kmm: ") == 1
    assert not list((studies / "out").iterdir())


def test_a_place_for_the_split_is_looked_for_first(studies):
    result = run("data", "split", studies, "--out", studies / "none" / "s.csv")
    assert result.exit_code == 2 and "in a folder that exists" in result.stderr


@pytest.mark.large
def test_fit_takes_such_a_split(tiny_folder, tmp_path):
    result = run("data", "split", tiny_folder, "--out", tmp_path / "split.csv", "--folds", 3, "--seed", 5)
    assert result.exit_code == 0, result.stderr
    settings = {**TINY, "text_epochs": 1, "image_encoder": "none"}
    (tmp_path / "settings.yaml").write_text(json.dumps(settings))
    arguments = ["fit", tiny_folder, "--out", tmp_path, "--name", "x", "--split", tmp_path / "split-2.csv"]
    result = run(*arguments, "--config", tmp_path / "settings.yaml")
    assert result.exit_code == 0, result.stderr
    expected, used = read_parts(tmp_path / "split-2.csv"), read_parts(tmp_path / "x" / "split.csv")
    assert len(expected) == 60 and used.items() <= expected.items() and len(used) >= 59


def test_the_split_is_the_one_that_fit_would_draw(tiny_folder, tmp_path):
    from kmm.data.labels import label_studies
    from kmm.settings import FitSettings

    assert run("data", "split", tiny_folder, "--out", tmp_path / "split.csv", "--seed", 7).exit_code == 0
    labelled, names = label_studies(read_collection(tiny_folder).studies)
    drawn = split_studies(labelled, shares=FitSettings().shares, seed=7, label_names=names)
    assert read_parts(tmp_path / "split.csv") == drawn.parts


# Views


@pytest.fixture
def turned(tmp_path):
    """Eight studies of two films of which nothing tells the view, and a file that calls the first of each lateral."""
    generator = np.random.default_rng(0)
    rows = [["id", "image", "report", "mesh"]]
    for n in range(8):
        for side in "ab":
            film = generator.normal(90, 12, (48, 48)).astype(np.uint8)
            Image.fromarray(film).save(tmp_path / f"{n}{side}.png")
        rows.append([n, f"{n}a.png;{n}b.png", f"A mass {n}.", "normal" if n % 2 else "Mass"])
    views = [["file", "view"], *([f"{n}a.png", "lateral"] for n in range(8))]
    for name, lines in (("manifest.csv", rows), ("views.csv", views)):
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)
    return tmp_path


def test_verify_counts_the_views_of_the_file(turned):
    counts = []
    for options in ([], ["--views", turned / "views.csv"]):
        result = run("data", "verify", turned, "--json", "-", *options)
        assert result.exit_code == 0, result.output
        counts.append(json.loads(result.stdout)["counts"])
    assert (counts[0]["frontal"], counts[0]["lateral"]) == (8, 0)
    assert (counts[1]["frontal"], counts[1]["lateral"]) == (8, 8)


def test_fit_and_evaluate_read_the_other_film(turned, model, fits, monkeypatch):
    import kmm.evaluate.report

    seen = []

    def evaluate_studies(classifier, studies, **_):
        seen.append(studies)
        return classifier.metrics, []

    monkeypatch.setattr(kmm.evaluate.report, "evaluate_studies", evaluate_studies)
    for options, side in (([], "a"), (["--views", turned / "views.csv"], "b")):
        assert run("fit", turned, "--out", turned / "out", *options).exit_code == 0
        assert run("evaluate", model, turned, *options).exit_code == 0
        for studies in (fits[-1]["collection"].studies, seen[-1]):
            assert [study.frontal.path.name for study in studies] == [f"{n}{side}.png" for n in range(8)]


def test_predict_reads_the_other_film_of_a_manifest_and_no_lateral_alone(turned, model):
    images = []
    for options in ([], ["--views", turned / "views.csv"]):
        result = run("predict", model, turned, turned / "3a.png", "--json", "-", *options)
        assert result.exit_code == 0, result.stderr
        images.append([row["image"] for row in json.loads(result.stdout)["predictions"]])
    assert [str(name).rpartition("/")[2] for name in images[0]] == [f"{n}a.png" for n in range(8)] + ["3a.png"]
    assert [str(name).rpartition("/")[2] for name in images[1]] == [f"{n}b.png" for n in range(8)]


@pytest.mark.parametrize("text", ["file,view\n0a.png,upside down\n", "a,b\n1,2\n", None])
@pytest.mark.parametrize("command", ["verify", "fit", "evaluate", "predict"])
def test_a_file_that_is_not_of_views_is_refused(turned, tmp_path, model, command, text):
    path = tmp_path / "other.csv"
    if text:
        path.write_text(text)
    start = {"verify": ["data", "verify"], "fit": ["fit", "--out", tmp_path / "out"]}.get(command, [command, model])
    result = run(*start, turned, "--views", path)
    assert result.exit_code == 2 and "other.csv: " in result.stderr and result.stderr.count("\n") == 1


# What a study lacks


@pytest.fixture
def lacking(tiny_folder, tmp_path):
    """Four studies with a report; the film of the first is missing, and one of the two films of the second."""
    film = tiny_folder / "images" / "1.png"
    for name in ("2.png", "3.png"):
        (tmp_path / name).write_bytes(film.read_bytes())
    rows = [["id", "image", "view", "report"]]
    rows += [["1", "gone.png", "frontal", "A mass."], ["2", "2.png", "frontal", "No mass."]]
    rows += [["2", "side.png", "lateral", ""], ["3", "3.png", "frontal", "No mass here."], ["4", "lost.png", "", ""]]
    with open(tmp_path / "list.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "list.csv"


def test_a_study_that_still_has_its_report_is_not_set_aside(model, lacking):
    result = run("predict", model, lacking, "--json", "-")
    said = [line for line in result.stderr.splitlines() if line.startswith(("note: ", "set aside: "))]
    notes = [
        "gone.png: film missing; the study is used with its report",
        "side.png: film missing; the study is used with its other film",
    ]
    lost = ["lost.png: film missing", "study 4: expected a frontal image or a report with words. Found neither."]
    assert said == [*(f"note: {line}" for line in notes), *(f"set aside: {line}" for line in lost)]
    answer = json.loads(result.stdout)
    assert [row["study"] for row in answer["predictions"]] == ["1", "2", "3"]
    assert (answer["notes"], answer["set_aside"]) == (notes, lost)


def test_a_study_that_has_nothing_else_for_a_model_of_films_is_set_aside(build_classifier, lacking, monkeypatch):
    from kmm.classifier import Classifier

    classifier = build_classifier(text=None)
    monkeypatch.setattr(Classifier, "load", lambda folder, main_only=False: classifier)
    result = run("predict", lacking.parent, lacking)
    assert "is used with its report" not in result.stderr and "set aside: gone.png: film missing\n" in result.stderr
    assert "set aside: study 1: expected a frontal image" in result.stderr
    assert "note: side.png: film missing; the study is used with its other film\n" in result.stderr


def test_evaluation_on_one_class_is_said_by_the_name_of_the_label(model, tmp_path):
    rows = [["id", "patient", "report", "mesh"], *([n, n, f"Clear lungs {n}.", "normal"] for n in range(900, 906))]
    with open(tmp_path / "list.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    result = run("evaluate", model, tmp_path / "list.csv", "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert "Label 'abnormal' lacks a class in test (6 of 0): ROC AUC and other metrics" in result.stderr
    test = json.loads(result.stdout)["test"]
    assert test["joint"]["roc_auc"] is None and test["joint"]["specificity"] is not None


def test_phantom_is_made_once_and_alike(tmp_path):
    for name in ("a", "b"):
        result = run("data", "phantom", tmp_path / name, "--studies", 6, "--pixels", 64, "--seed", 3)
        assert result.exit_code == 0 and "studies 6" in result.stdout and result.stderr == ""
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert len(files) > 6 and all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    result = run("data", "phantom", tmp_path / "a")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_verify_of_a_whole_set_is_0(phantom, tmp_path):
    result = run("data", "verify", phantom)
    assert result.exit_code == 0 and "wrong" not in result.stdout and "images" in result.stdout
    result = run("data", "verify", phantom, "--json", "-")
    assert result.exit_code == 0
    report = read_one_document(result.stdout)
    assert report["ok"] and report["counts"]["studies"] == 12
    assert run("data", "verify", phantom, "--json", tmp_path / "checks.json").exit_code == 0
    assert json.loads((tmp_path / "checks.json").read_text()) == report


def test_verify_of_a_damaged_set_is_1(phantom, tmp_path):
    folder = tmp_path / "phantom"
    shutil.copytree(phantom, folder)
    first, second = sorted((folder / "images").glob("*1001.png"))[:2]
    first.write_bytes(first.read_bytes()[:200])
    second.unlink()
    result = run("data", "verify", folder, "--json", "-")
    assert result.exit_code == 1
    wrong = {check["name"]: check for check in read_one_document(result.stdout)["checks"] if check["wrong"]}
    assert set(wrong) == {"unreadable images", "missing images"}
    assert first.name in wrong["unreadable images"]["examples"][0]
    assert wrong["missing images"]["examples"] == [second.name]
    result = run("data", "verify", folder)
    assert result.exit_code == 1 and first.name in result.stdout and second.name in result.stdout
