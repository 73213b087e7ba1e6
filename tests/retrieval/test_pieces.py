"""Pieces of a measurement: a stopped one goes on, has the numbers of one that was never stopped, and leaves nothing."""

from contextlib import contextmanager

import numpy as np
import pytest

from kmm.progress import Progress
from kmm.retrieval.index import Index
from kmm.retrieval.index_folder import LOCK, MEASURE, MEASURE_LOCK, check_place
from kmm.retrieval.measures import query_measures
from kmm.retrieval.measures.measurement import measure_index
from kmm.retrieval.measures.pieces import Pieces, keeping_pieces
from kmm.storage.file_lock import hold_file
from tests.factories.indexes import make_rows, write_index


class Counting(Progress):
    """Counts units of work; stops after some of them."""

    def __init__(self, stop_after=None):
        self.stop_after, self.count, self.starts, self.notes = stop_after, 0, [], []

    @contextmanager
    def step(self, title, total, done=0):
        self.starts.append((title, total, done))

        def advance(count=1, text=""):
            if self.count == self.stop_after:
                raise KeyboardInterrupt
            self.count += count

        yield advance

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Sixty studies, whose queries are measured eight at a time."""
    monkeypatch.setattr(query_measures, "SCORES_AT_ONCE", 8 * 60)
    random = np.random.default_rng(0)
    labels = (random.uniform(size=(60, 2)) < 0.4).astype(np.uint8)
    vectors = random.normal(size=(60, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = make_rows([f"{number:02d}" for number in range(60)], vectors, labels=labels, patterns=("both", "image"))
    return write_index(tmp_path / "index", [rows], labels=("mass", "cyst"))


def measure(index, progress=None, **options):
    with keeping_pieces(index.folder, progress) as pieces:
        return measure_index(index, k=3, repeats=5, progress=progress, pieces=pieces, **options)


def test_a_stopped_measurement_goes_on(index):
    whole = measure_index(index, k=3, repeats=5)
    with pytest.raises(KeyboardInterrupt):
        measure(index, Counting(stop_after=29))
    kept = sorted(path.name for path in (index.folder / MEASURE).iterdir())
    assert len(kept) == 3  # of eight queries each
    assert Index(index.folder).search("00", k=1)[0].hits  # the index answers meanwhile
    check_place(index.folder)  # and can be added to
    again = Counting()
    assert measure(index, again) == whole
    assert again.count == 120 - 24 and again.starts == [("Measuring", 120, 24)]
    assert not (index.folder / MEASURE).exists() and not (index.folder / MEASURE_LOCK).exists()


@pytest.mark.parametrize("changed", [{"rerank": 0.5}, {"relevant_from": 0.5}, {"queries": ["label=mass"]}, {"seed": 1}])
def test_only_what_decides_the_measures_of_queries_starts_them_again(index, changed):
    with pytest.raises(KeyboardInterrupt):
        measure(index, Counting(stop_after=29))
    again = Counting()
    found = measure(index, again, **changed)
    assert again.starts[0][2] == (24 if "seed" in changed else 0)
    assert found == measure_index(index, k=3, repeats=5, **changed)


def test_a_damaged_piece_is_made_again(index, tmp_path):
    pieces = Pieces(tmp_path).of("some", {"of": 1})
    made = [pieces.read_or_make(0, lambda: {"x": np.arange(3)})["x"].tolist() for _ in range(2)]
    assert made == [[0, 1, 2]] * 2 and pieces.has(0) and not pieces.has(1)
    (file,) = tmp_path.glob("some-*-0.npz")
    file.write_bytes(file.read_bytes()[:50])
    assert pieces.read_or_make(0, lambda: {"x": np.arange(2)})["x"].tolist() == [0, 1]
    assert pieces.read_or_make(0, lambda: pytest.fail("was kept"))["x"].tolist() == [0, 1]
    assert not Pieces(tmp_path).of("some", {"of": 2}).has(0)


def test_a_second_measurement_meanwhile_keeps_nothing(index):
    progress = Counting()
    with keeping_pieces(index.folder) as first, keeping_pieces(index.folder, progress) as second:
        assert first.folder == index.folder / MEASURE and second.folder is None
        assert second.read_or_make(0, lambda: {"x": np.zeros(1)})["x"].tolist() == [0] and not second.has(0)
    assert progress.notes == ["Another process measures this index. If this one is stopped, it starts again"]
    with hold_file(index.folder / LOCK):  # of an addition
        assert measure(index)["modes"]
