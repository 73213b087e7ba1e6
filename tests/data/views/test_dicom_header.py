import warnings

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from kmm.data.views.dicom_header import read_view_header
from kmm.errors import InputError
from tests.factories.dicom import make_codes, write_dicom


def test_tags_of_a_header(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", ViewPosition="LL", PatientOrientation=["A", "F"], PatientName="Doe^Jane")
    assert read_view_header(path).tags == {"view_position": "LL", "patient_orientation": "A\\F"}
    assert read_view_header(write_dicom(tmp_path / "b.dcm", PatientOrientation=None)).tags == {}
    codes = make_codes(("399067008", "lateral projection"), (None, "AP view"))
    assert read_view_header(write_dicom(tmp_path / "c.dcm", ViewCodeSequence=codes)).tags == {
        "view_code": "399067008\\",
        "view_meaning": "lateral projection\\AP view",
    }


@pytest.mark.parametrize(
    ("element", "value"), [("LongCodeValue", "399067008"), ("URNCodeValue", "http://snomed.info/id/399067008")]
)
def test_a_view_code_in_another_element(tmp_path, element, value):
    codes = make_codes((None, None))
    setattr(codes[0], element, value)
    assert read_view_header(write_dicom(tmp_path / "a.dcm", ViewCodeSequence=codes)).tags == {"view_code": "399067008"}


def test_an_odd_header_is_read_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write_dicom(tmp_path / "a.dcm", ViewPosition="a value much longer than allowed", StudyDate="never")
    assert read_view_header(path).tags == {"view_position": "A VALUE MUCH LONGER THAN ALLOWED"}


def test_headers_that_cannot_be_read(tmp_path):
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM", encoding="utf-8")
    packed = write_dicom(tmp_path / "packed.dcm", syntax=DeflatedExplicitVRLittleEndian, ViewPosition="PA")
    for path in (text, packed, tmp_path / "none.dcm"):
        with pytest.raises(InputError, match=f"{path.name}: the DICOM header cannot be read"):
            read_view_header(path)


STORAGE = "1.2.840.10008.5.1.4.1.1."


@pytest.mark.parametrize(
    ("class_uid", "kind"),
    [
        (STORAGE + "1", ""),
        (STORAGE + "1.1", ""),
        (STORAGE + "7", ""),
        ("1.2.840.10008.1.3.10", "DICOMDIR"),
        (STORAGE + "11.1", "presentation state"),
        (STORAGE + "88.59", "structured report"),
        (STORAGE + "104.1", "encapsulated document"),
        (STORAGE + "9.1.1", "waveform"),
        (STORAGE + "66.4", "segmentation or registration"),
        (STORAGE + "481.3", "radiotherapy object"),
        (STORAGE + "66", "DICOM object without an image"),
        ("1.3.12.2.1107.5.9.1", "DICOM object without an image"),
    ],
)
def test_the_kind_of_an_object(tmp_path, class_uid, kind):
    assert read_view_header(write_dicom(tmp_path / "a", class_uid=class_uid)).kind == kind


def test_a_structured_report_that_is_deflated_is_named_without_unpacking_it(tmp_path):
    path = write_dicom(tmp_path / "a", class_uid=STORAGE + "88.33", syntax=DeflatedExplicitVRLittleEndian)
    assert read_view_header(path).kind == "structured report"


def test_an_object_of_a_private_class_that_holds_a_picture_is_a_film(tmp_path):
    header = read_view_header(write_dicom(tmp_path / "a", class_uid="1.3.12.2.1107.5.9.1", Rows=8, ViewPosition="PA"))
    assert (header.kind, header.tags) == ("", {"view_position": "PA"})
