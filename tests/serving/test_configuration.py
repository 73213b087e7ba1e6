"""The operators' files are what their readers take: YAML, text protos, NGINX, OpenAPI; and they fit together."""

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from kmm.signature import DEFAULTS, list_signatures
from kmm.stubs import load_stubs

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


@pytest.fixture(scope="module")
def api():
    return yaml.safe_load(read("openapi.yaml"))


def resolve(api, reference):
    found = api
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


def walk(value):
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(item)


def list_properties(api, name):
    """Names of the properties of a schema, those of its parts too."""
    schema = api["components"]["schemas"][name]
    parts = [resolve(api, part["$ref"]) if "$ref" in part else part for part in [schema, *schema.get("allOf", ())]]
    return {name for part in parts for name in part.get("properties", ())}


def test_openapi_is_whole(api):
    assert api["openapi"].startswith("3.0") and api["info"]["title"] and api["info"]["version"]
    for part in walk(api):
        if isinstance(part, dict) and isinstance(part.get("$ref"), str):
            assert resolve(api, part["$ref"])
    ids = [action["operationId"] for path in api["paths"].values() for name, action in path.items() if name in HTTP]
    assert len(ids) == len(set(ids)) >= 7
    for path, item in api["paths"].items():
        declared = [resolve(api, one["$ref"]) if "$ref" in one else one for one in item["parameters"]]
        assert sorted(one["name"] for one in declared) == sorted(re.findall(r"\{(\w+)\}", path))
        for name, action in item.items():
            if name in HTTP:
                assert {"200", "401", "404"} <= set(action["responses"])
                assert name == "get" or {"400", "413", "429", "503", "504"} <= set(action["responses"])


HTTP = ("get", "post")


def test_openapi_names_what_the_signatures_name(api):
    signatures = {}
    for default in DEFAULTS:
        signatures |= list_signatures(pixels=8, length=4, label_count=2, feature_size=4, default=default)
    content = api["components"]["requestBodies"]["Predict"]["content"]["application/json"]
    known = content["schema"]["properties"]["signature_name"]["enum"]
    assert set(known) == set(signatures) - {"classify"}  # that has a call of its own
    for schema, name, side in [
        ("Study", "serving_bytes", "inputs"),
        ("StudyToExplain", "explain_bytes", "inputs"),
        ("Prepared", "serving_tensors", "inputs"),
        ("PreparedToExplain", "explain", "inputs"),
        ("Prediction", "serving_bytes", "outputs"),
        ("Explanation", "explain_bytes", "outputs"),
    ]:
        assert list_properties(api, schema) == {field.name for field in getattr(signatures[name], side)}, schema
    example = content["example"]
    assert example["signature_name"] in known
    assert set(example["instances"][0]) == list_properties(api, "Study")
