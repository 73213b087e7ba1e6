"""Answer requests independently of the protocol; gRPC and HTTP call the same methods."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kmm.image.decoding import count_cores
from kmm.protocol.messages import load_stubs
from kmm.protocol.signatures import EXPLAIN
from kmm.server.access_log import Entry, note_version
from kmm.server.memory import Workspace
from kmm.server.metrics import Metrics
from kmm.server.models.catalogue import Catalogue
from kmm.server.models.dtypes import STRING
from kmm.server.models.model import VersionState
from kmm.server.models.signature_checks import check_inputs, check_types, choose_outputs, decode_inputs, name_signature
from kmm.server.requests import examples
from kmm.server.requests.admission import AdmissionGate, Caller, check_client, check_running
from kmm.server.requests.batching import Batcher
from kmm.server.requests.films import check_films, count_pixels, list_films
from kmm.server.requests.pixel_budget import PixelBudget
from kmm.server.requests.slices import cut_rows, run_slices
from kmm.server.settings import ModelSettings, ServeSettings
from kmm.server.status import NUMBERS, ServingError

if TYPE_CHECKING:
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_status_pb2,
        inference_pb2,
        input_pb2,
        model_pb2,
        regression_pb2,
    )

SIGNATURE_DEF = "signature_def"  # the only kind of metadata
_Encoded = TypeVar("_Encoded")


@dataclass(frozen=True)
class InferenceResult:
    """The result of a run.

    Attributes:
        spec: `ModelSpec` with the name, version and signature that answered.
        outputs: dict of name to NumPy array.
    """

    spec: "model_pb2.ModelSpec"
    outputs: dict[str, np.ndarray]


class Inference:
    """Runs signatures of the models of a catalogue, with limits on parallel requests, and reports their states.

    Args:
        catalogue: `Catalogue`.
        settings: `ServeSettings`.
    """

    def __init__(self, catalogue: Catalogue, settings: ServeSettings) -> None:
        self.catalogue, self.settings = catalogue, settings
        self._max_bytes = settings.max_message_mb << 20
        self._gates = {
            "predict": AdmissionGate(running=settings.threads, waiting=settings.max_queue),
            EXPLAIN: AdmissionGate(running=settings.explain_threads, waiting=settings.max_queue),
        }
        make_batcher = partial(
            Batcher, settings.max_batch if settings.batching else 1, wait_seconds=settings.batch_wait_ms / 1000
        )
        self._batcher = make_batcher()
        self._film_batcher = make_batcher(running=count_cores())  # the graph decodes the films of a batch one by one
        self._workspace = Workspace()
        self.metrics = Metrics(self._gates)
        self._unanswered, self._lock = 0, threading.Lock()  # admitted requests whose answers are not yet delivered

    def predict(
        self,
        spec: "model_pb2.ModelSpec",
        inputs: "Mapping[str, tensor_pb2.TensorProto]",
        output_filter: Sequence[str],
        call: Caller,
        *,
        encode: Callable[[InferenceResult], _Encoded],
    ) -> _Encoded:
        """Runs a signature.

        Args:
            spec: `ModelSpec`.
            inputs: mapping of name to `TensorProto`.
            output_filter: names of the outputs to return; empty returns all.
            call: `Caller` of the request; it ends when the answer has been delivered.
            encode: function that encodes an `InferenceResult` for sending. It runs before the next request may run,
                since an encoded answer may take more memory than its arrays.

        Returns:
            the result of `encode`.

        Raises:
            ServingError: with TensorFlow Serving's codes and texts.
        """
        with self._lease(spec) as servable:
            key = name_signature(spec)
            if key not in servable.functions:
                raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{key}" not found.')
            signature = servable.signatures[key]
            check_inputs(signature, inputs)
            wanted = choose_outputs(signature, output_filter)
            check_types(signature, inputs)
            with self._enter(key, call):
                arrays = decode_inputs(inputs, max_bytes=self._max_bytes)
                outputs = self._run(servable, key, arrays, wanted, call, api="Predict", budget=self._make_budget())
                return encode(InferenceResult(_make_spec(servable, key), outputs))

    def classify(
        self, spec: "model_pb2.ModelSpec", stored: "input_pb2.Input", call: Caller
    ) -> "tuple[model_pb2.ModelSpec, classification_pb2.ClassificationResult]":
        """Runs a classification signature on examples.

        Args:
            spec: `ModelSpec`.
            stored: `Input`, the message with the examples.
            call: as in `predict`.

        Returns:
            (`ModelSpec`, `ClassificationResult`).

        Raises:
            ServingError: as `predict`.
        """
        return self._run_examples(examples.CLASSIFY, spec, stored, call, self._make_budget())

    def regress(
        self, spec: "model_pb2.ModelSpec", stored: "input_pb2.Input", call: Caller
    ) -> "tuple[model_pb2.ModelSpec, regression_pb2.RegressionResult]":
        """Runs a regression signature on examples; arguments and errors are as for `classify`."""
        return self._run_examples(examples.REGRESS, spec, stored, call, self._make_budget())

    def run_several(
        self, tasks: "Sequence[inference_pb2.InferenceTask]", stored: "input_pb2.Input", call: Caller
    ) -> "list[tuple[model_pb2.ModelSpec, Any]]":
        """Runs several signatures of one model on the same examples.

        Args:
            tasks: the `InferenceTask` messages of a `MultiInferenceRequest`.
            stored: `Input`.
            call: as in `predict`.

        Returns:
            list of (`ModelSpec`, result).

        Raises:
            ServingError: as `predict`.
        """
        kinds, budget = examples.check_tasks(tasks), self._make_budget()
        return [self._run_examples(kind, task.model_spec, stored, call, budget) for task, kind in zip(tasks, kinds)]

    def find_signatures(
        self, spec: "model_pb2.ModelSpec"
    ) -> "tuple[model_pb2.ModelSpec, dict[str, meta_graph_pb2.SignatureDef]]":
        """Finds the signatures of a version.

        Returns:
            (`ModelSpec` with name and version, dict of name to `SignatureDef`).
        """
        with self.catalogue.lease(spec) as servable:
            note_version(servable.version, None)
            return _make_spec(servable), servable.signatures

    def list_states(self, spec: "model_pb2.ModelSpec") -> dict[int, VersionState]:
        """Lists the states of the versions of a model, or of the version that the request names.

        Returns:
            dict of version to `VersionState`, highest version first.

        Raises:
            ServingError: NOT_FOUND if there is no such version; INVALID_ARGUMENT if the label is unknown.
        """
        model, version = self.catalogue.find(spec)
        states = model.list_states() if model is not None else {}
        if version is not None:
            if version not in states:
                raise ServingError("NOT_FOUND", f"Could not find version {version} of model {spec.name}")
            return {version: states[version]}
        if not states:
            raise ServingError("NOT_FOUND", f"Could not find any versions of model {spec.name}")
        return states

    def reload(self, models: Iterable[ModelSettings]) -> None:
        """Serves another list of models.

        Args:
            models: list of `ModelSettings`.

        Raises:
            ServingError: FAILED_PRECONDITION if the settings do not allow it; also as for `Catalogue.replace`.
        """
        if not self.settings.allow_reload:
            raise ServingError(
                "FAILED_PRECONDITION", "This server accepts no new list of models. Start it with --allow-reload."
            )
        self.catalogue.replace(models)

    def drain(self, seconds: float) -> bool:
        """Refuses further requests, and waits until the answers to all running and waiting requests are delivered.

        Args:
            seconds: float. Longest time to wait.

        Returns:
            bool. Whether all requests ended in time.
        """
        end, gates = time.monotonic() + seconds, self._gates.values()
        for gate in gates:
            gate.close()
        while self._unanswered or any(gate.running or gate.waiting for gate in gates):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def record(self, spec: "model_pb2.ModelSpec", api: str, entrypoint: str) -> AbstractContextManager[Entry]:
        """Counts and times a request, see `Metrics.record`."""
        return self.metrics.record(self.catalogue.find_name(spec.name), api, entrypoint)

    def count_refusal(self) -> None:
        """Counts a request without a valid token."""
        self.metrics.count("", "UNAUTHENTICATED")

    def _run_examples(self, kind, spec, stored, call, budget):
        with self._lease(spec) as servable:
            key = name_signature(spec)
            if key not in servable.functions:
                raise ServingError("INVALID_ARGUMENT", f"No signature was found with the name: {key}")
            signature = servable.signatures[key]
            wanted = examples.check_signature(kind, signature)
            check_types(signature, {examples.INPUTS: load_stubs().tensor_pb2.TensorProto(dtype=STRING)})
            with self._enter(key, call):
                serialized = examples.serialize(stored, max_bytes=self._max_bytes)
                arrays = {examples.INPUTS: serialized}
                outputs = self._run(servable, key, arrays, wanted, call, api=kind.api, budget=budget)
                return _make_spec(servable, key), kind.make_result(outputs, len(serialized))

    def _make_budget(self):
        return PixelBudget(self.settings.max_megapixels * 1_000_000)

    def _run(self, servable, key, arrays, wanted, call, *, api, budget):
        """Runs a signature, slice by slice, until the client disconnects or its deadline passes.

        Args:
            servable, key, arrays, wanted: as in `run_signature`.
            call: as in `predict`.
            api: str, for the metrics.
            budget: `PixelBudget` of the request.

        Returns:
            dict of output name to array.
        """
        films = list_films(servable, arrays)
        pixels = count_pixels(films)
        budget.spend(pixels)

        def run(rows, part):
            check_films(films[rows], call)
            check_running(call)
            batcher = self._film_batcher if any(films[rows]) else self._batcher
            return batcher.run(servable, key, part, wanted, call)

        with self.metrics.time_run(servable.name, api):
            outputs = run_slices(run, arrays, cut_rows(servable, key, arrays, pixels))
        check_client(call)
        return outputs

    @contextlib.contextmanager
    def _lease(self, spec):
        """Holds the version that a request names, and notes it for the access log."""
        with self.catalogue.lease(spec) as servable:
            key = name_signature(spec)
            note_version(servable.version, key if key in servable.functions else None)
            yield servable

    @contextlib.contextmanager
    def _enter(self, key, call):
        """Waits for the turn of a request, which counts as unanswered until its call ends."""
        explains = key.startswith(EXPLAIN)
        workspace = self._workspace.use() if explains else contextlib.nullcontext()
        with self._gates[EXPLAIN if explains else "predict"].enter(call), workspace:
            with self._lock:
                self._unanswered += 1
            if not call.add_callback(self._end_answer):
                self._end_answer()
            yield

    def _end_answer(self):
        with self._lock:
            self._unanswered -= 1


def make_states(states: Mapping[int, VersionState]) -> "get_model_status_pb2.GetModelStatusResponse":
    """Builds a `GetModelStatusResponse` from the states of versions.

    Args:
        states: dict of version to `VersionState`.
    """
    response = load_stubs().get_model_status_pb2.GetModelStatusResponse()
    for version, state in states.items():
        status = response.model_version_status.add(version=version, state=state.state).status
        status.error_code, status.error_message = NUMBERS[state.code], state.text
    return response


def _make_spec(servable, key=""):
    spec = load_stubs().model_pb2.ModelSpec(name=servable.name, signature_name=key)
    spec.version.value = servable.version
    return spec
