"""The command line from a checkout: `python cli.py` is the installed command `kmm`."""

from kmm.cli import main

if __name__ == "__main__":
    main()
