"""Load one version of a model and run its signatures."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.server.memory import use_system_allocator
from kmm.server.models import graph_errors
from kmm.server.models.dtypes import STRING, as_object
from kmm.server.status import ServingError

if TYPE_CHECKING:
    from tensorflow.core.protobuf import meta_graph_pb2


@dataclass(frozen=True)
class Servable:
    """A loaded version.

    Attributes:
        name: str. Name of the model.
        version: int.
        signatures: dict of name to `SignatureDef`, unchanged from the file.
        functions: dict of name to a function that takes and returns tensors by name.
        root: object that TensorFlow loaded; it must live as long as the functions.
        batches_itself: bool. Whether the graph batches calls itself (`kmm export --batch`).
    """

    name: str
    version: int
    signatures: "dict[str, meta_graph_pb2.SignatureDef]"
    functions: dict[str, Callable[..., Any]]
    root: object
    batches_itself: bool = False


def load_servable(name: str, version: int, folder: Path | str) -> Servable:
    """Loads a version from its folder.

    Args:
        name: str. Name of the model.
        version: int.
        folder: path of the version.

    Returns:
        `Servable`.

    Raises:
        ServingError: if it cannot be loaded, with TensorFlow's status code if there is one.
    """
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    use_system_allocator()
    try:
        graph = _read_graph(folder)
        signatures = {
            key: SignatureDef.FromString(stored.SerializeToString()) for key, stored in graph.signature_def.items()
        }
        batches = any(
            node.op == "BatchFunction" for function in graph.graph_def.library.function for node in function.node_def
        )
        root, functions, uses_variables = _load_functions(graph, Path(folder))
    except ServingError:
        raise
    except Exception as error:
        raise graph_errors.translate_load(error) from error
    if uses_variables and not Path(folder, "variables", "variables.index").is_file():
        raise ServingError("NOT_FOUND", "The version has no file variables/variables.index.")
    return Servable(name, version, signatures, functions, root, batches)


def run_signature(
    servable: Servable, key: str, arrays: Mapping[str, np.ndarray], wanted: Iterable[str]
) -> dict[str, np.ndarray]:
    """Runs a signature.

    Args:
        servable: `Servable`.
        key: str, a name in `servable.functions`.
        arrays: dict of name to NumPy array, of the types in the signature.
        wanted: iterable of str. Names of the outputs to return.

    Returns:
        dict of name to NumPy array; strings are object arrays of bytes.

    Raises:
        ServingError: with the status code and text of the operation that failed. Other errors, such as a lack of
            memory, are not converted.
    """
    import tensorflow as tf

    signature = servable.signatures[key]
    try:
        tensors = {
            alias: tf.constant(array, tf.dtypes.as_dtype(signature.inputs[alias].dtype))
            for alias, array in arrays.items()
        }
        outputs = servable.functions[key](**tensors)
        found = {alias: outputs[alias].numpy() for alias in wanted}
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise graph_errors.translate(error) from error
    return {
        alias: as_object(array) if signature.outputs[alias].dtype == STRING else array for alias, array in found.items()
    }


def _read_graph(folder):
    """Reads the `MetaGraphDef` that TensorFlow's C++ server would load."""
    from tensorflow.core.protobuf import saved_model_pb2

    path = Path(folder, "saved_model.pb")
    if not path.is_file():
        raise ServingError("NOT_FOUND", "The version has no file saved_model.pb.")
    graphs = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    served = [graph for graph in graphs if "serve" in graph.meta_info_def.tags]
    if not served:
        raise ServingError("NOT_FOUND", "The version's file saved_model.pb has no graph with the tag serve.")
    return served[0]


def _load_functions(graph, folder):
    """Loads the signatures of a graph: (object that owns them, functions by name, whether they read variables)."""
    import tensorflow as tf

    from kmm.server.models.stored_graph import StoredGraph, UnsupportedGraph

    try:
        root = StoredGraph(graph, folder)
        return root, root.functions, root.uses_variables
    except UnsupportedGraph:  # TensorFlow's own loader supports every graph, but takes more memory
        root = tf.saved_model.load(str(folder))
        functions = {key: _relax(tf, function) for key, function in root.signatures.items()}
        return root, functions, any(function.variables for function in root.signatures.values())


def _relax(tf, function):
    """Removes the shape checks in Python from a signature, so that the graph reports errors as in the C++ server."""
    specs = {
        name: tf.TensorSpec(None, spec.dtype, name=name)
        for name, spec in function.structured_input_signature[1].items()
    }
    return tf.function(lambda **inputs: function(**inputs), autograph=False).get_concrete_function(**specs)
