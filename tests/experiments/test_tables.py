"""Tables keep every value in memory, in CSV and in Parquet; linear probe and sum of logits are what they say."""

import numpy as np
import pytest

from kmm.errors import ArtefactError, InputError, MissingPackageError
from kmm.evaluate.linear_probe import add_logits, find_odds, fit_probe, fit_sum
from kmm.evaluate.metrics import score_labels
from kmm.experiments.comparison import Comparison
from kmm.experiments.tables import FORMATS, HISTORY, PREDICTIONS, ROWS, join_columns, make_columns
from kmm.experiments.tasks.task import TaskResult

PLACE = {"split": "1", "variant": "image_weights=none;labels=a,b", "part": "test"}


def make_predictions():
    return make_columns(
        PREDICTIONS,
        {
            **PLACE,
            "model": "joint",
            "study": ["1", 'two, "2"', "ü3"],
            "patient": ["p1", "p2", "p2"],
            "label": "abnormal",
            "truth": [1.0, np.nan, 0.0],
            "probability": [0.1, 1 / 3, 1.0],
            "threshold": 0.5,
            "has_image": np.float32([1, 0, 1]),
            "has_report": [1, 1, 0],
        },
    )


def make_rows():
    place = {**PLACE, "model": "joint", "label": "macro", "n": 3, "n_positive": 1}
    return make_columns(ROWS, {**place, "metric": ["roc_auc", "brier"], "value": [0.1 + 0.2, 1e-17]})


def make_history():
    place = {"split": "1", "variant": "", "model": "text", "stage": "text", "metric": "val_accuracy"}
    return make_columns(HISTORY, {**place, "epoch": [1, 2], "value": [0.5, 0.75]})


def equal(one, other):
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        assert one[name].dtype.kind == other[name].dtype.kind, name


@pytest.mark.parametrize("name", FORMATS)
def test_a_comparison_is_read_as_it_was_written(tmp_path, name):
    if name == "parquet":
        pytest.importorskip("pyarrow")
    summary = {"reduced": ["No tuning."], "models": {}}
    written = Comparison(tmp_path, make_rows(), make_predictions(), make_history(), summary)
    written.save(predictions=next(other for other in FORMATS if other != name))
    written.save(predictions=name)
    read = Comparison.load(tmp_path)
    for table in ("rows", "predictions", "history"):
        equal(getattr(written, table), getattr(read, table))
    assert read.summary == summary and read.as_dict()["schema"] == "kmm-comparison-1"
    assert len(list(tmp_path.glob("predictions.*"))) == 1


def test_headers_are_those_that_others_read(tmp_path):
    Comparison(tmp_path, make_rows(), make_predictions(), make_history(), {}).save()
    first = {path.name: path.read_text(encoding="utf-8").split("\n")[0] for path in tmp_path.glob("*.csv")}
    assert first == {
        "comparison.csv": "split,variant,size,model,part,label,metric,value,n,n_positive",
        "predictions.csv": "split,variant,size,part,study,patient,model,label,truth,probability,threshold,"
        "has_image,has_report,image_share,report_share",
        "history.csv": "split,variant,size,model,stage,epoch,metric,value",
    }
    assert ",,0.333" in (tmp_path / "predictions.csv").read_text(encoding="utf-8")  # an unknown label is empty


def test_frames_need_pandas_alone(tmp_path, monkeypatch):
    comparison = Comparison(tmp_path, make_rows(), make_predictions(), make_history(), {})
    pandas = pytest.importorskip("pandas")
    assert comparison.to_frame().shape == (2, 10) and isinstance(comparison.to_frame(), pandas.DataFrame)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingPackageError, match="pandas"):
        comparison.to_frame()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_table_of_an_older_version_is_refused_with_what_it_lacks(kind, tmp_path):
    older = {name: kind for name, kind in PREDICTIONS.items() if not name.endswith("_share")}
    table, path = make_predictions(), tmp_path / f"p.{kind}"
    FORMATS[kind].write(path, {name: table[name] for name in older}, older)
    with pytest.raises(
        InputError, match="lacks the columns image_share, report_share: another version of kmm wrote it"
    ):
        FORMATS[kind].read(path, PREDICTIONS)


def test_half_a_comparison_and_other_files_are_refused(tmp_path):
    with pytest.raises(ArtefactError, match="no complete comparison"):
        Comparison.load(tmp_path)
    Comparison(tmp_path, make_rows(), make_predictions(), make_history(), {}).save()
    path = tmp_path / "comparison.csv"
    path.write_text(path.read_text().replace("0.30000000000000004", "high"))
    with pytest.raises(InputError, match="is no number"):
        Comparison.load(tmp_path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="lacks the columns"):
        Comparison.load(tmp_path)


def test_results_of_a_task_are_one_file_of_plain_arrays(tmp_path):
    result = TaskResult(make_rows(), make_predictions(), make_history(), {"minutes": 0.5, "notes": []})
    result.save(tmp_path / "result.npz")
    read = TaskResult.load(tmp_path / "result.npz")
    for table in ("rows", "predictions", "history"):
        equal(getattr(result, table), getattr(read, table))
    assert read.facts == result.facts


def test_tables_without_rows_can_be_joined_and_written(tmp_path):
    for kinds in (ROWS, PREDICTIONS, HISTORY):
        empty = join_columns(kinds, [])
        FORMATS["csv"].write(tmp_path / "t.csv", empty, kinds)
        equal(empty, FORMATS["csv"].read(tmp_path / "t.csv", kinds))


def make_features(seed=0, n=600, d=40):
    """Features of which the first two decide the first label, and the third the second one."""
    rng = np.random.default_rng(seed)
    features = rng.normal(3, 5, (n, d))
    score = (features - 3) / 5
    labels = np.stack([score[:, 0] + score[:, 1], score[:, 2]], 1) + rng.normal(0, 0.5, (n, 2)) > 0
    return features, labels.astype(float)


def test_the_probe_finds_what_is_linear_and_leaves_out_what_is_unknown():
    features, labels = make_features()
    train, validation, test = np.split(np.arange(600), [350, 450])
    probe = fit_probe(features, labels, train=train, validation=validation)
    scores = score_labels(labels[test], 1 / (1 + np.exp(-probe.logits(features[test]))), 0.5, label_names=["a", "b"])
    assert scores["roc_auc"] > 0.9 and probe.coef.shape == (40, 2)
    assert np.abs(probe.coef[:2, 0]).min() > 3 * np.abs(probe.coef[3:, 0]).max()
    hidden = labels.copy()
    hidden[train[::2], 1] = np.nan
    again = fit_probe(features, hidden, train=train, validation=validation)
    np.testing.assert_allclose(again.coef[:, 0], probe.coef[:, 0], atol=1e-8)
    assert np.abs(again.coef[:, 1] - probe.coef[:, 1]).max() > 1e-3


def test_the_penalty_is_chosen_on_validation():
    features, labels = make_features(n=120, d=100)
    noise = np.random.default_rng(1).permutation(labels[:, :1])
    rows = {"train": np.arange(80), "validation": np.arange(80, 120)}
    assert fit_probe(features, noise, **rows).strengths[0] < fit_probe(features, labels, **rows).strengths[1]


def test_a_label_of_one_class_and_a_constant_feature_do_no_harm():
    features, labels = make_features(n=60)
    features[:, 5] = 7.0
    labels[:, 0] = 1.0
    probe = fit_probe(features, labels, train=np.arange(40), validation=np.arange(40, 60))
    logits = probe.logits(features)
    assert np.isfinite(logits).all() and probe.strengths[0] is None
    np.testing.assert_allclose(logits[:, 0], np.log(40.5 / 0.5))


def test_the_sum_weighs_what_helps_and_uses_the_prior_where_a_side_is_missing():
    rng = np.random.default_rng(0)
    n = 4000
    image, text, noise = (rng.normal(0, 1.5, (n, 1)) for _ in range(3))
    labels = (rng.random((n, 1)) < 1 / (1 + np.exp(-image - text))).astype(float)
    has = np.stack([np.ones(n), np.arange(n) % 4 > 0], axis=1)
    prior = labels.mean(axis=0)

    def add(image, text):
        return add_logits(fit_sum(image, text, labels, present=has, prior=prior), image, text, has)

    added, reported = add(image, text), has[:, 1] > 0
    np.testing.assert_allclose(added[reported], (image + text)[reported], atol=0.45)
    np.testing.assert_allclose(added, add(image, text + 100 * ~reported[:, None]))
    useless = add(image, noise)
    assert abs(np.corrcoef(useless[:, 0], noise[:, 0])[0, 1]) < 0.1
    assert np.isfinite(find_odds(np.array([0.0, 1.0]))).all()
