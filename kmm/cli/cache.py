"""`kmm cache`: list and remove the folders that fits keep beside the saved classifiers."""

from pathlib import Path

import click

from kmm.cli import result_tables
from kmm.cli.command import PLACE, Group, group_options, json_option
from kmm.cli.output import check_place, write_result
from kmm.errors import InputError

_OUT = click.option(
    "--out", default="saved_models", show_default=True, type=PLACE, help="Folder of classifiers, as in kmm fit."
)


@click.group(cls=Group)
def cache() -> None:
    """List or clear stopped fits, films and features."""


@cache.command("list")
@group_options(_OUT, json_option("CACHE_LIST"))
def list_cache(out: Path, json_file: str | None) -> None:
    """List folders that fits keep, with size, age and state.

    The state says whether a run can be resumed. A fit removes the films and features that were unused for the longest
    time when all of them would take more than KMM_CACHE_GB, 50 if not set.

    \b
    Example: kmm cache list
    """
    from kmm.training.cache.cache_folder import read_limit
    from kmm.training.run_folders import list_kept

    check_place(json_file)
    kept = list_kept(out)
    result = {
        "out": str(out),
        "bytes": sum(one.bytes for one in kept),
        "limit_bytes": round(read_limit()),
        "kept": [one.as_dict() for one in kept],
    }
    write_result(json_file, result, lambda: result_tables.print_kept(result))


@cache.command()
@click.argument("names", nargs=-1)
@_OUT
@click.option("--all", "everything", is_flag=True, help="Remove all that kmm cache list shows.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option("CACHE_CLEAR")
def clear(names: tuple[str, ...], out: Path, everything: bool, yes: bool, json_file: str | None) -> None:
    """Remove folders that kmm cache list shows.

    Folders of a running fit are never removed. A run whose folder is removed cannot be resumed; films, features and the
    phantom set are made again when a fit needs them.

    \b
    Examples: kmm cache clear .work-openi
              kmm cache clear --all --yes
    """
    from kmm.training.run_folders import clear_kept, list_kept

    check_place(json_file)
    if bool(names) == everything:
        raise InputError("Name the folders to remove, or pass --all; not both.")
    kept = {one.name: one for one in list_kept(out)}
    chosen = list(kept) if everything else list(names)
    if chosen and not yes:
        size = sum(kept[name].bytes for name in dict.fromkeys(chosen) if name in kept)
        click.confirm(f"Remove {', '.join(chosen)} in {out} ({size / 1e6:.1f} MB)?", abort=True, err=True)
    removed = clear_kept(out, chosen)
    result = {"out": str(out), "bytes": sum(one.bytes for one in removed), "removed": [one.name for one in removed]}
    write_result(json_file, result, lambda: result_tables.print_cleared(result))
