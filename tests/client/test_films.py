"""Films as they are sent, read back by kmm's own definition of gray, which a served classifier repeats."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from kmm.client.films import encode_film, encode_report, read_drawable
from kmm.client.studies import Studies
from kmm.data.study import ImageFile, Report, Study
from kmm.errors import ImageError, ReportError
from kmm.image.prepare import ImagePreparation
from kmm.image.read import decode_image, read_image
from tests.factories import jpegs
from tests.factories.dicom import encode, make_dataset, make_film

SIDES = st.tuples(st.integers(16, 24), st.integers(16, 24))


def read_back(film):
    return decode_image(encode_film(film), "film")


@settings(max_examples=40)
@given(film=hnp.arrays(np.float32, SIDES, elements=st.floats(0, 255, width=32)))
def test_levels_arrive_within_the_bound(film):
    assert np.abs(read_back(film) - film).max() <= 0.5
    film[0, 0], film[0, 1] = 0, 255
    assert np.abs(read_back(film) - film).max() <= 1 / 514 + 1e-4


HALVES = st.integers(0, 509).map(lambda twice: np.float32(twice / 2)) | st.floats(0, 255, width=32)


@pytest.mark.large
@settings(max_examples=40)
@given(film=hnp.arrays(np.float32, SIDES, elements=HALVES), fractional=st.booleans())
def test_a_preparation_that_rounds_gives_the_same_square_of_what_is_sent(film, fractional):
    """Of 8 bits or of 16: a level that is sent is on the same side of the next half, and halves go to even numbers."""
    if fractional:
        film[0, :3] = 0, 255, 100.5
    sent = read_back(film)
    assert np.array_equal(np.rint(sent), np.rint(film))
    preparation = ImagePreparation(16)
    assert np.array_equal(preparation.apply(sent), preparation.apply(film))


@settings(max_examples=20)
@given(film=hnp.arrays(np.uint8, SIDES))
def test_whole_levels_arrive_exactly(film):
    assert np.array_equal(read_back(film), film)
    assert np.array_equal(read_back(film.astype(np.float64)), film)


def test_colour_and_16_bits_are_read_as_files_of_them(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    assert np.array_equal(read_back(rgb), read_image(tmp_path / "rgb.png"))
    deep = np.random.default_rng(0).integers(900, 4000, (20, 30), np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(read_back(deep), read_image(tmp_path / "deep.png"))


def test_objects_arrive_as_the_classifier_reads_them(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    assert encode_film(pixels[..., None]) == encode_film(pixels)
    assert np.array_equal(read_back(Image.fromarray(pixels)), pixels)
    dataset = make_dataset(make_film())
    (tmp_path / "film.dcm").write_bytes(encode(dataset))
    assert encode_film(dataset) == encode_film(tmp_path / "film.dcm")
    study = Study("7", "7", (ImageFile(Path("7 (in memory)"), "frontal", memory=pixels),))
    assert Studies(study, None).rows == [(pixels, None)] and Studies([study, None], None).ids == ["7", "1"]


def test_png_and_jpeg_go_as_they_are_and_others_as_png(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    for suffix in ("png", "jpg"):
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
        data = (tmp_path / f"a.{suffix}").read_bytes()
        assert encode_film(tmp_path / f"a.{suffix}") == encode_film(str(tmp_path / f"a.{suffix}")) == data
        assert encode_film(data) == encode_film(bytearray(data)) == data
    for suffix in ("tif", "bmp"):
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
        assert encode_film(tmp_path / f"a.{suffix}").startswith(b"\x89PNG")
        assert np.array_equal(read_back(tmp_path / f"a.{suffix}"), pixels)


@pytest.mark.parametrize("name", ["gray", "progressive"])
def test_a_jpeg_with_a_hole_is_not_sent(name, tmp_path):
    assert encode_film(jpegs.WHOLE[name]) == jpegs.WHOLE[name]
    (tmp_path / "a.jpg").write_bytes(jpegs.cut_hole(jpegs.WHOLE[name]))
    with pytest.raises(ImageError, match=r"a.jpg: expected a complete JPEG image\. The file is truncated or damaged"):
        encode_film(tmp_path / "a.jpg")


def test_dicom(tmp_path):
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    stored = np.random.default_rng(0).integers(0, 4096, (20, 30), np.uint16)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 20, 30, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.PixelData = stored.tobytes()
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.abs(read_back(tmp_path / "a.dcm") - read_image(tmp_path / "a.dcm")).max() <= 1 / 514 + 1e-4
    prepared = (ImagePreparation(16).apply(read(tmp_path / "a.dcm")) for read in (read_back, read_image))
    assert np.array_equal(*prepared)
    assert read_drawable(tmp_path / "a.dcm").dtype == np.uint8


@pytest.mark.parametrize(
    "film",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4), bool),
        np.full((4, 4), np.nan),
        np.full((4, 4), 256.0),
        np.full((4, 4), -1.0),
        b"",
        b"hello",
        "no\0name",
        "gone.png",
        7,
    ],
    ids=str,
)
def test_what_is_no_film(film):
    with pytest.raises(ImageError) as error:
        encode_film(film)
    assert "\n" not in str(error.value)


def test_films_to_draw_on(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for film in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), pixels, pixels.astype(np.float32)):
        assert np.array_equal(read_drawable(film), pixels)
    rgb = np.stack([pixels] * 3, axis=2)
    assert read_drawable(rgb) is rgb


def test_a_folder_and_a_huge_file_are_no_films(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="cannot be read"):
        encode_film(tmp_path)
    monkeypatch.setattr("kmm.client.films.MAX_FILE_BYTES", 3)
    (tmp_path / "a.png").write_bytes(b"1234")
    with pytest.raises(ImageError, match=r"at most 3 bytes\. Received: 4"):
        encode_film(tmp_path / "a.png")


def test_reports():
    report = Report(findings="Clear.", impression="Löffel.")
    assert encode_report(report, ("impression", "findings")) == "Löffel. Clear.".encode()
    assert encode_report(Study("1", "1", report=report), ("findings",)) == b"Clear."
    assert encode_report(Study("1", "1")) == b""
    with pytest.raises(ReportError, match="character 6 is invalid") as error:
        encode_report("secret\ud800")
    assert "secret" not in str(error.value)
