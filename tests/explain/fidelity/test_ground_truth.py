from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kmm.data.phantom.dataset import make_phantom
from kmm.data.study import ImageFile, Study
from kmm.errors import ImageError, InputError
from kmm.explain.fidelity.boxes import Box
from kmm.explain.fidelity.ground_truth import Naming, Truth, make_truth, match_findings, read_naming_words

MASS, EFFUSION, CYST = (Box(name, 1, 2, 3, 4) for name in ("Mass", "Effusion", "Cyst"))
BOXES = {"a.png": [EFFUSION, MASS], "b.png": [CYST], "c.png": [MASS, MASS]}


def study_of(name, study_id=None):
    return Study(study_id or name, "1", (ImageFile(Path("films", name), "frontal"),))


def explained(name, target, size=(9, 9), scale=(1.0, 1.0)):
    return SimpleNamespace(
        study=name, image=f"films/{name}", target=target, film=np.zeros(size, np.uint8), pixel_scale=scale
    )


def test_boxes_are_of_the_label_that_is_explained():
    truth = make_truth(("mass", "effusion"), boxes=BOXES)
    assert truth.of_film(explained("a.png", "mass")) == [MASS]
    assert truth.of_film(explained("a.png", "effusion")) == [EFFUSION]
    assert truth.of_film(explained("c.png", "effusion")) == truth.of_film(explained("b.png", "mass")) == []
    assert [truth.target_of(study_of(name)) for name in ("a.png", "b.png", "c.png")] == ["effusion", None, "mass"]
    assert [truth.has_box(study_of(name)) for name in ("a.png", "b.png", "c.png")] == [True, False, True]
    assert truth.of_film(SimpleNamespace(image=None, film=None, target="mass")) == []
    assert not truth.knows(Study("words", "1"))


def test_of_a_target_nothing_else_is_known():
    truth = make_truth(("mass", "effusion"), boxes=BOXES, target="mass")
    assert truth.of_film(explained("a.png", "effusion")) == []
    assert truth.target_of(study_of("a.png")) == "mass"


def test_a_model_of_one_label_takes_every_box_unless_the_table_names_it():
    assert make_truth(("abnormal",), boxes=BOXES).of_film(explained("a.png", "abnormal")) == [EFFUSION, MASS]
    truth = make_truth(("effusion",), boxes=BOXES)
    assert truth.of_film(explained("a.png", "effusion")) == [EFFUSION] and list(truth.boxes) == ["a.png"]


def test_spellings_of_a_finding():
    labels = ("Infiltration", "Pleural_Thickening", "PLEURAL EFFUSION", "Mass")
    findings = ["Infiltrate", "pleural  thickening", "Effusion", "mass", "Massive"]
    assert match_findings(findings, labels) == dict(zip(findings, labels, strict=False))
    assert match_findings(["Infiltration"], ("Infiltrate", "Mass")) == {"Infiltration": "Infiltrate"}
    assert match_findings(["Pulmonary Atelectasis"], ("Atelectasis", "x"))


def test_refuses_what_says_nothing_of_the_labels():
    with pytest.raises(InputError, match=r"Expected boxes of edema, fracture\. Found boxes of Effusion, Mass, Cyst"):
        make_truth(("edema", "fracture"), boxes=BOXES)
    with pytest.raises(InputError, match="Expected boxes of edema"):
        make_truth(("mass", "edema"), boxes=BOXES, target="edema")
    with pytest.raises(InputError, match=r"must be a label of the model: mass\. Received: cyst"):
        make_truth(("mass",), target="cyst")
    with pytest.raises(InputError, match="needs the column finding"):
        make_truth(("mass", "edema"), words={"1": Naming((), frozenset({"mass"}))})
    with pytest.raises(InputError, match=r"Expected words that name mass, edema\. Found words of Cyst"):
        make_truth(("mass", "edema"), words={"1": Naming(("Cyst",), frozenset({"cyst"}))})


def test_words_are_of_the_label_that_is_explained():
    words = {
        "1": Naming(("Mass",), frozenset({"mass"})),
        "2": Naming(("Mass", "Effusion"), frozenset({"mass", "fluid"})),
        "3": Naming(("Effusion",), frozenset({"fluid"})),
    }
    truth = make_truth(("mass", "effusion"), words=words)
    assert truth.of_report(explained("1", "mass")) == {"mass"} and truth.of_report(explained("1", "effusion")) == set()
    assert "2" not in truth.words and truth.target_of(Study("3", "3")) == "effusion"
    assert make_truth(("abnormal",), words=words).of_report(explained("2", "abnormal")) == {"mass", "fluid"}
    plain = {"1": Naming((), frozenset({"mass"}))}
    assert make_truth(("abnormal",), words=plain).of_report(explained("1", "abnormal")) == {"mass"}


def test_a_box_beyond_its_film_is_refused_before_and_while_explaining():
    truth = make_truth(("mass", "effusion"), boxes={"a.png": [Box("Mass", 900, 40, 80, 60)]})
    with pytest.raises(InputError, match=r"films/a.png: .*256 x 128 pixels.*980 x 100"):
        truth.of_film(explained("a.png", "mass", (128, 256)))
    with pytest.raises(InputError, match=r"films/a.png: .*256 x 128 pixels.*980 x 100"):
        truth.check_films([study_of("b.png"), study_of("a.png")], lambda study: np.zeros((128, 256)))
    truth.check_films([study_of("a.png")], lambda study: np.zeros((1024, 1024)))


def test_boxes_are_moved_from_pixels_that_are_not_square():
    """A table gives boxes in pixels of the file, 128 rows of 256; the film was read with 384 rows."""
    truth = make_truth(("mass", "effusion"), boxes={"a.dcm": [Box("Mass", 100, 40, 80, 60)]})
    moved = truth.of_film(explained("a.dcm", "mass", (384, 256), (1.0, 3.0)))
    assert moved == [Box("Mass", 100, 120, 80, 180)]
    truth.check_films([study_of("a.dcm")], lambda study: np.zeros((384, 256)), lambda study: (1.0, 3.0))
    truth = make_truth(("mass",), boxes={"a.dcm": [Box("Mass", 100, 100, 80, 60)]})
    with pytest.raises(InputError, match=r"films/a.dcm: .*256 x 128 pixels.*180 x 160"):
        truth.check_films([study_of("a.dcm")], lambda study: np.zeros((384, 256)), lambda study: (1.0, 3.0))


def test_films_that_cannot_be_read_are_left_to_the_explainer_and_others_are_not_opened():
    opened = []

    def read(study):
        opened.append(study.id)
        raise ImageError("broken")

    Truth({"a.png": {"mass": [MASS]}}).check_films([study_of("a.png"), study_of("b.png")], read)
    assert opened == ["a.png"]


def test_reads_the_phantom_s_words(tmp_path):
    make_phantom(tmp_path / "set", studies=30, pixels=64)
    words = read_naming_words(tmp_path / "set" / "phantom_truth.csv")
    assert words and all(naming.words and naming.findings for naming in words.values())
    assert {finding for naming in words.values() for finding in naming.findings} <= {
        "Nodule", "Opacity", "Effusion", "Atelectasis", "Cardiomegaly",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "cannot be read"),
        (b"uid,text\n1,Smith\n", "Missing: words"),
        (b'uid,words\n1,"Smith"s\n', "line 2: a quote is not closed"),
        (b"uid,words\n1,mass\n2\n", "line 3: expected 2 fields"),
        (b"uid,words\n1,\xff\n", "expected UTF-8"),
    ],
)
def test_a_table_that_is_not_of_words_is_refused(tmp_path, data, said):
    path = tmp_path / "words.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_naming_words(path)
    text = str(caught.value)
    assert said in text and "words.csv" in text and "Smith" not in text and "\n" not in text
