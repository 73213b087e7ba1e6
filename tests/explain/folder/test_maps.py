"""A kept map gives back the explanation that it was made of, whatever the circles; what is damaged is refused."""

import json
import zipfile
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest
from PIL import Image

from kmm.errors import ImageError, InputError
from kmm.explain.attribution.result import Attribution
from kmm.explain.explanation import Explanation
from kmm.explain.folder.fingerprints import identify_study
from kmm.explain.folder.maps import read_map, read_map_mark, write_map
from kmm.explain.output.page import render_page
from kmm.explain.output.table import describe_explanation, drop_unknown
from kmm.explain.regions.find import find_regions
from kmm.explain.settings import ExplainSettings, RegionSettings
from kmm.explain.words import WordScore

HEAT = np.random.default_rng(0).normal(size=(16, 12)).astype(np.float32)
FILM = np.arange(32 * 24, dtype=np.uint32).reshape(32, 24).astype(np.uint8)
MARK = {"run": "r", "key": "k"}


@pytest.fixture
def film(tmp_path):
    Image.fromarray(FILM).save(tmp_path / "film.png")
    return str(tmp_path / "film.png")


def make(image, heat=HEAT, settings=None, gap=0.001, **changes):
    settings = settings or ExplainSettings(targets=("all",), target="mass", baselines=("mean", "grey"))
    values = {"image": heat[..., None], "rows": np.float32([[0.5, -2.0]])}
    given = {
        "study": "é 7",
        "image": image,
        "target": "mass",
        "attribution": Attribution(values, 1, 1.5, np.array([0.1, 1.5]), nan, gap, 0.02, 35, ("missed",)),
        "probabilities": {"cyst": 0.1, "mass": 0.75},
        "thresholds": {"cyst": nan, "mass": 0.5},
        "film": FILM,
        "heat": heat,
        "regions": find_regions(heat, settings.regions, film_size=FILM.shape),
        "text": "A “mass” <here>.",
        "sections": [("findings", 0, 16)],
        "words": [
            WordScore(3, 7, "mass", "findings", 0, 1.0, -1.5),
            WordScore(9, 13, "here", "findings", 0, 0, 0, False),
        ],
        "modality_share": {"image": 0.25, "text": 0.75},
        "settings": settings,
        "model": "m",
        "warnings": ("missed",),
        "redacted": [(0, 1)],
    }
    return Explanation(**{**given, **changes})


def test_what_is_read_back_says_and_draws_the_same(tmp_path, film):
    ones = [make(film), make(film, 2 * HEAT, target="cyst", gap=nan)]
    write_map(tmp_path / "7.npz", MARK, ones)
    backs = read_map(tmp_path / "7.npz", RegionSettings(), film)
    assert read_map_mark(tmp_path / "7.npz") == MARK
    for one, back in zip(ones, backs, strict=True):
        assert drop_unknown(back.as_dict()) == drop_unknown(one.as_dict())
        assert describe_explanation(back) == describe_explanation(one) and back.settings == one.settings
        assert render_page(back) == render_page(one) and back.words == one.words and back.words_scored
        np.testing.assert_array_equal(back.heat, one.heat)
        np.testing.assert_array_equal(back.film, FILM)
        assert isnan(back.thresholds["cyst"]) and isnan(back.attribution.baseline_score)
    assert backs[0].modality_sum["image"] == float(HEAT.sum(dtype=np.float64)) and backs[0].modality_sum["text"] == -1.5
    assert backs[1].modality_sum == {"image": None, "text": None}


def test_circles_follow_the_present_settings(tmp_path, film):
    one, regions = make(film), RegionSettings(sensitivity=0.3, smoothing=0.01)
    write_map(tmp_path / "7.npz", MARK, [one])
    (back,) = read_map(tmp_path / "7.npz", regions, film)
    assert back.regions == find_regions(HEAT, regions, film_size=FILM.shape) != one.regions
    assert back.settings == replace(one.settings, regions=regions)


def test_a_report_alone_needs_no_film(tmp_path):
    one = replace(make(None), film=None, heat=None, regions=[])
    write_map(tmp_path / "7.npz", MARK, [one])
    (back,) = read_map(tmp_path / "7.npz", RegionSettings(), None)
    assert drop_unknown(back.as_dict()) == drop_unknown(one.as_dict()) and back.film is back.heat is None


def test_the_same_map_is_the_same_file_and_holds_no_pickle(tmp_path, film):
    for name in ("a", "b"):
        write_map(tmp_path / name, MARK, [make(film)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["heat_0", "mark", "record"]


def test_damaged_maps_and_films_are_refused(tmp_path, film, monkeypatch):
    path = tmp_path / "7.npz"
    write_map(path, MARK, [make(film)])
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"PK" + bytes(100)):
        path.write_bytes(data)
        assert read_map_mark(path) is None
        with pytest.raises(InputError, match=r"^\S+7.npz: the map cannot be drawn: "):
            read_map(path, RegionSettings(), film)
    record = np.frombuffer(json.dumps({"schema": "other", "film_size": None, "explanations": []}).encode(), np.uint8)
    np.savez(path, mark=record, record=record)
    with pytest.raises(InputError, match="does not know its format"):
        read_map(path, RegionSettings(), film)
    np.savez(path, mark=np.array([{}], object), record=np.array([{}], object))
    with pytest.raises(InputError, match="cannot be drawn"):
        read_map(path, RegionSettings(), film)
    path.write_bytes(whole)
    Image.fromarray(FILM[:, :20].copy()).save(film)
    with pytest.raises(InputError, match="film of another size"):
        read_map(path, RegionSettings(), film)
    with pytest.raises(ImageError):
        read_map(path, RegionSettings(), str(tmp_path / "gone.png"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("record.npy", bytes(5000))
    monkeypatch.setattr("kmm.explain.folder.maps.MOST_BYTES", 4000)
    with pytest.raises(InputError, match="more than 0 MB"):
        read_map(path, RegionSettings(), film)
    assert read_map_mark(tmp_path / "none.npz") is None


def test_a_study_is_its_id_its_report_and_the_bytes_of_its_film(tmp_path, film, monkeypatch):
    from pathlib import Path

    from kmm.data.study import ImageFile, Report, Study

    study = Study("7", "7", (ImageFile(Path(film), "frontal"),), Report(findings="A mass."))
    first = identify_study(study)
    copy = Path(film).rename(tmp_path / "moved.png")
    moved = identify_study(replace(study, images=(ImageFile(copy, "frontal"),)), first["film"])
    assert moved["key"] == first["key"] and moved["film"]["path"] != first["film"]["path"]
    others = [replace(study, id="8"), replace(study, report=None), replace(study, report=Report(impression="A mass."))]
    assert len({first["key"], *(identify_study(other)["key"] for other in others)}) == 4
    monkeypatch.setattr(
        "kmm.explain.folder.fingerprints.digest_source", lambda path: pytest.fail("a known film is read again")
    )
    again = replace(study, images=(ImageFile(copy, "frontal"),))
    assert identify_study(again, moved["film"]) == moved
    monkeypatch.undo()
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    assert identify_study(again, moved["film"])["key"] != first["key"]
    copy.unlink()
    assert identify_study(again, moved["film"])["film"]["digest"] is None
