"""Protocols are those that were published, variants multiply, splits are paired, and a changed plan is refused."""

import dataclasses
import os
from functools import partial

import pytest

from kmm.data.split import check_leaks, count_leaks
from kmm.data.study import Report, Study
from kmm.errors import InputError, LeakError
from kmm.experiments.planning.plan import check_plan, make_plan
from kmm.experiments.planning.protocols import PROTOCOLS
from kmm.experiments.planning.resampling import Resampling, restrict_split
from kmm.experiments.planning.variants import list_variants, parse_variations
from kmm.experiments.tasks.features import reads_features
from kmm.experiments.tasks.task import make_key, name_stages
from kmm.presets import gather_settings
from kmm.settings import FitSettings


def gather(changes, protocol, **given):
    return gather_settings({**given, **changes}, protocol=protocol)


PAPER = {"image_encoder": "xception", "image_weights": "imagenet", "pixels": 224}


@pytest.mark.parametrize(
    "protocol, rate, splits, epochs", [("high", 1e-2, 10, 10), ("low", 1e-5, 3, 50)], ids=["high", "low"]
)
def test_published_protocols(protocol, rate, splits, epochs):
    plan = make_plan(partial(gather, **PAPER), protocol=protocol)
    s = plan.base
    assert (s.learning_rate, s.text_learning_rate, s.tune_learning_rate) == (rate, rate, rate)
    assert plan.resampling.count == splits and s.shares == (0.65, 0.15, 0.2)
    assert {s.text_epochs, s.image_epochs, s.tune_epochs} == {epochs} and s.joint_epochs == 0
    assert s.patience > epochs and s.schedule == "constant" and s.tune_image == "none"
    assert any("frozen" in line and "--tune" in line for line in plan.deviations())
    assert (s.head, s.text_teacher, s.image_teacher, s.image_depths, s.image_grid) == ("decoder", 0, 0, 1, 1)
    quick, usual = make_plan(partial(gather, **PAPER), protocol="quick").base, gather_settings(PAPER)
    for name in ("head", "text_teacher", "image_teacher", "image_depths", "image_grid"):
        assert getattr(quick, name) == getattr(usual, name)
    changed = make_plan(partial(gather, **PAPER, head="linear"), protocol=protocol).deviations()
    assert any("not those of the protocol: head." in line for line in changed)


def test_tuning_trains_everything_in_one_stage_per_model():
    plan = make_plan(partial(gather, **PAPER), protocol="high", tune=True)
    assert name_stages(plan.base) == {"text": "text", "image tuning": "image", "joint tuning": "joint"}
    assert plan.base.tune_image == "all" and not any("frozen" in line for line in plan.deviations())


@pytest.mark.parametrize("accelerator, tuned", [(True, {"high": True, "quick": False}), (False, {"high": False})])
def test_an_accelerator_tunes_without_being_asked_but_not_in_quick(accelerator, tuned):
    for name, expected in tuned.items():
        assert make_plan(partial(gather, **PAPER), protocol=name, accelerator=accelerator).tune == expected


def test_random_weights_are_frozen_where_pretrained_ones_are():
    given = {**PAPER, "image_weights": "imagenet"}
    for protocol in ("high", "quick"):
        for tune in (False, True):
            plan = make_plan(
                partial(gather, **given), protocol=protocol, tune=tune, vary={"image_weights": ["imagenet", "random"]}
            )
            known, random = plan.variants.values()
            assert random == dataclasses.replace(known, image_weights="random")
            assert reads_features(random) == reads_features(known)
    assert reads_features(make_plan(partial(gather, **{**PAPER, "image_weights": "random"}), protocol="high").base)


def test_encoders_from_scratch_are_trained_and_quick_trains_heads_alone():
    scratch = make_plan(gather, protocol="low").base
    assert scratch.tune_image == "all" and scratch.image_epochs == 50
    assert name_stages(make_plan(partial(gather, **PAPER)).base) == {
        "text": "text",
        "image head": "image",
        "joint head": "joint",
    }


def test_what_the_user_sets_wins_over_the_protocol_and_is_said():
    plan = make_plan(partial(gather, learning_rate=0.005, epochs=3), protocol="high")
    assert plan.base.learning_rate == 0.005 and plan.base.text_epochs == 3
    said = next(line for line in plan.deviations() if "not those of the protocol" in line)
    assert "learning_rate" in said and "text_epochs" in said and "patience" not in said


def test_variants_are_read_and_multiplied():
    variations = parse_variations(["image-encoder=small-cnn|none", "seed=1|2|3"])
    names = [variant.name for variant in list_variants(variations)]
    assert len(names) == 6 and names[:2] == ["image_encoder=small-cnn;seed=1", "image_encoder=small-cnn;seed=2"]
    assert list_variants({"image_weights": ["imagenet", None]})[1].name == "image_weights=none"


@pytest.mark.parametrize(
    "vary, says",
    [
        (["seed"], "NAME=V1"),
        (["seed=1"], "two or more different values"),
        (["seed=1|1"], "two or more different values"),
        (["seed=1|2", "seed=3|4"], "varied twice"),
        (["sed=1|2"], "Unknown setting 'sed'"),
        (["shares=0.5,0.2,0.3|0.6,0.2,0.2"], "cannot be varied"),
        (["seed=" + "|".join(map(str, range(51)))], "at most 50"),
    ],
)
def test_wrong_variations_are_refused(vary, says):
    with pytest.raises(InputError, match=says):
        list_variants(parse_variations(vary))


def test_a_wrong_value_of_a_variant_is_refused_before_anything_is_read():
    with pytest.raises(InputError, match="`seed` must be a whole number"):
        make_plan(gather, vary={"seed": ["1", "x"]})


STUDIES = [
    Study(str(n), f"p{n // 2}", report=Report(findings=f"Case {n // 4}."), labels={"abnormal": float(n % 3 == 0)})
    for n in range(120)
]


def split(resampling, studies=STUDIES, seed=0):
    return resampling.make(studies, shares=(0.65, 0.15, 0.2), seed=seed, label_names=["abnormal"])


def test_repeated_splits_differ_do_not_leak_and_do_not_depend_on_their_number():
    few, many = split(Resampling(splits=2)), split(Resampling(splits=4))
    assert [one.digest for one in few] == [one.digest for one in many[:2]]
    assert len({one.digest for one in many}) == 4
    for one in many:
        check_leaks(one, STUDIES)
        assert len(one.part("test")) == pytest.approx(24, abs=4)


def test_every_study_is_tested_once_in_each_cross_validation():
    for folds in (split(Resampling(folds=4)), split(Resampling(folds=3, repeats=2))[:3]):
        tested = [study for one in folds for study in one.part("test")]
        assert sorted(tested) == sorted(study.id for study in STUDIES)


def test_the_plain_split_leaks_and_says_so():
    (one,) = split(Resampling(splits=1, plain=True))
    with pytest.raises(LeakError):
        check_leaks(one, STUDIES)
    leaks = count_leaks(one, STUDIES)
    assert leaks["patients"] > 10 and leaks["bodies"] > 10 and leaks["films"] == 0
    positives = [study.labels["abnormal"] for study in STUDIES if one.parts[study.id] == "test"]
    assert sum(positives) / len(positives) == pytest.approx(1 / 3, abs=0.05)
    assert any("too optimistic" in line for line in make_plan(gather, protocol="high", plain=True).deviations())


@pytest.mark.parametrize(
    "given, says",
    [
        ({"folds": 5, "splits": 3}, "not both"),
        ({"folds": 1}, "2 or more folds"),
        ({"splits": 0}, "1 or more splits"),
        ({"splits": 3, "repeats": 2}, "Repeats belong to folds"),
        ({"folds": 3, "plain": True}, "has no folds"),
        ({"splits": 1001}, "at most 1000"),
        ({"protocol": "fast"}, "Known: high, low, quick"),
    ],
)
def test_wrong_plans_are_refused(given, says):
    with pytest.raises(InputError, match=says):
        make_plan(gather, **given)


def test_variants_with_other_studies_share_the_split():
    (one,) = split(Resampling(splits=1))
    some = restrict_split(one, STUDIES[::2])
    assert set(some.parts) == {study.id for study in STUDIES[::2]}
    assert all(one.parts[study] == part for study, part in some.parts.items())


def test_keys_change_with_what_matters_and_with_nothing_else(tmp_path):
    first, second = split(Resampling(splits=2))
    weights = tmp_path / "w.txt"
    weights.write_text("one")
    settings = FitSettings(word_vectors=str(weights))
    key = make_key(settings, first, "data")
    assert key == make_key(FitSettings(word_vectors=str(weights)), first, "data")
    others = [
        make_key(FitSettings(), first, "data"),
        make_key(FitSettings(word_vectors=str(weights), seed=1), first, "data"),
        make_key(settings, second, "data"),
        make_key(settings, first, "others"),
        make_key(settings, first, "data", plain=True),
    ]
    weights.write_text("another")
    others.append(make_key(settings, first, "data"))
    assert len({key, *others}) == 7
    moved = tmp_path / "moved.txt"
    moved.write_text("another")
    assert make_key(FitSettings(word_vectors=str(moved)), first, "data") == others[-1]


def test_a_folder_of_another_plan_names_what_changed(tmp_path):
    plan = make_plan(gather, splits=3)
    check_plan(tmp_path, plan, "data")
    check_plan(tmp_path, plan)
    check_plan(tmp_path, plan, "data")
    for other, data, named in (
        (make_plan(gather, splits=4), "data", "resampling"),
        (make_plan(partial(gather, seed=2), splits=3), "data", "seed"),
        (make_plan(gather, splits=3, vary={"seed": [1, 2]}), "data", "vary"),
        (make_plan(gather, protocol="low"), "data", "protocol, learning_rate"),
        (plan, "others", "data"),
    ):
        with pytest.raises(InputError, match=f"Changed: {named}" if named != "protocol, learning_rate" else "protocol"):
            check_plan(tmp_path, other, data)


def test_no_protocol_ends_early_where_it_was_published_without():
    assert all(entry.patience > entry.epochs for entry in PROTOCOLS.values())


def test_a_comparison_needs_a_test_part():
    with pytest.raises(InputError, match=r"needs studies to test\. Received: shares 0\.8, 0\.2, 0\.0"):
        make_plan(partial(gather, shares=(0.8, 0.2, 0.0)))
    assert make_plan(partial(gather, shares=(0.8, 0.2, 0.0)), folds=5).sizes == (4, 1)


def test_quick_says_what_was_changed_too():
    lines = make_plan(partial(gather, image_epochs=1), splits=2).deviations()
    assert "There are 2 repeated splits, and not the 10 repeated splits of the protocol." in lines
    assert "These settings are not those of the protocol: image_epochs." in lines
    assert len(make_plan(gather).deviations()) == 1


def test_given_settings_are_those_that_repeat_the_plan():
    given = {
        "pixels": 96,
        "image_epochs": 1,
        "sections": ("findings",),
        "augment": False,
        "image_weights": "/a/b/film.h5",
    }
    plan = make_plan(partial(gather, **given), splits=2, vary={"seed": [1, 2]})
    found = plan.list_given()
    assert found == {
        **{"sections": "findings", "image_weights": "film.h5", "pixels": "96", "augment": "false", "image_epochs": "1"},
    }
    repeated = make_plan(partial(gather, **{**found, "image_weights": "/a/b/film.h5"}), splits=2, vary={"seed": [1, 2]})
    assert repeated == plan
    assert make_plan(gather, protocol="high").list_given() == {}


def test_the_content_of_a_redaction_belongs_to_the_key_of_a_task(tmp_path):
    path, split, keys = tmp_path / "words.txt", Resampling(splits=1).make, set()
    studies = [Study(str(n), str(n), labels={"a": n % 2}) for n in range(20)]
    (first,) = split(studies, shares=(0.5, 0.25, 0.25), seed=0, label_names=["a"])
    for number, words in enumerate(("clear", "clear lungs")):
        path.write_text(words)
        os.utime(path, ns=(number, number))
        keys.add(make_key(FitSettings(redact=str(path)), first, "data"))
    assert len(keys) == 2
