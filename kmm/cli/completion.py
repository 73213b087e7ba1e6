"""`kmm completion`: tab completion for a shell."""

import click

from kmm.cli.command import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context, shell):
    """Print the completion script of a shell.

    Example: kmm completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    click.echo(get_completion_class(shell)(context.find_root().command, {}, "kmm", "_KMM_COMPLETE").source())
