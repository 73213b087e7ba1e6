"""Files that kmm wrote are distinguished from those of a user, whichever came first."""

import json

import pytest

from kmm.errors import InputError
from kmm.storage.output_mark import MARK, marking_file, marking_output, read_mark, refuse_output


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def owned(folder):
    mark = read_mark(folder)
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and mark.owns(path.name))


def test_a_new_folder_is_marked_as_a_whole(tmp_path):
    with marking_output(tmp_path / "a/b"):
        touch(tmp_path / "a/b", "1.png")
    touch(tmp_path / "a/b", "2.png")
    assert owned(tmp_path / "a/b") == ["1.png", "2.png"] and read_mark(tmp_path / "a/b").whole
    assert owned(tmp_path / "a") == []


def test_films_that_were_there_stay_input_through_several_runs(tmp_path):
    touch(tmp_path, "film.png", ".hidden")
    for names in (["1.png", "1.json"], ["1.png", "2.png"]):
        with marking_output(tmp_path):
            touch(tmp_path, *names)
    assert owned(tmp_path) == ["1.json", "1.png", "2.png"]
    touch(tmp_path, "later.png")
    assert owned(tmp_path) == ["1.json", "1.png", "2.png"]


def test_a_run_that_is_killed_or_fails_leaves_its_files_marked(tmp_path):
    touch(tmp_path, "film.png")
    run = marking_output(tmp_path)
    run.__enter__()
    touch(tmp_path, "1.png")
    assert owned(tmp_path) == ["1.png"]  # as a kill would leave it
    with marking_output(tmp_path):
        touch(tmp_path, "2.png")
    assert owned(tmp_path) == ["1.png", "2.png"]
    with pytest.raises(ZeroDivisionError), marking_output(tmp_path):
        touch(tmp_path, "3.png")
        raise ZeroDivisionError
    assert owned(tmp_path) == ["1.png", "2.png", "3.png"] and read_mark(tmp_path).found is None


def test_a_run_that_writes_nothing_beside_films_leaves_no_mark(tmp_path):
    touch(tmp_path, "film.png")
    with marking_output(tmp_path) as mark:
        assert not mark.owns("film.png")
    assert not (tmp_path / MARK).exists() and owned(tmp_path) == []


def test_one_file_is_marked_and_its_neighbours_are_not(tmp_path):
    touch(tmp_path, "film.png")
    for name in ("curve.png", "curve-2.png"):
        with marking_file(tmp_path / name):
            touch(tmp_path, name)
    touch(tmp_path, "later.png")
    assert owned(tmp_path) == ["curve-2.png", "curve.png"]


def test_a_copy_elsewhere_is_the_users(tmp_path):
    with marking_output(tmp_path / "out"):
        touch(tmp_path / "out", "1.png")
    touch(tmp_path / "mine")
    (tmp_path / "out/1.png").rename(tmp_path / "mine/1.png")
    assert owned(tmp_path / "mine") == []


def write_explained_before(folder, *studies, more=()):
    """A folder as explanations of the version before left it: no mark."""
    names = [f"{study}{suffix}" for study in studies for suffix in (".json", ".png", ".html")]
    touch(folder, *names, "index.html", "explanations.csv", *more)
    (folder / ".parts").mkdir()
    (folder / ".parts/run.json").write_text(json.dumps({"run": {}, "studies": studies}), encoding="utf-8")


def test_explanations_of_the_version_before_are_recognised(tmp_path):
    write_explained_before(tmp_path / "a", "1", "2")
    assert read_mark(tmp_path / "a").whole
    write_explained_before(tmp_path / "b", "1", more=["film.dcm"])
    assert owned(tmp_path / "b") == ["1.html", "1.json", "1.png", "explanations.csv", "index.html"]
    with marking_output(tmp_path / "b"):
        touch(tmp_path / "b", "2.png")
    assert owned(tmp_path / "b") == ["1.html", "1.json", "1.png", "2.png", "explanations.csv", "index.html"]


def test_classifiers_exports_and_pictures_of_an_evaluation_are_recognised(tmp_path):
    touch(tmp_path / "classifier", "classifier.json", "settings.json", "joint.keras")
    touch(tmp_path / "export/1", "saved_model.pb")
    (tmp_path / "export/1/variables").mkdir()
    touch(tmp_path / "project", "saved_model.pb", "film.png")
    assert not read_mark(tmp_path / "project").whole
    touch(tmp_path / "pictures", "roc.png", "precision_recall.png", "calibration.png", "confusion.png")
    assert all(read_mark(tmp_path / name).whole for name in ("classifier", "export/1", "pictures"))
    touch(tmp_path / "pictures", "film.png")
    assert not read_mark(tmp_path / "pictures").whole


@pytest.mark.parametrize("text", ["", "{", "[]", '{"written": 3}', '{"written": [], "found": "a"}', "\x00"])
def test_a_damaged_mark_owns_the_folder(tmp_path, text):
    touch(tmp_path, "1.png")
    (tmp_path / MARK).write_text(text, encoding="utf-8")
    assert read_mark(tmp_path).whole


def test_an_input_that_kmm_wrote_is_refused_in_one_line(tmp_path):
    touch(tmp_path, "film.png")
    with marking_output(tmp_path / "out"):
        touch(tmp_path / "out", "1.png")
    for path, said in (
        (tmp_path / "out", "an output folder of kmm"),
        (tmp_path / "out/1.png", "an output file of kmm"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            refuse_output(path)
        assert "\n" not in str(caught.value)
    for path in (tmp_path, tmp_path / "film.png", tmp_path / "nowhere", tmp_path / "out/none.png"):
        refuse_output(path)
