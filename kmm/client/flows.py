"""Each request of a client as a generator: it yields the calls to make, takes their replies, and returns the result.

So everything but the calling itself is the same for both clients, and is tested without a network.
"""

import json
import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kmm.client.arguments import take_name, take_whole
from kmm.client.films import encode_film, encode_report
from kmm.client.outputs import check_spec, read_outputs
from kmm.client.replies import (
    read_classes,
    read_explanations,
    read_features,
    read_metadata,
    read_predictions,
    read_status,
)
from kmm.client.studies import Studies, list_sections, list_targets
from kmm.errors import InputError, ServerError, look_up
from kmm.protocol import signatures as names
from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import encode_tensor

MAX_DESCRIPTION_BYTES = 10_000_000
MAX_VERSION = 2**63 - 1


class Call(NamedTuple):
    """A call to make: the name of the method, and its request."""

    method: str
    request: Any


class Described(NamedTuple):
    """What a version says of itself."""

    version: int
    said: dict


class Flows:
    """The requests to one served model.

    What the model takes is asked for once and kept, until `forget` or until another version answers.

    Args:
        model: str. Its name.
        version: int or None: the one that the server prefers.
        label: str or None. A label of a version, instead of its number.

    Raises:
        InputError: if version and label are both given, or either is of the wrong kind.
    """

    def __init__(self, model, version=None, label=None):
        if version is not None and label is not None:
            raise InputError("Give `version` or `label`. Received: both.")
        self.version = None if version is None else take_whole("version", version, 0, MAX_VERSION)
        self.model, self.label = take_name("model", model), take_name("label", label)
        self.forget()

    def forget(self):
        """Drops what is known of the model: it will be asked for again."""
        self._inputs = self._description = self._known_version = None

    def predict(self, image, report):
        """Returns `Prediction`, or a list of them; arguments as `Client.predict`."""
        studies = Studies(image, report)
        if not studies.rows:
            return []
        reply, _ = yield from self._ask(studies, partial(self._call_predict, "serving_bytes"))
        return studies.unpack(read_predictions(reply.model_spec, reply.outputs, len(studies.rows)))

    def explain(self, image, report, target):
        """Returns `ServedExplanation`, or a list of them; arguments as `Client.explain`."""
        studies = Studies(image, report)
        if not studies.rows:
            return []
        targets = list_targets(target, len(studies.rows))
        reply, taken = yield from self._ask(studies, partial(self._call_predict, "explain_bytes"), targets)
        films = [image is not None for image, _ in studies.rows]
        found = read_explanations(reply.model_spec, reply.outputs, films, taken)
        for name, explanation in zip(targets, found):
            if name not in (None, explanation.target):
                self.forget()
                raise ServerError(f'Expected an explanation of "{name}". Received: of "{explanation.target}".')
        return studies.unpack(found)

    def embed(self, image, report):
        """Returns float32 `(features,)`, or `(n, features)` of lists."""
        studies = Studies(image, report)
        if not studies.rows:
            return np.zeros((0, 0), np.float32)
        reply, _ = yield from self._ask(studies, partial(self._call_predict, "embed_bytes"))
        features = read_features(reply.outputs, len(studies.rows))
        return features if studies.many else features[0]

    def classify(self, image, report):
        """Returns dict of label name to probability, or a list of them, by the Classify call."""
        studies = Studies(image, report)
        if not studies.rows:
            return []
        reply, _ = yield from self._ask(studies, self._call_classify)
        return studies.unpack(read_classes(reply, len(studies.rows)))

    def status(self):
        """Returns list of dict: `version`, `state`, `error_code` and `error_message` of each version."""
        stubs = load_stubs()
        reply = yield Call("GetModelStatus", stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec()))
        return read_status(reply, self.version)

    def metadata(self):
        """Returns dict: `model`, `version`, and `signatures`: their inputs and outputs by name."""
        request = load_stubs().get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        reply = yield Call("GetModelMetadata", request)
        self._check_spec(reply.model_spec)
        found = read_metadata(reply)
        self._known_version, self._inputs = found["version"], _list_taken(found)
        return found

    def describe(self):
        """Returns dict: what the export says of itself."""
        return (yield from self._describe()).said

    def learn(self):
        """Returns set of str: which of films and reports the model takes; asks for it where it is not known."""
        taken = self._inputs
        if taken is None:
            taken = _list_taken((yield from self.metadata()))
        if not taken:
            raise ServerError(
                f'The model "{self.model}" has no signature "serving_bytes", which takes films and reports '
                "as they are. Expected an export of kmm.",
                "FAILED_PRECONDITION",
            )
        return taken

    def _describe(self):
        reply = yield self._call_predict("describe", {names.QUERY: np.array([b""], object)})
        self._check_spec(reply.model_spec)
        text = read_outputs(reply.outputs, {names.DESCRIPTION: ("string", 1)}, 1)[names.DESCRIPTION][0]
        found = _read_json(text) if len(text) <= MAX_DESCRIPTION_BYTES else None
        if not isinstance(found, dict):
            raise ServerError("Expected a description as JSON. Received: something else.", "INTERNAL")
        described = Described(reply.model_spec.version.value, found)
        self._description, self._known_version = described, described.version
        return described

    def _ask(self, studies, make_call, targets=()):
        """Sends studies; returns the reply, and the set of inputs that the model takes.

        Numbers of labels and sections of reports hold for the version that named them. Where another one answers,
        everything is asked once more.

        Args:
            studies: `Studies`.
            make_call: function of inputs by name to `Call`.
            targets: list of names of labels, None for any; one a study. Empty where nothing is to be explained.
        """
        for _ in range(2):
            taken = yield from self.learn()
            described = None
            if any(name is not None for name in targets) or (names.REPORT in taken and studies.need_sections):
                described = self._description or (yield from self._describe())
            inputs = self._encode(studies, taken, described)
            if targets:
                inputs[names.TARGET] = self._number_targets(targets, described)
            reply = yield make_call(inputs)
            self._check_spec(reply.model_spec)
            if described is None or described.version == reply.model_spec.version.value:
                return reply, taken
            self.forget()
        raise ServerError("Expected one version to answer. They changed while it was asked, twice.", "ABORTED")

    def _encode(self, studies, taken, described):
        """The inputs that the model takes, as arrays of bytes."""
        sections = list_sections(described.said) if described else ()
        rows = {}
        for name, place, encode in (
            (names.IMAGE_BYTES, 0, encode_film),
            (names.REPORT, 1, lambda report: encode_report(report, sections)),
        ):
            if name in taken:
                rows[name] = np.empty(len(studies.rows), object)
                rows[name][:] = [encode(row[place]) for row in studies.rows]
            elif not studies.is_study and any(row[place] is not None for row in studies.rows):
                kind = "films" if place == 0 else "reports"
                raise InputError(f'The model "{self.model}" reads no {kind}. Received: some.')
        for row, values in enumerate(zip(*rows.values())):
            if not any(values):
                place = f"Study {row}: expected" if studies.many else "Expected"
                raise InputError(f"{place} a film or a report that the model reads. Received: neither.")
        return rows

    def _number_targets(self, targets, described):
        known = described.said.get("labels") if described else []
        if not isinstance(known, list) or not all(isinstance(name, str) for name in known):
            raise ServerError("Expected a description with the names of labels. Received: none.")
        numbers = {name: number for number, name in enumerate(known)}
        try:
            found = [names.ANY_TARGET if name is None else look_up(numbers, name, "label") for name in targets]
        except InputError:
            self.forget()  # a newer version may know it
            raise
        return np.array(found, np.int32)

    def _call_predict(self, signature, inputs):
        request = load_stubs().predict_pb2.PredictRequest(model_spec=self._spec(signature))
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(encode_tensor(array))
        return Call("Predict", request)

    def _call_classify(self, inputs):
        request = load_stubs().classification_pb2.ClassificationRequest(model_spec=self._spec("classify"))
        for values in zip(*inputs.values()):
            features = request.input.example_list.examples.add().features
            for name in (names.IMAGE_BYTES, names.REPORT):
                features.feature[name].bytes_list.value.append(dict(zip(inputs, values)).get(name, b""))
        return Call("Classify", request)

    def _spec(self, signature=""):
        spec = load_stubs().model_pb2.ModelSpec(name=self.model, signature_name=signature)
        if self.version is not None:
            spec.version.value = self.version
        elif self.label is not None:
            spec.version_label = self.label
        return spec

    def _check_spec(self, spec):
        """Checks who has answered. What was asked of another version than now answers is not known of this one."""
        check_spec(spec, model=self.model, version=self.version)
        if self._known_version not in (None, spec.version.value):
            self.forget()


def _list_taken(metadata):
    inputs = metadata["signatures"].get("serving_bytes", {}).get("inputs", ())
    return {names.IMAGE_BYTES, names.REPORT}.intersection(inputs)


def _read_json(text):
    """What JSON in bytes holds; None where it is none, as with NaN and infinity, which Python would read."""

    def refuse(text):
        raise ValueError(text)

    def read_number(text):
        return float(text) if math.isfinite(float(text)) else refuse(text)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=read_number)
    except (ValueError, RecursionError):
        return None
