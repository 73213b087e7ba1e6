"""Cut the functions of a SavedModel's signatures into parts, so that a function they share is instantiated once.

TensorFlow copies a function into each graph that calls it, so nine signatures of one network hold nine networks. Here
the call of a shared function becomes a separate step between the parts of the signature before and after it. This
module works on protocol buffers only.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from tensorflow.core.framework import function_pb2, node_def_pb2, types_pb2
from tensorflow.python.framework import op_def_registry

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
LEAST_NODES = 100  # a smaller shared function is not worth a separate step


@dataclass(frozen=True)
class Step:
    """A call of a function with arguments and results of earlier steps.

    Attributes:
        function: str, name of the function.
        inputs: list of str. Names of the values to pass.
        outputs: list of str. Names of the results.
        dtypes: list of int. Types of the results, numbers of `DataType`.
    """

    function: str
    inputs: list[str]
    outputs: list[str]
    dtypes: list[int]


def find_shared(roots: Iterable[str], functions: Mapping[str, function_pb2.FunctionDef]) -> set[str]:
    """Finds the large functions that several roots call, directly or through others.

    Args:
        roots: names of functions, one per signature.
        functions: dict of name to `FunctionDef`.

    Returns:
        set of names.
    """
    callers: dict[str, set[str]] = defaultdict(set)
    for root in roots:
        for name in _walk_calls(root, functions):
            callers[name].add(root)
    sizes: dict[str, int] = {}
    return {
        name
        for name, found in callers.items()
        if len(found) > 1 and _count_nodes(name, functions, sizes) >= LEAST_NODES
    } - set(roots)


def cut_function(
    name: str, functions: dict[str, function_pb2.FunctionDef], shared: Set[str]
) -> tuple[list[Step], list[str]]:
    """Cuts a function into steps that together do the same.

    Args:
        name: str, name of the function.
        functions: dict of name to `FunctionDef`; the functions of the parts are added.
        shared: set of names of functions whose calls become steps.

    Returns:
        (list of `Step`, list of the names of the function's results). Steps refer to arguments by their own names.
    """
    function = _inline_callers(functions[name], functions, shared)
    nodes = {node.name: node for node in function.node_def}
    if not any(_is_call_of(node, shared) for node in nodes.values()):
        results = [f"result {place}" for place in range(len(functions[name].signature.output_arg))]
        arguments = [argument.name for argument in functions[name].signature.input_arg]
        return [Step(name, arguments, results, [one.type for one in functions[name].signature.output_arg])], results
    levels = _find_levels(nodes, shared)
    types = {argument.name: argument.type for argument in function.signature.input_arg}
    kept = set(function.control_ret.values())
    results = [function.ret[argument.name] for argument in function.signature.output_arg]
    used = _find_uses(nodes, levels, shared, results)
    for node in nodes.values():  # nodes that must have run before a later part begins
        kept |= {
            value[1:]
            for value in node.input
            if value.startswith("^") and (levels[value[1:]] < levels[node.name] or _is_call_of(node, shared))
        }
    steps = []
    for level in range(max(levels.values()) + 1):
        own = [node for node in nodes.values() if levels[node.name] == level and not _is_call_of(node, shared)]
        if own:
            part = _make_part(f"{name}_part{level}", own, nodes, types, used, kept, functions)
            functions[part.function] = part.definition
            steps.append(Step(part.function, part.inputs, part.outputs, part.dtypes))
        for node in nodes.values():
            if levels[node.name] == level and _is_call_of(node, shared):
                called = functions[node.attr["f"].func.name].signature
                inputs = [value for value in node.input if not value.startswith("^")]
                outputs = [f"{node.name}:output:{place}" for place in range(len(called.output_arg))]
                steps.append(Step(called.name, inputs, outputs, [one.type for one in called.output_arg]))
    return steps, results


def _walk_calls(name, functions, seen=None):
    seen = set() if seen is None else seen
    for node in functions[name].node_def:
        called = node.attr["f"].func.name if node.op in CALLS else None
        if called and called not in seen:
            seen.add(called)
            _walk_calls(called, functions, seen)
    return seen


def _count_nodes(name, functions, sizes):
    """Counts the nodes of a function and of all functions that it calls, also in loops and branches."""
    if name not in sizes:
        sizes[name] = 0  # stops at recursive calls
        found = functions[name].node_def
        called = (inner for node in found for inner in list_functions(node) if inner in functions)
        sizes[name] = len(found) + sum(_count_nodes(inner, functions, sizes) for inner in called)
    return sizes[name]


def list_functions(node: node_def_pb2.NodeDef) -> list[str]:
    """Lists the names of the functions in the attributes of a node."""
    found = []
    for value in node.attr.values():
        if value.WhichOneof("value") == "func":
            found.append(value.func.name)
        elif value.WhichOneof("value") == "list":
            found += [function.name for function in value.list.func]
    return found


def _is_call_of(node, names):
    return node.op in CALLS and node.attr["f"].func.name in names


def _inline_callers(function, functions, shared):
    """Copies a function, with each call that leads to a shared function replaced by the body of the called function."""
    found = function_pb2.FunctionDef()
    found.CopyFrom(function)
    while True:
        leading = [
            node
            for node in found.node_def
            if node.op in CALLS
            and node.attr["f"].func.name not in shared
            and _walk_calls(node.attr["f"].func.name, functions) & shared
        ]
        if not leading:
            return found
        _inline(found, leading[0], functions[leading[0].attr["f"].func.name])


def _inline(function, call, inner):
    """Replaces a call by the body of the function that it calls."""
    given = [value for value in call.input if not value.startswith("^")]
    before = [value for value in call.input if value.startswith("^")]
    values = {argument.name: value for argument, value in zip(inner.signature.input_arg, given, strict=True)}
    name = call.name

    def translate(value):
        if value.startswith("^"):
            return f"^{name}/{value[1:]}" if value[1:] not in values else _control(values[value[1:]])
        return values.get(value, f"{name}/{value}")

    results = {
        f"{name}:output:{place}": translate(inner.ret[argument.name])
        for place, argument in enumerate(inner.signature.output_arg)
    }
    after = [f"^{name}/{node}" for node in inner.control_ret.values()]
    after += [control for control in map(_control, results.values()) if control is not None]
    body = []
    for node in inner.node_def:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = f"{name}/{node.name}"
        _set_inputs(copy, [translate(value) for value in node.input] + before)
        body.append(copy)
    others = [node for node in function.node_def if node.name != name]
    copies = []
    for node in others:
        inputs = []
        for value in node.input:
            inputs += after if value == f"^{name}" else [results.get(value, value)]
        copy = type(node)()
        copy.CopyFrom(node)
        _set_inputs(copy, inputs)
        copies.append(copy)
    del function.node_def[:]
    function.node_def.extend(copies + body)
    arguments = {argument.name for argument in function.signature.input_arg}
    for node in function.node_def:  # a control input of an argument has no effect
        _set_inputs(node, [value for value in node.input if value and value[1:] not in arguments | {""}])
    for key, value in function.ret.items():
        function.ret[key] = results.get(value, value)
    controls = [key for key, value in function.control_ret.items() if value == name]
    for key in controls:
        del function.control_ret[key]
    for place, value in enumerate(inner.control_ret.values() if controls else ()):
        function.control_ret[f"{name}/{place}"] = f"{name}/{value}"


def _control(value):
    """Returns the control input that waits for the node of a value."""
    return "^" + value.partition(":")[0]


def _set_inputs(node, inputs):
    """Sets the inputs of a node, control inputs last."""
    unique = list(dict.fromkeys(value for value in inputs if value.startswith("^")))
    values = [value for value in inputs if not value.startswith("^")]
    del node.input[:]
    node.input.extend(values + unique)


def _producer(value):
    return value.removeprefix("^").partition(":")[0]


def _find_levels(nodes, shared):
    """Computes the level of each node: the number of rounds of shared calls that must run before it."""
    levels = {}
    for name in nodes:
        stack = [name]
        while stack:
            top = stack[-1]
            before = [producer for producer in map(_producer, nodes[top].input) if producer in nodes]
            missing = [producer for producer in before if producer not in levels]
            if missing:
                stack += missing
                continue
            levels[top] = max((levels[one] + _is_call_of(nodes[one], shared) for one in before), default=0)
            stack.pop()
    return levels


def _find_uses(nodes, levels, shared, results):
    """Finds the values that are used outside the part that computes them."""
    used = set(results)
    for node in nodes.values():
        for value in node.input:
            producer = _producer(value)
            outside = _is_call_of(node, shared) or levels.get(producer, -1) != levels[node.name]
            if not value.startswith("^") and producer in nodes and outside:
                used.add(value)
    return used


@dataclass(frozen=True)
class _Part:
    function: str
    definition: function_pb2.FunctionDef
    inputs: list[str]
    outputs: list[str]
    dtypes: list[int]


def _make_part(name, own, nodes, types, used, kept, functions):
    """Makes a function from some nodes of another function."""
    definition, inside = function_pb2.FunctionDef(), {node.name for node in own}
    definition.signature.name, definition.signature.is_stateful = name, True
    inputs, outputs, dtypes = {}, [], []
    for node in own:
        copy = definition.node_def.add()
        copy.CopyFrom(node)
        found = []
        for value in node.input:
            if _producer(value) in inside:
                found.append(value)
            elif not value.startswith("^"):  # control inputs from outside have already run
                if value not in inputs:
                    dtype = types[value] if value in types else _find_type(value, nodes, functions)
                    inputs[value] = f"given{len(inputs)}"
                    definition.signature.input_arg.add(name=inputs[value], type=dtype)
                found.append(inputs[value])
        _set_inputs(copy, found)
    for value in sorted(used):
        if _producer(value) in inside:
            dtype, result = _find_type(value, nodes, functions), f"found{len(outputs)}"
            definition.signature.output_arg.add(name=result, type=dtype)
            definition.ret[result] = value
            outputs.append(value)
            dtypes.append(dtype)
    for node in sorted(kept & inside):
        definition.control_ret[node] = node
        definition.signature.control_output.append(node)
    return _Part(name, definition, list(inputs), outputs, dtypes)


def _find_type(value, nodes, functions):
    """Returns the `DataType` of a value `node:output:index`."""
    producer, output, place = value.split(":")
    node = nodes[producer]
    definition = functions[node.op].signature if node.op in functions else op_def_registry.get(node.op)
    found = next(argument for argument in definition.output_arg if argument.name == output)
    if found.type_list_attr:
        return _read_attribute(node, definition, found.type_list_attr).list.type[int(place)]
    if found.type_attr:
        return _read_attribute(node, definition, found.type_attr).type
    return found.type or types_pb2.DT_INVALID


def _read_attribute(node, definition, name):
    if name in node.attr:
        return node.attr[name]
    return next(attribute for attribute in definition.attr if attribute.name == name).default_value
