import numpy as np
import pytest

from kmm.data.phantom.curves import Frame, circle, sample_frame, smooth
from kmm.data.phantom.film import draw_frontal, draw_lateral
from kmm.data.phantom.lesions import LESIONS, SIDES, ZONES
from kmm.data.phantom.report import Lesion

SEEDS = range(8)


def draw(lesions, seed, **more):
    return draw_frontal(lesions, np.random.default_rng(seed), pixels=128, **more)


def test_a_frame_fills_the_area_it_should():
    angle = 0.3
    turn = 40 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    frame = Frame(100, 120, turn, np.array([60.0, 50.0]), 40)
    # OpenCV fills the pixels on the outline too: half a pixel all round.
    assert frame.fill(0.5 * circle(200), 0.01).sum() == pytest.approx(np.pi * 20.5**2, rel=0.02)
    u, v = frame.coordinates()
    assert np.allclose(frame.place([(u[30, 80], v[30, 80])]), [[80, 30]], atol=1e-4)


def test_a_spline_passes_through_its_points():
    points = np.array([(0, 0), (2, 1), (3, 3), (0, 2)], float)
    assert np.allclose(smooth(points)[::8], points)
    assert np.allclose(smooth(points, closed=False)[::8], points)


def test_frames_vary_and_keep_the_longer_side():
    frames = [sample_frame(np.random.default_rng(seed), 100) for seed in range(20)]
    assert all(max(frame.height, frame.width) == 100 and min(frame.height, frame.width) >= 80 for frame in frames)
    assert len({(frame.height, frame.width) for frame in frames}) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_lungs_are_darker_than_the_middle_and_brighter_than_air(seed):
    film, boxes = draw([], seed)
    height, width = film.shape
    assert boxes == []
    rows = slice(int(0.35 * height), int(0.55 * height))
    middle = film[rows, int(0.48 * width) : int(0.52 * width)].mean()
    for across in (0.28, 0.72):
        lung = film[rows, int((across - 0.05) * width) : int((across + 0.05) * width)].mean()
        assert 20 < lung < middle - 40


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("finding", [name for name in LESIONS if name != "Cardiomegaly"])
@pytest.mark.parametrize("side", SIDES)
def test_a_lesion_brightens_its_box_on_its_side(finding, side, seed):
    zone = list(ZONES)[seed % 3]
    film, [(x, y, w, h)] = draw([Lesion(finding, side, zone)], seed)
    clean, _ = draw([], seed)
    # The patient's right is at the viewer's left.
    assert (x + w / 2 < film.shape[1] / 2) == (side == "right")
    box = np.s_[y : y + h, x : x + w]
    assert film[box].mean() > clean[box].mean() + 10
    changed = np.argwhere(film.astype(int) - clean > 12)
    inside = (changed >= (y - 2, x - 2)).all(1) & (changed < (y + h + 2, x + w + 2)).all(1)
    assert inside.mean() > 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_cardiomegaly_widens_the_heart(seed):
    _, [(_, _, large, _)] = draw([Lesion("Cardiomegaly", "left", "lower")], seed)
    film, _ = draw([], seed)
    assert 0.38 < large / film.shape[1] < 0.75


def test_two_lesions_give_two_boxes():
    _, boxes = draw([Lesion("Nodule", "left", "upper"), Lesion("Cardiomegaly", "right", "lower")], 1)
    assert len(boxes) == 2 and boxes[0][2] < boxes[1][2]


def test_letters_change_only_a_few_pixels_and_never_the_lesion():
    for seed in SEEDS:
        plain, boxes = draw([Lesion("Opacity", "right", "middle")], seed)
        marked, same = draw([Lesion("Opacity", "right", "middle")], seed, letters_rng=np.random.default_rng(seed))
        assert boxes == same
        assert 0 < (plain != marked).mean() < 0.03
        [(x, y, w, h)] = boxes
        assert np.array_equal(plain[y : y + h, x : x + w], marked[y : y + h, x : x + w])


def test_a_lateral_film_is_another_picture():
    film = draw_lateral(np.random.default_rng(0), pixels=128)
    assert film.dtype == np.uint8 and max(film.shape) == 128 and film.std() > 20
