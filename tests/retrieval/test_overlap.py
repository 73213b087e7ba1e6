"""Overlap of explanations: areas of circles and weights of words by their formulas, and what ranking by it does."""

import numpy as np
import pytest

from kmm.data.collection import read_collection
from kmm.errors import InputError
from kmm.explain.explainer import Explainer
from kmm.explain.regions.find import Region
from kmm.explain.settings import ExplainSettings
from kmm.explain.words import WordScore
from kmm.retrieval.additions import build_index
from kmm.retrieval.cases.naming import NamedStudies, NamingExplainer, hide_side
from kmm.retrieval.cases.reranking import rerank_results
from kmm.retrieval.measures.baselines import read_again
from kmm.retrieval.measures.measurement import measure_index
from kmm.retrieval.measures.overlap import (
    NOTHING,
    Named,
    blend_overlaps,
    list_tops,
    mark_places,
    measure_overlap,
    overlap_places,
    overlap_words,
    weigh_named,
)
from kmm.retrieval.measures.pieces import Pieces
from kmm.retrieval.measures.scorers import OverlapRanking
from kmm.retrieval.queries import QueryReader
from tests.factories.commands import run
from tests.factories.indexes import make_rows, write_index
from tests.factories.studies import write_studies

FEW = ExplainSettings(steps=4)


def circles(*regions, size=(400, 400)):
    return Named(mark_places([Region(*region, weight=1) for region in regions], size), NOTHING.words, NOTHING.weights)


def named_words(weights):
    keys = sorted(weights)
    values = np.array([weights[key] for key in keys], np.float64)
    return Named(NOTHING.places, np.array(keys, np.uint64), (values / values.sum()).astype(np.float32))


@pytest.mark.parametrize("apart", [0, 20, 60, 100, 139, 141])
def test_two_circles_overlap_by_the_area_of_their_lens(apart):
    radius = 70
    cosine = min(apart / (2 * radius), 1)
    lens = 2 * radius**2 * np.arccos(cosine) - apart / 2 * np.sqrt(max(4 * radius**2 - apart**2, 0))
    found = overlap_places(circles((120, 200, radius)), circles((120 + apart, 200, radius)))
    assert found == pytest.approx(lens / (2 * np.pi * radius**2 - lens), abs=0.004)


def test_a_circle_inside_another_and_several_circles():
    assert overlap_places(circles((200, 200, 50)), circles((200, 200, 100))) == pytest.approx(1 / 4, abs=0.004)
    two, one = circles((100, 200, 50), (300, 200, 50)), circles((100, 200, 50))
    assert overlap_places(two, one) == overlap_places(one, two) == pytest.approx(1 / 2, abs=1e-9)
    double = circles((100, 200, 50), (100, 200, 50))  # an area counts once
    assert overlap_places(double, one) == 1 and overlap_places(one, circles()) == overlap_places(NOTHING, NOTHING) == 0


def test_places_are_shares_of_the_film():
    small = circles((49.5, 49.5, 20), size=(100, 100))
    large = circles((199.5, 199.5, 80))
    assert overlap_places(small, large) == 1
    wide = circles((99.5, 49.5, 20), size=(100, 200))  # half as wide, in shares of its film
    assert overlap_places(small, wide) == pytest.approx(1 / 2, abs=0.01)


def test_words_overlap_by_their_weights():
    assert overlap_words(named_words({1: 1, 2: 1}), named_words({2: 1, 3: 1})) == pytest.approx(1 / 3)
    assert overlap_words(named_words({1: 1, 2: 1}), named_words({1: 5, 2: 5})) == pytest.approx(1)
    assert overlap_words(named_words({1: 1}), named_words({2: 1})) == overlap_words(NOTHING, NOTHING) == 0
    random = np.random.default_rng(0)
    for _ in range(20):
        one, other = (dict(zip(random.choice(9, 5, False).tolist(), random.uniform(0.1, 1, 5))) for _ in range(2))
        left, right = ({key: value / sum(one.values()) for key, value in one.items()} for one in (one, other))
        pairs = [(left.get(key, 0), right.get(key, 0)) for key in {*left, *right}]
        expected = sum(map(min, pairs)) / sum(map(max, pairs))
        first, second = named_words(one), named_words(other)
        assert overlap_words(first, second) == pytest.approx(expected, abs=1e-6)
        assert overlap_words(second, first) == pytest.approx(expected, abs=1e-6)


def test_the_overlap_of_a_study_is_the_mean_of_what_its_pattern_has():
    one, other = (
        Named(circles((200, 200, radius)).places, *weigh_named([word], b""))
        for radius, word in ((50, score("mass", 2)), (100, score("Mass", 1)))
    )
    places = overlap_places(one, other)
    assert measure_overlap(one, other, "image") == places and measure_overlap(one, other, "text") == 1
    assert measure_overlap(one, other, "both") == (places + 1) / 2


def score(text, signed, read=True):
    return WordScore(0, len(text), text, "findings", 0, 0.0, signed, read=read)


def test_only_words_that_were_read_and_count_for_the_label_are_named():
    words = [score("mass", 3), score("Mass", 1), score("clear", -2), score("cut", 5, read=False), score("lung", 4)]
    keys, weights = weigh_named(words, b"salt")
    assert len(keys) == 2 and weights.tolist() == [0.5, 0.5] and (np.diff(keys.astype(object)) > 0).all()
    assert not set(keys.tolist()) & set(weigh_named(words, b"pepper")[0].tolist())
    assert len(weigh_named([score("clear", -2)], b"salt")[0]) == 0


def test_the_first_studies_are_ranked_again_and_the_others_follow():
    scores = np.array([[0.9, 0.8, 0.7, 0.6, -0.9]])
    same, other = circles((200, 200, 50)), circles((50, 50, 20))
    named = {10: same, 0: other, 1: other, 2: same, 3: same, 4: same}
    tops = list_tops(scores, 3)
    blended = blend_overlaps(scores, tops, np.array([10]), np.arange(5), named, pattern="image", weight=0.5)[0]
    assert np.argsort(-blended).tolist() == [2, 0, 1, 3, 4]
    assert blended[:3].tolist() == pytest.approx([0.45, 0.4, 0.85])
    kept = blend_overlaps(scores, tops, np.array([10]), np.arange(5), named, pattern="image", weight=0)[0]
    assert np.argsort(-kept).tolist() == [0, 1, 2, 3, 4]


class FakeStudies:
    """Explanations whose circle is where the finding of a study says, or at random."""

    def __init__(self, labels, right=True):
        places = np.argmax(labels, axis=1) if right else np.random.default_rng(1).integers(3, size=len(labels))
        self.found = {row: circles((60 + 130 * int(place), 200, 50)) for row, place in enumerate(places)}
        self.asked, self.explained, self.set_aside = [], 0, 0

    def read(self, pattern, rows):
        self.asked.append((pattern, rows.tolist()))
        self.explained += len(rows)
        return {row: self.found[row] for row in rows.tolist()}


@pytest.fixture(scope="module")
def random_index(tmp_path_factory):
    random = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.uint8)[random.integers(3, size=90)]
    vectors = random.normal(size=(90, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids, patients = [f"{number:03d}" for number in range(90)], [f"p{number // 2}" for number in range(90)]
    more = {"labels": labels, "patterns": ("both", "image", "text"), "patients": patients}
    folder = tmp_path_factory.mktemp("overlap") / "index"
    return write_index(folder, [make_rows(ids, vectors, **more)], labels=("mass", "cyst", "effusion"))


def test_explanations_earn_their_place_where_they_are_right(random_index):
    labels = random_index.labels
    right = measure_index(random_index, k=5, repeats=100, overlap=OverlapRanking(FakeStudies(labels), 0.9, 30))
    wrong = measure_index(random_index, k=5, repeats=100, overlap=OverlapRanking(FakeStudies(labels, False), 0.9, 30))
    row = right["modes"][1]["rows"]["overlap"]["ndcg"]
    assert row["mean"] > 0.95 and row["gain_interval"][1] < 0
    low, high = wrong["modes"][1]["rows"]["overlap"]["ndcg"]["gain_interval"]
    assert low < 0 < high
    modes = {(mode["query"], mode["against"]): set(mode["rows"]) for mode in right["modes"]}
    assert all(("overlap" in rows) == (asked == found) for (asked, found), rows in modes.items())


def test_only_the_first_studies_of_each_query_are_explained(random_index):
    named = FakeStudies(random_index.labels)
    found = measure_index(random_index, k=3, queries=["study=004"], repeats=0, overlap=OverlapRanking(named, 0.5))
    assert [pattern for pattern, _ in named.asked] == ["both", "image", "text"]
    best = random_index.search("004", k=6)[0]  # the other study of the patient is never found
    assert sorted(named.asked[0][1]) == sorted([4, *(hit.row for hit in best.hits)])
    assert found["overlap"] == {"weight": 0.5, "depth": 6, "explained": 21, "set_aside": 0}


def test_without_weight_the_row_is_that_of_the_features(random_index):
    found = measure_index(random_index, k=4, repeats=20, overlap=OverlapRanking(FakeStudies(random_index.labels), 0.0))
    rows = found["modes"][0]["rows"]
    assert all(rows["overlap"][name]["gain"] == pytest.approx(0, abs=1e-12) for name in rows["cosine"])


@pytest.mark.parametrize("wrong", [{"weight": 1.1}, {"weight": -0.1}, {"depth": 0}, {"depth": True}])
def test_wrong_options(wrong):
    with pytest.raises(InputError, match=r"`(overlap|depth)` must be"):
        OverlapRanking(FakeStudies(np.eye(3)), **wrong)


@pytest.fixture(scope="module")
def ward(tmp_path_factory, build_classifier):
    """A classifier saved, a folder of 8 studies, and their index."""
    folder = tmp_path_factory.mktemp("ward")
    classifier = build_classifier(labels=("abnormal",))
    studies = write_studies(folder / "studies", 8)
    classifier.save(folder / "model")
    index = build_index(
        classifier, read_collection(studies), folder / "index", source=studies, model=folder / "model"
    ).index
    return classifier, index, read_again(index)


@pytest.mark.large
def test_what_is_named_is_what_the_explanation_shows(ward, tmp_path):
    classifier, index, studies = ward
    explainer = NamingExplainer(classifier, index, FEW)
    found = NamedStudies(index, explainer, studies, pieces=Pieces(tmp_path))
    rows = np.array([0, 1, 2, 3])
    for pattern in ("both", "image", "text"):
        named = found.read(pattern, rows)
        plain = Explainer(classifier, FEW).explain([hide_side(studies[index.read_texts("id", [0])[0]], pattern)])
        (expected,) = plain
        if pattern != "text":
            assert (named[0].places == mark_places(expected.regions, expected.film.shape)).all()
        assert named[0].words.tolist() == weigh_named(expected.words, index.salt)[0].tolist()
        assert bool(len(named[0].words)) == (pattern != "image") and (named[0].places.any() <= (pattern != "text"))
    assert found.explained == 12 and found.set_aside == 0
    assert not any(b"mass" in path.read_bytes() for path in tmp_path.iterdir())
    again = NamedStudies(index, explainer, studies, pieces=Pieces(tmp_path))
    again.explainer.name = None  # nothing is explained again
    for row, one in again.read("both", rows).items():
        other = found.read("both", rows)[row]
        assert all((getattr(one, name) == getattr(other, name)).all() for name in ("places", "words", "weights"))


def test_hits_are_ranked_by_score_and_overlap(ward):
    classifier, index, studies = ward
    explainer = NamingExplainer(classifier, index, FEW)
    before = index.search("1", k=5)
    (after,), problems = rerank_results(before, explainer, studies, weight=0.4, k=3)
    assert problems == [] and [hit.rank for hit in after.hits] == [1, 2, 3]
    scores = {hit.study: hit.score for hit in before[0].hits}
    for hit in after.hits:
        assert hit.score == pytest.approx(0.6 * scores[hit.study] + 0.4 * hit.overlap, abs=1e-5)
    assert [hit.score for hit in after.hits] == sorted((hit.score for hit in after.hits), reverse=True)
    gone = {id: study for id, study in studies.items() if id not in (before[0].hits[0].study,)}
    (less,), problems = rerank_results(before, explainer, gone, weight=0.4, k=5)
    assert len(problems) == 1 and [hit.overlap for hit in less.hits if hit.study not in gone] == [0.0]
    with pytest.raises(InputError, match="Give its files"):
        rerank_results(before, explainer, {}, weight=0.4, k=5)
    with pytest.raises(InputError, match="not image with text"):
        rerank_results(index.search(index.query("1", "image"), against="text"), explainer, studies, weight=0.4, k=5)
    query = QueryReader(classifier, index).read(studies["1"], region=(20, 20, 10))
    with pytest.raises(InputError, match="whole films"):
        rerank_results(index.search(query), explainer, studies, weight=0.4, k=5)


@pytest.mark.large
def test_commands_rank_again_by_explanations(ward):
    _, index, _ = ward
    found = run("index", "search", index.folder, "1", "--k", 2, "--overlap", 0.3, "--json", "-")
    assert found.exit_code == 0 and '"overlap": 0.3' in found.stdout, found.output
    words = ("index", "measure", index.folder, "--k", 2, "--repeats", 5, "--no-baselines")
    shown = run(*words, "--overlap", 0.3, "--depth", 3)
    assert shown.exit_code == 0 and "with explanations" in shown.stdout, shown.output
    assert "overlap: " in shown.stdout and "for 3 studies of each query" in shown.stdout
    assert "with explanations" not in run(*words).stdout
