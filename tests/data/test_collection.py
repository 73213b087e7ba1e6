from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset

from kmm.data.collection import LAYOUTS, MISSING_IMAGE, Layout, bare_images, read_collection
from kmm.data.layouts.kaggle import read_kaggle
from kmm.data.names import is_safe_id
from kmm.data.study import Collection, Study
from kmm.data.views.ranking import load_view_overrides
from kmm.errors import InputError

XML = b'<eCitation><uId id="CXR4"/><parentImage id="CXR4_IM-1-1001"/><parentImage id="CXR4_IM-1-2001"/></eCitation>'


def write_kaggle(folder):
    (folder / "images").mkdir(exist_ok=True)
    header = "uid,MeSH,indication,comparison,findings,impression\n"
    (folder / "indiana_reports.csv").write_text(header + "10,normal,,,,\n9,normal,,,Clear.,\n", encoding="utf-8")
    rows = "uid,filename,projection\n9,a.png,Frontal\n9,b.png,Lateral\n10,c.png,\n"
    (folder / "indiana_projections.csv").write_text(rows, encoding="utf-8")
    for name in "abc":
        (folder / f"images/{name}.png").write_bytes(b"x")


def write_original(folder):
    (folder / "ecgen-radiology").mkdir()
    (folder / "ecgen-radiology/4.xml").write_bytes(XML)


def write_manifest(folder, name="manifest.csv"):
    (folder / name).write_text("id,image,view,report\n7,a.png,,Clear.\n", encoding="utf-8")
    (folder / "a.png").write_bytes(b"x")


@pytest.mark.parametrize(
    ("writers", "layout", "ids"),
    [
        ([write_kaggle], "Kaggle csv (indiana_reports.csv, films in images)", ["9", "10"]),
        ([write_original], "Open-i original (ecgen-radiology, no films)", ["4"]),
        ([write_manifest], "manifest (manifest.csv)", ["7"]),
        (
            [write_manifest, write_original, write_kaggle],
            "Kaggle csv (indiana_reports.csv, films in images); left unread: ecgen-radiology, manifest.csv",
            ["9", "10"],
        ),
    ],
)
def test_the_layout_is_recognised_and_said(tmp_path, writers, layout, ids):
    for write in writers:
        write(tmp_path)
    collection = read_collection(tmp_path)
    assert collection.layout == layout and [study.id for study in collection.studies] == ids


def test_views_are_decided(tmp_path):
    write_kaggle(tmp_path)
    nine, ten = read_collection(tmp_path).studies
    assert [image.view for image in nine.images] == ["frontal", "lateral"]
    assert (ten.frontal.path.name, ten.frontal.evidence) == ("c.png", "only image of the study")
    (tmp_path / "views.csv").write_text("file,view\nc.png,L\n", encoding="utf-8")
    overrides = load_view_overrides(tmp_path / "views.csv")
    assert read_collection(tmp_path, view_overrides=overrides).studies[1].frontal is None


def test_a_manifest_file_of_any_name(tmp_path):
    write_manifest(tmp_path, "mine.csv")
    assert read_collection(tmp_path / "mine.csv").layout == "manifest (mine.csv)"
    write_kaggle(tmp_path)
    assert read_collection(tmp_path / "indiana_reports.csv").layout.startswith("Kaggle csv")


def test_a_lateral_is_not_taken_for_frontal_because_the_frontal_is_missing(tmp_path):
    write_original(tmp_path)
    (tmp_path / "NLMCXR_png").mkdir()
    (tmp_path / "NLMCXR_png/CXR4_IM-1-2001.png").write_bytes(b"x")
    collection = read_collection(tmp_path)
    (study,) = collection.studies
    assert [image.path.name for image in study.images] == ["CXR4_IM-1-2001.png"] and study.frontal is None
    assert [(problem.source, problem.reason) for problem in collection.problems] == [("4_IM-1-1001", MISSING_IMAGE)]


def test_a_folder_of_something_else_names_the_layouts(tmp_path):
    (tmp_path / "readme.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_collection(tmp_path)
    assert all(layout.description in str(error.value) for layout in LAYOUTS)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("manifest.csv", "id,report\n", r"no studies in it, read as manifest \(manifest\.csv\)\.$"),
        ("manifest.csv", "id,report\n../1,x\n", "The first of 1 set aside: manifest.csv line 2: expected an id"),
        ("other.txt", "id,report\n1,x\n", "expected a folder of studies, or a manifest"),
    ],
)
def test_no_studies(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_collection(tmp_path if name.startswith("manifest") else tmp_path / name)
    with pytest.raises(InputError, match="no such file or folder"):
        read_collection(tmp_path / "nowhere")


def write_dicom(path, **tags):
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.3"
    for name, value in tags.items():
        setattr(header, name, value)
    header.save_as(path, enforce_file_format=True)


def test_bare_images_have_unique_safe_ids_and_natural_order(tmp_path):
    names = ["film10.png", "film9.jpg", "film9.PNG", "sub/film9.png", ".hidden.png", "ä b.tif", "x.dcm", "notes.txt"]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    write_dicom(tmp_path / "plain", ViewPosition="LL")
    (tmp_path / "text").write_text("no DICOM", encoding="utf-8")
    studies = bare_images([tmp_path, tmp_path / "notes.txt"])
    ids = [study.id for study in studies]
    assert ids == ["film9", "film9-2", "film10", "plain", "film9-3", "x", "b", "notes.txt"]
    assert all(is_safe_id(study_id) for study_id in ids)
    assert [study.id for study in studies if study.frontal is None] == ["plain"]


def test_a_film_that_may_not_be_read_does_not_end_the_listing(tmp_path, monkeypatch):
    def refuse(path, *given, **options):
        if Path(path).name.startswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *given, **options)

    for name in ("a.png", "secret.png", "secret", "secret.1.2"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr("kmm.storage.file_kinds.open", refuse, raising=False)
    assert [study.id for study in bare_images([tmp_path])] == ["a", "secret", "secret.1.2", "secret-2"]


def test_bare_images_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        bare_images([tmp_path / "nothing.png"])
    with pytest.raises(InputError, match="Found none"):
        bare_images([tmp_path])


@pytest.mark.large
@pytest.mark.openi
def test_the_real_folder(openi_folder):
    collection = read_collection(openi_folder)
    assert collection.layout.startswith("Kaggle csv (indiana_reports.csv")
    assert collection.problems == () and collection.studies == tuple(
        sorted(collection.studies, key=lambda study: int(study.id))
    )
    tables = read_kaggle(openi_folder)
    assert sum(len(study.images) for study in collection.studies) == sum(len(study.images) for study in tables.studies)
    assert all(image.evidence == "projections table" for study in collection.studies for image in study.images)


def test_the_table_of_a_layout_may_be_named_itself(tmp_path, monkeypatch):
    """Whatever its layout: one row of `LAYOUTS` is enough."""
    (tmp_path / "films.csv").write_text("name\nx\n")
    study = Study("x", "x")
    made = Collection(tmp_path, "films.csv", (study,))
    layout = Layout(lambda folder: folder / "films.csv", lambda folder: made, "films.csv")
    monkeypatch.setattr("kmm.data.collection.LAYOUTS", (layout, *LAYOUTS))
    assert read_collection(tmp_path / "films.csv") == read_collection(tmp_path)
