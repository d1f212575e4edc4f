"""What the server's processes write to standard error: their own lines alone, without anything of a patient.

Libraries' loggers reach nothing, for they may tell names, numbers and UIDs; of a fault only its type and place are
told.
"""

import logging
import sys
import threading
import traceback

logger = logging.getLogger("bleedmap.server")


def set_up_logging(kind: str) -> None:
    """Let a process log lines that begin with the moment, its kind and its number."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {kind}[%(process)d] %(levelname)s %(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    threading.excepthook = lambda fault: logger.error(
        "a thread ended: %s", describe_fault(fault.exc_value or fault.exc_type())
    )
    logging.getLogger().handlers = [logging.NullHandler()]
    for name in ("pynetdicom", "pydicom", "sqlalchemy"):
        other = logging.getLogger(name)
        other.handlers, other.propagate = [logging.NullHandler()], False
        other.setLevel(logging.CRITICAL)


def describe_fault(error: BaseException) -> str:
    """A fault's type and where it came from; not its text, which may hold a value of a file."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{one.filename.rsplit('/', 1)[-1]}:{one.lineno}" for one in reversed(frames))
    return f"{type(error).__name__} at {places}"
