"""Lookup tables in all the encodings that devices write, read through whole files."""

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from kmm.errors import ImageError
from kmm.image.dicom import read_dicom
from tests.factories.dicom import encode, make_dataset

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
RAMP = (np.arange(64)[:, None] * 64 + np.arange(64)).astype(np.uint16)  # each value of 12 bits once


def write(stored, syntax=ExplicitVRLittleEndian, **tags):
    """The bytes of a film whose pixels are in the byte order of the syntax."""
    order = "<" if syntax.is_little_endian else ">"
    dataset = make_dataset(stored, **tags)
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    return encode(dataset)


def make_item(entries, descriptor, *, vr="OW", sign="US", wide=True, syntax=ExplicitVRLittleEndian):
    """An item of a sequence: entries of two bytes (wide) or one, as words of the syntax's byte order."""
    words = np.asarray(entries, np.int64).astype("<u2")
    if not wide:
        packed = np.asarray(entries).astype(np.uint8).tobytes()
        words = np.frombuffer(packed + b"\0" * (len(packed) % 2), "<u2")
    item = Dataset()
    item.add_new("LUTDescriptor", sign, descriptor)
    order = "<u2" if syntax.is_little_endian else ">u2"
    item.add_new("LUTData", vr, words.astype(order).tobytes() if vr in ("OW", "OB") else words.tolist())
    return item


def read(*arguments, **tags):
    return read_dicom(write(*arguments, **tags), name="film.dcm")


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("vr", ["OW", "US"])
@pytest.mark.parametrize(("bits", "top", "wide"), [
    (8, 255, False),  # packed, two entries a word
    (8, 255, True),  # one entry a word, which the standard allows readers to expect
    (9, 511, True),
    (10, 1023, True),
    (12, 4095, True),
    (16, 65535, True),
    (16, 4095, True),  # the declared depth is not that of the entries
    (12, 1000, True),
    (8, 4095, True),
    (10, 65535, True),
])  # fmt: skip
def test_voi_table_in_every_encoding(syntax, vr, bits, top, wide):
    curve = np.round((np.arange(4096) / 4095) ** 2 * top).astype(int)
    item = make_item(curve, [4096, 0, bits], vr=vr, wide=wide, syntax=syntax)
    image = read(RAMP, syntax, VOILUTSequence=[item])
    np.testing.assert_allclose(image, curve[RAMP] * (255 / top), atol=1e-3)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("vr", ["OW", "US"])
@pytest.mark.parametrize(("bits", "wide"), [(8, False), (8, True), (16, True), (12, True)])
def test_modality_table_in_every_encoding(syntax, vr, bits, wide):
    """The window applies to the entries themselves, whatever depth is declared."""
    curve = (np.arange(4096) >> 4)[::-1]
    item = make_item(curve, [4096, 0, bits], vr=vr, wide=wide, syntax=syntax)
    image = read(RAMP, syntax, ModalityLUTSequence=[item], WindowCenter=128, WindowWidth=256)
    np.testing.assert_allclose(image, curve[RAMP], atol=1e-3)


def test_an_odd_number_of_entries_of_one_byte():
    curve = np.arange(255)
    film = (RAMP >> 4).astype(np.uint8)
    image = read(film, VOILUTSequence=[make_item(curve, [255, 0, 8], wide=False)])
    np.testing.assert_allclose(image, np.minimum(film, 254), atol=1e-3)


def test_only_a_depth_that_its_entries_use_is_believed():
    """12 bits of 16 leave a film dark: white is the greatest entry. 15 of 16 bits and more are as declared."""
    for greatest, white in ((4095, 4095), (32767, 32767), (32768, 65535), (60000, 65535)):
        curve = np.round(np.linspace(0, greatest, 4096)).astype(int)
        image = read(RAMP, VOILUTSequence=[make_item(curve, [4096, 0, 16])])
        np.testing.assert_allclose(image, curve[RAMP] * (255 / white), atol=1e-3)
    offset = read(RAMP, VOILUTSequence=[make_item(np.arange(4096) + 500, [4096, 0, 16])])
    np.testing.assert_allclose(offset, RAMP * (255 / 4095), atol=1e-3)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("sign", "first"), [("SS", -1024), ("US", 64512)])
def test_first_value_is_signed_if_rescaled_values_can_be_negative(syntax, sign, first):
    """C.11.2.1.1: the sign follows from the values that are mapped, not from the pixels or the VR."""
    item = make_item(np.arange(4096), [4096, first, 12], sign=sign, syntax=syntax)
    image = read(RAMP, syntax, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=[item])
    np.testing.assert_allclose(image, RAMP * (255 / 4095), atol=1e-3)


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize(("sign", "first"), [("SS", -2048), ("US", 63488)])
def test_first_value_is_signed_if_stored_values_are(keyword, sign, first):
    item = make_item(np.arange(4096), [4096, first, 12], sign=sign)
    window = {"WindowCenter": 2048, "WindowWidth": 4096} if keyword.startswith("Modality") else {}
    image = read(RAMP.astype(np.int16) - 2048, **{keyword: [item]}, **window)
    np.testing.assert_allclose(image, RAMP * (255 / 4095), atol=1e-3)


@pytest.mark.parametrize(("sign", "first"), [("US", 40000), ("SS", -25536)])
def test_first_value_of_unsigned_pixels_stays_positive(sign, first):
    item = make_item(np.arange(4096), [4096, first, 12], sign=sign)
    image = read(RAMP + np.uint16(40000), BitsStored=16, VOILUTSequence=[item])
    np.testing.assert_allclose(image, RAMP * (255 / 4095), atol=1e-3)


def test_a_negative_first_value_of_positive_pixels_is_kept_where_it_alone_reaches_them():
    item = make_item(np.arange(4096), [4096, -1000, 12], sign="SS")
    image = read(RAMP, VOILUTSequence=[item])
    np.testing.assert_allclose(image, np.minimum(RAMP + 1000.0, 4095) * (255 / 4095), atol=1e-3)


def test_a_modality_table_makes_values_positive():
    """A VOI table after a modality table maps its entries, even where the pixels are signed."""
    modality = make_item(np.arange(4096) + 40000, [4096, -2048, 16], sign="SS")
    voi = make_item(np.arange(4096), [4096, 40000, 12])
    image = read(RAMP.astype(np.int16) - 2048, ModalityLUTSequence=[modality], VOILUTSequence=[voi])
    np.testing.assert_allclose(image, RAMP * (255 / 4095), atol=1e-3)


@pytest.mark.parametrize(("count", "sign"), [(65536, "US"), (40000, "US"), (40000, "SS")])
def test_many_entries(count, sign):
    """0 stands for 65,536 entries; a signed descriptor shows 40,000 as a negative number."""
    film = RAMP * np.uint16(9)
    item = make_item(np.arange(count), [count % 65536, 0, 16], sign=sign)
    image = read(film, BitsStored=16, VOILUTSequence=[item])
    np.testing.assert_allclose(image, np.minimum(film, count - 1) * (255 / 65535), atol=1e-3)


def test_tables_equal_pydicom():
    random = np.random.default_rng(0)
    film = random.integers(0, 4096, (40, 50)).astype(np.uint16)
    modality, voi = np.sort(random.integers(0, 4096, (2, 3000)), axis=1)
    modality[-1] = voi[-1] = 4095
    dataset = make_dataset(
        film,
        ModalityLUTSequence=[make_item(modality, [3000, 500, 16], vr="US")],
        VOILUTSequence=[make_item(voi, [3000, 700, 12], vr="US")],
    )
    expected = apply_voi_lut(apply_modality_lut(film, dataset), dataset) * (255 / 4095)
    np.testing.assert_allclose(read_dicom(encode(dataset)), expected, atol=1e-3)


def drop(item, keyword):
    del item[keyword]
    return item


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize(("item", "reason"), [
    (make_item(np.arange(4000), [4096, 0, 12]), "shorter than declared: 4000 of 4096 entries of 12 bits"),
    (make_item(np.arange(4000), [4096, 0, 12], vr="US"), "shorter than declared: 4000 of 4096 entries"),
    (make_item(np.arange(4096) >> 4, [4096, 0, 12], wide=False), "shorter than declared: 2048 of 4096 entries"),
    (make_item(np.arange(200), [256, 0, 8], wide=False), "shorter than declared: 200 of 256 entries of 8 bits"),
    (make_item(np.arange(4096), [0, 0, 16]), "shorter than declared: 4096 of 65536 entries of 16 bits"),
    (make_item([], [4096, 0, 16]), "shorter than declared: 0 of 4096 entries"),
    (make_item(np.full(4096, 7), [4096, 0, 12]), "maps every value to 7"),
    (make_item(np.arange(4096), [4096, 5000, 12]), "covers 5000 to 9095, but the pixels are 0 to 4095"),
    (make_item(np.arange(4096), [4096, 0, 0]), "entries of 0 bits"),
    (make_item(np.arange(4096), [4096, 0, 32]), "entries of 32 bits"),
    (make_item(np.arange(4096), [4096, 0]), "is incomplete"),
    (drop(make_item(np.arange(4096), [4096, 0, 12]), "LUTDescriptor"), "is incomplete"),
    (drop(make_item(np.arange(4096), [4096, 0, 12]), "LUTData"), "is incomplete"),
])  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_by_name(keyword, item, reason):
    with pytest.raises(ImageError, match=rf"^film.dcm: the table of {keyword} .*{reason}") as caught:
        read(RAMP, **{keyword: [item]})
    assert "\n" not in str(caught.value)
