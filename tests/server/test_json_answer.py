"""Arrays become JSON with every digit that they need, and in little room."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kmm.server.rest.json_answer import BLOCK, format_outputs


def write(outputs, *, rows):
    return json.loads("".join(format_outputs(outputs, rows=rows)))


SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)


@given(arrays.arrays(np.float32, SHAPES), arrays.arrays(np.float64, SHAPES))
def test_no_number_is_changed(short, long):
    for array in (short, long):
        for rows in (True, False):
            (found,) = write({"x": array}, rows=rows).values()
            np.testing.assert_array_equal(np.array(found, array.dtype).reshape(array.shape), array)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_of_32_bits_has_no_more_digits_than_it_needs(value):
    text = "".join(format_outputs({"x": np.array([value], np.float32)}, rows=True))
    assert json.loads(text) == {"predictions": [float(str(np.float32(value)))]}


def make(count):
    """Outputs of every kind, a row of which is small."""
    generator = np.random.default_rng(count)
    return {
        "scores": generator.normal(size=(count, 3)).astype(np.float32),
        "none": np.zeros((count, 0, 2), np.float32),
        "ids": generator.integers(-9, 9, (count, 2, 2), np.int32),
        "decisions": generator.integers(0, 2, count).astype(bool),
        "names": np.array([["a, \u00e4".encode(), b'"]']] * count, object).reshape(count, 2),
        "film_bytes": np.array([b"\xff\x00"] * count, object),
    }


@pytest.mark.parametrize("count", [0, 1, 5, 3 * BLOCK // 8 + 1])
def test_rows_and_columns_hold_what_the_arrays_hold(count):
    outputs = make(count)
    columns = {name: array.tolist() for name, array in outputs.items()}
    columns["scores"] = [[float(str(value)) for value in row] for row in outputs["scores"]]
    columns["names"] = [["a, \u00e4", '"]']] * count
    columns["film_bytes"] = [{"b64": "/wA="}] * count
    assert write(outputs, rows=False) == {"outputs": columns}
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    assert write(outputs, rows=True) == {"predictions": rows}


def test_large_rows_and_numbers_alone():
    maps = np.arange(2 * 2 * BLOCK * 3, dtype=np.float32).reshape(2, 2, BLOCK, 3)
    found = write({"map": maps, "score": maps[:, 0, 0, 0]}, rows=True)["predictions"]
    assert found == [{"map": map.tolist(), "score": map[0, 0, 0]} for map in maps]
    assert write({"x": np.float32(0.1) * np.ones((), np.float32)}, rows=False) == {"outputs": 0.1}
    assert write({"x": np.array(b"a", object), "y": np.array(3)}, rows=False) == {"outputs": {"x": "a", "y": 3}}


@pytest.mark.large
def test_a_large_answer_is_written_in_little_room():
    maps = np.random.default_rng(0).normal(size=(4, 300, 300)).astype(np.float32)
    outputs = {"map": maps, "score": maps[:, 0, 0]}
    tracemalloc.start()
    for _ in format_outputs(outputs, rows=True):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**22  # 360 000 numbers; as Python's own they took 100 MB
