"""What counts as a shift: rarely where there is none, always where there is one."""

import json
import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from kmm.evaluate.breakdown.profile import GRAY, SIZES, Profile, Share
from kmm.evaluate.breakdown.shift import LEAST_DIVERGENCE, compare_profiles, describe_shift
from kmm.evaluate.statistics.multiplicity import adjust_holm

FOUND = "Compared with the training studies, 2 of 2 shifted, p after Holm's correction over all shares:"


def make_share(hits, n):
    return Share(hits / n, n, float(n))


def make_sizes(counts):
    total = sum(counts)
    return {name: count / total for name, count in zip(("a", "b", "c", "d"), counts, strict=True) if count}


def test_a_share_is_tested_as_a_table_of_two_by_two():
    shares = [make_share(*pair) for pair in ((300, 1000), (70, 150))]
    item = compare_profiles(*(Profile(1, 0, {"x of Y": share}, {}) for share in shares))["items"]["x of Y"]
    known = chi2_contingency([[300, 700], [70, 80]], correction=False).pvalue
    assert item["p"] == pytest.approx(known) and item["difference"] == pytest.approx(70 / 150 - 0.3)
    assert item["shifted"] and item["text"].startswith("X of Y: 0.467 here, 0.300 in training (+0.167 [+0.0")


def test_the_divergence_is_that_of_the_definition():
    one, other = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.3, 0.2, 0.4])
    middle = (one + other) / 2

    def divergence(table):
        return sum(p * math.log2(p / q) for p, q in zip(table, middle, strict=True) if p)

    profiles = [Profile(9, 900, {}, {SIZES: dict(zip("abcd", table.tolist(), strict=True))}) for table in (one, other)]
    item = compare_profiles(*profiles)["items"][SIZES]
    assert item["divergence"] == pytest.approx((divergence(one) + divergence(other)) / 2) and item["shifted"]
    apart = compare_profiles(*(Profile(9, 900, {}, {SIZES: {name: 1.0}}) for name in "ab"))["items"][SIZES]
    assert apart["divergence"] == pytest.approx(1) and "mostly b (100%) here, mostly a (100%)" in apart["text"]
    same = compare_profiles(profiles[0], profiles[0])["items"][SIZES]
    assert same["divergence"] == 0 and not same["shifted"]


def test_a_small_shift_is_an_eighth_of_the_stability_index():
    one, other = np.full(10, 0.1), np.full(10, 0.1) + 0.02 * np.array([1, -1] * 5)
    index = float(np.sum((other - one) * np.log(other / one)))
    profiles = [Profile(9, 9, {}, {GRAY: dict(zip("0123456789", t.tolist(), strict=True))}) for t in (one, other)]
    found = compare_profiles(*profiles)["items"][GRAY]["divergence"]
    assert found == pytest.approx(index / (8 * math.log(2)), rel=0.02)
    assert pytest.approx(0.1 / (8 * math.log(2)), abs=2e-4) == LEAST_DIVERGENCE


def test_studies_of_the_same_kind_are_seldom_called_shifted():
    rng = np.random.default_rng(0)
    alarms, chances = np.zeros(2), []
    for _ in range(400):
        sites = []
        for n in (800, 60):
            hits, counts = rng.binomial(n, 0.3), rng.multinomial(n, [0.4, 0.3, 0.2, 0.1])
            sites.append(Profile(n, n, {"share": make_share(hits, n)}, {SIZES: make_sizes(counts)}))
        items = compare_profiles(*sites)["items"]
        alarms += [items["share"]["shifted"], items[SIZES]["shifted"]]
        chances.append(items[SIZES]["divergence"] / items[SIZES]["by_chance"])
    assert 0.02 < alarms[0] / 400 < 0.08  # 5 %
    assert alarms[1] / 400 < 0.15 and np.mean(chances) == pytest.approx(1, abs=0.1)


@pytest.mark.large
def test_of_many_shares_that_did_not_shift_seldom_one_is_called_shifted():
    rng, names = np.random.default_rng(1), [f"share {number}" for number in range(10)]
    alarms, uncorrected = 0, 0
    for _ in range(400):
        sites = [Profile(n, 0, {name: make_share(rng.binomial(n, 0.3), n) for name in names}, {}) for n in (2000, 500)]
        items = compare_profiles(*sites)["items"]
        alarms += any(item["shifted"] for item in items.values())
        uncorrected += any(item["p"] < 0.05 for item in items.values())
    assert alarms / 400 < 0.08 and uncorrected / 400 > 0.3


def test_p_is_adjusted_over_the_shares_and_never_shown_as_0():
    shares = {"a": (500, 1000), "b": (330, 1000), "c": (300, 1000)}
    training = Profile(1, 0, {name: make_share(300, 1000) for name in shares}, {})
    shift = compare_profiles(training, Profile(1, 0, {name: make_share(*pair) for name, pair in shares.items()}, {}))
    items = shift["items"]
    adjusted = adjust_holm({name: items[name]["p"] for name in shares})
    assert {name: items[name]["p_holm"] for name in shares} == adjusted
    assert [items[name]["shifted"] for name in "abc"] == [True, False, False]
    assert items["a"]["text"].endswith("p < 0.001)") and f"p = {adjusted['b']:.3f})" in items["b"]["text"]
    assert "1 of 3 shifted, p after Holm's correction over all shares:" in describe_shift(shift)[0]


def test_another_kind_of_studies_is_called_shifted():
    rng = np.random.default_rng(0)
    for _ in range(50):
        sites = []
        for n, prevalence, sizes in ((800, 0.65, [0.1, 0.2, 0.3, 0.4]), (200, 0.35, [0.7, 0.2, 0.1, 0.0])):
            shares = {"share": make_share(rng.binomial(n, prevalence), n)}
            sites.append(Profile(n, n, shares, {SIZES: make_sizes(rng.multinomial(n, sizes))}))
        assert all(item["shifted"] for item in compare_profiles(*sites)["items"].values())


def test_what_only_one_side_knows_is_not_compared():
    known = Profile(10, 5, {"a": make_share(3, 10), "none": Share(0.0, 0, 0.0)}, {SIZES: {"x": 1.0}})
    items = compare_profiles(Profile(10, 0, {"a": make_share(3, 10), "none": make_share(1, 9)}, {}), known)["items"]
    assert list(items) == ["a"]


def test_a_share_of_an_unknown_number_of_studies_has_no_interval():
    found = Profile(50, 0, {"a": make_share(10, 50), "b": make_share(16, 50)}, {})
    shift = compare_profiles(Profile(0, 0, {"a": Share(0.3, 0, 0.0), "b": Share(0.3, 0, 0.0)}, {}), found)
    assert [shift["items"][name]["shifted"] for name in "ab"] == [True, False]
    assert shift["items"]["a"]["text"] == "A: 0.200 here, 0.300 in training (-0.100)"
    assert shift["items"]["a"]["interval"] is None is shift["items"]["a"]["p"]
    json.dumps(shift, allow_nan=False)


def test_every_shift_has_a_line():
    shift = compare_profiles(
        Profile(9, 900, {"a": make_share(100, 900)}, {GRAY: {"0": 1.0, "128": 0.0}}),
        Profile(9, 900, {"a": make_share(500, 900)}, {GRAY: {"0": 0.0, "128": 1.0}}),
    )
    lines = describe_shift(shift | {"note": "A note."})
    assert lines[:2] == ["A note.", FOUND] and len(lines) == 4
    assert lines[3].startswith("Gray levels: mean 192 here, mean 64 in training (Jensen-Shannon divergence 1.000 bits")
    assert describe_shift({"items": {}}) == []
