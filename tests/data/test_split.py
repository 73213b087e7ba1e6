import csv
import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kmm.data.split import PARTS, Split, check_leaks, group_studies, k_folds, load_split, split_studies
from kmm.data.study import SECTIONS, ImageFile, Report, Study
from kmm.errors import InputError, LeakError

NAN = float("nan")


def make_studies(count, *, labels=None, patient=str, body=None):
    """`count` studies; `labels`, `patient` and `body` are functions of the number."""
    return [
        Study(
            str(n),
            patient=patient(n),
            report=Report(findings=body(n)) if body else None,
            labels=labels(n) if labels else {},
        )
        for n in range(count)
    ]


@st.composite
def collections(draw):
    """Studies whose patients and bodies repeat at random, with two labels, some unknown."""
    count = draw(st.integers(12, 80))
    patients, bodies = draw(st.integers(8, 80)), draw(st.integers(4, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return make_studies(
        count,
        patient=lambda n: f"single {n}" if n < 8 else f"p{rng.integers(patients)}",
        body=lambda n: "" if n < 8 or rng.random() < 0.4 else f"Body  {rng.integers(bodies)}",
        labels=lambda n: {"one": float(rng.integers(2)), "two": (0.0, 1.0, NAN)[rng.integers(3)]},
    )


@settings(max_examples=60)
@given(collections(), st.integers(0, 1000))
def test_a_split_is_a_partition_without_leaks(studies, seed):
    split = split_studies(studies, seed=seed)
    ids = [study for name in PARTS for study in split.part(name)]
    assert sorted(ids) == sorted(study.id for study in studies)
    assert all(split.part(name) for name in PARTS)
    check_leaks(split, studies)


@settings(max_examples=20)
@given(collections(), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_a_split_depends_on_seed_and_studies_but_not_on_their_order(studies, seed, random):
    shuffled = list(studies)
    random.shuffle(shuffled)
    assert split_studies(studies, seed=seed).digest == split_studies(shuffled, seed=seed).digest


@settings(max_examples=20)
@given(collections(), st.integers(2, 4), st.integers(1, 2))
def test_every_study_is_tested_once_per_repeat(studies, k, repeats):
    assume(max(map(len, group_studies(studies))) <= len(studies) / 4)
    folds = k_folds(studies, k, repeats=repeats, seed=3)
    assert len(folds) == k * repeats
    tested = Counter(study for fold in folds for study in fold.part("test"))
    assert tested == {study.id: repeats for study in studies}
    for fold in folds:
        check_leaks(fold, studies)
        assert len(fold.parts) == len(studies)


@settings(max_examples=40)
@given(st.integers(60, 400), st.floats(0.1, 0.9), st.integers(0, 100))
def test_one_label_is_balanced_within_two_studies(count, prevalence, seed):
    rng = np.random.default_rng(seed)
    truth = {str(n): float(rng.random() < prevalence) for n in range(count)}
    studies = make_studies(count, labels=lambda n: {"abnormal": truth[str(n)]})
    split = split_studies(studies, seed=seed)
    for name, share in zip(PARTS, (0.7, 0.1, 0.2)):
        ids = split.part(name)
        assert abs(len(ids) - share * count) <= 2
        assert abs(sum(truth[study] for study in ids) - share * sum(truth.values())) <= 2


def test_rare_labels_of_many_are_spread_by_the_shares():
    rng = np.random.default_rng(0)
    prevalences = [0.5, 0.2, 0.05, 0.02]
    studies = make_studies(1000, labels=lambda n: {f"l{i}": float(rng.random() < p) for i, p in enumerate(prevalences)})
    split = split_studies(studies)
    for label in ("l0", "l1", "l2", "l3"):
        positive = {study.id for study in studies if study.labels[label]}
        for name, share in zip(PARTS, (0.7, 0.1, 0.2)):
            assert abs(len(positive & set(split.part(name))) - share * len(positive)) <= max(2, 0.02 * len(positive))


def test_shares_hold_when_one_body_is_shared_by_many_with_conflicting_labels():
    rng = np.random.default_rng(1)
    # Bodies of 100, 50, 25, ... studies, as stock phrases make them, among 1,000 single ones.
    sizes = [100, 50, 25, 12, 6]
    bodies = [f"stock {i}" for i, size in enumerate(sizes) for _ in range(size)] + [f"own {i}" for i in range(1000)]
    studies = make_studies(len(bodies), body=lambda n: bodies[n], labels=lambda n: {"abnormal": float(rng.integers(2))})
    for seed in range(5):
        split = split_studies(studies, seed=seed)
        check_leaks(split, studies)
        for name, share in zip(PARTS, (0.7, 0.1, 0.2)):
            part = set(split.part(name))
            assert abs(len(part) / len(studies) - share) < 0.02
            prevalence = np.mean([study.labels["abnormal"] for study in studies if study.id in part])
            assert abs(prevalence - np.mean([study.labels["abnormal"] for study in studies])) < 0.02


def test_seeds_give_different_splits_and_a_share_of_zero_an_empty_part():
    studies = make_studies(50)
    assert split_studies(studies, seed=1).digest != split_studies(studies, seed=2).digest
    assert not split_studies(studies, shares=(0.8, 0, 0.2)).part("validation")


def test_groups_join_through_patients_and_bodies_but_not_through_empty_bodies():
    report = Report(findings="No  EFFUSION.")
    studies = [
        Study("a", "p1", report=report),
        Study("b", "p2", report=Report(impression="no effusion.")),
        Study("c", "p2"),
        Study("d", "p3", report=Report(indication="Cough.")),
        Study("e", "p4", report=Report(indication="Cough.")),
        Study("f", "p5", report=None),
    ]
    assert [[study.id for study in group] for group in group_studies(studies)] == [["a", "b", "c"], ["d"], ["e"], ["f"]]


def test_bodies_in_either_form_of_unicode_are_one():
    studies = [
        Study("a", "p1", report=Report(findings="E\u0301panchement.")),
        Study("b", "p2", report=Report(findings="\u00c9panchement.")),
    ]
    assert [[study.id for study in group] for group in group_studies(studies)] == [["a", "b"]]


def film_study(number, digest, view="frontal"):
    """A study of a patient of its own, with a film that was identified."""
    return Study(str(number), str(number), (ImageFile(Path("film.png"), view=view, pixel_digest=digest),))


def test_copies_of_a_film_stay_together_in_every_splitter():
    studies = [film_study(n, f"film {n % 30}") for n in range(90)]  # each film under three ids and patients
    splits = [split_studies(studies), *k_folds(studies, 3, repeats=2)]
    for split in splits:
        assert all(len({split.parts[str(n + more)] for more in (0, 30, 60)}) == 1 for n in range(30))
        check_leaks(split, studies)


def test_films_without_identity_and_lateral_films_join_nothing():
    studies = [film_study(1, None), film_study(2, None), film_study(3, "x", "lateral"), film_study(4, "x", "lateral")]
    assert len(group_studies(studies)) == 4


def test_a_film_that_crosses_is_a_leak():
    studies = [film_study(1, "x"), film_study(2, "x"), film_study(3, "y"), film_study(4, None)]
    patients = {study.id: study.patient for study in studies}
    split = Split({"1": "train", "2": "test", "3": "train", "4": "test"}, patients)
    with pytest.raises(
        LeakError, match=r"Films that cross: 1\. Patients that cross: 0; report bodies: 0; studies: 2, f"
    ):
        check_leaks(split, studies)
    check_leaks(dataclasses.replace(split, parts=dict.fromkeys("1234", "train")), studies)


def test_labels_that_are_unknown_or_absent_are_tolerated():
    studies = make_studies(30, labels=lambda n: ({}, {"a": NAN}, {"a": 1.0})[n % 3])
    split = split_studies(studies)
    assert [len(split.part(name)) for name in PARTS] == [21, 3, 6]
    assert sum(n % 3 == 2 for n in map(int, split.part("test"))) == 2


def test_stratification_may_be_confined_to_named_labels():
    studies = make_studies(40, labels=lambda n: {"a": n % 2, "b": n % 7 == 0})
    split = split_studies(studies, label_names=["a"])
    assert sum(int(study) % 2 for study in split.part("test")) == 4


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (NAN, 0.5, 0.5)])
def test_wrong_shares_are_refused(shares):
    with pytest.raises(InputError, match="sum 1"):
        split_studies(make_studies(10), shares=shares)


def test_too_few_groups_duplicate_ids_and_wrong_numbers_are_refused():
    with pytest.raises(InputError, match=r"3 parts needs as many groups of studies\. Received: 2"):
        split_studies(make_studies(9, patient=lambda n: str(n % 2)))
    with pytest.raises(InputError, match=r"1 studies \(3\) occur twice"):
        split_studies([*make_studies(5), Study("3", "x")])
    with pytest.raises(InputError, match="k of 2 or more"):
        k_folds(make_studies(10), 1)
    with pytest.raises(InputError, match="seed"):
        split_studies(make_studies(10), seed=-1)


def test_a_leak_is_named_without_patient_or_report():
    studies = [
        Study("a", "Jane Doe", report=Report(findings="Secret words.")),
        Study("b", "Jane Doe"),
        Study("c", "Other", report=Report(findings="secret  words.")),
        Study("d", "Alone"),
    ]
    patients = {study.id: study.patient for study in studies}
    split = Split({"a": "train", "b": "test", "c": "validation", "d": "test"}, patients)
    with pytest.raises(LeakError, match=r"Patients that cross: 1; report bodies: 1; studies: 3, for example") as caught:
        check_leaks(split, studies)
    assert "Jane" not in str(caught.value) and "ecret" not in str(caught.value)
    check_leaks(dataclasses.replace(split, parts=dict.fromkeys("abcd", "train")), studies)


def test_a_saved_split_is_loaded_again_with_one_digest(tmp_path):
    studies = make_studies(30, patient=lambda n: f'p,"{n // 2}')
    split = split_studies(studies)
    split.save(tmp_path / "split.csv")
    with (tmp_path / "split.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == ["study", "patient", "part"]
    loaded = load_split(tmp_path / "split.csv", studies)
    assert loaded.parts == split.parts and loaded.digest == split.digest
    assert [path.name for path in tmp_path.iterdir()] == ["split.csv"]


def test_a_file_and_the_data_must_name_the_same_studies(tmp_path):
    studies = make_studies(20)
    split_studies(studies).save(tmp_path / "split.csv")
    with pytest.raises(InputError, match=r"split\.csv.*2 studies \(20, 21\) of the data have none"):
        load_split(tmp_path / "split.csv", make_studies(22))
    with pytest.raises(InputError, match=r"12 studies \(16, 17, 18, 19, 2, \.\.\.\) of the file do not"):
        load_split(
            tmp_path / "split.csv",
            [study for study in studies if study.id in ("0", "1", "10", "11", "12", "13", "14", "15")],
        )
    fewer = load_split(tmp_path / "split.csv", studies[:8], allow_missing=True)
    assert set(fewer.parts) == {str(n) for n in range(8)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "columns study and part. Found: none"),
        (b"id,part\n1,train\n", "columns study and part. Found: id, part"),
        (b"study,part\n0,training\n", "row 2: the part must be one of train, validation, test"),
        (b"study,part\n0\n", "split.csv line 2: expected 2 fields; found 1"),
        (b"study,part\nnan,train\n", "row 2: the study is empty"),
        (b"study,part\n0,train\n0,test\n", "row 3: study 0 already has a row"),
        (b"study,part\n\xff\xfe,train\n", r"expected UTF-8 text\. Line 2 is not valid \(byte 11\)"),
    ],
)
def test_a_bad_split_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_split(path, make_studies(1))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_absent_split_file_and_an_unknown_part_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_split(tmp_path / "none.csv", [])
    with pytest.raises(InputError, match="one of train, validation, test"):
        Split({}, {}).part("val")


@pytest.mark.openi
def test_shares_and_balance_hold_on_open_i(openi_folder):
    with (openi_folder / "indiana_reports.csv").open(encoding="utf-8", newline="") as file:
        studies = [
            Study(
                row["uid"],
                row["uid"],
                report=Report(*(row[name] for name in SECTIONS)),
                labels={"abnormal": float(row["MeSH"] != "normal")},
            )
            for row in csv.DictReader(file)
        ]
    abnormal = {study.id: study.labels["abnormal"] for study in studies}
    split = split_studies(studies)
    check_leaks(split, studies)
    for name, share in zip(PARTS, (0.7, 0.1, 0.2)):
        ids = split.part(name)
        assert abs(len(ids) / len(studies) - share) < 0.005
        assert abs(np.mean([abnormal[study] for study in ids]) - np.mean(list(abnormal.values()))) < 0.01
