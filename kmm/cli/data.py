"""`kmm data`: check, split or summarize a folder of studies, or make the phantom set."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kmm.cli import result_tables
from kmm.cli.command import LIST, PLACE, SEED, Group, json_option, views_option
from kmm.cli.output import check_place, list_problems, make_progress, name_file_in_errors, print_layout, write_result
from kmm.data.study import Collection, Study
from kmm.errors import InputError

if TYPE_CHECKING:
    from kmm.data.split import Split


@click.group(cls=Group)
def data() -> None:
    """Check, split or summarize studies; make the phantom set."""


@data.command()
@click.argument("out", type=PLACE)
@click.option("--studies", default=600, show_default=True, help="Number of studies.")
@click.option("--seed", default=0, show_default=True, help="Seed; equal seeds give equal files.")
@click.option("--pixels", default=256, show_default=True, help="Height and width of a film, in pixels.")
@click.option(
    "--relational", is_flag=True, help="The label is whether the film has the nodule that the report asks for."
)
def phantom(out: Path, studies: int, seed: int, pixels: int, relational: bool) -> None:
    """Make the phantom set of synthetic studies in a new folder OUT.

    \b
    Example: kmm data phantom phantom --studies 600 --seed 1
    """
    from kmm.data.phantom.dataset import make_phantom

    with name_file_in_errors(out):
        summary = make_phantom(out, studies=studies, seed=seed, pixels=pixels, relational=relational)
    click.echo(f"{out}: {', '.join(f'{name} {value}' for name, value in summary.items())}")


@data.command()
@click.argument("folder", type=PLACE)
@views_option
@json_option("DATA_VERIFY")
def verify(folder: Path, views: Mapping[str, str] | None, json_file: str | None) -> None:
    """Check the images of FOLDER.

    Finds missing, unreadable, empty, duplicate, orphaned and inverted images. Exit code 1: a check failed.

    \b
    Example: kmm data verify openi --json checks.json
    """
    from kmm.data.verify import verify_collection
    from kmm.image.read import read_image

    check_place(json_file)
    report = verify_collection(folder, read_image, view_overrides=views, progress=make_progress())
    write_result(json_file, report.as_dict(), lambda: result_tables.print_checks(report))
    sys.exit(0 if report.ok else 1)


@data.command()
@click.argument("folder", type=PLACE)
@click.option("--out", type=PLACE, help="Page to write (.html): figures, frequent terms, and the audits as tables.")
@click.option("--labels", help="Label scheme whose prevalences, pairs and rules to count, as in kmm fit.")
@click.option("--label-min-count", type=click.IntRange(1), help="Fewest studies per finding, for the scheme findings.")
@click.option(
    "--min-word-patients",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Fewest patients in whose reports a word occurs that the page shows.",
)
@click.option(
    "--films/--no-films", default=None, help="Whether to read the films to find copies; by default only for --out."
)
@views_option
@json_option("DATA_SUMMARY")
def summary(
    folder: Path,
    out: Path | None,
    labels: str | None,
    label_min_count: int | None,
    min_word_patients: int,
    films: bool | None,
    views: Mapping[str, str] | None,
    json_file: str | None,
) -> None:
    """Count studies, films, report words, labels and copies.

    Prints numbers only: no report text and no names of patients or files. --out writes a page that needs no network:
    class distribution, words per report, frequent terms, label schemes side by side, views by their source, and
    duplicates. The page shows single words of reports, none of them used by fewer than --min-word-patients patients.

    With --labels: the labels that occur together; with --labels rules:FILE also what each entry of the file took.

    \b
    Examples: kmm data summary openi --labels findings --label-min-count 50
              kmm data summary openi --labels rules:mine.yaml --json audit.json
              kmm data summary openi --out summary.html
    """
    from kmm.audit.collection_audit import audit_collection
    from kmm.audit.page import check_page, write_page
    from kmm.audit.terms import find_terms
    from kmm.data.collection import read_collection

    check_place(json_file)
    if out:
        check_page(out)
        check_place(out)
    if label_min_count and not (labels or out):
        raise InputError("--label-min-count needs --labels findings or --out.")
    collection, progress = read_collection(folder, view_overrides=views), make_progress()
    reads = bool(out) if films is None else films
    found = audit_collection(
        collection, labels=labels, min_count=label_min_count, films=reads, progress=progress, note=progress.note
    )
    if out:
        with name_file_in_errors(out):
            write_page(out, collection, found, find_terms(collection.studies, min_patients=min_word_patients))
    write_result(json_file, found, lambda: result_tables.print_summary(found))
    if out:
        click.echo(f"page: {out}", err=True)


@data.command()
@click.argument("folder", type=PLACE)
@click.option("--out", required=True, type=PLACE, help="CSV file to write; --folds adds -1, -2, ... to its name.")
@click.option("--labels", help="Label scheme to stratify by, as in kmm fit.")
@click.option("--label-min-count", type=int, help="Fewest studies per finding, for --labels findings.")
@click.option(
    "--shares", type=LIST, help="Fractions for train, validation and test, e.g. 0.65,0.15,0.2; --folds uses the second."
)
@click.option("--folds", type=click.IntRange(2), help="Number of folds; each study is in the test part exactly once.")
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of k-fold splits, each shuffled differently.",
)
@click.option("--seed", type=SEED, help="Seed; equal seeds give equal files.")
def split(folder: Path, out: Path, folds: int | None, repeats: int, **values: Any) -> None:
    """Split the studies of FOLDER for kmm fit --split.

    Studies of one patient, or with identical report bodies or frontal films, stay in one part. Every frontal film is
    read, because copies are found by their pixels in any file format. Every study gets a part, with or without a known
    label. ChestX-ray14 and CheXpert keep the parts with which they were published, and the parts that they lack are
    split off their training studies, unless --folds is given. Options that are not given default to those of `kmm fit`.
    The digest in OUT.sha256 is checked when the split is read again; an altered split is refused.

    \b
    Examples: kmm data split openi --out split.csv --seed 3
              kmm data split openi --out split.csv --folds 5 --repeats 2
    """
    from kmm.batches import identify_films
    from kmm.data.collection import read_collection
    from kmm.data.labels import label_studies, name_unread_columns
    from kmm.data.split import PARTS, k_folds, write_digest
    from kmm.presets import gather_settings
    from kmm.rules.rule_scheme import open_scheme

    check_place(out)
    if repeats > 1 and not folds:
        raise InputError("`--repeats` needs `--folds`. Give --folds too.")
    settings = gather_settings(values)
    scheme = open_scheme(settings.labels)
    collection = read_collection(folder)
    print_layout(collection)
    list_problems(collection.problems)
    labelled, names = label_studies(
        collection.studies,
        scheme,
        min_count=settings.label_min_count,
        not_findings=settings.not_findings,
        note=make_progress().note,
    )
    if unread := name_unread_columns(collection.studies, scheme):
        make_progress().note(unread)
    known = {study.id: study for study in labelled}
    studies = [known.get(study.id, study) for study in collection.studies]
    studies, problems = identify_films(studies, progress=make_progress())
    list_problems(problems)
    shared: dict[str, Any] = {"seed": settings.seed, "label_names": names}
    if folds:
        splits = k_folds(studies, folds, repeats=repeats, validation=settings.shares[1], **shared)
        places = [out.with_name(f"{out.stem}-{number}{out.suffix}") for number in range(1, len(splits) + 1)]
    else:
        splits, places = [_split_once(collection, studies, shares=settings.shares, **shared)], [out]
    for made, place in zip(splits, places):
        with name_file_in_errors(place):
            made.save(place)
            write_digest(place)
        click.echo(f"{place}: {', '.join(f'{part} {len(made.part(part))}' for part in PARTS)}, {made.digest[:12]}")


def _split_once(collection: Collection, studies: Sequence[Study], **settings: Any) -> "Split":
    """Splits studies at random, or by the parts with which they were published."""
    from kmm.data.given_parts import GivenParts
    from kmm.data.split import split_studies

    if not collection.parts:
        return split_studies(studies, **settings)
    given = GivenParts(collection.parts)
    leaks = given.find_leaks(studies)
    list_problems(leaks)
    left_out = {problem.source for problem in leaks}
    kept = [study for study in studies if study.id in given.parts and f"study {study.id}" not in left_out]
    return given.complete(kept, **settings)
