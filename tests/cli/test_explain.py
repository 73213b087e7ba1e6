"""`kmm explain` as users type it, on the tiny classifier."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from kmm.cli.result_tables import print_explanations
from tests.factories.commands import run
from tests.factories.dicom import encode, make_dataset
from tests.factories.studies import write_studies

FAST = ("--steps", 8, "--sensitivity", 0.5)
COUNT = 12


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A folder of 12 studies."""
    return write_studies(tmp_path_factory.mktemp("ward") / "studies", COUNT)


@pytest.fixture(scope="module")
def explained(tiny_run, ward, tmp_path_factory):
    """The folder explained once: (result of the command, folder, JSON)."""
    out = tmp_path_factory.mktemp("explained") / "out"
    result = run("explain", tiny_run[2], ward, "--out", out, "--json", out.parent / "rows.json", *FAST)
    return result, out, json.loads((out.parent / "rows.json").read_text(encoding="utf-8"))


def test_a_folder_becomes_pictures_pages_numbers_an_index_and_a_table(explained, ward):
    result, out, said = explained
    assert result.exit_code == 0, result.stderr
    assert said["studies"] == COUNT and said["failed"] == 0
    for suffix in (".png", ".json", ".html"):
        assert (out / f"1{suffix}").is_file()
    assert (out / "index.html").is_file()
    with open(out / "explanations.csv", encoding="utf-8", newline="") as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert len(rows) == COUNT and not rows["1"]["error"]
    one = json.loads((out / "1.json").read_text(encoding="utf-8"))
    assert one["steps"] == 8 and one["target"] == "abnormal" and one["schema"] == "kmm-explanation-1"
    assert "mass" in [word["text"] for word in one["words"]]
    assert "mass" not in (out / "explanations.csv").read_text(encoding="utf-8")
    assert float(rows["1"]["score"]) == pytest.approx(one["score"])


def test_scores_are_those_of_predict(explained, tiny_run, ward, tmp_path):
    _, _, said = explained
    predicted = run("predict", tiny_run[2], ward, "--json", tmp_path / "predicted.json")
    assert predicted.exit_code == 0
    rows = json.loads((tmp_path / "predicted.json").read_text(encoding="utf-8"))["predictions"]
    probabilities = {row["study"]: row["probabilities"]["abnormal"] for row in rows}
    explained_rows = [row for row in said["rows"] if not row["error"]]
    assert {row["study"] for row in explained_rows} == set(probabilities)
    for row in explained_rows:
        assert row["probability"] == pytest.approx(probabilities[row["study"]], abs=1e-5)


def test_a_second_run_does_nothing_again(explained, tiny_run, ward):
    _, out, _ = explained
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert run("explain", tiny_run[2], ward, "--out", out, *FAST).exit_code == 0
    assert before == {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}


def test_one_film_with_a_report(tiny_run, ward, tmp_path):
    (tmp_path / "report.txt").write_text("There is a mass.", encoding="utf-8")
    film = ward / "images" / "1.png"
    arguments = (
        "--report",
        tmp_path / "report.txt",
        "--out",
        tmp_path / "out",
        "--picture",
        "side-by-side",
        "--no-pages",
    )
    result = run("explain", tiny_run[2], film, *arguments, *FAST)
    assert result.exit_code == 0, result.stderr
    (path,) = (tmp_path / "out").glob("*.json")
    assert [word["text"] for word in json.loads(path.read_text(encoding="utf-8"))["words"]] == [
        "There",
        "is",
        "a",
        "mass",
    ]
    assert not list((tmp_path / "out").glob("1*.html"))
    links = re.findall(r'(?:href|src)="\./([^"]+)"', (tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert len(links) == 3 and all((tmp_path / "out" / unquote(link)).is_file() for link in links)


@pytest.mark.parametrize(
    "options, said",
    [
        (("--target", "fracture"), "must be a label of the model: abnormal"),
        (("--method", "magic"), "Unknown method 'magic'"),
        (("--rule", "simpson"), "Unknown rule 'simpson'"),
        (("--baseline", "pink"), "baseline 'pink'"),
        (("--sensitivity", "1.5"), "not in the range"),
        (("--sensitivity", "auto"), "kmm fidelity"),
        (("--region-rule", "magic"), "rule"),
        (("--cluster", "magic"), "cluster"),
        (("--memory-gb", "0"), "memory_gb"),
        (("--engine", "magic"), "Unknown engine 'magic'"),
        (("--table", "xlsx"), "xlsx"),
        (("--picture", "oil"), "oil"),
    ],
)
def test_bad_options_are_one_line(tiny_run, ward, tmp_path, options, said):
    result = run("explain", tiny_run[2], ward / "images" / "1.png", "--out", tmp_path / "out", *options)
    assert result.exit_code == 2 and said in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.glob("out/*.json"))


def test_a_broken_film_is_an_error_row_and_nothing_but_broken_films_exit_code_2(tiny_run, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    (films / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(films / "black.png")
    result = run("explain", tiny_run[2], films, "--out", tmp_path / "none", *FAST)
    assert result.exit_code == 2 and result.stderr.count("set aside") == 2
    noise = np.random.default_rng(0).integers(0, 255, (40, 64), np.uint8)
    Image.fromarray(noise).save(films / "good.png")
    result = run("explain", tiny_run[2], films, "--out", tmp_path / "one", "--json", tmp_path / "rows.json", *FAST)
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))["rows"]
    assert result.exit_code == 0 and [bool(row["error"]) for row in rows] == [True, True, False]


def test_a_dicom_of_2000_pixels_is_explained_at_its_own_size(tiny_run, tmp_path):
    y, x = np.mgrid[:2000, :1600]
    stored = np.random.default_rng(0).integers(800, 1000, y.shape, np.uint16)
    stored[(x - 1200) ** 2 + (y - 500) ** 2 < 250**2] = 4000
    (tmp_path / "film.dcm").write_bytes(encode(make_dataset(stored)))
    out = tmp_path / "out"
    result = run("explain", tiny_run[2], tmp_path / "film.dcm", "--out", out, "--no-pages", *FAST)
    assert result.exit_code == 0, result.stderr
    (picture,), (path,) = out.glob("*.png"), out.glob("*.json")
    with Image.open(picture) as image:
        assert image.width == 1600 and image.height > 2000  # the film, and below it the caption
        film = np.asarray(image)[:2000]
    assert film[500, 1200].min() > 200 > 128 > film[1900, 100].max()
    regions = json.loads(path.read_text(encoding="utf-8"))["regions"]
    assert regions and all(0 <= region["x"] < 1600 and 0 <= region["y"] < 2000 for region in regions)
    assert max(max(region["x"], region["y"]) for region in regions) > 48  # in pixels of the film, not of the map


def test_of_many_files_the_good_ones_are_explained_and_each_broken_one_has_a_line(tiny_run, ward, tmp_path):
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    for number in range(600):
        (films / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    good = {"7": 1, "250": 2, "599": 3}
    for name, uid in good.items():
        (films / f"{name}.png").write_bytes((ward / "images" / f"{uid}.png").read_bytes())
    result = run("explain", tiny_run[2], films, "--out", out, "--no-pages", *FAST)
    assert result.exit_code == 0, result.stderr
    with open(out / "explanations.csv", encoding="utf-8", newline="") as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert len(rows) == 600 and {study for study, row in rows.items() if not row["error"]} == set(good)
    assert {path.stem for path in out.glob("*.json")} == set(good)
    assert result.stderr.count("set aside") == 21 and "set aside: 577 more" in result.stderr


@pytest.mark.large
def test_check_says_whether_maps_depend_on_the_model(tiny_run, ward, tmp_path, capsys):
    out = tmp_path / "out"
    strict = ("--gap-tolerance", 1e-9)  # finer than 8 points, and than float32
    result = run(
        "explain", tiny_run[2], ward, "--out", out, "--check", "--json", tmp_path / "rows.json", *FAST, *strict
    )
    said = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert {"integrated-gradients", "random order"} <= set(said["check"])
    assert said["check"]["integrated-gradients"]["similarity"]["n"] > 0
    assert said["check"]["integrated-gradients"]["alike_words"]["n"] > 0
    verdict = said["verdict"]
    assert verdict["weights_film"] == verdict["weights_words"] == "passed"
    assert verdict["completeness"] == "failed" and result.exit_code == 1, result.stderr
    print_explanations(said)
    printed = capsys.readouterr().out
    assert result.stdout == "" and "alike_words: rank correlation" in printed and "passed" in printed


@pytest.mark.parametrize(
    ("row", "code"),
    [({"similarity": 0.1}, 0), ({"similarity": 0.9, "completeness_gap": 0.001}, 1), ({"similarity": float("nan")}, 1)],
    ids=["passed", "failed", "not measured"],
)
def test_check_exits_with_1_when_a_criterion_failed_or_nothing_was_measured(
    explained, tiny_run, ward, monkeypatch, row, code
):
    import kmm.explain.fidelity.evaluation

    rows = [{"method": "integrated-gradients", "study": "1", **row}]
    monkeypatch.setattr(kmm.explain.fidelity.evaluation, "try_methods", lambda *arguments, **options: rows)
    result = run("explain", tiny_run[2], ward, "--out", explained[1], "--check", *FAST)
    assert result.exit_code == code, result.stderr


REDRAWN = """
import json, sys
from kmm.cli import main
try:
    main(json.loads(sys.argv[1]), prog_name="kmm")
finally:
    print([name for name in ("tensorflow", "keras", "jax", "torch") if name in sys.modules])
"""


@pytest.mark.large
def test_another_sensitivity_is_drawn_without_the_model_from_anywhere(explained, tiny_run, ward, tmp_path):
    """Neither a gradient nor a model: no framework is even imported. Paths are relative to another folder."""
    out = shutil.copytree(explained[1], tmp_path / "out")
    few = [f"{number}.png" for number in (1, 2, 3)]
    films = tmp_path / "films"
    films.mkdir()
    for name in few:
        shutil.copyfile(ward / "images" / name, films / name)
    first = ("explain", tiny_run[2], films, "--out", tmp_path / "films-out", *FAST)
    assert run(*first).exit_code == 0
    before = json.loads((tmp_path / "films-out" / "1.json").read_text(encoding="utf-8"))
    for source, there in ((ward, out), (films, tmp_path / "films-out")):
        given = ("explain", tiny_run[2], source, "--out", there)
        words = [os.path.relpath(word, source) if isinstance(word, Path) else str(word) for word in given]
        words += ["--steps", "8", "--sensitivity", "0.2", "--engine", "process"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        again = subprocess.run(
            [sys.executable, "-c", REDRAWN, json.dumps(words)],
            cwd=source,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert again.returncode == 0, again.stderr
        assert again.stdout.splitlines()[-1] == "[]" and "Redrawing" in again.stderr
    after = json.loads((tmp_path / "films-out" / "1.json").read_text(encoding="utf-8"))
    assert after["score"] == before["score"] and after["settings"]["regions"]["sensitivity"] == 0.2
    assert sum(region["weight"] for region in after["regions"]) > sum(region["weight"] for region in before["regions"])


def test_redraw_lists_what_has_no_map_and_computes_nothing(explained, tiny_run, ward, tmp_path, monkeypatch):
    out = shutil.copytree(explained[1], tmp_path / "out")
    (out / "maps" / "7.npz").unlink()
    monkeypatch.setattr("kmm.explain.folder.sources.ModelSource.load", lambda self: pytest.fail("the model is loaded"))
    redraw = ("explain", tiny_run[2], ward, "--out", out, "--steps", 8, "--redraw")
    result = run(*redraw, "--json", tmp_path / "rows.json")
    assert result.exit_code == 0 and result.stderr.count("set aside") == 1 and "study 7: no map" in result.stderr
    said = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert said["studies"] == COUNT and said["failed"] == 1 and (out / "7.html").exists()
    assert run("explain", tiny_run[2], ward, "--out", tmp_path / "new", "--redraw").exit_code == 2
    result = run(*redraw, "--overwrite")
    assert result.exit_code == 2 and "Leave out --overwrite" in result.stderr


def test_another_method_is_refused_without_overwrite(explained, tiny_run, ward, tmp_path):
    out, film = shutil.copytree(explained[1], tmp_path / "out"), ward / "images" / "1.png"
    before = {path.name: path.read_bytes() for path in out.glob("[!.]*.*")}
    other = ("explain", tiny_run[2], film, "--out", out, "--method", "gradient")
    result = run(*other)
    assert result.exit_code == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "method integrated-gradients instead of gradient" in result.stderr and "--overwrite" in result.stderr
    assert before == {path.name: path.read_bytes() for path in out.glob("[!.]*.*")}
    assert run(*other, "--overwrite").exit_code == 0
    assert {path.name for path in out.glob("*.json")} == {"1.json"}


def test_the_console_has_threshold_and_decision(explained, capsys):
    _, _, said = explained
    print_explanations(said)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[1:2] == ["1"]]
    row = next(row for row in said["rows"] if row["study"] == "1")
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[2:5] == [f"{row['probability']:.3f}", f"{row['threshold']:.3f}", row["decision"]]
    assert row["decision"] in ("yes", "no")


def test_several_labels_have_files_of_their_own(tiny_run, ward, tmp_path):
    film, kinds = ward / "images" / "1.png", ("json", "png", "thumb.jpg", "html")
    result = run("explain", tiny_run[2], film, "--out", tmp_path, "--target", "all", *FAST)
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in tmp_path.glob("1*")} == {f"1.abnormal.{kind}" for kind in kinds}
    result = run("explain", tiny_run[2], film, "--out", tmp_path / "x", "--target", "abnormal", "--target", "mass")
    assert result.exit_code == 2 and "must be a label of the model: abnormal. Received: mass" in result.stderr
