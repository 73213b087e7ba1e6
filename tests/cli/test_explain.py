"""`kmm explain` and `kmm fidelity` as users type them, on the tiny classifier."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from kmm.explain.settings import SENSITIVITY_FILE
from tests.conftest import run

FAST = ("--steps", 8, "--sensitivity", 0.5)


@pytest.fixture(scope="module")
def explained(tiny_run, tiny_folder, tmp_path_factory):
    """The tiny folder explained once: (result of the command, folder, JSON)."""
    out = tmp_path_factory.mktemp("explained") / "out"
    result = run("explain", tiny_run[2], tiny_folder, "--out", out, "--json", out.parent / "rows.json", *FAST)
    return result, out, json.loads((out.parent / "rows.json").read_text(encoding="utf-8"))


def test_a_folder_becomes_pictures_pages_numbers_an_index_and_a_table(explained, tiny_folder):
    result, out, said = explained
    assert result.exit_code == 0, result.stderr
    assert said["studies"] == 60 and said["failed"] == 0
    for suffix in (".png", ".json", ".html"):
        assert (out / f"1{suffix}").is_file()
    assert (out / "index.html").is_file()
    with open(out / "explanations.csv", encoding="utf-8", newline="") as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert len(rows) == 60 and not rows["1"]["error"]
    one = json.loads((out / "1.json").read_text(encoding="utf-8"))
    assert one["steps"] == 8 and one["target"] == "abnormal" and one["schema"] == "kmm-explanation-1"
    assert "mass" in [word["text"] for word in one["words"]]
    assert "mass" not in (out / "explanations.csv").read_text(encoding="utf-8")
    assert float(rows["1"]["score"]) == pytest.approx(one["score"])


def test_scores_are_those_of_predict(explained, tiny_run, tiny_folder, tmp_path):
    _, _, said = explained
    predicted = run("predict", tiny_run[2], tiny_folder, "--json", tmp_path / "predicted.json")
    assert predicted.exit_code == 0
    rows = json.loads((tmp_path / "predicted.json").read_text(encoding="utf-8"))["predictions"]
    probabilities = {row["study"]: row["probabilities"]["abnormal"] for row in rows}
    explained_rows = [row for row in said["rows"] if not row["error"]]
    assert {row["study"] for row in explained_rows} == set(probabilities)
    for row in explained_rows:
        assert row["probability"] == pytest.approx(probabilities[row["study"]], abs=1e-5)


def test_a_second_run_does_nothing_again(explained, tiny_run, tiny_folder):
    _, out, _ = explained
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert run("explain", tiny_run[2], tiny_folder, "--out", out, *FAST).exit_code == 0
    assert before == {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}


def test_one_film_with_a_report(tiny_run, tiny_folder, tmp_path):
    (tmp_path / "report.txt").write_text("There is a mass.", encoding="utf-8")
    film = tiny_folder / "images" / "1.png"
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
def test_bad_options_are_one_line(tiny_run, tiny_folder, tmp_path, options, said):
    result = run("explain", tiny_run[2], tiny_folder / "images" / "1.png", "--out", tmp_path / "out", *options)
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


def test_check_tells_whether_maps_hang_on_the_model(tiny_run, tiny_folder, tmp_path):
    out = tmp_path / "out"
    result = run("explain", tiny_run[2], tiny_folder, "--out", out, "--check", "--json", tmp_path / "rows.json", *FAST)
    assert result.exit_code in (0, 1), result.stderr
    check = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))["check"]
    assert {"integrated-gradients", "random order"} <= set(check)
    assert check["integrated-gradients"]["similarity"]["n"] > 0


def test_fidelity_chooses_measures_and_keeps_the_sensitivity(tiny_run, tiny_folder, tmp_path):
    boxes = tmp_path / "boxes.csv"
    with open(boxes, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"])
        writer.writerows([[f"{uid}.png", "Mass", 4, 4, 40, 40] for uid in range(1, 59, 2)])
    words = tmp_path / "words.csv"
    words.write_text("uid,words\n" + "".join(f"{uid},mass\n" for uid in range(1, 60)), encoding="utf-8")
    arguments = ("--boxes", boxes, "--words", words, "--method", "integrated-gradients", "--method", "gradient")
    places = ("--curve", tmp_path / "curve.png", "--json", tmp_path / "out.json", "--save")
    try:
        result = run("fidelity", tiny_run[2], tiny_folder, *arguments, *places, "--steps", 8)
        assert result.exit_code == 0, result.stderr
        kept = json.loads((tiny_run[2] / SENSITIVITY_FILE).read_text(encoding="utf-8"))
        film = tiny_folder / "images" / "1.png"
        auto = run("explain", tiny_run[2], film, "--out", tmp_path / "auto", "--sensitivity", "auto", "--steps", 8)
        assert auto.exit_code == 0, auto.stderr
    finally:
        (tiny_run[2] / SENSITIVITY_FILE).unlink(missing_ok=True)
    said = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert kept["sensitivity"] == said["sensitivity"]["chosen"] and said["sensitivity"]["rule"] == "iou"
    assert said["methods"]["random point"]["hit"]["mean"] == pytest.approx(1600 / 48**2)
    assert said["methods"]["image centre"]["hit"]["mean"] == 1
    assert said["methods"]["integrated-gradients"]["named"]["n"] > 0
    assert (tmp_path / "curve.png").stat().st_size > 1000
    (one,) = (tmp_path / "auto").glob("1*.json")
    settings = json.loads(one.read_text(encoding="utf-8"))["settings"]
    assert settings["regions"]["sensitivity"] == kept["sensitivity"]
