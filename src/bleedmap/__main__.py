"""`python -m bleedmap` is the command `bleedmap`."""

from bleedmap.cli.main import main

if __name__ == "__main__":
    main()
