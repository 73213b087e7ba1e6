"""Exact search: equal to brute force under every filter, no forbidden neighbour, ties in the order of ids."""

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.retrieval.search import find_nearest
from tests.factories.indexes import make_rows, write_index


def draw_vectors(random, count, size=8):
    """Vectors of multiples of 1/4, whose products are exact in float32, so that many are tied."""
    return random.integers(-3, 4, (count, size)) / 4


def rank_by_force(vectors, ids, query, allowed, k):
    scores = vectors @ query
    order = sorted(np.flatnonzero(allowed), key=lambda row: (-scores[row], ids[row]))
    return [ids[row] for row in order[:k]]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    random = np.random.default_rng(0)
    count = 800
    ids = [f"s{number}" for number in random.permutation(count)]
    vectors = draw_vectors(random, count)
    labels = random.choice([0, 1, 255], (count, 3), p=[0.6, 0.3, 0.1])
    facts = {
        "part": random.choice(["train", "validation", "test"], count),
        "view": random.choice(["PA", "AP", "frontal"], count),
        "column-0": random.choice(["north", "south", "east", ""], count),
    }
    patients = [f"p{number}" for number in random.integers(0, 270, count)]
    bodies = [f"b{number}" if number < 300 else "" for number in random.integers(0, 600, count)]
    films = [f"f{number}" for number in random.integers(0, 700, count)]
    parts = []
    for low, high in ((0, 300), (300, 301), (301, 800)):
        cut = slice(low, high)
        more = {name: values[cut] for name, values in facts.items()}
        kinds = {"patients": patients[cut], "bodies": bodies[cut], "films": films[cut]}
        parts.append(make_rows(ids[cut], vectors[cut], labels=labels[cut], **kinds, **more))
    index = write_index(
        tmp_path_factory.mktemp("index") / "made-up", parts, labels=("mass", "cyst", "effusion"), columns=("site",)
    )
    known = {"patient": patients, "body": bodies, "film": films}
    return index, ids, vectors, labels, facts, known


def draw_filter(random, labels, facts):
    """A random filter and the rows that fulfil it."""
    kind = random.integers(4)
    if kind == 0:
        names = ("mass", "cyst", "effusion")
        chosen = random.choice(3, random.integers(1, 3), replace=False)
        text = "|".join(names[number] for number in chosen)
        if random.integers(2):
            return f"label={text}", (labels[:, chosen] == 1).any(axis=1)
        return f"label!={text}", (labels[:, chosen] == 0).all(axis=1)
    name = ("part", "view", "column-0")[kind - 1]
    values = random.choice(np.unique(facts[name]), random.integers(1, 3), replace=False)
    kept = np.isin(facts[name], values)
    negated = random.integers(2)
    text = f"{name.replace('column-0', 'site')}{'!=' if negated else '='}{'|'.join(values)}"
    return text, ~kept if negated else kept


def test_filtered_search_equals_brute_force_on_200_random_filters(stored):
    index, ids, vectors, labels, facts, known = stored
    random = np.random.default_rng(7)
    for number in range(200):
        filters, allowed = [], np.ones(len(ids), bool)
        for _ in range(random.integers(1, 4)):
            text, kept = draw_filter(random, labels, facts)
            filters.append(text)
            allowed &= kept
        row = int(random.integers(len(ids)))
        found = index.search(ids[row], k=12, filters=filters)[0]
        assert found.allowed == allowed.sum(), filters
        for names in known.values():
            if names[row]:
                allowed &= np.array([name != names[row] for name in names])
        allowed[row] = False
        expected = rank_by_force(vectors, ids, vectors[row], allowed, 12)
        assert [hit.study for hit in found.hits] == expected, (number, filters)


@pytest.mark.large
def test_no_forbidden_neighbour_in_10000_queries(stored):
    index, ids, _, _, _, known = stored
    places = {id: row for row, id in enumerate(ids)}
    random = np.random.default_rng(8)
    wrong = 0
    for start in range(0, 10_000, 500):
        rows = (np.arange(start, start + 500) % len(ids)).tolist()
        filters = [] if start % 1000 else [f"part={random.choice(['train', 'test'])}"]
        for row, result in zip(rows, index.search([ids[row] for row in rows], k=5, filters=filters), strict=True):
            hits = [places[hit.study] for hit in result.hits]
            wrong += row in hits
            wrong += sum(names[hit] == names[row] != "" for hit in hits for names in known.values())
            assert len(hits) == 5
    assert wrong == 0


def test_exclusions_can_be_lifted_one_by_one(stored):
    index, ids, _, _, _, known = stored
    patients = known["patient"]
    row = next(row for row, name in enumerate(patients) if patients.count(name) > 2)
    same = {id for id, name in zip(ids, patients, strict=True) if name == patients[row]} - {ids[row]}
    plain = index.search(ids[row], k=len(ids))[0]
    assert plain.excluded["patient"] == len(same) and plain.excluded["self"] == 1  # counted for each reason
    assert not same & {hit.study for hit in plain.hits}
    lifted = {hit.study for hit in index.search(ids[row], k=len(ids), include=["patient"])[0].hits}
    others = {
        id
        for kind in ("body", "film")
        for id, name in zip(ids, known[kind], strict=True)
        if name == known[kind][row] != ""
    }
    assert same - others <= lifted and ids[row] not in lifted
    assert ids[row] in {hit.study for hit in index.search(ids[row], k=len(ids), include=["self"])[0].hits}


def test_ties_are_in_the_order_of_ids_wherever_the_rows_are(tmp_path):
    vectors = np.tile([[0.5, 0.5]], (9, 1))
    ids = list("hcagbeidf")
    parts = [make_rows(ids[low:high], vectors[low:high]) for low, high in ((0, 4), (4, 9))]
    index = write_index(tmp_path / "index", parts)
    assert [hit.study for hit in index.search("e", k=4)[0].hits] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("count", [1, 7, 4096])
def test_equal_vectors_are_tied_whatever_the_order_of_the_sums(count):
    """Sums of a product may differ in their last bits by the place of a row in a block."""
    random = np.random.default_rng(count)
    one = random.normal(size=(1, 333)).astype(np.float32)
    vectors = np.repeat(one / np.linalg.norm(one), count, axis=0)
    vectors = np.concatenate([vectors, -vectors])
    found = find_nearest(vectors[:1], lambda: [(0, vectors)], len(vectors), 5, read_ids=lambda rows: -rows)[0]
    assert found.rows[: min(count, 5)].tolist() == list(range(count - 1, max(count - 6, -1), -1))


def test_blocks_and_few_scores_at_a_time_change_nothing(monkeypatch):
    random = np.random.default_rng(3)
    vectors, queries = draw_vectors(random, 900).astype(np.float32), draw_vectors(random, 40).astype(np.float32)
    allowed = np.flatnonzero(random.uniform(size=900) < 0.3)
    whole = find_nearest(queries, lambda: [(0, vectors)], 900, 6, allowed=allowed)
    monkeypatch.setattr("kmm.retrieval.search.MOST_SCORES", 1000)
    blocks = [(start, vectors[start : start + 77]) for start in range(0, 900, 77)]
    cut = find_nearest(queries, lambda: blocks, 900, 6, allowed=allowed)
    for one, other in zip(whole, cut, strict=True):
        assert one.rows.tolist() == other.rows.tolist() and one.scores.tolist() == other.scores.tolist()


def test_fewer_allowed_studies_than_asked_for(stored):
    index, ids, *_ = stored
    found = index.search(ids[0], k=5, filters=[f"study={ids[1]}|{ids[2]}|{ids[0]}"])[0]
    assert found.allowed == 3 and len(found.hits) <= 2 and [hit.rank for hit in found.hits] == [1, 2][: len(found.hits)]
    assert index.search(ids[0], filters=["part=nowhere"])[0].hits == ()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, "`k`"),
        ({"rerank": 2}, "`rerank`"),
        ({"include": ["twin"]}, "`include`"),
        ({"against": "text"}, "`against`"),
        ({"filters": ["part"]}, "NAME=VALUE"),
        ({"filters": ["nothing=1"]}, "name in a filter"),
        ({"filters": ["label=nothing"]}, "label"),
    ],
)
def test_wrong_arguments_are_refused(stored, options, says):
    index, ids, *_ = stored
    with pytest.raises(InputError, match=says):
        index.search(ids[0], **options)
    with pytest.raises(InputError, match="no study"):
        index.search("nobody")
