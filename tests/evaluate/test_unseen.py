"""`predict_unseen`: one pass over the films, with exactly the numbers of comparing first and predicting afterwards."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import kmm.image.source
from kmm.data.collection import read_collection
from kmm.data.labels import label_studies
from kmm.data.study import ImageFile
from kmm.errors import ImageError, InputError
from kmm.evaluate.linear_baselines import list_measured
from kmm.evaluate.report import evaluate_predictions, evaluate_studies
from kmm.evaluate.seen import part_studies
from kmm.evaluate.unseen import predict_unseen


@pytest.fixture
def studies(tiny_folder):
    return list(read_collection(tiny_folder).studies)


@pytest.fixture
def decoded(monkeypatch):
    """Counts how often each file is decoded, by its path."""
    counts, decode = Counter(), kmm.image.source.decode_image

    def count(data, name):
        counts[name] += 1
        return decode(data, name)

    monkeypatch.setattr("kmm.image.source.decode_image", count)
    return counts


@pytest.fixture(params=[False, True], ids=["here", "in threads"])
def threads(request, monkeypatch):
    if request.param:
        monkeypatch.setattr("kmm.image.decoding.LARGE_BYTES", 1)
        monkeypatch.setattr("kmm.image.decoding.count_threads", lambda: 3)


def test_each_film_is_decoded_once_and_one_of_training_not_at_all(loaded, studies, decoded, threads, tmp_path):
    parts = part_studies(loaded, studies)
    decoded.clear()
    (tmp_path / "cut.png").write_bytes(parts["test"][0].frontal.path.read_bytes()[:70])
    cut = replace(parts["test"][0], id="cut", images=(ImageFile(tmp_path / "cut.png", view="frontal"),))
    predictions = predict_unseen(loaded, [*studies[:5], cut, *studies[5:]])
    films = [study.frontal.path for study in [*parts["validation"], *parts["test"], cut] if study.images]
    assert decoded == {str(path): 1 for path in films}
    assert [problem.source for problem in predictions["test"].problems] == ["study cut"]


@pytest.mark.large
def test_one_pass_gives_exactly_the_numbers_of_two(loaded, studies, threads):
    labelled, _ = label_studies(studies, loaded.settings.labels, names=loaded.label_names)
    one = predict_unseen(loaded, studies)
    results, problems = evaluate_studies(loaded, studies)
    parts = part_studies(loaded, labelled)
    assert set(one) == set(results) == {"validation", "test"} and not problems
    for part, found in one.items():
        two = loaded.predict(parts[part], parts=list_measured(loaded))
        assert found.studies == two.studies
        for mine, theirs in ((found.present, two.present), (found.labels, two.labels)):
            np.testing.assert_array_equal(mine, theirs)
        for side, logits in two.logits.items():
            np.testing.assert_array_equal(found.logits[side], logits)
        measured = evaluate_predictions(loaded, two, repeats=loaded.settings.bootstrap_repeats)
        assert {name: results[part][name] for name in measured} == measured


def test_studies_of_one_id_are_refused_before_anything_is_read(loaded, studies, decoded):
    other = replace(studies[0], patient="someone else", report=studies[1].report)
    with pytest.raises(InputError, match=rf"Received more than once: {studies[0].id}\. Rename them"):
        evaluate_studies(loaded, [*studies, other])
    assert not decoded


def test_full_batches_of_two_parts_are_those_of_each_part(loaded, studies, monkeypatch):
    sizes = []
    parts = part_studies(loaded, studies)
    many = [replace(study, id=f"{study.id}-{n}") for n in range(12) for study in (*parts["validation"], *parts["test"])]
    prepare = loaded._shared.prepare

    def spy(models):
        run = prepare(models)
        return lambda inputs: sizes.append(len(inputs["present"])) or run(inputs)

    monkeypatch.setattr(loaded._shared, "prepare", spy)
    one = predict_unseen(loaded, many)
    chosen = part_studies(loaded, many)
    counts = [len(chosen[part]) for part in one]
    assert sorted(set(sizes)) == [32] and len(sizes) == sum(-(-count // 32) for count in counts) and max(counts) > 64
    for part in one:
        np.testing.assert_array_equal(one[part].logits["joint"], loaded.predict(chosen[part]).logits["joint"])


def test_without_fingerprints_every_film_is_predicted_and_decoded_once(loaded, studies, decoded):
    found = predict_unseen(replace(loaded, seen={}), studies)
    assert list(found) == ["test"] and len(found["test"].studies) == len(studies)
    assert decoded == {str(study.frontal.path): 1 for study in studies if study.images}


def test_a_strict_pass_ends_at_the_first_film_that_cannot_be_used(loaded, studies, tmp_path):
    (tmp_path / "cut.png").write_bytes(b"nothing")
    bad = replace(studies[0], id="bad", images=(ImageFile(tmp_path / "cut.png", view="frontal"),), report=None)
    with pytest.raises(ImageError, match=r"^study bad: .*cut\.png"):
        predict_unseen(loaded, [*studies, bad], strict=True)
