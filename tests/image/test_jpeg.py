"""JPEG files are decoded as Pillow decodes them, or refused: never half a film."""

import io

import numpy as np
import PIL.Image
import pytest

from kmm.errors import ImageError
from kmm.image.jpeg import check_jpeg, read_frame
from kmm.image.jpeg import decode_jpeg as decode
from kmm.image.read import compute_luma, decode_image, read_image
from tests.factories.jpegs import WHOLE, cut_hole, end_early, find_frame, state_kind, state_size

DAMAGED = {
    **{f"hole of {size} bytes in {name}": cut_hole(WHOLE[name], size) for name in ("gray", "colour 4:2:0",
       "restart markers", "progressive") for size in (700, 1460)},
    **{f"hole at {at}": cut_hole(WHOLE["gray"], at=at) for at in (0, 0.25, 0.75, 1)},
    "an end too early": end_early(WHOLE["gray"]),
    "an end too early, progressive": end_early(WHOLE["progressive"]),
    "no end": WHOLE["gray"][:-2][: len(WHOLE["gray"]) // 2],
    "no end, with a thumbnail": WHOLE["thumbnail"][: -len(WHOLE["gray"]) // 3],
    "header says taller": state_size(WHOLE["gray"], taller=64),
    "header says shorter": state_size(WHOLE["gray"], taller=-64),
    "header says wider": state_size(WHOLE["gray"], wider=64),
    "header says narrower": state_size(WHOLE["gray"], wider=-64),
    "header says twice as tall, progressive": state_size(WHOLE["progressive"], taller=200),
    "no header": WHOLE["gray"][:30] + b"\xff\xd9",
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_have_pillow_s_levels(name):
    pillow = np.asarray(PIL.Image.open(io.BytesIO(WHOLE[name])))
    assert np.array_equal(decode(WHOLE[name], "film.jpg"), pillow)
    gray = pillow.astype(np.float32) if pillow.ndim == 2 else compute_luma(pillow)
    assert np.array_equal(decode_image(WHOLE[name], "film.jpg"), gray)
    frame = check_jpeg(WHOLE[name], "film.jpg")
    assert (frame.height, frame.width) == pillow.shape[:2]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_in_one_line(name, tmp_path):
    for read in (decode, check_jpeg, decode_image):
        with pytest.raises(ImageError, match=r"^film.jpg: expected a complete JPEG image\. The file is trunc[^\n]*$"):
            read(DAMAGED[name], "film.jpg")
    (tmp_path / "film.jpg").write_bytes(DAMAGED[name])
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_image(tmp_path / "film.jpg")


REASONS = {
    "12 bits": (state_kind(WHOLE["gray"], marker=0xC1, bits=12), "expected a JPEG of 8 bits. Received: 12 bits"),
    "lossless": (state_kind(WHOLE["gray"], marker=0xC3), "expected a baseline or progressive JPEG. Received: lossless"),
    "hierarchical": (state_kind(WHOLE["gray"], marker=0xC5), "Received: hierarchical JPEG; convert it to PNG"),
    "no height": (state_size(WHOLE["gray"], taller=-200), "whose header states its height. Received: 0"),
    "two components": (state_kind(WHOLE["gray"], components=2), 'pixels of kind "2 components"'),
    "bomb": (state_size(WHOLE["gray"], 20_000, 20_000), "expected at most 50000000 pixels. Received: 20168x20200"),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_not_damaged_but_not_read_has_its_own_reason(name):
    data, reason = REASONS[name]
    for read in (decode, check_jpeg):
        with pytest.raises(ImageError) as caught:
            read(data, "film.jpg")
        assert reason in str(caught.value) and "damaged" not in str(caught.value)


def set_scan_parameters(data, parameters):
    end = data.index(b"\xff\xda", find_frame(data)) + 10
    return data[: end - 3] + parameters + data[end:]


ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x07"
HARMLESS = {
    "an unknown revision of JFIF": WHOLE["gray"].replace(b"JFIF\0\1\1", b"JFIF\0\2\1"),
    "an unknown transform of Adobe": WHOLE["gray"][:2] + ADOBE + WHOLE["gray"][2:],
    "no spectral selection in a baseline scan": set_scan_parameters(WHOLE["gray"], b"\0\0\0"),
    "zeros before the end": WHOLE["gray"][:-2] + bytes(40) + b"\xff\xd9",
    "fill bytes before the end": WHOLE["gray"][:-2] + b"\xff" * 40 + b"\xff\xd9",
    "a second image behind the first": WHOLE["gray"] + WHOLE["colour 4:2:0"],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_odd_headers_and_padding_do_not_count_as_damage(name):
    assert HARMLESS[name] != WHOLE["gray"]
    assert np.array_equal(decode(HARMLESS[name], "film.jpg"), decode(WHOLE["gray"], "film.jpg"))
    check_jpeg(HARMLESS[name], "film.jpg")


@pytest.mark.parametrize("name", ["an unknown revision of JFIF", "no spectral selection in a baseline scan"])
def test_damage_behind_an_odd_header_is_still_seen(name):
    with pytest.raises(ImageError, match=r"premature end of data segment"):
        decode(cut_hole(HARMLESS[name]), "film.jpg")


def test_other_bytes_before_the_end_are_no_padding():
    with pytest.raises(ImageError, match="extraneous bytes before marker 0xd9"):
        decode(WHOLE["gray"][:-2] + b"surplus bytes" * 4 + b"\xff\xd9", "film.jpg")


def test_a_frame_is_read_behind_fill_bytes_and_thumbnails():
    assert read_frame(WHOLE["thumbnail"]) == read_frame(WHOLE["gray"])
    assert read_frame(WHOLE["gray"][:2] + b"\xff" * 5 + WHOLE["gray"][2:]) == read_frame(WHOLE["gray"])
    assert read_frame(b"") is None and read_frame(WHOLE["gray"][:2] + b"\xff\xd9" + bytes(20)) is None


def test_many_scans_are_refused_unread_and_images_behind_the_first_do_not_count():
    whole = WHOLE["progressive"]
    last = whole.rfind(b"\xff\xda")
    assert 2 < whole.count(b"\xff\xda") <= 12
    check_jpeg(whole + b"\xff\xda" * 100, "film.jpg")
    hidden = b"\xff\xfe\0\x06\xff\xd9\xff\xd9"  # a comment with the marks of an end
    for data in (whole[:-2] + whole[last:-2] * 32, whole[:last] + hidden + whole[last:-2] * 33):
        for read in (check_jpeg, decode):
            with pytest.raises(ImageError, match="at most 32 scans"):
                read(data + b"\xff\xd9", "film.jpg")
