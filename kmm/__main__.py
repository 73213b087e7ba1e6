"""`python -m kmm` is the command `kmm`."""

from kmm.cli import main

main()
