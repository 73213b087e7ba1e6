"""A small server that speaks TensorFlow Serving's protocol: for development and small sites.

    server, settings     starts and stops all of it;  what an operator can set;  policy: which versions are served
    access               addresses, TLS and tokens
    listeners, connections   bound addresses;  how many connections may be open, and which one has to go
    grpc                 gRPC's event loop (server), its methods (services), health (probes), bytes from clients (relay)
    rest                 the protocol over HTTP and JSON
    requests             a request from its arrival to its answer, whichever protocol brought it
    models               the models: versions, loading, warm-up, running
    status, metrics      codes of answers;  counters for Prometheus

TensorFlow is imported where models are loaded. The codes and texts of errors are TensorFlow Serving's. The content of a
request never stands in the log.
"""

from kmm.errors import require

for _package in ("grpc_health", "grpc_reflection", "prometheus_client", "tornado"):
    require(_package, "serve")
