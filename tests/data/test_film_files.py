"""Films among the files of a folder: by content; what is none is passed over and counted."""

import cv2
import pytest

from kmm.data.collection import bare_images, read_collection
from kmm.data.film_files import describe_skipped
from kmm.data.inputs import read_inputs
from kmm.data.study import part_problems
from kmm.data.verify import verify_collection
from kmm.errors import InputError
from kmm.image.read import read_image
from kmm.storage.output_mark import marking_output
from tests.factories.dicom import make_codes, write_dicom
from tests.factories.images import draw_film

STORAGE = "1.2.840.10008.5.1.4.1.1."


def write_films(folder, films):
    folder.mkdir(exist_ok=True)
    for name, film in films.items():
        assert cv2.imwrite(str(folder / name), film)


def list_names(folder):
    return [study.images[0].path.name for study in bare_images([folder])]


def test_dicom_is_found_under_any_name(tmp_path):
    names = ["1.2.840.113619.2.81.290.4711", "IM0001", "scan.IMA", "image.img", "a.dcm", "film.png"]
    for name in names:
        write_dicom(tmp_path / name)
    (tmp_path / "notes.txt").write_text("DICM", encoding="utf-8")
    assert sorted(list_names(tmp_path)) == sorted(names)


def test_what_holds_no_film_is_passed_over_and_counted(tmp_path):
    write_dicom(tmp_path / "cd/IM0001")
    write_dicom(tmp_path / "cd/DICOMDIR", class_uid="1.2.840.10008.1.3.10")
    for name in ("PR0001", "pr.dcm"):
        write_dicom(tmp_path / "cd" / name, class_uid=STORAGE + "11.1")
    write_dicom(tmp_path / "cd/sr/1.2.3", class_uid=STORAGE + "88.33")
    for name in ("._IM0001", ".DS_Store", ".trash/film.png", "readme.txt"):
        (tmp_path / "cd" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cd" / name).write_bytes(b"\0\5\x16\7")
    with marking_output(tmp_path / "cd/explained"):
        (tmp_path / "cd/explained/IM0001.png").write_bytes(b"x")
    collection = read_inputs([tmp_path / "cd"])
    assert [study.id for study in collection.studies] == ["IM0001"] and not collection.problems
    assert describe_skipped(collection.skipped) == (
        "3 hidden files, 2 presentation states, 1 DICOMDIR, 1 other file, 1 result of kmm, 1 structured report"
    )


def test_an_object_without_a_film_that_is_named_itself_is_set_aside(tmp_path):
    film, state = write_dicom(tmp_path / "IM1"), write_dicom(tmp_path / "PR1", class_uid=STORAGE + "11.1")
    collection = read_inputs([film, state])
    assert [study.id for study in collection.studies] == ["IM1"]
    assert [str(problem) for problem in collection.problems] == ["PR1: a presentation state, which holds no film"]
    with pytest.raises(InputError, match="Found none, but PR1: a presentation state, which holds no film"):
        read_inputs([state])
    (tmp_path / "IM1").unlink()
    with pytest.raises(InputError, match="Found none, but 1 presentation state"):
        read_inputs([tmp_path])


def test_an_object_without_a_film_in_a_table_is_no_film_of_its_study(tmp_path):
    write_dicom(tmp_path / "IM1", Rows=16)
    write_dicom(tmp_path / "A1", class_uid=STORAGE + "11.1")
    rows = "id,image,report\n1,A1;IM1,\n2,A1,Clear.\n3,A1,\n"
    (tmp_path / "manifest.csv").write_text(rows, encoding="utf-8")
    collection = read_collection(tmp_path)
    assert [study.frontal and study.frontal.path.name for study in collection.studies] == ["IM1", None, None]
    set_aside, notes = part_problems(collection.problems)
    said = "A1: a presentation state, which holds no film"
    assert set_aside == [said]
    assert notes == [f"{said}; the study is used with its other film", f"{said}; the study is used with its report"]


def test_a_damaged_header_does_not_hide_a_film(tmp_path):
    (tmp_path / "IM1").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    assert list_names(tmp_path) == ["IM1"]


def test_open_i_films_need_no_suffix(tmp_path):
    xml = b'<eCitation><uId id="CXR4"/><parentImage id="CXR4_IM-1-1001"/><parentImage id="CXR4_IM-1-2001"/></eCitation>'
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "ecgen-radiology/4.xml").write_bytes(xml)
    write_dicom(tmp_path / "NLMCXR_dcm/4/4_IM-1-1001", ViewPosition="LL")
    write_dicom(tmp_path / "NLMCXR_dcm/4/4_IM-1-2001", ViewPosition="PA")
    (study,) = read_collection(tmp_path).studies
    assert [image.view for image in study.images] == ["lateral", "frontal"]


@pytest.mark.parametrize("layout", ["manifest", "kaggle", "openi"])
def test_header_tags_are_read_in_every_layout(tmp_path, layout):
    """A lateral first, said only by its view code, then a film that says nothing."""
    names = ("4_IM-1-1001.dcm", "4_IM-1-2001.dcm")
    write_dicom(tmp_path / "images" / names[0], ViewCodeSequence=make_codes(("R-10236", None)))
    write_dicom(tmp_path / "images" / names[1])
    if layout == "manifest":
        (tmp_path / "manifest.csv").write_text(f"id,image\n4,images/{names[0]};images/{names[1]}\n", encoding="utf-8")
    elif layout == "kaggle":
        header = "uid,MeSH,indication,comparison,findings,impression\n"
        (tmp_path / "indiana_reports.csv").write_text(header + "4,normal,,,Clear.,\n", encoding="utf-8")
        rows = "".join(f"4,{name},\n" for name in names)
        (tmp_path / "indiana_projections.csv").write_text("uid,filename,projection\n" + rows, encoding="utf-8")
    else:
        xml = '<eCitation><uId id="CXR4"/>' + "".join(f'<parentImage id="CXR{name[:-4]}"/>' for name in names)
        (tmp_path / "ecgen-radiology").mkdir()
        (tmp_path / "ecgen-radiology/4.xml").write_text(xml + "</eCitation>", encoding="utf-8")
    (study,) = read_collection(tmp_path).studies
    assert [(image.view, image.evidence) for image in study.images] == [
        ("lateral", "View Code R-10236"),
        ("frontal", "first image by id that is not lateral"),
    ]


@pytest.mark.parametrize(
    "tags",
    [
        {"ViewPosition": "LLD"},
        {"ViewPosition": "SWIMMERS"},
        {"ViewPosition": "LAO"},
        {"ViewPosition": "XTABLE LATERAL"},
        {"ViewPosition": "ODD"},
        {"ViewCodeSequence": make_codes((None, "left anterior oblique"))},
        {"ViewCodeSequence": make_codes(("399067008", None)), "ViewPosition": "PA"},
        {"PatientOrientation": ["A", "F"], "ViewPosition": "PA"},
    ],
)
def test_a_stated_view_never_becomes_frontal_by_being_alone(tmp_path, tags):
    write_dicom(tmp_path / "a.dcm", **tags)
    (study,) = bare_images([tmp_path])
    assert study.frontal is None and study.images[0].evidence
    overrides = {"a": "frontal"}
    assert bare_images([tmp_path], view_overrides=overrides)[0].frontal.evidence == "view override file"


@pytest.mark.parametrize("term", ["AP AXIAL", "AP LLD", "PA", "PA RLD"])
def test_a_frontal_term_of_several_words_is_frontal(tmp_path, term):
    write_dicom(tmp_path / "a.dcm", ViewPosition=term)
    assert bare_images([tmp_path])[0].frontal.evidence == f"View Position {term}"


def test_of_several_films_the_one_that_is_tagged_frontal_is_taken(tmp_path):
    write_dicom(tmp_path / "a.dcm")
    write_dicom(tmp_path / "b.dcm", ViewPosition="PA")
    (tmp_path / "manifest.csv").write_text("id,image\n1,a.dcm;b.dcm\n", encoding="utf-8")
    (study,) = read_collection(tmp_path).studies
    assert (study.frontal.path.name, study.frontal.evidence) == ("b.dcm", "first image by id with View Position PA")


def write_kaggle(folder, projections):
    header = "uid,MeSH,indication,comparison,findings,impression\n"
    (folder / "indiana_reports.csv").write_text(header + "1,normal,,,Clear.,\n2,normal,,,Open.,\n", encoding="utf-8")
    (folder / "indiana_projections.csv").write_text("uid,filename,projection\n" + projections, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text", "conflicts"),
    [
        ("manifest.csv", "id,image,view\n1,1.png,PA\n1,1.png,lateral\n", ("view column PA", "view column lateral")),
        ("manifest.csv", "id,image,view\n1,1.png;1.png,PA;LL\n", ("view column PA", "view column LL")),
        ("manifest.csv", "id,image,view\n1,1.png,PA\n2,1.png,LL\n", ("view column PA", "view column LL")),
        ("kaggle", "1,1.png,Frontal\n1,1.png,Lateral\n", ("projections table Frontal", "projections table Lateral")),
    ],
)
def test_a_film_that_is_listed_as_frontal_and_lateral_is_a_conflict_that_is_shown(tmp_path, name, text, conflicts):
    write_films(tmp_path, {"1.png": draw_film()})
    if name == "kaggle":
        write_kaggle(tmp_path, text)
    else:
        (tmp_path / name).write_text(text, encoding="utf-8")
    study = read_collection(tmp_path).studies[0]
    (image,) = study.images
    assert (image.view, study.frontal, image.conflicts) == (None, None, conflicts)
    report = verify_collection(tmp_path, read_image)
    checks = {check.name: check for check in report.checks}
    assert not report.ok and checks["conflicts of view"].found > 0
    assert "1.png: listed under different views" in checks["files or rows set aside"].examples[0]
    (study, *_) = read_collection(tmp_path, view_overrides={"1": "frontal"}).studies
    assert study.frontal.evidence == "view override file" and study.frontal.conflicts[-1:] == conflicts[-1:]


def test_a_film_that_is_listed_twice_alike_is_no_conflict(tmp_path):
    write_films(tmp_path, {"1.png": draw_film()})
    write_kaggle(tmp_path, "1,1.png,Frontal\n1,1.png,Frontal\n")
    (image,) = read_collection(tmp_path).studies[0].images
    assert (image.view, image.evidence, image.conflicts) == ("frontal", "projections table", ())


def test_a_list_of_views_that_names_no_image_is_an_error(tmp_path):
    write_films(tmp_path / "films", {"1.png": draw_film()})
    (tmp_path / "manifest.csv").write_text("id,image,report\n1,films/1.png,Clear.\n", encoding="utf-8")
    said = r"The list of views names none of the 1 images\. Its first name is 'nosuch'"
    for read, path in ((read_collection, tmp_path), (read_inputs, [tmp_path]), (bare_images, [tmp_path / "films"])):
        with pytest.raises(InputError, match=said):
            read(path, view_overrides={"nosuch": "lateral"})
        with pytest.raises(InputError, match="The list of views names none"):
            read(path, view_overrides={})
    more = [tmp_path, tmp_path / "films"]  # enough that it names one image of all that are given
    write_films(tmp_path / "films", {"2.png": draw_film(1)})
    assert len(read_inputs(more, view_overrides={"2": "lateral"}).studies) == 3


def test_verify_counts_what_it_passes_over_and_takes_no_result_for_an_orphan(tmp_path):
    write_films(tmp_path / "films", {"1.png": draw_film(), "._1.png": draw_film(1)})
    write_dicom(tmp_path / "films/PR1.dcm", class_uid=STORAGE + "11.1")
    with marking_output(tmp_path / "films/explained"):
        write_films(tmp_path / "films/explained", {"1.png": draw_film(2)})
    (tmp_path / "manifest.csv").write_text("id,image,report\n1,films/1.png,Clear.\n", encoding="utf-8")
    checks = {check.name: check for check in verify_collection(tmp_path, read_image).checks}
    assert checks["orphaned images"].found == 0
    assert checks["files passed over"].examples == ("1 hidden file, 1 presentation state, 1 result of kmm",)
    write_dicom(tmp_path / "films/1.2.3")
    checks = {check.name: check for check in verify_collection(tmp_path, read_image).checks}
    assert checks["orphaned images"].examples == ("1.2.3",)


def test_the_folder_of_films_is_never_one_of_results(tmp_path):
    """Films named as studies are: the pictures of explanations have the same names."""
    write_films(tmp_path / "normalised", {"1.png": draw_film(), "2.png": draw_film(1)})
    with marking_output(tmp_path / "explained"):
        write_films(tmp_path / "explained", {"1.png": draw_film(2), "2.png": draw_film(3)})
    write_kaggle(tmp_path, "1,1.png,Frontal\n2,2.png,Frontal\n")
    collection = read_collection(tmp_path)
    assert collection.studies[0].frontal.path == tmp_path / "normalised/1.png"
    (tmp_path / "manifest.csv").write_text("id,image,report\n1,explained/1.png,Clear.\n", encoding="utf-8")
    collection = read_collection(tmp_path / "manifest.csv")
    assert collection.studies[0].images == ()
    assert [str(problem) for problem in collection.problems] == [
        "1.png: kmm wrote this picture; name the original film instead"
    ]
