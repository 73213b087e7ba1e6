"""Tables as people export them: separators, encodings, quotes, missing values."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.data.layouts.kaggle import read_kaggle
from kmm.data.layouts.manifest import read_table
from kmm.data.split import read_parts
from kmm.data.tabular.rows import NULLS, REPORT_COLUMNS, read_rows
from kmm.errors import InputError

HEADER = ("id", "patient", "image", "view", "report", "mesh", "label:mass")
ROW = ("1", "a", "1.png", "PA", "Clear lungs; no mass, none.", "normal", "1")
EXPECTED = dict(zip(HEADER, ROW))


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def quote(cell):
    return '"' + cell.replace('"', '""') + '"'


def join(rows, separator=",", end="\n"):
    return "".join(separator.join(map(quote, row)) + end for row in rows)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_separator_encoding_and_line_end(tmp_path, separator, encoding, end):
    path = write(tmp_path / "m.csv", join([HEADER, ROW], separator, end), encoding)
    columns, rows, problems = read_rows(path, ("id",))
    assert columns == HEADER and rows == [(2, EXPECTED)] and problems == []


@pytest.mark.parametrize("told", ["sep=;", '"sep=;"', "SEP=;", "sep=~", "sep=\t", "sep=;;;"])
def test_the_first_line_of_excel_tells_the_separator(tmp_path, told):
    separator = told.strip('"')[-1]
    text = f"{told}\r\n" + "\r\n".join([separator.join(["id", "report"]), separator.join(["1", "Clear, calm."])])
    assert read_rows(write(tmp_path / "m.csv", text), ("id",))[1] == [(3, {"id": "1", "report": "Clear, calm."})]


def test_blank_rows_are_skipped_and_empty_cells_at_the_end_are_no_fields(tmp_path):
    path = write(tmp_path / "m.csv", "\n;\n\nid;report\n;\n1;a;;\n\n ; \n2;b\n;;;;\n")
    assert [row["id"] for _, row in read_rows(path)[1]] == ["1", "2"]
    assert read_rows(path)[2] == []


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ('1,"never closed\n2,"b"\n3,"c"\n', [2]),
        ('1,"says "no mass" here"\n2,"b"\n3,"c"\n', [2]),
        ('"1","never closed\n"2","b"\n"3","c"\n', [2]),
        ('2,"b"\n3,"c"\n1,"never closed\n', [4]),
        ('2,"b"\n1,"x" y\n3,"c"\n', [3]),
        ('2,b\n1,"never closed\n3,c\n', [3]),
    ],
)
def test_a_bad_quote_costs_its_row_alone(tmp_path, text, lost):
    collection = read_table(write(tmp_path / "m.csv", "id,report\n" + text))
    assert [(study.id, study.report.findings) for study in collection.studies] == [("2", "b"), ("3", "c")]
    assert [problem.source for problem in collection.problems] == [f"m.csv line {line}" for line in lost]
    assert all("quote" in problem.reason for problem in collection.problems)


def test_a_quote_inside_a_plain_cell_is_text(tmp_path):
    assert read_rows(write(tmp_path / "m.csv", 'id,report\n1,5" tube "in situ"\n'))[1][0][1]["report"] == (
        '5" tube "in situ"'
    )


def test_a_row_of_the_wrong_length_says_how_it_was_cut(tmp_path):
    _, rows, (problem,) = read_rows(write(tmp_path / "m.csv", "id;report\n1;Clear; calm.\n2;x\n"), ("id",))
    assert str(problem) == "m.csv line 2: expected 2 fields; found 3, separated by semicolons" and len(rows) == 1


def test_a_missing_column_says_how_the_header_was_cut(tmp_path):
    with pytest.raises(InputError, match=r"Missing: id\. Found: name, report, separated by tabs"):
        read_rows(write(tmp_path / "m.csv", "name\treport\n1\tx\n"), ("id",))


def test_zero_bytes_cost_their_row(tmp_path):
    collection = read_table(write(tmp_path / "m.csv", "id,report\n1,a\0b\n2,c\n"))
    assert [study.id for study in collection.studies] == ["2"]
    assert [str(problem) for problem in collection.problems] == ["m.csv line 2: the row has a NUL character"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            "id,report\n1,a\n2,Größe\n".encode("latin-1"),
            r"Line 3 is not valid \(byte 18\): the file may be Windows-1252 or Latin-1",
        ),
        (b"PK\x03\x04rest", "Excel workbook"),
        (b"\xd0\xcf\x11\xe0rest", "old Excel workbook"),
        (b"\x1f\x8b\x08rest", "compressed by gzip"),
        (b"\xff\xfei\x00d", "not valid UTF-16"),
    ],
)
def test_a_file_of_another_kind_is_named_in_one_line(tmp_path, data, said):
    (tmp_path / "m.csv").write_bytes(data + (b"\x00\xd8" if said == "not valid UTF-16" else b""))
    with pytest.raises(InputError, match=said) as error:
        read_rows(tmp_path / "m.csv")
    assert "\n" not in str(error.value) and "Gr" not in str(error.value)


@pytest.mark.parametrize(
    "missing", ["NaN", "nan", "NULL", "null", "N/A", "n/a", "NA", "<NA>", "#N/A", "NaT", r"\N", ""]
)
def test_missing_values_are_empty_in_every_column(tmp_path, missing):
    rows = [[number, *[missing] * 6] for number in ("1", "2")]
    (tmp_path / "csv").mkdir()
    (tmp_path / "jsonl").mkdir()
    write(tmp_path / "csv/manifest.csv", join([HEADER, *rows]))
    lines = [json.dumps(dict(zip(HEADER, row))) for row in rows]
    write(tmp_path / "jsonl/manifest.jsonl", "\n".join(lines))
    for name in ("csv", "jsonl"):
        first, second = read_table(tmp_path / name).studies
        assert (first.patient, second.patient) == ("study:1", "study:2")  # not one patient of that name
        assert first.report is None and first.images == () and first.mesh_major == ()
        assert math.isnan(first.labels["mass"])


def test_the_list_of_pandas_is_in_ours():
    # pandas._libs.parsers.STR_NA_VALUES of pandas 2 and 3
    theirs = [
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
    assert {value.lower() for value in theirs} <= NULLS


@pytest.mark.parametrize("column", REPORT_COLUMNS)
def test_none_is_a_word_of_a_report_and_missing_elsewhere(tmp_path, column):
    path = write(tmp_path / "m.csv", f"id,patient,{column}\n1,None,None\n2,None,nan\n")
    first, second = read_table(path).studies
    assert (first.patient, second.patient) == ("study:1", "study:2")
    assert first.report.text(("indication", "comparison", "findings", "impression")) == "None" and not second.report


@given(st.sampled_from(sorted(NULLS - {""})), st.sampled_from(["{} of these", "no {}", "{}."]))
def test_only_a_whole_cell_is_missing(tmp_path_factory, word, text):
    path = tmp_path_factory.mktemp("rows") / "m.csv"
    write(path, join([("id", "report"), ("1", text.format(word))]))
    assert read_rows(path)[1][0][1]["report"] == text.format(word)


def test_nan_as_json_numbers_and_in_lists(tmp_path):
    path = write(
        tmp_path / "m.jsonl",
        '{"id": 1, "patient": NaN, "image": ["a.png", NaN, "b.png"], "view": ["PA", null, NaN], "report": "x", '
        '"mesh": ["normal", NaN]}\n',
    )
    (study,) = read_table(path).studies
    assert study.patient == "study:1" and study.mesh_major == ("normal",)
    assert [(image.path.name, dict(image.tags)) for image in study.images] == [("a.png", {"view": "PA"}), ("b.png", {})]


def test_missing_values_in_the_kaggle_layout_and_in_a_split(tmp_path):
    write(
        tmp_path / "indiana_reports.csv",
        "uid;MeSH;indication;comparison;findings;impression\n1;nan;nan;None;NaN;NULL\n2;normal;Cough.;;n/a;Clear.\n",
    )
    write(tmp_path / "indiana_projections.csv", "uid,filename,projection\n1,1.png,NaN\n1,nan,Lateral\n")
    (tmp_path / "images").mkdir()
    collection = read_kaggle(tmp_path)
    first, second = collection.studies
    assert first.mesh_major == () and first.report.comparison == "None" and not first.report.body
    assert second.report.text() == "Cough. Clear."
    assert [(image.path.name, dict(image.tags)) for image in first.images] == [("1.png", {})]
    write(tmp_path / "split.csv", "study;part\r\n1;train\r\n;\r\n2;test\r\n", "utf-16")
    assert read_parts(tmp_path / "split.csv") == {"1": "train", "2": "test"}


@pytest.mark.parametrize("text", ["1", "1.0", "1,0", "1.000", "True", "TRUE"])
def test_ways_to_write_a_label(tmp_path, text):
    path = write(tmp_path / "m.csv", f"id;report;label:a;label:b\n1;x;{text};0,0\n")
    assert read_table(path).studies[0].labels == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize("column", ["id", "patient"])
def test_one_number_with_and_without_decimals_is_not_guessed(tmp_path, column):
    other = {"id": "patient", "patient": "id"}[column]
    path = write(tmp_path / "m.csv", f"{other},{column},report\na,7,x\nb,8.0,y\nc,7.0,z\n")
    with pytest.raises(InputError, match=rf"the column {column} has the same number .* \(lines 2 and 4\)"):
        read_table(path)
    path = write(tmp_path / "m.csv", f"{other},{column},report\na,7.0,x\nb,8.0,y\n")
    assert len(read_table(path).studies) == 2


def test_a_patient_that_a_spreadsheet_shortened_is_set_aside(tmp_path):
    path = write(tmp_path / "m.csv", "id,patient,report\n1,1.23457E+12,x\n2,E12,y\n")
    collection = read_table(path)
    assert [study.id for study in collection.studies] == ["2"] and "shortened" in collection.problems[0].reason


def test_composed_and_decomposed_names_are_one(tmp_path):
    path = write(tmp_path / "m.csv", "id,patient,report,label:O\u0308dem\n1,Mu\u0308ller,x,1\n2,M\u00fcller,y,0\n")
    first, second = read_table(path).studies
    assert first.patient == second.patient == "M\u00fcller" and first.labels == {"\u00d6dem": 1.0}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"id": "1", "report": "x"}]),
        json.dumps([{"id": "1", "report": "x"}, {"id": "2", "report": "y"}], indent=2),
        json.dumps({"id": "1", "report": "x"}, indent=2),
    ],
)
def test_one_json_document_is_named(tmp_path, text):
    with pytest.raises(InputError, match=r"expected one JSON object on each line\. Received: (a list|one object)"):
        read_rows(write(tmp_path / "m.jsonl", text, "utf-8-sig"))


def test_time_grows_with_the_rows_even_where_every_quote_is_bad(tmp_path):
    def measure(count):
        text = "id,report\n" + "".join(f'{number},"never closed {number}\n' for number in range(count))
        path = write(tmp_path / "m.csv", text)
        seconds = []
        for _ in range(3):
            start = time.process_time()
            problems = read_rows(path)[2]
            seconds.append(time.process_time() - start)
        assert len(problems) == count
        return min(seconds) / count

    assert measure(16_000) < 4 * measure(1000)


def test_a_cell_that_is_never_closed_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("kmm.data.tabular.rows.MAX_ROW_LINES", 50)
    path = write(tmp_path / "m.csv", 'id,report\n0,"never closed\n' + "".join(f"{n},x\n" for n in range(1, 100)))
    _, rows, problems = read_rows(path)
    assert [row["id"] for _, row in rows] == list(map(str, range(1, 100)))
    assert [problem.source for problem in problems] == ["m.csv line 2"]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=12)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.sampled_from([",", ";", "\t"]))
def test_what_was_quoted_comes_back(tmp_path_factory, cells, separator):
    path = tmp_path_factory.mktemp("rows") / "m.csv"
    write(
        path, join([("id", "text"), *((f"{number}{one}", two) for number, (one, two) in enumerate(cells))], separator)
    )
    found = [row for _, row in read_rows(path, ("id",))[1]]
    expected = [
        {"id": f"{number}{one}", "text": "" if two.strip().lower() in NULLS else two}
        for number, (one, two) in enumerate(cells)
    ]
    assert found == expected


def test_labels_are_read_the_same_from_csv_and_jsonl(tmp_path):
    write(tmp_path / "m.csv", "id,report,label:a\n1,x,True\n2,x,\n")
    write(tmp_path / "m.jsonl", '{"id": 1, "report": "x", "label:a": true}\n{"id": 2, "report": "x", "label:a": NaN}\n')
    for one, other in zip(
        read_table(tmp_path / "m.csv").studies, read_table(tmp_path / "m.jsonl").studies, strict=True
    ):
        np.testing.assert_equal(dict(one.labels), dict(other.labels))
