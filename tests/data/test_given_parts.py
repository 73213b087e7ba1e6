"""`GivenParts`: parts of their own stay as they are; the others are split from the training studies."""

from pathlib import Path

import pytest

from kmm.data.given_parts import GivenParts
from kmm.data.split import PARTS, Split, check_leaks, split_studies
from kmm.data.study import ImageFile, Report, Study
from kmm.errors import InputError

STUDIES = [Study(str(n), patient=f"p{n // 2}", labels={"abnormal": n % 2}) for n in range(40)]


def give(**parts):
    """The given parts of `STUDIES`: those named take the last ones, in order; the rest is train."""
    names = [name for name, count in parts.items() for _ in range(count)]
    names = ["train"] * (len(STUDIES) - len(names)) + names
    return GivenParts({study.id: name for study, name in zip(STUDIES, names, strict=True)})


def count(split):
    return [len(split.part(name)) for name in PARTS]


def test_only_the_parts_that_are_not_given_are_split_off():
    whole = give(validation=4, test=6)
    assert whole.complete(STUDIES, shares=(0.7, 0.1, 0.2)) == Split(
        whole.parts, {study.id: study.patient for study in STUDIES}
    )
    split = give(test=8).complete(STUDIES, shares=(0.6, 0.2, 0.2))
    assert count(split) == [24, 8, 8] and set(split.part("test")) == {str(n) for n in range(32, 40)}
    assert count(give(validation=8).complete(STUDIES, shares=(0.6, 0.1, 0.2))) == [24, 8, 8]
    assert count(give(validation=8).complete(STUDIES, shares=(0.8, 0.2, 0))) == [32, 8, 0]


def test_the_rest_is_split_as_split_studies_does():
    rest = STUDIES[:32]
    split = give(test=8).complete(STUDIES, shares=(0.6, 0.2, 0.2), seed=3)
    expected = split_studies(rest, shares=(0.6 / 0.8, 0.2 / 0.8, 0), seed=3)
    assert {id: part for id, part in split.parts.items() if part != "test"} == expected.parts


def test_copies_of_a_report_stay_together():
    same = Report(findings="Clear.")
    studies = [Study(str(n), str(n), report=same if n < 4 else None) for n in range(20)]
    given = GivenParts({study.id: "test" if int(study.id) > 15 else "train" for study in studies})
    split = given.complete(studies, shares=(0.5, 0.25, 0.25))
    assert len({split.parts[study.id] for study in studies[:4]}) == 1


def test_studies_that_cannot_be_used_are_left_out():
    split = give(test=8).complete(STUDIES[4:38], shares=(0.6, 0.2, 0.2))
    assert set(split.parts) == {str(n) for n in range(4, 38)} and len(split.part("test")) == 6
    with pytest.raises(InputError):
        give(test=8).complete(STUDIES[32:], shares=(0.6, 0.2, 0.2))


def test_the_digest_is_that_of_the_parts_in_any_order():
    first, other = give(test=8), give(test=6)
    assert first.digest == GivenParts(dict(reversed(first.parts.items()))).digest != other.digest


def test_what_a_published_split_loses_so_that_it_does_not_leak():
    def study(id, patient, body="", film=None):
        images = (ImageFile(Path(f"{id}.png"), "frontal", pixel_digest=film),)
        return Study(id, patient, images, Report(findings=body) if body else None)

    studies = [
        study("1", "a"),
        study("2", "b", "Clear."),
        study("3", "c", film="f"),
        study("4", "d"),
        study("5", "e"),
        study("6", "d", "clear. "),
        study("7", "g", film="f"),
        study("8", "e"),
        study("9", "e"),
        study("10", "e"),
    ]
    test, validation = dict.fromkeys("67", "test"), dict.fromkeys("58", "validation")
    given = GivenParts(dict.fromkeys("12349", "train") | validation | test)
    problems = given.find_leaks(studies)
    assert list(map(str, problems)) == [
        "study 2: left out of train, because the same report body is in test",
        "study 3: left out of train, because the same film is in test",
        "study 4: left out of train, because the same patient is in test",
        "study 9: left out of train, because the same patient is in validation",
    ]
    sources = {problem.source for problem in problems}
    kept = [one for one in studies if one.id in given.parts and f"study {one.id}" not in sources]
    assert given.find_leaks(kept) == []
    check_leaks(given.complete(kept, shares=(0.6, 0.2, 0.2)), kept)


def test_what_is_left_out_holds_nothing_back():
    """Study 2 goes because of test; study 1, which only shares with study 2, stays."""
    body = Report(findings="Clear.")
    studies = [Study("1", "a", report=body), Study("2", "b", report=body), Study("3", "b")]
    given = GivenParts({"1": "train", "2": "validation", "3": "test"})
    assert [problem.source for problem in given.find_leaks(studies)] == ["study 2"]
