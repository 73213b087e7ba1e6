"""Agreement of explanations: known values, SciPy's correlations, what maps and words are compared with."""

import numpy as np
import pytest
from scipy import stats

from kmm.errors import InputError
from kmm.explain.fidelity.agreement import Compared, compare_explanations, measure_agreement
from kmm.explain.regions.find import smooth_map

RANDOM = np.random.default_rng(0)
MEASURES = ("pearson", "spearman", "iou_5", "iou_20")


def test_correlations_are_those_of_scipy():
    first = RANDOM.normal(size=(20, 30))
    second = first**3 + RANDOM.normal(size=first.shape)
    second[:5] = second[5]  # ties
    found = measure_agreement(first, second)
    assert found["pearson"] == pytest.approx(stats.pearsonr(first.ravel(), second.ravel()).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(first.ravel(), second.ravel()).statistic)


def test_overlap_of_the_highest_shares_by_hand():
    """Of 100 values the highest 5 and 20: shifted by 3 places, 2 and 17 of them remain."""
    values = np.arange(100.0)
    found = measure_agreement(values, np.roll(values, -3))
    assert found["iou_5"] == pytest.approx(2 / 8) and found["iou_20"] == pytest.approx(17 / 23)
    assert measure_agreement(values, values) == pytest.approx(dict.fromkeys(MEASURES, 1.0))
    opposite = measure_agreement(values, -values)
    assert opposite == pytest.approx({"pearson": -1, "spearman": -1, "iou_5": 0, "iou_20": 0})


def test_chance_is_what_the_documentation_says():
    draws = [measure_agreement(RANDOM.normal(size=900), RANDOM.normal(size=900)) for _ in range(300)]
    mean = {name: np.mean([draw[name] for draw in draws]) for name in MEASURES}
    assert mean["iou_5"] == pytest.approx(0.026, abs=0.003) and mean["iou_20"] == pytest.approx(0.111, abs=0.005)
    assert abs(mean["pearson"]) < 0.01 and abs(mean["spearman"]) < 0.01


def test_the_scale_of_values_does_not_matter():
    first, second = RANDOM.normal(size=(2, 50))
    expected = measure_agreement(first, second)
    assert measure_agreement(1e-180 * first, 1e150 * second + 1e150) == pytest.approx(expected)


@pytest.mark.parametrize("other", [np.zeros(4), np.array([1, 2, np.nan, 3])])
def test_a_map_without_ranks_agrees_with_nothing(other):
    assert all(np.isnan(value) for value in measure_agreement(np.arange(4.0), other).values())


def test_maps_of_two_shapes_are_refused():
    with pytest.raises(InputError, match=r"one shape\. Received: \(4,\) and \(2, 2\)"):
        measure_agreement(np.zeros(4), np.zeros((2, 2)))


def test_maps_are_smoothed_and_what_has_no_sign_is_compared_with_sizes():
    heat, other = RANDOM.normal(size=(2, 16, 16)).astype(np.float32)
    words, signed = np.array([1.0, 2, 3, 4]), np.array([-4.0, 1, -2, 3])
    own, reference = Compared("mass", np.abs(heat), words), Compared("mass", other, signed)
    for told, target in ((True, other), (False, np.abs(other))):
        found = compare_explanations(own, reference, smoothing=0.05, signed=told)
        expected = measure_agreement(smooth_map(np.abs(heat), 0.05), smooth_map(target, 0.05))
        assert {name: found[f"ig_{name}"] for name in MEASURES} == expected
        expected = measure_agreement(words, signed if told else np.abs(signed))
        assert {name: found[f"ig_words_{name}"] for name in MEASURES} == expected


def test_only_what_both_have_is_compared():
    whole = Compared("mass", RANDOM.normal(size=(8, 8)), np.arange(3.0))
    of_film, of_words = Compared("mass", whole.heat, None), Compared("mass", None, whole.words)
    assert set(compare_explanations(of_film, whole)) == {f"ig_{name}" for name in MEASURES}
    assert set(compare_explanations(whole, of_words)) == {f"ig_words_{name}" for name in MEASURES}
    assert compare_explanations(of_film, of_words) == {}
    assert compare_explanations(Compared("mass", None, np.arange(2.0)), Compared("mass", None, np.arange(2.0))) == {}
    assert compare_explanations(whole, Compared("effusion", whole.heat, whole.words)) == {}
