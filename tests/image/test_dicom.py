import io

import numpy as np
import PIL.Image
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_voi_lut
from pydicom.uid import (
    MPEG4HP41,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from kmm.errors import ImageError
from kmm.image.dicom import read_dicom
from kmm.image.read import decode_image, is_blank, read_image
from tests.image import jpegs


def make_film(height=40, width=50, top=4095):
    """Stored values 0..top, rising from the left to the right, with a little texture."""
    ramp = np.linspace(0, top, width)[None] + np.random.default_rng(0).normal(0, top / 50, (height, width))
    return np.clip(ramp, 0, top).astype(np.uint16)


def make_dataset(stored, **tags):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["kmm"])
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * stored.itemsize
    dataset.BitsStored = 12 if stored.itemsize == 2 else 8
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.HighBit = tags.get("HighBit", dataset.BitsStored - 1)
    dataset["PixelData"].VR = "OW"
    return dataset


def encode(dataset):
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def read(stored, **tags):
    return read_dicom(encode(make_dataset(stored, **tags)), name="film.dcm")


def compress(stored, syntax, data, **tags):
    dataset = make_dataset(stored, **tags)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([data])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return encode(dataset)


def make_table(entries, first, bits, data):
    table = Dataset()
    table.LUTDescriptor = [entries, first, bits]
    table.LUTData = list(data)
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    return table


def test_without_window_the_percentiles_are_stretched():
    film = make_film()
    low, high = np.percentile(film, (0.5, 99.5))
    image = read(film)
    assert image.dtype == np.float32 and image.shape == film.shape
    np.testing.assert_allclose(image, np.clip((film - low) / (high - low), 0, 1) * 255, atol=1e-3)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("center, width", [(2048, 4096), (1500.5, 700), (3000, 301)])
def test_window_equals_pydicom(function, center, width):
    film = make_film()
    dataset = make_dataset(film, WindowCenter=center, WindowWidth=width)
    if function:
        dataset.VOILUTFunction = function
    expected = apply_voi_lut(film, dataset) / 4095 * 255
    np.testing.assert_allclose(read_dicom(encode(dataset)), expected, atol=2e-3)


def test_first_of_several_windows_counts():
    film = make_film()
    first = read(film, WindowCenter=1000, WindowWidth=2000)
    assert (read(film, WindowCenter=[1000, 3000], WindowWidth=[2000, 100]) == first).all()


def test_window_applies_to_rescaled_values():
    film = make_film()
    rescaled = read(film, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=3900, WindowWidth=8001)
    np.testing.assert_allclose(rescaled, read(film, WindowCenter=2000.25, WindowWidth=4001), atol=0.02)


@pytest.mark.parametrize("tags", [
    {"WindowCenter": 40, "WindowWidth": 400, "BitsStored": 15},  # a CT default on a radiograph: all white
    {"WindowCenter": 9000, "WindowWidth": 100},
    {"WindowCenter": 2000, "WindowWidth": 0},
    {"WindowCenter": 2000},
    {"WindowCenter": None, "WindowWidth": None},
])  # fmt: skip
def test_useless_window_falls_back_to_percentiles(tags):
    film = make_film() * 7 if "BitsStored" in tags else make_film()
    assert (read(film, **tags) == read(film, **{k: v for k, v in tags.items() if k == "BitsStored"})).all()


@pytest.mark.parametrize("tags", [
    {"PhotometricInterpretation": "MONOCHROME1"},
    {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    {"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "INVERSE"},
    {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
])  # fmt: skip
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1000, "WindowWidth": 1500}])
def test_inversion_happens_once_and_after_the_window(tags, window):
    film = make_film()
    np.testing.assert_allclose(read(film, **tags, **window), 255 - read(film, **window), atol=1e-4)


def test_identity_shape_changes_nothing():
    film = make_film()
    assert (read(film, PresentationLUTShape="IDENTITY") == read(film)).all()


def test_modality_table_is_applied_before_the_window():
    film = make_film()
    table = make_table(4096, 0, 16, (np.arange(4096) * 10))
    image = read(film, ModalityLUTSequence=[table], WindowCenter=20480, WindowWidth=40960)
    np.testing.assert_allclose(image, film * 10 / 40959 * 255, atol=0.01)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_voi_table_wins_over_the_window(bits):
    film = make_film()
    curve = np.round((np.arange(4000) / 3999) ** 2 * (2**bits - 1)).astype(int)
    image = read(film, VOILUTSequence=[make_table(4000, 50, bits, curve)], WindowCenter=9, WindowWidth=9)
    expected = curve[np.clip(film.astype(int) - 50, 0, 3999)] / (2**bits - 1) * 255
    np.testing.assert_allclose(image, expected, atol=1e-3)


def test_voi_table_equals_pydicom():
    film = make_film()
    dataset = make_dataset(film, VOILUTSequence=[make_table(4096, 0, 12, np.arange(4096)[::-1])])
    expected = apply_voi_lut(film, dataset) / 4095 * 255
    np.testing.assert_allclose(read_dicom(encode(dataset)), expected, atol=1e-3)


def test_bits_that_are_not_stored_are_dropped():
    film = make_film()
    with_overlay = film.copy()
    with_overlay[5:20, 5:20] |= 0x8000
    assert (read(with_overlay) == read(film)).all()


def test_signed_values_keep_their_sign():
    film = make_film().astype(np.int16) - 2048
    unsigned_bits = (film & 0x0FFF).astype(np.int16)  # 12 bits, two's complement, not extended
    assert (read(unsigned_bits) == read(film)).all()
    np.testing.assert_allclose(read(film), read(make_film()), atol=1e-3)


@pytest.mark.parametrize("padding", [4095, 0])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_left_out_of_the_percentiles_and_becomes_black(padding, kind):
    film = make_film(top=1000) + 500
    padded = np.full((60, 50), padding, np.uint16)
    padded[10:50] = film
    image = read(padded, PixelPaddingValue=padding, PhotometricInterpretation=kind)
    assert not image[:10].any() and not image[50:].any()
    assert (image[10:50] == read(film, PhotometricInterpretation=kind)).all()


def test_padding_range_and_nothing_but_padding():
    film = make_film() // 2 + 100
    film[:5], film[5:9] = 0, 60
    image = read(film, PixelPaddingValue=0, PixelPaddingRangeLimit=60)
    assert not image[:9].any()
    assert (image[9:] == read(film[9:])).all()
    assert not read(np.full((20, 20), 7, np.uint16), PixelPaddingValue=7).any()


def test_constant_film_is_blank():
    assert is_blank(read(np.full((20, 20), 7, np.uint16)))


def test_rle_equals_uncompressed():
    dataset = make_dataset(make_film())
    expected = read_dicom(encode(dataset))
    dataset.compress(RLELossless)
    assert (read_dicom(encode(dataset)) == expected).all()


def test_lossless_jpeg_2000_equals_uncompressed():
    film = make_film()
    codestream = io.BytesIO()
    PIL.Image.fromarray(film).save(codestream, "JPEG2000", no_jp2=True, irreversible=False)
    assert (read_dicom(compress(film, JPEG2000Lossless, codestream.getvalue(), BitsStored=16)) == read(film)).all()


def test_jpeg_is_near():
    film = (make_film() >> 4).astype(np.uint8)
    codestream = io.BytesIO()
    PIL.Image.fromarray(film).save(codestream, "JPEG", quality=98)
    image = read_dicom(compress(film, JPEGBaseline8Bit, codestream.getvalue()))
    assert abs(image - read(film)).mean() < 2  # the loss of quality 98


def test_a_jpeg_frame_with_a_hole_or_of_another_size_is_refused():
    data = jpegs.WHOLE["gray"]
    assert read_dicom(compress(jpegs.GRAY, JPEGBaseline8Bit, data)).shape == jpegs.GRAY.shape
    for broken in (jpegs.cut_hole(data), jpegs.end_early(data)):
        with pytest.raises(ImageError, match=r"^film.dcm: expected a complete JPEG image\. The file is truncated"):
            read_dicom(compress(jpegs.GRAY, JPEGBaseline8Bit, broken), name="film.dcm")
    with pytest.raises(ImageError, match=r"JPEG frame of 100x200 pixels.*Received: 168x200"):
        read_dicom(compress(jpegs.GRAY[:, :100], JPEGBaseline8Bit, data), name="film.dcm")


@pytest.mark.parametrize("syntax, package", [(JPEGLosslessSV1, "pylibjpeg-libjpeg"), (JPEGLSLossless, "pyjpegls")])
def test_missing_decoder_is_named(syntax, package):
    if pydicom.pixels.get_decoder(syntax).is_available:
        pytest.skip(f"a decoder for {syntax.name} is installed")
    with pytest.raises(ImageError, match=rf"film.dcm: no decoder for .*{syntax}.*pip install .*{package}"):
        read_dicom(compress(make_film(), syntax, b"frame"), name="film.dcm")


def make_refused():
    film, colour = make_film(), np.zeros((40, 50, 3), np.uint8)
    without_pixels, report = make_dataset(film), make_dataset(film)
    del without_pixels.PixelData, report.PixelData, report.Rows, report.Columns
    deflated = make_dataset(film)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = encode(make_dataset(film))
    return {
        "no pixel data": (encode(without_pixels), "It has no pixel data"),
        "report": (encode(report), "It has no pixels"),
        "frames": (encode(make_dataset(np.stack([film] * 3), NumberOfFrames=3)), "Received: 3 frames"),
        "colour": (
            encode(make_dataset(colour[..., 0], PhotometricInterpretation="RGB", SamplesPerPixel=3)),
            r"colour \(RGB\)",
        ),
        "palette": (encode(make_dataset(film, PhotometricInterpretation="PALETTE COLOR")), r"colour \(PALETTE COLOR\)"),
        "bomb": (encode(make_dataset(film, Rows=20_000, Columns=20_000)), "at most 50000000 pixels"),
        "dot": (encode(make_dataset(film, Rows=1, Columns=1)), "at least 16x16"),
        "bits": (encode(make_dataset(film, BitsAllocated=32, BitsStored=32)), "8 or 16 bits allocated. Received: 32"),
        "high bit": (encode(make_dataset(film << 4, HighBit=15)), "HighBit to be BitsStored - 1. Received: 15"),
        "deflated": (encode(deflated), "not deflated"),
        "video": (compress(film, MPEG4HP41, b"frame"), "no decoder for the transfer syntax"),
        "cut": (whole[:-500], "truncated, damaged"),
        "cut header": (whole[:200], "DICOM"),
        "text": (b"no film, only words", "does not start with a DICOM header"),
        "damaged jpeg": (compress(film, JPEG2000Lossless, b"\xff\x4f\xff\x51no codestream"), "truncated, damaged"),
    }


REFUSED = make_refused()


@pytest.mark.parametrize("case", REFUSED)
def test_bad_file_gets_one_line_with_its_name_and_nothing_is_printed(case, tmp_path, capfd):
    data, reason = REFUSED[case]
    path = tmp_path / "film.dcm"
    path.write_bytes(data)
    for read_file in (read_image, read_dicom):
        with pytest.raises(ImageError, match=reason) as caught:
            read_file(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_odd_header_does_not_warn():
    dataset = make_dataset(make_film())
    with pydicom.config.disable_value_validation():
        dataset.StudyDate = "yesterday"
        dataset.WindowCenter, dataset.WindowWidth = "2048.000000000000000000", "4096"
        data = encode(dataset)
    assert (read_dicom(data) == read(make_film(), WindowCenter=2048, WindowWidth=4096)).all()


def test_dicom_is_known_by_its_content(tmp_path):
    data = encode(make_dataset(make_film()))
    path = tmp_path / "film"
    path.write_bytes(data)
    expected = read_dicom(data)
    for image in (read_image(path), read_dicom(path), decode_image(data, "film.png")):
        assert (image == expected).all()
    with pytest.raises(ImageError, match="expected a readable file"):
        read_dicom(tmp_path / "absent.dcm")


DATA = encode(make_dataset(make_film(20, 20), WindowCenter=2000, WindowWidth=3000, PixelPaddingValue=0))


@settings(max_examples=150)
@given(length=st.integers(132, len(DATA)), data=st.data())
def test_damage_anywhere_gives_an_image_or_an_image_error(length, data):
    damaged = bytearray(DATA[:length])
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, min(700, length - 1)))] = data.draw(st.integers(0, 255))
    try:
        image = read_dicom(bytes(damaged), name="film.dcm")
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 2 and image.dtype == np.float32 and image.min() >= 0 and image.max() <= 255.001
