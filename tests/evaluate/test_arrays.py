import numpy as np
import pytest

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_row, known_columns


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [
        ([0, 1], [0.5], "have the same shape"),
        ([[[0]]], [[[0.5]]], "have the same shape"),
        (np.zeros((3, 0)), np.zeros((3, 0)), "have the same shape"),
        ([0, 2], [0.5, 0.5], "0, 1 or NaN"),
        ([0, 1], [0.5, np.nan], "finite"),
        ([0, 1], [0.5, 1.5], "0.5 to 1.5"),
    ],
)
def test_what_does_not_fit_is_refused(labels, scores, said):
    with pytest.raises(InputError, match=said):
        as_columns(labels, scores)


def test_scores_that_are_no_probabilities_pass_when_told():
    assert as_columns([0, 1], [-3, 5], probabilities=False)[1].tolist() == [[-3], [5]]


def test_no_study_is_legal():
    assert as_columns([], [])[0].shape == (0, 1)


@pytest.mark.parametrize("values", [[0.1, 0.2], np.nan, [[0.5, 0.5, 0.5]]])
def test_a_row_must_fit(values):
    with pytest.raises(InputError, match="thresholds"):
        as_row(values, 3, "thresholds")


def test_unknown_labels_are_left_out_label_by_label():
    labels = np.array([[0, np.nan], [np.nan, 1], [1, 1]])
    columns = [(y.tolist(), s.tolist()) for y, s in known_columns(labels, np.arange(6.0).reshape(3, 2))]
    assert columns == [([0, 1], [0, 4]), ([1, 1], [3, 5])]
