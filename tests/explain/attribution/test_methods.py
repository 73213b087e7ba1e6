"""Each method on score functions whose gradients are known."""

import cv2
import numpy as np
import pytest
from keras import ops

from kmm.errors import InputError
from kmm.explain.attribution.methods import METHODS, NOISE, Case, choose_method, draw_noisy_paths
from kmm.explain.attribution.split_model import SplitModel
from kmm.explain.settings import ExplainSettings

PATHS = [name for name, method in METHODS.items() if "rows" in method.inputs and not method.at_attention]
RANDOM = np.random.default_rng(0)
FILM, ROWS, MEAN = RANDOM.normal(size=(3, 4, 4, 1)).astype(np.float32) * 50 + 100
WORDS = RANDOM.normal(size=(6, 3)).astype(np.float32)
ROW = np.float32([0.5, -1, 0])
A, B = RANDOM.normal(size=(4, 4, 1)).astype(np.float32), RANDOM.normal(size=(6, 3)).astype(np.float32)


def quadratic(inputs, fixed):
    """Two labels: a weighted sum of squares of the pixels plus one of the rows, and its negative."""
    parts = ops.sum(ops.multiply(inputs["image"] ** 2, A), (1, 2, 3)), ops.sum(ops.multiply(inputs["rows"], B), (1, 2))
    return ops.stack([sum(parts), -sum(parts)], axis=1)


def split(score, chunk=16):
    return SplitModel(lambda inputs, fixed: inputs, score, chunk)


MODEL = split(quadratic)


def case(study="1", **change):
    given = {"absent": frozenset(), "fixed": {}, "mean_image": MEAN, "padding_row": ROW, "target": 0}
    return Case(study=study, inputs={"image": FILM, "rows": WORDS}, **{**given, **change})


def attribute(method, cases=None, **settings):
    cases = cases or [case()]
    found = dict(METHODS[method].for_model(MODEL, ExplainSettings(method=method, **settings))(iter(cases)))
    assert sorted(found) == list(range(len(cases)))
    return [found[number] for number in range(len(cases))]


def total(film, rows):
    return float((film.astype(np.float64) ** 2 * A).sum() + (rows.astype(np.float64) * B).sum())


def test_the_gradient_is_the_gradient_at_the_input():
    (found,) = attribute("gradient")
    np.testing.assert_allclose(found.values["image"], 2 * A * FILM, rtol=1e-5)
    np.testing.assert_allclose(found.values["rows"], B, rtol=1e-5)
    assert found.score == pytest.approx(total(FILM, WORDS), rel=1e-4) and found.steps == 1


@pytest.mark.parametrize("name, film", [("black", 0 * FILM), ("mean", MEAN), ("grey", 0 * FILM + 127.5)])
def test_gradient_times_input_and_integrated_gradients_start_at_the_baseline(name, film):
    rows = np.broadcast_to(ROW, WORDS.shape)
    (product,) = attribute("gradient-x-input", baselines=(name,))
    np.testing.assert_allclose(product.values["image"], 2 * A * FILM * (FILM - film), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(product.values["rows"], B * (WORDS - rows), rtol=1e-4, atol=1e-5)
    (integral,) = attribute("integrated-gradients", baselines=(name,))
    np.testing.assert_allclose(integral.values["image"], A * (FILM**2 - film**2), rtol=1e-3, atol=0.1)
    for found in (product, integral):
        assert found.baseline_score == pytest.approx(total(film, rows), rel=1e-4)
    assert integral.completeness_gap < 1e-3 and not integral.warnings


BOX = (0, 1, 4, 2)
BARRED = np.pad(FILM[:, 1:3], ((0, 0), (1, 1), (0, 0)))


@pytest.mark.parametrize("name", ["black", "mean", "grey", "blur"])
def test_bars_get_nothing_and_the_film_gets_what_it_moved(name):
    """A score that is the sum of the square: integrated gradients are the input minus the baseline."""
    model = split(lambda inputs, fixed: ops.sum(inputs["image"], (1, 2, 3))[:, None])
    one = Case("1", {"image": BARRED}, frozenset(), {}, mean_image=MEAN, target=0, box=BOX)
    film = BARRED[:, 1:3]
    blurred = cv2.GaussianBlur(np.ascontiguousarray(film), (0, 0), 0.4)[..., None]
    start = {"black": 0 * film, "mean": MEAN[:, 1:3], "grey": 0 * film + 127.5, "blur": blurred}[name]
    for method in ("integrated-gradients", "gradient-x-input"):
        settings = ExplainSettings(method=method, baselines=(name,))
        ((_, found),) = METHODS[method].for_model(model, settings)(iter([one]))
        image = found.values["image"]
        assert not image[:, [0, 3]].any()
        np.testing.assert_allclose(image[:, 1:3], film - start, rtol=1e-4, atol=1e-3)
        assert image.sum() == pytest.approx((film - start).sum(), rel=1e-4, abs=1e-2)
        assert image.sum() == pytest.approx(found.score - found.baseline_score, rel=1e-4, abs=1e-2)


def test_smoothgrad_draws_no_noise_in_the_bars_and_takes_its_size_from_the_film():
    seen = draw_noisy_paths(case(box=BOX), ExplainSettings(steps=200))
    noise = np.stack([path.end["image"] for path in seen]) - FILM
    assert not noise[:, :, [0, 3]].any()
    assert noise[:, :, 1:3].std() == pytest.approx(NOISE * np.ptp(FILM[:, 1:3]), rel=0.1)


def test_several_baselines_are_averaged():
    both, black, mean = (
        attribute("integrated-gradients", baselines=b)[0] for b in (("black", "mean"), ("black",), ("mean",))
    )
    for name in both.values:
        np.testing.assert_allclose(
            both.values[name], (black.values[name] + mean.values[name]) / 2, rtol=1e-4, atol=1e-2
        )
    assert both.baseline_score == pytest.approx((black.baseline_score + mean.baseline_score) / 2, rel=1e-5)
    assert both.steps == black.steps + mean.steps


def test_the_text_baseline_is_padding_or_zero():
    (found,) = attribute("integrated-gradients", text_baseline="zero")
    np.testing.assert_allclose(found.values["rows"], B * WORDS, rtol=1e-4, atol=1e-6)


@pytest.mark.large
def test_smoothgrad_is_the_mean_gradient_over_noise():
    """Of a square that is the gradient at the mean of the noisy films, and the scores are those without noise."""
    (found,) = attribute("smoothgrad", steps=400)
    np.testing.assert_allclose(found.values["rows"], B, rtol=1e-4)
    shift = found.values["image"] / (2 * A) - FILM
    noise = NOISE * np.ptp(FILM) / np.sqrt(400)  # standard error of the mean of 400 draws
    assert 0.5 * noise < shift.std() < 1.7 * noise and np.abs(shift).max() < 5 * noise
    assert found.score == pytest.approx(total(FILM, WORDS), rel=1e-4) and found.scores[1] == -found.scores[0]
    assert found.steps == 400


def test_noise_goes_with_the_study_and_not_with_its_place():
    first, second = attribute("smoothgrad", [case("1"), case("2")], steps=3)
    again, other = attribute("smoothgrad", [case("2"), case("1")], steps=3)
    np.testing.assert_allclose(first.values["image"], other.values["image"], rtol=1e-5)
    np.testing.assert_allclose(second.values["image"], again.values["image"], rtol=1e-5)
    assert np.abs(first.values["image"] - second.values["image"]).max() > 1


@pytest.mark.parametrize("method", PATHS)
def test_the_target_is_the_label_that_is_asked_for(method):
    one, other = attribute(method, [case(), case(target=1)], steps=4)
    assert (one.target, other.target) == (0, 1)
    np.testing.assert_allclose(other.values["image"], -one.values["image"], rtol=1e-5)


@pytest.mark.parametrize("method", ["integrated-gradients", "gradient-x-input"])
def test_nothing_is_attributed_to_what_is_absent(method):
    for name in ("image", "rows"):
        (found,) = attribute(method, [case(absent=frozenset([name]))], steps=4, baselines=("grey", "black"))
        other = {"image": "rows", "rows": "image"}[name]
        assert not found.values[name].any() and found.values[other].any()


def test_no_noise_is_added_to_what_is_absent():
    (found,) = attribute("smoothgrad", [case(absent=frozenset(["image"]))], steps=4)
    np.testing.assert_allclose(found.values["image"], 2 * A * FILM, rtol=1e-5)


@pytest.mark.parametrize("method", PATHS)
def test_only_a_method_that_promises_a_sum_says_how_well_it_keeps_it(method):
    (found,) = attribute(method, steps=4)
    known = method == "integrated-gradients"
    assert np.isfinite([found.completeness_gap, found.map_error]).tolist() == [known, known]
    assert np.isfinite(found.baseline_score) == (method in ("integrated-gradients", "gradient-x-input"))
    assert set(found.values) == {"image", "rows"} and found.values["image"].dtype == np.float32


def test_the_table_names_its_sources_and_refuses_other_names():
    assert all(method.source.startswith("https://") for method in METHODS.values())
    with pytest.raises(InputError, match=r"^Unknown method 'lime'. Known: integrated-gradients, gradient, [^\n]*$"):
        choose_method("lime")
