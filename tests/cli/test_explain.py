"""`kmm explain` as users type it, on the tiny classifier."""

import csv
import json
import re
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run
from tests.image.test_dicom import encode, make_dataset

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


def test_a_dicom_of_4000_pixels_is_explained_at_its_own_size(tiny_run, tmp_path):
    y, x = np.mgrid[:4000, :3200]
    stored = np.random.default_rng(0).integers(800, 1000, y.shape, np.uint16)
    stored[(x - 2400) ** 2 + (y - 1000) ** 2 < 500**2] = 4000
    (tmp_path / "film.dcm").write_bytes(encode(make_dataset(stored)))
    out = tmp_path / "out"
    result = run("explain", tiny_run[2], tmp_path / "film.dcm", "--out", out, "--no-pages", *FAST)
    assert result.exit_code == 0, result.stderr
    (picture,), (path,) = out.glob("*.png"), out.glob("*.json")
    with Image.open(picture) as image:
        assert image.width == 3200 and image.height > 4000  # the film, and below it the caption
        film = np.asarray(image)[:4000]
    assert film[1000, 2400].min() > 200 > 128 > film[3900, 100].max()
    regions = json.loads(path.read_text(encoding="utf-8"))["regions"]
    assert regions and all(0 <= region["x"] < 3200 and 0 <= region["y"] < 4000 for region in regions)
    assert max(max(region["x"], region["y"]) for region in regions) > 48  # in pixels of the film, not of the map


def test_of_5000_files_the_good_ones_are_explained_and_each_broken_one_has_a_line(tiny_run, tiny_folder, tmp_path):
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    for number in range(5000):
        (films / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    good = {"7": 1, "2500": 2, "4999": 3}
    for name, uid in good.items():
        (films / f"{name}.png").write_bytes((tiny_folder / "images" / f"{uid}.png").read_bytes())
    result = run("explain", tiny_run[2], films, "--out", out, "--no-pages", *FAST)
    assert result.exit_code == 0, result.stderr
    with open(out / "explanations.csv", encoding="utf-8", newline="") as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert len(rows) == 5000 and {study for study, row in rows.items() if not row["error"]} == set(good)
    assert {path.stem for path in out.glob("*.json")} == set(good)
    assert result.stderr.count("set aside") == 21 and "set aside: 4977 more" in result.stderr


def test_check_tells_whether_maps_hang_on_the_model(tiny_run, tiny_folder, tmp_path):
    out = tmp_path / "out"
    result = run("explain", tiny_run[2], tiny_folder, "--out", out, "--check", "--json", tmp_path / "rows.json", *FAST)
    said = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert {"integrated-gradients", "random order"} <= set(said["check"])
    assert said["check"]["integrated-gradients"]["similarity"]["n"] > 0
    assert said["check"]["integrated-gradients"]["alike_words"]["n"] > 0
    verdict = said["verdict"]
    assert verdict["weights_film"] == verdict["weights_words"] == "passed"
    assert verdict["completeness"] == "failed" and result.exit_code == 1, result.stderr  # 8 points are too few
    assert "alike_words: rank correlation" in result.stdout and "passed" in result.stdout


@pytest.mark.parametrize(
    ("row", "code"),
    [({"similarity": 0.1}, 0), ({"similarity": 0.9, "completeness_gap": 0.001}, 1), ({"similarity": float("nan")}, 1)],
    ids=["passed", "failed", "not measured"],
)
def test_check_is_bad_news_when_something_failed_or_nothing_was_measured(
    explained, tiny_run, tiny_folder, monkeypatch, row, code
):
    import kmm.explain.trials

    rows = [{"method": "integrated-gradients", "study": "1", **row}]
    monkeypatch.setattr(kmm.explain.trials, "try_methods", lambda *arguments, **options: rows)
    result = run("explain", tiny_run[2], tiny_folder, "--out", explained[1], "--check", *FAST)
    assert result.exit_code == code, result.stderr
