import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.errors import InputError
from kmm.explain.attribution.quadrature import QUADRATURE_RULES, STEPS, choose_nodes, refine_midpoints


def integrate(nodes, function):
    return np.average(function(nodes.alphas), weights=nodes.weights)


@pytest.mark.parametrize("rule", QUADRATURE_RULES)
def test_every_rule_integrates_a_constant_exactly_and_lies_in_the_unit_interval(rule):
    nodes = choose_nodes(rule, 7)
    assert integrate(nodes, lambda x: np.full_like(x, 3.0)) == pytest.approx(3)
    assert len(nodes.alphas) == 7 and nodes.alphas.min() >= 0 and nodes.alphas.max() <= 1
    assert (np.diff(nodes.alphas) > 0).all() and nodes.odd.tolist() == [False, True] * 3 + [False]


@pytest.mark.parametrize("rule", ["midpoint", "trapezoid", "gauss-legendre"])
def test_symmetric_rules_integrate_a_line_exactly(rule):
    assert integrate(choose_nodes(rule, 6), lambda x: 2 * x + 1) == pytest.approx(2)


def test_gauss_legendre_is_exact_for_polynomials_of_degree_2n_minus_1():
    assert integrate(choose_nodes("gauss-legendre", 3), lambda x: x**5) == pytest.approx(1 / 6)


def test_left_and_right_rules_of_a_line_are_half_a_step_off():
    assert integrate(choose_nodes("left", 10), lambda x: x) == pytest.approx(0.45)
    assert integrate(choose_nodes("right", 10), lambda x: x) == pytest.approx(0.55)


def test_the_paper_takes_fifty_steps_from_the_baseline_on():
    nodes = choose_nodes("paper")
    np.testing.assert_allclose(nodes.alphas, np.arange(STEPS["paper"]) / 50)


@given(st.integers(1, 40), st.integers(1, 20).map(lambda half: 2 * half + 1))
def test_refined_midpoints_and_the_old_ones_are_the_midpoints_of_as_many_times_the_steps(steps, factor):
    old, whole = choose_nodes("midpoint", steps), choose_nodes("midpoint", factor * steps)
    new, flipped = refine_midpoints(steps, factor)
    order = np.argsort([*old.alphas, *new.alphas])
    np.testing.assert_allclose(np.array([*old.alphas, *new.alphas])[order], whole.alphas, rtol=1e-12)
    assert np.array([*(old.odd ^ flipped), *new.odd])[order].tolist() == whole.odd.tolist()
    assert new.weights.tolist() == [1.0] * (factor - 1) * steps  # as the old ones


@pytest.mark.parametrize("factor", [-3, 0, 1, 2, 8])
def test_midpoints_are_refined_by_odd_factors_alone(factor):
    with pytest.raises(InputError, match=rf"^`factor` must be 3, 5, 7, \.\.\. Received: {factor}\.$"):
        refine_midpoints(5, factor)


@pytest.mark.parametrize("rule, steps", [("simpson", 8), ("left", 0), ("left", 2.5), ("left", True)])
def test_bad_rules_and_steps(rule, steps):
    with pytest.raises(InputError, match=r"rule|steps"):
        choose_nodes(rule, steps)
