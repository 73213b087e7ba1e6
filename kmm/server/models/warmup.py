"""Run the warm-up requests of a version before it serves, so that the first client does not wait."""

from pathlib import Path

from kmm.protocol.messages import load_stubs
from kmm.protocol.signatures import DESCRIBE, EXPLAIN
from kmm.server.models.graph_errors import translate_load
from kmm.server.models.servable import Servable, run_signature
from kmm.server.models.signature_checks import check_inputs, check_types, choose_outputs, decode_inputs, name_signature
from kmm.server.status import ServingError, refuse

FILE = Path("assets.extra", "tf_serving_warmup_requests")
MOST_RECORDS = 1000
MOST_BYTES = 2**30


def warm_up(servable: Servable, folder: Path | str, *, explain: bool = False) -> int:
    """Runs the stored warm-up requests of a version.

    Args:
        servable: `Servable`.
        folder: path of the version.
        explain: bool. True also runs explanations of kmm's exports. False only checks these requests, and the first
            explanation of a client loads them.

    Returns:
        int, the number of stored requests; 0 if the version has no such file.

    Raises:
        ServingError: if the file is damaged or holds more than 1000 requests, or if a request fails.
    """
    import tensorflow as tf

    path = Path(folder) / FILE
    if not path.is_file():
        return 0
    log = load_stubs().prediction_log_pb2.PredictionLog
    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            count += 1
            if count > MOST_RECORDS:
                raise refuse(f"Expected at most {MOST_RECORDS} warm-up requests.")
            try:
                _run(servable, log.FromString(record), explain)
            except Exception as error:  # noqa: BLE001  its text is dropped: it may quote a patient's report
                failure = error if isinstance(error, ServingError) else translate_load(error)
                raise ServingError(failure.code, f"Warm-up request {count} failed.") from failure
    except tf.errors.OpError:
        raise ServingError("DATA_LOSS", f"The file {FILE} is damaged.") from None
    return count


def _run(servable, record, explain):
    if record.WhichOneof("log_type") != "predict_log":
        raise ServingError("UNIMPLEMENTED", "Only warm-up requests of Predict are supported.")
    request = record.predict_log.request
    key = name_signature(request.model_spec)
    if key not in servable.functions:
        raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{key}" not found.')
    signature = servable.signatures[key]
    check_inputs(signature, request.inputs)
    wanted = choose_outputs(signature, request.output_filter)
    check_types(signature, request.inputs)
    arrays = decode_inputs(request.inputs, max_bytes=MOST_BYTES)
    if explain or not (key.startswith(EXPLAIN) and DESCRIBE in servable.signatures):
        run_signature(servable, key, arrays, wanted)
