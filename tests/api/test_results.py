"""Results of an evaluation: the table of the command line, frames with intervals, pictures of every kind."""

import pytest

import kmm
from kmm.cli import result_tables
from kmm.errors import InputError
from kmm.evaluate.report import evaluate_studies


@pytest.fixture(scope="module")
def classifier(tiny_run):
    return kmm.load(tiny_run[2])


@pytest.fixture(scope="module")
def results(classifier, tiny_folder):
    return classifier.evaluate(kmm.read(tiny_folder))


def test_results_are_those_of_the_command_line(results, classifier, tiny_folder, capsys):
    expected, problems = evaluate_studies(classifier._record, kmm.read(tiny_folder).studies)
    assert results.as_dict() == {"schema": "kmm-results-1", **expected} and list(results.problems) == problems
    result_tables.print_results(expected)
    assert capsys.readouterr().out.strip() in str(results)
    assert "are left out" in results.notes[-1] and results.notes[-1] in repr(results) and results.caution == ""


def test_a_path_and_a_list_of_studies_are_evaluated_too(results, classifier, tiny_folder):
    assert classifier.evaluate(tiny_folder).parts == results.parts
    assert classifier.evaluate(list(kmm.read(tiny_folder))).parts == results.parts


def test_the_frame_has_a_row_per_part_model_and_label(results):
    rows = results.to_records()
    assert {(row["part"], row["model"], row["label"]) for row in rows} == {
        (part, model, "abnormal")
        for part in ("validation", "test")
        for model in ("joint", "image", "text", "tfidf", "image-linear", "linear-sum", "majority", "chance")
    }
    joint = next(row for row in rows if row["part"] == "test" and row["model"] == "joint")
    found = results.parts["test"]["joint"]
    assert joint["roc_auc"] == found["roc_auc"] and joint["n"] == found["n"]
    assert [joint["accuracy_low"], joint["accuracy_high"]] == found["intervals"]["accuracy"]
    point = found["operating_point"]
    assert [joint[count] for count in ("tp", "fp", "tn", "fn")] == [point[count] for count in ("tp", "fp", "tn", "fn")]
    assert [joint["ppv_low"], joint["ppv_high"]] == point["intervals"]["ppv"]
    assert len({tuple(row) for row in rows}) == 1
    pandas = pytest.importorskip("pandas")
    assert isinstance(results.to_frame(), pandas.DataFrame) and len(results.to_frame()) == len(rows)


@pytest.mark.parametrize("plot", ["plot_roc", "plot_precision_recall", "plot_calibration", "plot_confusion"])
def test_pictures_name_part_number_and_interval(results, plot, tmp_path):
    text = getattr(results, plot)(tmp_path / "picture.svg").read_text(encoding="utf-8")
    n, positive = (results.parts["test"][name] for name in ("n", "n_positive"))
    assert f"test: n = {n} ({positive} positive)" in text and "interval" in text
    curve = results.plot_decision_curve(tmp_path / "curve.svg").read_text(encoding="utf-8")
    assert f"test: n = {n} ({positive} positive); dotted: all studies treated, and none" in curve


def test_pictures_of_a_part_and_in_a_notebook(results, tmp_path):
    picture = results.plot_roc()
    assert picture._repr_png_().startswith(b"\x89PNG") and "Picture of" in repr(picture)
    assert picture == results.plot_roc(tmp_path / "roc.png").read_bytes()
    drawn = results.plot_roc(tmp_path / "part.svg", part="validation").read_text(encoding="utf-8")
    assert "validation: n = " in drawn
    with pytest.raises(InputError, match=r"Unknown kind of picture file '\.jpg'"):
        results.plot_roc(tmp_path / "picture.jpg")
    with pytest.raises(InputError, match=r"part of the results 'train'\. Known: validation, test"):
        results.plot_roc(part="train")


def test_a_curve_has_its_interval_in_the_legend(results, tmp_path):
    text = results.plot_roc(tmp_path / "roc.svg").read_text(encoding="utf-8")
    found = results.parts["test"]["joint"]
    low, high = found["intervals"]["roc_auc"]
    assert f"joint {found['roc_auc']:.3f} [{low:.3f}, {high:.3f}]" in text


def test_results_are_saved_as_json(results, tmp_path):
    import json

    results.save(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == results.as_dict()


def test_a_table_with_the_labels_of_the_classifier_is_evaluated_by_its_columns(classifier):
    texts = ["There is a mass", "There is no mass"] * 3
    table = {"text": texts, "abnormal": [1, 0] * 3, "who": list("abcdef")}
    found = classifier.evaluate(kmm.studies(table, report="text", label="abnormal", patient="who"))
    assert found.parts["test"]["text"]["n"] == 6
    with pytest.raises(InputError, match="no labelled studies"):
        classifier.evaluate(kmm.studies(table, report="text", patient="who"))
