"""Which films are one film, and what follows for splits."""

import numpy as np
import pytest
from PIL import Image

from kmm.batches import identify_films
from kmm.data.groups import group_studies
from kmm.data.study import ImageFile, Study
from kmm.image.film_identity import digest_film


@pytest.fixture
def film():
    return np.random.default_rng(0).integers(0, 256, (40, 32), dtype=np.uint8)


def study(number, path, view="frontal"):
    return Study(number, f"patient {number}", (ImageFile(path, view=view),))


def test_copies_in_other_formats_are_one_film(film, tmp_path):
    for name in ("a.png", "b.bmp", "c.tif"):
        Image.fromarray(film).save(tmp_path / name)
    Image.fromarray(film).convert("RGB").save(tmp_path / "d.png")  # gray stored as colour
    Image.fromarray(film).save(tmp_path / "e.png", compress_level=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    studies, problems = identify_films([study(name, tmp_path / name) for name in names])
    assert not problems and len({path.read_bytes() for path in tmp_path.iterdir()}) == 5
    assert {one.frontal.pixel_digest for one in studies} == {digest_film(film)}
    assert [len(group) for group in group_studies(studies)] == [5]


def test_any_other_film_is_another(film):
    altered = film.copy()
    altered[3, 4] ^= 8
    others = [altered, film.T, film[::-1], film[:-1], film.reshape(32, 40), 255 - film]
    assert len({digest_film(film), *map(digest_film, others)}) == 7


def test_rounding_to_eight_bits_decides(film):
    assert digest_film(film + 0.4) == digest_film(film) != digest_film(film.astype(float) + 1.0)


def test_a_film_of_one_level_is_no_identity(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((40, 32), np.uint8)).save(tmp_path / name)
    studies, problems = identify_films([study(name, tmp_path / name) for name in ("a.png", "b.png")])
    assert not problems and [one.frontal.pixel_digest for one in studies] == [None, None]
    assert len(group_studies(studies)) == 2


def test_what_cannot_be_read_is_listed_and_what_is_not_read_stays(film, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    Image.fromarray(film).save(tmp_path / "side.png")
    given = [study("1", tmp_path / "broken.png"), study("2", tmp_path / "side.png", "lateral"), Study("3", "3")]
    found, problems = identify_films(given)
    assert found == given
    assert [problem.source for problem in problems] == ["study 1"] and "broken.png" in problems[0].reason
