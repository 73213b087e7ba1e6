"""How a command is declared: its errors are one line each, its options may stand in a YAML file, some are shared."""

import os
from pathlib import Path

import click

from kmm.cli.output import complain
from kmm.errors import InputError, KmmError, LeakError
from kmm.tracebacks import describe_error, is_debugging, show_traceback


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
        settings: names of settings of a fit that the file may hold besides. They rank below `--set`, so they are no
            defaults of options: the command gets them, checked, in the mapping `config`.
    """

    def __init__(self, *args, settings=(), **options):
        super().__init__(*args, **options)
        self.settings = settings
        what = "options and settings" if settings else "options"
        config = click.Option(
            ["--config"],
            type=PLACE,
            is_eager=True,
            expose_value=bool(settings),
            callback=_read_config,
            help=f"YAML file of {what}, by their long names; the command line and variables win.",
        )
        self.params += [config, _debug_option()]

    def make_context(self, info_name, args, parent=None, **extra):
        if "--debug" in args:  # before any other option is read: that may fail
            _start_debugging(parent)
        return super().make_context(info_name, args, parent, **extra)


class Group(click.Group):
    """A group whose errors are one line each, with a traceback before it where `--debug` asks for one."""

    command_class = Command

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.params.append(_debug_option())

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KmmError as error:
            show_traceback(error)
            complain(error)
            ctx.exit(1 if isinstance(error, LeakError) else 2)
        except BrokenPipeError:
            raise  # click ends quietly when nobody reads on
        except OSError as error:
            show_traceback(error)
            place = f"{error.filename}: " if error.filename else ""
            complain(f"{place}{error.strerror or error}")
            ctx.exit(2)
        except Exception as error:  # noqa: BLE001  its text may quote a report, so only its place is said
            hint = "" if is_debugging() else " --debug shows its traceback, which may quote the data."
            complain(f"unexpected {describe_error(error)}.{hint}")
            ctx.exit(2)
        except KeyboardInterrupt:
            hints = {
                "fit": " `kmm fit ... --resume` goes on from the last finished epoch.",
                "explain": " The same command goes on.",
            }
            complain("interrupted." + hints.get(ctx.invoked_subcommand, ""))
            ctx.exit(130)


def _debug_option():
    """The option `--debug`, of the group and of each command; KMM_DEBUG is its variable."""

    def read(ctx, option, value):
        if value:
            _start_debugging(ctx)

    told = "Show tracebacks of errors; they may quote the data."
    return click.Option(["--debug"], is_flag=True, is_eager=True, expose_value=False, callback=read, help=told)


def _start_debugging(ctx):
    """Sets KMM_DEBUG, for this process and those that it starts, until the command has ended."""
    if ctx and not is_debugging():
        before = os.environ.get("KMM_DEBUG")
        os.environ["KMM_DEBUG"] = "1"
        ctx.find_root().call_on_close(lambda: _put_back(before))


def _put_back(before):
    if before is None:
        os.environ.pop("KMM_DEBUG", None)
    else:
        os.environ["KMM_DEBUG"] = before


def group_options(*options):
    """Makes one decorator of many options; `--help` lists them in this order.

    Args:
        options: decorators, as `click.option` makes them.
    """

    def add(command):
        for option in reversed(options):
            command = option(command)
        return command

    return add


def json_option(command):
    """The option `--json`, by its variable too: KMM_FIT_JSON of `fit`."""
    return click.option(
        "--json",
        "json_file",
        envvar=f"KMM_{command}_JSON",
        help="Write the result as JSON to a file; - is standard output.",
    )


def views_option(command):
    """The option `--views`: the command gets a mapping of image names to views, or None."""

    def read(ctx, option, path):
        from kmm.data.views.ranking import load_view_overrides

        return load_view_overrides(path) if path else None

    told = (
        "A csv with the columns file and view (frontal, lateral or other); it wins over tables and header tags. A file "
        "is its path from the folder; its name alone does where no other image has it."
    )
    return click.option("--views", type=PLACE, callback=read, help=told)(command)


def strict_option(command):
    """The option `--strict` of a command that takes studies as they are."""
    return click.option("--strict", is_flag=True, help="The first unusable study ends the run.")(command)


def _read_config(ctx, option, path):
    """Makes the options of a file defaults of this command; returns its settings, for a command that takes them."""
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
    """A value of a file as the option's type: what the command line would refuse is refused here too."""
    words = value if isinstance(value, list) and (option.multiple or option.type is LIST) else [value]
    for word in words:
        if not isinstance(word, str | int | float):
            raise InputError(f"`{_long_name(option)}`: expected a value. Received: {type(word).__name__}")
    words = [str(word) for word in words]
    try:
        return option.type_cast_value(ctx, words if option.multiple else ",".join(words))
    except click.BadParameter as error:
        raise InputError(f"`{_long_name(option)}`: {error.message}") from None
