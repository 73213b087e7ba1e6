"""Errors of TensorFlow have the codes and texts that its C++ server gives them."""

import pytest

from kmm.server.models.graph_errors import shorten_graph_error, translate, translate_load


def catch(function, *arguments):
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


def test_places_in_programs_are_not_told():
    import tensorflow as tf

    @tf.function
    def look_up(ids):
        return tf.gather(tf.range(3), ids)

    @tf.function
    def check(ids):
        tf.debugging.assert_less(ids, 3, message="too large")
        return ids

    error = translate(catch(look_up, tf.constant([7])))
    assert (error.code, str(error)) == (
        "INVALID_ARGUMENT",
        "indices[0] = 7 is not in [0, 3)\n\t [[{{node GatherV2}}]]",
    )
    text = str(translate(catch(check, tf.constant([7]))))
    assert text.startswith("assertion failed: [too large]") and "File" not in text and "Detected" not in text


def test_bytes_of_examples_are_not_told():
    import tensorflow as tf

    parse = tf.function(lambda data: tf.io.parse_example(data, {"x": tf.io.FixedLenFeature([], tf.string)}))
    for data in (b"\xff\xfe Cough", "\n\t [[ Cough 'é".encode(), b"\x00 Cough"):
        error = translate(catch(parse, tf.constant([data])))
        assert error.code == "INVALID_ARGUMENT" and "Cough" not in str(error)
        assert str(error).startswith("Could not parse example input, value: '...'")


def test_why_a_version_cannot_be_loaded():
    import tensorflow as tf

    assert (
        translate_load(tf.errors.OutOfRangeError(None, None, "Read less bytes than requested")).code == "OUT_OF_RANGE"
    )
    error = translate_load(ValueError("no graph\nand more"))
    assert (error.code, str(error)) == ("DATA_LOSS", "The version cannot be loaded: no graph")
    assert translate_load(MemoryError()).code == "RESOURCE_EXHAUSTED"


def test_plain_text_stays():
    assert shorten_graph_error("expected one film. Received: two.") == "expected one film. Received: two."
