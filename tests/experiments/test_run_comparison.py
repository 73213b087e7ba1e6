"""A comparison without models: what is prepared, in which folder, what is repeated, and what a failed task does."""

from contextlib import contextmanager

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.experiments.comparison import Comparison
from kmm.experiments.planning.plan import make_plan
from kmm.experiments.run_comparison import MODELS, TASKS, compare_studies
from kmm.experiments.tasks.task import RESULT, name_stages
from kmm.presets import gather_settings
from kmm.progress import Progress
from kmm.storage.file_lock import hold_file
from kmm.storage.output_mark import read_mark
from tests.factories.comparisons import REASON, FakeRunner
from tests.factories.studies import TINY

SPLITS = 3


def plan_with(protocol="quick", vary=None, **given):
    more = given if given else {"splits": SPLITS}
    gather = lambda changes, base: gather_settings({**TINY, **changes}, protocol=base)  # noqa: E731
    return make_plan(gather, protocol=protocol, vary=vary, **more)


@pytest.mark.large
def test_every_variant_is_run_on_every_split_and_the_files_are_written(compare_and_write, tmp_path):
    runner = FakeRunner()
    found = compare_and_write(plan_with(vary={"fusion_units": [8, 16]}), runner=runner)
    names = [(task.split_name, task.variant) for task in runner.done]
    assert names == [(str(n), f"fusion_units={units}") for n in range(1, SPLITS + 1) for units in (8, 16)]
    assert [task.split.digest for task in runner.done[::2]] == [task.split.digest for task in runner.done[1::2]]
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} >= {
        *("comparison.csv", "predictions.csv", "history.csv", "summary.json", "plan.json", TASKS),
        *("comparison.html", "figures", "methods.md", "references.bib"),
    }
    assert read_mark(out).whole and not (out / ".lock").exists()
    read = Comparison.load(out)
    np.testing.assert_array_equal(read.rows["value"], found.rows["value"])
    assert set(found.summary["models"]) == {"fusion_units=8", "fusion_units=16"}
    assert found.summary["data"]["studies"] == found.summary["data"]["patients"] > 20
    assert found.summary["minutes"] == pytest.approx(1.5) and not found.summary["failed"]


def test_an_interrupted_comparison_repeats_no_task(compare):
    first, second, third = FakeRunner(stop_after=1), FakeRunner(), FakeRunner()
    with pytest.raises(KeyboardInterrupt):
        compare(plan_with(), runner=first)
    found = compare(plan_with(), runner=second)
    assert [task.split_name for task in first.done] == ["1"] and [task.split_name for task in second.done] == ["2", "3"]
    again = compare(plan_with(), runner=third)
    assert third.done == [] and str(again) == str(found)


class Counting(Progress):
    """Counts the units of the step of all tasks: where it begins, and what is done at its end."""

    @contextmanager
    def step(self, title, total, done=0):
        count = [done]

        def advance(number=1, text=""):
            count[0] += number

        yield advance
        if title.startswith("Comparing"):
            self.seen = total, done, count[0]


def test_the_progress_counts_every_stage_of_every_task_and_what_is_done_already(compare):
    progress, stages = Counting(), len(name_stages(plan_with().base))
    with pytest.raises(KeyboardInterrupt):
        compare(plan_with(), runner=FakeRunner(stop_after=1))
    compare(plan_with(), runner=FakeRunner(), progress=progress)
    assert progress.seen == (SPLITS * (stages + 1), stages + 1, SPLITS * (stages + 1))
    compare(plan_with(), runner=FakeRunner(), progress=progress, explain=2)  # the splits 1 and 2 explain a study
    assert progress.seen == (SPLITS * (stages + 1) + 2, stages + 1, SPLITS * (stages + 1) + 2)


def test_stages_that_no_task_needs_are_removed_and_those_of_a_failed_task_stay(compare, tmp_path):
    def make_states(task):
        (tmp_path / "out" / TASKS / task.states / "stages").mkdir(parents=True, exist_ok=True)

    class Leaving(FakeRunner):
        def __call__(self, worker, cut, begin, tell):
            for task in cut(1):
                make_states(task)
            yield from super().__call__(worker, cut, begin, tell)

    plan = plan_with(vary={"fusion_units": [8, 16]})
    compare(plan, runner=Leaving(failing={"2"}))
    assert [path.name[:10] for path in (tmp_path / "out" / TASKS).glob("stages-*")] == ["stages-002"]
    compare(plan, runner=Leaving())
    assert not list((tmp_path / "out" / TASKS).glob("stages-*"))
    (tmp_path / "out" / TASKS / "stages-001-0123456789").mkdir()  # of earlier code
    compare(plan, runner=FakeRunner())
    assert not list((tmp_path / "out" / TASKS).glob("stages-*"))


def test_the_disk_needs_room_for_the_stages_of_each_worker(compare, monkeypatch):
    asked = []
    monkeypatch.setattr("kmm.experiments.run_comparison.require_disk", lambda folder, need, what: asked.append(need))

    class Two(FakeRunner):
        def __call__(self, worker, cut, begin, tell):
            return super().__call__(worker, lambda count: cut(2), begin, tell)

    compare(plan_with(), runner=Two())
    compare(plan_with(vary={"fusion_units": [8, 16]}), runner=FakeRunner(), out=compare.keywords["out"].with_name("b"))
    one, two, varied, again = asked
    assert two == 2 * one and varied == again > one


def test_other_settings_or_data_in_the_same_folder_are_one_line(compare, collection, tmp_path):
    compare(plan_with(), runner=FakeRunner())
    for plan in (plan_with(splits=4), plan_with("low"), plan_with(vary={"seed": [1, 2]})):
        with pytest.raises(InputError, match="Changed: "):
            compare(plan, runner=FakeRunner())
    import dataclasses

    fewer = dataclasses.replace(collection, studies=collection.studies[:-4])
    with pytest.raises(InputError, match="Changed: data"):
        compare_studies(fewer, plan_with(), tmp_path / "out", cache=tmp_path / "cache", runner=FakeRunner())
    assert len(list((tmp_path / "out" / TASKS).glob(f"*/{RESULT}"))) == SPLITS


def test_results_of_other_code_are_removed_and_computed_again(compare, tmp_path, monkeypatch):
    compare(plan_with(), runner=FakeRunner())
    monkeypatch.setattr("kmm.experiments.tasks.task.digest_task_code", lambda: "other")
    runner = FakeRunner()
    compare(plan_with(), runner=runner)
    assert len(runner.done) == SPLITS == len(list((tmp_path / "out" / TASKS).iterdir()))


def test_a_failed_task_does_not_lose_the_others(compare):
    found = compare(plan_with(), runner=FakeRunner(failing={"2"}))
    assert found.summary["failed"] == [
        {"split": "2", "variant": "", "reason": "no epoch had a finite validation loss."}
    ]
    assert set(found.rows["split"]) == {"1", "3"}
    again = FakeRunner()
    assert not compare(plan_with(), runner=again).summary["failed"] and [task.split_name for task in again.done] == [
        "2"
    ]


def test_if_every_task_fails_the_first_reason_is_the_error(compare, tmp_path):
    reasons = {"1": "the films are black.", "2": "the reports are empty.", "3": "the films are black."}
    with pytest.raises(InputError, match=r"^Every task of the comparison failed\. The first: the films are black\.$"):
        compare(plan_with(), runner=FakeRunner(failing=reasons))
    assert not (tmp_path / "out" / "comparison.csv").exists()


class Noting(Progress):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def test_if_the_first_tasks_fail_for_the_same_reason_the_others_are_not_begun(compare, tmp_path):
    class Closing(FakeRunner):
        begun, closed = 0, False

        def __call__(self, worker, cut, begin, tell):
            try:
                for found in super().__call__(worker, cut, begin, tell):
                    self.begun += 1
                    yield found
            finally:
                self.closed = True

    runner, progress = Closing(failing={"1", "2", "3", "4", "5"}), Noting()
    with pytest.raises(InputError) as raised:
        compare(plan_with(splits=5), runner=runner, progress=progress)
    assert runner.begun == 2 and runner.closed
    assert str(raised.value) == (
        f"The comparison was stopped, because its first 2 tasks failed for the same reason: {REASON}"
    )
    assert sum(REASON in line for line in progress.lines) == 1
    assert "split 2: failed for the same reason" in progress.lines
    found = compare(plan_with(splits=5), runner=FakeRunner())  # the folder is free again
    assert not found.summary["failed"]


@pytest.mark.parametrize(
    "workers, failing, stopped",
    [
        (1, {"1"}, False),
        (1, {"2", "3", "4", "5"}, False),
        (1, {"1": "a", "2": "b", "3": "b", "4": "b"}, False),
        (3, {"1", "2"}, False),
        (3, {"1", "2", "3"}, True),
        (5, {"1", "2", "3", "4"}, False),
    ],
)
def test_a_comparison_goes_on_unless_the_first_task_of_every_worker_failed_alike(compare, workers, failing, stopped):
    class Several(FakeRunner):
        def __call__(self, worker, cut, begin, tell):
            return super().__call__(worker, lambda count: cut(workers), begin, tell)

    runner = Several(failing=failing)
    if stopped:
        with pytest.raises(InputError, match=f"its first {workers} tasks failed"):
            compare(plan_with(splits=5), runner=runner)
    else:
        found = compare(plan_with(splits=5), runner=runner)
        assert {row["split"] for row in found.summary["failed"]} == set(failing)


def test_tasks_that_failed_before_do_not_stop_a_comparison_that_has_results(compare):
    failing = {"2", "3", "4"}
    compare(plan_with(splits=4), runner=FakeRunner(failing=failing))
    again = compare(plan_with(splits=4), runner=FakeRunner(failing=failing))
    assert {row["split"] for row in again.summary["failed"]} == failing


def test_variants_that_read_other_text_share_the_splits(compare):
    runner = FakeRunner()
    compare(plan_with(vary={"sections": ["findings", "indication"]}), runner=runner)
    one, other = runner.done[:2]
    assert one.preparation != other.preparation
    shared = set(one.split.parts) & set(other.split.parts)
    assert shared and all(one.split.parts[study] == other.split.parts[study] for study in shared)


def test_a_folder_in_use_and_a_file_are_refused(compare, tmp_path):
    (tmp_path / "out").mkdir()
    with hold_file(tmp_path / "out" / ".lock"), pytest.raises(InputError, match="in use by another comparison"):
        compare(plan_with(), runner=FakeRunner())
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="expected a folder"):
        compare(plan_with(), out=tmp_path / "file", runner=FakeRunner())


def test_a_full_disk_is_an_error_before_the_first_task(compare, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    runner = FakeRunner()
    with pytest.raises(InputError, match="too little free disk space"):
        compare(plan_with(), runner=runner, keep_models=True)
    assert runner.done == []


def test_names_are_checked_before_a_film_is_read(compare, tmp_path):
    with pytest.raises(InputError, match="Unknown"):
        compare(plan_with(vary={"fusion": ["concat", "glue"]}), runner=FakeRunner())
    assert not (tmp_path / "cache").exists()


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(compare, tmp_path):
    out = tmp_path / "out"
    (out / TASKS / "mine").mkdir(parents=True)
    (out / TASKS / "mine" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds other files, for example tasks/mine\. Choose a new folder"):
        compare(plan_with(), runner=FakeRunner())
    assert [path.name for path in out.rglob("*")] == [TASKS, "mine", "notes.txt"]
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "classifier.json").write_text("{}")
    with pytest.raises(InputError, match=r"for example classifier\.json"):
        compare(plan_with(), out=tmp_path / "saved", runner=FakeRunner())


def test_an_unknown_format_of_predictions_is_an_error_before_the_first_task(compare, tmp_path):
    with pytest.raises(InputError, match="Unknown format of the predictions 'cvs'"):
        compare(plan_with(), runner=FakeRunner(), predictions="cvs")
    assert not (tmp_path / "out").exists()


def test_tasks_whose_classifier_is_wanted_and_gone_are_repeated(compare, tmp_path):
    compare(plan_with(), runner=FakeRunner())
    runner = FakeRunner()
    compare(plan_with(), runner=runner, keep_models=True)
    assert len(runner.done) == SPLITS
    for task in runner.done[1:]:
        (tmp_path / "out" / MODELS / task.name).mkdir(parents=True)
    again = FakeRunner()
    compare(plan_with(), runner=again, keep_models=True)
    assert [task.split_name for task in again.done] == ["1"]
