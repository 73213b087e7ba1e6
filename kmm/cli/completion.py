"""`kmm completion`: print the tab completion of a shell."""

import click

from kmm.cli.command import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Example: kmm completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None  # click knows every shell of the choice
    click.echo(complete(context.find_root().command, {}, "kmm", "_KMM_COMPLETE").source())
