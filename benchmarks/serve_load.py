"""Correctness and memory of `kmm serve` under the load of many clients, with one malformed request in ten."""

import random
import struct
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from processes import read_memory_gb
from served_model import connect, run_server

GOOD, BAD_SHARE = 64, 10
EXPLAINED = range(0, GOOD, 10)  # rows of the good requests that are also explained
MAP_TOLERANCE = 1e-3  # largest difference of a map or of the words' attributions, relative to its largest value
HUGE_BYTES = 100_000_000


def measure_load(classifier, version, count, clients):
    """Sends good and malformed requests to `kmm serve` and checks the answers.

    Args:
        classifier: Path of a saved classifier.
        version: Path of its export.
        count: int. Number of requests; one in ten is malformed.
        clients: int. Number of threads that send them.

    Returns:
        dict of figures.
    """
    from kmm.classifier import Classifier
    from kmm.export.samples import make_samples

    samples = make_samples(Classifier.load(classifier, main_only=True), GOOD)
    expected, maps = _predict(version, samples), _explain(version, samples)
    with run_server(version) as (process, port):
        service, make = connect(port)
        good = _make_good(make, samples)
        bad = _make_bad(make, samples)
        run = _Run(service, good, bad, expected, maps)
        first = count // 10
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(run.send, range(first)))
            before = read_memory_gb(process.pid)
            list(pool.map(run.send, range(first, count)))
            after = read_memory_gb(process.pid)
        alive = process.poll() is None
    for (kind, code), number in sorted(run.codes.items()):
        print(f"{kind:20} {code:20} {number}", file=sys.stderr)
    return {
        "requests": count,
        "malformed": sum(run.codes.values()),
        "wrong_answers": run.wrong_answers,
        "wrong_codes": run.wrong_codes,
        "server_lives": alive,
        "memory_growth": after / before,
        "memory_gb": after,
    }


class _Run:
    """The requests of a run and the number of wrong answers and refusals."""

    def __init__(self, service, good, bad, expected, maps):
        self.service, self.good, self.bad, self.expected, self.maps = service, good, bad, expected, maps
        self.wrong_answers, self.wrong_codes, self.codes = 0, 0, Counter()
        self.lock = threading.Lock()

    def send(self, number):
        if number % BAD_SHARE == BAD_SHARE - 1:
            self._send_bad(number)
        else:
            self._send_good(number)

    def _send_good(self, number):
        import grpc
        import numpy as np

        from kmm.protocol.tensors import decode_tensor

        row, request = random.Random(number).choice(self.good)
        try:
            answer = self.service.Predict(request, timeout=120)
            found = decode_tensor(answer.outputs["probabilities"])[0]
            right = bool(np.abs(found - self.expected[row]).max() <= 1e-5)
            if request.model_spec.signature_name == "explain_bytes":
                right = right and all(
                    np.abs(decode_tensor(answer.outputs[name])[0] - value).max() <= MAP_TOLERANCE * np.abs(value).max()
                    for name, value in self.maps[row].items()
                )
        except grpc.RpcError as error:
            print(f"a good request: {error.code().name} {error.details()}", file=sys.stderr)
            right = False
        with self.lock:
            self.wrong_answers += not right

    def _send_bad(self, number):
        import grpc

        kind, code, make = self.bad[(number // BAD_SHARE) % len(self.bad)]
        try:
            self.service.Predict(make(), timeout=120)
            received = "OK"
        except grpc.RpcError as error:
            received = error.code().name
        with self.lock:
            self.codes[kind, received] += 1
            self.wrong_codes += received != code


def _make_good(make, samples):
    """Makes requests of all signatures, each with the row of its sample; a few ask for an explanation."""
    signatures = {
        "serving_default": ("image", "token_ids"),
        "serving_bytes": ("image_bytes", "report"),
        "tf_example": ("examples",),
    }
    requests = []
    for row in range(GOOD):
        for signature, names in signatures.items():
            requests.append((row, make(signature, {name: samples[name][row : row + 1] for name in names})))
        if row in EXPLAINED:
            names = ("image_bytes", "report", "target")
            requests.append((row, make("explain_bytes", {name: samples[name][row : row + 1] for name in names})))
    return requests


def _make_bad(make, samples):
    """Lists the kinds of malformed requests: name, expected status code, and a function that makes one."""
    import numpy as np

    raw = {name: samples[name][:1] for name in ("image_bytes", "report")}
    tensors = {name: samples[name][:1] for name in ("image", "token_ids")}
    film = samples["image_bytes"][0]
    header = struct.pack(">I4sIIBBBBB", 13, b"IHDR", 20_000, 20_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + header + b"\0\0\0\0IEND\xaeB`\x82"
    not_finite = tensors["image"] * np.float32(np.nan)

    def of(signature, inputs):
        request = make(signature, inputs)
        return lambda: request

    def files(data):
        return of("serving_bytes", {**raw, "image_bytes": np.array([data], object)})

    def huge():
        return make("serving_bytes", {**raw, "image_bytes": np.array([bytes(HUGE_BYTES)], object)})

    refused = "INVALID_ARGUMENT"
    return [
        ("truncated image", refused, files(film[: len(film) // 2])),
        ("no image", refused, files(b"no image at all")),
        ("wrong shape", refused, of("serving_default", {**tensors, "image": tensors["image"][:, :10]})),
        ("wrong dtype", refused, of("serving_default", {**tensors, "image": tensors["image"].astype(np.float64)})),
        ("NaN", refused, of("serving_default", {**tensors, "image": not_finite})),
        ("not UTF-8", refused, of("serving_bytes", {**raw, "report": np.array([b"caf\xe9"], object)})),
        ("100 MB", "RESOURCE_EXHAUSTED", huge),
        ("unknown signature", "FAILED_PRECONDITION", of("no_such_signature", raw)),
        ("missing input", refused, of("serving_bytes", {"report": raw["report"]})),
        ("bomb", refused, files(bomb)),
    ]


def _predict(version, samples):
    """Returns the export's probabilities in this process, one row at a time."""
    import numpy as np
    import tensorflow as tf

    function = tf.saved_model.load(str(version)).signatures["serving_default"]
    rows = [
        function(**{name: tf.constant(samples[name][row : row + 1]) for name in ("image", "token_ids")})
        for row in range(GOOD)
    ]
    return np.concatenate([row["probabilities"].numpy() for row in rows])


def _explain(version, samples):
    """Returns the maps and word attributions of the export in this process: dict of row to outputs."""
    import tensorflow as tf

    function = tf.saved_model.load(str(version)).signatures["explain_bytes"]
    inputs, found = ("image_bytes", "report", "target"), {}
    for row in EXPLAINED:
        outputs = function(**{name: tf.constant(samples[name][row : row + 1]) for name in inputs})
        found[row] = {name: outputs[name][0].numpy() for name in ("image_attribution", "token_attribution")}
    return found
