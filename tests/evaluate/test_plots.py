import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kmm.errors import InputError
from kmm.evaluate.output.decision_plot import plot_decision_curve
from kmm.evaluate.output.plots import (
    plot_calibration,
    plot_confusion,
    plot_learning_curves,
    plot_precision_recall,
    plot_roc,
)

HISTORY = {
    "text": {"loss": [0.7, 0.5, 0.4], "val_loss": [0.7, 0.6, 0.65], "auc": [0.5, 0.7, 0.8], "learning_rate": [1, 1, 1]},
    "joint": {"loss": [0.5], "val_loss": [float("nan")]},
}


def draw_confusion(curves, path, **names):
    return plot_confusion(curves, path, thresholds=dict.fromkeys(curves, 0.5), **names)


PLOTS = [plot_roc, plot_precision_recall, plot_calibration, draw_confusion, plot_decision_curve]


def make_curves(n_labels=None, n_curves=4, n=80):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (n, n_labels) if n_labels else n).astype(float)
    labels[::9] = np.nan
    names = ["joint", "image", "text", "tfidf", "fifth", "sixth", "seventh"][:n_curves]
    return {name: (labels, rng.random(labels.shape)) for name in names}


def names_of(n_labels):
    return [f"label {i}" for i in range(n_labels)]


@pytest.mark.large
@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("n_labels", [None, 1, 2, 4, 9])
def test_a_picture_is_written_and_only_it(plot, n_labels, tmp_path):
    names = {"label_names": names_of(n_labels)} if n_labels else {}
    path = plot(make_curves(n_labels, n_curves=2), tmp_path / "picture.png", **names)
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]
    with Image.open(path) as image:
        assert image.format == "PNG" and min(image.size) >= 300
        assert not {"Software", "Creation Time", "date"} & set(image.info)
        assert np.asarray(image.convert("L")).std() > 5


@pytest.mark.parametrize("plot", PLOTS)
def test_the_same_numbers_give_the_same_bytes(plot, tmp_path):
    first, second = (plot(make_curves(), tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


@pytest.mark.large
@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
@pytest.mark.parametrize("plot", PLOTS)
def test_vector_pictures_are_reproducible(plot, suffix, tmp_path):
    curves = make_curves(n_curves=2)
    first, second = (plot(curves, tmp_path / f"{name}{suffix}", caption="test: n = 80").read_bytes() for name in "ab")
    assert first == second and first.startswith({".svg": b"<?xml", ".pdf": b"%PDF-"}[suffix])
    assert suffix == ".pdf" or b"test: n = 80" in first


def test_intervals_are_in_the_legend(tmp_path):
    intervals = {"joint": {"mass": (0.25, 0.75)}, "image": {"mass": None}}
    text = plot_roc(make_curves(n_curves=2), tmp_path / "a.svg", label_names=["mass"], intervals=intervals).read_text()
    assert text.count("[0.250, 0.750]") == 1


def test_an_unknown_kind_of_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Unknown kind of picture file '.gif'. Known: .png, .svg, .pdf"):
        plot_roc(make_curves(), tmp_path / "a.gif")


@pytest.mark.parametrize("plot", PLOTS)
def test_one_class_or_nothing_known_is_drawn_without_a_warning(plot, tmp_path):
    plot({"joint": ([1.0, 1.0, np.nan], [0.2, 0.4, 0.6])}, tmp_path / "one.png")
    plot({"joint": ([np.nan], [0.6])}, tmp_path / "none.png")
    plot({"joint": ([], [])}, tmp_path / "empty.png")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("plot", PLOTS)
def test_wrong_curves_are_refused_and_leave_no_file(plot, tmp_path):
    with pytest.raises(InputError, match="at least one curve"):
        plot({}, tmp_path / "a.png")
    with pytest.raises(InputError, match="at most 6 curves"):
        plot(make_curves(n_curves=7), tmp_path / "a.png")
    with pytest.raises(InputError, match="names"):
        plot(make_curves(3), tmp_path / "a.png", label_names=["a"])
    assert not list(tmp_path.iterdir())


def test_confusion_needs_a_threshold_for_each(tmp_path):
    with pytest.raises(InputError, match='"image"'):
        plot_confusion(make_curves(n_curves=2), tmp_path / "a.png", thresholds={"joint": 0.5})


def test_learning_curves(tmp_path):
    first = plot_learning_curves(HISTORY, tmp_path / "a.png").read_bytes()
    assert plot_learning_curves(HISTORY, tmp_path / "b.png").read_bytes() == first
    plot_learning_curves({"text": {"loss": [0.3]}}, tmp_path / "short.png")
    for history in ({}, {"text": {}}, {"text": {"loss": []}}):
        with pytest.raises(InputError, match="at least one stage"):
            plot_learning_curves(history, tmp_path / "c.png")


def test_a_write_that_fails_keeps_the_old_picture(tmp_path, monkeypatch):
    path = plot_learning_curves(HISTORY, tmp_path / "a.png")
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        plot_learning_curves({"text": {"loss": [0.1, 0.2]}}, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.large
def test_no_framework_and_no_global_figure_state_is_imported():
    code = (
        "import sys, kmm.evaluate.compare, kmm.evaluate.output.card, kmm.evaluate.output.plots;"
        "print({'keras', 'tensorflow', 'torch', 'jax', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
