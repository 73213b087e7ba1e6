"""What a server and each of its models are told."""

import math
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from kmm.errors import InputError
from kmm.protocol.messages import load_stubs
from kmm.protocol.signatures import MOST_ROWS
from kmm.server.policy import ALL, LATEST, SPECIFIC, VersionPolicy
from kmm.server.text_configs import parse_text

_NAME = re.compile(r"[^/:\s]+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?|\*")  # as browsers write it
_SECONDS = threading.TIMEOUT_MAX
_RANGES = {  # least and most of each setting that is a number
    "port": (0, 65535),
    "rest_port": (0, 65535),
    "threads": (1, math.inf),
    "explain_threads": (1, math.inf),
    "max_megapixels": (1, math.inf),
    "max_queue": (0, math.inf),
    "max_batch": (1, MOST_ROWS),
    "batch_wait_ms": (0, 1000),
    "max_message_mb": (1, 2047),
    "message_seconds": (1e-3, _SECONDS),
    "max_connections": (1, math.inf),
    "max_connections_per_address": (1, math.inf),
    "grace_seconds": (0, _SECONDS),
    "rest_timeout_seconds": (1e-3, _SECONDS),
    "poll_seconds": (0, _SECONDS),
    "models_poll_seconds": (0, _SECONDS),
    "max_load_retries": (0, math.inf),
    "load_retry_seconds": (0, _SECONDS),
}


@dataclass(frozen=True)
class ModelSettings:
    """A model to serve.

    Attributes:
        name: str, by which requests name it.
        folder: Path that holds the versions.
        policy: `VersionPolicy`.
        labels: dict of label to version.
    """

    name: str
    folder: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: dict = field(default_factory=dict)


@dataclass(frozen=True)
class ServeSettings:
    """How a server listens and works.

    Attributes:
        host: str. Address to listen on.
        port, rest_port: int. 0 is any free port; `rest_port` None is no HTTP.
        threads: int. Requests that run at once.
        explain_threads: int. Of signatures whose names begin with `explain`, besides those.
        max_megapixels: int. Millions of pixels that the films of one request may have in all.
        max_queue: int. Requests that wait, of each of the two kinds; the next one is refused.
        batching: bool. Requests that arrive while a model is busy run together; only of kmm's exports.
        max_batch: int. Rows of such a batch at most.
        batch_wait_ms: float. How long a batch that is not full waits for more requests after one that ran.
        explain_at_start: bool. Explanations are made ready when a version is loaded, not by their first request.
        max_message_mb: int. The largest request.
        message_seconds: float. How long a request over gRPC may take to arrive.
        max_connections: int. Open connections, of each of gRPC and HTTP; fewer where the limit of open files is low.
            The one that was silent longest is closed for a new one.
        max_connections_per_address: int, or None for no limit. Open connections of one client address.
        socket: Path of a Unix socket on which gRPC listens too, in plain text, or None.
        grace_seconds: float. How long running requests may take when the server stops.
        rest_timeout_seconds: float. How long a request over HTTP may take to arrive, and then wait for its turn.
        cors_origins: tuple of str. Origins of web pages that may read answers over HTTP, such as
            `"https://viewer.example"`; `"*"` is any.
        poll_seconds: float. How often folders of models, and the files of tokens and TLS, are looked at; 0 is never.
        models_poll_seconds: float. How often the file of a `ModelList` is looked at; 0 is never.
        max_load_retries: int. How often a version that could not be loaded is tried again.
        load_retry_seconds: float. How long until the first of these; twice as long before each other.
        warmup: bool. Whether the requests that lie beside a version run before it serves.
        tensor_content: bool. Numbers are answered as blocks of bytes, not as lists.
        allow_reload: bool. Clients may change the list of models; for other hosts only with tokens, or certificates of
            clients.
        allow_plaintext: bool. Other hosts may connect without TLS.
        certificate, key, client_authority: Path of PEM files, or None; the last makes clients show a certificate of it.
        tls_config: Path of TensorFlow Serving's SSLConfig, in place of these three, or None.
        token_file: Path of the tokens that requests must bear, see `kmm.server.access.Tokens`, or None.

    Raises:
        InputError: if a number is not in its range.

    Example:
        >>> ServeSettings(threads=0)
        Traceback (most recent call last):
        kmm.errors.InputError: `threads` must be in [1, inf]. Received: 0.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int | None = 8501
    threads: int = 16
    explain_threads: int = 1
    max_megapixels: int = 500
    max_queue: int = 64
    batching: bool = True
    max_batch: int = 32
    batch_wait_ms: float = 2.0
    explain_at_start: bool = False
    max_message_mb: int = 64
    message_seconds: float = 30.0
    max_connections: int = 1000
    max_connections_per_address: int | None = None
    socket: Path | None = None
    grace_seconds: float = 30.0
    rest_timeout_seconds: float = 30.0
    cors_origins: tuple = ()
    poll_seconds: float = 1.0
    models_poll_seconds: float = 1.0
    max_load_retries: int = 5
    load_retry_seconds: float = 10.0
    warmup: bool = True
    tensor_content: bool = False
    allow_reload: bool = False
    allow_plaintext: bool = False
    certificate: Path | None = None
    key: Path | None = None
    client_authority: Path | None = None
    tls_config: Path | None = None
    token_file: Path | None = None

    def __post_init__(self):
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"`{name}` must be in [{least:g}, {most:g}]. Received: {value}.")
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise InputError(f"`cors_origins`: {origin!r} is no origin. Write scheme://host, or * for any origin.")

    @property
    def places(self):
        """int: the requests that may run and wait, of both kinds together."""
        return self.threads + self.explain_threads + 2 * self.max_queue

    def delay_retry(self, tries):
        """Seconds until something that failed to load so many times is tried again.

        Example:
            >>> [ServeSettings().delay_retry(tries) for tries in (1, 2, 3)]
            [10.0, 20.0, 40.0]
        """
        return min(self.load_retry_seconds * 2.0 ** min(tries - 1, 100), _SECONDS)


def parse_model(text, policy=VersionPolicy()):  # noqa: B008  frozen
    """Reads a model: its folder, or `name=folder`.

    Raises:
        InputError: if the name cannot stand in an address.

    Example:
        >>> parse_model("saved_models/film").name, parse_model("best=saved_models/film").name
        ('film', 'best')
    """
    name, separator, folder = str(text).partition("=")
    folder = Path(folder if separator else name)
    name = name if separator else folder.resolve().name
    return check_model(ModelSettings(name, folder, policy))


def check_model(model):
    """Returns the settings of a model, if its name can stand in an address."""
    if not _NAME.fullmatch(model.name):
        raise InputError(f"A model's name must have no slash, colon or space. Received: {model.name!r}.")
    return model


def parse_models(content, path):
    """Reads a list of models in TensorFlow Serving's own format: the text of a `ModelServerConfig`.

    Args:
        content: bytes of the file.
        path: its path, for errors.

    Returns:
        list of `ModelSettings`.

    Raises:
        InputError: if it is none, or a name comes twice.
    """
    config = parse_text(load_stubs().model_server_config_pb2.ModelServerConfig, content, path)
    if not config.model_config_list.config:
        raise InputError(f"{path}: expected a model_config_list with a config. Received: none.")
    return read_model_list(config.model_config_list)


def read_model_list(message):
    """The models of a `ModelConfigList`.

    Returns:
        list of `ModelSettings`.

    Raises:
        InputError: if a model lacks a name or a folder, or a name comes twice.
    """
    models = []
    for config in message.config:
        if not config.base_path:
            raise InputError(f"Expected a base_path of the model {config.name!r}. Received: none.")
        folder, labels = Path(config.base_path), dict(config.version_labels)
        models.append(check_model(ModelSettings(config.name, folder, _read_policy(config), labels)))
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise InputError("Expected a name once in a list of models. Received: a name twice.")
    return models


def _read_policy(config):
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice") or LATEST
    return {
        LATEST: VersionPolicy(LATEST, count=policy.latest.num_versions or 1),
        ALL: VersionPolicy(ALL),
        SPECIFIC: VersionPolicy(SPECIFIC, versions=tuple(policy.specific.versions)),
    }[kind]
