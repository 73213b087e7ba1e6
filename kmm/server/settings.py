"""What a server and each of its models are told."""

import math
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from kmm.errors import InputError
from kmm.server.policy import ALL, LATEST, SPECIFIC, VersionPolicy
from kmm.signature import MOST_ROWS
from kmm.stubs import load_stubs

_NAME = re.compile(r"[^/:\s]+")
_SECONDS = threading.TIMEOUT_MAX
_RANGES = {  # least and most of each setting that is a number
    "port": (0, 65535),
    "rest_port": (0, 65535),
    "threads": (1, math.inf),
    "explain_threads": (1, math.inf),
    "max_queue": (0, math.inf),
    "max_batch": (1, MOST_ROWS),
    "batch_wait_ms": (0, 1000),
    "max_message_mb": (1, 2047),
    "grace_seconds": (0, _SECONDS),
    "rest_timeout_seconds": (1e-3, _SECONDS),
    "poll_seconds": (0, _SECONDS),
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
        max_queue: int. Requests that wait, of each of the two kinds; the next one is refused.
        batching: bool. Requests that arrive while a model is busy run together; only of kmm's exports.
        max_batch: int. Rows of such a batch at most.
        batch_wait_ms: float. How long a batch that is not full waits for more requests after one that ran.
        explain_at_start: bool. Explanations are made ready when a version is loaded, not by their first request.
        max_message_mb: int. The largest request.
        grace_seconds: float. How long running requests may take when the server stops.
        rest_timeout_seconds: float. How long a request over HTTP may take to arrive, and then wait for its turn.
        poll_seconds: float. How often folders are looked at for new versions; 0 is never.
        tensor_content: bool. Numbers are answered as blocks of bytes, not as lists.
        allow_reload: bool. Clients may change the list of models; for other hosts only with one of the last two.
        allow_plaintext: bool. Other hosts may connect without TLS.
        certificate, key, client_authority: Path of PEM files, or None; the last makes clients show a certificate of it.
        token: str that requests must bear, or None.

    Raises:
        InputError: if a number is not in its range, or the token is empty.

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
    max_queue: int = 64
    batching: bool = True
    max_batch: int = 32
    batch_wait_ms: float = 2.0
    explain_at_start: bool = False
    max_message_mb: int = 64
    grace_seconds: float = 30.0
    rest_timeout_seconds: float = 30.0
    poll_seconds: float = 1.0
    tensor_content: bool = False
    allow_reload: bool = False
    allow_plaintext: bool = False
    certificate: Path | None = None
    key: Path | None = None
    client_authority: Path | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self):
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"`{name}` must be in [{least:g}, {most:g}]. Received: {value}.")
        if self.token == "":
            raise InputError("`token` must be a word, or None. Received: an empty one.")


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


def read_models_file(path):
    """Reads a list of models in TensorFlow Serving's own format: the text of a `ModelServerConfig`.

    Raises:
        InputError: if it is none, or a name comes twice.
        OSError: if it cannot be read.
    """
    from google.protobuf import text_format

    config = load_stubs().model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(Path(path).read_text(encoding="utf-8"), config)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        place = f", line {error.GetLine()}" if getattr(error, "GetLine", None) and error.GetLine() else ""
        raise InputError(f"{path}{place}: expected the text of a ModelServerConfig.") from None
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
