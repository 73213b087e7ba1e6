"""`kmm serve`: serve exported classifiers."""

import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import click

from kmm.cli.command import PLACE, Command, group_options
from kmm.cli.serving_flags import translate_flags
from kmm.keras_backend import silence_libraries  # not of kmm.cli.output: Keras is not needed here


class _Serve(Command):
    """A command that also takes flags of TensorFlow Serving."""

    def parse_args(self, ctx, args):
        return super().parse_args(ctx, translate_flags(args))


def _number(name, parameter, default, least, text, *, most=None, whole=False, above=False):
    kind = click.IntRange(least, most) if whole else click.FloatRange(least, most, min_open=above)
    return click.option(name, parameter, type=kind, default=default, show_default=True, help=text)


def _count(name, parameter, default, least, text, most=None):
    return _number(name, parameter, default, least, text, most=most, whole=True)


_MODELS = group_options(
    click.option("--models", "models_file", type=PLACE, help="Model list in TensorFlow Serving's format."),
    click.option(
        "--versions",
        default="latest",
        show_default=True,
        help="Versions of each of MODELS: latest, latest:2, all, or 3,5.",
    ),
    click.option(
        "--label",
        "labels",
        multiple=True,
        help="Version label, MODEL:LABEL=VERSION, or LABEL=VERSION for a single model; repeatable.",
    ),
    _number(
        "--poll-seconds",
        "poll_seconds",
        1,
        0,
        "Interval of checks for new versions, tokens and keys, in seconds; 0 is never.",
    ),
    _number(
        "--models-poll-seconds", "models_poll_seconds", 1, 0, "Interval of checks of --models, in seconds; 0 is never."
    ),
    _count("--max-load-retries", "max_load_retries", 5, 0, "Retries of a version that fails to load."),
    _number(
        "--load-retry-seconds", "load_retry_seconds", 10, 0, "Wait before the first retry, in seconds; it then doubles."
    ),
    click.option(
        "--warmup/--no-warmup", default=True, show_default=True, help="Run the warm-up requests of each version."
    ),
    click.option("--explain-at-start", is_flag=True, help="Load explanations at start instead of on first use."),
    click.option("--allow-reload", is_flag=True, help="Let clients load any folder as a model."),
)
_ADDRESS = group_options(
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    _count("--port", "port", 8500, 0, "Port of gRPC; 0 is any free port.", 65535),
    _count("--rest-port", "rest_port", 8501, 0, "Port of HTTP; 0 is any free port.", 65535),
    click.option("--rest/--no-rest", default=True, show_default=True, help="Serve HTTP too."),
    click.option("--socket", type=PLACE, help="Unix socket for gRPC, without TLS, besides --port."),
    click.option(
        "--cors-origin",
        "cors_origins",
        multiple=True,
        help="Origin of web pages that may read responses; * is any; repeatable.",
    ),
)
_ACCESS = group_options(
    click.option("--tls-cert", "certificate", type=PLACE, help="PEM file of the certificate or its chain."),
    click.option("--tls-key", "key", type=PLACE, help="PEM file of the key of --tls-cert."),
    click.option(
        "--tls-client-ca", "client_authority", type=PLACE, help="PEM file of the certificate authorities of clients."
    ),
    click.option(
        "--tls-config",
        "tls_config",
        type=PLACE,
        help="TensorFlow Serving's SSLConfig file, instead of the options above.",
    ),
    click.option(
        "--token-file", type=PLACE, help="File of bearer tokens, one per line; each request needs one of them."
    ),
    click.option("--allow-plaintext", is_flag=True, help="Allow other hosts to connect without TLS."),
)
_LIMITS = group_options(
    _count("--threads", "threads", 16, 1, "Requests run in parallel."),
    _count("--explain-threads", "explain_threads", 1, 1, "Explanations run in parallel, in addition."),
    _count("--max-megapixels", "max_megapixels", 500, 1, "Most pixels of all films of a request, in millions."),
    _count("--max-queue", "max_queue", 64, 0, "Most waiting requests."),
    click.option("--batching/--no-batching", default=True, show_default=True, help="Batch waiting requests."),
    _count("--max-batch", "max_batch", 32, 1, "Most rows per batch.", 1024),
    _number("--batch-wait-ms", "batch_wait_ms", 2, 0, "Longest wait for a full batch, in ms.", most=1000),
    _count("--max-message-mb", "max_message_mb", 64, 1, "Largest request, in MB.", 2047),
    _number(
        "--message-timeout",
        "message_seconds",
        30,
        0,
        "Time limit for a gRPC request to arrive, in seconds.",
        above=True,
    ),
    _count("--max-connections", "max_connections", 1000, 1, "Most open connections, for gRPC and HTTP each."),
    click.option(
        "--max-connections-per-address", type=click.IntRange(1), help="Most open connections per client address."
    ),
    _number(
        "--rest-timeout",
        "rest_timeout_seconds",
        30,
        0,
        "Time limit for an HTTP request to arrive, and then to wait, in seconds.",
        above=True,
    ),
    _number("--grace", "grace_seconds", 30, 0, "Time limit for running requests at shutdown, in seconds."),
)
_ANSWERS = group_options(
    click.option(
        "--tensor-content", is_flag=True, help="Send numbers as raw bytes: faster, but not every client reads them."
    ),
    click.option("--log-requests", is_flag=True, help="Log one JSON line per request, without its content."),
    click.option(
        "--validate", is_flag=True, help="Check the configuration, load the models and exit: 0 valid, 2 invalid."
    ),
)


@click.command(cls=_Serve)
@click.argument("models", nargs=-1)
@_MODELS
@_ADDRESS
@_ACCESS
@_LIMITS
@_ANSWERS
def serve(
    models: tuple[str, ...],
    models_file: Path | None,
    versions: str,
    labels: tuple[str, ...],
    rest: bool,
    rest_port: int,
    log_requests: bool,
    validate: bool,
    **values: Any,
) -> None:
    """Serve exported classifiers over gRPC and HTTP.

    Speaks TensorFlow Serving's protocol; meant for development and small sites. Each of MODELS is a folder that
    `kmm export` wrote, or NAME=FOLDER. The running server picks up new versions and changed files of models, tokens and
    TLS; SIGHUP checks at once. SIGTERM and Ctrl-C wait for running requests; a second one does not. Equivalent flags of
    TensorFlow Serving work too.

    \b
    Example: kmm serve saved_models/openi --port 8500 --rest-port 8501
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # TensorFlow imports Keras, whose own choice may not load
    with silence_libraries():
        import tensorflow  # noqa: F401  prints messages while it is imported

        from kmm.server.model_list import ModelList
        from kmm.server.policy import parse_policy
        from kmm.server.server import NOTICE, Server
        from kmm.server.settings import ServeSettings, parse_model
    settings = ServeSettings(**values, rest_port=rest_port if rest else None)
    policy = parse_policy(versions)
    listed = ModelList([parse_model(folder, policy) for folder in models], models_file, labels)
    if validate:
        click.echo(_validate(listed, settings))
        return
    _start_log(log_requests=log_requests)
    click.echo(NOTICE, err=True)
    _ignore_hang_up()
    _run(Server(listed, settings), settings)


def _run(server, settings):
    """Serves until a signal stops the server."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: (signal.signal(number, signal.SIG_DFL), stopped.set()))
    server.start()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, frame: server.reload())
    click.echo(_announce(server, settings))
    stopped.wait()
    click.echo("stopping: waiting for running requests", err=True)
    if not server.stop():
        click.echo("stopped before all requests had ended", err=True)
        os._exit(1)  # Python would wait for the threads of these requests, which cannot be stopped


def _validate(models, settings):
    """Starts a server and stops it; returns one line about the models that it would serve.

    Raises:
        InputError: if the server does not start, or a version that should be served does not load.
    """
    from kmm.errors import InputError
    from kmm.server.server import Server

    logger = logging.getLogger("kmm.server")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # the one-line error replaces the log
    try:
        server = Server(models, settings)
        try:
            faults = server.list_faults()
            if faults:
                raise InputError(f"A version cannot be served. {'; '.join(faults)}")
            server.start()
            return f"valid: {_announce(server, settings)}"
        finally:
            server.stop(0)
    finally:
        logger.setLevel(level)


class _Lines(logging.Formatter):
    """Lines with a time, except those of the access log, which are JSON and contain it."""

    def format(self, record):
        return record.getMessage() if record.name == "kmm.server.access_log" else super().format(record)


def _start_log(*, log_requests):
    """Starts the log on standard error, with or without the requests."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("kmm.server").setLevel(logging.INFO)
    logging.getLogger("kmm.server.access_log").setLevel(logging.INFO if log_requests else logging.WARNING)


def _ignore_hang_up():
    """Ignores SIGHUP until the server runs: it would end the process, and all files are read at start anyway."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _announce(server, settings):
    """Returns one line with the models and the addresses on which the server listens."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    places = [f"gRPC {host}:{server.port}"]
    if settings.socket:
        places.append(f"gRPC unix:{settings.socket}")
    if server.rest_port is not None:
        tls = settings.certificate or settings.tls_config
        places.append(f"REST {'https' if tls else 'http'}://{host}:{server.rest_port}")
    held = [f"{name} ({', '.join(map(str, versions))})" for name, versions in server.models.items()]
    return f"serving {', '.join(held)}: {', '.join(places)}"
