import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from kmm.errors import InputError
from kmm.explain.attribution import integrated_gradients as module
from kmm.explain.attribution.integrated_gradients import PathIntegrator, integrated_gradients
from kmm.explain.attribution.path_integral import Path, Tolerance, attribute, measure_error, measure_gap

RANDOM = np.random.default_rng(0)


def hinge(inputs, fixed):
    """A sum of ReLUs: piecewise linear, as networks are."""
    return ops.sum(ops.relu(ops.subtract(ops.matmul(inputs["x"], WEIGHTS), BIAS)), axis=1)


WEIGHTS = RANDOM.normal(size=(40, 60)).astype(np.float32)
BIAS = RANDOM.normal(size=60).astype(np.float32)
INPUT = RANDOM.normal(size=(5, 40)).astype(np.float32)
HINGE = PathIntegrator(hinge, chunk=16)


def test_a_linear_score_gives_weight_times_difference_exactly():
    weights = np.float32([2, -1, 0.5])
    found = integrated_gradients(
        lambda inputs, fixed: ops.sum(ops.multiply(inputs["x"], weights), axis=1),
        {"x": np.float32([[1, 2, 3]])},
        {"x": 1},
        steps=1,
    )[0]
    np.testing.assert_allclose(found.values["x"], [0, -1, 1], rtol=1e-6)
    assert (found.score, found.baseline_score) == (1.5, 1.5)


def test_a_product_is_shared_alike():
    inputs = {"x": np.float32([3, 1, -2]), "y": np.float32([2, 5, 4])}
    found = integrated_gradients(lambda inputs, fixed: inputs["x"] * inputs["y"], inputs, {"x": 0, "y": 0})
    for row, one in enumerate(found):
        half = inputs["x"][row] * inputs["y"][row] / 2
        assert one.values["x"] == pytest.approx(half, rel=1e-5) and one.values["y"] == pytest.approx(half, rel=1e-5)
        assert one.completeness_gap < 1e-5


def test_a_relu_counts_from_where_it_opens():
    # relu(x - 1) from 0 to 4: the gradient is 1 on the last three quarters of the path
    found = integrated_gradients(
        lambda inputs, fixed: ops.relu(inputs["x"] - 1), {"x": np.float32([4])}, {"x": 0}, steps=8
    )[0]
    assert found.values["x"] == pytest.approx(3) and found.completeness_gap < 1e-6


@pytest.mark.large
@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_attributions_sum_to_the_difference_of_scores(seed):
    random = np.random.default_rng(seed)
    ends, starts = random.normal(size=(2, 3, 40)).astype(np.float32)
    for found in integrated_gradients(HINGE, {"x": ends}, {"x": starts}, steps=216):
        total = found.values["x"].sum(dtype=np.float64)
        assert abs(total - (found.score - found.baseline_score)) < 0.01 * np.abs(found.values["x"]).sum()


def reference(x, steps):
    """The midpoint rule written out in NumPy."""
    total = np.zeros_like(x, np.float64)
    for alpha in (np.arange(steps) + 0.5) / steps:
        total += (alpha * x @ WEIGHTS > BIAS).astype(np.float64) @ WEIGHTS.T.astype(np.float64)
    return total / steps * x


@pytest.mark.parametrize("steps", [1, 5, 24])
def test_values_are_those_of_a_loop_in_numpy(steps):
    for row, found in enumerate(integrated_gradients(HINGE, {"x": INPUT}, {"x": 0}, steps=steps)):
        np.testing.assert_allclose(found.values["x"], reference(INPUT[row], steps), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factors", [(3,), (5,), (3, 3), (3, 5), (7, 3), (5, 5)])
def test_refined_sums_are_those_of_as_many_steps_at_once(factors, monkeypatch):
    left = {}  # of each study, told by its scores

    def choose(means, tolerance):
        return next(left.setdefault(means[0].scores[1, 0], iter(factors)), None)

    monkeypatch.setattr(module, "choose_factor", choose)
    steps = 5 * int(np.prod(factors))
    at_once = integrated_gradients(HINGE, {"x": INPUT}, {"x": 0}, steps=steps)
    for row, found in enumerate(integrated_gradients(HINGE, {"x": INPUT}, {"x": 0})):
        assert found.steps == steps
        np.testing.assert_allclose(found.values["x"], reference(INPUT[row], steps), rtol=1e-4, atol=1e-5)
        assert found.map_error == pytest.approx(at_once[row].map_error, rel=1e-3)


@pytest.mark.parametrize("most, steps", [(1, 5), (14, 5), (15, 15), (72, 65), (216, 215)])
def test_a_path_ends_at_the_largest_refinement_within_the_limit(most, steps):
    strict = Tolerance(map_error=0, gap=0, max_steps=most)
    for found in integrated_gradients(HINGE, {"x": INPUT}, {"x": 0}, tolerance=strict):
        assert found.steps == steps and len(found.warnings) == 2


@pytest.mark.parametrize("tolerance", [0.2, 0.1, 0.05, 0.02])
def test_the_first_error_says_how_many_steps_are_needed(tolerance):
    first = integrated_gradients(HINGE, {"x": INPUT}, {"x": 0}, steps=5)
    found = integrated_gradients(HINGE, {"x": INPUT}, {"x": 0}, tolerance=Tolerance(tolerance, gap=9, max_steps=10**4))
    at_once = 0
    for before, after in zip(first, found, strict=True):
        assert after.map_error <= tolerance and after.steps % 10 == 5 and not after.warnings
        at_once += after.steps <= 5 * max(3, 1.1 * before.map_error / tolerance + 2)
    assert at_once >= 3  # of five; the others are refined twice


@pytest.mark.parametrize("chunk", [1, 3, 16, 64])
def test_the_result_does_not_depend_on_the_chunk_or_on_other_studies(chunk):
    together = integrated_gradients(hinge, {"x": INPUT}, {"x": 0}, chunk=chunk)
    alone = integrated_gradients(HINGE, {"x": INPUT[2:3]}, {"x": 0})[0]
    assert together[2].steps == alone.steps
    np.testing.assert_allclose(together[2].values["x"], alone.values["x"], rtol=1e-5, atol=1e-6)
    assert together[2].map_error == pytest.approx(alone.map_error, rel=1e-3)


def test_each_study_stops_by_itself():
    line = 1e3 * np.ones((1, 40), np.float32)  # far out all ReLUs are open or shut almost from the start
    steps = [found.steps for found in integrated_gradients(HINGE, {"x": np.concatenate([line, INPUT])}, {"x": 0})]
    assert steps[0] == 5 and max(steps) > 5


def test_the_error_is_that_against_many_steps():
    ratios = []
    for row, found in enumerate(integrated_gradients(HINGE, {"x": INPUT}, {"x": 0}, steps=24)):
        truth = reference(INPUT[row], 4096)
        ratios.append(found.map_error / (np.abs(found.values["x"] - truth).sum() / np.abs(truth).sum()))
    assert 1 / 1.5 < np.median(ratios) < 1.5


def test_the_stem_changes_the_cost_and_not_the_result():
    kernel = RANDOM.normal(size=(7, 40)).astype(np.float32)
    inputs = {"z": RANDOM.normal(size=(3, 7)).astype(np.float32)}

    def stem(inputs, fixed):
        return {"x": ops.matmul(inputs["z"], kernel) + 1.0}

    cut = integrated_gradients(PathIntegrator(hinge, stem=stem), inputs, {"z": 0}, steps=20)
    whole = integrated_gradients(lambda inputs, fixed: hinge(stem(inputs, fixed), fixed), inputs, {"z": 0}, steps=20)
    for one, other in zip(cut, whole, strict=True):
        np.testing.assert_allclose(one.values["z"], other.values["z"], rtol=1e-4, atol=1e-4)
        assert one.score == pytest.approx(other.score, rel=1e-5)


def test_the_target_is_the_label_asked_for_or_the_highest():
    def scores(inputs, fixed):
        return ops.stack([inputs["x"], 3 * inputs["x"], -inputs["x"]], axis=1)

    inputs = {"x": np.float32([2, -2])}
    free = integrated_gradients(scores, inputs, {"x": 0}, steps=2)
    assert [found.target for found in free] == [1, 2] and [found.score for found in free] == [6, 2]
    asked = integrated_gradients(scores, inputs, {"x": 0}, steps=2, target=[0, 1])
    assert [float(found.values["x"]) for found in asked] == [2, -6]
    np.testing.assert_allclose(asked[0].scores, [2, 6, -2])
    with pytest.raises(InputError, match="from 0 to 2"):
        integrated_gradients(scores, inputs, {"x": 0}, target=3)


def test_what_is_fixed_belongs_to_its_study():
    found = integrated_gradients(
        lambda inputs, fixed: inputs["x"] * fixed["w"], {"x": np.ones(20, np.float32)}, {"x": 0},
        fixed={"w": np.arange(20, dtype=np.float32)}, steps=3,
    )  # fmt: skip
    np.testing.assert_allclose([one.values["x"] for one in found], np.arange(20), rtol=1e-6)


def test_several_baselines_are_averaged():
    paths = [Path({"x": np.float32(start)}, {"x": np.float32(3)}, {}) for start in (0, 1)]
    [(_, means)] = PathIntegrator(lambda inputs, fixed: inputs["x"] ** 2).walk([paths], steps=4)
    found = attribute(means)
    assert found.values["x"] == pytest.approx((9 + 8) / 2) and found.baseline_score == 0.5 and found.steps == 8


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_all_baselines_of_a_study_are_refined_until_their_average_is_within_the_tolerance(chunk):
    starts = [np.zeros(40, np.float32), -INPUT[4], INPUT[3]]
    studies = [[Path({"x": start}, {"x": end}, {}) for start in starts] for end in INPUT[:3]]
    tolerance = Tolerance(0.01, gap=9, max_steps=10**4)
    found = dict(PathIntegrator(hinge, chunk=chunk).walk(studies, tolerance=tolerance))
    for row, end in enumerate(INPUT[:3]):
        means = found[row]
        assert len({mean.steps for mean in means}) == 1 and [mean.path for mean in means] == studies[row]
        one = attribute(means, tolerance)
        assert one.map_error <= 0.01 and not one.warnings and one.steps == 3 * means[0].steps > 15
        alone = [
            integrated_gradients(HINGE, {"x": end[None]}, {"x": start}, steps=means[0].steps)[0] for start in starts
        ]
        average = np.mean([each.values["x"] for each in alone], axis=0)
        np.testing.assert_allclose(one.values["x"], average, rtol=1e-4, atol=1e-5)


def test_memory_is_asked_for_by_the_chunk_alone():
    """Paths are drawn only when there is room for them."""
    drawn, done = [], []

    def paths():
        for number in range(50):
            drawn.append(number)
            yield [Path({"x": np.zeros(40, np.float32)}, {"x": INPUT[number % 5]}, {})]

    for key, _ in HINGE.walk(paths(), steps=8):
        done.append(key)
        assert len(drawn) - len(done) <= 4
    assert sorted(done) == list(range(50))


@pytest.mark.parametrize(
    "inputs, baselines, said",
    [
        ({"x": np.full((1, 40), np.nan)}, {"x": 0}, "finite numbers in `x`"),
        ({"x": np.zeros((1, 40))}, {"x": np.inf}, "finite numbers in `x`"),
    ],
)
def test_bad_inputs_are_refused(inputs, baselines, said):
    with pytest.raises(InputError, match=said):
        integrated_gradients(HINGE, inputs, baselines)


def test_a_baseline_of_another_shape_is_refused():
    path = Path({"x": np.zeros(3)}, {"x": np.zeros(40)}, {})
    with pytest.raises(InputError, match=r"shape \(40,\). Received: \(3,\)"):
        list(HINGE.walk([[path]]))


def check_broken(found):
    assert not found.is_finite and all(np.isnan(value).all() for value in found.values.values())
    assert found.warnings == (f"a score or a gradient is not finite, found after {found.steps} steps",)
    assert np.isnan(found.map_error) and found.steps == 5


def test_a_score_that_is_not_finite_is_said_and_spoils_no_other_study():
    inputs = {"x": np.float32([4, -1, 9])}  # the way to -1 leaves where the logarithm is defined
    found = integrated_gradients(lambda inputs, fixed: ops.log(inputs["x"]), inputs, {"x": 1})
    check_broken(found[1])
    for row in (0, 2):
        assert found[row].values["x"] == pytest.approx(np.log(inputs["x"][row]), rel=0.05) and found[row].is_finite
    (found,) = integrated_gradients(lambda inputs, fixed: ops.log(inputs["x"]), {"x": np.float32([1])}, {"x": 0})
    check_broken(found)  # the baseline's score alone; all midpoints are well


def test_a_gradient_that_is_not_finite_is_said_and_spoils_no_other_study():
    inputs = {"x": np.float32([3, 1, 2])}  # the middle of the way from -1 to 1 is 0, where the root has no slope
    found = integrated_gradients(lambda inputs, fixed: ops.sqrt(inputs["x"] ** 2), inputs, {"x": -1})
    check_broken(found[1])
    assert [float(found[row].values["x"]) for row in (0, 2)] == pytest.approx([2, 1], rel=0.05)
    assert found[1].score == found[1].baseline_score == 1


def test_a_path_of_one_step_says_that_its_error_is_unknown():
    (found,) = integrated_gradients(HINGE, {"x": INPUT[:1]}, {"x": 0}, steps=1, tolerance=Tolerance(gap=1e9))
    assert np.isnan(found.map_error) and found.is_finite and found.warnings == ("map error unknown with 1 step",)


def test_equal_ends_have_no_attribution_and_no_error():
    found = integrated_gradients(HINGE, {"x": INPUT[:1]}, {"x": INPUT[:1]})[0]
    assert not found.values["x"].any() and found.map_error == 0 and found.completeness_gap == 0 and found.steps == 5


def test_gap_has_a_floor_and_error_is_the_worst_input():
    assert measure_gap({"x": np.array([3.0, -3.0])}, 0.03) == pytest.approx(0.03 / 0.3)
    assert measure_gap({"x": np.array([2.0])}, 1.0) == 1
    values = {"a": np.array([10.0]), "b": np.array([1.0]), "c": np.array([0.001])}
    halves = {"a": np.array([1.0]), "b": np.array([1.0]), "c": np.array([0.002])}
    assert measure_error(values, halves) == pytest.approx(0.25)


def hinges(inputs, fixed):
    """Three labels that need different numbers of steps, the last of them one that the others say nothing of."""
    opened = ops.relu(ops.subtract(ops.matmul(inputs["x"], WEIGHTS), BIAS))
    return ops.stack([ops.sum(opened, 1), ops.sum(opened[:, :7], 1), ops.sum(inputs["x"], 1)], axis=1)


@pytest.mark.parametrize("labels", [2, 3])
def test_labels_of_a_study_share_points_and_are_as_one_by_one(labels):
    studies, zero, fixed = [{"x": one} for one in INPUT[:3]], {"x": np.zeros(40, np.float32)}, {}
    paths = [[Path(zero, study, fixed, target)] for study in studies for target in (0, 1, 2)]
    chunks = {}
    for number in (1, labels):
        integrator = PathIntegrator(hinges, chunk=4, labels=number)
        name = "points" if number == 1 else "points_of_labels"
        compute, made = getattr(integrator, name), chunks.setdefault(number, [])
        setattr(integrator, name, lambda *given, compute=compute, made=made: made.append(1) or compute(*given))
        found = dict(integrator.walk(paths, tolerance=Tolerance(0.05, gap=9)))
        if number == 1:
            alone = found
    assert len(chunks[labels]) < 0.8 * len(chunks[1])
    assert len({means[0].steps for means in alone.values()}) > 1
    for number, (mean,) in alone.items():
        (other,) = found[number]
        assert (other.steps, other.target) == (mean.steps, number % 3)
        np.testing.assert_allclose(other.gradients["x"], mean.gradients["x"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.halves["x"], mean.halves["x"], rtol=1e-3, atol=1e-4)
