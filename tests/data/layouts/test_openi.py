import io
import tarfile

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset

from kmm.data.collection import read_collection
from kmm.data.layouts.openi import parse_report, read_openi
from kmm.data.study import Report
from kmm.errors import InputError, ReportError

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{n}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">Löwe &amp; cough &lt; 2 weeks</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION"/>
</Abstract></Article></MedlineCitation>
<MeSH><major>Opacity/lung/base/right</major><major>Technical Quality of Image Unsatisfactory </major>
<automatic>opacity</automatic></MeSH>{images}</eCitation>"""
BOMB = b'<!DOCTYPE e [<!ENTITY a "aaaa">]><eCitation><uId id="CXR1"/><major>&a;</major></eCitation>'


def make_xml(n, *image_ids, findings="Clear."):
    images = "".join(f'<parentImage id="{image_id}"><caption>PA</caption></parentImage>' for image_id in image_ids)
    return XML.format(n=n, findings=findings, images=images).encode()


def write_archive(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for member, data in members:
            member = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_folder(folder, reports):
    folder.mkdir(parents=True)
    for name, data in reports.items():
        (folder / name).write_bytes(data)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


REPORTS = {
    "1.xml": make_xml(1, "CXR1_1_IM-0001-4001", "CXR1_1_IM-0001-3001"),
    "2.xml": make_xml(2, "CXR2_IM-0652-1001"),
    "10.xml": make_xml(10, findings=""),
}


def test_sections_mesh_and_ids():
    study, image_ids = parse_report(REPORTS["1.xml"])
    assert (study.id, study.patient) == ("1", "1")
    assert study.report == Report("Löwe & cough < 2 weeks", "None.", "Clear.", "")
    assert study.mesh_major == ("Opacity/lung/base/right", "Technical Quality of Image Unsatisfactory")
    assert study.mesh_automatic == ("opacity",)
    assert image_ids == ("1_IM-0001-4001", "1_IM-0001-3001")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BOMB, "declares XML entities"),
        (
            b'<!DOCTYPE e SYSTEM "file:///etc/hostname"><eCitation><uId id="CXR1"/>&e;</eCitation>',
            "not well-formed|refused",
        ),
        (REPORTS["1.xml"][:200], "not well-formed"),
        (b"", "not well-formed"),
        (b'<?xml version="1.0" encoding="klingon"?><eCitation/>', "not well-formed"),
        ("<eCitation>Löwe</eCitation>".encode("latin-1"), "not well-formed"),
        (b'<other><uId id="CXR1"/></other>', "expected an <eCitation>"),
        (b"<eCitation/>", "expected an <eCitation>"),
        (b'<eCitation><uId id="CXR../../x"/></eCitation>', "expected an <eCitation>"),
    ],
)
def test_a_bad_report_is_refused_with_the_reason(data, reason):
    with pytest.raises(ReportError, match=reason) as error:
        parse_report(data)
    assert "\n" not in str(error.value) and "Clear" not in str(error.value)


@pytest.mark.parametrize("place", ["NLMCXR_reports.tgz", "ecgen-radiology", "ecgen/ecgen-radiology"])
def test_all_places_of_reports_say_the_same(tmp_path, place):
    if place.endswith(".tgz"):
        write_archive(tmp_path / place, [(f"ecgen-radiology/{name}", data) for name, data in REPORTS.items()])
    else:
        write_folder(tmp_path / place, REPORTS)
    collection = read_openi(tmp_path)
    assert [study.id for study in collection.studies] == ["1", "2", "10"]
    assert collection.studies[0] == parse_report(REPORTS["1.xml"])[0]
    assert collection.problems == () and collection.layout == f"Open-i original ({place}, no films)"


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("NLMCXR_png", ["CXR1_1_IM-0001-3001.png", "CXR1_1_IM-0001-4001.png", "CXR2_IM-0652-1001.png"]),
        ("images", ["1_IM-0001-3001.dcm.jpg", "1_IM-0001-4001.dcm.png", "2_IM-0652-1001.png"]),
        ("images", ["CXR1_IM-0001-3001.jpg", "1_IM-0001-4001.JPEG", "2_IM-0652-1001.tif"]),
    ],
)
def test_films_are_found_whatever_their_names(tmp_path, folder, names):
    write_folder(tmp_path / "ecgen-radiology", REPORTS)
    touch(tmp_path / folder, *names, "Thumbs.db", ".DS_Store")
    collection = read_openi(tmp_path)
    one, two, ten = collection.studies
    assert [image.path for image in (*one.images, *two.images)] == [tmp_path / folder / name for name in names]
    assert ten.images == () and collection.problems == () and f"films in {folder}" in collection.layout


@pytest.mark.parametrize("others", [[], ["2_IM-0652-1001.dcm"], ["7_IM-0652-1001.dcm", "8_IM-0652-1001.dcm"]])
def test_the_folder_with_most_of_the_named_films_is_read(tmp_path, others):
    write_folder(tmp_path / "ecgen-radiology", REPORTS)
    (tmp_path / "NLMCXR_dcm").mkdir()
    touch(tmp_path / "NLMCXR_dcm", *others)
    touch(tmp_path / "NLMCXR_png", "CXR1_1_IM-0001-4001.png", "CXR2_IM-0652-1001.png")
    collection = read_openi(tmp_path)
    assert "films in NLMCXR_png" in collection.layout and collection.problems == ()
    assert collection.studies[1].images[0].path == tmp_path / "NLMCXR_png" / "CXR2_IM-0652-1001.png"


def write_dicom(path, **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.3"
    for name, value in tags.items():
        setattr(header, name, value)
    header.save_as(path, enforce_file_format=True)


def test_dicom_films_bring_their_tags(tmp_path):
    write_folder(tmp_path / "ecgen-radiology", REPORTS)
    films = tmp_path / "NLMCXR_dcm"
    write_dicom(films / "1/1_IM-0001-3001.dcm", ViewPosition="LL", PatientOrientation=["A", "F"])
    write_dicom(films / "1/1_IM-0001-4001.dcm", ViewPosition="PA")
    touch(films, "2/2_IM-0652-1001.dcm", "2/2_piiRemoved_1.tar.gz")
    collection = read_collection(tmp_path)
    assert [dict(image.tags) for image in collection.studies[0].images] == [
        {"view_position": "LL", "patient_orientation": "A\\F"},
        {"view_position": "PA"},
    ]
    assert collection.studies[1].images[0].tags == {}
    assert [str(problem) for problem in collection.problems] == ["2_IM-0652-1001.dcm: the DICOM header cannot be read"]


def test_bad_reports_among_good_ones_are_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr("kmm.data.layouts.openi.MAX_XML_BYTES", 5000)
    bad = {"3.xml": BOMB, "4.xml": b"<broken", "5.xml": make_xml(5, findings="x" * 5000), "6.xml": make_xml(1)}
    write_folder(tmp_path / "ecgen-radiology", REPORTS | bad)
    (tmp_path / "ecgen-radiology/7.xml").mkdir()
    (tmp_path / "8.xml").write_bytes(make_xml(8))
    (tmp_path / "ecgen-radiology/8.xml").symlink_to(tmp_path / "8.xml")
    collection = read_openi(tmp_path)
    assert [study.id for study in collection.studies] == ["1", "2", "10"]
    assert [problem.source for problem in collection.problems] == [f"{n}.xml" for n in range(3, 9)]
    reasons = " | ".join(problem.reason for problem in collection.problems)
    for words in ("entities", "not well-formed", "at most 5,000 bytes", "earlier file", "plain file inside the folder"):
        assert words in reasons


def test_only_plain_xml_members_of_an_archive_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("kmm.data.layouts.openi.MAX_XML_BYTES", 5000)
    link, device = tarfile.TarInfo("ecgen-radiology/5.xml"), tarfile.TarInfo("ecgen-radiology/6.xml")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/hostname", tarfile.CHRTYPE
    members = [(link, b""), (device, b""), ("../../evil.xml", make_xml(2)), ("/7.txt", b"x"), ("a\n.xml", b"<broken")]
    write_archive(tmp_path / "NLMCXR_reports.tgz", [*members, ("3.xml", make_xml(3, findings="x" * 5000))])
    before = sorted(tmp_path.rglob("*"))
    collection = read_openi(tmp_path)
    assert [study.id for study in collection.studies] == ["2"]
    assert [problem.source for problem in collection.problems] == ["a?.xml", "3.xml"]
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kmm.data.layouts.openi.MAX_ARCHIVE_BYTES", 100_000)
    write_archive(tmp_path / "NLMCXR_reports.tgz", [("1.xml", REPORTS["1.xml"]), ("zeros.bin", bytes(1_000_000))])
    with pytest.raises(InputError, match=r"NLMCXR_reports\.tgz: the archive unpacks to more than 100,000 bytes"):
        read_openi(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-200], lambda data: b"text", lambda data: b"", lambda data: data[::-1]]
)
def test_a_damaged_archive_is_refused(tmp_path, damage):
    path = tmp_path / "NLMCXR_reports.tgz"
    write_archive(path, [(name, data) for name, data in REPORTS.items()])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"NLMCXR_reports\.tgz: expected a whole \.tgz"):
        read_openi(tmp_path)


def test_a_link_out_of_the_films_and_a_second_file_of_one_film_are_set_aside(tmp_path):
    write_folder(tmp_path / "ecgen-radiology", REPORTS)
    touch(tmp_path, "secret.png", "images/1_IM-0001-3001.png", "images/CXR1_1_IM-0001-3001.png")
    (tmp_path / "images/2_IM-0652-1001.png").symlink_to(tmp_path / "secret.png")
    collection = read_openi(tmp_path)
    assert {problem.source: problem.reason for problem in collection.problems} == {
        "2_IM-0652-1001.png": "the file is a link that leads out of the folder",
        "CXR1_1_IM-0001-3001.png": "another file has the image with this id",
    }
    assert not collection.studies[1].images[0].path.exists()


def test_a_folder_without_reports(tmp_path):
    with pytest.raises(InputError, match=r"expected reports in one of NLMCXR_reports\.tgz"):
        read_openi(tmp_path)


@pytest.mark.large
@pytest.mark.openi
def test_the_real_archive_is_read_whole(openi_folder):
    collection = read_openi(openi_folder)
    assert collection.problems == () and len(collection.studies) > 2000
    assert all(study.mesh_major for study in collection.studies)
    for study in collection.studies:
        assert all(image.path.name.startswith(f"{study.id}_IM-") for image in study.images)
    assert sum("normal" in study.mesh_major for study in collection.studies) == sum(
        study.mesh_major == ("normal",) and not study.mesh_automatic for study in collection.studies
    )
