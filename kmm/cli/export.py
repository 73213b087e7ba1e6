"""`kmm export`: write a saved classifier for TensorFlow Serving."""

import os
from pathlib import Path

import click
from click.core import ParameterSource

from kmm.cli.command import LIST, PLACE, Command, json_option
from kmm.cli.output import check_place, load_keras_quietly, write_result
from kmm.errors import InputError
from kmm.protocol.signatures import DEFAULT_SIGNATURES, LAST_VERSION

PARTS = ("explain",)
OF_A_FILE = {"model", "kind", "out", "strict_privacy", "json_file", "config"}  # options of --format onnx and litert
OF_BATCHING = {"max_batch", "batch_timeout_ms", "batch_threads"}
OF_EXPLANATIONS = {"steps", "baseline", "text_baseline", "memory_gb"}


@click.command(cls=Command)
@click.argument("model", type=PLACE)
@click.option(
    "--format",
    "kind",
    type=click.Choice(("savedmodel", "onnx", "litert")),
    default="savedmodel",
    show_default=True,
    help="Format; onnx and litert write the model alone, to MODEL/<name>.onnx or .tflite or to --out.",
)
@click.option(
    "--version", type=click.IntRange(1, LAST_VERSION), help="Version number; the next free one when not given."
)
@click.option("--out", type=PLACE, help="Folder of versions; MODEL itself when not given.")
@click.option(
    "--default",
    type=click.Choice(list(DEFAULT_SIGNATURES)),
    default="tensors",
    show_default=True,
    help="Input of the signature serving_default.",
)
@click.option("--without", multiple=True, type=click.Choice(PARTS), help="Part to leave out; explain: explanations.")
@click.option(
    "--steps", type=click.IntRange(2, 1000), default=25, show_default=True, help="Path points of an explanation."
)
@click.option("--baseline", default="black", show_default=True, help="Baseline film: black, mean or grey.")
@click.option("--text-baseline", default="padding", show_default=True, help="Baseline text: padding or zero.")
@click.option("--memory-gb", type=float, default=3.0, show_default=True, help="Peak memory of an explanation, in GB.")
@click.option("--batching", is_flag=True, help="Batch the calls of several clients in the graph.")
@click.option("--max-batch", type=click.IntRange(1), default=16, show_default=True, help="Most rows per batch.")
@click.option(
    "--batch-timeout-ms", type=float, default=2.0, show_default=True, help="Longest wait for a full batch, in ms."
)
@click.option("--batch-threads", type=click.IntRange(1), default=2, show_default=True, help="Batches run in parallel.")
@click.option("--warmup", type=LIST, default="1,8", show_default=True, help="Rows of each warm-up request.")
@click.option("--strict-privacy", is_flag=True, help="Refuse to export words of a single patient, ids or local paths.")
@json_option("EXPORT")
@click.pass_context
def export(
    context: click.Context,
    model: Path,
    kind: str,
    version: int | None,
    out: Path | None,
    default: str,
    without: tuple[str, ...],
    steps: int,
    baseline: str,
    text_baseline: str,
    memory_gb: float,
    batching: bool,
    max_batch: int,
    batch_timeout_ms: float,
    batch_threads: int,
    warmup: list[str],
    strict_privacy: bool,
    json_file: str | None,
) -> None:
    """Write a classifier for TensorFlow Serving.

    Writes a SavedModel to MODEL/<version>; its graph decodes films, cleans text, calibrates scores and explains. The
    export is loaded and compared with the classifier before it appears. Classifiers trained on JAX or torch are
    exported with TensorFlow too. Standard error lists what the export discloses: files, words, ids and paths.

    \b
    Examples: kmm export saved_models/openi --batching
              kmm export saved_models/openi --strict-privacy --json export.json
    """
    check_place(json_file)
    _refuse_idle(context, kind, without, batching)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with load_keras_quietly():
        from kmm.export.privacy import describe_privacy, report_privacy, require_privacy
    report = {}

    def inspect(written, description=None):
        report.update(report_privacy(written, model, description))
        if strict_privacy:
            require_privacy(report)

    def finish(place, result):
        for line in describe_privacy(report):
            click.echo(f"privacy: {line}", err=True)
        write_result(json_file, {**result, "privacy": report}, lambda: click.echo(str(place)))

    if kind != "savedmodel":
        with load_keras_quietly():
            from kmm.export.formats import export_format

        file = export_format(model, kind, out, inspect=inspect)
        finish(file, {"file": str(file)})
        return
    with load_keras_quietly():
        from kmm.export.explanation import ExplainSignature
        from kmm.export.graph.batching import Batching
        from kmm.export.write import export_classifier

    explanation = None
    if "explain" not in without:
        explanation = ExplainSignature(steps=steps, baseline=baseline, text_baseline=text_baseline, memory_gb=memory_gb)
    place = export_classifier(
        model,
        version=version,
        out=out,
        default=default,
        explanation=explanation,
        batching=Batching(max_batch, batch_timeout_ms, batch_threads) if batching else None,
        warmup=_read_sizes(warmup),
        inspect=inspect,
    )
    finish(place, {"version": int(place.name), "folder": str(place)})


def _refuse_idle(context, kind, without, batching):
    """Rejects given options that would have no effect."""
    of_file = kind != "savedmodel"
    for option in context.command.params:
        name = option.name
        if context.get_parameter_source(name) in (None, ParameterSource.DEFAULT):
            continue
        given = f"`{max(option.opts, key=len)}`"
        if of_file and name not in OF_A_FILE:
            raise InputError(f"{given} does nothing for `--format {kind}`, which writes the model alone.")
        if name in OF_BATCHING and not batching:
            raise InputError(f"{given} belongs to `--batching`. Give both or neither.")
        if name in OF_EXPLANATIONS and "explain" in without:
            raise InputError(f"{given} belongs to explanations, which `--without explain` leaves out.")


def _read_sizes(words):
    try:
        sizes = tuple(int(word) for word in words if str(word).strip())
    except ValueError:
        raise InputError("`--warmup` must be whole numbers separated by commas.") from None
    if any(not 1 <= size <= 1000 for size in sizes):
        raise InputError("`--warmup` must be numbers from 1 to 1000.")
    return sizes
