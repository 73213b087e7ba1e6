"""Requests of a client as generators: each yields the calls to make, receives the replies and returns the result.

Both clients share everything except the calls themselves, and tests need no network.
"""

import json
import math
from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple, TypeVar

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
from kmm.client.results import ServedExplanation
from kmm.client.studies import Images, Reports, Studies, Targets, list_sections, list_targets
from kmm.errors import InputError, ServerError, look_up
from kmm.protocol import signatures as names
from kmm.protocol.messages import load_stubs
from kmm.protocol.predictions import Prediction, Predictions
from kmm.protocol.tensors import encode_tensor

MAX_DESCRIPTION_BYTES = 10_000_000
MAX_VERSION = 2**63 - 1


class Call(NamedTuple):
    """A call to make: the name of the method, and its request."""

    method: str
    request: Any


_Result = TypeVar("_Result")
Flow = Generator[Call, Any, _Result]


class Description(NamedTuple):
    """The reply of `describe`: the version that gave it, and its fields."""

    version: int
    fields: dict[str, Any]


class Flows:
    """Requests to one served model.

    The inputs and the description of the model are requested once and kept until `forget` is called or another version
    answers.

    Args:
        model: str. Name of the model.
        version: int, or None for the version that the server chooses.
        label: str or None. A version label, instead of a number.

    Raises:
        InputError: if version and label are both given, or either has the wrong type.
    """

    def __init__(self, model: str, version: int | None = None, label: str | None = None):
        if version is not None and label is not None:
            raise InputError("Give either `version` or `label`. Received: both.")
        self.version = None if version is None else take_whole("version", version, 0, MAX_VERSION)
        self.model, self.label = take_name("model", model), take_name("label", label)
        self._inputs: set[str] | None = None
        self._description: Description | None = None
        self._known_version: int | None = None

    def forget(self) -> None:
        """Drops everything known about the model, so that the next request asks again."""
        self._inputs = self._description = self._known_version = None

    def predict(self, image: Images, report: Reports) -> Flow[Prediction | Predictions]:
        """Returns `Prediction`, or `Predictions` for lists; arguments as for `Client.predict`."""
        studies = Studies(image, report)
        if not studies.rows:
            return Predictions([])
        reply, _ = yield from self._ask(studies, partial(self._call_predict, "serving_bytes"))
        found = read_predictions(reply.model_spec, reply.outputs, len(studies.rows))
        return Predictions(found, studies.ids) if studies.many else found[0]

    def explain(
        self, image: Images, report: Reports, target: Targets
    ) -> Flow[ServedExplanation | list[ServedExplanation]]:
        """Returns `ServedExplanation`, or a list of them; arguments as for `Client.explain`."""
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
                raise ServerError(f'The reply explains "{explanation.target}". Expected: "{name}".')
        return studies.unpack(found)

    def embed(self, image: Images, report: Reports) -> Flow[np.ndarray]:
        """Returns float32 `(features,)`, or `(n, features)` for lists."""
        studies = Studies(image, report)
        if not studies.rows:
            return np.zeros((0, 0), np.float32)
        reply, _ = yield from self._ask(studies, partial(self._call_predict, "embed_bytes"))
        features = read_features(reply.outputs, len(studies.rows))
        return features if studies.many else features[0]

    def classify(self, image: Images, report: Reports) -> Flow[dict[str, float] | list[dict[str, float]]]:
        """Returns dict of label name to probability, or a list of them, using the Classify call."""
        studies = Studies(image, report)
        if not studies.rows:
            return []
        reply, _ = yield from self._ask(studies, self._call_classify)
        return studies.unpack(read_classes(reply, len(studies.rows)))

    def status(self) -> Flow[list[dict[str, Any]]]:
        """Returns list of dict: `version`, `state`, `error_code` and `error_message` of each version."""
        stubs = load_stubs()
        reply = yield Call("GetModelStatus", stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec()))
        return read_status(reply, self.version)

    def metadata(self) -> Flow[dict[str, Any]]:
        """Returns dict: `model`, `version`, and `signatures` with their inputs and outputs by name."""
        request = load_stubs().get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        reply = yield Call("GetModelMetadata", request)
        self._check_spec(reply.model_spec)
        found = read_metadata(reply)
        self._known_version, self._inputs = found["version"], _list_inputs(found)
        return found

    def describe(self) -> Flow[dict[str, Any]]:
        """Returns dict: the export's description of itself."""
        return (yield from self._describe()).fields

    def learn(self) -> Flow[set[str]]:
        """Returns the inputs that the model takes, of films and reports, as set of str; asks the server if unknown."""
        taken = self._inputs
        if taken is None:
            taken = _list_inputs((yield from self.metadata()))
        if not taken:
            raise ServerError(
                f'The model "{self.model}" has no signature "serving_bytes", which takes undecoded films and reports. '
                "Expected an export of kmm.",
                "FAILED_PRECONDITION",
            )
        return taken

    def _describe(self):
        reply = yield self._call_predict("describe", {names.QUERY: np.array([b""], object)})
        self._check_spec(reply.model_spec)
        text = read_outputs(reply.outputs, {names.DESCRIPTION: ("string", 1)}, 1)[names.DESCRIPTION][0]
        found = _read_json(text) if len(text) <= MAX_DESCRIPTION_BYTES else None
        if not isinstance(found, dict):
            raise ServerError("The reply of `describe` is not a valid JSON object.", "INTERNAL")
        described = Description(reply.model_spec.version.value, found)
        self._description, self._known_version = described, described.version
        return described

    def _ask(self, studies, make_call, targets=()):
        """Sends studies; returns the reply, and the set of inputs that the model takes.

        The numbers of labels and the sections of reports are valid only for the version that listed them. If another
        version answers, the whole request is repeated once.

        Args:
            studies: `Studies`.
            make_call: function from a dict of input arrays to `Call`.
            targets: list of label names, one per study, None for the most probable label; empty for a prediction.
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
        raise ServerError("The served version changed twice during the request. Try again.", "ABORTED")

    def _encode(self, studies, taken, described):
        """Encodes the inputs that the model takes as arrays of bytes."""
        sections = list_sections(described.fields) if described else ()
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
                raise InputError(f'The model "{self.model}" does not read {kind}. Leave them out.')
        for row, values in enumerate(zip(*rows.values())):
            if not any(values):
                study = f"Study {row}" if studies.many else "The study"
                raise InputError(f"{study} has neither a film nor a report that the model reads.")
        return rows

    def _number_targets(self, targets, described):
        known = described.fields.get("labels") if described else []
        if not isinstance(known, list) or not all(isinstance(name, str) for name in known):
            raise ServerError("The description of the model does not list the names of its labels.")
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
        """Checks which model answered. If the version changed, drops everything known about the earlier one."""
        check_spec(spec, model=self.model, version=self.version)
        if self._known_version not in (None, spec.version.value):
            self.forget()


def _list_inputs(metadata):
    inputs = metadata["signatures"].get("serving_bytes", {}).get("inputs", ())
    return {names.IMAGE_BYTES, names.REPORT}.intersection(inputs)


def _read_json(text):
    """Parses JSON bytes; returns None if they are invalid. Rejects NaN and infinity, which Python would accept."""

    def refuse(text):
        raise ValueError(text)

    def read_number(text):
        return float(text) if math.isfinite(float(text)) else refuse(text)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=read_number)
    except (ValueError, RecursionError):
        return None
