"""Flags of TensorFlow Serving's server: the same words mean the same, and the others are refused by name."""

import click
import pytest

from kmm.cli.serve import serve
from kmm.cli.serving_flags import FLAGS, REFUSED, translate_flags
from kmm.errors import InputError
from tests.factories.commands import run

# All flags of tensorflow_model_server 2.19, in the order of its main.cc, but for --port, which kmm has itself.
KNOWN = """rest_api_port rest_api_num_threads rest_api_timeout_in_ms allow_version_labels_for_unavailable_models
    enable_per_model_batching_parameters model_config_file model_config_file_poll_wait_seconds model_name
    model_base_path num_load_threads num_unload_threads max_num_load_retries load_retry_interval_micros
    file_system_poll_wait_seconds flush_filesystem_caches tensorflow_session_parallelism tensorflow_session_config_file
    tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism use_alts_credentials ssl_config_file
    platform_config_file per_process_gpu_memory_fraction saved_model_tags grpc_channel_arguments grpc_max_threads
    enable_model_warmup num_request_iterations_for_warmup version monitoring_config_file
    remove_unused_fields_from_bundle_metagraph prefer_tflite_model num_tflite_pools num_tflite_interpreters_per_pool
    enable_signature_method_name_check xla_cpu_compilation_enabled xla_gpu_compilation_enabled enable_profiler
    thread_pool_factory_config_file mixed_precision skip_initialize_tpu enable_grpc_healthcheck_service
    enable_serialization_as_tensor_content"""


def test_every_flag_is_known():
    assert set(KNOWN.split()) <= {*FLAGS, *REFUSED, "model_name", "model_base_path"}
    assert not set(FLAGS) & set(REFUSED)


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--rest_api_port=8080"], {"rest_port": 8080, "rest": True}),
        (["--rest_api_port", "0"], {"rest": False}),
        (["--rest_api_timeout_in_ms=1500"], {"rest_timeout_seconds": 1.5}),
        (["--model_name=film", "--model_base_path=/m/film"], {"models": ("film=/m/film",)}),
        (["--model_base_path", "/m/film"], {"models": ("default=/m/film",)}),
        (["--model_config_file=list"], {"models_file": "list"}),
        (["--model_config_file_poll_wait_seconds=60"], {"models_poll_seconds": 60}),
        (["--file_system_poll_wait_seconds", "5"], {"poll_seconds": 5}),
        (["--max_num_load_retries=0"], {"max_load_retries": 0}),
        (["--load_retry_interval_micros=1500000"], {"load_retry_seconds": 1.5}),
        (["--load_retry_interval_micros=-1"], {"load_retry_seconds": 0}),
        (["--enable_model_warmup=false"], {"warmup": False}),
        (["--enable_model_warmup"], {"warmup": True}),
        (["--enable_serialization_as_tensor_content", "m"], {"tensor_content": True, "models": ("m",)}),
        (["--enable_serialization_as_tensor_content=False"], {"tensor_content": False}),
        (["--enable_grpc_healthcheck_service", "m"], {"models": ("m",)}),
        (["--enable_grpc_healthcheck_service=1"], {}),
        (["--allow_version_labels_for_unavailable_models=false", "--saved_model_tags=serve"], {}),
        (["--ssl_config_file=ssl"], {"tls_config": "ssl"}),
        (["--port=9000", "m", "--", "--odd"], {"port": 9000, "models": ("m", "--odd")}),
    ],
)
def test_flags_that_mean_the_same(words, expected):
    context = click.Context(serve)
    serve.parse_args(context, words)
    with click.Context(serve) as plain:
        serve.parse_args(plain, [])
    found = {name: str(value) if name.endswith(("file", "config")) else value for name, value in context.params.items()}
    changed = {**{name: str(value) if name in found and isinstance(found[name], str) else value
                  for name, value in plain.params.items()}, **expected}  # fmt: skip
    assert found == changed


@pytest.mark.parametrize("flag", REFUSED)
def test_flags_without_a_meaning_are_refused(flag):
    for words in ([f"--{flag}"], [f"--{flag}=1"], ["model", f"--{flag}", "1"]):
        with pytest.raises(InputError, match=f"^--{flag} has no meaning for kmm serve. .+[.)]$"):
            translate_flags(words)


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--model_name=film"], "--model_name needs --model_base_path"),
        (["--model_base_path=x", "--model_config_file=y"], "exclude each other"),
        (["--rest_api_timeout_in_ms=soon"], "--rest_api_timeout_in_ms: expected a whole number. Received: 'soon'."),
        (["--enable_model_warmup=maybe"], "--enable_model_warmup: expected true or false. Received: 'maybe'."),
        (["--enable_grpc_healthcheck_service=false"], "always answers health checks. Leave the flag out."),
        (["--allow_version_labels_for_unavailable_models"], "a label needs a version that is served."),
        (["--saved_model_tags=serve,tpu"], "the graph with the tag serve"),
        (["--max_num_load_retries"], "--max_num_load_retries needs a value."),
        (["--num_load_threads=4"], "--num_load_threads has no meaning for kmm serve."),
        (["--monitoring_config_file=none"], "none: No such file"),
        (["--rest_api_ports=4"], "No such option"),
    ],
)
def test_wrong_flags_are_one_line(words, complaint):
    result = run("serve", *words)
    assert result.exit_code == 2 and complaint in result.stderr.splitlines()[-1]


def test_the_file_of_monitoring(tmp_path):
    path = tmp_path / "monitoring.config"
    path.write_text("prometheus_config { enable: true }\n")
    assert translate_flags([f"--monitoring_config_file={path}"]) == []
    for text in ("", "prometheus_config { enable: false }", 'prometheus_config { enable: true path: "/other" }'):
        path.write_text(text)
        with pytest.raises(InputError, match="expected `enable: true` and the path /monitoring/prometheus/metrics"):
            translate_flags([f"--monitoring_config_file={path}"])
    path.write_text("model_config_list {}")
    with pytest.raises(InputError, match="expected the text of a MonitoringConfig"):
        translate_flags([f"--monitoring_config_file={path}"])
