"""`kmm serve` against the same SavedModel called in process, and under load.

    python benchmarks/serve.py            a table
    python benchmarks/serve.py --json     one JSON document
    python benchmarks/serve.py --quick    fewer rounds and requests

The server is a process of its own; times are taken in turns. DenseNet121 at 224 pixels, untrained; names that end in
`_small` are of the small preset at 64 pixels, which is the hard case: the model takes milliseconds.

    request_ratio      the median time of a request of one study over gRPC (`serving_default`), to a call of the
                       SavedModel in process; at most 1.25
    throughput_ratio   studies a second of 16 clients, the export batching in its graph, to calls in process on full
                       batches; at least 0.8
    explain_ratio      the time of a request of `explain`, to `kmm explain` on the same film and points; at most 1.15
    loaded_mb          MB (10^6 bytes) of the server after its start, beyond a process with TensorFlow; at most 500
    start_cpu_seconds  CPU seconds that the server had taken by then, TensorFlow's own 5 included
    explained_mb       as loaded_mb, two seconds after the explanations; at most 500
    clients_16_single, clients_64_single
                       requests a second of so many clients, no batching in the export's graph, to calls of one study
                       in process, one after the other
    clients_16_full, clients_64_full
                       the same, to studies a second of calls in process on full batches
    requests           requests of 16 clients at the small model, one in ten of them malformed in one of ten ways
    wrong_answers      good requests among them that were not answered as the SavedModel answers in process; 0
    wrong_codes        bad ones that were not refused with the code that they deserve; 0
    memory_growth      the server's memory at the end, to that after the first tenth; at most 1.05
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CLIENTS, BATCH, STEPS = 16, 16, 25
MANY = (16, 64)  # clients of an export without batching in its graph
MODELS = {"": ("densenet121", "paper"), "_small": ("small-cnn", "small")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and requests")
    parser.add_argument("--requests", type=int, help="requests of the load; 10,000 when not given")
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


def save_and_export(folder, model, *, batching, explain=True):
    """An untrained classifier and its export.

    Returns:
        Paths of the classifier and of the version.
    """
    from explain_models import save_untrained

    from kmm.export.explanation import ExplainSignature
    from kmm.export.graph.batching import Batching
    from kmm.export.write import export_classifier

    if not folder.exists():
        save_untrained(folder, *model)
    wanted = Batching(max_batch=BATCH, timeout_ms=20) if batching else None
    explanation = ExplainSignature(steps=STEPS) if explain else None
    return folder, export_classifier(folder, explanation=explanation, batching=wanted, warmup=(1,))


@contextmanager
def serve(version):
    """Runs `kmm serve` on one version.

    Yields:
        its process and the port of gRPC.
    """
    command = [sys.executable, "-m", "kmm", "serve", f"model={version.parent}", "--versions", version.name]
    command += ["--port", "0", "--no-rest", "--poll-seconds", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    try:
        yield process, int(re.search(r"gRPC \S+:(\d+)", process.stdout.readline())[1])
    finally:
        process.terminate()
        process.wait(60)


def connect(port):
    """A stub of TensorFlow Serving's own, and a function that makes a request of a signature and its inputs."""
    import grpc

    from kmm.protocol.messages import load_stubs
    from kmm.protocol.tensors import encode_tensor

    stubs = load_stubs()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    service = stubs.prediction_service_pb2_grpc.PredictionServiceStub(
        grpc.insecure_channel(f"127.0.0.1:{port}", options)
    )

    def make(signature, inputs):
        request = stubs.predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "model", signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(encode_tensor(value))
        return request

    return service, make


def measure_speed(folder, model, rounds):
    """Requests, throughput and explanations of one model."""
    import tensorflow as tf
    from serve_load import read_memory

    from kmm.classifier import Classifier
    from kmm.export.samples import make_samples

    saved, single = save_and_export(folder, model, batching=False)
    _, batched = save_and_export(folder, model, batching=True, explain=False)
    samples = make_samples(Classifier.load(saved, main_only=True), BATCH)
    loaded = tf.saved_model.load(str(single))
    found = {}
    empty = measure_empty()
    with serve(single) as (process, port):
        found["loaded_mb"], found["start_cpu_seconds"] = read_memory(process.pid) * 1e3 - empty, read_cpu(process.pid)
        found["request_ratio"] = compare_requests(loaded, port, samples, rounds)
        found["explain_ratio"] = compare_explanations(saved, port, samples, max(3, rounds // 8))
        time.sleep(2)  # the server gives memory back a moment after an explanation
        found["explained_mb"] = read_memory(process.pid) * 1e3 - empty
        for clients in MANY:
            speeds = compare_clients(loaded, port, samples, clients, max(2, rounds // 5))
            found[f"clients_{clients}_single"], found[f"clients_{clients}_full"] = speeds
    with serve(batched) as (_, port):
        found["throughput_ratio"] = compare_throughput(loaded, port, samples, max(2, rounds // 5))
    return found


def measure_empty():
    """MB that a process holds which has imported what the server needs, and no model."""
    program = """
import re, kmm.server.server, tensorflow as tf
tf.constant(1) + 1
print(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[-1]) * 1024 / 1e6


def read_cpu(pid):
    """CPU seconds that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare_clients(loaded, port, samples, clients, rounds):
    """Requests a second of many clients, to studies a second in process: one at a time, and in full batches."""
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
    """One study: over gRPC, encoding and decoding included, to a call in process of the same arrays."""
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
    """One film and report: `explain` over gRPC, to `kmm explain`'s own engine in this process."""
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
    """The first sample as `kmm.explain` takes it, prepared already, as the request is."""
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
    """The median time of one to that of the other, taken in turns, after three of each that are not counted."""
    seconds = {first: [], second: []}
    for number in range(rounds + 3):
        for work in (first, second) if number % 2 else (second, first):
            start = time.perf_counter()
            work()
            if number >= 3:
                seconds[work].append(time.perf_counter() - start)
    return statistics.median(seconds[first]) / statistics.median(seconds[second])


def compare_throughput(loaded, port, samples, rounds):
    """Studies a second of many clients, to that of calls in process on full batches."""
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
