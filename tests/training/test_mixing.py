"""Label smoothing and mixup: the numbers that a stage learns from."""

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.models.loss import MaskedCrossentropy
from kmm.settings import FitSettings
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.mixing import mix_studies, smooth_labels


def test_smoothing_moves_labels_towards_a_half_and_keeps_unknown_ones():
    labels = np.float32([[1, 0], [0.5, np.nan]])
    np.testing.assert_allclose(smooth_labels(labels, 0.2), [[0.9, 0.1], [0.5, np.nan]], rtol=1e-6)
    np.testing.assert_array_equal(smooth_labels(labels, 0.0), labels)
    assert smooth_labels(labels, 0.2).dtype == np.float32


def test_the_loss_on_smoothed_labels_is_that_of_both_classes_in_these_shares():
    """With smoothing s the loss is (1 - s / 2) times that of the label and s / 2 times that of the other one."""
    logits, labels = np.float32([[1.3], [-0.4], [2.0]]), np.float32([[1], [1], [0]])
    loss = MaskedCrossentropy(reduction="none")
    both = [np.asarray(loss(one, logits)) for one in (labels, 1 - labels, smooth_labels(labels, 0.1))]
    np.testing.assert_allclose(both[2], 0.95 * both[0] + 0.05 * both[1], rtol=1e-5)


def draw(count=40, seed=0):
    """Films, features and labels that are all the number of the study, so that a mixture shows whom it mixes."""
    numbers = np.arange(1, count + 1, dtype=np.float32)
    return {
        "image": np.broadcast_to(numbers[:, None, None, None], (count, 4, 4, 1)).copy(),
        "text_vector": numbers[:, None].repeat(3, axis=1),
        "present": np.ones((count, 2), np.float32),
    }, numbers[:, None]


def mix(inputs, labels, known=None, alpha=0.4, seed=0):
    return mix_studies(inputs, labels, len(labels) if known is None else known, alpha, np.random.default_rng(seed))


def test_a_study_is_mixed_with_another_one_with_its_label():
    inputs, labels = draw()
    mixed, soft = mix(inputs, labels)
    np.testing.assert_allclose(mixed["image"], np.broadcast_to(soft[:, :, None, None], (40, 4, 4, 1)), rtol=1e-6)
    np.testing.assert_allclose(mixed["text_vector"], soft.repeat(3, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(mixed["present"], inputs["present"])
    assert soft.min() >= 1 and soft.max() <= 40 and (soft != labels).mean() > 0.9
    assert mixed["image"].dtype == soft.dtype == np.float32
    np.testing.assert_array_equal(inputs["image"][:, 0, 0, 0], labels[:, 0])  # the batch itself does not change


def test_shares_have_the_moments_of_the_beta_distribution():
    """Studies of 0 and of 1: a mixture of both is the share of the study of 1. Beta(a, a) has mean 1/2 and variance
    1 / (4 (2 a + 1)); a mixture of two of the same class shows none."""
    count = 40_000
    labels = np.float32(np.random.default_rng(1).permutation(count) % 2)[:, None]
    for alpha in (0.2, 1.0, 3.0):
        mixed, soft = mix({"vector": labels}, labels, alpha=alpha)
        np.testing.assert_array_equal(mixed["vector"], soft)
        assert soft.mean() == pytest.approx(0.5, abs=0.01)
        # half of the pairs have one of each class; the other half is 0 or 1, of variance 1/4
        assert soft.var() == pytest.approx(0.5 * 0.25 + 0.5 / (4 * (2 * alpha + 1)), abs=0.005)


def test_an_unknown_label_makes_that_of_the_mixture_unknown():
    inputs, _ = draw(6)
    labels = np.float32([[1, 0], [np.nan, 1], [0, 0], [1, 1], [0, np.nan], [0, 1]])
    mixed, soft = mix(inputs, labels)
    shares = mixed["image"][:, 0, 0, 0]
    assert np.isfinite(shares).all()
    for number, label in enumerate(soft):
        others = [at for at in range(6) if at != number]
        matches = [
            at
            for at in others
            if min(at, number) < shares[number] - 1 < max(at, number)
            and np.array_equal(np.isnan(label), np.isnan(labels[at]) | np.isnan(labels[number]))
        ]
        assert matches
    assert np.isnan(soft).sum(axis=0).tolist() == [2, 2]  # each unknown label is in two mixtures


def test_only_studies_with_the_same_sides_are_mixed():
    inputs, labels = draw(12)
    patterns = np.float32([[1, 1]] * 6 + [[1, 0]] * 4 + [[0, 1]] + [[0, 0]])
    inputs["present"] = patterns
    mixed, soft = mix(inputs, labels)
    np.testing.assert_array_equal(mixed["present"], patterns)
    assert soft[:6].max() <= 6 and soft[6:10].min() >= 7 and soft[6:10].max() <= 10
    np.testing.assert_array_equal(soft[10:], labels[10:])  # alone with their sides


def test_what_fills_up_a_batch_is_mixed_with_nothing():
    inputs, labels = draw(8)
    labels[5:] = np.nan
    mixed, soft = mix(inputs, labels, known=5)
    assert np.isfinite(soft[:5]).all() and soft[:5].max() <= 5 and np.isnan(soft[5:]).all()
    np.testing.assert_array_equal(mixed["image"][5:], inputs["image"][5:])


def test_rows_of_a_sequence_count_if_they_count_in_one_of_both():
    masks = np.float32([[1, 1, 1, 0], [1, 0, 0, 0]])
    sequence = masks[..., None] * 2
    mixed, _ = mix({"text_sequence": sequence, "text_mask": masks}, np.float32([[0], [1]]))
    np.testing.assert_array_equal(mixed["text_mask"], np.float32([[1, 1, 1, 0]] * 2))
    np.testing.assert_allclose(mixed["text_sequence"][:, 0], 2, rtol=1e-6)


def test_a_batch_of_words_stays_as_it_is():
    inputs, labels = draw(8)
    inputs["token_ids"] = np.ones((8, 5), np.int32)
    mixed, soft = mix(inputs, labels)
    assert soft is labels and all(mixed[name] is column for name, column in inputs.items())


def dataset(seed=3, **options):
    inputs, labels = draw(21)
    labels = np.float32(labels % 2)
    return StudyDataset(inputs, labels, rows=np.arange(21), batch_size=8, seed=seed, **options)


def test_a_stage_reads_the_same_mixtures_in_each_run_and_others_in_each_epoch():
    first, second = dataset(mixup=0.4, label_smoothing=0.1), dataset(mixup=0.4, label_smoothing=0.1)
    found = []
    for epoch in (0, 1):
        for data in (first, second):
            data.start_epoch(epoch)
        for index in range(3):
            (inputs, labels, weights), (again, same, _) = first[index], second[index]
            np.testing.assert_array_equal(labels, same)
            np.testing.assert_array_equal(inputs["image"], again["image"])
            known = labels[weights > 0]
            assert ((known >= 0.05 - 1e-6) & (known <= 0.95 + 1e-6)).all() and np.isnan(labels[weights == 0]).all()
            found.append(inputs["image"][:, 0, 0, 0])
    assert not np.array_equal(found[0], found[3])


def test_validation_and_a_stage_without_these_settings_read_the_studies_themselves():
    plain = dataset(seed=None)
    for data in (dataset(seed=None, mixup=0.4, label_smoothing=0.1), plain):
        inputs, labels, _ = data[0]
        np.testing.assert_array_equal(inputs["image"][:, 0, 0, 0], np.arange(1, 9))
        assert set(labels[:, 0]) == {0.0, 1.0}
    assert set(dataset()[0][1][:, 0]) == {0.0, 1.0}


@pytest.mark.parametrize(("name", "value"), [("label_smoothing", -0.1), ("label_smoothing", 1.0), ("mixup", -1.0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"^Setting `{name}` must be"):
        FitSettings(**{name: value})
