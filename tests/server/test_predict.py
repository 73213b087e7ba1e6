"""What is answered over gRPC: numbers, encodings, metadata, states, health, reflection."""

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from kmm.protocol.tensors import decode_tensor
from kmm.server.settings import ModelSettings
from tests.factories.saved_model import IMAGE, PNG, TOKENS, make_examples, make_predict, make_spec, stubs
from tests.factories.servers import running

SCORE = IMAGE.sum() + TOKENS.sum()


def test_predict_answers_lists_and_says_what_answered(tiny):
    answer = tiny[1].predict.Predict(make_predict(), timeout=20)
    assert answer.model_spec == make_spec(version=2, signature="serving_default")
    assert list(answer.outputs["scores"].float_val) == [2 * IMAGE.sum() + TOKENS.sum()] * 2
    assert not answer.outputs["scores"].tensor_content
    assert list(answer.outputs["version"].float_val) == [2]


def test_a_version_is_named_by_number_or_label(tiny):
    for named in ({"version": 1}, {"label": "stable"}):
        answer = tiny[1].predict.Predict(make_predict(**named), timeout=20)
        assert answer.model_spec == make_spec(version=1, signature="serving_default")
        assert list(answer.outputs["scores"].float_val) == [SCORE] * 2


def test_only_the_outputs_that_were_asked_for(tiny):
    assert set(tiny[1].predict.Predict(make_predict(output_filter=["version"]), timeout=20).outputs) == {"version"}


def test_strings_go_in_and_out(tiny):
    inputs = {"image_bytes": np.array([PNG, PNG], object), "report": np.array([b"NO mass", b""], object)}
    answer = tiny[1].predict.Predict(make_predict(inputs, signature="raw"), timeout=20)
    assert list(answer.outputs["words"].string_val) == [b"no mass", b""]
    assert list(answer.outputs["mean"].float_val) == [7, 7]


def test_both_encodings_of_inputs_mean_the_same(tiny):
    listed = make_predict({"values": np.array([3, 3, 3], np.float32)}, signature="double")
    tensor = listed.inputs["values"]
    tensor.tensor_content = b""
    tensor.float_val.append(3)  # the last element stands for the rest
    assert list(tiny[1].predict.Predict(listed, timeout=20).outputs["doubled"].float_val) == [6, 6, 6]


def test_numbers_as_blocks_of_bytes(versions):
    with running(ModelSettings("tiny", versions), tensor_content=True) as (_, face):
        scores = face.predict.Predict(make_predict(), timeout=20).outputs["scores"]
    assert scores.tensor_content and not scores.float_val
    assert decode_tensor(scores).tolist() == [[2 * IMAGE.sum() + TOKENS.sum()] * 2]


def test_classify_and_regress(tiny):
    request = stubs.classification_pb2.ClassificationRequest(
        model_spec=make_spec(signature="classify"), input=make_examples(PNG, PNG)
    )
    answer = tiny[1].predict.Classify(request, timeout=20)
    assert answer.model_spec == make_spec(version=2, signature="classify")
    rows = [[(found.label, found.score) for found in row.classes] for row in answer.result.classifications]
    assert rows == [[("mass", 7), ("normal", 2)]] * 2
    request = stubs.regression_pb2.RegressionRequest(
        model_spec=make_spec(signature="regress"), input=make_examples(PNG)
    )
    assert [found.value for found in tiny[1].predict.Regress(request, timeout=20).result.regressions] == [7.5]


def test_examples_share_the_features_of_their_context(tiny):
    request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec(signature="classify"))
    held = request.input.example_list_with_context
    held.context.CopyFrom(make_examples(PNG).example_list.examples[0])
    held.examples.add()
    answer = tiny[1].predict.Classify(request, timeout=20)
    assert answer.result.classifications[0].classes[0].score == 7


def test_several_signatures_on_the_same_examples(tiny):
    request = stubs.inference_pb2.MultiInferenceRequest(input=make_examples(PNG))
    for name in ("classify", "regress"):
        request.tasks.add(model_spec=make_spec(signature=name), method_name=f"tensorflow/serving/{name}")
    first, second = tiny[1].predict.MultiInference(request, timeout=20).results
    assert first.classification_result.classifications[0].classes[0].label == "mass"
    assert second.regression_result.regressions[0].value == 7.5
    assert second.model_spec == make_spec(version=2, signature="regress")


def test_metadata_is_what_the_export_says(tiny):
    request = stubs.get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=make_spec(), metadata_field=["signature_def"]
    )
    answer = tiny[1].predict.GetModelMetadata(request, timeout=20)
    assert answer.model_spec == make_spec(version=2)
    held = stubs.get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(held)
    assert "__saved_model_init_op" in held.signature_def
    default = held.signature_def["serving_default"]
    assert default.inputs["image"].name == "serving_default_image:0"
    assert [size.size for size in default.outputs["scores"].tensor_shape.dim] == [-1, 2]


def test_states_are_listed_highest_version_first(tiny):
    def list_states(**spec):
        request = stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=make_spec(**spec))
        found = tiny[1].models.GetModelStatus(request, timeout=20).model_version_status
        return [(one.version, one.state, one.status.error_code, one.status.error_message) for one in found]

    assert list_states() == [(2, 30, 0, ""), (1, 30, 0, "")]
    assert list_states(version=1) == list_states(label="stable") == [(1, 30, 0, "")]


def test_a_single_model_answers_to_the_default_name_everywhere(tiny):
    request = stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=make_spec("default"))
    assert [one.version for one in tiny[1].models.GetModelStatus(request, timeout=20).model_version_status] == [2, 1]
    labels = {"model_name": "tiny", "status": "OK"}
    registry = tiny[0]._inference.metrics.registry
    before = registry.get_sample_value(":tensorflow:serving:request_count", labels)
    assert tiny[1].predict.Predict(make_predict(name="default"), timeout=20).model_spec.name == "tiny"
    assert registry.get_sample_value(":tensorflow:serving:request_count", labels) == before + 1


def test_health_is_told_by_each_name(tiny):
    probes = health_pb2_grpc.HealthStub(tiny[1].channel)
    for name in ("", "PredictionService", "ModelService"):
        assert probes.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status == 1
    with pytest.raises(grpc.RpcError) as caught:
        probes.Check(health_pb2.HealthCheckRequest(service="other"), timeout=20)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(tiny):
    reflect = reflection_pb2_grpc.ServerReflectionStub(tiny[1].channel)
    answers = reflect.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=20)
    names = {service.name for service in next(answers).list_services_response.service}
    assert {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
    } < names


@pytest.mark.large
def test_a_reload_serves_another_list(versions):
    request = stubs.model_management_pb2.ReloadConfigRequest()
    added = request.config.model_config_list.config.add(name="film", base_path=str(versions))
    added.model_version_policy.specific.versions.append(1)
    with running(ModelSettings("tiny", versions), allow_reload=True) as (server, face):
        face.models.HandleReloadConfigRequest(request, timeout=30)
        assert server.models == {"film": [1]}
        assert face.predict.Predict(make_predict(name="film"), timeout=20).outputs["version"].float_val[0] == 1
        added.base_path += "/nowhere"
        with pytest.raises(grpc.RpcError, match="Some models did not become available"):
            face.models.HandleReloadConfigRequest(request, timeout=30)
        assert server.models == {"film": [1]}
    with (
        running(ModelSettings("tiny", versions)) as (_, face),
        pytest.raises(grpc.RpcError, match="accepts no new list of models"),
    ):
        face.models.HandleReloadConfigRequest(request, timeout=30)
