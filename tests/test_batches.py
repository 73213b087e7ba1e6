import json

import numpy as np
import pytest
from PIL import Image

from kmm.batches import BatchMaker, TextPreparation
from kmm.data.study import ImageFile, Report, Study
from kmm.errors import ImageError, InputError, ReportError
from kmm.image.prepare import ImagePreparation
from kmm.presets import make_settings
from kmm.text.redaction import Redaction
from kmm.text.vocabulary import Vocabulary
from kmm.training.preparation.study_reading import read_studies
from kmm.training.preparation.words import learn_words
from tests.factories import jpegs
from tests.factories.commands import CANARY


@pytest.fixture
def studies(tmp_path):
    """Four studies: both sides, image only, text only, and a broken image."""
    gradient = np.tile(np.arange(40, dtype=np.uint8) * 6, (40, 1))
    for name in ("a.png", "b.png"):
        Image.fromarray(gradient).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])

    def image(name):
        return (ImageFile(tmp_path / name, view="frontal"),)

    report = Report(indication="Cough.", findings="No mass.")
    return [
        Study("1", "p1", image("a.png"), report, labels={"abnormal": 1.0}),
        Study("2", "p2", image("b.png"), None, labels={"abnormal": 0.0}),
        Study("3", "p3", (), report, labels={"abnormal": np.nan}),
        Study("4", "p4", image("broken.png"), report, labels={"abnormal": 0.0}),
    ]


@pytest.fixture
def maker():
    vocabulary = Vocabulary.fit([["cough", "no", "mass"]])
    text = TextPreparation(sections=("indication", "findings"), length=5)
    return BatchMaker(ImagePreparation(32, "stretch"), text, vocabulary=vocabulary, label_names=("abnormal",))


def test_a_batch_holds_what_is_there_and_says_what_is_not(maker, studies):
    batch = maker.batch(studies[:3])
    assert batch.present.tolist() == [[1, 1], [1, 0], [0, 1]]
    words = [maker.vocabulary.words[i] for i in batch.token_ids[0]]
    assert words == ["cough", "no", "mass", "[PAD]", "[PAD]"]
    assert not batch.image[2].any() and not batch.token_ids[1].any()
    assert batch.labels[:2].tolist() == [[1], [0]] and np.isnan(batch.labels[2, 0])
    np.testing.assert_allclose(batch.image[0, 16, :, 0], np.linspace(0, 234, 32), atol=5)
    assert batch.film_sizes.tolist() == [[40, 40], [40, 40], [0, 0]]


@pytest.mark.parametrize("name", ["gray", "progressive"])
def test_a_jpeg_with_a_hole_is_neither_predicted_nor_trained_on(name, maker, studies, tmp_path):
    (tmp_path / "film.jpg").write_bytes(jpegs.cut_hole(jpegs.WHOLE[name]))
    holed = Study("5", "p5", (ImageFile(tmp_path / "film.jpg", view="frontal"),), None, labels={"abnormal": 0.0})
    with pytest.raises(ImageError, match=r"film\.jpg: expected a complete JPEG image"):
        maker.batch([holed])
    with pytest.raises(ImageError, match=r"film\.jpg: expected a complete JPEG image"):
        maker.film(holed)
    read = read_studies([*studies[:3], holed], maker, tmp_path / "cache")
    assert [study.id for study in read.studies] == ["1", "2", "3"]
    assert [problem.source for problem in read.problems] == ["study 5"]


def test_batches_set_a_broken_study_aside_and_go_on(maker, studies):
    told = []
    made = list(maker.batches(studies, 2, lambda study, error: told.append((study.id, str(error)))))
    assert [[study.id for study in used] for used, _ in made] == [["1", "2"], ["3"]]
    assert told[0][0] == "4" and "broken.png" in told[0][1]
    with pytest.raises(ImageError):
        list(maker.batches(studies, 2))


def test_a_preparation_survives_json(maker, studies):
    again = BatchMaker.from_dict(maker.as_dict(), maker.vocabulary)
    np.testing.assert_array_equal(again.batch(studies[:3]).image, maker.batch(studies[:3]).image)
    with pytest.raises(InputError):
        BatchMaker.from_dict({"image": {}}, None)


def test_a_redaction_is_part_of_the_preparation():
    plain, redacted = TextPreparation(), TextPreparation(redaction=Redaction(("no acute", "/clear(ed)?/")))
    study = Study("1", "1", report=Report(findings="No acute mass, clear.", impression="Normal."))
    assert "redact" not in plain.as_dict()  # earlier versions of kmm read it
    assert redacted.as_dict()["redact"] == ["no acute", "/clear(ed)?/"]
    for text in (plain, redacted):
        assert TextPreparation.from_dict(json.loads(json.dumps(text.as_dict()))) == text
    assert plain.redacted_text(study) == plain.text(study) == redacted.text(study) == "Normal. No acute mass, clear."
    assert redacted.redacted_text(study) == "Normal.          mass,      ."
    assert (redacted.words(study), redacted.find_redacted(redacted.text(study))) == (
        ["normal", "mass"],
        [(8, 16), (23, 28)],
    )
    assert plain.find_redacted(plain.text(study)) == []
    with pytest.raises(InputError, match="no upper bound"):
        BatchMaker.from_dict({"image": None, "text": {**plain.as_dict(), "redact": ["/a*/"]}, "label_names": []}, None)


def test_a_report_that_the_redaction_empties_is_no_report():
    text = TextPreparation(length=4, redaction=Redaction(("no mass", "/clear/")))
    maker = BatchMaker(None, text, vocabulary=Vocabulary.fit([["mass"]]), label_names=("abnormal",))
    with pytest.raises(ReportError, match="Found none: the redaction removes all words of its report"):
        maker.batch([Study("1", "1", report=Report(findings="No mass. Clear."))])
    with pytest.raises(ReportError, match=r"Found none\.$"):
        maker.batch([Study("2", "2", report=Report(findings="--"))])
    assert maker.batch([Study("3", "3", report=Report(findings="No mass here."))]).present.tolist() == [[0, 1]]


def test_a_redaction_of_every_training_word_is_named():
    study = Study("1", "1", report=Report(findings="No mass."))
    text = TextPreparation(redaction=Redaction(("no mass",)))
    with pytest.raises(InputError, match="The redaction removes every word of the training reports"):
        learn_words(make_settings("small"), text, [study, Study("2", "2")], [])


def test_a_model_of_reports_alone_opens_no_film_and_one_of_films_no_report(bad_images, tiny_folder):
    films = [(ImageFile(path, view="frontal"),) for path in (bad_images / "zero.png", tiny_folder / "images" / "1.png")]
    broken = Study("1", "1", films[0], Report(findings="A mass."))
    endless = Study("2", "2", films[1], Report(findings=f"{CANARY} " * 100_000))
    reports = BatchMaker(None, TextPreparation(), vocabulary=Vocabulary.fit([["mass"]]), label_names=("mass",))
    images = BatchMaker(ImagePreparation(32), None, vocabulary=None, label_names=("mass",))
    assert reports.batch([broken]).present.tolist() == [[0, 1]]
    assert images.batch([endless]).present.tolist() == [[1, 0]]
    with pytest.raises(ReportError, match=r"expected a report with words\. Found none"):
        reports.batch([Study("3", "3", films[1])])
    with pytest.raises(ReportError, match=r"expected a frontal image\. Found none"):
        images.batch([Study("4", "4", report=Report(findings="A mass."))])
    for maker in (reports, images):
        again = BatchMaker.from_dict(json.loads(json.dumps(maker.as_dict())), maker.vocabulary)
        assert (again.image, again.text) == (maker.image, maker.text)
