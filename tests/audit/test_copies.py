"""Copies of reports and films: groups that are known in advance."""

import shutil

import numpy as np
import pytest
from PIL import Image

from kmm.audit.copies import count_equal_bodies, count_equal_films
from kmm.data.study import ImageFile, Report, Study


def make_reports(*texts):
    return [Study(str(i), who, report=Report(findings=text)) for i, (who, text) in enumerate(texts)]


def test_equal_bodies_are_counted_with_studies_and_patients():
    studies = make_reports(("ann", "Clear."), ("ann", "clear. "), ("ben", "A mass."), ("cy", "a  MASS."), ("di", "No."))
    studies += [Study("8", "8"), Study("9", "9", report=Report(indication="Clear."))]
    found = count_equal_bodies(studies, {})
    assert {key: found[key] for key in ("groups", "members", "studies", "patients", "across_patients")} == {
        "groups": 2, "members": 4, "studies": 4, "patients": 3, "across_patients": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("values", "conflicting"), [((0.0, 1.0), 1), ((1.0, 1.0), 0), ((0.0, float("nan")), 0)])
def test_equal_bodies_conflict_if_a_label_is_both_0_and_1(values, conflicting):
    studies = make_reports(("ann", "Clear."), ("ben", "Clear."), ("cy", "A mass."), ("di", "A cyst."))
    labels = {str(i): {"mass": value} for i, value in enumerate((*values, 0.0, 1.0))}
    found = count_equal_bodies(studies, labels)
    assert (found["conflicting"], found["conflicting_studies"]) == (conflicting, 2 * conflicting)


@pytest.fixture
def films(tmp_path):
    """A film, a copy of its file, a copy of its pixels in another format, two others of equal size, a blank one, a file
    that is none."""
    random = np.random.default_rng(0)
    for name in ("a", "d", "e"):
        Image.fromarray(random.integers(0, 256, (24, 20), np.uint8)).save(tmp_path / f"{name}.bmp")
    shutil.copy(tmp_path / "a.bmp", tmp_path / "b.bmp")
    Image.open(tmp_path / "a.bmp").save(tmp_path / "c.png")
    for name in ("f", "g"):
        Image.new("L", (18, 18)).save(tmp_path / f"{name}.png")
    (tmp_path / "h.png").write_bytes(b"no film")
    return tmp_path


def make_films(folder, *names, view="frontal"):
    return [Study(name, f"patient {name}", (ImageFile(folder / name, view),)) for name in names]


def test_films_are_compared_by_bytes_and_by_pixels(films):
    studies = make_films(films, "a.bmp", "b.bmp", "c.png", "d.bmp", "e.bmp", "f.png", "g.png", "h.png")
    found = count_equal_films(studies)
    assert found["same_bytes"]["groups"] == 2 and found["same_bytes"]["members"] == 4  # a and b; f and g
    assert found["same_pixels"] == {"groups": 1, "members": 3, "studies": 3, "patients": 3, "across_patients": 1}
    assert (found["decoded"], found["blank"], found["unreadable"]) == (7, 2, 1)


def test_films_that_are_not_frontal_are_compared_by_their_bytes_alone(films):
    studies = [*make_films(films, "a.bmp", "b.bmp", view="lateral"), *make_films(films, "c.png")]
    found = count_equal_films(studies)
    assert (found["same_bytes"]["groups"], found["same_pixels"]["groups"], found["decoded"]) == (1, 0, 1)


def test_two_studies_that_name_one_file_share_it(films):
    one, two = make_films(films, "a.bmp", "d.bmp")
    found = count_equal_films([one, Study("two", two.patient, one.images)])
    assert found["same_bytes"]["studies"] == found["same_pixels"]["studies"] == 2


def test_a_file_that_is_gone_is_no_copy(films):
    studies = make_films(films, "a.bmp", "b.bmp", "gone.png")
    found = count_equal_films(studies)
    assert (found["same_bytes"]["members"], found["unreadable"]) == (2, 1)
