"""Profiles of studies: shares by patient, histograms of films, and nothing else."""

import json

import numpy as np
import pytest

from kmm.batches import Batch, BatchMaker, TextPreparation
from kmm.data.study import Report, Study
from kmm.errors import InputError
from kmm.evaluate.breakdown.profile import GRAY, SHAPES, SIZES, UNKNOWN_WORDS, FilmTally, Profile, profile_studies
from kmm.image.prepare import ImagePreparation
from kmm.text.vocabulary import Vocabulary


def make_profile(**changed):
    """Four studies of three patients; the last has no report."""
    texts = ["no mass", "mass of smith", "no no no", None]
    studies = [
        Study(str(place), patient, report=text and Report(findings=text, indication="no" if place == 0 else ""))
        for place, (patient, text) in enumerate(zip("aabc", texts, strict=True))
    ]
    maker = BatchMaker(
        ImagePreparation(32), TextPreparation(sections=("indication", "findings")),
        vocabulary=Vocabulary.fit([["no", "mass"]]), label_names=("mass", "cyst"),
    )  # fmt: skip
    labels = np.array([[1, np.nan], [1, np.nan], [0, np.nan], [np.nan, 1]])
    present = np.array([[1, 1], [1, 1], [1, 1], [1, 0]])
    tally = FilmTally()
    return profile_studies(maker, studies, present=present, labels=labels, tally=tally, **changed)


def test_shares_count_studies_and_patients():
    shares = make_profile().shares
    assert {name: (share.share, share.n) for name, share in shares.items()} == {
        "prevalence of mass": (2 / 3, 3),
        "prevalence of cyst": (1.0, 1),
        "studies without a film": (0.0, 4),
        "studies without a report": (0.25, 4),
        "reports without indication": (2 / 3, 3),
        "reports without findings": (0.0, 3),
        UNKNOWN_WORDS: (2 / 9, 9),
    }
    # both positives are of one patient: variance over patients ((2 * 1/3)^2 + (2/3)^2) / (3 * 2/9) = 4/3
    assert shares["prevalence of mass"].effective == pytest.approx(3 / (4 / 3))
    assert shares["studies without a film"].effective == 3  # patients


def test_words_may_be_counted_on_other_studies():
    readers = [Study("9", "z", report=Report(findings="smith smith no"))]
    assert make_profile(readers=readers).shares[UNKNOWN_WORDS].share == 2 / 3


def test_a_share_of_nothing_is_left_out():
    assert UNKNOWN_WORDS not in make_profile(readers=[Study("9", "z")]).shares


def test_films_count_alike_whatever_their_pixels():
    tally = FilmTally()
    dark, bright = np.zeros((1, 4, 4, 1)), np.full((1, 4, 4, 1), 255.0)
    half = np.concatenate([np.zeros((1, 2, 4, 1)), np.full((1, 2, 4, 1), 250.0)], axis=1)
    tally.add_films(np.concatenate([dark, bright, half, half]), [[2000, 1025], [256, 256], [0, 0], [3000, 2500]])
    found = tally.histograms()
    assert found[GRAY]["0"] == found[GRAY]["240"] == 0.5 and sum(found[GRAY].values()) == 1
    third = pytest.approx(1 / 3)
    assert found[SIZES] == {"256-511": third, "1024-2047": third, "2048 and over": third}
    assert found[SHAPES] == {"upright": pytest.approx(2 / 3), "square": third}


def test_a_batch_counts_its_films_alone():
    tally = FilmTally()
    sizes = np.array([[300, 300], [0, 0]], np.int32)
    image, empty = np.full((2, 4, 4, 1), 100.0, np.float32), np.zeros((2, 0))
    tally.add(Batch(image, empty, np.array([[1, 1], [0, 1]]), empty, sizes))
    assert (tally.films, tally.sized) == (1, 1) and tally.histograms()[GRAY]["96"] == 1
    assert FilmTally().histograms() == {}


def test_a_profile_is_read_back_and_quotes_nothing():
    profile = make_profile()
    text = json.dumps(profile.as_dict(), allow_nan=False)
    assert Profile.from_dict(json.loads(text)) == profile and "smith" not in text
    with pytest.raises(InputError, match="profile of the training studies cannot be read"):
        Profile.from_dict({"studies": 3})


def test_no_studies_have_a_profile():
    maker = BatchMaker(None, None, vocabulary=None, label_names=("mass",))
    found = profile_studies(maker, [], present=np.zeros((0, 2)), labels=np.zeros((0, 1)), tally=FilmTally())
    assert (found.studies, found.films, found.shares, found.histograms) == (0, 0, {}, {})
