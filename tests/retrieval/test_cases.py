"""Pages of searches, and the test of explanations by removal, on an index of a few tiny studies."""

import json
import shutil

import numpy as np
import pytest

import kmm
from kmm.data.collection import read_collection
from kmm.errors import ArtefactError, InputError
from kmm.explain.settings import ExplainSettings
from kmm.retrieval.additions import build_index
from kmm.retrieval.cases.explainer import GONE, CaseExplainer, write_cases
from kmm.retrieval.cases.losses import measure_explained
from kmm.retrieval.measures.baselines import read_again
from kmm.retrieval.queries import QueryReader
from tests.factories.commands import run
from tests.factories.pages import check_page, find_section, parse, read_all, read_text
from tests.factories.studies import write_studies

FEW = ExplainSettings(steps=4)


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A folder of 8 studies, the last but one without a film, the last one without a report."""
    return write_studies(tmp_path_factory.mktemp("ward") / "studies", 8)


@pytest.fixture(scope="module")
def classifier(build_classifier):
    return build_classifier(labels=("abnormal",))


@pytest.fixture(scope="module")
def index(classifier, ward, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "ward"
    return build_index(classifier, read_collection(ward), folder, source=ward).index


@pytest.fixture(scope="module")
def cases(classifier, index):
    return CaseExplainer(classifier, index, FEW)


@pytest.fixture(scope="module")
def result(index):
    return index.search("1", k=3)[0]


@pytest.fixture(scope="module")
def found(cases, result):
    return cases.explain(result)


def test_the_page_shows_the_query_beside_each_hit(found, result):
    check_page(found.page)
    tree = parse(found.page)
    for hit in result.hits:
        titles = [read_text(title) for title in read_all(find_section(tree, f"case-{hit.rank}"), "h:h3")]
        assert titles == ["Query: 1", f"Case {hit.rank}: {hit.study}"]
        assert f"cosine {hit.cosine:.3g}" in read_text(find_section(tree, f"case-{hit.rank}"))
    said = read_text(tree)
    assert "Compared by film and report with the film and report of 6 studies" in said
    assert "Never found: the query itself." in said and "Findings of the query: abnormal." in said


def test_what_is_explained_is_what_was_searched(found, result):
    assert [one.other.study for one in found.similarities] == [hit.study for hit in result.hits]
    for one, hit in zip(found.similarities, result.hits):
        assert one.cosine == pytest.approx(hit.cosine, abs=1e-5)


@pytest.mark.parametrize(("pattern", "against"), [("image", "text"), ("text", "both")])
def test_what_is_explained_has_the_patterns_of_the_search(cases, index, pattern, against):
    result = index.search(index.query("2", pattern), k=2, against=against)[0]
    for one, hit in zip(cases.explain(result).similarities, result.hits, strict=True):
        assert one.cosine == pytest.approx(hit.cosine, abs=1e-5)
        assert (one.one.reads, one.other.reads) == (pattern, against)


def test_findings_are_known_labels_and_else_predictions(found, result):
    tree = parse(found.page)
    for hit in result.hits:
        told = [read_text(part) for part in read_all(find_section(tree, f"case-{hit.rank}"), "h:dd")]
        assert told[0] == ("abnormal" if hit.labels["abnormal"] else "none")
        assert told[1] == ("none" if hit.labels["abnormal"] else "abnormal")


def test_a_query_from_outside(cases, classifier, index, ward):
    study = read_collection(ward)[0].with_id("new")
    result = index.search(QueryReader(classifier, index).read(study), k=1, include=["body", "film"])[0]
    found = cases.explain(result)
    assert result.hits[0].study == "1" and found.similarities[0].cosine == pytest.approx(1, abs=1e-5)
    assert "Cases like new" in read_text(parse(found.page)) and "new" in repr(found)


@pytest.mark.large
def test_hits_that_are_gone_are_listed_with_the_reason(classifier, index, result, ward):
    studies = {study.id: study for study in read_collection(ward) if study.id != result.hits[0].study}
    found = CaseExplainer(classifier, index, FEW, studies).explain(result)
    check_page(found.page)
    assert [str(problem) for problem in found.problems] == [f"study {result.hits[0].study}: {GONE}"]
    assert GONE in read_text(find_section(parse(found.page), "case-1"))
    assert [one.other.study for one in found.similarities] == [hit.study for hit in result.hits[1:]]
    with pytest.raises(InputError, match=r"^study 1: it is no longer where it was"):
        CaseExplainer(classifier, index, FEW, {}).explain(result)


def test_another_classifier_is_refused(build_classifier, index):
    with pytest.raises(ArtefactError, match="was built with another classifier"):
        CaseExplainer(build_classifier(labels=("abnormal", "mass")), index, FEW)


def test_pages_are_written_under_the_name_of_their_query(found, tmp_path):
    (page,) = write_cases([found], tmp_path / "pages")
    assert page.name == "1.html" and page.read_text(encoding="utf-8") == found.page
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "1.html").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"1\.html"):
        write_cases([found], tmp_path / "own")


@pytest.mark.large
def test_losses_are_averaged_over_both_studies_of_each_pair(cases, index):
    studies = read_again(index)
    found = measure_explained(index, cases.explainer, studies, most=2, repeats=50)
    assert found == measure_explained(index, cases.explainer, studies, most=2, repeats=50)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["pairs"] == found["patients"] == 2 and found["pattern"] == "both" and found["set_aside"] == 0
    for name in ("both", "film", "words"):
        one = found[name]
        assert 0 < one["n"] <= 4 and 0 <= one["larger"] <= 1
        assert one["difference"] == pytest.approx(one["named"] - one["by_chance"], abs=1e-9)
        assert one["interval"][0] <= one["difference"] + 1e-9 and one["difference"] - 1e-9 <= one["interval"][1]
    with pytest.raises(InputError, match="has no study to explain"):
        measure_explained(index, cases.explainer, {}, most=2)


@pytest.mark.large
def test_the_public_object_explains_a_search(classifier, ward):
    similar = kmm.Classifier(classifier).index(read_collection(ward))
    result = similar.search(study="1", k=1)
    found = similar.explain(result, studies=read_collection(ward), steps=4, sensitivity=0.5)
    assert found.similarities[0].settings.regions.sensitivity == 0.5 and "sandbox" in found._repr_html_()
    assert np.isfinite(found.similarities[0].cosine)


@pytest.mark.large
def test_the_commands_write_pages_and_measure_explanations(classifier, ward, tmp_path):
    classifier.save(tmp_path / "model")
    folder = tmp_path / "ward"
    shutil.copytree(ward, folder)
    assert run("index", "build", tmp_path / "model", folder, "--out", tmp_path / "index").exit_code == 0
    options = ("--html", tmp_path / "pages", "--json", tmp_path / "found.json")
    result = run("index", "search", tmp_path / "index", "1", "2", "--k", 2, *options)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [page.rpartition("/")[2] for page in found["pages"]] == ["1.html", "2.html"]
    for page in found["pages"]:
        with open(page, encoding="utf-8") as file:
            check_page(file.read())
    measured = tmp_path / "measured.json"
    result = run("index", "measure", tmp_path / "index", "--explain", 2, "--no-baselines", "--json", measured)
    assert result.exit_code == 0, result.output
    assert json.loads(measured.read_text(encoding="utf-8"))["explained"]["pairs"] == 2
    result = run("index", "measure", tmp_path / "index", "--explain", 1, "--no-baselines")
    assert "Explanations of 1 pairs" in result.output and "named places" in result.output
