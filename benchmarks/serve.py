"""`kmm serve` against the same SavedModel called in process, and under load.

    python benchmarks/serve.py            a table
    python benchmarks/serve.py --json     one JSON document
    python benchmarks/serve.py --quick    fewer rounds and requests

The server runs in its own process; times are taken in turns. The model is an untrained DenseNet121 at 224 pixels;
figures with the suffix `_small` are of the small preset at 64 pixels, the hard case: the model takes only milliseconds.

    request_ratio      median time of a gRPC request of one study (`serving_default`), relative to a call of the
                       SavedModel in process; at most 1.25
    throughput_ratio   studies per second of 16 clients, with batching in the export's graph, relative to calls in
                       process on full batches; at least 0.8
    explain_ratio      time of a request of `explain`, relative to `kmm explain` on the same film and points; at
                       most 1.15
    loaded_mb          MB (10^6 bytes) of the server after its start, beyond a process with TensorFlow; at most 500
    start_cpu_seconds  CPU seconds of the server's start, TensorFlow's own 5 included
    explained_mb       as loaded_mb, two seconds after the explanations; at most 500
    clients_16_single, clients_64_single
                       requests per second of 16 and 64 clients, without batching in the export's graph, relative to
                       successive calls of one study in process
    clients_16_full, clients_64_full
                       the same, relative to calls in process on full batches, in studies per second
    requests           requests of 16 clients to the small model, one in ten of them malformed in one of ten ways
    wrong_answers      valid requests whose answer differs from that of the SavedModel in process; 0
    wrong_codes        malformed requests that were not refused with the right code; 0
    memory_growth      the server's memory at the end, relative to that after the first tenth; at most 1.05
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from processes import read_cpu_seconds, read_memory_gb
from served_model import BATCH, STEPS, connect, run_server, save_and_export

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CLIENTS = 16
MANY = (16, 64)  # numbers of clients of an export without batching in its graph
MODELS = {"": ("densenet121", "paper"), "_small": ("small-cnn", "small")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and requests")
    parser.add_argument("--requests", type=int, help="number of requests under load (default 10,000)")
    parser.add_argument("--only", nargs="+", choices=("speed", "load"), default=("speed", "load"))
    options = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        if "speed" in options.only:
            for ending, model in MODELS.items():
                start = time.perf_counter()
                found = measure_speed(Path(folder, model[0]), model, 8 if options.quick else 40)
                print(f"{model[0]}: {time.perf_counter() - start:.0f} s: {found}", file=sys.stderr)
                result.update({f"{name}{ending}": value for name, value in found.items()})
        if "load" in options.only:
            from serve_load import measure_load

            place = Path(folder, "load")
            count = options.requests or (1_000 if options.quick else 10_000)
            result.update(measure_load(*save_and_export(place, MODELS["_small"], batching=True), count, CLIENTS))
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:32} {value:.4g}" if isinstance(value, float) else f"{name:32} {value}")


def measure_speed(folder, model, rounds):
    """Measures requests, throughput, explanations and memory of one model."""
    import tensorflow as tf

    from kmm.classifier import Classifier
    from kmm.export.samples import make_samples

    saved, single = save_and_export(folder, model, batching=False)
    _, batched = save_and_export(folder, model, batching=True, explain=False)
    samples = make_samples(Classifier.load(saved, main_only=True), BATCH)
    loaded = tf.saved_model.load(str(single))
    found = {}
    empty = measure_empty()
    with run_server(single) as (process, port):
        found["loaded_mb"], found["start_cpu_seconds"] = (
            read_memory_gb(process.pid) * 1e3 - empty,
            read_cpu_seconds(process.pid),
        )
        found["request_ratio"] = compare_requests(loaded, port, samples, rounds)
        found["explain_ratio"] = compare_explanations(saved, port, samples, max(3, rounds // 8))
        time.sleep(2)  # the server returns memory a moment after an explanation
        found["explained_mb"] = read_memory_gb(process.pid) * 1e3 - empty
        for clients in MANY:
            speeds = compare_clients(loaded, port, samples, clients, max(2, rounds // 5))
            found[f"clients_{clients}_single"], found[f"clients_{clients}_full"] = speeds
    with run_server(batched) as (_, port):
        found["throughput_ratio"] = compare_throughput(loaded, port, samples, max(2, rounds // 5))
    return found


def measure_empty():
    """Returns the MB of a process that has imported the server's modules and loaded no model."""
    program = """
import re, kmm.server.server, tensorflow as tf
tf.constant(1) + 1
print(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[-1]) * 1024 / 1e6


def compare_clients(loaded, port, samples, clients, rounds):
    """Compares requests per second of many clients to calls in process, one study at a time and in full batches."""
    import tensorflow as tf

    service, make = connect(port)
    sides = ("image", "token_ids")
    requests = [make("serving_default", {name: samples[name][row : row + 1] for name in sides}) for row in range(BATCH)]
    function = loaded.signatures["serving_default"]
    count, ratios = 2 * max(MANY), []

    def serve_all(pool):
        list(pool.map(lambda number: service.Predict(requests[number % BATCH]), range(count)))

    def call_all(size):
        given = {name: tf.constant(samples[name][:size]) for name in sides}
        for _ in range(count // size):
            function(**given)["probabilities"].numpy()

    with ThreadPoolExecutor(clients) as pool:
        for number in range(rounds + 1):
            seconds = []
            for work, argument in ((serve_all, pool), (call_all, 1), (call_all, BATCH)):
                start = time.perf_counter()
                work(argument)
                seconds.append(time.perf_counter() - start)
            if number:
                ratios.append((seconds[1] / seconds[0], seconds[2] / seconds[0]))
    return tuple(statistics.median(column) for column in zip(*ratios, strict=True))


def compare_requests(loaded, port, samples, rounds):
    """Compares a gRPC request of one study, encoding and decoding included, to a call in process on the same arrays."""
    import tensorflow as tf

    from kmm.protocol.tensors import decode_tensor

    service, make = connect(port)
    inputs = {name: samples[name][:1] for name in ("image", "token_ids")}
    function = loaded.signatures["serving_default"]

    def call():
        return {
            name: value.numpy() for name, value in function(**{k: tf.constant(v) for k, v in inputs.items()}).items()
        }

    def request():
        answer = service.Predict(make("serving_default", inputs))
        return {name: decode_tensor(proto) for name, proto in answer.outputs.items()}

    return compare(request, call, rounds)


def compare_explanations(saved, port, samples, rounds):
    """Compares `explain` of one study over gRPC to the engine of `kmm explain` in this process."""
    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings

    service, make = connect(port)
    inputs = {name: samples[name][:1] for name in ("image", "token_ids", "target")}
    explainer = Explainer.load(saved, ExplainSettings(steps=STEPS))
    case = make_case(explainer, samples)
    return compare(
        lambda: service.Predict(make("explain", inputs)), lambda: list(explainer.attribute(iter([case]))), rounds
    )


def make_case(explainer, samples):
    """Makes the first sample into a `Case` of `kmm.explain`, already prepared, as in the request."""
    import numpy as np

    from kmm.explain.attribution.methods import Case

    rows = np.asarray(explainer.embed(np.stack([samples["token_ids"][0], 0 * samples["token_ids"][0]])))
    return Case(
        study="0",
        inputs={"image": samples["image"][0], "rows": rows[0]},
        absent=frozenset(),
        fixed={
            "padding_mask": (samples["token_ids"][0] != 0).astype(np.float32),
            "present": np.ones(2, np.float32),
        },
        padding_row=rows[1, 0],
        target=0,
    )


def compare(first, second, rounds):
    """Returns the ratio of the median times of two functions, called in turns after three warm-up calls of each."""
    seconds = {first: [], second: []}
    for number in range(rounds + 3):
        for work in (first, second) if number % 2 else (second, first):
            start = time.perf_counter()
            work()
            if number >= 3:
                seconds[work].append(time.perf_counter() - start)
    return statistics.median(seconds[first]) / statistics.median(seconds[second])


def compare_throughput(loaded, port, samples, rounds):
    """Compares studies per second of many clients to calls in process on full batches."""
    import tensorflow as tf

    service, make = connect(port)
    sides = ("image", "token_ids")
    requests = [make("serving_default", {name: samples[name][row : row + 1] for name in sides}) for row in range(BATCH)]
    function = loaded.signatures["serving_default"]
    full = {name: tf.constant(samples[name]) for name in sides}
    count = 4 * BATCH
    ratios = []
    with ThreadPoolExecutor(CLIENTS) as pool:

        def serve_all():
            list(pool.map(lambda number: service.Predict(requests[number % BATCH]), range(count)))

        def call_all():
            for _ in range(count // BATCH):
                function(**full)["probabilities"].numpy()

        for number in range(rounds + 1):
            seconds = []
            for work in (serve_all, call_all):
                start = time.perf_counter()
                work()
                seconds.append(time.perf_counter() - start)
            if number:
                ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios)


if __name__ == "__main__":
    main()
