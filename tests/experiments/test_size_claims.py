"""What is said of wanted sizes follows from the numbers: reached, beyond, out of reach, with and without ends."""

import numpy as np
import pytest

from kmm.experiments.output.figures.size_figures import GROUPS, draw_sizes, is_drawn
from kmm.experiments.output.methods import list_methods, show_command
from kmm.experiments.output.page_sizes import show_sizes
from kmm.experiments.output.references import list_references
from kmm.experiments.output.size_claims import list_cautions, show_studies, state_size, tabulate_sizes

BASE = {"value": 0.9, "smallest": 100.0, "largest": 1600.0, "limit": 0.95}


def say(state, studies, interval, **more):
    return state_size({**BASE, "state": state, "studies": studies, "interval": interval, **more})


@pytest.mark.parametrize(
    "found, expected",
    [
        (("beyond", 10_600.0, [6600.0, 11_600.0]), "would take about 9,000 more training studies (5,000 to 10,000)"),
        (("beyond", 2600.0, [900.0, 4600.0]), "would take about 1,000 more training studies (0 to 3,000)"),
        (
            ("beyond", 2600.0, [1900.0, None]),
            "would take about 1,000 more training studies (300 or more: the interval has no upper end)",
        ),
        (("beyond", 2600.0, None), "would take about 1,000 more training studies (no interval: a single split)"),
        (
            ("beyond", 17_600.0, [6600.0, 41_600.0]),
            "would take about 16,000 more training studies (5,000 to 40,000); more than 10 times the studies that were "
            "measured is a guess",
        ),
        (("reached", 700.0, [300.0, 1500.0]), "is reached already with about 700 training studies (300 to 1,500)"),
        (
            ("reached", 150.0, [40.0, 300.0]),
            "is reached already with about 150 training studies (fewer than 100 to 300)",
        ),
        (("reached", 40.0, [10.0, 90.0]), "is reached already with the fewest training studies, 100"),
        (
            ("reached", 1200.0, [700.0, 2500.0]),
            "is reached already with about 1,200 training studies, but the interval does not rule out that it takes "
            "more than there are",
        ),
        (
            ("reached", 1200.0, [700.0, None]),
            "is reached already with about 1,200 training studies, but the interval does not rule out that it takes "
            "more than there are",
        ),
    ],
)
def test_a_size_in_words(found, expected):
    assert say(*found) == expected


@pytest.mark.parametrize(
    "interval, limit, expected",
    [
        (
            [4600.0, None],
            0.84,
            "the fitted curve flattens at 0.840; the interval begins at about 3,000 more training studies",
        ),
        ([1600.3, None], 0.84, "the fitted curve flattens at 0.840, but the interval rules nothing out"),
        ([900.0, None], 0.84, "the fitted curve flattens at 0.840, but the interval rules nothing out"),
        ([None, None], 0.84, "the fitted curve flattens at 0.840, and that holds for the whole interval"),
        (None, 0.84, "the fitted curve flattens at 0.840 (no interval: a single split)"),
        ([None, None], 0.91, "it would take more than 100 times the training studies, and that holds for the whole"),
    ],
)
def test_what_is_out_of_reach_in_words(interval, limit, expected):
    assert say("flat", None, interval, limit=limit).startswith(f"is not in reach: {expected}")


@pytest.mark.parametrize("number, text", [(8743, "8,700"), (99.6, "100"), (1664, "1,700"), (12.2, "12"), (0.3, "0")])
def test_two_digits_count(number, text):
    assert show_studies(number) == text


def make_curve(places, *, wanted=None):
    points = [
        {"size": size, "studies": float(size), "mean": mean, "sd": 0.01, "interval": [mean - 0.02, mean + 0.02], "n": 2}
        | {"left_out": 0, "values": [mean - 0.007, mean + 0.007]}
        for size, mean in places
    ]
    studies = [*(size for size, _ in places), 2 * places[-1][0], 10 * places[-1][0]]
    line = [
        {"studies": float(n), "value": 0.9 - n**-0.5, "interval": [0.88 - n**-0.5, 0.92 - n**-0.5]} for n in studies
    ]
    curve = {"a": 0.9, "b": 1.0, "c": 0.5}
    return {"points": points, "curve": curve, "reason": None, "line": line, "wanted": wanted}


def make_summary(models=("image", "image-linear", "joint"), *, wanted=None, variants=("",), **more):
    places = [(size, 0.9 - size**-0.5) for size in (100, 200, 400)]
    found = None if wanted is None else {**BASE, "state": "beyond", "studies": 2000.0, "interval": [900.0, None]}
    curves = {
        variant: {
            model: {"roc_auc": make_curve(places, wanted=found), "accuracy": make_curve(places)} for model in models
        }
        for variant in variants
    }
    parts = [{"size": n, "splits": 2, "train": float(n), "validation": n / 5, "test": 80.0} for n, _ in places]
    sizes = {"smaller": [100, 200], "parts": parts, "splits": 2, "wanted": wanted, "curves": curves}
    return {"protocol": "quick", "sizes": {**sizes, "labels_left_out": {}, "notes": [], **more}}


def test_cautions_name_few_splits_missing_curves_and_labels():
    summary = make_summary(labels_left_out={"": ["cyst"]})
    summary["sizes"]["curves"][""]["joint"]["roc_auc"].update(curve=None, reason="too few sizes", line=[])
    few, reason, labels = list_cautions(summary)
    assert few.startswith("The learning curves rest on 2 splits: their intervals are rough.")
    assert reason == "No learning curve was fitted to some models: too few sizes."
    assert labels.endswith("because a small training part lacks a class: cyst.")
    assert list_cautions(make_summary(splits=5)) == [] == list_cautions({})


def test_the_printed_table_has_every_size_and_the_value_at_twice_the_largest():
    ((title, head, rows),) = tabulate_sizes(make_summary())
    assert title.startswith("ROC AUC by number") and head[:4] == ["model", "100", "200", "400"]
    twice = 0.9 - 800**-0.5
    assert rows[0] == ["Image only", "0.800", "0.829", "0.850", f"{twice:.3f} [{twice - 0.02:.3f}, {twice + 0.02:.3f}]"]
    assert len(tabulate_sizes(make_summary(variants=("a=1", "a=2")))) == 2


def test_the_section_has_what_the_summary_has_and_none_without_sizes():
    section = show_sizes(make_summary(wanted=0.9, notes=["100 training studies: a label is missing."]))
    assert section.figures == ("learning-curve",) and len(section.points) == 3
    assert "a hospital with fewer studies" in section.lines[0] and "rest on 2 splits" in section.lines[1]
    head, rows = section.tables[0].head, section.tables[0].rows
    assert all(len(row) == len(head) for row in rows) and rows[0][1] == "0.800 [0.780, 0.820]"
    parts, curves, said = section.folded
    assert said.rows == [["100 training studies: a label is missing."]]
    assert parts.rows[0] == ["100", "100", "20", "80", "2"]
    assert curves.rows[0] == ["Image only", "0.900", "1", "0.5", f"{0.9 - 4000**-0.5:.3f} at 4,000"]
    assert show_sizes({}) is None


def test_the_figure_has_a_panel_for_each_group_and_metric_with_points_means_curve_and_band():
    figure = draw_sizes(make_summary(wanted=0.9))
    film, both, film_accuracy, _ = figure.axes
    assert [axes.get_title(loc="left") for axes in (film, both)] == ["Film", "Both"]
    assert (film.get_ylabel(), film_accuracy.get_ylabel()) == ("ROC AUC", "Accuracy")
    assert film.get_xscale() == "log" and "Report" in GROUPS
    solid = next(line for line in film.lines if line.get_label() == "Image only")
    assert solid.get_xdata().tolist() == [100, 200, 400]
    assert solid.get_ydata() == pytest.approx([0.9 - n**-0.5 for n in (100, 200, 400)])
    dashed = [line for line in film.lines if line.get_linestyle() == "--" and len(line.get_xdata()) > 1]
    assert dashed[0].get_xdata()[0] == 400 and len(film.collections) == 4  # a band of each model, in two parts
    means = [line for line in film.lines if line.get_marker() == "D"]
    assert [float(line.get_ydata()[0]) for line in means[:3]] == pytest.approx([0.9 - n**-0.5 for n in (100, 200, 400)])
    assert any(np.allclose(line.get_ydata(), 0.9) and line.get_linestyle() == ":" for line in film.lines)
    assert not any(line.get_linestyle() == ":" for line in film_accuracy.lines)
    several = draw_sizes(make_summary(variants=("a=1", "a=2")))
    assert len(several.axes) == 4 and {axes.get_ylabel() for axes in several.axes} == {"ROC AUC", ""}


def test_without_a_model_that_is_drawn_there_is_no_figure():
    assert is_drawn(make_summary()) and not is_drawn(make_summary(models=())) and not is_drawn({})


def test_a_curve_that_was_not_fitted_is_drawn_as_points():
    summary = make_summary(models=("image",))
    for metric in ("roc_auc", "accuracy"):
        summary["sizes"]["curves"][""]["image"][metric].update(curve=None, reason="too few sizes", line=[])
    axes, _ = draw_sizes(summary).axes
    assert not axes.collections and sum(line.get_marker() == "D" for line in axes.lines) == 3


def test_methods_command_and_references_name_the_sizes():
    summary = make_summary(wanted=0.9)
    columns = {"model": np.array(["image"]), "study": np.array(["1"]), "patient": np.array(["a"])}
    text = " ".join(list_methods(columns, columns, summary))
    assert "subsets of 100 and 200 training studies" in text and "{cite:figueroa2012}" in text
    assert "Image only: ROC AUC 0.9 would take about" in text
    assert show_command(summary) == "kmm compare FOLDER --out OUT --protocol quick --sizes 100,200 --wanted 0.9"
    assert "figueroa2012" in list_references(summary) and "figueroa2012" not in list_references({})
