"""Calls of the signatures of an export."""

import tensorflow as tf

WITHOUT = {"explanation": None, "warmup": ()}


def call(signatures, name, samples, rows=slice(None)):
    function = signatures[name]
    inputs = {key: tf.constant(samples[key][rows]) for key in function.structured_input_signature[1]}
    return {key: value.numpy() for key, value in function(**inputs).items()}
