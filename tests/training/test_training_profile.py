"""What a fit says of its training studies: numbers, of the studies that it trained on."""

import json

import numpy as np
import pytest

from kmm.evaluate.breakdown.profile import GRAY, SIZES, UNKNOWN_WORDS, Profile
from kmm.evaluate.part_details import PROFILE


def test_a_fit_saves_the_profile_of_its_training_part(tiny_run, loaded):
    _, run, folder = tiny_run
    profile = Profile.from_dict(loaded.provenance[PROFILE])
    train = run.rows("train")
    labels, films = run.prepared.labels[train, 0], run.prepared.present[train, 0]
    assert profile.studies == len(train) and profile.films == films.sum()
    assert profile.shares["prevalence of abnormal"].share == pytest.approx(labels.mean())
    assert profile.shares["studies without a film"].share == pytest.approx(1 - films.mean())
    assert profile.shares[UNKNOWN_WORDS].share == pytest.approx(loaded.provenance["text"]["unknown_rate_on_validation"])
    assert profile.histograms[SIZES] == {"under 256": 1.0}  # 48 pixels
    levels = np.array([run.prepared.films[[row]][0] for row in train[films > 0]]) // 16
    known = np.bincount(levels.astype(int).ravel(), minlength=16) / levels.size
    np.testing.assert_allclose(list(profile.histograms[GRAY].values()), known)
    saved = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))["provenance"][PROFILE]
    assert set(saved) == {"studies", "films", "shares", "histograms"} and "7" + "0" * 9 not in json.dumps(saved)
