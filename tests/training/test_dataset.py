"""The batches that a stage learns from: their order, what is dropped, and how a backend gets them."""

import keras
import numpy as np
import pytest

from kmm.image.augment import Augmentation
from kmm.text.vocabulary import UNKNOWN
from kmm.training.stages.dataset import StudyDataset, drop_modalities, drop_words


def dataset(seed=None, columns=None):
    generator = np.random.default_rng(1)
    columns = columns or {
        "image": generator.uniform(0, 255, (19, 8, 8, 1)).astype("float32"),
        "token_ids": generator.integers(2, 9, (19, 5)).astype("int32"),
        "present": np.ones((19, 2), "float32"),
    }
    labels = np.arange(19, dtype="float32")[:, None]
    return StudyDataset(
        columns, labels, rows=np.arange(19), batch_size=4, seed=seed, augmentation=Augmentation(),
        modality_dropout=0.2, word_dropout=0.2,
    )  # fmt: skip


def test_order_depends_on_seed_and_epoch_alone():
    first, second = dataset(3), dataset(3)
    first.start_epoch(5)
    second.start_epoch(2)
    assert not np.array_equal(first.order, second.order)
    second.start_epoch(5)
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_array_equal(np.sort(first.order), np.arange(19))
    np.testing.assert_array_equal(dataset().order, np.arange(19))


@pytest.mark.parametrize("seed", (None, 3))
def test_a_backend_gets_each_batch_of_the_epoch_that_begins(seed):
    data = dataset(seed)
    given = data.as_input()
    if keras.backend.backend() != "tensorflow":
        assert given is data
        return
    inputs, labels, weights = given.element_spec
    shapes = {"image": [4, 8, 8, 1], "token_ids": [4, 5], "present": [4, 2]}
    assert {name: spec.shape.as_list() for name, spec in inputs.items()} == shapes
    assert labels.shape.as_list() == [4, 1] and weights.shape.as_list() == [4]
    assert int(given.cardinality()) == len(data) == 5
    for epoch in (0, 4):
        data.start_epoch(epoch)
        batches = list(given.as_numpy_iterator())
        assert len(batches) == 5
        for (inputs, labels, weights), index in zip(batches, range(5)):
            expected, known, counted = data[index]
            assert set(inputs) == set(expected)
            for name, values in inputs.items():
                assert values.dtype == expected[name].dtype
                np.testing.assert_array_equal(values, expected[name])
            np.testing.assert_array_equal(labels, known)
            np.testing.assert_array_equal(weights, counted)


@pytest.mark.parametrize("size", (4, 7, 32))
def test_all_batches_have_one_shape_and_each_study_counts_once(size):
    data = dataset(3)
    data.batch_size, data.augmentation = size, None
    data.start_epoch(2)
    batches = [data[index] for index in range(len(data))]
    assert {len(column) for inputs, *rest in batches for column in (*inputs.values(), *rest)} == {size}
    labels, weights = (np.concatenate([batch[at] for batch in batches]) for at in (1, 2))
    assert labels[weights > 0, 0].tolist() == data.order.tolist()
    assert np.isnan(labels[weights == 0]).all() and set(weights) <= {0, 1}
    films = np.concatenate([batch[0]["image"] for batch in batches])
    filled = np.concatenate([data.order, np.resize(data.order, len(films) - 19)])
    np.testing.assert_array_equal(films, data.columns["image"][filled])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras reads the batches itself on other backends")
def test_autotuning_which_holds_up_epochs_is_off():
    assert dataset().as_input().options().autotune.enabled is False


class Failing:
    """A column of which the later rows cannot be read."""

    def __getitem__(self, rows):
        if max(rows) > 8:
            raise OSError(5, "the disk is gone")
        return np.zeros((len(rows), 3), "float32")


def test_a_batch_that_cannot_be_read_stops_the_training_and_says_why():
    x = keras.Input((3,), name="x")
    model = keras.Model({"x": x}, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(Exception, match="the disk is gone"):
        model.fit(dataset(columns={"x": Failing()}).as_input(), shuffle=False, verbose=0)


def test_dropping_modalities_hides_one_side_of_complete_studies_only():
    present = np.array([[1, 1]] * 4000 + [[1, 0], [0, 1]], "float32")
    dropped = drop_modalities(present, 0.2, np.random.default_rng(0))
    assert (dropped.sum(axis=1) >= 1).all()
    np.testing.assert_array_equal(dropped[-2:], present[-2:])
    np.testing.assert_allclose((dropped[:4000] == 0).mean(axis=0), 0.2, atol=0.03)
    assert present.min(axis=1)[:4000].all()


def test_a_share_of_the_words_becomes_unknown_and_padding_stays():
    ids = np.repeat(np.int32([[5, 6, 7, 8, 0, 0]]), 2000, axis=0)
    dropped = drop_words(ids, 0.3, np.random.default_rng(0))
    assert dropped.dtype == np.int32 and not dropped[:, 4:].any()
    changed = dropped[:, :4] != ids[:, :4]
    assert (dropped[:, :4][changed] == UNKNOWN).all() and abs(changed.mean() - 0.3) < 0.02  # 8,000 draws: sd 0.005
    assert np.array_equal(drop_words(ids, 0.0, np.random.default_rng(0)), ids)
