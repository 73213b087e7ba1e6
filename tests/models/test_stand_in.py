import keras
import numpy as np

from kmm.models.stand_in import StandIn
from tests.model_checks import to_numpy


def test_absent_rows_become_the_learned_vector_even_where_they_are_not_numbers():
    layer = StandIn(column=0)
    vector = np.array([[1.0, 2.0], [np.nan, np.inf], [3.0, 4.0]], "float32")
    present = np.array([[1, 0], [0, 1], [1, 1]], "float32")
    layer.build((None, 2), (None, 2))
    layer.set_weights([np.array([7.0, 8.0])])
    assert to_numpy(layer(vector, present)).tolist() == [[1, 2], [7, 8], [3, 4]]


def test_column_chooses_the_side():
    vector, present = np.ones((2, 3), "float32"), np.array([[1, 0], [0, 1]], "float32")
    assert to_numpy(StandIn(column=0)(vector, present)).sum(axis=1).tolist() == [3, 0]
    assert to_numpy(StandIn(column=1)(vector, present)).sum(axis=1).tolist() == [0, 3]


def test_survives_serialisation():
    layer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(StandIn(column=1, name="x")))
    assert (layer.column, layer.name) == (1, "x")
