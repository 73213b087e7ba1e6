"""Calls of the signatures of an export."""

import tensorflow as tf

from kmm.export.served import ServedClassifier

WITHOUT = {"explanation": None, "warmup": ()}


def call(signatures, name, samples, rows=slice(None)):
    function = signatures[name]
    inputs = {key: tf.constant(samples[key][rows]) for key in function.structured_input_signature[1]}
    return {key: value.numpy() for key, value in function(**inputs).items()}


def trace_only(monkeypatch, *names):
    """Gives exports some of their signatures only: each takes a second to trace, write, load and call."""
    trace = ServedClassifier.trace

    def trace_some(served):
        served.signatures = {name: served.signatures[name] for name in names}
        return trace(served)

    monkeypatch.setattr(ServedClassifier, "trace", trace_some)
