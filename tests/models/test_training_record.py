"""The record in a file of weights: it comes back as it was, does not disturb the weights, and damage is refused."""

import h5py
import keras
import numpy as np
import pytest

from kmm.errors import WeightsError
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.weights.checkpoints import load_image_weights, weights_digest
from kmm.models.weights.training_record import GROUP, TrainingRecord, read_record, write_record
from kmm.storage.seen_studies import SeenStudies

SEEN = {
    "train": SeenStudies.gather({3, 2**64 - 1}, {(5, 7), (5, 9)}),
    "validation": SeenStudies.gather(set(), set()),
}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "small.weights.h5"
    encoder = build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=32)
    encoder.save_weights(path)
    write_record(path, TrainingRecord({"objective": "distill", "headings": ["Kardiomegalie ü"] * 9000}, SEEN))
    return path, weights_digest(encoder)


def test_it_comes_back_beside_the_weights(weights):
    path, digest = weights
    record = read_record(path)
    assert record.facts == {"objective": "distill", "headings": ["Kardiomegalie ü"] * 9000}
    assert record.seen["train"].holds({3}) and record.seen["train"].holds_record(5, sketch=9)
    assert not record.seen["validation"].holds({3}) and repr(record) == "TrainingRecord(distill, train, validation)"
    other = build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=32)
    report = load_image_weights(other, "small-cnn", path)
    assert weights_digest(other) == digest and report.extra == ()
    keras.utils.set_random_seed(9)
    third = build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=32)
    third.load_weights(path)
    assert weights_digest(third) == digest


def test_other_files_have_none(tmp_path):
    path = tmp_path / "plain.weights.h5"
    build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=32).save_weights(path)
    (tmp_path / "x.pth").write_bytes(b"PK")
    assert read_record(path) is None and read_record(tmp_path / "x.pth") is None and read_record(tmp_path) is None


def spoil_type(group):
    del group["train_prints"]
    group["train_prints"] = np.zeros(3, np.int32)


def spoil_shape(group):
    del group["train_records"]
    group["train_records"] = np.zeros((3, 3), np.uint64)


def spoil_text(group):
    del group["facts"]
    group["facts"] = np.frombuffer(b"{", np.uint8)


def spoil_kind(group):
    del group["facts"]
    group["facts"] = np.frombuffer(b"[]", np.uint8)


def lose_facts(group):
    del group["facts"]


def lose_records(group):
    del group["validation_records"]


def link_outside(group):
    del group["train_prints"]
    group["train_prints"] = h5py.ExternalLink("/etc/hostname", "/x")


@pytest.mark.parametrize(
    "spoil", [spoil_type, spoil_shape, spoil_text, spoil_kind, lose_facts, lose_records, link_outside]
)
def test_a_damaged_record_is_refused(weights, spoil):
    path, _ = weights
    with h5py.File(path, "r+") as file:
        spoil(file[GROUP])
    with pytest.raises(WeightsError, match=r"small\.weights\.h5: the record of its training is damaged"):
        read_record(path)
