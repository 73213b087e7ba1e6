import pytest

from kmm.data.collection import read_collection
from kmm.data.layouts.chestxray14 import FINDINGS, read_chestxray14, read_findings
from kmm.errors import InputError
from tests.factories.public_collections import ENTRIES, write_chestxray14

HEADERS = {  # header and end of each row, as they are found in copies of the table
    "split by the comma": (ENTRIES, ""),
    "a further comma in header and rows": (ENTRIES + ",", ","),
    "a further comma in the header": (ENTRIES + ",", ""),
    "a further comma in the rows": (ENTRIES, ","),
    "quoted, so that the rows have more fields": (
        ENTRIES.replace("OriginalImage[Width,Height]", '"OriginalImage[Width,Height]"').replace(
            "OriginalImagePixelSpacing[x,y]", '"OriginalImagePixelSpacing[x,y]"'
        ),
        "",
    ),
    "of 2020": (ENTRIES.replace("Patient Gender", "Patient Sex"), ""),
}


def write(folder, rows, *, header=ENTRIES, end="", table="Data_Entry_2017.csv", films=("a.png", "b.png")):
    (folder / "images").mkdir(exist_ok=True)
    for name in films:
        (folder / "images" / name).write_bytes(b"x")
    (folder / table).write_text("\n".join([header, *(row + end for row in rows)]) + "\n", encoding="utf-8")


def row(name="a.png", labels="No Finding", patient="1", age="58", sex="F", view="PA"):
    return f"{name},{labels},0,{patient},{age},{sex},{view},2500,2048,0.168,0.168"


@pytest.mark.parametrize("kind", HEADERS)
def test_the_columns_are_read_whatever_the_brackets_do_to_the_header(tmp_path, kind):
    header, end = HEADERS[kind]
    write(tmp_path, [row(labels="Mass|Hernia"), row("b.png", patient="00000002", view="AP")], header=header, end=end)
    collection = read_chestxray14(tmp_path)
    one, two = collection.studies
    assert collection.problems == () and (one.id, one.patient, two.id, two.patient) == ("a", "1", "b", "2")
    assert one.images[0].path == tmp_path / "images/a.png" and dict(two.images[0].tags) == {"view": "AP"}
    assert dict(one.attributes) == {"sex": "F", "age": 58.0} and one.report is None
    assert {name for name, value in one.labels.items() if value} == {"Mass", "Hernia"}
    assert dict(two.labels) == dict.fromkeys(FINDINGS, 0.0) and len(FINDINGS) == 14


def test_ages(tmp_path):
    ages = {"058Y": 58.0, "006M": 0.5, "101": 101.0, "414": None, "": None, "411Y": None}
    write(tmp_path, [row(f"{number}.png", age=age) for number, age in enumerate(ages)])
    assert [study.attributes.get("age") for study in read_chestxray14(tmp_path).studies] == list(ages.values())


def test_the_table_of_2020_comes_first(tmp_path):
    write(tmp_path, [row()])
    write(tmp_path, [row("b.png")], table="Data_Entry_2017_v2020.csv")
    assert [study.id for study in read_collection(tmp_path)] == ["b"]


def test_films_of_several_folders(tmp_path):
    write(tmp_path, [row(f"{name}.png") for name in "abcd"], films=("a.png",))
    for place in ("images_001/images", "images_002/images"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.png").write_bytes(b"other")
    (tmp_path / "images_001/images/b.png").write_bytes(b"x")
    (tmp_path / "images_002/images/c.png").write_bytes(b"x")
    collection = read_collection(tmp_path)
    assert [[str(image.path.relative_to(tmp_path)) for image in study.images] for study in collection] == [
        ["images/a.png"],
        ["images_001/images/b.png"],
        ["images_002/images/c.png"],
        [],
    ]
    assert list(map(str, collection.problems)) == [
        "2 films (a.png, a.png): in two folders, of which the first is read",
        "d.png: film missing",
    ]
    assert collection.layout == "ChestX-ray14 (Data_Entry_2017.csv, films in images and 2 more folders)"


def test_bad_rows_are_set_aside(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [
        row(),
        row(),
        row("../secret.png"),
        row("images/b.png"),
        row("b"),
        row("b.png", labels="Mass|Curse of the pharaoh"),
        row("b.png", labels="No Finding|Mass"),
        row("b.png", labels=""),
        row("b.png", patient=""),
        row("b.png", view="upside down"),
        "b.png,No Finding",
        row("out.png"),
    ]
    write(folder, rows)
    (folder / "images/out.png").symlink_to(tmp_path / "secret.png")
    (folder / "away").symlink_to(tmp_path / "outside")
    collection = read_chestxray14(folder)
    assert [study.id for study in collection.studies] == ["a", "out"]
    assert not collection.studies[1].images[0].path.is_relative_to(folder / "away")
    findings = "the column Finding Labels must be No Finding, or some of Atelectasis"
    expected = {
        "out.png": "the file is a link that leads out of the folder",
        "away": "the folder is a link that leads out of the folder",
        "line 3": "an earlier row has this film",
        "line 4": "the column Image Index must be the name of a file",
        "line 5": "the column Image Index must be the name of a file",
        "line 6": "the column Image Index must be the name of a file",
        "line 7": findings,
        "line 8": "the column Finding Labels has No Finding beside a finding",
        "line 9": findings,
        "line 10": "the column Patient ID is empty",
        "line 11": "the column View Position must be PA, AP or empty",
        "line 12": "expected at least 7 fields; found 2",
    }
    found = {problem.source.removeprefix("Data_Entry_2017.csv "): problem.reason for problem in collection.problems}
    assert found.keys() == expected.keys()
    assert all(found[source].startswith(reason) for source, reason in expected.items())
    assert "pharaoh" not in str(found)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (ENTRIES.replace("Patient ID", "Patient"), r"Missing: Patient ID\. Found: "),
        ("OriginalImage[Width,Height]," + ENTRIES, "before any with brackets"),
        ("", "Missing: Image Index, Finding Labels, Patient ID"),
    ],
)
def test_missing_columns(tmp_path, header, message):
    write(tmp_path, [], header=header)
    with pytest.raises(InputError, match=message):
        read_chestxray14(tmp_path)


def test_the_official_lists_are_the_parts(tmp_path):
    write(tmp_path, [row(f"{name}.png") for name in "abcd"])
    (tmp_path / "train_val_list.txt").write_text("a.png\r\nb.png\r\n\r\nx.png\r\n")
    (tmp_path / "test_list.txt").write_text("b.png\nc.png\ny.png\nz.png")
    collection = read_chestxray14(tmp_path)
    assert dict(collection.parts) == {"a": "train", "b": "test", "c": "test"}
    assert list(map(str, collection.problems)) == [
        "test_list.txt: 2 films (y.png, z.png): not in Data_Entry_2017.csv",
        "train_val_list.txt: 1 film (x.png): not in Data_Entry_2017.csv",
        "train_val_list.txt: 1 film (b.png): in test_list.txt too, and so test films",
        "Data_Entry_2017.csv: 1 film (d.png): in neither of the official lists, so a fit does not use them",
    ]
    (tmp_path / "test_list.txt").unlink()
    with pytest.raises(InputError, match=r"there is train_val_list\.txt, but not test_list\.txt"):
        read_chestxray14(tmp_path)
    (tmp_path / "train_val_list.txt").unlink()
    assert not read_chestxray14(tmp_path).parts


def test_the_factory_makes_this_layout(tmp_path):
    folder = write_chestxray14(tmp_path / "nih", 8, end=",", films="images_001/images")
    collection = read_collection(folder)
    assert collection.problems == () and len(collection) == 16 and collection.layout.endswith("official lists)")
    assert [study.frontal.evidence for study in collection[:2]] == ["view column PA"] * 2
    assert list(collection.parts.values()).count("test") == 4


def test_findings():
    assert sum(read_findings("Effusion | Pleural Thickening").values()) == 2
    assert sum(read_findings("No Finding").values()) == 0
