"""Run Classify and Regress: signatures that take serialized tf.Examples."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.protocol.messages import load_stubs
from kmm.protocol.signatures import CLASSES, CLASSIFY_INPUT, SCORES
from kmm.server.models.signature_checks import name_signature
from kmm.server.status import ServingError, refuse

if TYPE_CHECKING:
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import inference_pb2, input_pb2

INPUTS, OUTPUTS = CLASSIFY_INPUT, "outputs"


@dataclass(frozen=True)
class ExampleMethod:
    """A method that runs examples.

    Attributes:
        api, method: str. Name of the RPC, and the method name in a signature.
        check: function of a `SignatureDef` that returns the names of the outputs to compute.
        make_result: function of the outputs and the number of examples that returns the message to send.
    """

    api: str
    method: str
    check: Callable[["meta_graph_pb2.SignatureDef"], list[str]]
    make_result: Callable[[dict[str, np.ndarray], int], Any]


def check_signature(kind: ExampleMethod, signature: "meta_graph_pb2.SignatureDef") -> list[str]:
    """Checks that a signature fits a method, and lists the outputs to compute.

    Raises:
        ServingError: INVALID_ARGUMENT if it does not, with TensorFlow Serving's texts.
    """
    if len(signature.inputs) != 1:
        raise refuse("Expected one input Tensor.")
    return kind.check(signature)


def serialize(stored: "input_pb2.Input", *, max_bytes: int) -> np.ndarray:
    """Serializes the examples of a request, each with the features that all share.

    Args:
        stored: `Input`.
        max_bytes: int. Most bytes of all serialized examples; checked before any is made.

    Returns:
        object array `(n,)` of bytes.

    Raises:
        ServingError: INVALID_ARGUMENT if there is no example, or they are too large.
    """
    shared, held = b"", stored.example_list.examples
    if stored.WhichOneof("kind") == "example_list_with_context":
        shared = stored.example_list_with_context.context.SerializeToString()
        held = stored.example_list_with_context.examples
    if not held:
        raise refuse("Input is empty.")
    if len(shared) * len(held) + stored.ByteSize() > max_bytes:
        raise refuse(f"Expected examples of at most {max_bytes} bytes in all, each with its context.")
    return np.array([shared + example.SerializeToString() for example in held], object)


def check_tasks(tasks: "Iterable[inference_pb2.InferenceTask]") -> list[ExampleMethod]:
    """Checks the tasks of a `MultiInferenceRequest`, and lists their methods.

    Raises:
        ServingError: INVALID_ARGUMENT or UNIMPLEMENTED, with TensorFlow Serving's texts.
    """
    names: set[str] = set()
    keys: set[str] = set()
    kinds: list[ExampleMethod] = []
    for task in tasks:
        names.add(task.model_spec.name)
        if "" in names:
            raise refuse("Found ModelSpec with an empty model name.")
        if len(names) > 1:
            raise refuse("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        key = name_signature(task.model_spec)
        if key in keys:
            raise refuse(f"Duplicate evaluation of signature: {key}")
        keys.add(key)
        kind = _BY_METHOD.get(task.method_name)
        if kind is None:
            raise ServingError("UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}")
        kinds.append(kind)
    if not kinds:
        raise refuse("Inference request should have at least one task.")
    return kinds


def _check_classes(signature):
    if len(signature.outputs) not in (1, 2):
        raise refuse(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise refuse(f"No classification inputs found in SignatureDef: {signature}")
    found = [alias for alias in (CLASSES, SCORES) if alias in signature.outputs]
    if not found:
        raise refuse(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {signature}"
        )
    return found


def _make_classes(outputs, count):
    for alias, array in outputs.items():
        kind, name = ("O", "STRING") if alias == CLASSES else ("f", "FLOAT")
        if array.ndim != 2:
            raise refuse(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if array.dtype.kind != kind:
            raise refuse(f"Expected {alias} Tensor of DT_{name}. Got: {array.dtype}")
        if len(array) != count:
            raise refuse(f"Expected {alias} output batch size of {count}. Got: {len(array)}")
    if len({array.shape for array in outputs.values()}) > 1:
        raise refuse("Tensors class and score should match in dim_size(1).")
    message = load_stubs().classification_pb2
    result = message.ClassificationResult()
    names, scores = outputs.get(CLASSES), outputs.get(SCORES)
    for row in range(count):
        classes = result.classifications.add().classes
        for column in range((names if names is not None else scores).shape[1]):
            label = names[row, column].decode("utf-8", "replace") if names is not None else ""
            classes.add(label=label, score=scores[row, column] if scores is not None else 0)
    return result


def _check_values(signature):
    if len(signature.outputs) != 1:
        raise refuse("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise refuse(f"No regression inputs found in SignatureDef: {signature}")
    if OUTPUTS not in signature.outputs:
        raise refuse(f"No regression outputs found in SignatureDef: {signature}")
    return [OUTPUTS]


def _make_values(outputs, count):
    array = outputs[OUTPUTS]
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise refuse(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(array)}"
        )
    if len(array) != count:
        raise refuse(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if array.dtype.kind != "f":
        raise refuse(f"Expected output Tensor of DT_FLOAT.  Got: {array.dtype}")
    result = load_stubs().regression_pb2.RegressionResult()
    for value in array.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _shape(array):
    return "[" + ",".join(str(size) for size in array.shape) + "]"


CLASSIFY = ExampleMethod("Classify", "tensorflow/serving/classify", _check_classes, _make_classes)
REGRESS = ExampleMethod("Regress", "tensorflow/serving/regress", _check_values, _make_values)
_BY_METHOD = {kind.method: kind for kind in (CLASSIFY, REGRESS)}
