"""Run the command `kmm` as `python -m kmm`."""

from kmm.cli import main

main()
