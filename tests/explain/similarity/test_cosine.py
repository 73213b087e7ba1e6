"""The cosine with a fixed vector as a score: closed forms of linear encoders."""

import numpy as np
import pytest
from keras import ops

from kmm.errors import InputError
from kmm.explain.attribution.integrated_gradients import integrated_gradients
from kmm.explain.attribution.methods import Case
from kmm.explain.similarity.cosine import aim_case, choose_length, read_case, score_cosine

RANDOM = np.random.default_rng(3)
WEIGHTS = RANDOM.normal(size=(6, 4)).astype(np.float32)
OFFSET = RANDOM.normal(size=4).astype(np.float32)
ONE, OTHER = RANDOM.normal(size=(2, 6)).astype(np.float32)


def attribute(one, other, offset, length=0.0, **options):
    """Attributes the cosine of two linear encodings to the first input, from a baseline of zeros."""
    direction = other @ WEIGHTS + offset
    fixed = {"other": (direction / np.linalg.norm(direction))[None], "length": np.float32([length])}

    def score(inputs, fixed):
        return score_cosine(ops.matmul(inputs["x"], WEIGHTS) + offset, fixed)

    return integrated_gradients(score, {"x": one[None]}, {"x": 0.0}, fixed=fixed, **options)[0]


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_a_linear_encoder_without_offset_has_a_closed_form():
    """Its vector of the baseline is 0, so lengths are held: each input counts as weight times input, and the sum is
    the cosine."""
    vector, other = ONE @ WEIGHTS, OTHER @ WEIGHTS
    length = choose_length(vector, [np.zeros(4)])
    assert length == pytest.approx(np.linalg.norm(vector))
    found = attribute(ONE, OTHER, np.zeros(4, np.float32), length)
    expected = ONE * (WEIGHTS @ (other / np.linalg.norm(other))) / np.linalg.norm(vector)
    np.testing.assert_allclose(found.values["x"], expected, atol=1e-6)
    assert found.score == pytest.approx(cosine(vector, other), abs=1e-6) and found.baseline_score == 0
    assert found.values["x"].sum() == pytest.approx(cosine(vector, other), abs=1e-6)
    assert found.completeness_gap < 1e-5 and not found.warnings


def test_an_affine_encoder_agrees_with_an_exact_integral():
    other = OTHER @ WEIGHTS + OFFSET
    direction = other / np.linalg.norm(other)
    steps, total = 20000, np.zeros(6)
    for alpha in (np.arange(steps) + 0.5) / steps:
        vector = alpha * (ONE @ WEIGHTS) + OFFSET
        length = np.linalg.norm(vector)
        total += WEIGHTS @ (direction / length - vector * (vector @ direction) / length**3)
    found = attribute(ONE, OTHER, OFFSET, steps=200)
    np.testing.assert_allclose(found.values["x"], ONE * total / steps, atol=1e-4)
    expected = cosine(ONE @ WEIGHTS + OFFSET, other) - cosine(OFFSET, other)
    assert found.score - found.baseline_score == pytest.approx(expected, abs=1e-6)
    assert found.values["x"].sum() == pytest.approx(expected, abs=1e-4)


def test_two_empty_studies_that_move_together_would_explain_what_differs():
    """Both start at one vector, whose cosine with itself is 1, so the sum cannot be positive."""

    def score(inputs, fixed):
        one, other = (ops.matmul(inputs[name], WEIGHTS) + OFFSET for name in ("one", "other"))
        lengths = ops.sqrt(ops.sum(one**2, axis=1) * ops.sum(other**2, axis=1))
        return ops.sum(one * other, axis=1) / lengths

    inputs = {"one": ONE[None], "other": OTHER[None]}
    found = integrated_gradients(score, inputs, {"one": 0.0, "other": 0.0})[0]
    assert found.baseline_score == pytest.approx(1, abs=1e-6)
    assert sum(value.sum() for value in found.values.values()) < 0


def test_a_vector_of_zeros_is_like_nothing_and_has_finite_gradients():
    found = attribute(np.zeros(6, np.float32), OTHER, np.zeros(4, np.float32))
    assert found.score == 0 and found.is_finite and not found.values["x"].any()


@pytest.mark.parametrize(("shortest", "expected"), [(0.0, 5.0), (0.04, 5.0), (0.06, 0.0), (7.0, 0.0)])
def test_lengths_are_held_below_one_percent(shortest, expected):
    assert choose_length(np.array([3.0, 4.0]), [np.array([9.0, 0.0]), np.array([0.0, shortest])]) == expected
    assert choose_length(np.array([3.0, 4.0]), []) == 0


def make_case():
    return Case(
        study="1",
        inputs={"image": np.ones((2, 2, 1), np.float32), "rows": np.ones((3, 2), np.float32)},
        absent=frozenset(),
        fixed={"present": np.ones(2, np.float32), "padding_mask": np.ones(3, np.float32)},
        padding_row=np.full(2, 7, np.float32),
    )


@pytest.mark.parametrize(
    ("layer", "names"), [("joint", {"image", "rows"}), ("image", {"image"}), ("text", {"rows"})]
)  # fmt: skip
def test_a_layer_reads_its_own_inputs(layer, names):
    case = read_case(make_case(), layer, "both")
    assert set(case.inputs) == names and not case.absent and case.fixed["present"].tolist() == [1, 1]


def test_hidden_sides_are_those_of_a_study_without_them():
    whole = make_case()
    film, words = read_case(whole, "joint", "image"), read_case(whole, "joint", "text")
    assert film.absent == {"rows"} and film.fixed["present"].tolist() == [1, 0]
    assert (film.inputs["rows"] == 7).all() and not film.fixed["padding_mask"].any()
    assert words.absent == {"image"} and words.fixed["present"].tolist() == [0, 1]
    assert not words.inputs["image"].any() and words.fixed["padding_mask"].all()
    assert whole.inputs["image"].all() and whole.fixed["padding_mask"].all()
    with pytest.raises(InputError, match="Unknown pattern 'film'"):
        read_case(whole, "joint", "film")


def test_the_other_vector_is_made_as_long_as_1():
    case = aim_case(make_case(), np.array([3.0, 4.0]), 2.0)
    np.testing.assert_allclose(case.fixed["other"], [0.6, 0.8], rtol=1e-6)
    assert case.fixed["length"] == 2 and case.target == 0 and "other" not in make_case().fixed
