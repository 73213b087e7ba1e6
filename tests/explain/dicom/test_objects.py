import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from kmm import __version__
from kmm.errors import ImageError, InputError, MissingPackageError
from kmm.explain.dicom.objects import (
    locate_circle,
    outline_region,
    write_presentation_state,
    write_secondary_capture,
    write_structured_report,
)
from kmm.explain.explanation import Explanation
from kmm.explain.output.draw import CIRCLE
from kmm.explain.regions.find import Region
from kmm.explain.settings import ExplainSettings
from kmm.explain.words import WordScore
from kmm.image.dicom import read_dicom
from kmm.storage.file_kinds import is_dicom

highdicom = pytest.importorskip("highdicom")

HEIGHT, WIDTH = 60, 45
REGIONS = [Region(20.3, 31.7, 7.25, 0.6), Region(40.1, 5.9, 11.0, 0.3), Region(0.0, 59.0, 200.0, 0.1)]
IDENTITY = {"PatientName": "Doe^Jane", "PatientID": "P1", "PatientBirthDate": "19500102", "PatientSex": "F"}
STUDY = {"StudyDate": "20200304", "StudyTime": "101112", "AccessionNumber": "A1", "StudyID": "S1"}
UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
WRITERS = (write_structured_report, write_presentation_state)


def write_film(path, *, syntax=ExplicitVRLittleEndian, drop=(), **tags):
    """A film of 12 bits with a ramp, of one patient and study."""
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = syntax
    film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["film"])
    film.SOPClassUID = DigitalXRayImageStorageForPresentation
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID
    film.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    film.SeriesInstanceUID = generate_uid(entropy_srcs=["series"])
    film.Modality = "DX"
    film.Rows, film.Columns, film.SamplesPerPixel = HEIGHT, WIDTH, 1
    film.PhotometricInterpretation = "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PixelData = np.linspace(0, 4095, HEIGHT * WIDTH).astype(np.uint16).tobytes()
    film["PixelData"].VR = "OW"
    with pydicom.config.disable_value_validation():  # films in the world are not valid either
        for name, value in {**IDENTITY, **STUDY, **tags}.items():
            film.pop(name, None)
            setattr(film, name, value)
        for name in drop:
            del film[name]
        film.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def film(tmp_path):
    return write_film(tmp_path / "film.dcm")


def explain(**changes):
    values = {
        "study": "s1",
        "image": "film.dcm",
        "target": "cardiomegaly",
        "attribution": None,  # what is written does not depend on it
        "probabilities": {"cardiomegaly": np.float32(0.8125), "mass": 0.1},
        "thresholds": {"cardiomegaly": 0.5, "mass": 0.5},
        "film": np.zeros((HEIGHT, WIDTH), np.uint8),
        "heat": None,
        "regions": REGIONS,
        "text": "Heart is enormous.",
        "sections": [("findings", 0, 18)],
        "words": [WordScore(9, 17, "enormous", "findings", 0, 1.0, 0.5)],
        "modality_share": {"image": 0.5, "text": 0.5},
        "settings": ExplainSettings(),
        "model": "ab" * 32,
    }
    return Explanation(**{**values, **changes})


def read_report(path):
    return highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(path))


def list_codes(dataset):
    """All text values and numbers of a content tree by the meaning of their concept."""
    found = {}
    for item in dataset.get("ContentSequence", []):
        name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
        found.setdefault(name, []).append(item.get("TextValue"))
        for key, values in list_codes(item).items():
            found.setdefault(key, []).extend(values)
    return found


def as_circle(region):
    """The centre in DICOM's pixels and the radius, in the precision of graphic data."""
    return np.float32([region.x + 0.5, region.y + 0.5]), np.float32(region.radius)


def test_center_of_the_first_pixel_is_half():
    """PS3.3 C.18.6: 0\\0 is the top left corner of the top left pixel, Columns\\Rows the far corner of the last."""
    assert locate_circle(Region(0, 0, 1, 1), 20, 10).tolist() == [[0.5, 0.5], [1.5, 0.5]]
    assert locate_circle(Region(9, 19, 1, 1), 20, 10).tolist() == [[9.5, 19.5], [8.5, 19.5]]
    assert locate_circle(Region(-0.5, -0.5, 0, 1), 20, 10).tolist() == [[0, 0], [0, 0]]


@given(
    rows=st.integers(16, 4000),
    columns=st.integers(16, 4000),
    across=st.floats(0, 1),
    down=st.floats(0, 1),
    radius=st.floats(0, 6000),
)
def test_circle_lies_on_the_film_and_has_its_radius(rows, columns, across, down, radius):
    region = Region(across * columns - 0.5, down * rows - 0.5, radius, 1.0)
    center, point = locate_circle(region, rows, columns)
    assert np.allclose(center, [region.x + 0.5, region.y + 0.5], rtol=0, atol=1e-12)
    for x, y in np.float32([center, point]):
        assert 0 <= x <= columns
        assert 0 <= y <= rows
    farthest = np.hypot(max(center[0], columns - center[0]), max(center[1], rows - center[1]))
    assert np.isclose(np.hypot(*(point - center)), min(radius, farthest), rtol=1e-9, atol=1e-9)


def test_square_pixels_have_circles():
    region = Region(4, 9, 3, 1)
    kind, points = outline_region(region, 20, 10)
    assert kind == "CIRCLE" and np.array_equal(points, locate_circle(region, 20, 10))


@given(
    rows=st.integers(16, 2000),
    columns=st.integers(16, 2000),
    across=st.floats(0, 1),
    down=st.floats(0, 1),
    radius=st.floats(0.5, 3000),
    scale=st.sampled_from([(1.0, 2.0), (1.0, 1.3), (2.5, 1.0)]),
)
def test_outlines_on_pixels_that_are_not_square(rows, columns, across, down, radius, scale):
    """Back on square pixels every point lies on the circle, unless the edge of the film has cut it off."""
    region = Region(across * columns * scale[0] - 0.5, down * rows * scale[1] - 0.5, radius, 1.0)
    kind, points = outline_region(region, rows, columns, scale)
    assert (points >= 0).all() and (points <= [columns, rows]).all()
    distances = np.hypot(*(points * scale - 0.5 - [region.x, region.y]).T)
    if kind == "ELLIPSE":
        assert np.allclose(distances, radius, rtol=1e-9, atol=1e-6) and points.shape == (4, 2)
        major, minor = np.hypot(*(points[1] - points[0])), np.hypot(*(points[3] - points[2]))
        assert np.isclose(major, 2 * radius, atol=1e-6) and np.isclose(minor, 2 * radius / max(scale), atol=1e-6)
    else:
        assert kind == "POLYLINE" and np.array_equal(points[0], points[-1])
        inside = ((points > 0) & (points < [columns, rows])).all(axis=1)
        assert np.allclose(distances[inside], radius, rtol=1e-9, atol=1e-6)
        assert (distances <= radius * (1 + 1e-9) + 1e-6).all()


@pytest.mark.large
def test_objects_of_a_film_whose_pixels_are_not_square_are_in_its_own_pixels(tmp_path):
    """Rows twice as far apart as columns: kmm draws on 120x45 pixels, DICOM on the file's 60x45."""
    film = write_film(tmp_path / "film.dcm", ImagerPixelSpacing=[0.2, 0.1])
    assert read_dicom(film).shape == (2 * HEIGHT, WIDTH)
    explanation = explain(
        film=np.zeros((2 * HEIGHT, WIDTH), np.uint8),
        regions=[Region(20.0, 60.5, 8.0, 0.6), Region(40.0, 100.5, 9.0, 0.4)],
        pixel_scale=(1.0, 2.0),
    )
    write_presentation_state(explanation, film, tmp_path / "pr.dcm")
    write_structured_report(explanation, film, tmp_path / "sr.dcm")
    state = pydicom.dcmread(tmp_path / "pr.dcm")
    groups = read_report(tmp_path / "sr.dcm").content.get_planar_roi_measurement_groups()
    circles = state.GraphicAnnotationSequence[0].GraphicObjectSequence
    assert [circle.GraphicType for circle in circles] == ["ELLIPSE", "POLYLINE"]
    for circle, group in zip(circles, groups, strict=True):
        assert group.roi.graphic_type.value == circle.GraphicType
        assert circle.GraphicData == group.roi.value.ravel().tolist()
    ellipse = np.reshape(circles[0].GraphicData, (4, 2))
    assert np.allclose(ellipse, [[12.5, 30.5], [28.5, 30.5], [20.5, 26.5], [20.5, 34.5]])
    assert [(region.x, region.y) for region in explanation.regions_in_file] == [(20.0, 30.0), (40.0, 50.0)]
    (area,) = state.DisplayedAreaSelectionSequence
    assert area.PresentationPixelAspectRatio == [2, 1]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [WIDTH, HEIGHT]
    with pytest.raises(ImageError, match=r"expected the film that was explained, 45x60\. Received: 45x120"):
        write_presentation_state(explain(), film, tmp_path / "pr.dcm")


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_report_holds_the_regions(tmp_path, kind):
    film = write_film(tmp_path / "film.dcm", PhotometricInterpretation=kind)
    write_structured_report(explain(), film, tmp_path / "sr.dcm")
    report, source = read_report(tmp_path / "sr.dcm"), pydicom.dcmread(film)
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 3
    for group, region in zip(groups, REGIONS):
        center, radius = as_circle(region)
        points = np.float32(group.roi.value)
        assert group.roi.graphic_type.value == "CIRCLE"
        assert np.array_equal(points[0], center)
        if radius < 200:
            assert np.isclose(np.hypot(*(points[1] - points[0])), radius, rtol=1e-6)
        (weight,) = group.get_measurements()
        assert weight.name == codes.DCM.Saliency
        assert weight.unit == codes.UCUM.NoUnits
        assert weight.value == region.weight
        said = "Attribution for cardiomegaly"
        assert group.finding_type == highdicom.sr.CodedConcept(said, "99KMM", said)
        (reference,) = (item for item in group.roi.ContentSequence if item.ValueType == "IMAGE")
        assert reference.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert points[1].tolist() == [WIDTH, 0]  # the last circle is around the whole film


def test_report_holds_the_probability_and_the_algorithm(film, tmp_path):
    write_structured_report(explain(), film, tmp_path / "sr.dcm")
    report = read_report(tmp_path / "sr.dcm")
    (group,) = report.content.get_image_measurement_groups()
    probability, threshold = group.get_measurements()
    assert (probability.name, probability.value) == (codes.DCM.Probability, 0.8125)
    assert (threshold.name.meaning, threshold.value) == ("Decision threshold", 0.5)
    (decision,) = group.get_qualitative_evaluations()
    assert (decision.name.meaning, decision.value) == ("Probability at or above threshold", codes.SCT.Yes)
    assert group.finding_type.meaning == "cardiomegaly"
    texts = list_codes(report)
    assert set(texts["Algorithm Name"]) == {"kmm"}
    assert set(texts["Algorithm Version"]) == {__version__}
    assert "model " + "ab" * 32 in texts["Algorithm Parameters"]
    assert any('"method": "integrated-gradients"' in text for text in texts["Algorithm Parameters"])


LOW = {"probabilities": {"cardiomegaly": 0.05, "mass": 0.01}}


@pytest.mark.parametrize(
    ("changes", "after", "answer", "said"),
    [
        ({}, "", codes.SCT.Yes, "probability 0.812, threshold 0.500, decision: yes."),
        (LOW, " (below threshold)", codes.SCT.No, "probability 0.050, threshold 0.500, decision: no."),
        ({**LOW, "thresholds": {}}, " (no threshold)", None, "probability 0.050."),
    ],
)
def test_every_object_says_the_decision_and_that_it_is_not_for_diagnosis(film, tmp_path, changes, after, answer, said):
    explanation = explain(**changes)
    write_structured_report(explanation, film, tmp_path / "sr.dcm")
    write_presentation_state(explanation, film, tmp_path / "pr.dcm")
    report, state = read_report(tmp_path / "sr.dcm"), pydicom.dcmread(tmp_path / "pr.dcm")
    (label,) = report.content.get_image_measurement_groups()
    assert label.finding_type.meaning == f"cardiomegaly{after}"
    assert [item.value for item in label.get_qualitative_evaluations()] == ([answer] if answer else [])
    circles = report.content.get_planar_roi_measurement_groups()
    assert {group.finding_type.meaning for group in circles} == {f"Attribution for cardiomegaly{after}"}
    comments = list_codes(report)["Comment"]
    (line,) = state.GraphicAnnotationSequence[0].TextObjectSequence
    assert len(comments) == 1 + len(REGIONS)
    for text in (*comments, line.UnformattedTextValue):
        assert text.startswith("Not for diagnosis.") and text.endswith(f"cardiomegaly: {said}")
    assert state.ContentDescription == f"Attribution for cardiomegaly{after}"
    for written in (report, state):
        assert "not for diagnosis" in written.SeriesDescription


def test_a_threshold_that_changes_is_another_object(film, tmp_path):
    for write in WRITERS:
        uids = set()
        for limit in (0.5, 0.6):
            write(explain(thresholds={"cardiomegaly": limit}), film, tmp_path / "out.dcm")
            uids.add(pydicom.dcmread(tmp_path / "out.dcm").SOPInstanceUID)
        assert len(uids) == 2


def test_report_is_partial_and_refers_to_the_study(film, tmp_path):
    write_structured_report(explain(), film, tmp_path / "sr.dcm")
    report, source = read_report(tmp_path / "sr.dcm"), pydicom.dcmread(film)
    assert report.SOPClassUID == ComprehensiveSRStorage
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    assert report.get_evidence() == [
        (source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID, source.SOPClassUID)
    ]
    for keyword in (*IDENTITY, *STUDY, "StudyInstanceUID"):
        assert report[keyword].value == source[keyword].value
    assert report.SeriesInstanceUID != source.SeriesInstanceUID


def test_no_report_text_is_written(film, tmp_path):
    for write in WRITERS:
        write(explain(), film, tmp_path / "out.dcm")
        data = (tmp_path / "out.dcm").read_bytes().lower()
        assert b"enormous" not in data
        assert b"heart" not in data


@pytest.mark.parametrize(
    ("kind", "tags"),
    [
        ("MONOCHROME2", {"WindowCenter": ["2000", "40"], "WindowWidth": ["3000", "400"]}),
        ("MONOCHROME1", {"WindowCenter": "2000.5", "WindowWidth": "1500.25", "VOILUTFunction": "SIGMOID"}),
        (
            "MONOCHROME1",
            {"WindowCenter": "900", "WindowWidth": "1500", "RescaleSlope": "0.5", "RescaleIntercept": "-9"},
        ),
    ],
)
def test_presentation_state_shows_what_kmm_saw(tmp_path, kind, tags):
    film = write_film(tmp_path / "film.dcm", PhotometricInterpretation=kind, **tags)
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    state = pydicom.dcmread(tmp_path / "pr.dcm")
    values = apply_modality_lut(pydicom.dcmread(film).pixel_array, state)
    voi = state.SoftcopyVOILUTSequence[0]
    center, width = float(voi.WindowCenter), float(voi.WindowWidth)
    if voi.VOILUTFunction == "SIGMOID":
        gray = 255 / (1 + np.exp(-4 * (values - center) / width))
    else:
        gray = np.clip(((values - center + 0.5) / (width - 1) + 0.5) * 255, 0, 255)
    if state.PresentationLUTShape == "INVERSE":
        gray = 255 - gray
    assert np.allclose(gray, read_dicom(film), atol=1e-2)  # float32 there, float64 here
    assert state.PresentationLUTShape == ("INVERSE" if kind == "MONOCHROME1" else "IDENTITY")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_presentation_state_keeps_tables(tmp_path, syntax, vr):
    entries = (np.linspace(0, 1, 4096) ** 2 * 4095).astype(np.uint16)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 12])
    table.add_new("LUTData", vr, entries.tolist() if vr == "US" else entries.tobytes())
    table.LUTExplanation = "Chest"
    film = write_film(
        tmp_path / "film.dcm", syntax=syntax, VOILUTSequence=[table], WindowCenter="40", WindowWidth="400"
    )
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    state = pydicom.dcmread(tmp_path / "pr.dcm")
    (voi,) = state.SoftcopyVOILUTSequence
    assert "WindowCenter" not in voi
    voi.BitsStored, voi.BitsAllocated, voi.PixelRepresentation = 16, 16, 0
    shown = apply_voi(pydicom.dcmread(film).pixel_array, voi)
    assert np.allclose(shown * (255 / 65535), read_dicom(film), atol=1e-2)


def make_table(entries, bits, first=0):
    table = Dataset()
    table.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(entries) % 65536, first, bits])
    table.add_new("LUTData", "OW", np.asarray(entries, np.uint16).tobytes())
    return table


def show(state, film):
    """What a viewer shows of a film, 0 to 255, by the state alone: tables of 16 bits, windows of kind LINEAR."""
    values = apply_modality_lut(pydicom.dcmread(film).pixel_array, state).astype(float)
    if "SoftcopyVOILUTSequence" not in state:
        return values * (255 / 65535)
    (voi,) = state.SoftcopyVOILUTSequence
    center, width = float(voi.WindowCenter), float(voi.WindowWidth)
    return np.clip(((values - center + 0.5) / (width - 1) + 0.5) * 255, 0, 255)


@pytest.mark.parametrize("bits", [12, 16])
def test_a_modality_table_is_stretched_to_its_depth(tmp_path, bits):
    film = write_film(tmp_path / "film.dcm", ModalityLUTSequence=[make_table(np.arange(4096)[::-1], bits)])
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    state = pydicom.dcmread(tmp_path / "pr.dcm")
    assert np.allclose(show(state, film), (4095 - pydicom.dcmread(film).pixel_array) * (255 / 4095), atol=0.01)
    assert state.ModalityLUTSequence[0].ModalityLUTType == "US"
    assert list(state.ModalityLUTSequence[0].LUTDescriptor) == [4096, 0, 16]
    assert "SoftcopyVOILUTSequence" not in state


def test_a_window_follows_its_modality_table(tmp_path):
    tags = {"WindowCenter": "1000", "WindowWidth": "1500"}
    film = write_film(tmp_path / "film.dcm", ModalityLUTSequence=[make_table(np.arange(4096) // 2, 12)], **tags)
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    halves = pydicom.dcmread(film).pixel_array // 2
    expected = np.clip(((halves - 999.5) / 1499 + 0.5) * 255, 0, 255)
    assert np.allclose(show(pydicom.dcmread(tmp_path / "pr.dcm"), film), expected, atol=0.01)


def test_a_voi_table_declared_deeper_than_its_entries_is_shown_in_their_range(tmp_path):
    """Entries of 12 bits that are declared as 16: not a dark film, but 0 to 4095 spread over all levels."""
    film = write_film(tmp_path / "film.dcm", VOILUTSequence=[make_table(np.arange(4096), 16)])
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    (voi,) = pydicom.dcmread(tmp_path / "pr.dcm").SoftcopyVOILUTSequence[0].VOILUTSequence
    entries = np.frombuffer(voi.LUTData, "<u2")
    assert np.array_equal(entries, np.rint(np.arange(4096) * (65535 / 4095)))


def test_two_tables_become_one(tmp_path):
    film = write_film(
        tmp_path / "film.dcm",
        ModalityLUTSequence=[make_table(np.arange(4096)[::-1], 12)],
        VOILUTSequence=[make_table(np.arange(2048), 11, first=1000)],
        WindowCenter="40",
        WindowWidth="400",
    )
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    inner = np.clip(4095 - pydicom.dcmread(film).pixel_array.astype(int) - 1000, 0, 2047)
    assert np.allclose(show(pydicom.dcmread(tmp_path / "pr.dcm"), film), inner * (255 / 2047), atol=0.01)


def test_a_table_of_negative_values_keeps_its_first_one(tmp_path):
    tables = [make_table(np.arange(40_000), 16, first=-20_000)]
    film = write_film(tmp_path / "film.dcm", VOILUTSequence=tables, PixelRepresentation=1)
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    (voi,) = pydicom.dcmread(tmp_path / "pr.dcm").SoftcopyVOILUTSequence[0].VOILUTSequence
    assert voi["LUTDescriptor"].VR == "SS" and voi.LUTDescriptor[1:] == [-20_000, 16]
    assert voi.LUTDescriptor[0] % 65536 == 40_000


def test_tables_of_big_endian_films_are_read_in_their_order(tmp_path):
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 12])
    table.add_new("LUTData", "OW", np.arange(4096, dtype=">u2").tobytes())
    film = write_film(tmp_path / "film.dcm", syntax=ExplicitVRBigEndian, VOILUTSequence=[table])
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    (voi,) = pydicom.dcmread(tmp_path / "pr.dcm").SoftcopyVOILUTSequence[0].VOILUTSequence
    assert np.array_equal(np.frombuffer(voi.LUTData, "<u2"), np.rint(np.arange(4096) * (65535 / 4095)))


KINDS_OF_FILM = {
    "plain": {},
    "window": {"WindowCenter": ["2000", "40"], "WindowWidth": ["3000", "400"]},
    "inverted": {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": "0.5", "RescaleIntercept": "-9"},
    "VOI table": {"VOILUTSequence": [make_table(np.arange(4096), 12)]},
    "modality table": {"ModalityLUTSequence": [make_table(np.arange(4096), 12)], "WindowCenter": 9, "WindowWidth": 9},
    "stripped": {"drop": [*IDENTITY, *STUDY, "Modality"]},
    "another alphabet": {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Иванова^Анна"},
}


@pytest.mark.parametrize("kind", KINDS_OF_FILM)
def test_objects_are_valid(tmp_path, kind):
    """By `dciodvfy` of Debian's dicom3tools where it is installed; what it once missed is asserted by name as well."""
    film = write_film(tmp_path / "film.dcm", **KINDS_OF_FILM[kind])
    write_structured_report(explain(), film, tmp_path / "sr.dcm")
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    write_secondary_capture(np.zeros((21, 21, 3), np.uint8), film, tmp_path / "sc.dcm")
    for name in ("pr.dcm", "sc.dcm"):
        assert pydicom.dcmread(tmp_path / name).Laterality == ""
    state = pydicom.dcmread(tmp_path / "pr.dcm")
    tables = [*state.get("ModalityLUTSequence", ())]
    for voi in state.get("SoftcopyVOILUTSequence", ()):
        tables += voi.get("VOILUTSequence", ())
    assert [table.LUTDescriptor[2] for table in tables] == [16] * kind.endswith("table")
    if validator := shutil.which("dciodvfy"):
        for name in ("sr.dcm", "pr.dcm", "sc.dcm"):
            said = subprocess.run([validator, tmp_path / name], capture_output=True, text=True, check=False)
            assert "Error" not in said.stdout + said.stderr, (name, said.stderr)


def test_presentation_state_has_the_circles_of_the_report(film, tmp_path):
    write_presentation_state(explain(), film, tmp_path / "pr.dcm")
    write_structured_report(explain(), film, tmp_path / "sr.dcm")
    state, source = pydicom.dcmread(tmp_path / "pr.dcm"), pydicom.dcmread(film)
    groups = read_report(tmp_path / "sr.dcm").content.get_planar_roi_measurement_groups()
    assert state.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage
    (series,) = state.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    (annotation,) = state.GraphicAnnotationSequence
    assert len(annotation.GraphicObjectSequence) == 3
    (layer,) = state.GraphicLayerSequence
    color = highdicom.color.CIELabColor.from_dicom_value(layer.GraphicLayerRecommendedDisplayCIELabValue)
    assert np.allclose(color.to_rgb(), CIRCLE, atol=2)
    for circle, group in zip(annotation.GraphicObjectSequence, groups):
        assert (circle.GraphicType, circle.GraphicAnnotationUnits) == ("CIRCLE", "PIXEL")
        assert circle.GraphicData == group.roi.value.ravel().tolist()
        assert circle.TrackingUID == group.tracking_uid


def test_no_regions(film, tmp_path):
    write_structured_report(explain(regions=[]), film, tmp_path / "sr.dcm")
    write_presentation_state(explain(regions=[]), film, tmp_path / "pr.dcm")
    content = read_report(tmp_path / "sr.dcm").content
    assert content.get_planar_roi_measurement_groups() == []
    assert len(content.get_image_measurement_groups()) == 1
    (annotation,) = pydicom.dcmread(tmp_path / "pr.dcm").GraphicAnnotationSequence
    assert "GraphicObjectSequence" not in annotation and len(annotation.TextObjectSequence) == 1


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH, 3), (17, 33, 3)])  # an odd number of bytes too
def test_secondary_capture_is_the_picture(film, tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_secondary_capture(picture, film, tmp_path / "sc.dcm")
    capture, source = pydicom.dcmread(tmp_path / "sc.dcm"), pydicom.dcmread(film)
    assert capture.SOPClassUID == SecondaryCaptureImageStorage
    assert np.array_equal(capture.pixel_array, picture)
    assert capture.StudyInstanceUID == source.StudyInstanceUID
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert capture.PatientName == source.PatientName
    assert "LossyImageCompression" not in capture
    assert "not for diagnosis" in capture.SeriesDescription and capture.ImageComments.startswith("Not for diagnosis.")
    write_secondary_capture(picture, film, tmp_path / "sc.dcm", said="Something else.")
    assert pydicom.dcmread(tmp_path / "sc.dcm").ImageComments == "Something else."


def test_secondary_capture_of_a_lossy_film_is_lossy(tmp_path):
    film = write_film(tmp_path / "film.dcm", LossyImageCompression="01")
    write_secondary_capture(np.zeros((20, 20, 3), np.uint8), film, tmp_path / "sc.dcm")
    assert pydicom.dcmread(tmp_path / "sc.dcm").LossyImageCompression == "01"


@pytest.mark.parametrize(
    "picture", [np.zeros((20, 20), np.uint8), np.zeros((20, 20, 3)), np.zeros((0, 20, 3), np.uint8)]
)
def test_secondary_capture_wants_rgb(film, tmp_path, picture):
    with pytest.raises(InputError, match="must be uint8"):
        write_secondary_capture(picture, film, tmp_path / "sc.dcm")


def test_same_explanation_same_uids(film, tmp_path):
    for write in WRITERS:
        uids = []
        for number, weight in enumerate((0.5, 0.5, 0.4)):
            path = tmp_path / f"{number}.dcm"
            write(explain(regions=[dataclasses.replace(REGIONS[0], weight=weight)]), film, path)
            uids.append(pydicom.dcmread(path).SOPInstanceUID)
        assert uids[0] == uids[1] != uids[2]
        assert len({pydicom.dcmread(tmp_path / f"{number}.dcm").SeriesInstanceUID for number in range(3)}) == 1


def test_film_without_patient(tmp_path):
    film = write_film(tmp_path / "film.dcm", drop=[*IDENTITY, *STUDY, "Modality"])
    for write in WRITERS:
        write(explain(), film, tmp_path / "out.dcm")
        written = pydicom.dcmread(tmp_path / "out.dcm")
        for keyword in (*IDENTITY, *STUDY, "ReferringPhysicianName"):
            assert keyword in written
            assert not written[keyword].value


def test_invalid_values_are_left_empty(tmp_path, caplog):
    caplog.set_level("INFO", "pydicom")
    wrong = {
        "PatientName": "anonymous",
        "PatientID": "x" * 65,
        "PatientBirthDate": "1950",
        "PatientSex": "W",
        "StudyDate": "20200101-20210101",
        "StudyTime": "12:30",
        "AccessionNumber": "1234567890abcdefg",
        "ReferringPhysicianName": "Doctor^",
        "PatientAge": "62",
        "WindowCenter": "",
        "WindowWidth": "0",
    }
    film = write_film(tmp_path / "film.dcm", **wrong)
    pictures = np.zeros((20, 20, 3), np.uint8)
    for write, what in (*((write, explain()) for write in WRITERS), (write_secondary_capture, pictures)):
        write(what, film, tmp_path / "out.dcm")
        assert "xxxx" not in caplog.text
        assert "anonymous" not in caplog.text
        written = pydicom.dcmread(tmp_path / "out.dcm")
        assert written.PatientName == "anonymous"
        assert written.ReferringPhysicianName == "Doctor"
        for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"):
            assert not written[keyword].value
        assert "PatientAge" not in written


@pytest.mark.parametrize(
    ("alphabet", "name"),
    [
        ("ISO_IR 144", "Иванова^Анна"),
        ("ISO_IR 100", "Müller^Jürgen"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_names_in_other_alphabets(tmp_path, alphabet, name):
    film = write_film(tmp_path / "film.dcm", SpecificCharacterSet=alphabet, PatientName=name)
    for write in WRITERS:
        write(explain(target="сердце", probabilities={"сердце": 0.5}), film, tmp_path / "out.dcm")
        assert pydicom.dcmread(tmp_path / "out.dcm").PatientName == name


def test_long_and_odd_labels(film, tmp_path):
    label = "Opacity\\lung\n" + "base " * 20
    explanation = explain(target=label, probabilities={label: 0.5})
    write_structured_report(explanation, film, tmp_path / "sr.dcm")
    write_presentation_state(explanation, film, tmp_path / "pr.dcm")
    content = read_report(tmp_path / "sr.dcm").content
    finding = content.get_image_measurement_groups()[0].finding_type
    whole = "Opacity/lung " + "base " * 20
    assert finding.meaning == finding.value == whole[:49].strip() + " (no threshold)"
    circle = content.get_planar_roi_measurement_groups()[0].finding_type.meaning
    assert circle == f"Attribution for {whole[:33].strip()} (no threshold)"
    assert pydicom.dcmread(tmp_path / "pr.dcm").ContentDescription == circle and len(circle) <= 64


@pytest.mark.parametrize("keyword", UIDS)
def test_film_without_uids_carries_only_a_picture(tmp_path, keyword):
    film = write_film(tmp_path / "film.dcm", drop=[keyword])
    for write in WRITERS:
        with pytest.raises(ImageError, match=rf"film.dcm: expected valid UIDs. Missing: {keyword}.$"):
            write(explain(), film, tmp_path / "out.dcm")
    write_secondary_capture(np.zeros((20, 20, 3), np.uint8), film, tmp_path / "sc.dcm")
    capture = pydicom.dcmread(tmp_path / "sc.dcm")
    assert capture.StudyInstanceUID.is_valid
    assert "SourceImageSequence" not in capture
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.dcm", "sc.dcm"]


def test_invalid_uid(tmp_path):
    film = write_film(tmp_path / "film.dcm", StudyInstanceUID="anonymous")
    with pytest.raises(ImageError, match="Missing: StudyInstanceUID"):
        write_structured_report(explain(), film, tmp_path / "sr.dcm")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"NumberOfFrames": 3}, "expected one frame. Received: 3 frames"),
        ({"PhotometricInterpretation": "RGB"}, "expected a gray film"),
        ({"SamplesPerPixel": 3}, "expected a gray film"),
        ({"Rows": 0}, "It has no pixels"),
    ],
)
def test_what_is_no_film_is_refused(tmp_path, tags, message):
    film = write_film(tmp_path / "film.dcm", **tags)
    for write in (*WRITERS, write_secondary_capture):
        what = np.zeros((20, 20, 3), np.uint8) if write is write_secondary_capture else explain()
        with pytest.raises(ImageError, match=message):
            write(what, film, tmp_path / "out.dcm")


def test_private_sop_class_is_refused(tmp_path):
    film = write_film(tmp_path / "film.dcm", SOPClassUID="1.2.3.4")
    for write in WRITERS:
        with pytest.raises(ImageError, match=r"expected a SOP class of the standard. Received: 1.2.3.4\."):
            write(explain(), film, tmp_path / "out.dcm")


def test_another_film_is_refused(film, tmp_path):
    for write in WRITERS:
        with pytest.raises(ImageError, match=r"expected the film that was explained, 30x20\. Received: 45x60"):
            write(explain(film=np.zeros((20, 30), np.uint8)), film, tmp_path / "out.dcm")


def test_broken_files_are_refused(film, tmp_path):
    (tmp_path / "notes.txt").write_text("no film", encoding="utf-8")
    (tmp_path / "cut.dcm").write_bytes(film.read_bytes()[:400])
    (tmp_path / "deflated.dcm").write_bytes(
        film.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    )
    for name in ("notes.txt", "cut.dcm", "deflated.dcm", "absent.dcm"):
        with pytest.raises(ImageError, match=rf"{name}: expected") as caught:
            write_structured_report(explain(), tmp_path / name, tmp_path / "sr.dcm")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "sr.dcm").exists()


def test_nothing_half_written(film, tmp_path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        write_structured_report(explain(), film, tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.dcm", "taken"]


def test_is_dicom(film, tmp_path):
    (tmp_path / "film.png").write_bytes(b"\x89PNG")
    assert is_dicom(film)
    assert not is_dicom(tmp_path / "film.png")
    assert not is_dicom(tmp_path / "absent.dcm")
    assert not is_dicom(tmp_path)


def test_missing_package_is_named(film, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    for write in (*WRITERS, write_secondary_capture):
        what = np.zeros((20, 20, 3), np.uint8) if write is write_secondary_capture else explain()
        with pytest.raises(MissingPackageError, match=r'pip install "kmm\[dicom\]"'):
            write(what, film, tmp_path / "out.dcm")
