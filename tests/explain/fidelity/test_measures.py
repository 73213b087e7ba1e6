import random
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, spearmanr

from kmm.errors import InputError
from kmm.explain.fidelity.measures import (
    is_sound,
    judge,
    map_similarity,
    measure_fidelity,
    named_in_top,
    randomise_weights,
)
from kmm.explain.words import WordScore


def words_of(**shares):
    return [WordScore(0, 1, text, "findings", 0, share, 0.0, seen=share > 0) for text, share in shares.items()]


def test_naming_words_among_the_strongest():
    words = words_of(There=0.05, small=0.1, Nodule=0.2, left=0.3, lung=0.35)
    assert named_in_top(words, ["nodule"]) and named_in_top(words, ["absent", "NODULE"])
    assert not named_in_top(words, ["nodule"], top=2) and not named_in_top(words, ["small"])
    assert not named_in_top(words, []) and not named_in_top([], ["nodule"])


def test_words_without_a_share_never_count():
    assert not named_in_top(words_of(nodule=0.0, left=0.0), ["nodule"])


def test_punctuation_at_the_ends_does_not_count():
    words = [WordScore(0, 1, "(Nodule),", "findings", 0, 1.0, 1.0)]
    assert named_in_top(words, ["nodule"]) and not named_in_top(words, ["nodul"])


maps = arrays(float, (5, 6), elements=st.integers(-20, 20).map(float))


@given(maps, maps)
def test_similarity_is_spearmans(first, second):
    found = map_similarity(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert isnan(found)
    else:
        assert found == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic, abs=1e-9)


@given(maps)
def test_similarity_asks_for_the_order_alone(heat):
    if np.ptp(heat):
        assert map_similarity(heat, np.exp(heat / 5)) == pytest.approx(1)
        assert map_similarity(heat, -heat) == pytest.approx(-1)


def test_unlike_maps_and_bad_maps():
    rng = np.random.default_rng(0)
    assert abs(map_similarity(rng.normal(size=(100, 100)), rng.normal(size=(100, 100)))) < 0.05
    assert isnan(map_similarity([1.0, np.nan], [1.0, 2.0])) and isnan(map_similarity([], []))
    with pytest.raises(InputError, match="one shape"):
        map_similarity(np.zeros((2, 2)), np.zeros(4))


def make_model():
    from kmm.models.build import ModelSpec, build_model

    spec = ModelSpec(image_encoder="small-cnn", text_encoder="text-cnn", pixels=32, length=9, embedding_size=4)
    return build_model(spec, label_count=2, vocabulary_size=50, embedding=np.ones((50, 4)), seed=3)


@pytest.mark.large
def test_every_drawn_weight_is_new_and_the_structure_stays():
    model = make_model()
    before, state = model.get_weights(), random.getstate()
    new, again, other = (randomise_weights(model, seed) for seed in (3, 3, 4))
    assert random.getstate() == state
    assert all(map(np.array_equal, before, model.get_weights()))
    assert [weight.path for weight in new.weights] == [weight.path for weight in model.weights]
    assert [weight.shape for weight in new.weights] == [weight.shape for weight in model.weights]
    assert new.get_layer("core").get_config() == model.get_layer("core").get_config()
    for old, drawn, same, second in zip(before, new.get_weights(), again.get_weights(), other.get_weights()):
        assert np.array_equal(drawn, same)
        if old.ndim > 1:  # biases and normalisations begin at 0 and 1
            assert (drawn != old).all() and (drawn != second).any()


@pytest.mark.large
def test_a_randomised_model_forgets_what_was_set():
    model = make_model()
    model.set_weights([np.full_like(weight, 0.1) for weight in model.get_weights()])
    new = randomise_weights(model, 0)
    assert all((weight == 0).all() or (weight == 1).all() or np.ptp(weight) > 0 for weight in new.get_weights())
    inputs = {
        "image": np.full((2, 32, 32, 1), 99.0, np.float32),
        "token_ids": np.ones((2, 9), np.int32),
        "present": np.ones((2, 2), np.float32),
    }
    found = new.predict_on_batch(inputs)
    assert found.shape == (2, 2) and np.isfinite(found).all()


def test_map_of_a_linear_model_changes_with_its_weights():
    """The gradient of a linear score is its weights: on a new draw it must have nothing in common with the old one."""
    import keras

    model = keras.Sequential([keras.Input((900,)), keras.layers.Dense(1)])
    new = randomise_weights(model, 0)
    assert abs(map_similarity(model.get_weights()[0], new.get_weights()[0])) < 0.15  # 4.5 standard errors


def test_measures_by_method_with_wilson_intervals():
    rows = [{"method": "a", "study": str(i), "hit": i < 85} for i in range(100)]
    rows += [{"method": "b", "study": "1", "hit": np.bool_(False)}]
    found = measure_fidelity(rows, level=0.9)
    z = norm.ppf(0.95)
    centre, half = 0.85 + z**2 / 200, z * (0.85 * 0.15 / 100 + z**2 / 40000) ** 0.5
    expected = [(centre - half) / (1 + z**2 / 100), (centre + half) / (1 + z**2 / 100)]
    assert found["a"]["hit"]["interval"] == pytest.approx(expected)
    assert found["a"]["hit"] | {"interval": 0} == {"n": 100, "mean": 0.85, "interval": 0}
    assert found["b"]["hit"]["mean"] == 0 and found["b"]["hit"]["interval"][0] == 0
    assert list(found) == ["a", "b"]


def test_means_have_bootstrap_intervals():
    values = np.random.default_rng(5).normal(2, 3, 400)
    rows = [{"method": "a", "study": str(i), "iou": value} for i, value in enumerate(values)]
    found = measure_fidelity(rows)["a"]["iou"]
    error = values.std() / 20
    assert found["mean"] == pytest.approx(values.mean())
    assert found["interval"] == pytest.approx(
        [found["mean"] - 1.96 * error, found["mean"] + 1.96 * error], abs=0.15 * error * 2
    )
    assert found == measure_fidelity(rows)["a"]["iou"] != measure_fidelity(rows, seed=1)["a"]["iou"]


def test_unknown_numbers_are_left_out_and_counted_so():
    rows = [
        {"method": "a", "study": "1", "iou": 0.5, "hit": True, "gap": float("nan")},
        {"method": "a", "study": "2", "iou": None, "gap": None},
    ]
    assert measure_fidelity(rows)["a"] == {
        "iou": {"n": 1, "mean": 0.5, "interval": [0.5, 0.5]},
        "hit": {"n": 1, "mean": 1.0, "interval": pytest.approx([0.2065, 1.0], abs=1e-4)},
        "gap": {"n": 0, "mean": None, "interval": None},
    }
    assert measure_fidelity([]) == {}


def test_measurement_refuses():
    with pytest.raises(InputError, match="name its method"):
        measure_fidelity([{"study": "1", "hit": True}])
    for bad in ({"repeats": 0}, {"level": 1.0}):
        with pytest.raises(InputError, match="`repeats` must be"):
            measure_fidelity([], **bad)


def means_of(**means):
    return {name: {"n": 1, "mean": mean, "interval": [mean, mean]} for name, mean in means.items()}


@pytest.mark.parametrize(
    ("measured", "chance", "expected", "sound"),
    [
        ({}, {}, ["not measured"] * 4, False),
        ({"similarity": 0.1}, {}, ["not measured", "passed", "not measured", "not measured"], True),
        ({"similarity": 0.5}, {}, ["not measured", "failed", "not measured", "not measured"], False),
        ({"alike_words": -0.2}, {}, ["not measured", "not measured", "passed", "not measured"], True),
        ({"alike_words": 0.9, "similarity": 0}, {}, ["not measured", "passed", "failed", "not measured"], False),
        ({"completeness_gap": 0.01, "insertion": 0.7}, {}, ["passed", *["not measured"] * 3], True),
        ({"completeness_gap": 0.011}, {}, ["failed", *["not measured"] * 3], False),
        ({"insertion": 0.7}, {"insertion": 0.6}, [*["not measured"] * 3, "passed"], True),
        ({"insertion": 0.6}, {"insertion": 0.6}, [*["not measured"] * 3, "failed"], False),
    ],
)
def test_verdict(measured, chance, expected, sound):
    verdict = judge(means_of(**measured), means_of(**chance), 0.01)
    assert verdict == dict(zip(("completeness", "weights_film", "weights_words", "pixels"), expected, strict=True))
    assert is_sound(verdict) is sound


def test_a_measure_of_no_study_is_not_measured():
    nothing = {"n": 0, "mean": None, "interval": None}
    verdict = judge({"completeness_gap": nothing, "insertion": nothing}, {"insertion": nothing}, 0.01)
    assert set(verdict.values()) == {"not measured"}
