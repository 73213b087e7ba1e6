"""Films are read once, kept for later runs, and recognised by their bytes."""

import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import kmm.image.source
import kmm.training.cache.array_store
from kmm.batches import BatchMaker, TextPreparation, identify_films
from kmm.data.study import ImageFile, Report, Study
from kmm.errors import ImageError, InputError
from kmm.image.prepare import ImagePreparation
from kmm.image.read import decode_image
from kmm.text.vocabulary import Vocabulary
from kmm.training.cache.cache_folder import list_entries
from kmm.training.preparation.study_reading import open_films, read_studies


@pytest.fixture
def studies(tmp_path):
    """Four studies: both sides, a copy of the same film, a report alone, and a broken film."""
    gradient = np.tile(np.arange(40, dtype=np.uint8) * 6, (40, 1))
    for name in ("a.png", "b.png"):
        Image.fromarray(gradient).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    films = {name: (ImageFile(tmp_path / f"{name}.png", view="frontal"),) for name in ("a", "b", "broken")}
    report = Report(indication="Cough.", findings="No mass.")
    return [
        Study("1", "p1", films["a"], report, labels={"abnormal": 1.0}),
        Study("2", "p2", films["b"], None, labels={"abnormal": 0.0}),
        Study("3", "p3", (), report, labels={"abnormal": np.nan}),
        Study("4", "p4", films["broken"], report, labels={"abnormal": 0.0}),
    ]


@pytest.fixture
def maker():
    vocabulary = Vocabulary.fit([["cough", "no", "mass"]])
    text = TextPreparation(sections=("indication", "findings"), length=5)
    return BatchMaker(ImagePreparation(32, "stretch"), text, vocabulary=vocabulary, label_names=("abnormal",))


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded so far."""
    names = []

    def count(data, name):
        names.append(name)
        return decode_image(data, name)

    monkeypatch.setattr("kmm.image.source.decode_image", count)
    return names


def make_maker(maker, **preparation):
    return BatchMaker(
        replace(maker.image, **preparation), maker.text, vocabulary=maker.vocabulary, label_names=maker.label_names
    )


@pytest.mark.parametrize("rounding", ["uint8", "none"])
def test_columns_equal_a_batch(rounding, maker, studies, tmp_path):
    maker = make_maker(maker, rounding=rounding)
    read = read_studies(studies, maker, tmp_path / "cache")
    batch = maker.batch(studies[:3])
    np.testing.assert_array_equal(read.films[[0, 1, 2]], batch.image)
    np.testing.assert_array_equal(read.films[[2, 0]], batch.image[[2, 0]])
    assert read.films[[0]].dtype == np.float32 and read.films.stored == maker.image.dtype
    assert read.present.tolist() == [[1, 1], [1, 0], [0, 1]]
    assert [problem.source for problem in read.problems] == ["study 4"]
    assert read.film_digests[0] == read.film_digests[1] != "" == read.film_digests[2]
    np.testing.assert_array_equal(read.mean_image(range(3)), batch.image[:2].mean(axis=0))


def test_a_film_is_decoded_once_for_all_runs_and_identified_each_time(maker, studies, tmp_path, decoded):
    first = read_studies(studies[:3], maker, tmp_path / "cache")
    assert len(decoded) == 1  # its copy has the same bytes
    again = read_studies(studies[:3], maker, tmp_path / "cache")
    assert len(decoded) == 1
    assert again.studies == first.studies == tuple(identify_films(studies[:3])[0])
    assert (again.sketches, again.film_digests) == (first.sketches, first.film_digests) and first.sketches[0] > 0
    np.testing.assert_array_equal(again.films[range(3)], first.films[range(3)])
    read_studies(studies[:3], make_maker(maker, pixels=16), tmp_path / "cache")
    assert len(decoded) == 2  # of another size, they are other films


def test_the_size_of_a_film_is_kept_and_unknown_of_films_prepared_before(maker, studies, tmp_path):
    first = read_studies(studies[:3], maker, tmp_path / "cache")
    again = read_studies(studies[:3], maker, tmp_path / "cache")
    np.testing.assert_array_equal(first.film_sizes, maker.batch(studies[:3]).film_sizes)
    np.testing.assert_array_equal(again.film_sizes, first.film_sizes)
    old = open_films(tmp_path / "old", maker.image)
    digest = first.film_digests[0]
    store = open_films(tmp_path / "cache", maker.image)
    old.add(digest, store.column([digest])[[0]][0], store.facts(digest)[:2])
    old.flush()
    read = read_studies(studies[:3], maker, tmp_path / "old")
    assert not read.film_sizes.any() and read.studies == first.studies


def test_a_changed_file_is_another_film(maker, studies, tmp_path, decoded):
    first = read_studies(studies[:2], maker, tmp_path / "cache")
    path, kept = studies[0].frontal.path, studies[0].frontal.path.stat()
    Image.fromarray(np.tile(np.arange(40, dtype=np.uint8)[::-1] * 6, (40, 1))).save(path)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # the time alone does not tell
    again = read_studies(studies[:2], maker, tmp_path / "cache")
    assert decoded[-1] == str(path) and again.digest() != first.digest()
    np.testing.assert_array_equal(again.films[[0]][0], maker.pixels(studies[0])[0])
    np.testing.assert_array_equal(again.films[[1]], first.films[[1]])


def test_damaged_films_are_prepared_again(maker, studies, tmp_path, decoded):
    first = read_studies(studies[:2], maker, tmp_path / "cache")
    (shard,) = open_films(tmp_path / "cache", maker.image).folder.glob("*.zip")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1  # one bit of one film
    shard.write_bytes(data)
    again = read_studies(studies[:2], maker, tmp_path / "cache")
    assert len(decoded) == 2
    np.testing.assert_array_equal(again.films[[0, 1]], first.films[[0, 1]])


def prepare_slowly(studies, maker, cache):
    """Writes a shard for every two films, and never ends."""
    kmm.training.cache.array_store.SHARD_RECORDS = 2
    decode = kmm.image.source.decode_image

    def wait(data, name):
        time.sleep(0.2 if len(list(cache.glob("*/*.zip"))) < 2 else 60)
        return decode(data, name)

    kmm.image.source.decode_image = wait
    read_studies(studies, maker, cache)


@pytest.mark.large
def test_what_a_killed_run_prepared_is_not_decoded_again(maker, tmp_path, decoded):
    studies = []
    for number in range(80):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 20), np.uint8)).save(
            tmp_path / f"{number}.png"
        )
        studies.append(Study(str(number), str(number), (ImageFile(tmp_path / f"{number}.png", view="frontal"),)))
    child = multiprocessing.get_context("spawn").Process(
        target=prepare_slowly, args=(studies, maker, tmp_path / "cache")
    )
    child.start()
    end = time.monotonic() + 60
    while len(list((tmp_path / "cache").glob("*/*.zip"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    child.kill()
    child.join()
    kept = len(open_films(tmp_path / "cache", maker.image).places)
    assert 4 <= kept < 80 and child.exitcode == -signal.SIGKILL
    resumed = read_studies(studies, maker, tmp_path / "cache")
    assert len(decoded) == 80 - kept
    whole = read_studies(studies, maker, tmp_path / "whole")
    np.testing.assert_array_equal(np.asarray(resumed.films), np.asarray(whole.films))
    assert (resumed.studies, resumed.sketches) == (whole.studies, whole.sketches)


def test_copies_of_a_broken_film_are_each_named_with_their_file(maker, studies, tmp_path):
    shutil.copy(tmp_path / "broken.png", tmp_path / "copy.png")
    copy = replace(studies[3], id="5", images=(ImageFile(tmp_path / "copy.png", view="frontal"),))
    problems = read_studies([*studies[:3], studies[3], copy], maker, tmp_path / "cache").problems
    assert [problem.source for problem in problems] == ["study 4", "study 5"]
    assert "broken.png" in problems[0].reason and "copy.png" in problems[1].reason


def test_strict_stops_at_a_broken_study(maker, studies, tmp_path):
    with pytest.raises(ImageError, match=r"study 4: .*broken\.png"):
        read_studies(studies, maker, tmp_path / "cache", strict=True)


def test_a_study_with_neither_side_is_left_out(maker, tmp_path):
    read = read_studies([Study("5", "p5", (), Report(findings=" "))], maker, tmp_path / "cache")
    assert "neither" in read.problems[0].reason.lower() and not len(read.studies) and not len(read.films)
    assert not (tmp_path / "cache").exists()


def test_too_small_a_disk_is_said_before_anything_is_written(maker, studies, tmp_path, monkeypatch):
    free = 32 * 32 * 1.01
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free})())
    with pytest.raises(InputError, match="too little free disk space: prepared films need"):
        read_studies(studies[:2], maker, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    free *= 1.02  # one film of 8 bits: the two studies have the same
    assert len(read_studies(studies[:2], maker, tmp_path / "cache").films) == 2


def test_films_that_no_run_uses_make_room_for_new_ones(maker, studies, tmp_path, monkeypatch):
    monkeypatch.setenv("KMM_CACHE_GB", "1.5e-6")
    kept = read_studies(studies[:3], make_maker(maker, pixels=16), tmp_path)
    read_studies(studies[:3], make_maker(maker, pixels=17), tmp_path)
    read_studies(studies[:3], maker, tmp_path)
    assert [entry.path.name[:9] for entry in list_entries(tmp_path)] == ["films-16-", "films-32-"]
    assert kept.films[[0]].any()


def test_the_data_digest_sees_every_change(maker, studies, tmp_path):
    def digest(some):
        return read_studies(some, maker, tmp_path / "cache").digest()

    relabelled = Study("2", "p2", studies[1].images, None, labels={"abnormal": 1.0})
    assert digest(studies[:2]) == digest(list(studies[:2])) != digest([studies[0], relabelled])
