"""However many rows a call has, the model is given few at once, and the answer is the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kmm.export.graph import slices
from kmm.export.graph.slices import count_rows, wrap_slices
from kmm.export.write import export_classifier
from kmm.models.views.feature_view import view_joint
from tests.export.calls import WITHOUT, call


@pytest.mark.parametrize("count, sizes", [(1, [1]), (3, [3]), (4, [3, 1]), (8, [3, 3, 2])])
def test_rows_at_once(hand_made, monkeypatch, count, sizes):
    monkeypatch.setattr(slices, "MOST_AT_ONCE", 3)
    model, seen = view_joint(hand_made.models["joint"]), []

    def run(value):
        seen_size = tf.numpy_function(
            lambda size: seen.append(int(size)) or np.int32(size), [tf.shape(value)[0]], tf.int32
        )
        with tf.control_dependencies([seen_size]):
            return value[:, :3] * 2, value

    value = np.random.default_rng(0).normal(size=(count, 16)).astype(np.float32)
    logits, features = tf.function(wrap_slices(run, model), [tf.TensorSpec((None, 16))])(value)
    assert seen == sizes
    np.testing.assert_array_equal(features, value)
    np.testing.assert_array_equal(logits, value[:, :3] * 2)


def test_a_larger_model_gets_fewer_rows():
    found = []
    for side in (8, 256, 1024):
        image = keras.Input((side, side, 1))
        inner = keras.Model(image, keras.layers.Conv2D(16, 3, padding="same")(image))
        outer = keras.Input((side, side, 1))
        found.append(count_rows(keras.Model(outer, inner(outer))))
    assert found == [64, 16, 1]


@pytest.mark.large
def test_an_export_in_slices_says_the_same(saved, signatures, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "MOST_AT_ONCE", 3)
    found = tf.saved_model.load(str(export_classifier(saved, out=tmp_path, **WITHOUT))).signatures
    for name in ("serving_bytes", "embed"):
        few, all_at_once = (call(one, name, samples) for one in (found, signatures))
        for key, value in all_at_once.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(few[key], value, atol=1e-5)
