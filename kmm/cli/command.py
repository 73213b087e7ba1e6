"""Base classes of commands, with one-line errors and options from a YAML file; options that several commands share."""

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from kmm.cli.output import complain
from kmm.cli.typed_words import WORDS
from kmm.errors import InputError, KmmError, LeakError, describe_error, is_debugging, show_traceback

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Decorator = Callable[[Decorated], Decorated]


class _List(click.ParamType):
    """Words separated by commas; in a file also a list."""

    name = "list"

    def convert(self, value, param, ctx):
        return value if isinstance(value, list) else [word.strip() for word in value.split(",")]


PLACE = click.Path(path_type=Path)
SEED = click.IntRange(0, 2**32 - 1)
LIST = _List()


class Command(click.Command):
    """A command whose options can also be given in a YAML file, by `--config`.

    Args:
        args, options: as `click.Command` takes them.
        settings: names of settings of a fit that the file may contain too. They rank below `--set`, so they do not
            become defaults of options: the command gets them, checked, in the mapping `config`.
    """

    def __init__(self, *args: Any, settings: Collection[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.settings = settings
        kind = "options and settings" if settings else "options"
        config = click.Option(
            ["--config"],
            type=PLACE,
            is_eager=True,
            expose_value=bool(settings),
            callback=_read_config,
            help=f"YAML file of {kind} by their long names; the command line and variables win.",
        )
        self.params += [config, _debug_option()]

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if "--debug" in args:  # before the other options are read, which may fail
            _start_debugging(parent)
        words = list(args)
        context = super().make_context(info_name, args, parent, **extra)
        context.meta[WORDS] = words
        return context


class Group(click.Group):
    """A group that reports each error in one line, after a traceback with `--debug`.

    Args:
        args, options: as `click.Group` takes them.
        sections: mapping of section titles to collections of command names, for the help; if None, the help has no
            sections.
    """

    command_class = Command

    def __init__(self, *args: Any, sections: Mapping[str, Collection[str]] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sections = sections or {}
        self.params.append(_debug_option(hidden=True))  # the help of each command shows it

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands by section: the section's title, the command and its first sentence on one line."""
        if not self.sections:
            super().format_commands(ctx, formatter)
            return
        width = max(map(len, self.sections))
        rows = []
        for title, names in self.sections.items():
            for number, name in enumerate(names):
                label = f"{'' if number else title:<{width}}  {name}"
                rows.append((label, self.commands[name].get_short_help_str(formatter.width)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KmmError as error:
            show_traceback(error)
            complain(error)
            ctx.exit(1 if isinstance(error, LeakError) else 2)
        except BrokenPipeError:
            raise  # click exits quietly when the reader of a pipe is gone
        except OSError as error:
            show_traceback(error)
            place = f"{error.filename}: " if error.filename else ""
            complain(f"{place}{error.strerror or error}")
            ctx.exit(2)
        except Exception as error:  # noqa: BLE001  its message may quote a report, so only its origin is printed
            hint = "" if is_debugging() else " Run with --debug to see the traceback, which may quote data."
            complain(f"unexpected {describe_error(error)}.{hint}")
            ctx.exit(2)
        except KeyboardInterrupt:
            hints = {
                "fit": " Run the command again with --resume to continue from the last finished epoch.",
                "explain": " Run the same command again to continue.",
                "compare": " Run the same command again to continue.",
                "build": " Run the same command again to continue.",
                "add": " Run the same command again to continue.",
            }
            complain("interrupted." + hints.get(ctx.invoked_subcommand or "", ""))
            ctx.exit(130)


def _debug_option(*, hidden=False):
    """Makes the option `--debug`, of the group and of each command; KMM_DEBUG is its variable."""

    def read(ctx, option, value):
        if value:
            _start_debugging(ctx)

    text = "Show tracebacks of errors, which may quote data."
    flags = {"is_flag": True, "is_eager": True, "expose_value": False, "hidden": hidden}
    return click.Option(["--debug"], callback=read, help=text, **flags)


def _start_debugging(ctx):
    """Sets KMM_DEBUG for this process and its child processes until the command ends."""
    if ctx and not is_debugging():
        before = os.environ.get("KMM_DEBUG")
        os.environ["KMM_DEBUG"] = "1"
        ctx.find_root().call_on_close(lambda: _put_back(before))


def _put_back(before):
    if before is None:
        os.environ.pop("KMM_DEBUG", None)
    else:
        os.environ["KMM_DEBUG"] = before


class _OldName(Command):
    """A command under its old name: hidden from the help, it prints the new name and then runs as before."""

    def __init__(self, command, name, new_name):
        click.Command.__init__(self, name, callback=command.callback, params=command.params, help=command.help)
        self.settings, self.new_name, self.hidden = command.settings, new_name, True

    def invoke(self, ctx):
        click.echo(f"note: `kmm {self.name}` is now `kmm {self.new_name}`; the old name works until 0.3", err=True)
        return super().invoke(ctx)


def rename_command(command: Command, name: str, new_name: str) -> Command:
    """Keeps the old name of a command that was renamed, and its variables.

    Args:
        command: `Command` under its new name. Its options then read the variables of both names, for example
            `KMM_WEIGHTS_EMBED_SEED` and `KMM_EMBED_SEED`; the new name wins.
        name, new_name: str. The words after `kmm` on the command line, for example `"embed"` and `"weights embed"`.

    Returns:
        hidden `Command` to add to the main group.
    """
    prefixes = [words.upper().replace(" ", "_") for words in (new_name, name)]
    for option in command.params:
        if isinstance(option, click.Option):
            option.envvar = [f"KMM_{prefix}_{str(option.name).upper()}" for prefix in prefixes]
    return _OldName(command, name, new_name)


def group_options(*options: Callable[..., Any]) -> Decorator:
    """Makes one decorator of several options; `--help` lists them in this order.

    Args:
        options: decorators, as `click.option` makes them.
    """

    def add(command):
        for option in reversed(options):
            command = option(command)
        return command

    return add


def json_option(command: str) -> Decorator:
    """Makes the option `--json`.

    Args:
        command: str. Words of the command in the option's variable, for example `"FIT"` for KMM_FIT_JSON.
    """
    return click.option(
        "--json",
        "json_file",
        envvar=f"KMM_{command}_JSON",
        help="JSON file to write the result to; - is standard output.",
    )


def views_option(command: Decorated) -> Decorated:
    """Adds the option `--views`; the command gets a mapping of image names to views, or None."""

    def read(ctx, option, path):
        from kmm.data.views.ranking import load_view_overrides

        return load_view_overrides(path) if path else None

    text = (
        "CSV with the columns file and view (frontal, lateral or other); overrides tables and DICOM tags. A file is a "
        "path relative to the folder, or a name that no other image has."
    )
    return click.option("--views", type=PLACE, callback=read, help=text)(command)


def strict_option(command: Decorated) -> Decorated:
    """Adds the option `--strict`."""
    return click.option("--strict", is_flag=True, help="Stop at the first unusable study.")(command)


def _read_config(ctx, option, path):
    """Makes the options in a file the defaults of the command; returns its settings, if the command takes any."""
    if not path:
        return {}
    from kmm.presets import check_setting
    from kmm.settings import read_settings

    options = {_long_name(other): other for other in ctx.command.params if isinstance(other, click.Option)}
    for name in (_long_name(option), "debug"):
        del options[name]
    settings, defaults = {}, {}
    for name, value in read_settings(path).items():
        try:
            if name in ctx.command.settings:
                check_setting(name, value)
                settings[name] = value
            elif name not in options:
                known = sorted({*options, *ctx.command.settings})
                raise InputError(f"unknown option `{name}`. Known: {', '.join(known)}")
            elif value is not None:
                defaults[options[name].name] = _convert(ctx, options[name], value)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    ctx.default_map = defaults
    return settings


def _long_name(option):
    return max(option.opts, key=len).removeprefix("--").replace("-", "_")


def _convert(ctx, option, value):
    """Converts a value of a file to the option's type; rejects whatever the command line rejects."""
    words = value if isinstance(value, list) and (option.multiple or option.type is LIST) else [value]
    for word in words:
        if not isinstance(word, str | int | float):
            raise InputError(f"`{_long_name(option)}`: expected a value. Received: {type(word).__name__}")
    words = [str(word) for word in words]
    try:
        return option.type_cast_value(ctx, words if option.multiple else ",".join(words))
    except click.BadParameter as error:
        raise InputError(f"`{_long_name(option)}`: {error.message}") from None
