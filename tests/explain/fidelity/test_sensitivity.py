from dataclasses import replace
from math import isnan

import numpy as np
import pytest
from PIL import Image

from kmm.errors import InputError
from kmm.explain.fidelity.boxes import Box
from kmm.explain.fidelity.deletion import score_lost
from kmm.explain.fidelity.sensitivity import SENSITIVITY_GRID, choose_sensitivity, plot_sensitivity, sweep_sensitivity
from kmm.explain.regions.find import Region
from kmm.explain.settings import RegionSettings

SETTINGS = RegionSettings()
CENTRED = Box("Mass", 20, 20, 21, 21)


def shrinking(heat, settings, film_size):
    """One circle at the centre of the film, its radius from 30 down to nothing; none at the very top."""
    height, width = film_size
    radius = 30 * (1 - settings.sensitivity)
    return [Region((width - 1) / 2, (height - 1) / 2, radius, 1.0)] if radius > 0.5 else []


def sweep(boxes=(), **others):
    return sweep_sensitivity(
        [np.ones((61, 61))] * len(boxes), [(61, 61)] * len(boxes), settings=SETTINGS, boxes=boxes, find=shrinking,
        **{"sensitivities": [*SENSITIVITY_GRID, 1.0]} | others,
    )  # fmt: skip


def test_highest_iou_is_where_the_circle_is_as_large_as_the_box():
    rows = sweep([[CENTRED]])
    best = choose_sensitivity(rows, "iou")
    # the IoU of a circle and a square of one centre is highest between the inscribed and the circumscribed circle
    assert 10.5 <= 30 * (1 - best) <= 10.5 * 2**0.5
    assert max(row.iou for row in rows) > 0.8
    assert rows[-1].iou == rows[-1].hit == rows[-1].covered == rows[-1].circles == 0
    assert all(row.hit == row.circles == 1 for row in rows[:-1])
    assert all(isnan(row.gain) and isnan(row.lost) for row in rows)


def test_numbers_are_means_over_films_with_boxes():
    away = Box("Mass", 0, 0, 5, 5)
    rows, alone = sweep([[CENTRED], [away], []]), sweep([[CENTRED]])
    at = SENSITIVITY_GRID.index(0.8)
    assert rows[at].films == 3 and rows[at].circles == 1
    assert rows[at].iou == pytest.approx(alone[at].iou / 2)
    assert rows[at].hit == 0.5 and rows[at].covered == pytest.approx(alone[at].covered)


def test_gain_finds_the_pixels_that_carry_the_score():
    """The score is the sum of a disk of radius 12; the circle of that size loses all of it and covers least."""
    y, x = np.mgrid[:61, :61] - 30
    disk = np.hypot(x, y) <= 12
    image, baseline = disk[..., None].astype(np.float32), np.zeros((61, 61, 1))

    def lost(index, masks):
        assert index == 0 and masks.shape == (20, 61, 61)
        return score_lost(lambda images: images[..., 0][:, disk].sum(1), image, masks, baseline=baseline)

    rows = sweep([[]], lost=lost)
    assert choose_sensitivity(rows, "gain") == 0.6
    best = rows[SENSITIVITY_GRID.index(0.6)]
    assert best.lost == 1 and best.gain == pytest.approx(1 - disk.mean())
    with pytest.raises(InputError, match='"iou"'):
        choose_sensitivity(rows, "iou")


def test_masks_of_the_score_are_on_the_map_not_on_the_film():
    shapes = []
    sweep_sensitivity(
        [np.ones((10, 20))], [(100, 300)], settings=SETTINGS, sensitivities=[0.2, 0.4], find=shrinking,
        lost=lambda index, masks: shapes.append(masks.shape) or np.zeros(2),
    )  # fmt: skip
    assert shapes == [(2, 10, 20)]


def test_one_film_near_its_baseline_does_not_outvote_the_others():
    rows = sweep([[], [], []], lost=lambda index, masks: np.full(20, (1e9, 0.2, np.nan)[index]))
    assert all(row.lost == pytest.approx(0.6) and row.speaking == 2 for row in rows)


def test_a_box_that_covers_no_pixel_centre_has_no_overlap_without_a_circle():
    rows = sweep([[Box("Mass", 20.6, 20.6, 0.3, 0.3)]], sensitivities=[1.0])
    assert rows[0].circles == rows[0].iou == 0


def test_settings_are_kept_but_for_the_sensitivity():
    seen = []
    settings = replace(SETTINGS, min_points=9)

    def find(heat, settings, film_size):
        seen.append(settings)
        return []

    sweep_sensitivity([np.ones((2, 2))], [(4, 4)], settings=settings, sensitivities=[0.25, 0.5], find=find)
    assert seen == [replace(settings, sensitivity=0.25), replace(settings, sensitivity=0.5)]


def test_real_circles_of_a_bright_disk_find_its_box():
    """The map is a disk of radius 8 on a quarter of the film's resolution; the box is round it."""
    y, x = np.mgrid[:64, :64]
    heat = np.exp(-(((x - 40) ** 2 + (y - 20) ** 2) / (2 * 6**2)))
    heat += 0.02 * np.random.default_rng(0).normal(size=heat.shape)
    rows = sweep_sensitivity([heat], [(256, 256)], settings=SETTINGS, boxes=[[Box("Mass", 129, 49, 65, 65)]])
    best = max(rows, key=lambda row: row.iou)
    assert best.sensitivity == choose_sensitivity(rows, "iou") and best.iou > 0.6 and best.hit == 1


def test_of_equals_the_highest_sensitivity_is_chosen():
    rows = [replace(row, iou=0.5) for row in sweep([[CENTRED]])]
    assert choose_sensitivity(rows, "iou") == 1.0


def test_refuses():
    with pytest.raises(InputError, match="at least one film"):
        sweep([])
    with pytest.raises(ValueError):
        sweep_sensitivity([np.ones((2, 2))], [], settings=SETTINGS, find=shrinking)
    with pytest.raises(InputError, match="Known: iou, gain"):
        choose_sensitivity(sweep([[CENTRED]]), "best")
    with pytest.raises(InputError, match="needs the mean IoU"):
        choose_sensitivity(sweep([[]]), "iou")
    with pytest.raises(InputError, match="at least one row"):
        plot_sensitivity([], "none.png")


def test_rows_are_json():
    assert sweep([[]])[0].as_dict() | {"covered": 0} == {
        "sensitivity": 0.05, "films": 1, "circles": 1.0, "covered": 0, "iou": None, "hit": None, "lost": None,
        "gain": None, "speaking": 0,
    }  # fmt: skip


def test_picture_is_whole_and_the_same_each_time(tmp_path):
    rows = sweep([[CENTRED]])
    first = plot_sensitivity(rows, tmp_path / "a.png", chosen=choose_sensitivity(rows, "iou"))
    again = plot_sensitivity(rows, tmp_path / "b.png", chosen=choose_sensitivity(rows, "iou"))
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != plot_sensitivity(rows, tmp_path / "c.png").read_bytes()
    assert np.asarray(Image.open(first).convert("L")).std() > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]
