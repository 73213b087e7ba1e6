"""The command `serve`."""

import logging
import os
import signal
import threading

import click

from kmm.cli.command import PLACE, Command, group_options
from kmm.cli.serving_flags import translate_flags
from kmm.explain.folder.processes import silence_libraries  # Keras is not needed here


class _Serve(Command):
    """A command that takes flags of TensorFlow Serving too."""

    def parse_args(self, ctx, args):
        return super().parse_args(ctx, translate_flags(args))


def _number(name, parameter, default, least, text, *, most=None, whole=False, above=False):
    kind = click.IntRange(least, most) if whole else click.FloatRange(least, most, min_open=above)
    return click.option(name, parameter, type=kind, default=default, show_default=True, help=text)


def _count(name, parameter, default, least, text, most=None):
    return _number(name, parameter, default, least, text, most=most, whole=True)


_MODELS = group_options(
    click.option("--models", "models_file", type=PLACE, help="List of models in TensorFlow Serving's format."),
    click.option(
        "--versions", default="latest", show_default=True, help="latest, latest:2, all, or 3,5; of every MODEL."
    ),
    click.option("--label", "labels", multiple=True, help="MODEL:LABEL=VERSION, or LABEL=VERSION of the one MODEL."),
    _number("--poll-seconds", "poll_seconds", 1, 0, "How often to look for new versions, tokens and keys; 0 is never."),
    _number("--models-poll-seconds", "models_poll_seconds", 1, 0, "How often to look at --models; 0 is never."),
    _count("--max-load-retries", "max_load_retries", 5, 0, "Times that a version that does not load is tried again."),
    _number("--load-retry-seconds", "load_retry_seconds", 10, 0, "Seconds to the first of them; then twice as many."),
    click.option("--warmup/--no-warmup", default=True, show_default=True, help="Run a version's warm-up requests."),
    click.option("--explain-at-start", is_flag=True, help="Make explanations ready at the start, not on first use."),
    click.option("--allow-reload", is_flag=True, help="Let clients load any folder as a model."),
)
_ADDRESS = group_options(
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    _count("--port", "port", 8500, 0, "gRPC; 0 is any.", 65535),
    _count("--rest-port", "rest_port", 8501, 0, "HTTP; 0 is any.", 65535),
    click.option("--rest/--no-rest", default=True, show_default=True, help="Whether HTTP is spoken too."),
    click.option("--socket", type=PLACE, help="Unix socket on which gRPC listens too, in plain text."),
    click.option(
        "--cors-origin", "cors_origins", multiple=True, help="Origin of web pages that may read answers; * is any."
    ),
)
_ACCESS = group_options(
    click.option("--tls-cert", "certificate", type=PLACE, help="PEM file of the certificate (chain)."),
    click.option("--tls-key", "key", type=PLACE, help="PEM file of its key."),
    click.option("--tls-client-ca", "client_authority", type=PLACE, help="PEM file of the authorities of clients."),
    click.option("--tls-config", "tls_config", type=PLACE, help="TensorFlow Serving's SSLConfig instead of these."),
    click.option("--token-file", type=PLACE, help="File of tokens, a line each; requests must bear one of them."),
    click.option("--allow-plaintext", is_flag=True, help="Let other hosts connect without TLS."),
)
_LIMITS = group_options(
    _count("--threads", "threads", 16, 1, "Requests at once."),
    _count("--explain-threads", "explain_threads", 1, 1, "Explanations besides."),
    _count("--max-megapixels", "max_megapixels", 500, 1, "Pixels of the films of a request, in millions."),
    _count("--max-queue", "max_queue", 64, 0, "Requests that may wait."),
    click.option("--batching/--no-batching", default=True, show_default=True, help="Run waiting requests together."),
    _count("--max-batch", "max_batch", 32, 1, "Rows of such a batch.", 1024),
    _number("--batch-wait-ms", "batch_wait_ms", 2, 0, "Milliseconds that a batch waits for more requests.", most=1000),
    _count("--max-message-mb", "max_message_mb", 64, 1, "Largest request.", 2047),
    _number(
        "--message-timeout",
        "message_seconds",
        30,
        0,
        "Seconds that a request over gRPC may take to arrive.",
        above=True,
    ),
    _count("--max-connections", "max_connections", 1000, 1, "Open connections, of gRPC and of HTTP each."),
    click.option(
        "--max-connections-per-address", type=click.IntRange(1), help="Open connections of one client address."
    ),
    _number(
        "--rest-timeout",
        "rest_timeout_seconds",
        30,
        0,
        "Seconds that a request over HTTP may take to arrive, and then wait.",
        above=True,
    ),
    _number("--grace", "grace_seconds", 30, 0, "Seconds that running requests may take at the end."),
)
_ANSWERS = group_options(
    click.option(
        "--tensor-content", is_flag=True, help="Answer numbers as blocks of bytes: faster; not for every client."
    ),
    click.option("--log-requests", is_flag=True, help="A line of JSON for each request; never what it held."),
    click.option("--validate", is_flag=True, help="Try the configuration, load the models, and end: 0 good, 2 not."),
)


@click.command(cls=_Serve)
@click.argument("models", nargs=-1)
@_MODELS
@_ADDRESS
@_ACCESS
@_LIMITS
@_ANSWERS
def serve(models, models_file, versions, labels, rest, rest_port, log_requests, validate, **values):
    """Serve exported MODELS over TensorFlow Serving's protocol: for development and small sites.

    Each of MODELS is a folder that `kmm export` wrote, or NAME=FOLDER. New versions, and changes of the files of
    models, tokens and TLS, are taken up while the server runs; SIGHUP looks at once. SIGTERM and Ctrl-C let running
    requests end; a second one does not wait. Flags of TensorFlow Serving that mean the same are understood too.

    \b
    Example: kmm serve saved_models/openi --port 8500 --rest-port 8501
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # TensorFlow imports Keras, whose own choice may not load
    with silence_libraries():
        import tensorflow  # noqa: F401  it speaks while it is imported

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
    """Serves until a signal says to stop."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: (signal.signal(number, signal.SIG_DFL), stopped.set()))
    server.start()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, frame: server.reload())
    click.echo(_announce(server, settings))
    stopped.wait()
    click.echo("stopping: running requests may end", err=True)
    if not server.stop():
        click.echo("stopped before all requests had ended", err=True)
        os._exit(1)  # their threads cannot be ended, and Python would wait for them


def _validate(models, settings):
    """Starts a server and stops it; returns what it would serve, in one line.

    Raises:
        InputError: if it would not start, or a version that should be served does not load.
    """
    from kmm.errors import InputError
    from kmm.server.server import Server

    logger = logging.getLogger("kmm.server")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # the error says it, in its one line
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
    """Lines with a time; those of the access log are JSON and hold it."""

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
    """Until the server runs, SIGHUP would end the process; files are read anyway then."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _announce(server, settings):
    """The line that says where the server listens."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    places = [f"gRPC {host}:{server.port}"]
    if settings.socket:
        places.append(f"gRPC unix:{settings.socket}")
    if server.rest_port is not None:
        tls = settings.certificate or settings.tls_config
        places.append(f"REST {'https' if tls else 'http'}://{host}:{server.rest_port}")
    held = [f"{name} ({', '.join(map(str, versions))})" for name, versions in server.models.items()]
    return f"serving {', '.join(held)}: {', '.join(places)}"
