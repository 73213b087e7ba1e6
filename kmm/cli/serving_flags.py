"""Translate flags of TensorFlow Serving's server to options of `kmm serve`.

Equivalent flags are translated. The others are refused, because ignoring a flag silently is worse than not having it;
each error says in one line what to do instead.

Source: https://github.com/tensorflow/serving/blob/master/tensorflow_serving/model_servers/main.cc
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kmm.errors import InputError

TRUE, FALSE = ("true", "1"), ("false", "0")


class _Translation(Protocol):
    """One way to translate a flag."""

    def translate(self, flag: str, value: str) -> list[str]:
        """Returns the words of the command line of `kmm serve`."""


@dataclass(frozen=True)
class _Same:
    """An option of kmm with the same value, perhaps in another unit."""

    option: str
    divisor: int = 0  # of the number; 0 keeps the value unchanged

    def translate(self, flag, value):
        return [self.option, value if not self.divisor else _divide(flag, value, self.divisor)]


@dataclass(frozen=True)
class _Switch:
    """Options of kmm for true and for false; "" means that none is needed."""

    on: str
    off: str = ""

    def translate(self, flag, value):
        option = self.on if _read_bool(flag, value) else self.off
        return [option] if option else []


@dataclass(frozen=True)
class _Always:
    """A flag with the only value that kmm supports; it adds no option."""

    value: str
    why: str

    def translate(self, flag, value):
        given = str(_read_bool(flag, value)).lower() if self.value in TRUE + FALSE else value
        if given != self.value:
            raise InputError(f"--{flag}={value}: {self.why} Leave the flag out.")
        return []


@dataclass(frozen=True)
class _RestPort:
    """The port of HTTP; 0 turns HTTP off."""

    def translate(self, flag, value):
        return ["--no-rest"] if value == "0" else ["--rest-port", value]


@dataclass(frozen=True)
class _Monitoring:
    """A file that turns on metrics, which kmm always serves."""

    def translate(self, flag, value):
        from kmm.server.metrics import PATH
        from kmm.server.text_configs import parse_text

        found = parse_text("MonitoringConfig", Path(value).read_bytes(), value).prometheus_config
        if not found.enable or found.path not in ("", PATH):
            raise InputError(
                f"{value}: expected `enable: true` and the path {PATH}, at which kmm serve has its metrics."
            )
        return []


# Translations by flag. `--port` is kmm's own name too; a model's name and folder are read together, below.
FLAGS: dict[str, _Translation] = {
    "rest_api_port": _RestPort(),
    "rest_api_timeout_in_ms": _Same("--rest-timeout", 1000),
    "model_config_file": _Same("--models"),
    "model_config_file_poll_wait_seconds": _Same("--models-poll-seconds"),
    "file_system_poll_wait_seconds": _Same("--poll-seconds"),
    "max_num_load_retries": _Same("--max-load-retries"),
    "load_retry_interval_micros": _Same("--load-retry-seconds", 10**6),
    "enable_model_warmup": _Switch("--warmup", "--no-warmup"),
    "enable_serialization_as_tensor_content": _Switch("--tensor-content"),
    "enable_batching": _Switch("--batching", "--no-batching"),
    "ssl_config_file": _Same("--tls-config"),
    "grpc_socket_path": _Same("--socket"),
    "rest_api_enable_cors_support": _Switch("--cors-origin=*"),
    "monitoring_config_file": _Monitoring(),
    "enable_grpc_healthcheck_service": _Always("true", "kmm serve always answers health checks."),
    "allow_version_labels_for_unavailable_models": _Always("false", "a label needs a version that is served."),
    "enable_signature_method_name_check": _Always("false", "the method names of signatures are not checked."),
    "saved_model_tags": _Always("serve", "kmm serve loads the graph with the tag serve."),
    "prefer_tflite_model": _Always("false", "kmm serve runs SavedModels only."),
    "use_alts_credentials": _Always("false", "use TLS: --tls-cert and --tls-key."),
}
NAME, FOLDER = "model_name", "model_base_path"
DEFAULT_NAME = "default"  # name of a model that is given by its folder alone

# Refused flags, with what to do instead.
_PARALLELISM = "Set TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS in the environment."
_OWN_LOADER = "Versions are loaded one after another, in a separate thread."
_TPU = "kmm serve does not support TPUs."
_SESSION = "There is no session to configure: kmm serve runs functions."
_TFLITE = "kmm serve runs SavedModels only."
REFUSED = {
    "grpc_max_threads": "Set --threads, the number of requests that run in parallel.",
    "rest_api_num_threads": "Set --threads, the number of requests that run in parallel.",
    "grpc_channel_arguments": "See `kmm serve --help` for limits of messages and connections.",
    "batching_parameters_file": "Set --max-batch and --batch-wait-ms.",
    "enable_per_model_batching_parameters": "Export with `kmm export --batching`.",
    "num_load_threads": _OWN_LOADER,
    "num_unload_threads": _OWN_LOADER,
    "flush_filesystem_caches": "kmm serve does not touch the file system's cache.",
    "tensorflow_session_parallelism": _PARALLELISM,
    "tensorflow_intra_op_parallelism": _PARALLELISM,
    "tensorflow_inter_op_parallelism": _PARALLELISM,
    "tensorflow_session_config_file": _SESSION,
    "platform_config_file": _SESSION,
    "thread_pool_factory_config_file": _SESSION,
    "per_process_gpu_memory_fraction": "Set TF_FORCE_GPU_ALLOW_GROWTH=true in the environment.",
    "num_request_iterations_for_warmup": "Each warm-up request runs once; --no-warmup runs none.",
    "version": "`kmm --version` prints it.",
    "remove_unused_fields_from_bundle_metagraph": "kmm serve loads the graph of a version unchanged.",
    "num_tflite_pools": _TFLITE,
    "num_tflite_interpreters_per_pool": _TFLITE,
    "xla_cpu_compilation_enabled": "Set TF_XLA_FLAGS in the environment.",
    "xla_gpu_compilation_enabled": "Set TF_XLA_FLAGS in the environment.",
    "enable_profiler": "There is no profiler; --log-requests and the metrics report times.",
    "mixed_precision": "A version runs in the precision of its export.",
    "skip_initialize_tpu": _TPU,
}


def translate_flags(words: Iterable[str]) -> list[str]:
    """Translates flags of TensorFlow Serving among the words of a command line; other words are kept.

    Args:
        words: iterable of str. `--flag=value`, `--flag value`, or for a boolean flag `--flag` alone.

    Returns:
        list of str.

    Raises:
        InputError: if a flag has no equivalent in kmm, or its value has none.

    Example:
        >>> translate_flags(["--rest_api_port=0", "--model_name", "film", "--model_base_path=/models/film"])
        ['--no-rest', 'film=/models/film']
        >>> translate_flags(["--version"])
        Traceback (most recent call last):
        kmm.errors.InputError: --version has no meaning for kmm serve. `kmm --version` prints it.
    """
    translated: list[str] = []
    model: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            translated += [word, *rest]
            break
        flag, separator, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not (flag in FLAGS or flag in REFUSED or flag in (NAME, FOLDER)):
            translated.append(word)
            continue
        if flag in REFUSED:
            raise InputError(f"--{flag} has no meaning for kmm serve. {REFUSED[flag]}")
        if not separator:
            value = _take_value(flag, rest)
        if flag in (NAME, FOLDER):
            model[flag] = value
        else:
            translated += FLAGS[flag].translate(flag, value)
    return translated + _name_model(model, translated)


def _take_value(flag, words):
    """Returns the value of a flag without `=`: true for a boolean flag, else the next word."""
    kind = FLAGS.get(flag)
    if isinstance(kind, _Switch) or (isinstance(kind, _Always) and kind.value in TRUE + FALSE):
        return "true"
    if not words:
        raise InputError(f"--{flag} needs a value.")
    return words.pop(0)


def _name_model(model, translated):
    if not model:
        return []
    if FOLDER not in model:
        raise InputError(f"--{NAME} needs --{FOLDER}, the folder of its versions.")
    if "--models" in translated:
        raise InputError(f"--{FOLDER} and --model_config_file exclude each other. Leave out one of them.")
    return [f"{model.get(NAME, DEFAULT_NAME)}={model[FOLDER]}"]


def _read_bool(flag, value):
    if value.lower() not in TRUE + FALSE:
        raise InputError(f"--{flag}: expected true or false. Received: {value!r}.")
    return value.lower() in TRUE


def _divide(flag, value, divisor):
    try:
        return str(max(int(value), 0) / divisor)
    except ValueError:
        raise InputError(f"--{flag}: expected a whole number. Received: {value!r}.") from None
