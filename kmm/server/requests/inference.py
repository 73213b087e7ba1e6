"""What a server answers, without a transport: both faces call these methods."""

import contextlib
import threading
import time
from dataclasses import dataclass

from kmm.protocol.messages import load_stubs
from kmm.server.access_log import note_version
from kmm.server.memory import Workspace
from kmm.server.metrics import Metrics
from kmm.server.models.dtypes import STRING
from kmm.server.models.signature_checks import check_inputs, check_types, choose_outputs, decode_inputs, name_signature
from kmm.server.requests import examples
from kmm.server.requests.admission import AdmissionGate, check_client, check_running
from kmm.server.requests.batching import Batcher
from kmm.server.requests.films import check_films, count_pixels, list_films
from kmm.server.requests.pixel_budget import PixelBudget
from kmm.server.requests.slices import EXPLAIN, cut_rows, run_slices
from kmm.server.status import NUMBERS, ServingError

SIGNATURE_DEF = "signature_def"  # the one kind of metadata


@dataclass(frozen=True)
class Answer:
    """What a run gave.

    Attributes:
        spec: `ModelSpec`: name, version and signature that answered.
        outputs: dict of name to numpy array.
    """

    spec: object
    outputs: dict


class Inference:
    """Runs signatures of the models of a catalogue, so many at once, and tells about them.

    Args:
        catalogue: `Catalogue`.
        settings: `ServeSettings`.
    """

    def __init__(self, catalogue, settings):
        self.catalogue, self.settings = catalogue, settings
        self._max_bytes = settings.max_message_mb << 20
        self._gates = {
            "predict": AdmissionGate(running=settings.threads, waiting=settings.max_queue),
            EXPLAIN: AdmissionGate(running=settings.explain_threads, waiting=settings.max_queue),
        }
        self._batcher = Batcher(
            settings.max_batch if settings.batching else 1, wait_seconds=settings.batch_wait_ms / 1000
        )
        self._workspace = Workspace()
        self.metrics = Metrics(self._gates)
        self._unanswered, self._lock = 0, threading.Lock()  # requests that ran and whose answers are not handed over

    def predict(self, spec, inputs, output_filter, call, *, encode):
        """Runs a signature.

        Args:
            spec: `ModelSpec`.
            inputs: mapping of name to `TensorProto`.
            output_filter: names of the outputs to answer; empty is all.
            call: what the client still waits for, see `Gate.enter`; it ends when the answer is handed over.
            encode: function that takes an `Answer` and returns what is sent. It runs before the next request does:
                answers may take more room than the arrays they hold.

        Returns:
            what `encode` returns.

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
                return encode(Answer(_make_spec(servable, key), outputs))

    def classify(self, spec, stored, call):
        """Runs a signature of classification on examples.

        Args:
            spec: `ModelSpec`.
            stored: `Input`, the message that holds examples.
            call: as of `predict`.

        Returns:
            (`ModelSpec`, `ClassificationResult`).

        Raises:
            ServingError: as `predict`.
        """
        return self._run_examples(examples.CLASSIFY, spec, stored, call, self._make_budget())

    def regress(self, spec, stored, call):
        """As `classify`, with a signature of regression and a `RegressionResult`."""
        return self._run_examples(examples.REGRESS, spec, stored, call, self._make_budget())

    def run_several(self, tasks, stored, call):
        """Runs several signatures of one model on the same examples.

        Args:
            tasks: the `InferenceTask`s of a `MultiInferenceRequest`.
            stored: `Input`.
            call: as of `predict`.

        Returns:
            list of (`ModelSpec`, result).

        Raises:
            ServingError: as `predict`.
        """
        kinds, budget = examples.check_tasks(tasks), self._make_budget()
        return [self._run_examples(kind, task.model_spec, stored, call, budget) for task, kind in zip(tasks, kinds)]

    def find_signatures(self, spec):
        """The signatures of a version.

        Returns:
            (`ModelSpec` with name and version, dict of name to `SignatureDef`).
        """
        with self.catalogue.lease(spec) as servable:
            note_version(servable.version, None)
            return _make_spec(servable), servable.signatures

    def list_states(self, spec):
        """The states of a model's versions, or of the one that the request names.

        Returns:
            dict of version to `VersionState`, highest version first.

        Raises:
            ServingError: NOT_FOUND if there is none; INVALID_ARGUMENT if the label is not known.
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

    def reload(self, models):
        """Serves another list of models.

        Args:
            models: list of `ModelSettings`.

        Raises:
            ServingError: FAILED_PRECONDITION where the server was not started to allow it; as `Catalogue.replace`.
        """
        if not self.settings.allow_reload:
            raise ServingError("FAILED_PRECONDITION", "This server takes no new list of models (--allow-reload).")
        self.catalogue.replace(models)

    def drain(self, seconds):
        """Takes no more requests, and lets those that run or wait end: until their answers are handed over.

        Args:
            seconds: float. How long they may take.

        Returns:
            bool. Whether all ended in time.
        """
        end, gates = time.monotonic() + seconds, self._gates.values()
        for gate in gates:
            gate.close()
        while self._unanswered or any(gate.running or gate.waiting for gate in gates):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def record(self, spec, api, entrypoint):
        """Counts and times a request; see `Metrics.record`."""
        return self.metrics.record(self.catalogue.find_name(spec.name), api, entrypoint)

    def count_refusal(self):
        """Counts a request without the token."""
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
        """Runs a signature, slice by slice, until the client is gone or its deadline has passed.

        Args:
            servable, key, arrays, wanted: as of `run_signature`.
            call: as of `predict`.
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
            return self._batcher.run(servable, key, part, wanted, call)

        with self.metrics.time_run(servable.name, api):
            outputs = run_slices(run, arrays, cut_rows(servable, key, arrays, pixels))
        check_client(call)
        return outputs

    @contextlib.contextmanager
    def _lease(self, spec):
        """Holds the version that a request names, and notes for the access log which one that is."""
        with self.catalogue.lease(spec) as servable:
            key = name_signature(spec)
            note_version(servable.version, key if key in servable.functions else None)
            yield servable

    @contextlib.contextmanager
    def _enter(self, key, call):
        """Waits for the turn of a request; it counts as running until its call ends."""
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


def make_states(states):
    """The states of versions as a `GetModelStatusResponse`.

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
