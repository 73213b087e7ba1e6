"""`kmm call`: send requests to a served classifier."""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kmm.cli import result_tables
from kmm.cli.command import PLACE, Command, group_options, json_option, views_option
from kmm.cli.output import check_place, list_problems, name_file_in_errors, print_skipped, write_result
from kmm.data.study import part_problems
from kmm.errors import InputError, KmmError, is_debugging
from kmm.storage.output_mark import marking_output, refuse_foreign


def _connection_options(command):
    """Adds the options of the connection."""
    options = [
        click.option("--model", help="Model name, unless it is part of ADDRESS."),
        click.option("--version", type=click.IntRange(0), help="Version number; the server's choice when not given."),
        click.option("--label", help="Version label, instead of --version."),
        click.option(
            "--timeout", type=float, default=30.0, show_default=True, help="Time limit of a request, in seconds."
        ),
        click.option(
            "--retries",
            type=click.IntRange(0, 4),
            default=3,
            show_default=True,
            help="Retries while the server is unavailable.",
        ),
        click.option("--tls", is_flag=True, help="Use TLS with gRPC's own certificate authorities."),
        click.option("--tls-ca", type=PLACE, help="PEM file of the certificate authorities to trust; turns TLS on."),
        click.option("--tls-cert", type=PLACE, help="PEM file of the client certificate."),
        click.option("--tls-key", type=PLACE, help="PEM file of the client key."),
        click.option("--tls-server-name", help="Name in the server's certificate, if it is not the host name."),
        click.option(
            "--allow-plaintext", is_flag=True, help="Call another host without TLS, for example through a tunnel."
        ),
        click.option("--token-file", type=PLACE, help="Token file; sent over TLS or to this machine only."),
    ]
    return group_options(*options)(command)


@click.command(cls=Command)
@click.argument("address")
@click.argument("action", type=click.Choice(["predict", "explain", "status", "metadata", "describe"]))
@click.argument("files", nargs=-1, type=PLACE)
@click.option("--report", type=PLACE, help="Text file with the report of the one image, or without an image.")
@click.option("--target", help="Label to explain; each study's most probable label when not given.")
@click.option("--out", type=PLACE, help="Folder for explanations: <id>.json and <id>.png.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=8, show_default=True, help="Parallel requests of predict."
)
@views_option
@_connection_options
@json_option("CALL")
def call(
    address: str,
    action: str,
    files: tuple[Path, ...],
    report: Path | None,
    target: str | None,
    out: Path | None,
    concurrency: int,
    views: Mapping[str, str] | None,
    json_file: str | None,
    **connection: Any,
) -> None:
    """Send studies to a served classifier.

    Speaks gRPC with kmm serve or TensorFlow Serving. ADDRESS is host:port, host:port/model, unix:/path or
    unix:/path:model; an IPv6 address needs brackets. FILES are images, DICOM files, folders of images, folders in any
    layout that `kmm fit` reads, or manifests. Exit code 2: no study was answered.

    \b
    Examples: kmm call localhost:8500/openi predict film.dcm --report report.txt
              kmm call localhost:8500/openi explain film.png --out explained
              kmm call localhost:8500/openi status
    """
    check_place(json_file)
    takes_studies = action in ("predict", "explain")
    if takes_studies != bool(files or report):
        expected = "an image or a report" if takes_studies else "no files"
        raise InputError(f"`kmm call {address} {action}` takes {expected}. Received: {len(files)} files.")
    if (out or target) and action != "explain":
        raise InputError("--out and --target belong to explain.")
    with _connect(address, **connection) as client:
        if not takes_studies:
            value = getattr(client, action)()
            found = {"versions": value} if action == "status" else value
            write_result(json_file, found, lambda: click.echo(json.dumps(value, indent=2)))
            return
        studies, problems = _list_studies(client, files, report, views)
        if action == "predict":
            rows, failed = _predict(client, studies, concurrency)
            result, show = {"predictions": rows}, lambda: result_tables.print_predictions(rows)
        else:
            with _writing(out, studies):
                rows, failed = _explain(client, studies, target, out)
            table = _tabulate(out or address, rows, asked=len(studies))
            result, show = {"explanations": rows}, lambda: result_tables.print_explanations(table)
    problems += failed
    list_problems(problems)
    set_aside, notes = part_problems(problems)
    write_result(json_file, {"address": address, **result, "set_aside": set_aside, "notes": notes}, show)
    sys.exit(0 if rows else 2)


def _connect(address, *, tls, tls_ca, tls_cert, tls_key, tls_server_name, token_file, **settings):
    if not is_debugging():  # the command's own error replaces gRPC's lines on standard error
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        logging.getLogger("grpc").setLevel(logging.CRITICAL)
    from kmm.client import Client, Tls
    from kmm.client.channel import read_token

    if tls or tls_ca or tls_cert or tls_key or tls_server_name:
        settings["tls"] = Tls(tls_ca, tls_cert, tls_key, tls_server_name)
    if token_file:
        settings["token"] = read_token(token_file)
    return Client(address, **settings)


def _list_studies(client, files, report, views):
    """Reads the studies of FILES; a report without an image is a study too. Returns studies and problems."""
    from kmm.client.studies import list_sections
    from kmm.data.inputs import place_report, read_inputs, read_report
    from kmm.data.study import Report, Study

    if files:
        collection = read_inputs(files, report=report, view_overrides=views)
        print_skipped(collection)
        studies, problems = list(collection.studies), list(collection.problems)
    else:
        studies, problems = [Study(report.stem, report.stem, report=Report(findings=read_report(report)))], []
    if report:
        studies = [place_report(studies[0], list_sections(client.describe()))]
    return studies, problems


def _predict(client, studies, concurrency):
    """Asks for predictions; returns JSON-compatible rows and problems."""
    found = list(client.predict_folder(studies, concurrency=concurrency))
    rows = [{**_describe_study(row.study), **row.prediction.as_dict()} for row in found if not row.problem]
    return rows, [row.problem for row in found if row.problem]


def _explain(client, studies, target, out):
    """Asks for explanations; returns JSON-compatible rows and problems."""
    from kmm.client.films import read_drawable
    from kmm.data.names import choose_file_names
    from kmm.explain.output.table import drop_unknown
    from kmm.image.pixel_aspect import find_pixel_scale

    client.metadata()  # an unreachable server is one error, not one per study
    rows, problems, names = [], [], choose_file_names([study.id for study in studies])
    for study in studies:
        try:
            found = client.explain(study, target=target)
        except KmmError as error:
            problems.append(f"study {study.id}: {error}")
            continue
        film, picture, scale = None, None, (1.0, 1.0)
        if found.heat is not None:
            try:
                film, scale = read_drawable(study.frontal.path), find_pixel_scale(study.frontal.path)
                picture = found.draw(film, caption=True) if out else None
            except KmmError as error:  # the explanation itself is complete
                problems.append(f"study {study.id}: regions are in pixels of the map, and no picture is drawn: {error}")
        size = None if film is None else film.shape[:2]
        rows.append(drop_unknown({**_describe_study(study), **found.as_dict(size, pixel_scale=scale)}))
        if out:
            _write_explanation(out, names[study.id], rows[-1], picture)
    return rows, problems


@contextlib.contextmanager
def _writing(out, studies):
    """Marks the folder as output of kmm; rejects a folder in which a file of the user would be replaced."""
    from kmm.data.names import choose_file_names

    if out is None:
        yield
        return
    with name_file_in_errors(out), marking_output(out) as mark:
        stems = choose_file_names([study.id for study in studies]).values()
        refuse_foreign(out, mark, [f"{stem}{suffix}" for stem in stems for suffix in (".json", ".png")])
        yield


def _write_explanation(out, name, row, picture):
    from kmm.explain.output.draw import write_png
    from kmm.storage.results import write_with_schema

    with name_file_in_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        write_with_schema(out / f"{name}.json", row)
        if picture is not None:
            write_png(out / f"{name}.png", picture)


def _describe_study(study):
    from kmm.explain.output.table import make_writable

    return {
        "study": study.id,
        "image": make_writable(str(study.frontal.path)) if study.frontal else None,
        "image_present": study.frontal is not None,
        "text_present": bool(study.report and study.report.text()),
    }


def _tabulate(place, rows, *, asked):
    """Makes the argument of `kmm.cli.result_tables.print_explanations`."""
    lines = []
    for row in rows:
        top = row["regions"][0] if row["regions"] else {"x": None, "y": None}
        lines.append(
            {
                "study": row["study"],
                "target": row["target"],
                "probability": row["probabilities"][row["target"]],
                "threshold": row["thresholds"][row["target"]],
                "decision": "yes" if row["decisions"][row["target"]] else "no",
                "regions": len(row["regions"]),
                "top_x": top["x"],
                "top_y": top["y"],
                "text_share": row["modality_share"]["text"],
                "map_error": row["map_error"],
                "error": "",
            }
        )
    return {"out": place, "studies": asked, "failed": asked - len(rows), "rows": lines}
