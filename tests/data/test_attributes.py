"""Sex and age from tables and DICOM headers; nothing that is shown says them."""

import numpy as np
import pytest

import kmm
from kmm.data.collection import read_collection
from kmm.data.layouts.manifest import read_table
from kmm.data.study import Study
from kmm.data.tabular.attributes import find_columns, join_attributes, name_age_band, read_attributes
from tests.factories.dicom import write_dicom


@pytest.mark.parametrize(
    ("value", "years"),
    [
        ("061Y", 61), ("61", 61), (61, 61), (61.0, 61), ("61,5", 61.5), ("006M", 0.5), ("052W", 52 * 7 / 365.25),
        ("030D", 30 / 365.25), ("61 y", 61), ("0", 0), ("130", 130),
        ("", None), (None, None), ("131", None), ("-1", None), ("old", None), ("nan", None), ("61-70", None),
    ],
)  # fmt: skip
def test_ages_are_years(value, years):
    found = read_attributes({"age": value})
    assert found == ({} if years is None else {"age": pytest.approx(years)})


@pytest.mark.parametrize(("value", "sex"), [("F", "F"), (" male ", "M"), ("O", "O"), ("0", None), ("", None)])
def test_sexes(value, sex):
    assert read_attributes({"sex": value}) == ({} if sex is None else {"sex": sex})


def test_columns_are_found_by_name():
    assert find_columns(["Image Index", "Patient Gender", "Patient Age", 7]) == {
        "sex": "Patient Gender", "age": "Patient Age",
    }  # fmt: skip
    assert find_columns(["page", "sexes", "label:sex"]) == {}


def test_rows_that_differ_make_an_attribute_unknown():
    assert join_attributes([{"sex": "F"}, {"age": 3.0}]) == {"sex": "F", "age": 3.0}
    assert join_attributes([{"sex": "F"}, {"sex": "M"}]) == join_attributes([{}, {}]) == {}
    assert join_attributes([{"sex": "F"}, {"sex": "M"}, {"sex": "F"}]) == {}


def test_a_manifest_gives_them(tmp_path):
    path = tmp_path / "manifest.csv"
    rows = ["1,Clear.,female,61", "1,Clear.,M,61", "1,Clear.,female,61", "2,Clear.,?,x"]
    path.write_text("\n".join(["id,report,Patient_Sex,age", *rows]), encoding="utf-8")
    one, two = read_table(path).studies
    assert one.attributes == {"age": 61.0} and two.attributes == {}  # its rows differ in the sex


def test_a_table_in_memory_gives_them():
    table = {"text": ["Clear.", "A mass.", "Clear."], "Age": [61, None, 17.0], "sex": ["F", float("nan"), "M"]}
    studies = kmm.studies(table, report="text", patient="text")
    assert [study.attributes for study in studies] == [{"sex": "F", "age": 61.0}, {}, {"sex": "M", "age": 17.0}]


def test_a_dicom_header_gives_them_unless_a_table_does(tmp_path):
    write_dicom(tmp_path / "a.dcm", ViewPosition="PA", PatientSex="F", PatientAge="061Y", Rows=16)
    write_dicom(tmp_path / "b.dcm", ViewPosition="PA", PatientSex="", Rows=16)
    (tmp_path / "manifest.csv").write_text("id,image\n1,a.dcm\n2,b.dcm\n", encoding="utf-8")
    one, two = read_collection(tmp_path).studies
    assert one.attributes == {"sex": "F", "age": 61.0} and two.attributes == {}
    assert "tags" in repr(one.images) and "061" not in repr(one.images) + repr(one) and "61.0" not in repr(one)
    (tmp_path / "manifest.csv").write_text("id,image,sex\n1,a.dcm,M\n", encoding="utf-8")
    (study,) = read_collection(tmp_path).studies
    assert study.attributes == {"sex": "M", "age": 61.0}


def test_bands_hold_every_age():
    bands = [name_age_band(years) for years in np.linspace(0, 130, 1301)]
    assert list(dict.fromkeys(bands)) == ["0-17", "18-39", "40-59", "60-79", "80 and over"]
    assert Study("1", "1").attributes == {}
