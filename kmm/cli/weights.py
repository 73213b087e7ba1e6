"""`kmm weights`: check, convert and list weights of encoders; pretrain them; train word vectors on reports."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kmm.cli import result_tables
from kmm.cli.command import LIST, PLACE, SEED, Command, Group, json_option, views_option
from kmm.cli.fit_options import fit_options, set_option
from kmm.cli.output import (
    check_place,
    check_problems,
    list_problems,
    load_keras_quietly,
    make_progress,
    name_file_in_errors,
    print_layout,
    print_problems_on_error,
    write_result,
)
from kmm.errors import InputError
from kmm.presets import SETTING_NAMES, gather_settings


@click.group(cls=Group)
def weights() -> None:
    """Check, convert or pretrain weights; train word vectors."""


@weights.command("list")
@click.option("--parameters", is_flag=True, help="Also build each image encoder to count its parameters (seconds).")
@json_option("WEIGHTS_LIST")
def list_weights(parameters: bool, json_file: str | None) -> None:
    """List encoders and the weights that each can load.

    \b
    Example: kmm weights list --parameters
    """
    check_place(json_file)
    with load_keras_quietly():
        from kmm.models.weights.encoder_weights import list_encoders
    rows = list_encoders(count_parameters=parameters)
    write_result(json_file, {"encoders": rows}, lambda: result_tables.print_encoders(rows))


PARTIAL = "Accept a file that lacks layers; they get random weights, and the result names them."


@weights.command()
@click.argument("file", type=PLACE)
@click.option(
    "--encoder", help="Encoder to load the weights into; without it, the names in FILE tell the image encoder."
)
@click.option("--partial", is_flag=True, help=PARTIAL)
@click.option("--keys", is_flag=True, help="Also list each tensor of FILE with its shape and its layer.")
@click.option(
    "--against",
    type=click.Choice(["torchvision", "timm", "transformers"]),
    help="Compare the features with those that this package computes from FILE.",
)
@json_option("WEIGHTS_CHECK")
def check(
    file: Path, encoder: str | None, partial: bool, keys: bool, against: str | None, json_file: str | None
) -> None:
    """Try the weights of FILE in an encoder.

    FILE is Keras HDF5, .keras, PyTorch, safetensors, or a folder as Hugging Face publishes it. Prints how many layers,
    arrays and parameters matched, and what of FILE is not used. For the text encoder bert, FILE is a folder, whose
    tensors are listed. Exit code 1: the weights do not fit the encoder, the file is damaged, or the features differ.

    \b
    Examples: kmm weights check chexnet.h5 --encoder densenet121
              kmm weights check rad-dino --against transformers
    """
    check_place(json_file)
    with load_keras_quietly():
        from kmm.models.encoders_text import TEXT_ENCODERS
        from kmm.models.weights.encoder_weights import check_weights
        from kmm.training.preparation.text_weights import check_text_folder
    if encoder is not None and encoder in TEXT_ENCODERS and TEXT_ENCODERS[encoder].weights:
        if partial or keys or against:
            raise InputError(f"{encoder} is a text encoder. Leave out --partial, --keys and --against.")
        result = check_text_folder(file, encoder)
        write_result(json_file, result, lambda: result_tables.print_text_weights(result))
    else:
        result = check_weights(file, encoder, partial=partial, against=against)
        write_result(json_file, result, lambda: result_tables.print_weights(result, keys=keys))
    sys.exit(0 if result["fits"] and result.get("against", {}).get("equal", True) else 1)


@weights.command()
@click.argument("file", type=PLACE)
@click.option("--encoder", help="Image encoder that the weights are for; without it, the names in FILE tell.")
@click.option("--out", required=True, type=PLACE, help="File to write, ending in .weights.h5 or .safetensors.")
@click.option("--partial", is_flag=True, help=PARTIAL)
@json_option("WEIGHTS_CONVERT")
def convert(file: Path, encoder: str | None, out: Path, partial: bool, json_file: str | None) -> None:
    """Convert FILE to Keras's or safetensors format.

    `kmm fit --image-weights` takes the result. FILE is as for `kmm weights check`. Layers that the encoder lacks, such
    as an old head, are left out. The new file keeps the name, digest and licence of FILE for the model card.

    \b
    Example: kmm weights convert chexnet.pth --encoder densenet121 --out chexnet.weights.h5
    """
    check_place(json_file)
    check_place(out)
    with load_keras_quietly():
        from kmm.models.weights.encoder_weights import convert_weights
    with name_file_in_errors(out):
        result = convert_weights(file, encoder, out, partial=partial)
    write_result(json_file, result, lambda: result_tables.print_weights(result))


@weights.command(cls=Command, settings=SETTING_NAMES)
@click.argument("folder", type=PLACE)
@click.option(
    "--objective",
    required=True,
    type=click.Choice(["contrastive", "multi-label", "distill"]),
    help="What the films learn. contrastive: which report of a batch is theirs; multi-label: the MeSH headings of "
    "their reports; distill: what a classifier of reports, fitted on other reports, says of theirs.",
)
@click.option("--out", required=True, type=PLACE, help="File to write, ending in .weights.h5.")
@fit_options
@set_option("WEIGHTS_PRETRAIN")
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Number by which distill divides the logits of its teacher.",
)
@click.option("--split", type=PLACE, help="split.csv; its test studies are not read.")
@views_option
@click.option("--resume", is_flag=True, help="Continue a run that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace a file of this name.")
@json_option("WEIGHTS_PRETRAIN")
def pretrain(
    folder: Path,
    objective: str,
    out: Path,
    more: tuple[str, ...],
    config: Mapping[str, Any],
    temperature: float,
    split: Path | None,
    views: Mapping[str, str] | None,
    resume: bool,
    overwrite: bool,
    json_file: str | None,
    **values: Any,
) -> None:
    """Pretrain the image encoder on the reports of FOLDER.

    `kmm fit --image-weights` takes the result. Give the options of that fit, --seed and --split too: then the parts are
    the same, and nothing of the test part is used. The file records which studies it saw, and a fit says so when they
    are among its test studies.

    \b
    Example: kmm weights pretrain openi --objective distill --split split.csv --out openi.weights.h5
    """
    from kmm.data.collection import read_collection
    from kmm.keras_backend import check_backend
    from kmm.training.run_folders import CACHE, WORK, open_work_folder

    settings = gather_settings(values, more=more, config=config)
    check_backend()
    check_place(json_file)
    check_place(out)
    _check_name(out, overwrite)
    progress = make_progress()
    collection = read_collection(folder, view_overrides=views)
    progress.note(f"{collection.folder}: {collection.layout}, {len(collection.studies)} studies")
    check_problems(collection, settings.strict)
    with load_keras_quietly():
        from kmm.training.pretraining.pretrain import pretrain_encoder
    opened = open_work_folder(out.parent / f"{WORK}{out.name}", resume=resume, overwrite=overwrite)
    with name_file_in_errors(out), print_problems_on_error(collection.problems), opened as work:
        pretrained = pretrain_encoder(
            collection,
            settings,
            objective,
            work=work,
            cache=out.parent / CACHE,
            split=split,
            temperature=temperature,
            progress=progress,
        )
        pretrained.save(out)
        shutil.rmtree(work)
    list_problems([*collection.problems, *pretrained.problems])
    result = pretrained.as_dict() | {"out": str(out)}
    write_result(json_file, result, lambda: result_tables.print_pretrained(result))


def _check_name(out: Path, overwrite: bool) -> None:
    if not out.name.endswith(".weights.h5") or out.name == ".weights.h5":
        raise InputError(f"{out}: expected a name that ends in .weights.h5.")
    if out.exists() and not overwrite:
        raise InputError(f"{out} already exists. Choose another name or pass --overwrite.")


@weights.command()
@click.argument("folder", type=PLACE)
@click.option("--out", required=True, type=PLACE, help="File to write: .txt is word2vec text, .bin binary.")
@click.option("--dimensions", type=click.IntRange(1), default=300, show_default=True, help="Dimensions of a vector.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Passes over the reports.")
@click.option("--sections", type=LIST, help="Report sections, comma-separated; all four sections when not given.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the random numbers.")
@click.option("--cbow", is_flag=True, help="Train CBOW instead of skip-gram.")
@click.option(
    "--min-word-patients",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Fewest patients who use a word that is kept; 1 keeps the words of a single patient.",
)
@click.option("--split", type=PLACE, help="split.csv; only its training studies are read.")
def embed(
    folder: Path,
    out: Path,
    dimensions: int,
    epochs: int,
    sections: list[str] | None,
    seed: int,
    cbow: bool,
    min_word_patients: int,
    split: Path | None,
) -> None:
    """Train word vectors on the reports of FOLDER.

    Without --split, all reports are read. Pass the split.csv of a fit to keep its validation and test reports out of
    its vectors; the command then also prints the fraction of words in the validation reports that have a vector.

    \b
    Example: kmm weights embed openi --out vectors.txt --split split.csv
    """
    from kmm.batches import TextPreparation, gather_words
    from kmm.data.collection import read_collection
    from kmm.data.split import read_parts
    from kmm.settings import SECTIONS, expand_sections
    from kmm.text.vocabulary import count_patients, find_rare
    from kmm.text.word_vectors import check_suffix, train_word_vectors

    check_place(out)
    check_suffix(out)
    chosen = expand_sections(sections) if sections else SECTIONS
    collection = read_collection(folder)
    print_layout(collection)
    parts = read_parts(split) if split else {}
    studies = [study for study in collection.studies if not split or parts.get(study.id) == "train"]
    documents, patients, problems = [], [], []
    for study in studies:
        words, refused = gather_words([study], TextPreparation(chosen))
        documents += words
        patients += [study.patient] * len(words)
        problems += refused
    others = [study for study in collection.studies if parts.get(study.id) == "validation"]
    unseen = [word for words in gather_words(others, TextPreparation(chosen))[0] for word in words]
    list_problems([*collection.problems, *problems])
    rare = find_rare(count_patients(documents, patients), min_word_patients)
    common = [[word for word in words if word not in rare] for words in documents]
    vectors = train_word_vectors(common, dimensions=dimensions, epochs=epochs, seed=seed, skip_gram=not cbow)
    with name_file_in_errors(out):
        vectors.save(out)
    read = f"from {len(documents)} reports of {sum(map(len, documents))} running words"
    click.echo(f"{out}: {len(vectors.words)} words, {vectors.vectors.shape[1]} dimensions, {read}")
    if rare:
        click.echo(f"{len(rare)} words of fewer than {min_word_patients} patients are left out")
    if unseen:
        known = set(vectors.words)
        share = sum(word in known for word in unseen) / len(unseen)
        click.echo(f"{share:.1%} of the {len(unseen)} running words of validation have a vector")
