"""Studies from tables in memory: order, missing values, views, and errors that name row and column."""

import json
import math
import warnings
from dataclasses import replace
from datetime import date

import numpy as np
import PIL.Image
import pytest

import kmm
from kmm.api.inputs import gather_studies, make_study
from kmm.data.groups import group_studies
from kmm.data.study import Report
from kmm.data.tabular.columns import Table, is_missing, is_table
from kmm.data.tabular.tables import Columns, make_studies, name_label
from kmm.errors import InputError
from tests.factories.dicom import make_codes, make_dataset, make_film
from tests.factories.frames import StubFrame

FILM = np.full((16, 20), 9, np.uint8)
ROWS = [
    {"film": FILM, "text": "Clear lungs.", "sick": 0, "mrn": "p1", "key": "b"},
    {"film": None, "text": " A mass. ", "sick": True, "mrn": 7.0, "key": "a"},
    {"film": FILM[..., None], "text": None, "sick": None, "mrn": None, "key": "c"},
]
NAMED = {"image": "film", "report": "text", "label": "sick", "patient": "mrn", "id": "key"}


def as_columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("make", [list, StubFrame, as_columns, tuple])
def test_studies_keep_the_order_of_the_table(make):
    studies = kmm.studies(make(ROWS), **NAMED)
    assert [study.id for study in studies] == ["b", "a", "c"]
    assert [study.patient for study in studies] == ["p1", "7", "study:c"]
    assert [study.report for study in studies] == [Report(findings="Clear lungs."), Report(findings="A mass."), None]
    assert [len(study.images) for study in studies] == [1, 0, 1]
    labels = [study.labels["sick"] for study in studies]
    assert labels[:2] == [0.0, 1.0] and math.isnan(labels[2])
    first = studies[0].frontal
    assert first.memory is FILM and first.path.name == "b (in memory)" and first.view == "frontal"
    assert studies.columns == {**{name: NAMED[name] for name in ("report", "patient", "id")}, "image": ["film"],
                               "labels": ["sick"]}  # fmt: skip


def test_a_frame_of_pandas_or_polars():
    pandas = pytest.importorskip("pandas")
    rows = [{**row, "film": f"{row['key']}.png"} for row in ROWS]
    frame = pandas.DataFrame(rows)
    frame.loc[1, "film"] = pandas.NA
    found = kmm.studies(frame.set_index(pandas.Index([5, 3, 9])), **NAMED)
    assert [study.id for study in found] == ["b", "a", "c"] and "DataFrame of 3 rows" in repr(found)
    assert [str(problem) for problem in found.problems] == ["b.png: film missing", "c.png: film missing"]
    polars = pytest.importorskip("polars")
    typed = [{**row, "sick": row["sick"] and int(row["sick"]), "mrn": row["mrn"] and str(row["mrn"])} for row in rows]
    assert [study.report for study in kmm.studies(polars.DataFrame(typed), **NAMED)] == [
        study.report for study in found
    ]


def name_by_number(rows):
    return [dict(enumerate(row.values())) for row in rows]


def name_by_pair(rows):
    return [{("ward", name): value for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("make", [list, StubFrame, as_columns])
@pytest.mark.parametrize("name", [name_by_number, name_by_pair])
def test_columns_may_be_named_by_numbers_and_tuples(make, name):
    expected, table = kmm.studies(ROWS, **NAMED), make(name(ROWS))
    film, text, sick, mrn, key = name(ROWS)[0]
    found = kmm.studies(table, image=film, report=text, label=sick, patient=mrn, id=key)
    label = name_label(sick)
    assert [study.labels for study in found] == [
        {label: pytest.approx(study.labels["sick"], nan_ok=True)} for study in expected
    ]
    assert [replace(study, labels={}) for study in found] == [replace(study, labels={}) for study in expected]
    again = kmm.studies(table, sections={"findings": text}, labels=[sick], patient=mrn, view=None)
    assert again[1].report == expected[1].report and again[1].patient == "7"


def test_columns_are_found_again_by_what_json_keeps_of_their_names():
    for name, label in ((name_by_number, "2"), (name_by_pair, "ward sick")):
        film, text, sick, mrn, _ = name(ROWS)[0]
        table = StubFrame(name(ROWS))
        kept = kmm.studies(table, image=[film], report=text, label=sick, patient=mrn).columns
        found = gather_studies(table, json.loads(json.dumps(kept)), None, ("findings",))
        assert found.columns == kept and found[1].labels == {label: 1.0} and len(found[0].images) == 1
        named = gather_studies(table, json.loads(json.dumps(kept)), {"image": None, "patient": film}, ("findings",))
        assert not named[0].images and "image" not in named.columns


def test_a_frame_of_pandas_with_a_header_of_numbers_or_of_two_lines():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([["a.png", "Clear.", 0], ["b.png", "A mass.", 1]])
    found = kmm.studies(frame, image=0, report=1, label=2, patient=0)
    assert [study.labels for study in found] == [{"2": 0.0}, {"2": 1.0}] and found[1].patient == "b.png"
    assert kmm.studies(frame, image=frame.columns[0], report=np.int64(1), patient=0).columns == {
        "image": [0], "report": 1, "patient": 0
    }  # fmt: skip
    frame.columns = pandas.MultiIndex.from_tuples([("film", "path"), ("report", "text"), ("sick", "yes")])
    found = kmm.studies(frame, image=("film", "path"), report=("report", "text"), patient=("film", "path"))
    assert [study.patient for study in found] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"report": 4}, "no column 4. It has: 0, 1, 2, 3 text"),
        ({"report": "1"}, "no column '1'. Did you mean 1?"),
        ({"report": (0, 1)}, r"no column \(0, 1\)"),
        ({"report": date(2026, 1, 1)}, "named by text, a number, or a tuple of these. Received: date. Rename it."),
        ({"report": {"a": 1}}, "named by text, a number, or a tuple of these. Received: dict"),
        ({"report": math.nan}, "named by text, a number, or a tuple of these. Received: float"),
        ({"report": 0, "labels": [1, "1"]}, "Two columns of labels give a label named '1'. Rename one"),
        ({"image": None}, "Name the column of films"),
    ],
)
def test_names_that_no_column_has(named, message):
    table = {0: ["Clear."], 1: [0], 2: [1], "3 text": ["x"]} | ({"1": [0]} if "labels" in named else {})
    with pytest.raises(InputError, match=message):
        kmm.studies(table, patient=0, **named)


def test_pandas_is_not_imported_for_records():
    import subprocess
    import sys

    code = (
        "import sys, kmm; kmm.studies([{'a': 'Clear.', 'p': 1}], report='a', patient='p'); "
        "assert not {'pandas', 'polars', 'keras', 'tensorflow'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_are_numbered_without_ids_and_warned_of_without_patients():
    with pytest.warns(UserWarning, match="every row counts as a patient of its own") as caught:
        studies = kmm.studies({"text": ["a", "b", "c"]}, report="text")
    assert len(caught) == 1 and caught[0].filename == __file__
    assert [(study.id, study.patient) for study in studies] == [("0", "study:0"), ("1", "study:1"), ("2", "study:2")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kmm.studies({"text": ["a"], "who": ["x"]}, report="text", patient="who")


def test_a_row_without_a_patient_joins_no_other():
    studies = kmm.studies({"t": ["a", "b", "c"], "p": [1, None, 2]}, report="t", patient="p")
    assert [study.patient for study in studies] == ["1", "study:1", "2"]
    assert [sorted(study.made_up) for study in studies] == [["id"], ["id", "patient"], ["id"]]
    assert [len(group) for group in group_studies(studies)] == [1, 1, 1]
    given = [replace(study, patient="p") for study in studies]  # from another table
    assert len(group_studies(given)) == 1 and given[1].with_id("x").patient == "p"


def test_numbers_of_any_width_are_written_alike():
    table = {"t": ["a", "b", "c", "d"], "p": [np.float32(7), 7, np.float32("nan"), np.float16(7)]}
    assert [study.patient for study in kmm.studies(table, report="t", patient="p")] == ["7", "7", "study:2", "7"]


def test_films_in_memory_keep_their_views_whatever_the_ids():
    rows = [{"k": "a", "f": [FILM, FILM], "v": ["PA", "lateral"]}, {"k": "a-2", "f": [FILM], "v": ["PA"]}]
    one, two = make_studies(rows, Columns.choose(image="f", view="v", id="k"), own_patients=True)
    assert [image.view for image in (*one.images, *two.images)] == ["frontal", "lateral", "frontal"]
    assert not one.frontal.conflicts and not two.frontal.conflicts


@pytest.mark.parametrize("text", ["The lungs are clear. " * 20, "a\0b.png", "x/" * 4000])
def test_text_that_is_no_path_is_refused_and_not_shown(text):
    with pytest.raises(InputError, match=r"^Row 1: the column 'f' must hold paths\. Received: text that is no path\.$"):
        make_studies([{"f": FILM}, {"f": text}], Columns.choose(image="f"), own_patients=True)


def test_a_report_in_the_column_of_films_is_not_shown():
    rows = [{"f": "Clear lungs.", "t": "a.png"}, {"f": "gone film.png", "t": "b.png"}]
    found = make_studies(rows, Columns.choose(image="f", report="t"), own_patients=True)
    assert [str(problem) for problem in found.problems] == [
        "film of study 0: film missing",
        "gone film.png: film missing",
    ]
    with pytest.raises(InputError, match=r"^The film: film missing$"):
        make_study("Clear lungs.", None, (), reads_films=True)


def test_sections_have_columns_of_their_own():
    rows = [{"why": "Cough.", "what": "Clear."}, {"why": None, "what": math.nan}]
    first, second = make_studies(rows, Columns.choose(sections={"indication": "why", "impression": "what"}),
                                 own_patients=True)  # fmt: skip
    assert first.report == Report(indication="Cough.", impression="Clear.") and second.report is None


def test_several_films_and_views(tmp_path):
    for name in ("1.png", "2.png"):
        PIL.Image.fromarray(FILM).save(tmp_path / name)
    rows = [
        {"film": [tmp_path / "1.png", str(tmp_path / "2.png"), FILM], "view": ["lateral", "PA", None]},
        {"film": tmp_path / "1.png", "view": "lateral"},
        {"film": FILM, "view": None},
    ]
    columns = Columns.choose(image="film", view="view")
    one, two, three = make_studies(rows, columns, own_patients=True)
    assert [image.view for image in one.images] == ["lateral", "frontal", None]
    assert one.frontal.path == tmp_path / "2.png" and one.images[2].path.name == "0 film 3 (in memory)"
    assert two.frontal is None and three.frontal is not None
    two_columns = {"a": [FILM, None], "b": [FILM, FILM]}
    found = make_studies(two_columns, Columns.choose(image=["a", "b"]), own_patients=True)
    assert [len(study.images) for study in found] == [2, 1]


def test_the_view_of_a_dataset_decides():
    lateral = make_dataset(make_film(), ViewCodeSequence=make_codes(("399067008", "lateral")))
    frontal = make_dataset(make_film(), ViewPosition="PA")
    no_film = make_dataset(make_film(), SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1")
    found = make_studies({"film": [lateral, frontal, no_film]}, Columns.choose(image="film"), own_patients=True)
    assert [study.frontal is not None for study in found] == [False, True, False]
    assert found[0].images[0].evidence.startswith("View Code") and len(found.problems) == 1


@pytest.mark.parametrize(
    ("table", "named", "says"),
    [
        (ROWS, {"image": "flim"}, r"no column 'flim'\. Did you mean film\? It has: film, text, sick, mrn, key"),
        (ROWS, {"image": "Film"}, r"Did you mean film\?"),
        (ROWS, {"report": "sick"}, r"Row 0: the column 'sick' must hold text. Received: int"),
        (ROWS, {"image": "sick"}, r"Row 0: the column 'sick' must hold paths, arrays, .*Received: int"),
        ([{"t": "x"}, {"t": "x", "s": 2}], {"report": "t", "label": "s"}, r"Row 1: the column 's' must hold 0"),
        ([{"t": "x", "s": -1}], {"report": "t", "label": "s"}, r"Row 0: .*CheXpert's tables write -1"),
        ([{"t": "x", "s": "yes"}], {"report": "t", "label": "s"}, r"Row 0: the column 's' must hold 0, 1 or"),
        ([{"t": "x", "k": "a"}] * 2, {"report": "t", "id": "k"}, r"unique. 1 occur .*: rows 0, 1\."),
        ([{"t": "x", "k": "../a"}], {"report": "t", "id": "k"}, r"Row 0: the column 'k' must hold an id"),
        ([{"t": "x"}, {"t": "y", "k": "a"}], {"report": "t", "id": "k"}, r"Row 0: the column 'k' must hold an id"),
        ([{"f": FILM, "v": "upside"}], {"image": "f", "view": "v"}, r"Row 0: the column 'v' must be one of frontal"),
        ([{"f": [FILM], "v": ["PA", "AP"]}], {"image": "f", "view": "v"}, r"Row 0: 1 films and 2 views"),
        ({"a": ["x"], "b": []}, {"report": "a"}, r"'a' has 1 rows and 'b' has 0"),
        ({"a": "text"}, {"report": "a"}, r"'a' must be a sequence with one value per row. Received: str"),
        ([{"a": "x"}, "b"], {"report": "a"}, r"Row 1 of the records is not a dict"),
        (7, {"report": "a"}, r"from a DataFrame, a list of records or a dict of columns. Received: int"),
        (ROWS, {}, r"Name the column of films with `image=`"),
        (ROWS, {"report": "text", "sections": {"findings": "text"}}, r"either `report=`.*Received: both"),
        (ROWS, {"report": "text", "label": "sick", "labels": ["sick"]}, r"either `label=` or `labels=`"),
        (ROWS, {"sections": {"history": "text"}}, r"Unknown section 'history'"),
    ],
)
@pytest.mark.filterwarnings("ignore:No column of patients")
def test_errors_name_row_and_column(table, named, says):
    with pytest.raises(InputError, match=says) as caught:
        kmm.studies(table, **named)
    assert "\n" not in str(caught.value) and "Clear lungs" not in str(caught.value)


def test_a_frame_with_two_columns_of_one_name():
    frame = StubFrame([{"a": "x"}])
    frame.columns = ["a", "a"]
    with pytest.raises(InputError, match="two columns named 'a'"):
        Table(frame)


def test_missing_files_and_files_of_kmm_are_problems(tmp_path):
    found = make_studies({"film": [tmp_path / "gone.png"], "text": ["Clear."]},
                         Columns.choose(image="film", report="text"), own_patients=True)  # fmt: skip
    assert [str(problem) for problem in found.problems] == ["gone.png: film missing"]
    assert found.problems[0].kept_on == "its report" and not found[0].images


def test_what_is_a_table_and_what_is_missing():
    assert [is_table(value) for value in (StubFrame([]), {}, ROWS)] == [True] * 3
    films = (FILM, "a.png", b"", PIL.Image.new("L", (1, 1)), make_dataset(make_film()))
    assert not any(map(is_table, ([], *films)))
    assert all(map(is_missing, (None, math.nan, np.float64("nan"), np.float32("nan"), np.float16("nan"), "", " \n")))
    assert not any(map(is_missing, (0, 0.0, "0", FILM, False)))


def test_nothing_that_is_shown_quotes_a_report_or_a_patient():
    studies = kmm.studies(ROWS, **NAMED)
    shown = " ".join(map(repr, (studies, studies[:1], *studies, *(study.report for study in studies))))
    assert "Clear" not in shown and "mass" not in shown and "p1" not in shown
    assert len(studies[1:]) == 2 and studies[1:].columns == studies.columns
