"""Tensor messages against TensorFlow's own reader and writer, in both encodings; and malformed ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kmm.errors import InputError
from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import TENSOR_TYPES, decode_tensor, encode_tensor

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMBERS = st.sampled_from(["bool", "int32", "int64", "float32", "float64"]).flatmap(
    lambda name: hnp.arrays(name, SHAPES)
)
STRINGS = hnp.arrays(object, SHAPES, elements=st.binary(max_size=6))


@pytest.fixture(scope="module")
def tf():
    import tensorflow

    return tensorflow


def equal(one, other):
    if one.dtype == object:
        return one.shape == other.shape and one.tolist() == other.tolist()
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


@settings(max_examples=150)
@given(array=st.one_of(NUMBERS, STRINGS), as_content=st.booleans())
def test_what_is_written_is_read_here_and_by_tensorflow(tf, array, as_content):
    proto = encode_tensor(array, as_content=as_content)
    assert equal(decode_tensor(proto), array)
    if array.size or as_content or array.dtype == object:
        assert equal(tf.make_ndarray(proto).astype(array.dtype), array)


@settings(max_examples=100)
@given(array=st.one_of(NUMBERS, STRINGS))
def test_what_tensorflow_writes_is_read_here(tf, array):
    assert equal(decode_tensor(tf.make_tensor_proto(array)), array)


@settings(max_examples=100)
@given(array=NUMBERS.filter(lambda array: array.size > 0), kept=st.integers(1, 8))
def test_the_last_of_a_short_list_repeats(tf, array, kept):
    proto = encode_tensor(array, as_content=False)
    values = getattr(proto, TENSOR_TYPES[array.dtype.name].values)
    del values[min(kept, array.size) :]
    expected = array.ravel().copy()
    expected[kept:] = expected[min(kept, array.size) - 1]
    assert equal(decode_tensor(proto), expected.reshape(array.shape))
    assert equal(tf.make_ndarray(proto), expected.reshape(array.shape))


@given(strings=st.lists(st.binary(max_size=300), max_size=5))
def test_strings_packed_as_content(strings):
    """As TensorFlow Serving writes them with --enable_serialization_as_tensor_content."""
    proto = encode_tensor(np.array([b""] * len(strings), object))
    del proto.string_val[:]
    lengths = b"".join(
        bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 0x7F | 0x80, len(text) >> 7]) for text in strings
    )
    proto.tensor_content = lengths + b"".join(strings)
    assert decode_tensor(proto).tolist() == strings


def test_an_empty_list_is_zeros():
    proto = encode_tensor(np.ones((2, 2), np.float32), as_content=False)
    del proto.float_val[:]
    assert decode_tensor(proto).tolist() == [[0, 0], [0, 0]]


def test_text_becomes_utf_8_and_keeps_zero_bytes():
    assert decode_tensor(encode_tensor(np.array(["Ö", b"a\x00"], object))).tolist() == ["Ö".encode(), b"a\x00"]
    assert decode_tensor(encode_tensor(np.array(["ab"]))).tolist() == [b"ab"]


def test_views_and_big_endian_arrays():
    array = np.arange(12, dtype=">i4").reshape(3, 4).T[::2]
    assert np.array_equal(decode_tensor(encode_tensor(array)), array)


def malformed():
    """Name: (what is wrong, function that makes it wrong in a message of float32 (2, 3))."""
    stubs = load_stubs()

    def sizes(*values):
        def change(proto):
            del proto.tensor_shape.dim[:]
            for value in values:
                proto.tensor_shape.dim.add(size=value)

        return change

    def as_strings(content):
        def change(proto):
            proto.dtype, proto.tensor_content = 7, content

        return change

    return {
        "no type": lambda proto: proto.ClearField("dtype"),
        "another type": lambda proto: setattr(proto, "dtype", stubs.types_pb2.DT_COMPLEX64),
        "unknown type": lambda proto: setattr(proto, "dtype", 9999),
        "short content": lambda proto: setattr(proto, "tensor_content", bytes(23)),
        "long content": lambda proto: setattr(proto, "tensor_content", bytes(25)),
        "unknown rank": lambda proto: setattr(proto.tensor_shape, "unknown_rank", True),
        "negative size": sizes(-2, -3),
        "huge": sizes(2**40, 2**40),
        "huge and empty": sizes(0, 2**40, 2**40),
        "overflow": sizes(2**32, 2**32),
        "many dimensions": sizes(*[1] * 40),
        "packed strings without lengths": as_strings(b""[:0] or b"\x80"),
        "packed strings too short": as_strings(bytes([1] * 6)),
        "packed strings too long": as_strings(bytes(6) + b"more"),
        "endless length": as_strings(b"\xff" * 20),
    }


@pytest.mark.parametrize("name", malformed())
def test_malformed_messages_are_refused_before_memory_is_taken(name):
    proto = encode_tensor(np.zeros((2, 3), np.float32))
    malformed()[name](proto)
    with pytest.raises(InputError) as error:
        decode_tensor(proto)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("name", TENSOR_TYPES)
def test_lists_of_any_length_are_read_as_tensorflow_reads_them(name, count):
    import tensorflow as tf

    kind = TENSOR_TYPES[name]
    proto = load_stubs().tensor_pb2.TensorProto(dtype=kind.number)
    proto.tensor_shape.dim.add(size=count)
    getattr(proto, kind.values).extend([b"a", b"bc", b""] if name == "string" else [1, 0, 1])
    expected = tf.io.parse_tensor(proto.SerializeToString(), kind.number).numpy()
    np.testing.assert_array_equal(decode_tensor(proto), expected)


def test_an_empty_tensor_has_no_content_as_in_tensorflow():
    proto = encode_tensor(np.zeros(0, np.float32))
    proto.tensor_content = bytes(4)
    assert decode_tensor(proto).shape == (0,)


def test_a_bomb_of_one_value_is_refused():
    proto = encode_tensor(np.zeros((1,), np.float32), as_content=False)
    proto.tensor_shape.dim[0].size = 10**6
    assert decode_tensor(proto).shape == (10**6,)
    with pytest.raises(InputError, match="at most 1000 bytes"):
        decode_tensor(proto, max_bytes=1000)


def strings(count, *values, content=b""):
    """A message of `count` strings, some of which are listed, or all of which are packed."""
    proto = load_stubs().tensor_pb2.TensorProto(dtype=7, string_val=values, tensor_content=content)
    proto.tensor_shape.dim.add(size=count)
    return proto


def test_strings_count_as_often_as_they_stand():
    with pytest.raises(InputError, match="at most 1000 bytes"):
        decode_tensor(strings(10, bytes(100)), max_bytes=1000)
    assert decode_tensor(strings(10, bytes(70)), max_bytes=1000).tolist() == [bytes(70)] * 10
    with pytest.raises(InputError, match="at most 67108864 bytes"):
        decode_tensor(strings(2**23, bytes(10_000)), max_bytes=2**26)


@pytest.mark.parametrize("proto", [strings(100), strings(100, content=bytes(100))], ids=["listed", "packed"])
def test_empty_strings_take_room_too(proto):
    assert decode_tensor(proto, max_bytes=2500).tolist() == [b""] * 100
    with pytest.raises(InputError, match="at most 2399 bytes"):
        decode_tensor(proto, max_bytes=2399)


@pytest.mark.parametrize(
    "array", [np.zeros(2, np.complex64), np.zeros(2, np.uint8), np.array([1, b"a"], object), np.array(["\ud800"])]
)
def test_arrays_that_cannot_be_written(array):
    with pytest.raises(InputError):
        encode_tensor(array)
