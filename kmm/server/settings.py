"""Settings of a server and of each model that it serves."""

import math
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kmm.errors import InputError
from kmm.protocol.messages import load_stubs
from kmm.protocol.signatures import MOST_ROWS
from kmm.server.policy import ALL, LATEST, SPECIFIC, VersionPolicy
from kmm.server.text_configs import parse_text

if TYPE_CHECKING:
    from tensorflow_serving.config import model_server_config_pb2

_NAME = re.compile(r"[^/:\s]+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?|\*")  # as browsers write it
_SECONDS = threading.TIMEOUT_MAX
_RANGES: dict[str, tuple[float, float]] = {  # minimum and maximum of each numeric setting
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
        name: str. Name of the model in requests.
        folder: Path of the folder with the versions.
        policy: `VersionPolicy`.
        labels: dict of label to version.
    """

    name: str
    folder: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ServeSettings:
    """Addresses, limits, timeouts and files of a server.

    Attributes:
        host: str. Address to listen on.
        port, rest_port: int. 0 is any free port; `rest_port` None turns HTTP off.
        threads: int. Requests that run in parallel, without explanations.
        explain_threads: int. Requests that run in parallel of signatures whose names begin with `explain`.
        max_megapixels: int. Most pixels of all films of one request, in millions.
        max_queue: int. Waiting requests, of explanations and of all others each; further requests are refused.
        batching: bool. Run requests that arrive while a model is busy as one batch; for kmm's exports only.
        max_batch: int. Most rows of such a batch.
        batch_wait_ms: float. Longest time that a partial batch waits for more requests after another batch has run.
        explain_at_start: bool. Load explanations with the version, not on their first request.
        max_message_mb: int. Size of the largest request in MB.
        message_seconds: float. Time limit for a request over gRPC to arrive.
        max_connections: int. Open connections, for gRPC and HTTP each; fewer if the limit of open files is low.
            A new connection replaces the one that has been silent longest.
        max_connections_per_address: int, or None for no limit. Open connections per client address.
        socket: Path of a Unix socket on which gRPC listens too, in plain text, or None.
        grace_seconds: float. Time limit for running requests when the server stops.
        rest_timeout_seconds: float. Time limit for a request over HTTP to arrive, and then to wait for its turn.
        cors_origins: tuple of str. Origins of web pages that may read answers over HTTP, such as
            `"https://viewer.example"`; `"*"` is any.
        poll_seconds: float. Interval of checks of model folders, tokens and TLS files; 0 is never.
        models_poll_seconds: float. Interval of checks of the file of a `ModelList`; 0 is never.
        max_load_retries: int. Retries of a version that fails to load.
        load_retry_seconds: float. Time until the first retry; it doubles for each further one.
        warmup: bool. Whether the warm-up requests of a version run before it serves.
        tensor_content: bool. Send numbers as blocks of bytes, not as lists.
        allow_reload: bool. Let clients change the list of models; clients on other hosts need a token or a certificate.
        allow_plaintext: bool. Let other hosts connect without TLS.
        certificate, key, client_authority: Path of PEM files, or None. With `client_authority`, clients must show a
            certificate that it signed.
        tls_config: Path of TensorFlow Serving's SSLConfig, which replaces these three, or None.
        token_file: Path of the tokens that requests may use, see `kmm.server.access.Tokens`, or None.

    Raises:
        InputError: if a number is outside its range, or an entry of `cors_origins` is not an origin.

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
    cors_origins: tuple[str, ...] = ()
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

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"`{name}` must be in [{least:g}, {most:g}]. Received: {value}.")
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise InputError(f"`cors_origins`: {origin!r} is not an origin. Write scheme://host, or * for any.")

    @property
    def places(self) -> int:
        """int: most requests that run or wait, explanations and all others together."""
        return self.threads + self.explain_threads + 2 * self.max_queue

    def delay_retry(self, tries: int) -> float:
        """Returns the seconds until the next attempt, after `tries` failed attempts to load.

        Example:
            >>> [ServeSettings().delay_retry(tries) for tries in (1, 2, 3)]
            [10.0, 20.0, 40.0]
        """
        return min(self.load_retry_seconds * 2.0 ** min(tries - 1, 100), _SECONDS)


def parse_model(text: str, policy: VersionPolicy = VersionPolicy()) -> ModelSettings:  # noqa: B008  frozen
    """Parses a model: its folder, or `name=folder`.

    Raises:
        InputError: if the name cannot be part of a URL.

    Example:
        >>> parse_model("saved_models/film").name, parse_model("best=saved_models/film").name
        ('film', 'best')
    """
    name, separator, folder = str(text).partition("=")
    path = Path(folder if separator else name)
    return check_model(ModelSettings(name if separator else path.resolve().name, path, policy))


def check_model(model: ModelSettings) -> ModelSettings:
    """Returns the settings of a model if its name can be part of a URL.

    Raises:
        InputError: if it cannot.
    """
    if not _NAME.fullmatch(model.name):
        raise InputError(f"The name of a model must not contain a slash, colon or space. Received: {model.name!r}.")
    return model


def parse_models(content: bytes, path: Path | str) -> list[ModelSettings]:
    """Parses a list of models in TensorFlow Serving's format: the text of a `ModelServerConfig`.

    Args:
        content: bytes of the file.
        path: path of the file, for errors.

    Returns:
        list of `ModelSettings`.

    Raises:
        InputError: if the text has another format, lists no model, or as for `read_model_list`.
    """
    config = parse_text(load_stubs().model_server_config_pb2.ModelServerConfig, content, path)
    if not config.model_config_list.config:
        raise InputError(f"{path}: expected a model_config_list with a config. Received: none.")
    return read_model_list(config.model_config_list)


def read_model_list(message: "model_server_config_pb2.ModelConfigList") -> list[ModelSettings]:
    """Reads the models of a `ModelConfigList`.

    Returns:
        list of `ModelSettings`.

    Raises:
        InputError: if a model has an invalid name or no folder, or two models have the same name.
    """
    models = []
    for config in message.config:
        if not config.base_path:
            raise InputError(f"Model {config.name!r} has no base_path. Add the path of its folder.")
        folder, labels = Path(config.base_path), dict(config.version_labels)
        models.append(check_model(ModelSettings(config.name, folder, _read_policy(config), labels)))
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise InputError("Two models in the list have the same name. Give each its own name.")
    return models


def _read_policy(config):
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice") or LATEST
    return {
        LATEST: VersionPolicy(LATEST, count=policy.latest.num_versions or 1),
        ALL: VersionPolicy(ALL),
        SPECIFIC: VersionPolicy(SPECIFIC, versions=tuple(policy.specific.versions)),
    }[kind]
