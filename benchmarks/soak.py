"""Minutes of load on `kmm serve` by 64 clients, while tokens, certificates, models and labels change every minute.

    python benchmarks/soak.py                            ten minutes
    python benchmarks/soak.py --minutes 3 --clients 16   shorter, with fewer clients

Half of the clients use gRPC and half HTTP, all over TLS and with a token; each reconnects after a while. Each minute:

    tokens        a new token is added to the file; clients switch to it; the old token is removed
    certificates  certificate and key are replaced by new ones
    models        the label `stable` moves to the newest version, then a newer version is published; a second model
                  is added to the list of models or removed from it

No request may fail meanwhile. Every answer is compared with the expected answer of the version that it names.

    requests        number of answered requests
    wrong           answers that differ from the expected ones; 0
    failed          requests that failed and should not have; 0
    let_in          requests with a removed token that were answered; 0
    p50, p99        milliseconds of a request, as a client sees it
    memory_growth   the server's memory at the end, relative to that after the first minute
"""

import argparse
import http.client
import json
import os
import random
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from processes import read_memory_gb

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SETTLE_SECONDS = 6  # until the server has read a changed file
RECONNECT = 200  # requests per connection
MODELS = """model_config_list {{
  config {{
    name: "tiny" base_path: "{tiny}" model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
    version_labels {{ key: "stable" value: {stable} }}
  }}
  {second}
}}
"""
SECOND = 'config {{ name: "second" base_path: "{tiny}" model_platform: "tensorflow" }}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), options.minutes, options.clients)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:15} {value:.3g}" if isinstance(value, float) else f"{name:15} {value}")


def soak(folder, minutes, clients):
    """Runs the server and its clients, and replaces the server's files every minute.

    Returns:
        dict of figures.
    """
    site, tally, stopped, asking = Site(folder, minutes), Tally(), threading.Event(), []
    with site.serve() as process:
        try:
            port, rest_port = read_ports(process, site.log)
            asking += [
                threading.Thread(target=ask, args=(Grpc if number % 2 else Rest, site, port, rest_port, tally, stopped))
                for number in range(clients)
            ]
            asking.append(threading.Thread(target=try_old_tokens, args=(site, port, tally, stopped)))
            for thread in asking:
                thread.start()
            memory = []
            for minute in range(minutes):
                end = time.monotonic() + 60
                site.change(minute)
                time.sleep(max(0, end - time.monotonic()))
                if process.poll() is not None:
                    raise SystemExit(
                        f"The server ended with code {process.returncode}:\n{site.log.read_text()[-2000:]}"
                    )
                memory.append(read_memory_gb(process.pid))
                print(f"minute {minute + 1}: {tally.summarise()}, {memory[-1]:.3f} GB", file=sys.stderr, flush=True)
        finally:
            stopped.set()
            for thread in (thread for thread in asking if thread.ident):
                thread.join(30)
            process.terminate()
            process.wait(60)
    for text, number in tally.faults.most_common(10):
        print(f"{number} x {text}", file=sys.stderr)
    log = site.log.read_text(encoding="utf-8")
    return {
        "requests": len(tally.seconds),
        "wrong": tally.wrong,
        "failed": sum(tally.faults.values()),
        "let_in": tally.let_in,
        "p50": 1000 * statistics.median(tally.seconds),
        "p99": 1000 * statistics.quantiles(tally.seconds, n=100)[-1],
        "memory_growth": memory[-1] / memory[0],
        "versions": len(tally.versions),
        "certificates": len(tally.certificates),
        "log_lines": log.count("\n"),
        "tracebacks": log.count("Traceback"),
    }


class Site:
    """The files that an operator of `kmm serve` keeps.

    Attributes:
        token: str. The token that clients send.
        old_token: str or None. The token that was removed last.
        log: Path of the server's log.
        roots: bytes. All certificates that clients trust.
    """

    def __init__(self, folder, minutes):
        from tests.factories.saved_model import save_tiny
        from tests.server.victim import make_certificate

        self.folder, self.log, self.tiny = folder, folder / "log", folder / "tiny"
        self.token, self.old_token = "token-0", None
        self._ready = folder / "ready"
        for version in range(1, minutes + 3):
            save_tiny(self._ready / str(version), version)
        self._pairs = [folder / f"pair{number}" for number in range(minutes + 1)]
        for pair in self._pairs:
            pair.mkdir()
            make_certificate(pair)
        self.roots = b"".join((pair / "cert.pem").read_bytes() for pair in self._pairs)
        self.publish(1)
        self.publish(2)
        self.write("tokens", f"{self.token}\n")
        self.list_models(stable=1, second=False)
        self.use_pair(0)

    def serve(self):
        """Starts the server and returns its process."""
        command = [sys.executable, "-m", "kmm", "serve", "--models", self.folder / "models", "--port", "0"]
        command += ["--rest-port", "0", "--token-file", self.folder / "tokens", "--tls-cert", self.folder / "cert.pem"]
        command += ["--tls-key", self.folder / "key.pem"]
        with open(self.log, "wb") as log:
            return subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=ROOT)

    def change(self, minute):
        """Replaces every file once, which takes about 20 seconds."""
        new = f"token-{minute + 1}"
        self.write("tokens", f"{self.token}\n{new}\n")
        self.use_pair(minute + 1)
        self.list_models(stable=minute + 2, second=bool(minute % 2))
        time.sleep(SETTLE_SECONDS)
        old, self.token = self.token, new
        self.publish(minute + 3)
        time.sleep(SETTLE_SECONDS)  # for requests with the old token to end
        self.write("tokens", f"{new}\n")
        time.sleep(SETTLE_SECONDS)
        self.old_token = old

    def write(self, name, text):
        """Replaces a file in one step."""
        (self.folder / f".{name}").write_text(text, encoding="utf-8")
        os.replace(self.folder / f".{name}", self.folder / name)

    def use_pair(self, number):
        for name in ("key.pem", "cert.pem"):
            self.write(name, (self._pairs[number] / name).read_text(encoding="ascii"))

    def list_models(self, *, stable, second):
        tiny = self.tiny.as_posix()
        self.write("models", MODELS.format(tiny=tiny, stable=stable, second=SECOND.format(tiny=tiny) if second else ""))

    def publish(self, version):
        self.tiny.mkdir(exist_ok=True)
        shutil.copytree(self._ready / str(version), self.folder / "coming")
        os.replace(self.folder / "coming", self.tiny / str(version))


class Tally:
    """Counts of the answers and failures of all clients."""

    def __init__(self):
        self.seconds, self.faults, self.wrong, self.let_in = [], Counter(), 0, 0
        self.versions, self.certificates = set(), set()
        self.lock = threading.Lock()

    def summarise(self):
        return f"{len(self.seconds)} requests, {self.wrong} wrong, {sum(self.faults.values())} failed"


class Grpc:
    """A client with TensorFlow Serving's stubs. `ask` returns the scores and the version that gave them."""

    def __init__(self, site, ports):
        import grpc

        from tests.factories.saved_model import make_predict, stubs

        self._make = make_predict
        credentials = grpc.ssl_channel_credentials(site.roots)
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.secure_channel(f"localhost:{ports[0]}", credentials, options)
        self._predict = stubs.prediction_service_pb2_grpc.PredictionServiceStub(self._channel).Predict
        self.certificate = None

    def ask(self, image, tokens, label, token):
        request = self._make({"image": image, "tokens": tokens}, label=label)
        answer = self._predict(request, timeout=30, metadata=[("authorization", f"Bearer {token}")])
        outputs = answer.outputs
        return list(outputs["scores"].float_val), outputs["version"].float_val[0]

    def close(self):
        self._channel.close()


class Rest:
    """A client over HTTPS that keeps its connection."""

    def __init__(self, site, ports):
        context = ssl.create_default_context(cadata=site.roots.decode("ascii"))
        self._connection = http.client.HTTPSConnection("localhost", ports[1], timeout=30, context=context)
        self._connection.connect()
        self.certificate = self._connection.sock.getpeercert()["serialNumber"]

    def ask(self, image, tokens, label, token):
        place = f"/v1/models/tiny{f'/labels/{label}' if label else ''}:predict"
        body = json.dumps({"inputs": {"image": image.tolist(), "tokens": tokens.tolist()}})
        self._connection.request("POST", place, body, {"Authorization": f"Bearer {token}"})
        with self._connection.getresponse() as answer:
            held = answer.read()
            if answer.status != 200:
                raise ConnectionError(f"{answer.status} {held[:200].decode('utf-8', 'replace')}")
        outputs = json.loads(held)["outputs"]
        return outputs["scores"][0], outputs["version"][0]

    def close(self):
        self._connection.close()


def ask(kind, site, port, rest_port, tally, stopped):
    """Sends requests until `stopped` is set, and reconnects after every `RECONNECT` requests."""
    import grpc
    import numpy as np

    chance, number = random.Random(threading.get_ident()), 0
    client = None
    while not stopped.is_set():
        image = np.full((1, 8, 8, 1), chance.randrange(100), np.float32)
        tokens = np.array([[chance.randrange(22) for _ in range(5)]], np.int32)
        start = time.perf_counter()
        try:
            if client is None or number % RECONNECT == 0:
                if client is not None:
                    client.close()
                client = kind(site, (port, rest_port))
            scores, version = client.ask(image, tokens, chance.choice([None, "stable"]), site.token)
        except (grpc.RpcError, OSError, http.client.HTTPException) as error:
            fault = f"{error.code().name} {error.details()}" if isinstance(error, grpc.RpcError) else repr(error)
            with tally.lock:
                tally.faults[f"{kind.__name__}: {fault[:200]}"] += 1
            client = None
            continue
        seconds = time.perf_counter() - start
        expected = [float(image.sum() * version + tokens.sum())] * 2
        with tally.lock:
            tally.seconds.append(seconds)
            tally.wrong += list(scores) != expected
            tally.versions.add(version)
            tally.certificates |= {client.certificate} - {None}
        number += 1
    if client is not None:
        client.close()


def try_old_tokens(site, port, tally, stopped):
    """Sends requests with a removed token, which must be refused."""
    import grpc

    from tests.factories.saved_model import IMAGE, TOKENS

    client = Grpc(site, (port, None))
    while not stopped.wait(0.5):
        token = site.old_token or "never-one"
        try:
            client.ask(IMAGE, TOKENS, None, token)
            tally.let_in += 1
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                tally.faults[f"old token: {error.code().name} {error.details()}"] += 1
    client.close()


def read_ports(process, log):
    """Reads the gRPC and REST ports that the server announces in its log."""
    for _ in range(1200):
        found = re.search(r"^serving .*gRPC \S+?:(\d+), REST \S+?:(\d+)$", log.read_text("utf-8"), re.MULTILINE)
        if found:
            return int(found[1]), int(found[2])
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"kmm serve did not start: {log.read_text('utf-8')[-500:]}")


if __name__ == "__main__":
    main()
