"""A server to attack, in a process of its own, and what an attack does to it."""

import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from tests.factories.saved_model import make_predict, stubs

ROOT = Path(__file__).parents[2]
TOKEN = "word-of-the-tests"
START_SECONDS, ANSWER_SECONDS = 180, 10
RETURN_SECONDS = 4  # for a server to give memory back to the system after an attack
MOST_BYTES = 4 * 2**30  # a server that takes more is killed, for the sake of the machine
KINDS = {  # of servers: options of `kmm serve`
    "open": [],
    "token": ["--threads", "2", "--max-queue", "4", "--token-file", "token"],
    "files": ["--threads", "2", "--max-queue", "4"],
    "films": ["--threads", "2", "--max-queue", "4"],
    "tls": ["--threads", "2", "--max-queue", "4", "--tls-cert", "cert.pem", "--tls-key", "key.pem"],
}
FILES = {"files": 64}  # open files that a kind of server may have
FILMS = {"films"}  # kinds that serve the classifier of films too


@dataclass
class Outcome:
    """What an attack did.

    Attributes:
        said: str. What the attacker saw.
        grpc_silence, rest_silence: float. Longest seconds without an answer of health.
        control: float. The same of a trivial responder: what the machine itself lacked.
        lines: int. New lines in the server's log.
        growth, peak: float. MB (10^6 bytes) of memory four seconds after the attack, and the most during it, above that
            before it.
        answered: dict of protocol to bool. Whether a request of a model is answered rightly afterwards.
        faults: list of lines of the log that tell of an error that nobody thought of.
    """

    said: str
    grpc_silence: float
    rest_silence: float
    control: float
    lines: int
    growth: float
    peak: float
    answered: dict
    faults: list


class Victim:
    """A running `kmm serve`.

    Args:
        kind: str, a key of `KINDS`.
        models: dict with the folders of the models `tiny` and `film`.
        folder: Path for the server's files: `log`, and what its options name. It is made.
        checkout: Path of the kmm that serves.
        hold: float. Seconds for which an attack goes on.

    Attributes:
        port, rest_port: int.
        hold: float, as above.
        token: str, or None.
        process: `subprocess.Popen`.
    """

    def __init__(self, kind, models, folder, *, checkout=ROOT, hold=1.5):
        self.folder, self.hold = folder, hold
        self.token = TOKEN if kind == "token" else None
        self.tls = kind == "tls"
        folder.mkdir(parents=True)
        (folder / "token").write_text(TOKEN, encoding="ascii")
        if self.tls:
            make_certificate(folder)
        options = [str(folder / word) if word in ("token", "cert.pem", "key.pem") else word for word in KINDS[kind]]
        command = [sys.executable, "-m", "kmm", "serve", f"tiny={models['tiny']}"]
        command += [f"film={models['film']}"] if kind in FILMS else []
        command += ["--port", "0", "--rest-port", "0", *options]
        if kind in FILES:
            command = ["/bin/sh", "-c", f'ulimit -n {FILES[kind]}; exec "$@"', "sh", *command]
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=checkout,
                env={**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
        self.port, self.rest_port = self._wait()

    def _wait(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(r"^serving .*gRPC \S+?:(\d+), REST \S+?:(\d+)$", self.read_log(), re.MULTILINE)
            if found:
                return int(found[1]), int(found[2])
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"kmm serve did not start: {self.read_log()[-500:]}")

    def read_log(self):
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def read_bytes(self):
        """Bytes of memory that the server holds, 0 if it ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0

    def connect(self):
        """A channel of gRPC's own client that no other one shares."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        if not self.tls:
            return grpc.insecure_channel(f"127.0.0.1:{self.port}", options)
        credentials = grpc.ssl_channel_credentials((self.folder / "cert.pem").read_bytes())
        return grpc.secure_channel(f"localhost:{self.port}", credentials, options)

    def ask(self):
        """Asks the model over both protocols: dict of protocol to whether the answer is right."""
        return {"grpc": self._ask_grpc(), "rest": self._ask_rest()}

    def _ask_grpc(self):
        request = make_predict({"values": np.array([1.5, 2.5], np.float32)}, signature="double")
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else []
        with self.connect() as channel:
            predict = stubs.prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            try:
                answer = predict(request, timeout=ANSWER_SECONDS, metadata=metadata, wait_for_ready=True)
            except grpc.RpcError:
                return False
        return list(answer.outputs["doubled"].float_val) == [3, 5]

    def _ask_rest(self):
        context = ssl.create_default_context(cafile=str(self.folder / "cert.pem")) if self.tls else None
        request = urllib.request.Request(
            f"{'https' if self.tls else 'http'}://localhost:{self.rest_port}/v1/models/tiny:predict",
            b'{"signature_name": "double", "instances": [1.5, 2.5]}',
            {"Authorization": f"Bearer {self.token}"} if self.token else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS, context=context) as answer:
                return json.load(answer) == {"predictions": [3, 5]}
        except (OSError, ValueError):
            return False

    def stop(self):
        """Ends the server at once."""
        self.process.kill()
        self.process.wait()


class Victims:
    """Servers by kind, started when they are first attacked, and anew where an attack has stopped one.

    Args:
        models: as of `Victim`.
        folder: Path of an empty folder for their files.
        options: of `Victim`.
    """

    def __init__(self, models, folder, **options):
        self._models, self._folder, self._options = models, folder, options
        self._running, self._count = {}, 0

    def find(self, kind):
        victim = self._running.get(kind)
        if victim is not None and (victim.process.poll() is not None or victim.ask() != {"grpc": True, "rest": True}):
            victim.stop()
            victim = None
        if victim is None:
            self._count += 1
            victim = Victim(kind, self._models, self._folder / f"{kind}{self._count}", **self._options)
            self._running[kind] = victim
            victim.ask()  # the first request of each protocol takes what the later ones have
        return victim

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for victim in self._running.values():
            victim.stop()


def measure(victim, attack):
    """Attacks a server while a probe asks for its health.

    Args:
        victim: `Victim`.
        attack: function that takes the victim and an `contextlib.ExitStack`, on which it leaves what it opened; returns
            a str: what it saw.

    Returns:
        `Outcome`.
    """
    lines, memory = victim.read_log().count("\n"), victim.read_bytes()
    with _probing(victim) as silences, _watching(victim) as peak, contextlib.ExitStack() as opened:
        start = time.monotonic()
        said = attack(victim, opened)
        time.sleep(max(0, start + victim.hold - time.monotonic()))
    answered = victim.ask()
    end = time.monotonic() + RETURN_SECONDS
    while victim.read_bytes() - memory > 5e7 and time.monotonic() < end:
        time.sleep(0.05)
    log = victim.read_log().splitlines()[lines:]
    return Outcome(
        said=said,
        grpc_silence=silences["grpc"],
        rest_silence=silences["rest"],
        control=silences["control"],
        lines=len(log),
        growth=(victim.read_bytes() - memory) / 1e6,
        peak=(peak[0] - memory) / 1e6,
        answered=answered,
        faults=[line for line in log if re.search(r"Traceback|INTERNAL|Error at |exception", line)],
    )


@contextlib.contextmanager
def _probing(victim):
    """Probes from before the attack until what it opened is closed. Yields a dict that is filled at the end."""
    command = [sys.executable, "-m", "tests.server.probe", str(victim.port), str(victim.rest_port)]
    command += ["tls"] if victim.tls else []
    silences = {}
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as probe:
        probe.stdout.readline()
        yield silences
        silences.update(json.loads(probe.communicate(timeout=60)[0]))


@contextlib.contextmanager
def _watching(victim):
    """Yields a list of the most bytes that the server held; a server that takes too many is killed."""
    peak, stopped = [0], threading.Event()

    def watch():
        while not stopped.wait(0.02):
            peak[0] = max(peak[0], victim.read_bytes())
            if peak[0] > MOST_BYTES:
                victim.process.kill()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stopped.set()
        watcher.join()


def make_certificate(folder):
    """Writes cert.pem and key.pem of localhost, which vouches for itself."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
