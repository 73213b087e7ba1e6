import json
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from kmm.data.verify import is_inverted, verify_collection
from kmm.errors import ImageError, InputError
from kmm.image.read import read_image
from kmm.progress import Progress
from tests.factories.images import draw_film


def write_films(folder, films):
    (folder / "films").mkdir()
    for name, film in films.items():
        assert cv2.imwrite(str(folder / "films" / name), film)


def write_manifest(folder, rows):
    lines = [f"{study_id},{image},{report}" for study_id, image, report in rows]
    (folder / "manifest.csv").write_text("\n".join(["id,image,report", *lines, ""]), encoding="utf-8")


def checks_of(report):
    return {check.name: check for check in report.checks}


def test_a_whole_folder_is_ok(tmp_path):
    write_films(tmp_path, {f"{n}.png": draw_film(n) for n in range(3)})
    write_manifest(tmp_path, [(n, f"films/{n}.png", "Clear.") for n in range(3)])
    report = verify_collection(tmp_path, read_image)
    assert report.ok and report.layout == "manifest (manifest.csv)"
    assert report.counts == {
        "studies": 3, "with_report": 3, "with_frontal": 3, "images": 3, "frontal": 3, "lateral": 0, "unknown_view": 0,
    }  # fmt: skip
    checks = checks_of(report)
    assert (checks["images"].found, checks["images"].expected) == (3, 3)
    assert checks["groups of equal report bodies"].examples == ("0 = 1 = 2",)
    assert not checks["groups of equal report bodies"].wrong


def test_each_fault_is_found_once_under_its_name(tmp_path):
    good = draw_film()
    films = {"good.png": good, "copy.png": good, "inverted.png": 255 - draw_film(1), "orphan.png": draw_film(2)}
    write_films(tmp_path, films | {"black.png": np.zeros((64, 64), np.uint8), "cut.png": draw_film(3)})
    folder = tmp_path / "films"
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:500])
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("not a picture", encoding="utf-8")
    (folder / "Thumbs.db").write_bytes(b"x")
    named = ["good", "copy", "inverted", "black", "cut", "zero", "text", "missing"]
    write_manifest(tmp_path, [(name, f"films/{name}.png", "") for name in named] + [("evil", "../evil.png", "")])
    report = verify_collection(tmp_path, read_image)
    found = {check.name: check.examples for check in report.checks if check.wrong}
    assert not report.ok
    assert [text.split(":")[0] for text in found.pop("unreadable images")] == ["cut.png", "text.png"]
    assert "leads out of the folder" in found.pop("files or rows set aside")[0]
    assert found == {
        "missing images": ("missing.png",),
        "empty images": ("black.png", "zero.png"),
        "inverted images": ("inverted.png",),
        "groups of equal images": ("copy.png = good.png",),
        "orphaned images": ("orphan.png",),
    }
    checks = checks_of(report)
    assert (checks["images"].found, checks["images"].expected) == (7, 8)
    assert checks["studies without report"].found == 9
    assert json.loads(json.dumps(report.as_dict()))["ok"] is False
    assert str(tmp_path) not in "".join(example for check in report.checks for example in check.examples)


def test_conflicts_of_view_are_listed_but_not_wrong(tmp_path):
    header = "uid,MeSH,indication,comparison,findings,impression\n"
    write_films(tmp_path, {"1.png": draw_film()})
    (tmp_path / "indiana_reports.csv").write_text(header + "1,normal,,,Clear.,\n", encoding="utf-8")
    (tmp_path / "indiana_projections.csv").write_text("uid,filename,projection\n1,1.png,Frontal\n", encoding="utf-8")
    report = verify_collection(tmp_path, read_image, view_overrides={"1": "lateral"})
    assert report.ok
    assert checks_of(report)["conflicts of view"].examples == (
        "1.png: lateral (view override file), but projections table",
    )


def test_the_size_of_the_full_open_i_is_information_and_not_a_fault(tmp_path):
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "ecgen-radiology/1.xml").write_bytes(b'<eCitation><uId id="CXR1"/></eCitation>')
    report = verify_collection(tmp_path, read_image)
    check = checks_of(report)["reports of the full Open-i"]
    assert report.ok and (check.found, check.expected, check.wrong) == (1, 3955, False)


def test_films_beside_the_manifest_and_one_film_of_two_studies(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), draw_film())
    cv2.imwrite(str(tmp_path / "b.png"), draw_film(1))
    (tmp_path / "other").mkdir()
    cv2.imwrite(str(tmp_path / "other/c.png"), draw_film(2))
    write_manifest(tmp_path, [("1", "a.png", ""), ("2", "a.png", "")])
    checks = checks_of(verify_collection(tmp_path, read_image))
    assert checks["orphaned images"].examples == ("b.png",)
    assert checks["groups of equal images"].examples == ("a.png = a.png",)


def test_progress_counts_every_image(tmp_path):
    class Counter(Progress):
        @contextmanager
        def step(self, title, total):
            self.total, self.done = total, 0

            def advance(count=1, text=""):
                self.done += count

            yield advance

    write_films(tmp_path, {f"{n}.png": draw_film(n) for n in range(70)})
    write_manifest(tmp_path, [(n, f"films/{n}.png", "") for n in range(70)])
    progress = Counter()
    verify_collection(tmp_path, read_image, progress=progress)
    assert (progress.total, progress.done) == (70, 70)


def test_any_reader_will_do_and_only_its_refusals_are_caught(tmp_path):
    write_films(tmp_path, {"1.png": draw_film()})
    write_manifest(tmp_path, [("1", "films/1.png", "")])

    def refuse(path):
        raise ImageError(f"{path}: no")

    def fail(path):
        raise ZeroDivisionError

    assert checks_of(verify_collection(tmp_path, refuse))["unreadable images"].examples == ("1.png: no",)
    with pytest.raises(ZeroDivisionError):
        verify_collection(tmp_path, fail)
    with pytest.raises(InputError, match="no such file or folder"):
        verify_collection(tmp_path / "nowhere", read_image)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(256, 256), (300, 200), (17, 40)])
def test_a_film_and_its_negative_are_told_apart(seed, shape):
    film = cv2.resize(draw_film(seed).astype(np.float32), shape[::-1])
    assert not is_inverted(film) and is_inverted(255 - film)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2)])
def test_an_image_of_one_level_is_not_inverted(shape):
    assert not is_inverted(np.full(shape, 90, np.float32))


@pytest.mark.large
@pytest.mark.openi
def test_the_real_films(openi_folder):
    """No real film is called inverted, and of their negatives at most 1 % are missed."""
    negatives = []

    def read(path):
        film = read_image(path)
        negatives.append(is_inverted(255 - film))
        return film

    report = verify_collection(openi_folder, read)
    assert report.ok, [check.name for check in report.checks if check.wrong]
    assert np.mean(negatives) > 0.99
