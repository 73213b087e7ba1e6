"""Shares of film and report in the probability of each study: what they sum to, and where they are written."""

import numpy as np
import pytest

from kmm.experiments.tables import FORMATS, PREDICTIONS, find_rows
from kmm.experiments.tasks.answers import Answers, gather_answers
from kmm.experiments.tasks.run_task import tabulate_predictions
from kmm.experiments.tasks.study_shares import share_studies
from kmm.experiments.tasks.task import Task


def make_answers(seed=0, n=50, labels=2):
    """Answers of the joint model with both sides, each and none; the first studies lack a film, the last a report."""
    rng = np.random.default_rng(seed)
    found = {name: rng.random((n, labels)) for name in ("majority", "joint-image", "joint-text", "joint")}
    film, report = np.arange(n) >= 5, np.arange(n) < n - 5
    found["joint-text"][~film], found["joint-image"][~report] = found["joint"][~film], found["joint"][~report]
    kept = {"joint-image": film, "joint-text": report}
    return {
        name: Answers(values, np.full(values.shape, 0.5), kept.get(name, np.ones(n, bool)))
        for name, values in found.items()
    }


def test_shares_sum_to_the_joint_probability_minus_the_prevalence():
    models = make_answers()
    shares = share_studies(models)
    gain = models["joint"].probabilities - models["majority"].probabilities
    assert shares["image_share"] + shares["report_share"] == pytest.approx(gain)


def test_a_side_that_a_study_lacks_gives_nothing():
    shares = share_studies(make_answers())
    assert shares["image_share"][:5] == pytest.approx(0) and shares["report_share"][-5:] == pytest.approx(0)
    assert (np.abs(shares["image_share"][5:]) > 1e-6).all()


def test_sides_that_add_up_have_what_they_add():
    """With probabilities that are sums, the share of a side is its own term."""
    rng = np.random.default_rng(1)
    none, film, report = (rng.uniform(0, 0.3, (20, 1)) for _ in range(3))
    values = {"majority": none, "joint-image": none + film, "joint-text": none + report, "joint": none + film + report}
    kept = np.ones(20, bool)
    shares = share_studies({name: Answers(value, value, kept) for name, value in values.items()})
    assert shares["image_share"] == pytest.approx(film) and shares["report_share"] == pytest.approx(report)


@pytest.mark.large
@pytest.mark.parametrize("kind", FORMATS)
def test_the_table_has_the_shares_of_the_joint_model_alone(kind, tiny_run, tmp_path):
    classifier, run, _ = tiny_run
    task = Task("1", "", run.settings, "", run.split, False, "0123")
    path, table = tmp_path / f"predictions.{kind}", tabulate_predictions(task, run, gather_answers(classifier, run)[0])
    FORMATS[kind].write(path, table, PREDICTIONS)
    read = FORMATS[kind].read(path, PREDICTIONS)
    joint, majority = (find_rows(read, model=model) for model in ("joint", "majority"))
    assert read["study"][joint].tolist() == read["study"][majority].tolist()
    sums = read["image_share"][joint] + read["report_share"][joint]
    assert sums == pytest.approx(read["probability"][joint] - read["probability"][majority], abs=1e-12)
    assert np.isnan(read["image_share"][~joint]).all() and np.isnan(read["report_share"][~joint]).all()
    assert np.ptp(read["image_share"][joint]) > 0
