import pytest

from kmm.data.layouts.kaggle import read_kaggle
from kmm.data.layouts.openi import read_openi
from kmm.data.study import SECTIONS, Report
from kmm.data.views.ranking import assign_views
from kmm.errors import InputError

REPORTS = """uid,MeSH,Problems,image,indication,comparison,findings,impression
10,normal,normal,Chest,,,,
2,Opacity/lung/base;Scoliosis/mild,Opacity;Scoliosis,Chest,#NAME?,None.,"Two
lines, one comma.",Opacity.
"""
PROJECTIONS = """uid,filename,projection
2,2_IM-0652-2001.dcm.png,Lateral
2,2_IM-0652-1001.dcm.png,Frontal
"""


def write(folder, reports=REPORTS, projections=PROJECTIONS):
    (folder / "indiana_reports.csv").write_text(reports, encoding="utf-8")
    (folder / "indiana_projections.csv").write_text(projections, encoding="utf-8")


@pytest.mark.parametrize("films", ["images", "images_normalized", "images/images_normalized", "films", "."])
def test_studies_and_their_films_wherever_they_lie(tmp_path, films):
    write(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / films).mkdir(exist_ok=True, parents=True)
    (tmp_path / films / "2_IM-0652-1001.dcm.png").write_bytes(b"x")
    collection = read_kaggle(tmp_path)
    two, ten = collection.studies
    assert (two.id, two.patient, ten.id) == ("2", "2", "10") and collection.problems == ()
    assert two.mesh_major == ("Opacity/lung/base", "Scoliosis/mild") and two.mesh_automatic == ()
    assert two.report == Report("", "None.", "Two\nlines, one comma.", "Opacity.") and ten.report is None
    assert [image.path for image in two.images] == [
        tmp_path / films / f"2_IM-0652-{number}.dcm.png" for number in (1001, 2001)
    ]
    assert [dict(image.tags) for image in two.images] == [{"projection": "Frontal"}, {"projection": "Lateral"}]
    assert ten.images == ()


def test_bad_rows_are_set_aside(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "images/out.png").symlink_to(tmp_path / "secret.png")
    rows = [
        "2,../secret.png,Frontal",
        "2,/etc/hostname,Frontal",
        "2,out.png,Frontal",
        "2,a.png,upside down",
        "3,b.png,",
        "2",
    ]
    write(tmp_path, REPORTS + "2,,,,,,,\n../4,,,,,,,\n", PROJECTIONS + "\n".join(rows))
    collection = read_kaggle(tmp_path)
    assert [len(study.images) for study in collection.studies] == [2, 0]
    assert {problem.source: problem.reason.split(";")[0].split(" of ")[0] for problem in collection.problems} == {
        "indiana_projections.csv line 9": "expected 3 fields",
        "indiana_projections.csv line 4": "the file name leads out",
        "indiana_projections.csv line 5": "the file name leads out",
        "indiana_projections.csv line 6": "the file is a link that leads out",
        "indiana_projections.csv line 7": "expected the projection Frontal or Lateral",
        "indiana_reports.csv line 5": "an earlier row has this uid",
        "indiana_reports.csv line 6": "expected a uid",
        "b.png": "no usable row",
    }


@pytest.mark.parametrize(
    ("reports", "projections", "message"),
    [
        ("uid,MeSH\n", PROJECTIONS, r"indiana_reports\.csv: .*Missing: indication, .*Found: uid, MeSH"),
        (REPORTS, "uid,file\n", r"indiana_projections\.csv: .*Missing: filename, projection\. Found: uid, file"),
    ],
)
def test_missing_columns(tmp_path, reports, projections, message):
    write(tmp_path, reports, projections)
    with pytest.raises(InputError, match=message):
        read_kaggle(tmp_path)


def test_a_missing_table(tmp_path):
    write(tmp_path)
    (tmp_path / "indiana_projections.csv").unlink()
    with pytest.raises(InputError, match=r"indiana_projections\.csv: cannot be read"):
        read_kaggle(tmp_path)


@pytest.mark.openi
def test_both_layouts_of_open_i_agree(openi_folder):
    """The same studies have the same sections and MeSH; only cells that a spreadsheet damaged may differ."""
    kaggle, original = read_kaggle(openi_folder), read_openi(openi_folder)
    assert kaggle.problems == () and len(kaggle.studies) > 2000
    by_id, damaged = {study.id: study for study in original.studies}, 0
    for study in kaggle.studies:
        other = by_id[study.id]
        assert study.mesh_major == other.mesh_major, study.id
        ids = {image.path.name for image in other.images}
        assert {image.path.name for image in study.images} <= ids, study.id
        for name in SECTIONS:
            ours, theirs = (" ".join(getattr(one.report or Report(), name).split()) for one in (study, other))
            damaged += ours != theirs
            assert ours == theirs or (ours == "" and theirs.startswith("+")), (study.id, name)
    assert damaged <= 2


def test_a_projection_that_is_neither_frontal_nor_lateral_keeps_the_film_as_such(tmp_path):
    write(tmp_path, projections="uid,filename,projection\n2,2_a.png,Swimmers\n2,2_b.png,Decubitus\n")
    study = read_kaggle(tmp_path).studies[0]
    assert [(image.view, image.evidence) for image in assign_views(study).images] == [
        ("other", "projections table")
    ] * 2
