"""Sizes of the training part: which are chosen, and that smaller parts are nested, grouped and stratified."""

import itertools

import pytest

from kmm.data.split import Split, check_leaks
from kmm.data.study import Report, Study
from kmm.errors import InputError
from kmm.experiments.planning.plan import check_plan, make_plan
from kmm.experiments.planning.resampling import Resampling
from kmm.experiments.planning.training_sizes import check_sizes, choose_sizes, shrink_split
from kmm.experiments.tasks.task import Task, make_key
from kmm.presets import gather_settings
from kmm.settings import FitSettings
from tests.factories.commands import find_command

# Pairs of studies of a patient; every third study is abnormal, every tenth has a rare finding.
STUDIES = [
    Study(str(n), f"p{n // 2}", labels={"abnormal": float(n % 3 == 0), "rare": float(n % 10 == 0)}) for n in range(900)
]
PAIRS = list(zip(STUDIES[::2], STUDIES[1::2]))
LABELS = ["abnormal", "rare"]
SIZES = (300, 150, 75, 20)


def gather(changes, protocol):
    return gather_settings(dict(changes), protocol=protocol)


@pytest.fixture(scope="module")
def whole():
    return Resampling(splits=1).make(STUDIES, shares=(0.65, 0.15, 0.2), seed=0, label_names=LABELS)[0]


def shrink(split, size, *, studies=STUDIES, seed=0, **more):
    return shrink_split(split, studies, size, seed=seed, label_names=LABELS, **more)


def name_part(split, part):
    return set(split.part(part))


def test_smaller_parts_are_inside_larger_ones_and_the_test_part_stays(whole):
    splits = [whole, *(shrink(whole, size) for size in SIZES)]
    for larger, smaller in itertools.pairwise(splits):
        for part in ("train", "validation"):
            assert name_part(smaller, part) < name_part(larger, part)
        assert smaller.part("test") == whole.part("test")
        check_leaks(smaller, STUDIES)


def test_parts_have_the_size_and_validation_is_in_proportion(whole):
    ratio = len(whole.part("validation")) / len(whole.part("train"))
    for size in SIZES:
        small = shrink(whole, size)
        assert len(small.part("train")) == pytest.approx(size, abs=1)
        assert len(small.part("validation")) == pytest.approx(size * ratio, abs=1.5)


def test_every_label_keeps_its_share(whole):
    for size in SIZES:
        chosen = name_part(shrink(whole, size), "train")
        for label, share in (("abnormal", 1 / 3), ("rare", 1 / 10)):
            count = sum(study.labels[label] for study in STUDIES if study.id in chosen)
            assert count == pytest.approx(share * len(chosen), abs=2.5), (size, label)


def test_studies_of_a_patient_and_copies_of_a_report_come_or_go_together(whole):
    small = shrink(whole, 75)
    for first, second in PAIRS:
        assert (first.id in small.parts) == (second.id in small.parts)
    same = Report(findings="Clear.")
    copies = [Study(str(n), str(n), report=same if n < 40 else None, labels={"a": n % 2}) for n in range(160)]
    split = Split({study.id: "train" if int(study.id) < 140 else "validation" for study in copies}, {})
    for size in (12, 25, 50, 100):
        chosen = name_part(shrink_split(split, copies, size, seed=0), "train")
        assert len(chosen & {str(n) for n in range(40)}) in (0, 40)
        assert len(chosen) == pytest.approx(size, abs=1)


def test_a_plain_split_takes_each_study_for_itself(whole):
    (split,) = Resampling(splits=1, plain=True).make(STUDIES, shares=(0.65, 0.15, 0.2), seed=0, label_names=LABELS)
    small = shrink(split, 75, plain=True)
    assert len(small.part("train")) == 75
    divided = [pair for pair in PAIRS if len({study.id in small.parts for study in pair}) == 2]
    assert len(divided) > 20


def test_a_size_depends_on_the_split_and_the_seed_and_on_no_other_size(whole):
    assert shrink(whole, 75).digest == shrink(whole, 75).digest
    assert shrink(whole, 75).digest != shrink(whole, 75, seed=1).digest


def test_groups_that_are_too_large_for_a_size_are_one_line():
    studies = [Study(str(n), str(n // 60), labels={"a": n % 2}) for n in range(240)]
    split = Split({study.id: "train" if int(study.id) < 180 else "test" for study in studies}, {})
    with pytest.raises(InputError, match=r"of 90 studies cannot be made: .* nearest has (60|120)\. Give larger"):
        shrink_split(split, studies, 90, seed=0)


@pytest.mark.parametrize("whole, expected", [(1664, [832, 416, 208, 104]), (1500, [750, 375, 187, 93]), (150, [75])])
def test_halves_end_at_about_a_hundred(whole, expected):
    assert choose_sizes([Split({str(n): "train" for n in range(whole)}, {})], ()) == expected


def test_the_smallest_training_part_decides():
    splits = [Split({str(n): "train" for n in range(count)}, {}) for count in (410, 400)]
    assert choose_sizes(splits, ()) == [200, 100]
    with pytest.raises(InputError, match=r"below the training part, .* has 400 studies\. Received: 400"):
        choose_sizes(splits, (100, 400))
    with pytest.raises(InputError, match="149 studies, too few to be halved"):
        choose_sizes([Split({str(n): "train" for n in range(149)}, {})], ())


@pytest.mark.parametrize(
    "words, expected", [([], None), (["--sizes"], ()), (["--sizes", "400,100"], (100, 400)), (["--sizes=50"], (50,))]
)
def test_the_option_has_numbers_or_none(words, expected):
    context = find_command(("compare",)).make_context("kmm", ["folder", "--out", "out", *words, "--splits", "2"])
    assert check_sizes(context.params["sizes"]) == expected and str(context.params["folder"]) == "folder"


def test_sizes_can_be_in_a_file(tmp_path):
    for number, (text, expected) in enumerate({"[100, 200]": (100, 200), "auto": ()}.items()):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"sizes: {text}\nwanted: 0.9\n")
        context = find_command(("compare",)).make_context("kmm", ["--out", "out", "--config", str(path)])
        assert check_sizes(context.params["sizes"]) == expected and context.params["wanted"] == 0.9


@pytest.mark.parametrize("given", [[], [100, 100], [9], ["a"], [100.5], [True], [-100], "openi", 0, [[100]]])
def test_what_is_no_size_is_refused(given):
    with pytest.raises(InputError, match="different whole numbers of training studies, 10 or more"):
        check_sizes(given)


@pytest.mark.parametrize(
    "given, says",
    [
        ({"wanted": 0.9}, "needs `sizes`"),
        ({"wanted": 0.5, "sizes": True}, r"above 0\.5 and below 1"),
        ({"wanted": 1.0, "sizes": True}, r"above 0\.5 and below 1"),
    ],
)
def test_a_wanted_area_needs_sizes_and_is_one(given, says):
    with pytest.raises(InputError, match=says):
        make_plan(gather, **given)


def test_sizes_may_be_added_to_a_folder_and_nothing_else_may_change(tmp_path):
    plans = {name: make_plan(gather, sizes=given) for name, given in SOME.items()}
    for before, now, fits in (
        *(("none", "few", True), ("few", "few", True), ("few", "more", True), ("none", "halves", True)),
        *(("more", "few", False), ("halves", "none", False), ("halves", "few", False), ("few", "halves", False)),
    ):
        folder = tmp_path / f"{before}-{now}"
        folder.mkdir()
        check_plan(folder, plans[before], "data")
        if fits:
            check_plan(folder, plans[now], "data")
            check_plan(folder, plans[now])
        else:
            with pytest.raises(InputError, match="Changed: sizes"):
                check_plan(folder, plans[now])
    wanted = make_plan(gather, sizes=[100, 200], wanted=0.9)
    check_plan(tmp_path / "few-few", wanted, "data")


SOME = {"none": None, "few": [100, 200], "more": [100, 200, 400], "halves": True}


def test_the_key_and_the_folders_of_a_task_contain_its_size(whole):
    small, settings = shrink(whole, 75), FitSettings()
    keys = {make_key(settings, split, "data", size=size) for split, size in ((whole, 0), (small, 75), (small, 76))}
    assert len(keys) == 3 and make_key(settings, whole, "data") in keys
    tasks = [Task("1", "", settings, "", small, False, "k" * 20, "c" * 20, size=size) for size in (75, 76)]
    assert len({task.states for task in tasks}) == 2
    assert (
        tasks[0].place == {"split": "1", "variant": "", "size": 75} and tasks[0].title == "split 1, 75 training studies"
    )
    large = Task("1", "a=1", settings, "", whole, False, "k" * 20)
    assert large.place["size"] == len(whole.part("train")) and large.title == "split 1, a=1"
