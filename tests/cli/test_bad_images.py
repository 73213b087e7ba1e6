"""Images that cannot be used: one line each, alone, among good ones and in a fit."""

import json
import shutil

import pytest

from tests.factories.bad_images import BAD_IMAGES
from tests.factories.commands import CANARY, IMAGES_ONLY, lines_of, refuse, run_safely, set_aside
from tests.factories.studies import write_table


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_alone(model, bad_images, name):
    result = run_safely("predict", model, bad_images / name)
    assert result.exit_code == 2 and result.stdout == ""
    (line,) = lines_of(result)
    assert str(bad_images / name) in line and BAD_IMAGES[name][1] in line


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_with_strict(model, bad_images, good, name):
    refuse("predict", model, good, bad_images / name, "--strict", says=(str(bad_images / name), BAD_IMAGES[name][1]))


def test_bad_images_among_good_ones_are_set_aside(model, bad_images, good):
    result = run_safely("predict", model, good, bad_images, good.with_name("2.png"), "--json", "-")
    lines = set_aside(result)
    assert len(lines) == len(BAD_IMAGES)
    assert all(sum(name in line for line in lines) == 1 for name in BAD_IMAGES)
    answer = json.loads(result.stdout)
    assert [row["study"] for row in answer["predictions"]] == ["1", "2"]
    assert len(answer["set_aside"]) == len(BAD_IMAGES)


def test_a_bomb_is_refused_before_it_is_decoded(bad_images, model):
    import tracemalloc

    assert (bad_images / "bomb.png").stat().st_size < 200_000
    tracemalloc.start()
    run_safely("predict", model, bad_images / "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000  # the pixels would be 400 MB, and 50 MB at one bit each


def test_verify_reports_bad_images_and_exits_with_1(bad_images, tmp_path):
    (tmp_path / "images").mkdir()
    for name in BAD_IMAGES:
        shutil.copy(bad_images / name, tmp_path / "images")
    rows = [["id", "image"], *([name.replace(".", "-"), f"images/{name}"] for name in BAD_IMAGES)]
    write_table(tmp_path / "manifest.csv", rows)
    result = run_safely("data", "verify", tmp_path, "--json", "-")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 1 and lines_of(result) == []
    assert checks["unreadable images"]["found"] == len(BAD_IMAGES) - 2 and checks["empty images"]["found"] == 2


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_run_with_strict_ends_at_a_bad_image(tmp_path, bad_images, name):
    shutil.copy(bad_images / name, tmp_path)
    rows = [
        ["id", "image", "report", "mesh"],
        *([n, "", f"{CANARY} {n}", "normal" if n % 2 else "Mass"] for n in range(9)),
    ]
    table = write_table(tmp_path / "list.csv", [*rows, ["x", name, CANARY, "normal"]])
    says = ("study x: ", name, BAD_IMAGES[name][1])
    refuse("fit", table, "--out", tmp_path / "out", "--strict", *IMAGES_ONLY[2:], says=says)
    assert not list((tmp_path / "out").iterdir())
