"""`Classifier.explain_similarity`: studies as films, dicts and `Study`, and what comes back."""

import json

import numpy as np
import pytest

import kmm
from kmm.errors import InputError
from tests.factories.pages import check_page


@pytest.fixture(scope="module")
def classifier(hand_made):
    return kmm.Classifier(hand_made)


@pytest.fixture(scope="module")
def found(classifier, films):
    one = {"image": str(films["48x48"]), "report": "Small mass. No effusion."}
    return classifier.explain_similarity(one, str(films["100x50"]), sensitivity=0.5)


def test_a_film_and_a_report_are_compared_with_a_film(found, films):
    assert -1 <= found.cosine <= 1 and found.one.without < 1
    assert [word["text"] for word in found.one.words] == ["Small", "mass", "No", "effusion"]
    assert found.other.words == [] and found.one.regions and found.other.map.shape == (100, 50)
    side = found.similarity.one
    total = sum(word["signed"] for word in found.one.words) + found.one.map.sum()
    assert total <= sum(value.sum() for value in side.attribution.values.values()) + 1e-3  # rows of padding aside
    assert side.settings.regions.sensitivity == 0.5


def test_nothing_of_the_reports_is_printed(found):
    for part in (found, found.one, found.other, found.one.words):
        assert "mass" not in repr(part)
    assert "48x48" in repr(found)


def test_page_and_json_are_saved(found, tmp_path, hand_made):
    page, numbers = sorted(found.save(tmp_path))
    assert (page.name, numbers.name) == ("48x48-100x50.html", "48x48-100x50.json")
    text = page.read_text(encoding="utf-8")
    check_page(text)
    assert "effusion" in text and all(label in text for label in hand_made.label_names)
    values = json.loads(numbers.read_text(encoding="utf-8"))
    assert values["cosine"] == pytest.approx(found.cosine) and values["one"]["study"] == "48x48"
    assert "sandbox" in found._repr_html_() and "allow-scripts" not in found._repr_html_()


@pytest.mark.large
def test_a_study_is_like_itself(classifier, studies):
    found = classifier.explain_similarity(studies[0], studies[0], layer="image", reads=("image", "image"))
    assert found.cosine == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found.one.map, found.other.map, atol=1e-4)


@pytest.mark.parametrize(
    ("one", "options", "message"),
    [
        ({"film": "a.png"}, {}, "A study as a dict has `image` and `report`. Received: film."),
        ({"report": "no mass"}, {"layer": "image"}, "expected a study with a film"),
        ({"report": "no mass"}, {"layer": "logits"}, "Unknown layer 'logits'"),
        ({"report": "no mass"}, {"sensitivity": 7}, "`sensitivity` must be in"),
    ],
)
def test_questions_without_an_answer(classifier, studies, one, options, message):
    with pytest.raises(InputError, match=message):
        classifier.explain_similarity(one, studies[0], **options)
