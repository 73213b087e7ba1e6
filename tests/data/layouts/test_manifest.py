import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.data.layouts.manifest import read_table, split_terms
from kmm.data.study import Report
from kmm.data.tabular.rows import read_rows
from kmm.errors import InputError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_with_all_columns(tmp_path):
    write(
        tmp_path / "manifest.csv",
        "id,patient,image,view,indication,comparison,findings,impression,mesh,label:mass,label:fluid,free\n"
        'b,p1,a.png;sub/b.png,PA;lateral,Cough.,,"Clear, calm lungs.",Normal.,Opacity/lung;Scoliosis,1,,left alone\n'
        "10,,,,,,,,,0,1,\n"
        "9,,c.png,,,,,,,nan,0.0,\n",
    )
    collection = read_table(tmp_path)
    nine, ten, b = collection.studies
    assert (nine.id, ten.id, b.id) == ("9", "10", "b")
    assert collection.layout == "manifest (manifest.csv)" and collection.problems == ()
    assert b.patient == "p1" and ten.patient == "study:10"
    assert [image.path for image in b.images] == [tmp_path / "a.png", tmp_path / "sub/b.png"]
    assert [image.tags for image in b.images] == [{"view": "PA"}, {"view": "lateral"}]
    assert nine.images[0].tags == {}
    assert b.report == Report("Cough.", "", "Clear, calm lungs.", "Normal.") and ten.report is None
    assert b.mesh_major == ("Opacity/lung", "Scoliosis")
    assert b.labels["mass"] == 1 and math.isnan(b.labels["fluid"])
    assert ten.labels == {"mass": 0, "fluid": 1}


def test_jsonl_and_csv_say_the_same(tmp_path):
    row = {"id": "7", "image": ["a.png", "b.png"], "view": "PA", "report": "Zeile 1\nZeile 2 äß", "label:mass": True}
    second = {"id": 8, "report": None, "mesh": ["normal"], "label:mass": 0}
    lines = json.dumps(row, ensure_ascii=False) + "\n\n" + json.dumps(second) + "\n"
    write(tmp_path / "manifest.jsonl", lines)
    write(
        tmp_path / "same.csv",
        'id,image,view,report,mesh,label:mass\n7,a.png;b.png,PA,"Zeile 1\nZeile 2 äß",,1\n8,,,,normal,0\n',
    )
    assert read_table(tmp_path).studies == read_table(tmp_path / "same.csv").studies


def test_columns_without_a_name_are_left_unread(tmp_path):
    collection = read_table(write(tmp_path / "manifest.csv", "id,report,,\n1,No mass.,,\n2,Mass.,x,\n3,Cyst.\n"))
    assert [(study.id, study.report.findings) for study in collection.studies] == [("1", "No mass."), ("2", "Mass.")]
    assert [problem.reason for problem in collection.problems] == ["expected 4 fields; found 2, separated by commas"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xef\xbb\xbfid,report\n1,Clear.\n")
    assert read_table(path).studies[0].report.findings == "Clear."


def test_rows_of_one_id_are_one_study(tmp_path):
    path = write(
        tmp_path / "m.csv",
        "id,patient,image,report,label:a\n1,,a.png,,1\n1,p,b.png,Clear.,\n1,p,a.png,Clear.,1\n1,q,c.png,,\n1,,d.png,,0\n",
    )
    collection = read_table(path)
    (study,) = collection.studies
    assert [image.path.name for image in study.images] == ["a.png", "b.png"]
    assert study.patient == "p" and study.report.findings == "Clear." and study.labels == {"a": 1}
    assert [problem.source for problem in collection.problems] == ["m.csv line 5", "m.csv line 6"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("../1,,,", "expected an id"),
        (",a.png,,", "expected an id"),
        ("nan,a.png,,", "expected an id"),
        ("1,../a.png,,", "leads out of the folder"),
        ("1,/etc/hostname,,", "leads out of the folder"),
        ("1,a.png,sideways,", "the column view must be empty or one of"),
        ("1,a.png;b.png,PA;PA;PA,", "2 images, 3 views"),
        ("1,a.png,,-1", "the column label:a must be 0, 1 or empty (CheXpert's tables write -1 for uncertain"),
        ("1,a.png,,10", "the column label:a must be 0, 1 or empty"),
        ("1,a.png,,yes", "the column label:a must be 0, 1 or empty"),
        ("1,a.png", "expected 4 fields"),
        ("1,a.png,,1,1", "expected 4 fields"),
    ],
)
def test_a_bad_row_is_set_aside_and_the_rest_is_read(tmp_path, row, reason):
    path = write(tmp_path / "m.csv", f"id,image,view,label:a\n{row}\n2,b.png,,0\n")
    collection = read_table(path)
    assert [study.id for study in collection.studies if study.images] == ["2"]
    (problem,) = collection.problems
    assert reason in problem.reason and problem.source == "m.csv line 2"


NESTED = '{"id": "1", "report": ' + "[" * 950 + "]" * 950 + "}"


@pytest.mark.parametrize("line", ["{", "[1]", '{"id": "1", "report": {"a": 1}}', "[" * 100_000, NESTED])
def test_a_bad_line_is_set_aside(tmp_path, line):
    path = write(tmp_path / "m.jsonl", line + '\n{"id": "2", "report": "half \\ud800 character"}\n')
    collection = read_table(path)
    assert [study.report.findings for study in collection.studies] == ["half ? character"]
    assert [problem.source for problem in collection.problems] == ["m.jsonl line 1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Missing: id. Found: none"),
        ("name,report\n", "Missing: id. Found: name, report"),
        ("7,The heart is large and the lungs are clear.\n", r"Found: 7 and 1 other"),
        ("id,picture\n1,a\n", "expected a column `image`, `report`"),
        ("id,report,findings\n", "not both"),
        ("id,id,report\n", "the header names a column twice"),
        ("id,report,label:\n", "expected a name after"),
        ('id,"report\n1,never closed\n', "line 1: the header cannot be read: a quote is not closed"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        read_table(write(tmp_path / "m.csv", text))
    assert "m.csv" in str(error.value) and "\n" not in str(error.value)


def test_text_that_is_not_utf8_is_refused_with_its_place(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes("id,report\n1,Löwe\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"m\.csv: expected UTF-8 text\. Line 2 is not valid \(byte 13\): .* Latin-1"):
        read_table(path)


def test_there_is_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.csv: cannot be read"):
        read_table(tmp_path / "nothing.csv")


def test_a_report_of_100000_words_fits_in_a_cell(tmp_path):
    text = "word " * 100_000
    path = write(tmp_path / "m.csv", f"id,report\n1,{text}\n")
    assert read_table(path).studies[0].report.findings == text.strip()


def test_a_cell_or_a_table_without_end_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "m.jsonl", json.dumps({"id": "1", "report": "x" * (1 << 24)}))
    with pytest.raises(InputError, match=r"m\.jsonl line 1: expected at most"):
        read_table(path)
    monkeypatch.setattr("kmm.data.tabular.rows.MAX_TABLE_BYTES", 10)
    with pytest.raises(InputError, match="larger than 10 bytes"):
        read_table(path)


def test_report_text_never_stands_in_an_error(tmp_path):
    secret = "Mr Smith has a nodule"
    rows = f"{secret},,\n1,{secret},{secret}\n2,,{secret}\n3,,1,{secret}\n"
    collection = read_table(write(tmp_path / "m.csv", "id,view,label:a,report\n" + rows.replace("\n", ",x\n")))
    lines = "".join(map(str, collection.problems)) + "".join(map(repr, collection.problems))
    assert len(collection.problems) == 4 and "Smith" not in lines


@given(st.lists(st.text(st.characters(exclude_characters=";", exclude_categories=["Cs"]), max_size=6), max_size=6))
def test_terms_come_back_as_they_were_joined(terms):
    assert split_terms(";".join(terms)) == tuple(term.strip() for term in terms if term.strip())


def test_rows_carry_the_line_they_end_on(tmp_path):
    path = write(tmp_path / "m.csv", 'a,b\n1,"two\nlines"\n\n3,4\n')
    columns, rows, problems = read_rows(path, ("a",))
    assert columns == ("a", "b") and problems == []
    assert rows == [(3, {"a": "1", "b": "two\nlines"}), (5, {"a": "3", "b": "4"})]
