"""A small server that speaks TensorFlow Serving's protocol: for development and small sites.

    settings, policy   what a server and each of its models are told; which versions of a folder are served
    status             codes of answers, and the error that carries one
    servable, dtypes   one loaded version and its runs;  graph_errors: what TensorFlow says, cleaned
    warmup             the requests that lie beside a version
    model, catalogue   the versions of a model: loaded, swapped, unloaded;  the models by name and label
    checks, examples   a request before it runs;  Classify and Regress
    gate               how many requests run and how many wait
    inference          all that is answered, without a transport
    grpc_face          the same over gRPC;  rest_face, json_document, json_tensors, json_answer: over HTTP and JSON
    access, metrics    tokens, TLS and addresses;  what Prometheus reads;  faults: where an error came from
    server             all of it, started and stopped

TensorFlow is imported where models are loaded. The codes and texts of errors are TensorFlow Serving's. What a request
holds never stands in the log.
"""
