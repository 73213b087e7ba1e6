"""`kmm index`: build, add, search by id and by film, measure."""

import json

import pytest

from kmm.retrieval.index import Index
from tests.factories.classifiers import build_classifier
from tests.factories.commands import refuse, run
from tests.factories.studies import write_studies


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a classifier, 40 studies, and their index."""
    folder = tmp_path_factory.mktemp("index")
    build_classifier().save(folder / "model")
    write_studies(folder / "studies", count=40)
    result = run(*build(folder), "--json", folder / "built.json")
    assert result.exit_code == 0, result.output
    return folder


def build(folder, *options):
    words = ("--labels", "findings", "--label-min-count", 5)
    return "index", "build", folder / "model", folder / "studies", "--out", folder / "made.index", *words, *options


def ask(*words):
    result = run("index", *words, "--json", "-")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_an_index_is_built_and_described(place):
    built = json.loads((place / "built.json").read_text(encoding="utf-8"))
    assert built["studies"] == built["added"] == 40 and built["set_aside"] == []
    assert built["labels"] == ["Mass"] and built["patterns"] == ["both", "image", "text"]
    assert built["model"] == str(place / "model")
    index = Index(place / "made.index")
    assert index.labels[:, 0].tolist() == [float(uid % 2) for uid in range(1, 41)]
    assert index.present.sum(axis=0).tolist() == [39, 39]  # one has no film, one no report
    refuse(*build(place), says=["already exists", "--overwrite"])


def test_studies_like_one_of_the_index_need_no_classifier(place, monkeypatch):
    monkeypatch.setattr("kmm.classifier.Classifier.load", None)
    (found,) = ask("search", place / "made.index", "3", "--k", 4, "--filter", "label=Mass")["results"]
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4] and found["excluded"]["self"] == 1
    assert all(hit["labels"] == {"Mass": 1.0} and hit["study"] != "3" for hit in found["hits"])
    assert found["hits"][0]["source"] == str(place / "studies")
    shown = run("index", "search", place / "made.index", "3", "4", "--k", 2).stdout
    assert (
        "3: film and report against film and report, 38 studies; left out: self 1" in shown and shown.count("Mass") > 0
    )


def test_studies_like_a_film_and_its_report(place, tmp_path):
    (tmp_path / "report.txt").write_text("There is a mass.", encoding="utf-8")
    film = place / "studies" / "images" / "7.png"
    words = ("search", place / "made.index", film, "--report", tmp_path / "report.txt")
    found = ask(*words, "--k", 40)["results"][0]
    assert found["pattern"] == "both" and found["excluded"]["film"] == 1
    assert "7" not in {hit["study"] for hit in found["hits"]}  # the same film in the index
    assert ask(*words, "--k", 40, "--include", "film")["results"][0]["excluded"] == {}
    alone = ask("search", place / "made.index", "--report", tmp_path / "report.txt", "--against", "image")["results"][0]
    assert (alone["pattern"], alone["against"], alone["query"]) == ("text", "image", "report")
    region = ask("search", place / "made.index", film, "--region", "24,24,10", "--k", 2)["results"][0]
    assert region["pattern"] == "image" and len(region["hits"]) == 2


def test_the_same_studies_are_not_added_twice(place):
    added = ask("add", place / "made.index", place / "studies")
    assert (added["added"], added["known"], added["studies"]) == (0, 40, 40)


def test_what_an_index_finds_is_measured(place):
    words = ("measure", place / "made.index", "--k", 5, "--repeats", 20)
    found = ask(*words)
    assert [(mode["query"], mode["against"]) for mode in found["modes"]][:2] == [("both", "both"), ("image", "image")]
    assert set(found["modes"][0]["rows"]) == {"cosine", "reranked", "tfidf", "film", "oracle", "chance"}
    shown = run("index", *words, "--no-baselines")
    assert shown.exit_code == 0 and "film and report against film and report" in shown.stdout
    for name in ("oracle", "chance", "lift of nDCG", "P@5", "no finding", "without a relevant study"):
        assert name in shown.stdout
    assert "TF-IDF" not in shown.stdout


def test_wrong_arguments(place, tmp_path):
    index = place / "made.index"
    refuse("index", "search", tmp_path, "1", says="not an index")
    refuse("index", "search", index, "nobody", says="nobody")
    refuse("index", "search", index, "1", "--patient", "2", says="--patient")
    refuse("index", "search", index, "1", "--filter", "ward=3", says="name in a filter")
    refuse("index", "search", index, "1", "--pattern", "both", "--against", "sound", says="against")
    refuse("index", "search", index, place / "studies" / "images" / "1.png", "--model", tmp_path / "no", says="--model")
    refuse("index", "measure", index, "--queries", "part=nowhere", says="queries")
    assert run("index", "search", index).exit_code == 2
    assert "three numbers" in run("index", "search", index, "1", "--region", "1,2").stderr


def test_a_filter_by_a_column_of_a_table(place, tmp_path):
    (tmp_path / "sites.csv").write_text("id,site\n1,north\n2,south\n3,north\n", encoding="utf-8")
    out = ("--out", tmp_path / "index", "--columns", "site", "--table", tmp_path / "sites.csv")
    result = run(
        "index", "build", place / "model", place / "studies", *out, "--labels", "findings", "--label-min-count", 5
    )
    assert result.exit_code == 0 and "columns: site" in result.stdout
    (found,) = ask("search", tmp_path / "index", "1", "--filter", "site=north")["results"]
    assert [hit["study"] for hit in found["hits"]] == ["3"] and found["hits"][0]["columns"] == {"site": "north"}
    refuse(
        *("index", "build", place / "model", place / "studies", "--out", tmp_path / "other", "--columns", "ward"),
        says="no manifest",
    )
