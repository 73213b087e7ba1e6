"""`classifier.index(studies)`: search by film, report and id; a temporary index; adding; measures."""

from dataclasses import replace

import numpy as np
import pytest

from kmm.api.classifier import Classifier
from kmm.data.study import Report
from kmm.errors import ArtefactError, InputError


@pytest.fixture(scope="module")
def classifier(build_classifier):
    made = build_classifier()
    return Classifier(replace(made, settings=replace(made.settings, labels="columns")))


def label(studies):
    return [replace(study, labels={"mass": float(number < 2)}) for number, study in enumerate(studies)]


def test_similar_studies_of_a_notebook(classifier, studies, tmp_path):
    labelled = label(studies)
    similar = classifier.index(labelled)
    place = similar.index.folder
    assert len(similar) == 4 and similar.folder is None and place.is_dir() and "4 studies" in repr(similar)
    film = np.full((40, 40), 90, np.uint8)
    film[:9, :9] = 200
    found = similar.search(film, report="A small effusion.", k=2)
    assert found.query.pattern == "both" and found.allowed == 2 and len(found.hits) == 2
    assert found.hits[0].score >= found.hits[1].score and found.hits[0].film is not None
    by_id = similar.search(study=labelled[0].id, against="text")
    assert labelled[0].id not in {hit.study for hit in by_id.hits} and by_id.against == "text"
    own = similar.search(labelled[0].images[0].path, k=9)
    assert own.excluded["film"] == 1 and labelled[0].id not in {hit.study for hit in own.hits}
    patient = similar.search(film, patient=labelled[1].patient, k=9)
    assert patient.excluded["patient"] == 1
    more = replace(labelled[3], id="more", patient="more", report=Report(findings="No cyst."))
    assert len(similar.add([more, *labelled])) == 5 and similar.search(study="more").hits
    rows = similar.measure(studies=[*labelled, more], k=2, repeats=5)["modes"][0]["rows"]
    assert set(rows) >= {"cosine", "tfidf", "film", "oracle", "chance"}
    del similar
    assert not place.exists()


def test_an_index_in_a_folder_is_opened_by_its_classifier_alone(classifier, build_classifier, studies, tmp_path):
    made = classifier.index(label(studies), tmp_path / "index", layer="text")
    assert [str(problem) for problem in made.problems] == ["study 100x50: it lacks what the layer text reads"]
    again = classifier.open_index(tmp_path / "index")
    assert (
        again.folder == tmp_path / "index"
        and again.index.layer == "text"
        and len(again) == 3
        and len(again.problems) == 0
    )
    with pytest.raises(ArtefactError, match="another classifier"):
        Classifier(build_classifier(length=11)).open_index(tmp_path / "index")
    with pytest.raises(InputError, match="already exists"):
        classifier.index(label(studies), tmp_path / "index")
    with pytest.raises(InputError, match="both"):
        again.search("film.png", study="words")
    with pytest.raises(InputError, match="Received neither"):
        again.search()
