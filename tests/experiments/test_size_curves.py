"""A comparison of sizes without models: what is trained on what, and which rows curves and claims come from."""

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.experiments.comparison import LEARNING_CURVE, Comparison
from kmm.experiments.planning.plan import make_plan
from kmm.experiments.run_comparison import TASKS
from kmm.experiments.size_curves import CURVES, FURTHER, select_whole
from kmm.experiments.tables import read_csv, select
from kmm.experiments.tasks.task import RESULT
from kmm.presets import gather_settings
from tests.factories.comparisons import FakeRunner, make_result
from tests.factories.studies import TINY

SIZES, SPLITS = [10, 20], 4


def plan_with(vary=None, sizes=SIZES, **more):
    gather = lambda changes, base: gather_settings({**TINY, **changes}, protocol=base)  # noqa: E731
    return make_plan(gather, vary=vary, splits=SPLITS, sizes=sizes, **more)


class Learning(FakeRunner):
    """A runner whose models learn: the area under the ROC curve is `0.9 - n ** -0.5`, with a little noise.

    Args:
        labels: function of a task that returns its labels.
    """

    def __init__(self, labels=lambda task: ("abnormal",), **more):
        super().__init__(**more)
        self.labels = labels

    def __call__(self, worker, cut, begin, tell):
        for task, reply in super().__call__(worker, cut, begin, tell):
            if not isinstance(reply, str):
                result = make_result(task, self.labels(task))
                change = result.rows["metric"] == "roc_auc"
                noise = np.random.default_rng(int(task.split_name)).normal(0, 0.002)
                result.rows["value"][change] = 0.9 - len(task.split.part("train")) ** -0.5 + noise
                result.save(worker.out / task.name / RESULT)
            yield task, reply


@pytest.mark.large
def test_every_size_is_run_on_every_split_the_whole_part_first(compare):
    runner = FakeRunner()
    compare(plan_with({"fusion_units": [8, 16]}), runner=runner)
    assert len(runner.done) == SPLITS * 2 * 3
    first = [(task.size, task.variant) for task in runner.done[:6]]
    assert first == [(size, f"fusion_units={units}") for size in (0, 20, 10) for units in (8, 16)]
    for split in range(SPLITS):
        own = runner.done[6 * split : 6 * split + 6]
        assert len({task.split_name for task in own}) == 1
        assert len({task.split.part("test") for task in own}) == 1
        assert [task.split.digest for task in own[::2]] == [task.split.digest for task in own[1::2]]
        parts = [set(task.split.part("train")) for task in own[::2]]
        assert parts[2] < parts[1] < parts[0] and [len(part) for part in parts[1:]] == [20, 10]


@pytest.mark.large
def test_claims_are_those_of_the_comparison_without_sizes(compare, tmp_path):
    without = compare(plan_with(sizes=None), runner=FakeRunner(), out=tmp_path / "a")
    found = compare(plan_with(), runner=FakeRunner(), out=tmp_path / "b")
    for name in ("models", "parts", "differences", "beside", "families", "best_baseline", "studies", "within"):
        assert found.summary[name] == without.summary[name], name
    assert "sizes" not in without.summary and not (tmp_path / "a" / LEARNING_CURVE).exists()
    assert found.summary["minutes"] == 3 * without.summary["minutes"]
    whole = select_whole(found.rows, found.summary)
    for name, column in without.rows.items():
        np.testing.assert_array_equal(whole[name], column)


def test_without_sizes_the_column_is_the_training_part(compare):
    runner = FakeRunner()
    found = compare(plan_with(sizes=None), runner=runner)
    for table in (found.rows, found.predictions, found.history):
        for task in runner.done:
            assert set(select(table, split=task.split_name)["size"]) == {len(task.split.part("train"))}


@pytest.mark.large
def test_the_curve_is_that_of_the_values_on_the_studies_that_were_there(compare, tmp_path):
    found = compare(plan_with(wanted=0.88), runner=Learning())
    sizes = found.summary["sizes"]
    assert sizes["smaller"] == SIZES and [row["splits"] for row in sizes["parts"]] == [SPLITS] * 3
    whole = sizes["parts"][-1]["train"]
    assert [row["train"] for row in sizes["parts"][:2]] == SIZES and whole > 30
    curve = sizes["curves"][""]["image"]["roc_auc"]
    assert [point["studies"] for point in curve["points"]] == [*SIZES, whole]
    means = [point["mean"] for point in curve["points"]]
    assert means == pytest.approx(0.9 - np.array([*SIZES, whole]) ** -0.5, abs=0.005)
    assert curve["curve"]["c"] == pytest.approx(0.5, abs=0.03) and curve["curve"]["a"] == pytest.approx(0.9, abs=0.01)
    low, high = curve["wanted"]["interval"]
    assert curve["wanted"]["state"] == "beyond" and low < 2500 < (high or np.inf)
    assert set(sizes["curves"][""]) == {"joint", "image", "text", "tfidf", "image-linear", "linear-sum"}
    assert curve["wanted"]["value"] == 0.88 and sizes["curves"][""]["image"]["accuracy"]["wanted"] is None
    assert "Image only: ROC AUC 0.88 would take about" in str(found)
    assert "rest on 4 splits: their intervals are rough" in str(found).replace("\n", " ")

    table = read_csv(tmp_path / "out" / LEARNING_CURVE, CURVES)
    rows = select(table, model="image", metric="roc_auc", variant="")
    assert rows["studies"].tolist() == [*SIZES, whole, *(times * whole for times in FURTHER)]
    assert rows["splits"].tolist() == [SPLITS] * 3 + [0] * 3 and np.isnan(rows["value"][3:]).all()
    assert rows["value"][:3].tolist() == means
    assert rows["fitted"][:3] == pytest.approx(means, abs=0.002) and (np.diff(rows["fitted"]) > 0).all()
    assert (rows["fitted_low"] <= rows["fitted"]).all() and (rows["fitted"] <= rows["fitted_high"]).all()
    again = Comparison.load(tmp_path / "out")
    assert again.summary["sizes"]["curves"][""]["image"]["roc_auc"]["points"] == curve["points"]


@pytest.mark.large
def test_all_sizes_are_measured_on_the_labels_that_all_of_them_have(compare):
    """A small part lacks the label `rare`, whose area is another one."""
    labels = lambda task: ("abnormal",) if task.size == 10 else ("abnormal", "rare")  # noqa: E731

    class Two(Learning):
        def __call__(self, worker, cut, begin, tell):
            for task, reply in super().__call__(worker, cut, begin, tell):
                result = make_result(task, labels(task))
                value = np.where(result.rows["label"] == "abnormal", 0.8, 0.6)
                result.rows["value"][:] = np.where(result.rows["label"] == "macro", 0.7, value)
                result.save(worker.out / task.name / RESULT)
                yield task, reply

    sizes = compare(plan_with(), runner=Two()).summary["sizes"]
    assert sizes["labels_left_out"] == {"": ["rare"]}
    assert [point["mean"] for point in sizes["curves"][""]["text"]["roc_auc"]["points"]] == pytest.approx([0.8] * 3)


def test_a_failed_size_is_left_out_and_named(compare):
    class Some(FakeRunner):
        def __call__(self, worker, cut, begin, tell):
            small = [task for task in cut(1) if task.size == 10 and task.split_name != "3"]
            yield from super().__call__(worker, lambda count: [t for t in cut(count) if t not in small], begin, tell)
            for task in small:
                yield task, "the part is too small."

    found = compare(plan_with(), runner=Some())
    assert found.summary["failed"] == [
        {"split": split, "variant": "", "size": 10, "reason": "the part is too small."} for split in "124"
    ]
    points = found.summary["sizes"]["curves"][""]["image"]["roc_auc"]["points"]
    assert [point["n"] for point in points] == [1, SPLITS, SPLITS] and points[0]["interval"] is None


def test_two_sizes_have_no_curve_and_say_so(compare):
    found = compare(plan_with(sizes=[20]), runner=FakeRunner())
    curve = found.summary["sizes"]["curves"][""]["image"]["roc_auc"]
    assert curve["curve"] is None and curve["line"] == [] and len(curve["points"]) == 2
    assert "No learning curve was fitted to some models: a curve needs results of 3 or more sizes" in str(found)


@pytest.mark.large
def test_added_sizes_leave_what_is_done(compare, tmp_path):
    compare(plan_with(sizes=None), runner=FakeRunner())
    runner = FakeRunner()
    compare(plan_with(sizes=[20]), runner=runner)
    assert {task.size for task in runner.done} == {20} and len(runner.done) == SPLITS
    runner = FakeRunner()
    compare(plan_with(), runner=runner)
    assert {task.size for task in runner.done} == {10} and len(runner.done) == SPLITS
    assert len(list((tmp_path / "out" / TASKS).glob(f"*/{RESULT}"))) == 3 * SPLITS


@pytest.mark.large
def test_only_the_whole_part_explains_studies(compare):
    runner = FakeRunner()
    compare(plan_with(), runner=runner, explain=2)
    assert [task.explained for task in runner.done if task.explained] == [1, 1]
    assert all(not task.size for task in runner.done if task.explained)


@pytest.mark.large
def test_a_size_that_is_not_below_the_training_part_leaves_the_folder_free_for_others(compare):
    with pytest.raises(InputError, match="below the training part"):
        compare(plan_with(sizes=[20, 5000]), runner=FakeRunner())
    compare(plan_with(), runner=FakeRunner())


@pytest.mark.large
def test_the_page_describes_the_whole_part_and_shows_the_curves(compare_and_write, tmp_path):
    compare_and_write(plan_with(wanted=0.88), runner=Learning())
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    start = page.index('<section aria-labelledby="sizes">')
    section = page[start : page.index("</section>", start)]
    for part in (
        "How many studies would it take?",
        "ROC AUC 0.88 would take about",
        "Figure: Learning curves",
        "a hospital",
    ):
        assert part in section, part
    assert {path.name for path in (tmp_path / "out" / "figures").glob("learning-curve.*")} == {
        "learning-curve.png",
        "learning-curve.svg",
    }
    methods = (tmp_path / "out" / "methods.md").read_text(encoding="utf-8")
    assert "nested, stratified subsets of 10 and 20 training studies" in methods and "[@figueroa2012]" in methods
    assert "--sizes 10,20 --wanted 0.88" in methods
    assert "@article{figueroa2012," in (tmp_path / "out" / "references.bib").read_text(encoding="utf-8")
