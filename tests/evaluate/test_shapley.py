import json
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.errors import InputError
from kmm.evaluate.metrics import score_labels
from kmm.evaluate.statistics.bootstrap import RESAMPLED
from kmm.evaluate.statistics.shapley import COALITIONS, SHARES, share_metric, share_value

values = st.floats(-1e3, 1e3)


@given(*[values] * 4)
def test_the_shares_are_those_of_shapleys_formula(none, image, text, both):
    v = {frozenset(): none, frozenset("i"): image, frozenset("t"): text, frozenset("it"): both}
    found = share_value(none, image, text, both)
    for name, player in (("image", "i"), ("text", "t")):
        expected = 0.0
        for others in v:
            if player not in others:
                weight = factorial(len(others)) * factorial(1 - len(others)) / factorial(2)
                expected += weight * (v[others | {player}] - v[others])
        assert found[name] == pytest.approx(expected, abs=1e-9)


@given(*[values] * 4)
def test_efficiency_symmetry_and_the_null_player(none, image, text, both):
    found = share_value(none, image, text, both)
    assert found["image"] + found["text"] == pytest.approx(both - none, abs=1e-9)
    swapped = share_value(none, text, image, both)
    assert swapped["image"] == found["text"] and swapped["text"] == found["image"]
    same = share_value(none, image, image, both)
    assert same["image"] == same["text"]
    assert share_value(none, image, none, image)["text"] == pytest.approx(0, abs=1e-9)


def test_in_a_sum_of_sides_each_gets_its_own_and_nothing_interacts():
    """Per study, on logits, as of a model that adds the logits of both sides."""
    image, text = np.random.default_rng(0).normal(size=(2, 30, 3))
    found = share_value(np.full((30, 3), 0.4), 0.4 + image, 0.4 + text, 0.4 + image + text)
    np.testing.assert_allclose(found["image"], image)
    np.testing.assert_allclose(found["text"], text)
    np.testing.assert_allclose(found["interaction"], 0, atol=1e-12)


def make_case(seed=0, n=120, n_labels=1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, n_labels)).astype(float)
    signals = {name: strength * (labels - 0.5) for name, strength in (("image", 1.0), ("text", 2.0))}
    signals = {name: signal + rng.normal(size=labels.shape) for name, signal in signals.items()}
    logits = {"none": 0 * signals["text"], **signals, "both": signals["image"] + signals["text"]}
    return labels, {name: 1 / (1 + np.exp(-values)) for name, values in logits.items()}


@pytest.mark.parametrize("metric", RESAMPLED)
def test_the_shares_of_a_metric_are_those_of_its_four_values(metric):
    labels, seen = make_case()
    cuts = dict(zip(COALITIONS, (0.5, 0.4, 0.6, 0.5)))
    found = share_metric(labels[:, 0], {name: p[:, 0] for name, p in seen.items()}, cuts, metric=metric, repeats=50)
    expected = [score_labels(labels, seen[name], cuts[name])[metric] for name in COALITIONS]
    assert list(found["values"].values()) == pytest.approx(expected)
    for name, share in share_value(*expected).items():
        assert found[name]["value"] == pytest.approx(float(share))
        low, high = found[name]["interval"]
        assert low <= high
    total = found["values"]["both"] - found["values"]["none"]
    assert found["image"]["value"] + found["text"]["value"] == pytest.approx(total)


def test_nothing_has_the_auc_of_chance_and_log_loss_keeps_its_sign():
    labels, seen = make_case(n=400)
    cuts = dict.fromkeys(COALITIONS, 0.5)
    found = share_metric(labels, seen, cuts, repeats=200)
    assert found["values"]["none"] == 0.5
    assert 0 < found["image"]["value"] < found["text"]["value"] and found["image"]["interval"][0] > 0
    loss = share_metric(labels, seen, cuts, metric="log_loss", repeats=20)
    assert loss["values"]["none"] == pytest.approx(np.log(2)) and loss["text"]["value"] < loss["image"]["value"] < 0


def test_a_side_that_is_never_looked_at_gets_exactly_nothing():
    labels, seen = make_case(1)
    blind = {**seen, "image": seen["none"], "both": seen["text"]}
    found = share_metric(labels, blind, dict.fromkeys(COALITIONS, 0.5), repeats=50)
    assert found["image"]["value"] == 0 and found["image"]["interval"] == [0, 0]


def test_copies_of_studies_under_their_patient_do_not_narrow_an_interval():
    labels, seen = make_case(2, n=60)
    cuts = dict.fromkeys(COALITIONS, 0.5)
    once = share_metric(labels, seen, cuts, np.arange(60))
    copied = share_metric(
        np.tile(labels, (3, 1)), {k: np.tile(p, (3, 1)) for k, p in seen.items()}, cuts, np.tile(np.arange(60), 3)
    )
    for name in SHARES:
        assert copied[name]["interval"] == pytest.approx(once[name]["interval"], abs=1e-12)


def test_many_labels_and_what_is_undefined():
    labels, seen = make_case(3, n_labels=3)
    labels[:, 2] = 1
    cuts = {name: [0.5, 0.4, 0.5] for name in COALITIONS}
    found = share_metric(labels, seen, cuts, label_names="abc", repeats=30)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    a, b, c = found["per_label"].values()
    assert c["values"]["both"] is None and c["text"] == {"value": None, "interval": None}
    assert found["text"]["value"] == pytest.approx((a["text"]["value"] + b["text"]["value"]) / 2)
    one = share_metric(labels[:, 0], {k: p[:, 0] for k, p in seen.items()}, dict.fromkeys(COALITIONS, 0.5), repeats=30)
    assert one == a


def test_wrong_arguments_are_refused():
    labels, seen = make_case()
    cuts = dict.fromkeys(COALITIONS, 0.5)
    with pytest.raises(InputError, match="Received: none \\(\\), image \\(2,\\)"):
        share_value(0, [1, 2], 1, 1)
    with pytest.raises(InputError, match="probabilities must be given for none, image, text, both"):
        share_metric(labels, {"both": seen["both"]}, cuts)
    with pytest.raises(InputError, match="metric"):
        share_metric(labels, seen, cuts, metric="ece")
