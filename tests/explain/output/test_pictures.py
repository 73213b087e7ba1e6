"""Pictures that are looked at alone: what they say, their dashes, their thumbnails."""

import dataclasses

import numpy as np
import pytest

from kmm.explain.attribution.result import Attribution
from kmm.explain.decision import format_probability, state_decision
from kmm.explain.explanation import Explanation
from kmm.explain.output import draw
from kmm.explain.output.draw import add_caption, draw_circles, draw_heat
from kmm.explain.output.pictures import PICTURES, THUMBNAIL, caption_picture, draw_picture, draw_thumbnail, smooth_heat
from kmm.explain.regions.find import Region, find_regions
from kmm.explain.settings import ExplainSettings

FILM = np.random.default_rng(0).integers(0, 256, (400, 500), dtype=np.uint8)
HEAT = np.eye(40, 50, dtype=np.float32)


def make_explanation(**changes):
    values = {
        "study": "1",
        "image": "film.png",
        "target": "mass",
        "attribution": Attribution({}, 0, 1.0, np.ones(1)),
        "probabilities": {"mass": 0.75},
        "thresholds": {"mass": 0.5},
        "film": FILM,
        "heat": HEAT,
        "regions": [Region(250, 200, 60, 0.4), Region(100, 100, 30, 0.2)],
        "text": "",
        "sections": [],
        "words": [],
        "modality_share": {},
        "settings": ExplainSettings(),
    }
    return Explanation(**{**values, **changes})


LOW = {"probabilities": {"mass": 0.05}}


def test_a_picture_names_the_label_its_probability_and_decision_and_every_warning():
    said = [text for text, _ in caption_picture("mass", 0.05, 0.5, warnings=("44 of 184 words were not read",))]
    assert said[0] == "mass: probability 0.050, threshold 0.500, decision: no"
    assert said[1].startswith("Not for diagnosis.") and "numbers are ranks" in said[1]
    assert said[2:] == ["Warning: 44 of 184 words were not read."]


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_has_that_caption(kind, monkeypatch):
    lines = []
    monkeypatch.setattr(draw, "add_caption", lambda picture, said: lines.extend(said) or add_caption(picture, said))
    picture = draw_picture(make_explanation(warnings=("9 of 12 words were not read",)), kind)
    alone = PICTURES[kind](make_explanation())
    np.testing.assert_array_equal(picture[: alone.shape[0], : alone.shape[1]], alone)
    assert picture.shape[0] > alone.shape[0] and picture[alone.shape[0] :].any()
    assert lines == caption_picture("mass", 0.75, 0.5, warnings=("9 of 12 words were not read",))


def test_places_in_the_picture_are_places_on_the_film():
    picture = draw_picture(make_explanation(regions=[]), "circles")
    np.testing.assert_array_equal(picture[:400, :500], np.stack([FILM] * 3, axis=2))


def test_circles_are_dashed_below_the_threshold_alone():
    for changes, dashed in ((LOW, True), ({}, False), ({**LOW, "thresholds": {}}, False)):
        one = make_explanation(**changes)
        np.testing.assert_array_equal(PICTURES["circles"](one), draw_circles(FILM, one.regions, dashed=dashed))


def test_heat_beside_the_circles_is_the_smoothed_map():
    one = make_explanation()
    np.testing.assert_array_equal(PICTURES["side-by-side"](one)[-400:, -500:], draw_heat(FILM, smooth_heat(one)))
    smoothed = dataclasses.replace(one.settings.regions, smoothing=0)
    assert find_regions(smooth_heat(one), smoothed, film_size=(400, 500)) == pytest.approx(
        find_regions(HEAT, one.settings.regions, film_size=(400, 500))
    )


def test_a_thumbnail_is_small_and_its_circles_lie_where_they_lie_on_the_film():
    one = make_explanation(film=np.zeros((1000, 1400), np.uint8), regions=[Region(1000, 300, 120, 0.5)])
    picture = draw_thumbnail(one)
    assert max(picture.shape) == THUMBNAIL
    rows, columns = np.nonzero(picture.any(axis=2))
    factor = THUMBNAIL / 1400
    middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    assert middle == pytest.approx((1000 * factor, 300 * factor), abs=1)
    assert (columns.max() - columns.min()) / 2 == pytest.approx(120 * factor, abs=3)  # and half a line


def test_a_thumbnail_is_a_small_file(tmp_path):
    film = np.clip(np.random.default_rng(0).normal(120, 30, (2000, 1700)), 0, 255).astype(np.uint8)
    draw.write_jpeg(tmp_path / "1.thumb.jpg", draw_thumbnail(make_explanation(film=film, regions=[])))
    assert (tmp_path / "1.thumb.jpg").stat().st_size < 12_000


def test_no_probability_is_0_or_1_by_rounding():
    shown = [format_probability(value) for value in (0.0, 1e-9, 0.0004, 0.001, 0.9994, 0.9996, 1.0, float("nan"))]
    assert shown == ["0.000", "<0.001", "<0.001", "0.001", "0.999", ">0.999", "1.000", "–"]
    assert state_decision("mass", 1e-9, 0.5) == "mass: probability <0.001, threshold 0.500, decision: no"
    assert state_decision("mass", 0.5, float("nan")) == "mass: probability 0.500"
