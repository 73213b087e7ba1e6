import numpy as np
import pytest

from kmm.errors import InputError
from kmm.explain.quadrature import RULES, STEPS, choose_nodes, refine_midpoints


def integrate(nodes, function):
    return np.average(function(nodes.alphas), weights=nodes.weights)


@pytest.mark.parametrize("rule", RULES)
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


@pytest.mark.parametrize("steps", [1, 2, 8, 24])
def test_refined_midpoints_and_the_old_ones_are_the_midpoints_of_three_times_as_many(steps):
    old, new, whole = choose_nodes("midpoint", steps), refine_midpoints(steps), choose_nodes("midpoint", 3 * steps)
    order = np.argsort([*old.alphas, *new.alphas])
    np.testing.assert_allclose(np.array([*old.alphas, *new.alphas])[order], whole.alphas, rtol=1e-12)
    swapped = np.array([*~old.odd, *new.odd])[order]  # old node i is node 3i + 1: its parity flips
    assert swapped.tolist() == whole.odd.tolist()


@pytest.mark.parametrize("rule, steps", [("simpson", 8), ("left", 0), ("left", 2.5), ("left", True)])
def test_bad_rules_and_steps(rule, steps):
    with pytest.raises(InputError, match=r"rule|steps"):
        choose_nodes(rule, steps)
