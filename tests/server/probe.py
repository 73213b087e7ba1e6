"""Asks a server for its health again and again, from a process of its own, and says how long it was silent.

    python -m tests.server.probe GRPC_PORT REST_PORT [tls]

Every 0.2 s a fresh connection asks over gRPC, another over HTTP, and a third asks a trivial responder in a process
besides: its silence is that of the machine, not of the server. The end of standard input ends it; then it prints the
longest seconds without an answer of each as JSON.
"""

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from functools import partial

from tests.server.http2 import ask_health

PERIOD, TIMEOUT = 0.2, 1.0
HTTP_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
RESPONDER = (
    "import socket\n"
    "server = socket.create_server(('127.0.0.1', 0)); print(server.getsockname()[1], flush=True)\n"
    "while True:\n"
    "    client, _ = server.accept(); client.recv(999); client.sendall(b'HTTP/1.1 200 \\r\\n\\r\\n'); client.close()\n"
)


def make_tls(protocol):
    """TLS that believes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def ask_http(port, timeout=TIMEOUT, tls=None):
    """Whether a fresh connection over HTTP is answered with 200."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as client:
        if tls is not None:
            client = tls.wrap_socket(client)
        client.sendall(HTTP_REQUEST)
        return client.recv(999)[:13] in (b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")


class Probe(threading.Thread):
    """Asks until it is stopped.

    Attributes:
        longest: float. Longest seconds between two answers.
    """

    def __init__(self, ask, port, stopped):
        super().__init__(daemon=True)
        self.longest, self._ask, self._port, self._stopped = 0.0, ask, port, stopped

    def run(self):
        answered, going = time.monotonic(), True
        while going:
            going = not self._stopped.wait(PERIOD)  # asks once more after the end: what is silent now is silent
            try:
                healthy = self._ask(self._port)
            except OSError:
                healthy = False
            now = time.monotonic()
            if healthy or not going:
                self.longest = max(self.longest, now - answered)
                answered = now


def main(ports, encrypted):
    with subprocess.Popen([sys.executable, "-S", "-c", RESPONDER], stdout=subprocess.PIPE, text=True) as responder:
        try:
            asked = {
                "grpc": (partial(ask_health, tls=make_tls("h2") if encrypted else None), ports[0]),
                "rest": (partial(ask_http, tls=make_tls("http/1.1") if encrypted else None), ports[1]),
            }
            asked["control"] = (ask_http, int(responder.stdout.readline()))
            stopped = threading.Event()
            probes = {name: Probe(ask, port, stopped) for name, (ask, port) in asked.items()}
            for probe in probes.values():
                probe.start()
            print("probing", flush=True)
            sys.stdin.read()
            stopped.set()
            for probe in probes.values():
                probe.join(10)
        finally:
            responder.kill()
    print(json.dumps({name: probe.longest for name, probe in probes.items()}))


if __name__ == "__main__":
    main([int(port) for port in sys.argv[1:3]], sys.argv[3:] == ["tls"])
