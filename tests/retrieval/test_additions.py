"""Building an index and adding to it: what it keeps, what it refuses, what a killed process leaves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kmm.data.collection import read_collection
from kmm.data.study import Collection, ImageFile, Report, Study
from kmm.errors import ArtefactError, InputError
from kmm.retrieval.additions import add_studies, build_index
from kmm.retrieval.index import Index, open_index
from kmm.retrieval.index_folder import ADDITION, DESCRIPTION
from kmm.retrieval.layers import LayerReader, digest_model
from kmm.retrieval.queries import QueryReader


def collect(studies):
    return Collection(Path("nowhere"), "made in a test", tuple(studies))


def make_many(count, seed=0, first=0):
    """Studies of made-up films in memory and reports of a few words."""
    random = np.random.default_rng(seed)
    words = ("mass", "small", "effusion", "cyst", "no")
    made = []
    for number in range(first, first + count):
        film = ImageFile(Path(f"{number} (in memory)"), "frontal", memory=random.integers(0, 255, (40, 40), np.uint8))
        report = Report(findings=" ".join(random.choice(words, 4)) + f" {number}.")
        labels = dict(zip(("mass", "effusion", "cyst"), random.integers(0, 2, 3).astype(float).tolist()))
        made.append(Study(f"s{number}", f"p{number // 2}", (film,), report, labels=labels))
    return made


@pytest.fixture(scope="module")
def classifier(build_classifier):
    made = build_classifier()
    return replace(made, settings=replace(made.settings, labels="columns"))


@pytest.fixture(scope="module")
def many():
    return make_many(70)


def build(classifier, studies, folder, **options):
    return build_index(classifier, collect(studies), folder, **options)


@pytest.fixture(scope="module")
def built(classifier, many, tmp_path_factory):
    """An index of all studies, which no test changes."""
    return build(classifier, many, tmp_path_factory.mktemp("built") / "index").index


def read_all(index):
    """Everything that the shards of an index hold, apart from the salted hashes."""
    found = {name: index.read_texts(name) for name in ("id", "view", "part", "film")}
    for pattern in index.patterns:
        found[pattern] = index.read_vectors(pattern, range(len(index))).tolist()
        found[f"predicted {pattern}"] = index.predicted(pattern).tolist()
    return {**found, "labels": index.labels.tolist(), "present": index.present.tolist()}


def test_an_index_keeps_what_the_classifier_computes(classifier, many, built):
    index = built
    assert index.read_texts("id") == [study.id for study in many] and len(index) == 70
    features = LayerReader(classifier).read(classifier.batches.batch(many[:40]))
    for pattern, one in features.items():
        assert np.allclose(index.read_vectors(pattern, range(40)), one.vectors, atol=1e-6)
        assert np.allclose(index.read_predicted(pattern, range(40)), one.predicted, atol=1e-6)
    assert index.labels[:5].tolist() == [list(study.labels.values()) for study in many[:5]]
    assert index.find("s33") == 33 and index.find("s70") is None
    same = index.hashes[:, 0].reshape(35, 2)
    assert (same[:, 0] == same[:, 1]).all() and len(np.unique(index.hashes[:, 0])) == 35
    assert (index.hashes != 0).all() and len(np.unique(index.hashes[:, 2])) == 70


def test_the_salt_differs_between_indexes(classifier, many, built, tmp_path):
    other = build(classifier, many[:3], tmp_path / "other").index
    assert other.salt != built.salt and not (other.hashes == built.hashes[:3]).any()


def test_a_query_of_a_study_finds_what_its_own_row_would(classifier, many, built):
    index = built
    reader = QueryReader(classifier, index)
    for pattern in (None, "image", "text"):
        own, given = index.query("s7", pattern), reader.read(many[7], pattern=pattern)
        assert np.allclose(own.vector, given.vector, atol=1e-6) and own.pattern == given.pattern
        assert own.hashes.tolist() == given.hashes.tolist() and given.row is None
        one, other = index.search([own, given], k=6)
        assert np.allclose([hit.score for hit in one.hits], [hit.score for hit in other.hits], atol=1e-5)
        assert not {"s6", "s7"} & {hit.study for hit in other.hits}  # the same patient and the study itself
    twin = reader.read(replace(many[7], id="twin", patient="another"))  # the film and the report give it away
    assert "s7" not in {hit.study for hit in index.search(twin, k=70)[0].hits}
    found = index.search(twin, k=1, include=["film", "body"])[0].hits[0]
    assert found.study == "s7" and found.score == pytest.approx(1, abs=1e-5)


def test_a_film_is_compared_with_films_and_reports_if_asked(classifier, many, built):
    index = built
    query = QueryReader(classifier, index).read(replace(many[0], report=None))
    assert query.pattern == "image"
    crossed = index.search(query, k=70, against="text")[0]
    expected = index.read_vectors("text", range(70)) @ query.vector
    assert crossed.against == "text" and crossed.hits[0].score == pytest.approx(expected[2:].max(), abs=2e-6)


def test_adding_is_as_building_at_once(classifier, many, built, tmp_path):
    index = build(classifier, many[:32], tmp_path / "index").index
    shards = [shard.folder.stat().st_mtime_ns for shard in index.shards]
    added = add_studies(classifier, collect(many), tmp_path / "index")
    assert (added.added, added.known) == (38, 32)
    assert [shard.folder.stat().st_mtime_ns for shard in added.index.shards[: len(shards)]] == shards
    assert read_all(added.index) == read_all(built)
    assert len(index) == 32 and len(index.search("s3", k=40)[0].hits) == 30  # opened before: it answers as it was
    again = add_studies(classifier, collect(many), tmp_path / "index")
    assert (again.added, again.known) == (0, 70)


def test_another_classifier_is_refused(classifier, build_classifier, many, built):
    other = build_classifier(length=11)
    for use in (
        lambda: QueryReader(other, built),
        lambda: add_studies(other, collect(many[3:5]), built.folder),
        lambda: open_index(built.folder, model=digest_model(other)),
    ):
        with pytest.raises(ArtefactError, match="built with another classifier"):
            use()
    assert len(open_index(built.folder, model=digest_model(classifier))) == len(many)


def test_what_is_refused(classifier, many, tmp_path):
    build(classifier, many[:3], tmp_path / "index")
    with pytest.raises(InputError, match="already exists"):
        build(classifier, many[:3], tmp_path / "index")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "film.png").touch()
    with pytest.raises(InputError, match=r"film\.png"):
        build(classifier, many[:3], tmp_path / "films")
    with pytest.raises(InputError, match="occur twice"):
        build(classifier, [many[0], many[0]], tmp_path / "twice")
    stranger = replace(many[0], patient="stranger")
    with pytest.raises(InputError, match="other studies of the same ids"):
        add_studies(classifier, collect([stranger]), tmp_path / "index")
    with pytest.raises(InputError, match="All 1 were set aside"):
        build(classifier, [Study("empty", "empty")], tmp_path / "none")
    with pytest.raises(ArtefactError, match="not an index"):
        Index(tmp_path / "none")


def test_unusable_studies_are_set_aside_or_end_it(classifier, many, tmp_path):
    mixed = [*many[:3], Study("empty", "empty"), *many[3:5]]
    added = build(classifier, mixed, tmp_path / "index")
    assert added.added == 5 and [problem.source for problem in added.problems] == ["study empty"]
    with pytest.raises(InputError, match="study empty"):
        build(classifier, mixed, tmp_path / "strict", strict=True)


def test_parts_and_columns_are_filters(classifier, many, tmp_path):
    parts = {study.id: ("train", "test")[number % 2] for number, study in enumerate(many[:10])}
    columns = {"site": {"s1": "north", "s3": "south"}}
    index = build(classifier, many[:10], tmp_path / "index", parts=parts, columns=columns).index
    found = index.search("s0", k=10, filters=["part=test", "site=north|south"])[0]
    assert {hit.study for hit in found.hits} == {"s3"}  # s1 is of the same patient
    assert found.hits[0].columns == {"site": "south"} and found.hits[0].part == "test"
    with pytest.raises(InputError, match="no column 'ward'"):
        add_studies(classifier, collect(many[10:12]), tmp_path / "index", columns={"ward": {}})
    with pytest.raises(InputError, match="cannot be called"):
        build(classifier, many[:3], tmp_path / "other", columns={"view": {}})


def kill_after(monkeypatch, shards):
    """Ends the process, as far as a test can, when so many shards have been written."""
    from kmm.retrieval.index_folder import Addition

    write, count = Addition.write, []

    def write_some(self, *arguments):
        if len(count) == shards:
            raise KeyboardInterrupt
        count.append(1)
        write(self, *arguments)

    monkeypatch.setattr(Addition, "write", write_some)
    return count


@pytest.mark.large
def test_a_stopped_build_leaves_the_old_index_and_continues(classifier, many, built, tmp_path, monkeypatch):
    monkeypatch.setattr("kmm.retrieval.additions.STUDIES", 16)
    whole = read_all(built)
    old = build(classifier, many[:5], tmp_path / "index").index
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_after(patched, 1)
        build(classifier, many, tmp_path / "index", overwrite=True)
    assert (tmp_path / "index" / ADDITION).is_file()
    left = Index(tmp_path / "index")
    assert len(left) == 5 and left.description == old.description and left.search("s0", k=3)[0].hits
    count = kill_after(monkeypatch, 99)
    index = build(classifier, many, tmp_path / "index", overwrite=True).index
    assert read_all(index) == whole and len(count) == len(index.shards) - 1
    assert not (tmp_path / "index" / ADDITION).exists()
    assert len(list((tmp_path / "index" / "shards").iterdir())) == len(index.shards)  # nothing of the old one is left


@pytest.mark.large
def test_a_stopped_addition_leaves_the_old_index_and_continues(classifier, many, built, tmp_path, monkeypatch):
    monkeypatch.setattr("kmm.retrieval.additions.STUDIES", 16)
    build(classifier, many[:32], tmp_path / "index")
    before = read_all(Index(tmp_path / "index"))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_after(patched, 1)
        add_studies(classifier, collect(many), tmp_path / "index")
    assert read_all(Index(tmp_path / "index")) == before
    added = add_studies(classifier, collect(many), tmp_path / "index")
    assert (added.added, added.known) == (38, 32)
    assert read_all(added.index) == read_all(built)


@pytest.mark.large
def test_another_addition_starts_from_the_beginning(classifier, many, tmp_path, monkeypatch):
    monkeypatch.setattr("kmm.retrieval.additions.STUDIES", 16)
    build(classifier, many[:4], tmp_path / "index")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_after(patched, 1)
        add_studies(classifier, collect(many), tmp_path / "index")
    added = add_studies(classifier, collect(many[60:]), tmp_path / "index")
    assert added.index.read_texts("id") == [study.id for study in (*many[:4], *many[60:])]
    assert len(list((tmp_path / "index" / "shards").iterdir())) == len(added.index.shards)


def test_altered_and_damaged_files_are_refused(classifier, many, tmp_path):
    index = build(classifier, many[:5], tmp_path / "index").index
    path = tmp_path / "index" / DESCRIPTION
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace('"layer": "joint"', '"layer": "image"'), encoding="utf-8")
    with pytest.raises(ArtefactError, match="altered"):
        Index(tmp_path / "index")
    path.write_text(json.dumps({"format": "kmm-index-9"}), encoding="utf-8")
    with pytest.raises(ArtefactError, match="unknown format"):
        Index(tmp_path / "index")
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ArtefactError, match="not valid JSON"):
        Index(tmp_path / "index")
    path.write_text(content, encoding="utf-8")
    vectors = index.shards[0].folder / "vectors-both.npy"
    vectors.write_bytes(vectors.read_bytes()[:-4])
    with pytest.raises(ArtefactError, match="damaged"):
        Index(tmp_path / "index").search("s0")
    np.save(vectors, np.zeros((5, 3), np.float32))
    with pytest.raises(ArtefactError, match="does not fit"):
        Index(tmp_path / "index").search("s0")
    vectors.unlink()
    with pytest.raises(ArtefactError, match="missing"):
        Index(tmp_path / "index").search("s0")


def test_nothing_of_reports_films_or_patients_is_in_the_files(classifier, many, tmp_path):
    private = replace(many[0], patient="Zyxcanary", report=Report(findings="zyxcanary has a mass."))
    build(classifier, [private, *many[1:4]], tmp_path / "index")
    for path in (tmp_path / "index").rglob("*"):
        assert not path.is_file() or b"zyxcanary" not in path.read_bytes().lower(), path
        assert path.suffix in ("", ".json", ".npy")


def test_no_command_takes_an_index_for_studies(built):
    with pytest.raises(InputError, match="output folder of kmm"):
        read_collection(built.folder)
