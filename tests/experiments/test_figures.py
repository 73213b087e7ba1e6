"""Figures of a comparison: the same numbers give the same bytes, and no name can break them."""

import copy
import re
from functools import cache

import numpy as np
import pytest

from kmm.experiments.output.figures.curve_figures import draw_epochs, trace_epochs
from kmm.experiments.output.figures.drawings import list_figures
from kmm.experiments.output.figures.interval_figures import draw_differences, draw_models
from kmm.experiments.output.figures.prediction_curves import COVERAGES, THRESHOLDS, trace_predictions
from kmm.pages.drawing import clean_text
from tests.factories.comparison_results import make_comparison

NAMES = (
    *("epochs", "models", "differences", "shapley", "calibration", "risk-coverage", "decision-curve"),
    "subgroups",
)
HOSTILE = "<script>x</script> $\\frac{1$ _a \x00\x1b \u202eשלום 🫁 " + "long " * 40


@cache
def trace_all():
    return trace_predictions(make_comparison().predictions)


def list_all(made=None):
    made = made or make_comparison()
    return list_figures(made.comparison, made.history, made.summary, trace_all())


@pytest.mark.large
def test_every_part_of_the_summary_has_its_figure():
    assert tuple(list_all()) == NAMES


@pytest.mark.large
@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_give_the_same_bytes(name):
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        first, second = (list_all()[name].encode(suffix) for _ in range(2))
        assert first == second and first.startswith(start)


def test_a_file_carries_its_caption_and_the_page_does_not():
    drawing = list_all()["differences"]
    words = "corrected for their overlap"
    svg = drawing.encode(".svg").decode()
    assert words in " ".join(re.findall(r">([^<>]+)</text>", svg)) or words.split(" ", 1)[1] in svg
    assert words not in drawing.encode(".svg", captioned=False).decode()
    assert "n = 50 studies per split, 3 splits" in drawing.caption and "Nadeau and Bengio" in drawing.caption


def test_captions_name_part_and_meaning_of_spread():
    drawings = list_all()
    assert "Validation part, n = 25 studies per split, 3 splits" in drawings["epochs"].caption
    assert "Test part, n = 50 studies per split, 3 splits" in drawings["decision-curve"].caption
    assert "no confidence interval" in drawings["epochs"].caption
    assert "hollow diamonds: published" in drawings["models"].caption


def test_what_is_absent_has_no_figure():
    made = make_comparison()
    history = {name: column[:0] for name, column in made.history.items()}
    assert list_figures(made.comparison, history, {}, {}) == {}


def test_epochs_of_stages_follow_each_other_and_spread_is_that_of_splits():
    made = make_comparison()
    table = trace_epochs(made.history, made.history["variant"][0], "image", "val_accuracy")
    assert table.shape == (3, 12) and np.isfinite(table).all()
    figure = draw_epochs(made.history)
    line = next(line for line in figure.axes[0].lines if line.get_label() == "Image only")
    assert line.get_ydata() == pytest.approx(table.mean(axis=0))


def test_loss_is_drawn_where_nothing_else_was_recorded():
    history = make_comparison().history
    kept = history["metric"] == "val_loss"
    figure = draw_epochs({name: column[kept] for name, column in history.items()})
    assert {axes.get_ylabel() for axes in figure.axes} == {"Validation loss"}


def read_labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_the_forest_plot_has_each_difference_with_its_interval():
    differences = make_comparison().summary["differences"]
    (axes,) = draw_differences(differences).axes
    lines = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    for found in differences:
        assert tuple(found["interval"]) in lines


def test_published_points_are_hollow_and_measured_ones_are_not():
    summary = make_comparison().summary
    figure = draw_models(summary, ("accuracy",), [row for row in summary["published"] if row["part"] == "test"])
    (axes,) = figure.axes
    markers = [(line.get_marker(), line.get_markerfacecolor()) for line in axes.lines if len(line.get_xdata()) == 1]
    assert {face for marker, face in markers if marker == "D"} == {"white"}
    assert "white" not in {face for marker, face in markers if marker != "D"}


def test_labels_stand_apart():
    figure = draw_differences(make_comparison().summary["differences"])
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels() if label.get_text()]
    assert boxes and not any(first.overlaps(second) for first in boxes for second in boxes if first is not second)
    left = min(box.x0 for box in boxes)
    assert left >= 0


@pytest.mark.large
def test_hostile_names_are_drawn_without_a_warning():
    made = make_comparison()
    summary = copy.deepcopy(dict(made.summary))
    variant = next(iter(summary["models"]))
    summary["models"] = {HOSTILE: summary["models"][variant], "b=$x$": summary["models"][variant]}
    summary["shapley"] = {HOSTILE: summary["shapley"][variant], "b": summary["shapley"][variant]}
    summary["subgroups"][variant][0] |= {"grouping": HOSTILE, "value": HOSTILE}
    summary["subgroups"] = {HOSTILE: summary["subgroups"][variant]}
    curves = {HOSTILE: trace_all()[variant], "b": trace_all()[variant]}
    for found in summary["differences"]:
        found |= {"variant": HOSTILE, "label": HOSTILE}
    history = {**made.history, "variant": np.full(len(made.history["variant"]), HOSTILE)}
    for drawing in list_figures(made.comparison, history, summary, curves).values():
        svg = drawing.encode(".svg").decode()
        assert "<script" not in svg
        assert max(float(size) for size in re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups()) < 2000


@pytest.mark.parametrize("text", ["$", "a$b$c", "\\$", "_x", "", HOSTILE])
def test_cleaned_text_is_short_and_no_formula(text):
    cleaned = clean_text(text, most=30)
    assert len(cleaned.replace(r"\$", "$")) <= 30 and "$" not in cleaned.replace(r"\$", "")


def test_curves_are_those_of_the_predictions():
    """With one split and one label they are the measures of `kmm.evaluate` on these predictions."""
    made = make_comparison()
    predictions, variant = made.predictions, made.predictions["variant"][0]
    kept = (predictions["split"] == "1") & (predictions["label"] == "effusion")
    curves = trace_predictions({name: column[kept] for name, column in predictions.items()})[variant]["text"]
    kept &= (predictions["part"] == "test") & (predictions["model"] == "text") & (predictions["variant"] == variant)
    truth, probability, threshold = (predictions[name][kept] for name in ("truth", "probability", "threshold"))
    assert curves.risk[COVERAGES.index(1.0)] == pytest.approx(np.mean((probability >= threshold) != truth))
    called = probability >= THRESHOLDS[3]
    odds = THRESHOLDS[3] / (1 - THRESHOLDS[3])
    assert curves.benefit[3] == pytest.approx(np.mean(called & (truth == 1)) - odds * np.mean(called & (truth == 0)))
    assert curves.treat_all[3] == pytest.approx(truth.mean() - odds * (1 - truth.mean()))
    assert np.average(curves.positives) == pytest.approx(truth.mean(), abs=0.01)


def test_curves_are_means_over_splits():
    made = make_comparison()
    each = [
        trace_predictions({n: c[made.predictions["split"] == s] for n, c in made.predictions.items()}) for s in "123"
    ]
    whole = trace_all()
    for variant, models in whole.items():
        for model, found in models.items():
            assert found.risk == pytest.approx(np.mean([one[variant][model].risk for one in each], axis=0))
            assert found.benefit == pytest.approx(np.mean([one[variant][model].benefit for one in each], axis=0))


def test_unknown_labels_and_parts_without_test_leave_no_curve():
    predictions = make_comparison().predictions
    unknown = {**predictions, "truth": np.full(len(predictions["truth"]), np.nan)}
    assert trace_predictions(unknown) == {}
    assert trace_predictions({name: column[:0] for name, column in predictions.items()}) == {}


def test_single_labels_are_left_to_the_table_and_wide_intervals_are_cut():
    summary = copy.deepcopy(dict(make_comparison().summary))
    found = summary["differences"]
    whole = len(draw_differences(found).axes[0].lines)
    assert len(draw_differences([*found, {**found[0], "label": "effusion"}]).axes[0].lines) == whole
    next(iter(summary["models"].values()))["joint"]["accuracy"]["interval"] = [-2.0, 3.0]
    low, high = draw_models(summary, ("accuracy",)).axes[0].get_xlim()
    assert low >= -0.02 and high <= 1.05


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_figure_of_a_single_row_has_room_for_it(suffix):
    """A figure without room for its axes is a warning, and so an error of this test."""
    rows, predictions, history, summary = make_comparison()
    all_studies = {"grouping": "all", "value": "all", "label": "abnormal", "n": {"mean": 30.0}}
    area = {"mean": 0.5, "interval": [0.1, 0.9], "values": [0.4, 0.6]}
    summary = {**summary, "subgroups": {"": [{**all_studies, "roc_auc": area}]}}
    drawing = list_figures(rows, history, summary, trace_predictions(predictions))["subgroups"]
    assert len(drawing.encode(suffix)) > 1000
