"""TensorFlow Serving's generated messages and services, without loading TensorFlow."""

import importlib
import importlib.util
import sys
import threading
from types import ModuleType, SimpleNamespace

DEFAULT_MODEL = "default"  # what TensorFlow Serving calls a single model that was given no name

# Short name of a generated module: the package it lies in.
MODULES = {
    "tensor_pb2": "tensorflow.core.framework",
    "tensor_shape_pb2": "tensorflow.core.framework",
    "types_pb2": "tensorflow.core.framework",
    "example_pb2": "tensorflow.core.example",
    "error_codes_pb2": "tensorflow.core.protobuf",
    "meta_graph_pb2": "tensorflow.core.protobuf",
    "model_server_config_pb2": "tensorflow_serving.config",
    "classification_pb2": "tensorflow_serving.apis",
    "get_model_metadata_pb2": "tensorflow_serving.apis",
    "get_model_status_pb2": "tensorflow_serving.apis",
    "inference_pb2": "tensorflow_serving.apis",
    "input_pb2": "tensorflow_serving.apis",
    "model_management_pb2": "tensorflow_serving.apis",
    "model_pb2": "tensorflow_serving.apis",
    "model_service_pb2": "tensorflow_serving.apis",
    "model_service_pb2_grpc": "tensorflow_serving.apis",
    "predict_pb2": "tensorflow_serving.apis",
    "prediction_log_pb2": "tensorflow_serving.apis",
    "prediction_service_pb2": "tensorflow_serving.apis",
    "prediction_service_pb2_grpc": "tensorflow_serving.apis",
    "regression_pb2": "tensorflow_serving.apis",
}
_lock = threading.Lock()
_loaded = None


def load_stubs():
    """Imports the generated modules of tensorflow-serving-api and the few of TensorFlow that they need.

    Importing them plainly imports all of TensorFlow, which takes seconds. The modules of messages do not need it: while
    they are imported, a bare module that only knows where TensorFlow lies stands in its place. Where that fails, and
    where TensorFlow is loaded already, they are imported plainly. A later `import tensorflow` works as ever and shares
    the messages; but no other thread should begin one during the first call.

    Returns:
        `types.SimpleNamespace` with the modules by the names in `MODULES`, always the same one.

    Raises:
        ImportError: if tensorflow-serving-api or TensorFlow is not installed.

    Example:
        >>> load_stubs().predict_pb2.PredictRequest(output_filter=["probabilities"]).output_filter[0]
        'probabilities'
    """
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _import_plainly() if "tensorflow" in sys.modules else _import_apart()
        return _loaded


def _import_plainly():
    found = {name: importlib.import_module(f"{package}.{name}") for name, package in MODULES.items()}
    return SimpleNamespace(**found)


def _import_apart():
    """Imports with a bare module in TensorFlow's place; plainly where that does not work."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None:
        raise ImportError("kmm needs the package tensorflow, for its messages. Install it: pip install tensorflow")
    bare = ModuleType("tensorflow")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    try:
        return _import_plainly()
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.startswith("tensorflow.")]:
            del sys.modules[name]
    finally:
        del sys.modules["tensorflow"]
    return _import_plainly()
