import math

import pytest

from kmm.data.collection import read_collection
from kmm.data.labels import label_studies
from kmm.data.layouts.chexpert import OBSERVATIONS, find_chexpert, read_chexpert
from kmm.errors import InputError
from tests.factories.public_collections import CHEXPERT, write_chexpert

PREFIX = "CheXpert-v1.0/train"


def row(
    path=f"{PREFIX}/patient00001/study1/view1_frontal.jpg", sex="Female", age="68", view="Frontal", ap="AP", **named
):
    values = [named.get(name.replace(" ", "_"), "") for name in OBSERVATIONS]
    return ",".join([path, sex, age, view, ap, *values])


def write(folder, rows, table="train.csv", header=CHEXPERT):
    (folder / table).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def test_films_of_a_study_are_one_study(tmp_path):
    studies = f"{PREFIX}/patient00001/study"
    rows = [
        row(f"{studies}1/view10_lateral.jpg", view="Lateral", ap="LL", Edema="1.0", Fracture="-1.0", Pneumonia="0.0"),
        row(f"{studies}1/view2_frontal.jpg", Edema="1", Fracture="-1", Pneumonia="0", age="69"),
        row(f"{studies}2/view1_frontal.jpg", ap="PA"),
        row(f"{studies}10/view1_frontal.jpg", view="Frontal", ap="LL", sex="Unknown", age=""),
        row(f"{studies}11/view1_frontal.jpg", view="", ap=""),
    ]
    write(tmp_path, rows)
    collection = read_chexpert(tmp_path)
    one, two, ten, last = collection.studies
    assert collection.problems == () and collection.layout == "CheXpert (train.csv)" and not collection.parts
    assert [study.id for study in collection] == [f"patient00001-study{number}" for number in (1, 2, 10, 11)]
    assert {study.patient for study in collection} == {"patient00001"}
    place = tmp_path / "train/patient00001/study1"
    assert [image.path for image in one.images] == [place / "view2_frontal.jpg", place / "view10_lateral.jpg"]
    assert [dict(image.tags) for image in one.images] == [{"view": "AP"}, {"view": "LL"}]
    assert [dict(study.images[0].tags) for study in (two, ten, last)] == [
        {"view": "PA"},
        {"view": "Frontal"},
        {"view": "frontal"},
    ]
    assert dict(one.attributes) == {"sex": "F"} and dict(ten.attributes) == {}
    assert one.uncertain == {"Fracture"} and math.isnan(one.labels["Fracture"])
    assert (one.labels["Edema"], one.labels["Pneumonia"], one.labels["Cardiomegaly"]) == (1.0, 0.0, 0.0)
    assert tuple(one.labels) == OBSERVATIONS


def test_bad_rows_are_set_aside(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"x")
    folder = tmp_path / "data"
    (folder / "train/patient00009/study1").mkdir(parents=True)
    (folder / "train/patient00009/study1/view1_frontal.jpg").symlink_to(tmp_path / "secret.jpg")
    tail = "patient00002/study1/view1_frontal.jpg"
    bad = {
        row(): "an earlier row has this film",
        row(row().split(",")[0].replace("view1", "view2"), Edema="1"): "an earlier film of this study has other labels",
        row(
            row().split(",")[0].replace("view1", "view2"), Edema="-1"
        ): "an earlier film of this study has other labels",
        row(f"../train/{tail}"): "the file name leads out of the folder",
        row(f"/train/{tail}"): "the file name leads out of the folder",
        row(f"C:\\train\\{tail}".replace("/", "\\")): "the file name leads out of the folder",
        row(f"{PREFIX}/patient00009/study1/view1_frontal.jpg"): "the file is a link that leads out of the folder",
        row(tail): "expected a Path such as",
        row("1.jpg"): "expected a Path such as",
        row(f"train/{tail}", Edema="2"): "the column Edema must be 1, 0, -1 (uncertain) or empty",
        row(f"train/{tail}", view="upside down"): "the column Frontal/Lateral must be Frontal, Lateral or empty",
    }
    write(folder, [row(), *bad])
    collection = read_chexpert(folder)
    assert [study.id for study in collection] == ["patient00001-study1"]
    assert [problem.source for problem in collection.problems] == [f"train.csv line {n}" for n in range(3, 14)]
    assert all(
        problem.reason.startswith(reason) for problem, reason in zip(collection.problems, bad.values(), strict=True)
    )


def test_tables_are_parts_and_a_held_out_study_is_never_trained_on(tmp_path):
    rows = {number: row(f"x/patient{number:05}/study1/view1_frontal.jpg") for number in range(1, 5)}
    write(tmp_path, [rows[1], rows[2]])
    write(tmp_path, [rows[2], rows[3]], table="valid.csv")
    write(tmp_path, [rows[4]], table="test.csv")
    collection = read_chexpert(tmp_path)
    parts = {
        "patient00001": "train",
        "patient00002": "validation",
        "patient00003": "validation",
        "patient00004": "test",
    }
    assert dict(collection.parts) == {f"{patient}-study1": part for patient, part in parts.items()}
    assert list(map(str, collection.problems)) == [
        "train.csv line 3: the study is in valid.csv too, and belongs to that part"
    ]


def test_labels_without_a_column_are_unknown(tmp_path):
    write(tmp_path, ["test/patient1/study1/view1_frontal.jpg,1.0"], table="test.csv", header="Path,Edema")
    (study,) = read_chexpert(tmp_path).studies
    assert study.labels["Edema"] == 1 and math.isnan(study.labels["Fracture"]) and not study.uncertain
    assert dict(study.images[0].tags) == {"view": "frontal"}


@pytest.mark.parametrize("header", ["id,image", "Path,Label", "", "Edema,Sex"])
def test_other_tables_of_these_names_are_not_chexpert(tmp_path, header):
    write(tmp_path, [], header=header)
    assert find_chexpert(tmp_path) is None
    with pytest.raises(InputError, match="with the columns of CheXpert"):
        read_chexpert(tmp_path)


@pytest.mark.parametrize(
    ("scheme", "expected"), [("columns", math.nan), ("columns-uncertain-ones", 1.0), ("columns-uncertain-zeros", 0.0)]
)
def test_schemes_of_uncertain_labels(tmp_path, scheme, expected):
    folder = write_chexpert(tmp_path / "chexpert", 20)
    collection = read_collection(folder)
    assert collection.problems == () and len(collection) == 20 and len(collection.studies[0].images) == 2
    labelled, names = label_studies(collection.studies, scheme)
    assert names == ("No Finding", "Edema")
    found = [study.labels["Edema"] for study in labelled]
    uncertain = [number % 5 == 0 and number <= 15 for number in range(1, 21)]
    wanted = [expected if unsure else float(number % 2) for number, unsure in enumerate(uncertain, start=1)]
    assert found == pytest.approx(wanted, nan_ok=True)


def test_a_scheme_of_uncertain_labels_needs_some(tmp_path):
    write(tmp_path, [row(), row("train/patient2/study1/view1_frontal.jpg", Edema="1")])
    studies = read_chexpert(tmp_path).studies
    with pytest.raises(InputError, match="No study has a label that is uncertain"):
        label_studies(studies, "columns-uncertain-ones")
    assert label_studies(studies, "columns-uncertain-ones", names=["Edema"])[0][1].labels == {"Edema": 1.0}
