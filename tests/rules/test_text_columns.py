"""Columns of text that rules read and no model: of a manifest, and of a table in memory."""

import pytest

import kmm
from kmm.data.labels import label_studies
from kmm.data.layouts.manifest import read_table
from kmm.errors import InputError
from kmm.rules.rule_file import LabelRules
from kmm.rules.rule_scheme import make_scheme

RULES = LabelRules.from_dict({"labels": {"COPD": {"mentions": ["copd"], "read": "text:diagnosis"}}}, "mine.yaml")
CELLS = {"1": "COPD; pneumonia", "2": "no COPD", "3": "", "4": "copd"}


def read_labels(studies):
    labelled, _ = label_studies(studies, make_scheme(RULES))
    return {study.id: study.labels["COPD"] for study in labelled if study.labels["COPD"] == study.labels["COPD"]}


def test_a_manifest(tmp_path):
    path = tmp_path / "manifest.csv"
    rows = [f"{id},Clear.,{cell}" for id, cell in CELLS.items()]
    path.write_text("\n".join(["id,report,text:diagnosis", *rows, "4,Clear.,", ""]), encoding="utf-8")
    collection = read_table(path)
    assert [study.texts for study in collection.studies[:3]] == [
        {"diagnosis": "COPD; pneumonia"},
        {"diagnosis": "no COPD"},
        {},
    ]
    assert read_labels(collection.studies) == {"1": 1, "2": 0, "4": 1} and not collection.problems
    assert "COPD" not in repr(collection.studies[0])


def test_rows_of_a_study_that_disagree(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("id,report,text:a\n1,Clear.,one\n1,Clear.,other\n", encoding="utf-8")
    (problem,) = read_table(path).problems
    assert "another patient, report, mesh, text or label" in str(problem)
    path.write_text("id,report,text:\n1,Clear.,one\n", encoding="utf-8")
    with pytest.raises(InputError, match="expected a name after `text:`"):
        read_table(path)


def test_a_table_in_memory():
    table = [{"id": id, "report": "Clear.", "diagnosis": cell, "who": id} for id, cell in CELLS.items()]
    studies = kmm.studies(table, report="report", id="id", patient="who", texts=["diagnosis"])
    assert read_labels(studies) == {"1": 1, "2": 0, "4": 1}
    assert studies.columns["texts"] == ["diagnosis"]
    with pytest.raises(InputError, match="the column 'who' must hold text"):
        kmm.studies([{"report": "Clear.", "who": 3}], report="report", patient="who", texts="who")
