"""The server runs an export's graph as it is stored: the answers are TensorFlow's, and the network is there once."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.eager import context

from kmm.server.models import graph_parts, warmup
from kmm.server.models.servable import load_servable, run_signature
from kmm.server.models.stored_graph import StoredGraph
from kmm.server.requests.batching import Batcher
from tests.export.calls import call


@pytest.fixture(scope="module")
def servable(exported):
    found = load_servable("tiny", 1, exported)
    assert isinstance(found.root, StoredGraph)
    return found


def run(servable, key, samples):
    signature = servable.signatures[key]
    return run_signature(servable, key, {name: samples[name] for name in signature.inputs}, sorted(signature.outputs))


@pytest.mark.large
def test_each_signature_answers_as_tensorflow_does(servable, signatures, samples):
    assert set(servable.functions) == set(signatures)
    for key in servable.functions:
        found, expected = run(servable, key, samples), call(signatures, key, samples)
        assert set(found) == set(expected)
        for name, value in expected.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(found[name], value, atol=1e-5 * max(1, np.abs(value).max()))
            else:
                np.testing.assert_array_equal(found[name], value)


def test_the_network_is_shared(exported):
    """Of each function that two signatures call, no part of a signature holds a copy."""
    graph = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    functions = {one.signature.name: one for one in graph.library.function}
    roots = [name for name in functions if "signature_wrapper" in name]
    shared = graph_parts.find_shared(roots, functions)
    assert len(shared) == 3  # the network, the reading of films and reports, the walk of explanations
    called = {}
    for root in roots:
        steps, _ = graph_parts.cut_function(root, functions, shared)
        called[root] = {step.function for step in steps} & shared
        for step in steps:
            if step.function not in shared:
                assert not graph_parts._walk_calls(step.function, functions) & shared
    assert sorted(map(len, called.values())) == [0, 1, 1, 2, 2, 2, 2, 2, 3]


@pytest.mark.large
def test_many_threads_batched_equal_one_at_a_time(servable, samples):
    batcher, key = Batcher(max_batch=8, wait_seconds=0.002), "serving_bytes"
    wanted, count = ["probabilities", "logits"], len(samples["report"])
    rows = [{name: samples[name][row : row + 1] for name in servable.signatures[key].inputs} for row in range(count)]
    alone = [run_signature(servable, key, given, wanted) for given in rows]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: batcher.run(servable, key, rows[number % count], wanted), range(64)))
    for number, one in enumerate(found):
        for name in wanted:
            np.testing.assert_allclose(one[name], alone[number % count][name], atol=1e-6, rtol=1e-5)


@pytest.mark.large
def test_what_is_unloaded_leaves_no_function_behind(exported):
    before = set(context.context().list_function_names())
    servable = load_servable("tiny", 1, exported)
    assert len(set(context.context().list_function_names()) - before) > 10
    del servable
    gc.collect()
    assert set(context.context().list_function_names()) <= before


@pytest.mark.parametrize("explain", [False, True])
def test_explanations_are_warmed_up_only_where_asked(servable, exported, monkeypatch, explain):
    runs = []
    monkeypatch.setattr(warmup, "run_signature", lambda servable, key, arrays, wanted: runs.append(key))
    count = warmup.warm_up(servable, exported, explain=explain)
    assert {"explain", "explain_bytes"} <= set(runs) if explain else not {key for key in runs if "explain" in key}
    assert "serving_default" in runs and count >= len(runs)
