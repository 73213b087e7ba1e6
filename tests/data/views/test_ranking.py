from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.data.study import ImageFile, Study
from kmm.data.views.ranking import assign_views, is_disputed, load_view_overrides, match_overrides
from kmm.errors import InputError


def judge(*tags, override=None):
    images = tuple(ImageFile(Path(f"7_IM-0001-{index}001.png"), tags=tag) for index, tag in enumerate(tags, 1))
    return assign_views(Study("7", "7", images), override).images


@pytest.mark.parametrize(
    ("tags", "view", "evidence"),
    [
        ({"view": "lateral", "projection": "Frontal"}, "lateral", "view column lateral"),
        ({"projection": "Frontal", "view_position": "LL"}, "frontal", "projections table"),
        ({"view_position": "LL"}, "lateral", "View Position LL"),
        ({"view_position": "LARGE LATERAL"}, "lateral", "View Position LARGE LATERAL"),
        ({"view_position": "PA", "patient_orientation": "A\\F"}, "lateral", "Patient Orientation A"),
        ({"patient_orientation": "P\\F"}, "lateral", "Patient Orientation P"),
        ({"view_position": "PA", "patient_orientation": "L\\F"}, "frontal", "View Position PA"),
        ({"patient_orientation": "L\\F"}, "frontal", "only image of the study"),
        ({}, "frontal", "only image of the study"),
    ],
)
def test_the_first_line_of_evidence_decides_for_an_only_image(tags, view, evidence):
    (image,) = judge(tags)
    assert (image.view, image.evidence) == (view, evidence)


def test_conflicts_are_kept():
    (image,) = judge({"projection": "Lateral", "view_position": "PA", "patient_orientation": "A\\F"})
    assert (image.view, image.conflicts) == ("lateral", ("View Position PA",))
    (image,) = judge({"projection": "Frontal", "view_position": "LL", "patient_orientation": "A\\F"})
    assert (image.view, image.conflicts) == ("frontal", ("View Position LL", "Patient Orientation A"))


def test_pa_tags_decide_nothing_in_a_study_of_two_images():
    first, second = judge({"view_position": "PA"}, {"view_position": "PA"})
    assert (first.view, first.evidence, first.conflicts) == ("frontal", "first image of the study by id", ())
    assert (second.view, second.evidence, second.conflicts) == (None, "", ("View Position PA",))


def test_the_first_image_is_passed_over_when_it_is_lateral():
    first, second, third = judge({"view_position": "LL"}, {}, {})
    assert (first.view, second.view, third.view) == ("lateral", "frontal", None)
    assert second.evidence == "first image by id that is not lateral"


def test_nothing_is_guessed_where_a_frontal_is_known():
    assert [image.view for image in judge({}, {"projection": "Frontal"})] == [None, "frontal"]
    assert [image.view for image in judge({"view_position": "LL"}, {"view_position": "RL"})] == ["lateral", "lateral"]


def test_first_means_by_id_not_by_place():
    images = tuple(ImageFile(Path(name)) for name in ("b.png", "a.png"))
    assert [image.view for image in assign_views(Study("7", "7", images)).images] == [None, "frontal"]


def test_an_override_wins_over_all_other_evidence():
    override = {Path("7_IM-0001-1001.png"): "lateral", Path("7_IM-0001-2001.png"): "frontal"}
    tags = {"view": "PA", "projection": "Frontal", "view_position": "PA", "view_code": "399348003"}
    first, second = judge(tags, {"view_position": "LL", "patient_orientation": "A\\F"}, override=override)
    assert (first.view, first.evidence) == ("lateral", "view override file")
    assert first.conflicts == ("view column PA", "projections table", "View Code 399348003", "View Position PA")
    assert (second.view, second.evidence) == ("frontal", "view override file")
    assert second.conflicts == ("View Position LL", "Patient Orientation A")


TAGS = st.fixed_dictionaries(
    {},
    optional={
        "view": st.sampled_from(["PA", "lateral", "LAO", "PA;lateral"]),
        "projection": st.sampled_from(["Frontal", "Lateral"]),
        "view_position": st.sampled_from(["PA", "AP", "LL", "ODD", "UNKNOWN"]),
        "patient_orientation": st.sampled_from(["A\\F", "P\\F", "L\\F"]),
    },
)


@given(st.lists(TAGS, max_size=4))
def test_every_view_has_evidence_and_nothing_else_stated_passes_for_frontal(tags):
    images = judge(*tags)
    assert all(bool(image.evidence) == (image.view is not None) for image in images)
    open_images = [image for image in images if image.view is None and not is_disputed(image)]
    assert not open_images or any(image.view == "frontal" for image in images)
    for image in images:
        if image.tags.get("view_position") in ("LL", "ODD") and not {"view", "projection"} & set(image.tags):
            assert image.view in ("lateral", "other")


def test_override_files_of_both_kinds(tmp_path):
    path = tmp_path / "views.csv"
    path.write_text("file,view\nimages/1_IM-0001-4001.dcm.png,PA\nfilm.png,lateral\n", encoding="utf-8")
    assert load_view_overrides(path) == {"1_IM-0001-4001": "frontal", "film": "lateral"}
    path.write_text("imageid,tsne-view\nCXR1_1_IM-0001-3001,L\nCXR100_IM-0002-1001,PA\n", encoding="utf-8")
    assert load_view_overrides(path) == {"1_IM-0001-3001": "lateral", "100_IM-0002-1001": "frontal"}


@pytest.mark.parametrize(
    ("overrides", "names", "found"),
    [
        ({"p1/film": "lateral"}, ["p1/film.png", "p2/film.png"], {"p1/film.png": "lateral"}),
        ({"film": "frontal"}, ["film.png", "p1/film.png"], {"film.png": "frontal"}),
        ({"film": "lateral"}, ["p1/film.png", "p1/other.png"], {"p1/film.png": "lateral"}),
        ({"data/p1/film": "lateral"}, ["p1/film.png", "p2/film.png"], {"p1/film.png": "lateral"}),
        ({"p1/film": "lateral"}, ["p2/film.png", "up1/film.png"], {}),
        (
            {"1_IM-1": "lateral"},
            ["CXR1_IM-1.png", "b/1_IM-1.dcm"],
            {"CXR1_IM-1.png": "lateral", "b/1_IM-1.dcm": "lateral"},
        ),
        ({}, ["film.png"], {}),
        (None, ["film.png"], {}),
    ],
)
def test_a_name_means_the_image_of_its_path(overrides, names, found):
    expected = {Path("data", name): view for name, view in found.items()}
    assert match_overrides(overrides, {Path("data", name): Path(name) for name in names}) == expected


def test_a_name_that_may_mean_two_images_is_refused():
    images = {Path("data", name): Path(name) for name in ("p1/film.png", "p2/film.png")}
    with pytest.raises(InputError, match=r"2 images are called 'film'\. Give their folders too"):
        match_overrides({"film": "lateral"}, images)


def test_a_list_with_folders_says_one_view_of_each(tmp_path):
    path = tmp_path / "views.csv"
    path.write_text("file,view\np1/film.png,L\np2\\film.png,PA\nx/CXR1_1_IM-0001-3001.png,L\n", encoding="utf-8")
    assert load_view_overrides(path) == {"p1/film": "lateral", "p2/film": "frontal", "1_IM-0001-3001": "lateral"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,view\na,PA\n", "expected the columns file,view. Found: name, view"),
        ("file,view\na.png,up\n", "line 2: the view must be one of"),
        ("file,view\nb/a.png,PA\nb\\a.dcm,L\n", "line 3: the image has another view on an earlier line"),
        ("file,view\na.png\n", "line 2: expected 2 fields"),
    ],
)
def test_bad_override_files(tmp_path, text, message):
    path = tmp_path / "views.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_view_overrides(path)
