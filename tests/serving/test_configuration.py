"""The operators' files are what their readers take: YAML, text protos, NGINX; and they fit together."""

import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from kmm.protocol.messages import load_stubs

SERVING = Path(__file__).parents[2] / "serving"
Field = descriptor_pb2.FieldDescriptorProto


def read(name):
    return (SERVING / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def models():
    config = load_stubs().model_server_config_pb2.ModelServerConfig()
    return text_format.Parse(read("models.config"), config).model_config_list.config


def make_message(name, fields):
    """A class of messages that tensorflow-serving-api does not bring: dict of field to type, list or not."""
    numbers = descriptor_pb2.DescriptorProto(name="Number")
    numbers.field.add(name="value", number=1, type=Field.TYPE_INT64, label=Field.LABEL_OPTIONAL)
    message = descriptor_pb2.DescriptorProto(name=name)
    for place, (field, kind) in enumerate(fields.items(), 1):
        label = Field.LABEL_REPEATED if kind == "list" else Field.LABEL_OPTIONAL
        if kind == "number":
            message.field.add(name=field, number=place, type=Field.TYPE_MESSAGE, type_name=".Number", label=label)
        else:
            kinds = {"list": Field.TYPE_INT64, "bool": Field.TYPE_BOOL, "text": Field.TYPE_STRING}
            message.field.add(name=field, number=place, type=kinds[kind], label=label)
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", syntax="proto3", message_type=[numbers, message])
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def test_models(models):
    (model,) = models
    assert model.model_platform == "tensorflow" and model.base_path == f"/models/{model.name}"
    assert model.model_version_policy.latest.num_versions == 1


def test_the_other_choices_that_models_config_names(models):
    lines = re.findall(r"^ +#   (\w.*)$", read("models.config"), re.MULTILINE)
    assert len(lines) == 4
    for choice in (lines[:1], lines[1:]):
        config = load_stubs().model_server_config_pb2.ModelConfig()
        text_format.Parse("\n".join(choice), config)
        assert set(config.version_labels.values()) <= set(config.model_version_policy.specific.versions)


def test_batching_parameters():
    """Fields of TensorFlow Serving's session_bundle_config.proto."""
    numbers = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    kind = make_message("BatchingParameters", {**dict.fromkeys(numbers, "number"), "allowed_batch_sizes": "list"})
    found = text_format.Parse(read("batching_parameters.txt"), kind())
    assert list(found.allowed_batch_sizes) == sorted(set(found.allowed_batch_sizes))
    assert found.allowed_batch_sizes[-1] == found.max_batch_size.value
    assert all(getattr(found, name).value > 0 for name in numbers)


def test_monitoring():
    kind = make_message("PrometheusConfig", {"enable": "bool", "path": "text"})
    (inside,) = re.findall(r"prometheus_config \{(.*)\}", read("monitoring.config"), re.DOTALL)
    found = text_format.Parse(inside, kind())
    assert found.enable and found.path in read("README.md")


def test_compose(models):
    (service,) = yaml.safe_load(read("compose.yaml"))["services"].values()
    assert re.fullmatch(r"tensorflow/serving:\$\{TFS_VERSION:\?.+\}", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert all(volume.endswith(":ro") for volume in service["volumes"]) and service["read_only"]
    assert "--allow_version_labels_for_unavailable_models=true" in service["command"]  # for those of models.config
    for option in service["command"]:
        if "/config/" in option:
            assert (SERVING / option.rpartition("/")[2]).is_file()
    assert any(f"/v1/models/{model.name} " in service["healthcheck"]["test"][-1] for model in models)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash, which the image of TensorFlow Serving has")
@pytest.mark.parametrize(
    "state, code, healthy", [("AVAILABLE", "OK", True), ("END", "UNAVAILABLE", False), ("LOADING", "OK", False)]
)
def test_compose_is_healthy_only_where_a_version_is_available(state, code, healthy):
    (service,) = yaml.safe_load(read("compose.yaml"))["services"].values()
    command, body = service["healthcheck"]["test"], f'{{"state": "{state}", "status": {{"error_code": "{code}"}}}}'
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += connection.recv(1000)
                connection.sendall(f"HTTP/1.1 200 OK\r\n\r\n{body}".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        script = command[-1].replace("8501", str(server.getsockname()[1]))
        found = subprocess.run([*command[1:-1], script], timeout=20, check=False).returncode
        thread.join()
    assert command[0] == "CMD" and (found == 0) is healthy


def test_nginx_lets_through_calls_that_there_are():
    text, stubs = read("nginx.conf"), load_stubs()
    plain = re.sub(r"#.*", "", text)
    assert plain.count("{") == plain.count("}")
    services = {
        **stubs.prediction_service_pb2.DESCRIPTOR.services_by_name,
        **stubs.model_service_pb2.DESCRIPTOR.services_by_name,
    }
    paths = re.findall(r"location (?:= )?/(tensorflow\.serving\.\S+)", plain)
    assert len(paths) == 2
    for path in paths:
        service, _, method = path.removeprefix("tensorflow.serving.").partition("/")
        assert service in services and (not method or method in services[service].methods_by_name)
    for location in re.findall(r"location [^{]*\{([^}]*\}?[^}]*)\}", plain):
        assert "kmm_allowed = 0" in location or "return 404" in location


def test_nginx_asks_for_a_token_or_a_certificate():
    plain = re.sub(r"#.*", "", read("nginx.conf"))
    maps = dict(re.findall(r"map \$(\w+) (\$\w+) \{", plain))
    assert maps == {"http_authorization": "$kmm_token", "ssl_client_verify": "$kmm_allowed"}
    assert "map_hash_bucket_size 128;" in plain  # with 64, NGINX does not start: a token of 32 bytes in hex is longer
    token, allowed = re.findall(r"map [^{]*\{([^}]*)\}", plain)
    assert token.split() == ["default", "0;", "include", "/etc/nginx/kmm_tokens.map;"]
    assert allowed.split() == ["default", "$kmm_token;", "SUCCESS", "1;"]
    assert "# ssl_verify_client optional;" in read("nginx.conf")  # `on` would refuse those with a token alone


def test_nginx_writes_nothing_to_disk():
    (rest,) = re.findall(r"location /v1/models/ \{(.*?)\n    \}", read("nginx.conf"), re.DOTALL)
    assert "proxy_request_buffering off;" in rest and "proxy_buffering off;" in rest
