"""`python -m bleedmap` is the command `bleedmap`."""

import signal

# While the modules below load, Ctrl-C ends the program at once and without a traceback; `main` answers it from then on.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from bleedmap.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
