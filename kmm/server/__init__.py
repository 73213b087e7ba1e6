"""A small server that speaks TensorFlow Serving's protocol, for development and small sites.

    server, settings         start and stop the server;  settings of the server and of each model
    policy, model_list       versions to serve;  models to serve
    access                   addresses, TLS and tokens
    listeners, connections   bound addresses;  limits on open connections
    grpc                     event loop (server), methods (services), health checks (probes), byte relay (relay)
    rest                     the protocol over HTTP and JSON
    requests                 admission, batching and execution of a request, for both protocols
    models                   versions, loading, warm-up, execution
    status, metrics          status codes and errors;  metrics for Prometheus
    access_log, watching     a line of log per request;  files that may change while the server runs

TensorFlow is imported where models are loaded. Codes and texts of errors are TensorFlow Serving's. The content of a
request is never logged.
"""

from kmm.errors import require

for _package in ("grpc_health", "grpc_reflection", "prometheus_client", "tornado"):
    require(_package, "serve")
