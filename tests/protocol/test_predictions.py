"""Predictions of many studies: a sequence with arrays and a frame, which prints ids and numbers alone."""

from dataclasses import replace

import numpy as np
import pytest

from kmm.data.study import Problem
from kmm.protocol.predictions import Prediction, Predictions


def make(value, other=0.2):
    scores = {"mass": value, "effusion": other}
    decisions = {name: number >= 0.5 for name, number in scores.items()}
    return Prediction(
        scores, {name: number * 2 for name, number in scores.items()}, dict.fromkeys(scores, 0.5), decisions
    )


ROWS = [make(0.1), make(0.8), make(0.5, 0.9)]


def test_columns_are_arrays_in_the_order_of_the_labels():
    found = Predictions(ROWS, ["a", "b", "c"])
    assert found.labels == ("mass", "effusion")
    assert found.probabilities.tolist() == [[0.1, 0.2], [0.8, 0.2], [0.5, 0.9]]
    assert found.decisions.tolist() == [[False, False], [True, False], [True, True]]
    assert found.logits[1].tolist() == [1.6, 0.4] and (found.thresholds == 0.5).all()


def test_it_is_a_sequence():
    found = Predictions(ROWS, ["a", "b", "c"], ["problem"])
    assert found[1] is ROWS[1] and list(found) == ROWS and found == ROWS and found == ROWS and found != ROWS[:2]
    assert found[1:].studies == ("b", "c") and found[1:].problems == ("problem",) and found[-1] == ROWS[-1]
    assert Predictions(ROWS).studies == ("0", "1", "2")
    empty = Predictions([])
    assert empty == [] and not empty and empty.probabilities.shape == (0, 0) and repr(empty) == "0 predictions"


def test_labels_outlive_the_last_row():
    assert Predictions(ROWS)[:0].probabilities.shape == (0, 2)
    assert Predictions([], labels=("mass",)).decisions.shape == (0, 1)


def test_studies_are_counted_and_not_their_problems():
    gone, other = Problem("gone.png", "film missing"), Problem("2.png", "film missing", "2", "its report")
    aside = Problem("study 0", "expected a frontal image")
    for problems, says in (
        ([gone, aside], "1 study set aside"),
        ([other, other], "1 study without a file"),
        ([gone, aside, other, Problem("study 1", "blank")], "2 studies set aside, 1 study without a file"),
        ([other, Problem("study 2", "no words")], "1 study set aside"),
        ([gone], "1 problem"),
    ):
        assert repr(Predictions([], problems=problems)) == f"0 predictions, {says}: see .problems"


def test_long_lists_are_cut():
    shown = repr(Predictions(ROWS * 10))
    assert len(shown.splitlines()) == 12 and "30 predictions, 20 not shown" in shown and "0.800 *" in shown


def test_frames():
    pandas = pytest.importorskip("pandas")
    frame = Predictions(ROWS, ["a", "b", "c"]).to_frame()
    assert isinstance(frame, pandas.DataFrame) and frame["study"].tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(frame["probability:mass"], [0.1, 0.8, 0.5])
    assert frame["decision:effusion"].tolist() == [False, False, True]
    one = ROWS[1].to_frame()
    assert one.to_dict("records")[0] == {"label": "mass", "probability": 0.8, "threshold": 0.5, "decision": True}


def test_a_missing_pandas_is_named(monkeypatch):
    import sys

    from kmm.errors import MissingPackageError

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match=r'pip install "kmm\[pandas\]"'):
        Predictions(ROWS).to_frame()


def test_undecided_studies_are_shown_as_such():
    rows = [replace(ROWS[1], decisions={"mass": "abstain", "effusion": False}, sets={"mass": [0, 1], "effusion": [0]})]
    found = Predictions(rows, ["a"])
    assert found.decisions.dtype == object and found.decisions.tolist() == [["abstain", False]]
    assert (found.decisions == "abstain").tolist() == [[True, False]]
    assert "0.800 ?" in repr(found) and repr(found).endswith("* at or above the label's threshold, ? undecided")
    assert repr(rows[0]) == "<Prediction mass 0.800 (undecided), effusion 0.200 (negative)>"
    assert found[0].as_dict()["sets"] == {"mass": [0, 1], "effusion": [0]}
    assert "undecided" not in repr(Predictions(ROWS))
