"""The command `serve`."""

import logging
import os
import re
import signal
import threading
from dataclasses import replace

import click

from kmm.cli.command import PLACE, Command
from kmm.errors import InputError
from kmm.explain.processes import hushed  # Keras is not needed here


@click.command(cls=Command)
@click.argument("models", nargs=-1)
@click.option("--models", "models_file", type=PLACE, help="List of models in TensorFlow Serving's format.")
@click.option("--versions", default="latest", show_default=True, help="latest, latest:2, all, or 3,5; of every MODEL.")
@click.option("--label", "labels", multiple=True, help="MODEL:LABEL=VERSION, or LABEL=VERSION of the one MODEL.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8500, show_default=True, help="gRPC; 0 is any.")
@click.option("--rest-port", type=click.IntRange(0, 65535), default=8501, show_default=True, help="HTTP; 0 is any.")
@click.option("--rest/--no-rest", default=True, show_default=True, help="Whether HTTP is spoken too.")
@click.option("--threads", type=click.IntRange(1), default=16, show_default=True, help="Requests at once.")
@click.option("--explain-threads", type=click.IntRange(1), default=1, show_default=True, help="Explanations besides.")
@click.option("--max-queue", type=click.IntRange(0), default=64, show_default=True, help="Requests that may wait.")
@click.option("--batching/--no-batching", default=True, show_default=True, help="Run waiting requests together.")
@click.option("--max-batch", type=click.IntRange(1, 1024), default=32, show_default=True, help="Rows of a batch.")
@click.option(
    "--batch-wait-ms",
    type=click.FloatRange(0, 1000),
    default=2,
    show_default=True,
    help="Milliseconds that a batch waits for more requests after another one ran.",
)
@click.option("--explain-at-start", is_flag=True, help="Make explanations ready at the start, not on first use.")
@click.option("--max-message-mb", type=click.IntRange(1, 2047), default=64, show_default=True, help="Largest request.")
@click.option(
    "--rest-timeout",
    "rest_timeout_seconds",
    type=click.FloatRange(0, min_open=True),
    default=30,
    show_default=True,
    help="Seconds that a request over HTTP may take to arrive, and then wait.",
)
@click.option(
    "--grace",
    "grace_seconds",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    help="Seconds that running requests may take at the end.",
)
@click.option(
    "--poll-seconds",
    type=click.FloatRange(0),
    default=1,
    show_default=True,
    help="How often folders are looked at for new versions; 0 is never.",
)
@click.option("--tls-cert", "certificate", type=PLACE, help="PEM file of the certificate (chain).")
@click.option("--tls-key", "key", type=PLACE, help="PEM file of its key.")
@click.option("--tls-client-ca", "client_authority", type=PLACE, help="PEM file whose certificates clients must show.")
@click.option("--token-file", type=PLACE, help="File with the token that requests must bear.")
@click.option("--allow-plaintext", is_flag=True, help="Let other hosts connect without TLS.")
@click.option("--allow-reload", is_flag=True, help="Let clients load any folder as a model.")
@click.option("--tensor-content", is_flag=True, help="Answer numbers as blocks of bytes: faster; not for every client.")
@click.option("--log-requests", is_flag=True, help="A line for each request: method, model, code and time.")
def serve(models, models_file, versions, labels, rest, rest_port, token_file, log_requests, **values):
    """Serve exported MODELS over TensorFlow Serving's protocol: for development and small sites.

    Each of MODELS is a folder that `kmm export` wrote, or NAME=FOLDER. New versions are taken up while the server runs.
    SIGTERM and Ctrl-C let running requests end; a second one does not wait.

    \b
    Example: kmm serve saved_models/openi --port 8500 --rest-port 8501
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # TensorFlow imports Keras, whose own choice may not load
    with hushed():
        import tensorflow  # noqa: F401  it speaks while it is imported

        from kmm.server.access import read_token
        from kmm.server.server import NOTICE, Server
        from kmm.server.settings import ServeSettings
    settings = ServeSettings(
        **values, rest_port=rest_port if rest else None, token=read_token(token_file) if token_file else None
    )
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("kmm.server").setLevel(logging.INFO)
    logging.getLogger("kmm.server.requests").setLevel(logging.INFO if log_requests else logging.WARNING)
    click.echo(NOTICE, err=True)
    server = Server(_list_models(models, models_file, versions, labels), settings)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: (signal.signal(number, signal.SIG_DFL), stopped.set()))
    server.start()
    click.echo(_announce(server, settings))
    stopped.wait()
    click.echo("stopping: running requests may end", err=True)
    if not server.stop():
        click.echo("stopped before all requests had ended", err=True)
        os._exit(1)  # their threads cannot be ended, and Python would wait for them


def _list_models(folders, models_file, versions, labels):
    """The models of the command line and of a file, with labels."""
    from kmm.server.policy import parse_policy
    from kmm.server.settings import parse_model, read_models_file

    policy = parse_policy(versions)
    models = [parse_model(folder, policy) for folder in folders]
    models += read_models_file(models_file) if models_file else []
    names = [model.name for model in models]
    if not models:
        raise InputError("Expected a folder of a model, or --models FILE. Received: neither.")
    if len(set(names)) < len(names):
        raise InputError("Expected each model once; name=folder gives another name. Received: a name twice.")
    for label in labels:
        found = re.fullmatch(r"(?:(?P<model>[^:=]+):)?(?P<label>[^:=/\s]+)=(?P<version>[0-9]{1,18})", label)
        named = found and (found["model"] or (names[0] if len(names) == 1 else None))
        if named not in names:
            raise InputError(f"Expected a label as MODEL:LABEL=VERSION, of a served model. Received: {label!r}.")
        place = names.index(named)
        kept = {**models[place].labels, found["label"]: int(found["version"])}
        models[place] = replace(models[place], labels=kept)
    return models


def _announce(server, settings):
    """The line that says where the server listens."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    places = [f"gRPC {host}:{server.port}"]
    if server.rest_port is not None:
        places.append(f"REST {'https' if settings.certificate else 'http'}://{host}:{server.rest_port}")
    held = [f"{name} ({', '.join(map(str, versions))})" for name, versions in server.models.items()]
    return f"serving {', '.join(held)}: {', '.join(places)}"
