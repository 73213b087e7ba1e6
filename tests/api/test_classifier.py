"""The public classifier: one study, many, tables; explanations, features, arrays; nothing shown quotes a report."""

import copy
import dataclasses
import html
from pathlib import Path

import keras
import numpy as np
import PIL.Image
import pytest

import kmm
from kmm.api.classifier import Classifier
from kmm.api.inputs import gather_studies
from kmm.classifier import list_predictions
from kmm.data.collection import read_collection
from kmm.data.inputs import read_inputs
from kmm.data.study import Report, Study
from kmm.errors import ImageError, InputError, ReportError
from kmm.evaluate.decisions.conformal import count_scores
from kmm.explain import explain
from kmm.protocol.predictions import Prediction, Predictions
from tests.factories.frames import StubFrame

REPORT = "There is a small effusion."


@pytest.fixture(scope="module")
def classifier(hand_made):
    return Classifier(hand_made)


@pytest.fixture(scope="module")
def film(films):
    return films["40x90"]


@pytest.fixture(scope="module")
def pixels(film):
    with PIL.Image.open(film) as image:
        return np.asarray(image)


def predict_inner(hand_made, study):
    (found,) = list_predictions(hand_made, hand_made.predict([study], strict=True, batch_size=1))
    return found


def test_one_study_is_predicted_as_the_command_line_does(classifier, hand_made, film):
    (study,) = read_inputs([film]).studies
    assert classifier.predict(film) == predict_inner(hand_made, study)
    with_report = Study("1", "1", study.images, Report(findings=REPORT))
    found = classifier.predict(film, report=REPORT)
    assert isinstance(found, Prediction) and found == predict_inner(hand_made, with_report)
    assert found == classifier.predict(with_report) == classifier.predict(str(film), REPORT)
    assert classifier.predict(report=REPORT) == predict_inner(hand_made, Study("1", "1", (), with_report.report))


def test_arrays_pictures_and_bytes_give_exactly_the_numbers_of_the_file(classifier, film, pixels):
    expected = classifier.predict(film, REPORT)
    with PIL.Image.open(film) as picture:
        for source in (pixels, pixels[..., None], pixels.astype(np.float32), picture, film.read_bytes()):
            assert classifier.predict(source, REPORT) == expected


def test_many_studies(classifier, film, pixels):
    found = classifier.predict(images=[film, None, pixels], reports=[None, REPORT, REPORT])
    assert isinstance(found, Predictions) and found.studies == ("0", "1", "2") and found.labels == classifier.labels
    single = [classifier.predict(film), classifier.predict(report=REPORT), classifier.predict(film, REPORT)]
    assert found.probabilities.shape == (3, 3) and found.decisions.dtype == bool
    np.testing.assert_allclose(found.probabilities, [list(one.probabilities.values()) for one in single], rtol=1e-5)
    np.testing.assert_array_equal(found.decisions, found.probabilities >= found.thresholds)
    assert [one.thresholds for one in found] == [one.thresholds for one in single]
    assert len(classifier.predict(images=[film])) == 1 and len(classifier.predict(reports=[REPORT])) == 1


def test_studies_that_validation_cannot_decide_are_left_undecided(classifier, hand_made, film):
    labels, scores = np.repeat([[0.0] * 3, [1.0] * 3], 50, axis=0), np.repeat([[0.9] * 3, [0.1] * 3], 50, axis=0)
    confused = Classifier(dataclasses.replace(hand_made, conformal=np.stack([count_scores(labels, scores)] * 3)))
    plain, found = confused.predict(film), confused.predict(film, abstain=0.1)
    assert set(found.sets) == set(plain.decisions) and plain.sets is None and found.probabilities == plain.probabilities
    assert set(found.decisions.values()) == {"abstain"}
    many = confused.predict(images=[film, None], reports=[None, REPORT], abstain=0.1)
    assert many[0].sets == found.sets and (many.decisions == "abstain").all() and "?" in repr(many)
    with pytest.warns(UserWarning, match="Fewer than the 99 validation studies"):
        confused.predict(film, abstain=0.01)
    with pytest.raises(InputError, match="cannot abstain"):
        classifier.predict(film, abstain=0.1)
    with pytest.raises(InputError, match="`abstain` must be an error level"):
        confused.predict(images=[film], abstain=2)


def test_tables_need_names_of_columns_or_those_of_the_training(classifier, film):
    frame = StubFrame([{"film": film, "text": REPORT, "extra": 1}, {"film": None, "text": "No mass."}])
    with pytest.raises(InputError, match="columns of this one are not known"):
        classifier.predict(frame)
    named = {"image": "film", "report": "text"}
    found = classifier.predict(frame, columns=named)
    assert found == classifier.predict(kmm.studies(frame, **named, patient="extra"))
    classifier._record.provenance["columns"] = {**named, "patient": "mrn", "labels": ["mass"], "image": ["film"]}
    try:
        assert classifier.predict(frame) == found == classifier.predict([dict(film=film, text=REPORT),
                                                                         dict(text="No mass.")])  # fmt: skip
        with pytest.raises(InputError, match="no column 'film'"):
            classifier.predict([{"text": REPORT}])
    finally:
        del classifier._record.provenance["columns"]


def test_named_columns_are_laid_over_those_of_the_training(classifier, film):
    kept = {"image": ["film"], "report": "text", "labels": ["mass"], "patient": "mrn"}
    rows = [{"picture": film, "text": REPORT, "words": "No mass.", "sick": 1}]

    def gather(columns):
        return gather_studies(rows, kept, columns, ("findings",))

    found = gather({"image": "picture"})
    assert found[0].report.findings == REPORT and found[0].images and found.columns.keys() == {"image", "report"}
    assert gather({"image": "picture", "label": "sick"})[0].labels == {"sick": 1}
    assert gather({"image": "picture", "sections": {"impression": "words"}})[0].report == Report(impression="No mass.")
    assert not gather({"image": None})[0].images
    for columns, says in (({"report": "words"}, "'film'"), ({"image": "picture", "patient": "who"}, "'who'")):
        with pytest.raises(InputError, match=f"no column {says}"):
            gather(columns)


def test_the_function_of_the_room_takes_the_public_classifier(classifier, film):
    study = kmm.read([film]).studies[0]
    found, expected = explain(classifier, study), explain(classifier.record, study)
    assert found.probabilities == expected.probabilities and found.model == expected.model


def test_an_explanation_takes_one_film(classifier, film):
    with pytest.raises(InputError, match=r"Expected one film\. Received: a list of 2"):
        classifier.explain([film, film])
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InputError, match=r"^`image` must be a path.*Received: Series.*images"):
        classifier.predict(pandas.Series([film]))
    assert classifier.predict(float("nan"), REPORT) == classifier.predict(report=REPORT)


def test_studies_that_cannot_be_used_are_left_out_with_a_warning(classifier, film, tmp_path):
    with pytest.warns(UserWarning, match="2 of 3 studies cannot be used"):
        found = classifier.predict(images=[tmp_path / "gone.png", film, np.zeros((16, 16), np.uint8)])
    assert found.studies == ("1",) and len(found.problems) == 3
    assert "2 studies set aside" in repr(found)


def test_films_that_are_not_found_are_never_left_out_in_silence(classifier, build_classifier, film):
    named = {"image": "film", "report": "text"}
    rows = [{"film": film, "text": REPORT, "mass": 1}, {"film": "gone.png", "text": REPORT, "mass": 0}]
    with pytest.warns(UserWarning, match=r"1 of 2 studies lack films .*The first: gone\.png: film missing") as caught:
        assert len(classifier.predict(rows, columns=named)) == 2
    assert caught[0].filename == __file__
    wrong = kmm.studies(rows[1:], **named, label="mass", patient="mass")
    for use in (classifier.predict, classifier.evaluate, classifier.features, classifier.preprocess, kmm.fit):
        with pytest.raises(InputError, match=r"None of the 1 studies has a film.*gone\.png.*absolute paths"):
            use(wrong)
    with pytest.raises(InputError, match="None of the 2 studies has a film"):
        classifier.predict(images=["gone.png", "too.png"], reports=[REPORT, None])
    assert len(Classifier(build_classifier(image=None)).predict(wrong)) == 1  # reads no films
    assert len(classifier.predict([{"film": None, "text": REPORT}], columns=named)) == 1  # names no film


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, InputError, "Received neither"),
        ({"image": "gone.png"}, InputError, r"^gone.png: film missing"),
        ({"report": 7}, ReportError, "must be the text of a report. Received: int"),
        ({"report": Path("report.txt")}, ReportError, "Received: PosixPath"),
        ({"image": 7}, InputError, "Received: int"),
        ({"image": np.zeros((4, 16, 16), np.uint8)}, ImageError, r"study study: study \(in memory\)|0 \(in memory\)"),
        ({"image": ["a.png", "b.png"]}, InputError, r"one film. Received: a list of 2. Films .* `images=\[\.\.\.\]`"),
        ({"image": StubFrame([])["film"].__iter__()}, InputError, r"`image` must be a path.*Received: list_iterator"),
        ({"images": "a.png"}, InputError, "`images` must be a list with one film per study.*Received: str"),
        ({"images": Path("a.png")}, InputError, "Received: PosixPath"),
        ({"images": np.zeros((16, 16), np.uint8)}, InputError, "Received: ndarray"),
        ({"images": 7}, InputError, "Received: int"),
        ({"reports": "Clear."}, InputError, "`reports` must be a list with one text per study.*Received: str"),
        ({"reports": b"Clear."}, InputError, "Received: bytes"),
        (
            {"image": [{"f": 1}], "columns": {"film": "f"}},
            InputError,
            "argument in `columns` 'film'. Known: image, rep",
        ),
        ({"image": [{"f": 1}], "columns": "f"}, InputError, "`columns` must be a dict.*Received: str"),
        ({"images": ["a"], "reports": ["b", "c"]}, InputError, "1 images, 2 reports"),
        ({"image": "a.png", "images": ["b.png"]}, InputError, "Received: both"),
        ({"image": Study("1", "1", report=Report(findings="x")), "report": "y"}, InputError, "its own report"),
    ],
)
def test_wrong_arguments(classifier, arguments, error, says):
    with pytest.raises(error, match=says):
        classifier.predict(**arguments)


def test_a_side_that_the_model_does_not_read_is_an_error(build_classifier, film):
    with pytest.raises(InputError, match="reads films only"):
        Classifier(build_classifier(text=None)).predict(film, REPORT)
    with pytest.raises(InputError, match="reads reports only"):
        Classifier(build_classifier(image=None)).predict(film, REPORT)


def test_a_report_goes_to_a_section_that_the_model_reads(build_classifier):
    inner = build_classifier(image=None, sections=("indication", "comparison"))
    expected = predict_inner(inner, Study("1", "1", (), Report(indication=REPORT)))
    classifier = Classifier(inner)
    assert classifier.predict(report=REPORT) == expected
    assert classifier.predict([{"t": REPORT}], columns={"report": "t"})[0].logits == pytest.approx(expected.logits)
    assert classifier.predict(reports=[REPORT])[0].logits == pytest.approx(expected.logits)


def test_model_and_preprocess_give_the_logits(classifier, film):
    inputs = classifier.preprocess(film, report=REPORT)
    assert {name: (array.shape, array.dtype.name) for name, array in inputs.items()} == {
        "image": ((1, 32, 32, 1), "float32"),
        "token_ids": ((1, 12), "int32"),
        "present": ((1, 2), "float32"),
    }
    assert isinstance(classifier.model, keras.Model)
    logits = np.asarray(classifier.model.predict_on_batch(inputs))[0]
    assert logits.tolist() == pytest.approx(list(classifier.predict(film, REPORT).logits.values()), rel=1e-5)
    many = classifier.preprocess(images=[film, film], reports=[REPORT, None])
    np.testing.assert_array_equal(many["image"][0], inputs["image"][0])
    assert many["present"].tolist() == [[1, 1], [1, 0]]


def test_features_are_those_before_the_logits(classifier, studies, hand_made):
    from kmm.models.views.feature_view import view_joint

    found = classifier.features(studies)
    assert found.shape == (len(studies), 16) and found.dtype == np.float32
    inputs = hand_made.batches.batch(studies).inputs()
    expected = view_joint(classifier.model).predict_on_batch(inputs)["features"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_explanation(classifier, hand_made, film, pixels, tmp_path):
    found = classifier.explain(film, report=REPORT, target="effusion", steps=5)
    assert found.target == "effusion" and found.prediction == classifier.predict(film, REPORT)
    assert found.map.shape == pixels.shape and found.map.dtype == np.float32
    assert found.map.sum() == pytest.approx(found.explanation.heat.sum(), rel=1e-4)
    assert [word["text"] for word in found.words][-1] == "effusion" and found.regions == [
        region.as_dict() for region in found.explanation.regions
    ]
    page = found._repr_html_()
    assert "effusion" in page and "default-src 'none'" in html.unescape(page)  # the page loads nothing
    assert {path.suffix for path in found.save(tmp_path)} == {".json", ".png", ".jpg", ".html"}
    same = classifier.explain(pixels, report=REPORT, target="effusion", steps=5)
    np.testing.assert_array_equal(same.map, found.map)
    assert same.explanation.image == "0 (in memory)"
    alone = classifier.explain(report=REPORT, target="effusion", steps=5, sensitivity=0.5)
    assert alone.map is None and alone.regions == []
    with pytest.raises(InputError, match="stepz"):
        classifier.explain(film, stepz=5)
    words = found.words
    assert "small" not in repr((found, found.explanation, words, words[:4], words + words, words.copy()))


def test_a_classifier_is_saved_and_loaded(hand_made, film, tmp_path):
    first = Classifier(hand_made)
    assert first.folder is None and first.save(tmp_path / "mine") == first.folder == tmp_path / "mine"
    again = kmm.load(tmp_path / "mine")
    assert again.predict(film, REPORT) == first.predict(film, REPORT) and again.folder == first.folder
    with pytest.raises(InputError, match=r"already exists\. Choose another name, or pass overwrite=True\."):
        again.save(tmp_path / "mine")


def test_a_folder_that_cannot_be_written_is_named(hand_made, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "x", tmp_path / "file" / "deeper" / "x"):
        with pytest.raises(InputError, match=r"The folder .* cannot be written to: a file has this name\."):
            Classifier(hand_made).save(place)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=r"cannot be written to: Permission denied\. Choose another folder\."):
        Classifier(hand_made).save(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_and_no_path_are_refused(classifier, film):
    for use, given, says in (
        (kmm.read, [], "at least one file or folder"),
        (kmm.read, None, "`path` must be a path. Received: NoneType"),
        (kmm.read, [film, 7], "`path` must be a path. Received: int"),
        (kmm.load, None, "`folder` must be a path. Received: NoneType"),
        (classifier.save, None, "`folder` must be a path. Received: NoneType"),
        (kmm.read_film, np.zeros((16, 16)), "`path` must be a path. Received: ndarray"),
    ):
        with pytest.raises(InputError, match=says):
            use(given)
    empty = {"film": [], "text": []}
    named = {"image": "film", "report": "text"}
    assert classifier.preprocess(empty, columns=named)["image"].shape == (0, 32, 32, 1)
    assert classifier.predict(empty, columns=named).probabilities.shape == (0, 3)
    assert classifier.features(empty, columns=named).shape == (0, 16)


@pytest.mark.large
def test_a_fitted_classifier_keeps_the_files_of_its_fit(tiny_run, tmp_path):
    folder = tiny_run[2]
    first = kmm.load(folder)
    assert first.folder == folder and first.metrics == tiny_run[0].metrics and first.settings.pixels == 32
    again = kmm.Classifier.load(first.save(tmp_path / "again"))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {path.relative_to(again.folder).as_posix() for path in again.folder.rglob("*") if path.is_file()}
    for name in names - {"classifier.json", "model_card.md", "joint.keras", "image.keras", "text.keras"}:
        assert (folder / name).read_bytes() == (again.folder / name).read_bytes(), name
    assert (again.folder / "model_card.md").read_text().startswith("# again")
    assert again.predict(report="There is a mass") == first.predict(report="There is a mass")
    with pytest.raises(InputError, match="already exists"):
        first.save(tmp_path / "again")
    again.save(tmp_path / "again", overwrite=True)
    assert (tmp_path / "again" / "split.csv").read_bytes() == (folder / "split.csv").read_bytes()


def test_a_copy_predicts_the_same(classifier, film):
    explain(classifier, kmm.read([film]).studies[0])  # traces functions, which cannot be copied
    twin = copy.deepcopy(classifier)
    assert twin.predict(film, REPORT) == classifier.predict(film, REPORT) and twin.model is not classifier.model


def test_nothing_that_is_shown_quotes_a_report(classifier, film, tiny_run):
    shown = [classifier, classifier.predict(film, REPORT), classifier.predict(reports=[REPORT]), kmm.load(tiny_run[2])]
    text = "\n".join(map(repr, shown))
    assert "small" not in text.replace("small-cnn", "") and "There" not in text
    assert repr(classifier) == "<Classifier of mass, effusion, cyst: small-cnn and text-cnn>"


def test_read_takes_layouts_images_and_views(tiny_folder, film, tmp_path):
    assert kmm.read(tiny_folder).studies == read_collection(tiny_folder).studies
    assert len(kmm.read([film, film])) == 2
    views = tmp_path / "views.csv"
    views.write_text(f"file,view\n{film.name},lateral\n")
    assert kmm.read(film, views=views)[0].frontal is None
    assert kmm.read(film, views={film.stem: "lateral"})[0].frontal is None
