import io
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_voi_lut
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from kmm.errors import ImageError
from kmm.image.dicom import read_dicom
from kmm.image.read import decode_image, is_blank, read_image
from tests.factories import jpegs
from tests.factories.dicom import encode, make_dataset, make_film


def make_float_film(stored):
    """A film of Float Pixel Data, which has no bits stored."""
    dataset = make_dataset(stored, BitsAllocated=32, FloatPixelData=stored.astype("<f4").tobytes())
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    return dataset


def read(stored, **tags):
    return read_dicom(encode(make_dataset(stored, **tags)), name="film.dcm")


def compress(stored, syntax, data, **tags):
    dataset = make_dataset(stored, **tags)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([data])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return encode(dataset)


def encode_jpeg(pixels):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=98)
    return file.getvalue()


def encode_jpeg_2000(pixels):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG2000", no_jp2=True, irreversible=False)
    return file.getvalue()


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
    data = compress(film, JPEG2000Lossless, encode_jpeg_2000(film), BitsStored=16)
    assert (read_dicom(data) == read(film)).all()


def test_jpeg_is_near():
    film = (make_film() >> 4).astype(np.uint8)
    image = read_dicom(compress(film, JPEGBaseline8Bit, encode_jpeg(film)))
    assert abs(image - read(film)).mean() < 2  # the loss of quality 98


def test_a_jpeg_frame_with_a_hole_or_of_another_size_is_refused():
    data = jpegs.WHOLE["gray"]
    assert read_dicom(compress(jpegs.GRAY, JPEGBaseline8Bit, data)).shape == jpegs.GRAY.shape
    for broken in (jpegs.cut_hole(data), jpegs.end_early(data)):
        with pytest.raises(ImageError, match=r"^film.dcm: expected a complete JPEG image\. The file is truncated"):
            read_dicom(compress(jpegs.GRAY, JPEGBaseline8Bit, broken), name="film.dcm")
    with pytest.raises(ImageError, match=r"JPEG frame of 100x200 pixels.*Received: 168x200"):
        read_dicom(compress(jpegs.GRAY[:, :100], JPEGBaseline8Bit, data), name="film.dcm")


@pytest.mark.parametrize("syntax, package", [
    (JPEGBaseline8Bit, "pillow"),
    (JPEGExtended12Bit, "pylibjpeg-libjpeg"),
    (JPEGLossless, "pylibjpeg-libjpeg"),
    (JPEGLosslessSV1, "pylibjpeg-libjpeg"),
    (JPEGLSLossless, "pyjpegls"),
    (JPEGLSNearLossless, "pyjpegls"),
    (JPEG2000Lossless, "pylibjpeg-openjpeg"),
    (JPEG2000, "pylibjpeg-openjpeg"),
    (HTJ2K, "pylibjpeg-openjpeg"),
    (HTJ2KLossless, "pylibjpeg-openjpeg"),
    (HTJ2KLosslessRPCL, "pylibjpeg-openjpeg"),
])  # fmt: skip
def test_missing_decoder_is_named(syntax, package, monkeypatch):
    nothing = SimpleNamespace(is_available=False, available_plugins=())
    monkeypatch.setattr("kmm.image.compression.get_decoder", lambda syntax: nothing)
    with pytest.raises(ImageError, match=rf"film.dcm: no decoder for .*{syntax}.*pip install .*{package}"):
        read_dicom(compress(make_film(), syntax, b"frame"), name="film.dcm")


@pytest.mark.parametrize("syntax", [JPEGExtended12Bit, JPEGBaseline8Bit])
def test_a_12_bit_jpeg_needs_another_package_than_pillow(syntax):
    """Both a header of 12 bits and, under the wrong syntax, a code stream of 12 bits."""
    jpeg = bytearray(encode_jpeg((make_film() >> 4).astype(np.uint8)))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 1], jpeg[frame + 4] = 0xC1, 12
    with pytest.raises(ImageError, match=rf"film.dcm: no decoder for .*{syntax}.* at 12 bits.*pip install .*-libjpeg"):
        read_dicom(compress(make_film(), syntax, bytes(jpeg)), name="film.dcm")


def test_films_of_pydicom_are_read_or_refused_for_the_right_reason():
    """Its own test files, each with its fault."""
    reasons = {
        "JPGExtended.dcm": r"no decoder .*4\.51\) at 12 bits.*pylibjpeg-libjpeg",
        "JPEG-lossy.dcm": r"no decoder .*4\.51\) at 12 bits.*pylibjpeg-libjpeg",
        "JPEG2000-embedded-sequence-delimiter.dcm": "JPEG 2000 frame of 256x1024 pixels",
        "MR_truncated.dcm": "it has 8130 of 8192 bytes",
        "ExplVR_BigEndNoMeta.dcm": "does not start with a DICOM header",
        "rtplan.dcm": "no pixels",
        "liver_1frame.dcm": "8 or 16 bits allocated. Received: 1",
        "image_dfl.dcm": "the whole file is deflated",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=reason):
            read_dicom(get_testdata_file(name, download=False))
    little = read_dicom(get_testdata_file("MR_small.dcm", download=False))
    for name in ("bigendian", "implicit", "RLE", "padded", "jp2klossless", "expb"):
        assert (read_dicom(get_testdata_file(f"MR_small_{name}.dcm", download=False)) == little).all()


def drop_syntax(data):
    """A file without (0002,0010) Transfer Syntax UID."""
    start = data.index(b"\x02\x00\x10\x00UI")
    size = 8 + int.from_bytes(data[start + 6 : start + 8], "little")
    length = int.from_bytes(data[140:144], "little") - size
    return data[:140] + length.to_bytes(4, "little") + data[144:start] + data[start + size :]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_missing_transfer_syntax_is_found_out(syntax):
    film = make_film()
    dataset = make_dataset(film, WindowCenter=2048, WindowWidth=4096)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = film.astype("<u2" if syntax.is_little_endian else ">u2").tobytes()
    image = read_dicom(drop_syntax(encode(dataset)))
    np.testing.assert_allclose(image, film * (255 / 4095), atol=1e-3)


def test_a_missing_transfer_syntax_of_compressed_pixels_is_named():
    film = make_film()
    data = drop_syntax(compress(film, JPEG2000Lossless, encode_jpeg_2000(film)))
    with pytest.raises(ImageError, match="compressed, but TransferSyntaxUID, which names the compression, is missing"):
        read_dicom(data)


def write_text(keyword, text):
    """A film whose header has a text of four characters where a number belongs."""
    vr = pydicom.datadict.dictionary_VR(keyword)
    count = 2 if keyword.endswith(("Spacing", "Ratio")) else 1
    tags = {"WindowCenter": 2048, "WindowWidth": 4096, keyword: ["1234"] * count if count > 1 else "1234"}
    data = encode(make_dataset(make_film(), **tags))
    tag = pydicom.tag.Tag(keyword)
    start = data.index(tag.group.to_bytes(2, "little") + tag.elem.to_bytes(2, "little") + vr.encode()) + 8
    assert data[start : start + 4] == b"1234"
    return data[:start] + text.encode().ljust(4) + data[start + 4 :]


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "1e99", "text", "1,5"])
@pytest.mark.parametrize("keyword", [
    "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "PixelSpacing", "ImagerPixelSpacing",
    "PixelAspectRatio",
])  # fmt: skip
def test_numbers_that_are_none_are_refused_by_name(keyword, text, capfd):
    with pytest.raises(ImageError, match=rf"^film.dcm: {keyword} is ") as caught:
        read_dicom(write_text(keyword, text), name="film.dcm")
    assert "text" not in str(caught.value) and "1,5" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
def test_an_empty_number_is_as_none(keyword):
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    window.pop(keyword, None)
    np.testing.assert_array_equal(read_dicom(write_text(keyword, "")), read(make_film(), **window))


@pytest.mark.parametrize("tags, reason", [
    ({"RescaleSlope": 0, "RescaleIntercept": 5}, "RescaleSlope is 0"),
    ({"RescaleSlope": 0}, "RescaleSlope is 0"),
    ({"RescaleSlope": "1e-40", "RescaleIntercept": 0}, "RescaleSlope is 1e-40"),
    ({"RescaleSlope": 1, "RescaleIntercept": "1e12"}, r"RescaleIntercept is 1e\+12"),
])  # fmt: skip
def test_rescaling_that_loses_the_film_is_named(tags, reason):
    with pytest.raises(ImageError, match=f"^film.dcm: {reason}"):
        read(make_film(), **tags)


def test_half_of_a_rescaling_counts():
    """A slope without intercept, and the reverse: the other is 1 or 0."""
    film = make_film()
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    np.testing.assert_allclose(
        read(film, RescaleIntercept=100, **window), np.minimum(film + 100.0, 4095) * (255 / 4095), atol=1e-3
    )
    halved = read(film, RescaleSlope=0.5, **window)
    np.testing.assert_allclose(halved, film * (127.5 / 4095), atol=1e-3)


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_windows_of_small_values(function):
    """A slope of 1/4096 has a window of width 1, of which only LINEAR may not be narrower."""
    film = make_film()
    tags = {"RescaleSlope": 1 / 4096, "RescaleIntercept": 0, "WindowCenter": 0.25, "WindowWidth": 0.5}
    tags = {**{name: f"{value:.10g}" for name, value in tags.items()}, "VOILUTFunction": function}
    expected = {
        "LINEAR_EXACT": np.clip(film / 2048 * 255, 0, 255),
        "SIGMOID": 255 / (1 + np.exp(-4 * (film / 4096 - 0.25) / 0.5)),
    }
    np.testing.assert_allclose(read(film, **tags), expected[function], atol=1e-3)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("signed", "bits", "cell", "vr", "value"), [
    (True, 16, 63536, "US", 63536),  # -2000, written without a sign
    (True, 16, 63536, "SS", -2000),
    (True, 12, 63488, "US", 63488),  # -2048, the least of 12 bits
    (True, 12, 2048, "US", 2048),  # the same, not extended to 16 bits
    (True, 12, 2048, "SS", -2048),
    (False, 16, 63536, "SS", -2000),  # written with a sign that the pixels do not have
    (False, 12, 63536, "US", 63536),  # beyond the bits stored: its low 12 bits are 2096, which a pixel may be
    (False, 12, 65535, "SS", -1),
])  # fmt: skip
def test_padding_is_compared_in_the_type_of_the_pixels(kind, signed, bits, cell, vr, value):
    film = make_film(top=3000) + 500
    film[20, 20] = 4095 if cell == 65535 else 2096
    film = film.astype(np.int16) - 2048 if signed else film
    padded = film.copy()
    padded[:5] = np.uint16(cell).astype(film.dtype)
    dataset = make_dataset(padded, BitsStored=bits, PhotometricInterpretation=kind)
    dataset.add_new("PixelPaddingValue", vr, value)
    image = read_dicom(encode(dataset))
    assert not image[:5].any()
    np.testing.assert_allclose(image[5:], read(film[5:], BitsStored=bits, PhotometricInterpretation=kind), atol=1e-3)


def test_a_range_of_padding_has_the_sign_of_the_pixels():
    film = make_film(top=3000).astype(np.int16)
    film[:3], film[3:6] = -2000, -1990
    dataset = make_dataset(film, BitsStored=16)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    dataset.add_new("PixelPaddingRangeLimit", "US", 63546)
    image = read_dicom(encode(dataset))
    assert not image[:6].any()
    np.testing.assert_allclose(image[6:], read(film[6:], BitsStored=16), atol=1e-3)


def make_refused():
    film, colour = make_film(), np.zeros((40, 50, 3), np.uint8)
    without_pixels, report = make_dataset(film), make_dataset(film)
    del without_pixels.PixelData, report.PixelData, report.Rows, report.Columns
    deflated = make_dataset(film)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = encode(make_dataset(film))
    gray = (film >> 4).astype(np.uint8)
    jpeg, jpeg_2000 = encode_jpeg(gray), encode_jpeg_2000(film)
    run_length = make_dataset(film)
    run_length.compress(RLELossless)
    rle = next(generate_frames(run_length.PixelData, number_of_frames=1))
    little, run_lengths = f"{ExplicitVRLittleEndian}\0".encode(), f"{RLELossless}\0".encode()

    def lacking(*keywords):
        dataset = make_dataset(film)
        for keyword in keywords:
            del dataset[keyword]
        return encode(dataset)

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
        "float pixels": (encode(make_float_film(film)), "8 or 16 bits allocated. Received: 32"),
        "bits": (encode(make_dataset(film, BitsAllocated=32, BitsStored=32)), "8 or 16 bits allocated. Received: 32"),
        "high bit": (encode(make_dataset(film << 4, HighBit=15)), "HighBit to be BitsStored - 1. Received: 15"),
        "deflated": (encode(deflated), "the whole file is deflated"),
        "video": (compress(film, MPEG4HP41, b"frame"), "no decoder for the transfer syntax"),
        "cut": (whole[:-500], "truncated or damaged: it has 3500 of 4000 bytes of pixels"),
        "cut header": (whole[:200], "DICOM"),
        "text": (b"no film, only words", "does not start with a DICOM header"),
        "no jpeg 2000": (compress(film, JPEG2000Lossless, b"\xff\x4f\xff\x51no codestream"), "truncated or damaged"),
        "cut jpeg 2000": (compress(film, JPEG2000Lossless, jpeg_2000[:-300], BitsStored=16), "truncated, damaged or"),
        "jpeg 2000 of another size": (
            compress(film[:-1], JPEG2000Lossless, jpeg_2000, BitsStored=16),
            "expected a JPEG 2000 frame of 50x39 pixels, as in the DICOM header. Received: 50x40",
        ),
        "jpeg in colour": (
            compress(gray, JPEGBaseline8Bit, encode_jpeg(np.stack([gray] * 3, axis=2))),
            "Its code stream has 3 samples per pixel",
        ),
        "jpeg with a hole": (compress(gray, JPEGBaseline8Bit, jpeg[:700] + jpeg[1000:]), "truncated or damaged"),
        "cut jpeg": (compress(gray, JPEGBaseline8Bit, jpeg[:-500]), "truncated or damaged"),
        "jpeg of another size": (
            compress(gray[:-8], JPEGBaseline8Bit, jpeg),
            "expected a JPEG frame of 50x32 pixels, as in the DICOM header. Received: 50x40",
        ),
        "rle with a hole": (compress(film, RLELossless, rle[:300] + rle[310:]), "RLE segments do not hold 2000 pixels"),
        "not rle": (whole.replace(little, run_lengths), r"for compressed pixels \(RLE Lossless\), but .* uncompressed"),
        "rle": (
            encode(run_length).replace(run_lengths, little),
            r"for uncompressed pixels .*, but the pixels are compressed",
        ),
        "no photometric interpretation": (lacking("PhotometricInterpretation"), "Missing: PhotometricInterpretation"),
        "no bits": (lacking("BitsAllocated", "PixelRepresentation"), "Missing: BitsAllocated, PixelRepresentation"),
        "bits stored": (encode(make_dataset(film, BitsStored=17, HighBit=16)), "1 to 16 bits stored. Received: 17"),
        "pixel representation": (encode(make_dataset(film, PixelRepresentation=3)), "PixelRepresentation to be 0 or 1"),
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
    with pytest.raises(ImageError, match="the file cannot be read"):
        read_dicom(tmp_path / "absent.dcm")


DATA = encode(make_dataset(make_film(20, 20), WindowCenter=2000, WindowWidth=3000, PixelPaddingValue=0))
TABLES = encode(
    make_dataset(
        make_film(20, 20),
        ModalityLUTSequence=[make_table(64, 0, 16, np.arange(64))],
        VOILUTSequence=[make_table(64, 0, 8, np.arange(64) * 4)],
        PixelSpacing=[0.2, 0.1],
    )
)


@settings(max_examples=150)
@given(whole=st.sampled_from([DATA, TABLES]), data=st.data())
def test_damage_anywhere_gives_an_image_or_an_image_error(whole, data):
    length = data.draw(st.integers(132, len(whole)))
    damaged = bytearray(whole[:length])
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, min(700, length - 1)))] = data.draw(st.integers(0, 255))
    try:
        image = read_dicom(bytes(damaged), name="film.dcm")
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 2 and image.dtype == np.float32 and image.min() >= 0 and image.max() <= 255.001
