import csv

import numpy as np
import pytest

from kmm.data.phantom.dataset import make_phantom
from kmm.errors import InputError
from kmm.explain.fidelity.boxes import Box, check_inside, read_boxes

HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def write(folder, text):
    path = folder / "boxes.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "a.png,Mass,1.5,2,3,4,,,\nb.png,Nodule,5,6,7,8,,,\na.png,Effusion,0,0,1,1,,,\n",
        "\ufeffImage Index,Finding Label,x,y,w,h\r\na.png,Mass,1.5,2,3,4\r\nb.png,Nodule,5,6,7,8\r\n"
        "a.png,Effusion,0,0,1,1\r\n\r\n",
        'image index,Finding Label,"Bbox [x, y, w, h]",,,\na.png,Mass,1.5,2,3,4\nb.png,Nodule,5,6,7,8\n'
        "a.png , Effusion,0,0,1,1\n",
        "sep=;\r\nImage Index;Finding Label;x;y;w;h\r\na.png;Mass;1,5;2;3;4\r\nb.png;Nodule;5;6;7;8\r\n"
        ";;;;;\r\na.png;Effusion;0;0;1;1,0\r\n",
        "Image Index\tFinding Label\tx\ty\tw\th\na.png\tMass\t1.5\t2\t3\t4\nb.png\tNodule\t5\t6\t7\t8\n"
        "a.png\tEffusion\t0\t0\t1\t1\n".encode("utf-16"),
    ],
    ids=["chestx-ray14", "phantom", "quoted", "semicolons", "utf-16"],
)
def test_reads_each_header(tmp_path, text):
    assert read_boxes(write(tmp_path, text)) == {
        "a.png": [Box("Mass", 1.5, 2, 3, 4), Box("Effusion", 0, 0, 1, 1)],
        "b.png": [Box("Nodule", 5, 6, 7, 8)],
    }


def test_no_rows_are_no_boxes(tmp_path):
    assert read_boxes(write(tmp_path, HEADER)) == {}


def test_reads_the_phantom(tmp_path):
    counts = make_phantom(tmp_path / "set", studies=12, pixels=64)
    boxes = read_boxes(tmp_path / "set" / "boxes.csv")
    assert sum(map(len, boxes.values())) == counts["boxes"] > 0
    with open(tmp_path / "set" / "boxes.csv", encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    box = boxes[first["Image Index"]][0]
    assert np.allclose([box.x, box.y, box.width, box.height], [float(first[name]) for name in "xywh"])
    assert all((tmp_path / "set" / "images" / name).is_file() for name in boxes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns Image Index"),
        ("uid,findings\n1,No mass\n", "Found: uid, findings"),
        ("Image Index,Finding Label,y,x,w,h\n", "expected the columns"),
        (HEADER.replace(",,,", ",score"), "expected the columns"),
        (HEADER + "a.png,Mass,1,2,3\n", "line 2: expected 6 fields"),
        (HEADER + "a.png,Mass,1,2,3,4,5,,\n", "line 2: expected 6 fields"),
        (HEADER + "a.png,Mass,1,2,3,4\n,Mass,1,2,3,4\n", "line 3: expected the name"),
        (HEADER + "a.png,,1,2,3,4\n", "line 2: expected the name"),
        (HEADER + "a.png,Mass,1,2,3,Smith\n", "line 2: x, y, w and h must be numbers"),
        (HEADER + 'a.png,Mass,"1,234",2,3,4\n', "line 2: x, y, w and h must be numbers"),
        (HEADER + "a.png,Mass,1,2,3,nan\n", "line 2: x and y must be 0 or more"),
        (HEADER + "a.png,Mass,1,2,inf,3\n", "line 2: x and y must be 0 or more"),
        (HEADER + "a.png,Mass,-1,2,3,4\n", "Received: -1, 2, 3, 4"),
        (HEADER + "a.png,Mass,1,2,0,4\n", "w and h above 0"),
        (HEADER + 'a.png,"Mass"s,1,2,3,4\n', "line 2: a quote is not closed"),
        (HEADER.encode() + b"\xff\n", "expected UTF-8"),
    ],
)
def test_says_what_is_wrong_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        read_boxes(write(tmp_path, text))
    said = str(caught.value)
    assert message in said and "boxes.csv" in said
    assert "\n" not in said and "Smith" not in said and "No mass" not in said


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_boxes(path)


def test_size_is_looked_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr("kmm.explain.fidelity.boxes.MAX_BYTES", 10)
    with pytest.raises(InputError, match="larger than 10 bytes"):
        read_boxes(write(tmp_path, HEADER))


def test_a_box_ends_within_its_film():
    boxes = [Box("Mass", 0, 0, 90, 40), Box("Mass", 60.5, 30, 30.4, 10.9)]
    check_inside(boxes, (40, 90), "1.png")
    for bad in (Box("Mass", 60, 0, 32, 9), Box("Mass", 0, 30, 9, 12)):
        with pytest.raises(InputError) as caught:
            check_inside([*boxes, bad], (40, 90), "films/1.png")
        said = str(caught.value)
        assert said.startswith("films/1.png: ") and "90 x 40" in said
        assert f"{bad.x + bad.width:g} x {bad.y + bad.height:g}" in said
