"""`kmm data`: look at a folder of studies, split it, or make the built-in one."""

import sys

import click

from kmm.cli import result_tables
from kmm.cli.command import LIST, PLACE, SEED, Group, json_option, views_option
from kmm.cli.output import check_place, list_problems, make_progress, naming, tell_layout, write_result
from kmm.errors import InputError


@click.group(cls=Group)
def data():
    """Look at a folder of studies, split it, or make the built-in one."""


@data.command()
@click.argument("out", type=PLACE)
@click.option("--studies", default=600, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same files.")
@click.option("--pixels", default=256, show_default=True, help="Side of the films.")
def phantom(out, studies, seed, pixels):
    """Make the built-in synthetic set in the new folder OUT.

    Example: kmm data phantom phantom --studies 600 --seed 1
    """
    from kmm.data.phantom.dataset import make_phantom

    with naming(out):
        summary = make_phantom(out, studies=studies, seed=seed, pixels=pixels)
    click.echo(f"{out}: {', '.join(f'{name} {value}' for name, value in summary.items())}")


@data.command()
@click.argument("folder", type=PLACE)
@views_option
@json_option("DATA_VERIFY")
def verify(folder, views, json_file):
    """Check the studies of FOLDER: missing, unreadable, empty, duplicate, orphaned and inverted images.

    Exit code 1 when something is wrong. Example: kmm data verify openi --json checks.json
    """
    from kmm.data.verify import verify_collection
    from kmm.image.read import read_image

    check_place(json_file)
    report = verify_collection(folder, read_image, view_overrides=views, progress=make_progress())
    write_result(json_file, report.as_dict(), lambda: result_tables.print_checks(report))
    sys.exit(0 if report.ok else 1)


@data.command()
@click.argument("folder", type=PLACE)
@click.option("--out", required=True, type=PLACE, help="File to write; with --folds its name gets -1, -2, ...")
@click.option("--labels", help="Label scheme to stratify by, as in fit.")
@click.option("--label-min-count", type=int, help="Scheme findings: a finding needs this many studies.")
@click.option("--shares", type=LIST, help="Of train, validation and test, as 0.65,0.15,0.2; --folds reads the second.")
@click.option("--folds", type=click.IntRange(2), help="So many splits: each study is test in one of them.")
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True, help="All folds so often, anew.")
@click.option("--seed", type=SEED, help="The same seed gives the same files.")
def split(folder, out, folds, repeats, **values):
    """Split the studies of FOLDER for `kmm fit --split`: no patient, identical report body or identical film crosses.

    Every frontal film is read, since copies of a film are found by their pixels, whatever the file or its format.
    Every study gets a part, with or without a known label. What is not given is as in `kmm fit`. The digest beside OUT,
    OUT.sha256, is compared when the split is read again: one that was altered is refused.

    \b
    Examples: kmm data split openi --out split.csv --seed 3
              kmm data split openi --out split.csv --folds 5 --repeats 2
    """
    from kmm.data.collection import read_collection
    from kmm.data.labels import label_studies, name_unread_columns
    from kmm.data.split import PARTS, k_folds, split_studies, write_digest
    from kmm.film_identity import identify_films
    from kmm.presets import gather_settings

    check_place(out)
    if repeats > 1 and not folds:
        raise InputError("`--repeats` repeats folds. Give --folds too.")
    settings = gather_settings(values)
    collection = read_collection(folder)
    tell_layout(collection)
    list_problems(collection.problems)
    labelled, names = label_studies(
        collection.studies,
        settings.labels,
        min_count=settings.label_min_count,
        not_findings=settings.not_findings,
        note=make_progress().note,
    )
    if unread := name_unread_columns(collection.studies, settings.labels):
        make_progress().note(unread)
    known = {study.id: study for study in labelled}
    studies = [known.get(study.id, study) for study in collection.studies]
    studies, problems = identify_films(studies, progress=make_progress())
    list_problems(problems)
    shared = {"seed": settings.seed, "label_names": names}
    if folds:
        splits = k_folds(studies, folds, repeats=repeats, validation=settings.shares[1], **shared)
        places = [out.with_name(f"{out.stem}-{number}{out.suffix}") for number in range(1, len(splits) + 1)]
    else:
        splits, places = [split_studies(studies, shares=settings.shares, **shared)], [out]
    for made, place in zip(splits, places):
        with naming(place):
            made.save(place)
            write_digest(place)
        click.echo(f"{place}: {', '.join(f'{part} {len(made.part(part))}' for part in PARTS)}, {made.digest[:12]}")
