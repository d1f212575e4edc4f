"""On the path of a process, this takes away what Windows has not, and refuses to write names that Windows refuses.

POSIX modules and functions are gone, processes begin by spawning alone, and it is an error to open a text file without
saying in which encoding (with the environment of `tests/cli/test_other_systems.py`). What a branch on `sys.platform`
does is not seen.
"""

import multiprocessing
import ntpath
import os
import re
import shutil
import signal
import sys
import warnings
from typing import Any

_ask_disk = os.statvfs


def _disk_usage(path: Any) -> Any:
    """What `shutil` has on Windows too, where it asks otherwise."""
    found = _ask_disk(path)
    total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    return shutil._ntuple_diskusage(total, total - free, free)


shutil.disk_usage = _disk_usage
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None  # type: ignore[assignment]
for name in (
    "sched_getaffinity", "geteuid", "getuid", "getgid", "fchmod", "fchown", "statvfs", "posix_fadvise", "getpgid",
    "O_DIRECTORY", "O_NOFOLLOW",
):  # fmt: skip
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGXCPU", "SIGUSR1", "SIGPIPE", "SIGALRM", "pthread_sigmask"):
    if hasattr(signal, name):
        delattr(signal, name)
warnings.filterwarnings("error", category=EncodingWarning, module=r"bleedmap(\..*)?$")
multiprocessing.set_start_method("spawn", force=True)

_OWN = os.environ["BLEEDMAP_TEST_FOLDER"]
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
_LONGEST = 240  # of 259 for a whole path, less what another place may have above; named below the test's folder


def _check(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.rename":
        written = arguments[1]
    elif event == "os.mkdir" or (event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
        written = arguments[0]
    else:
        return
    path = os.fsdecode(written) if isinstance(written, str | bytes | os.PathLike) else ""
    if not path.startswith(_OWN):
        return
    parts = path[len(_OWN) :].strip("/").split("/")
    bad = [
        one for one in parts
        if re.search(r'[<>:"|?*\\\x00-\x1f]', one) or one != one.rstrip(". ") or _DEVICES.match(one)
        or ntpath.splitdrive(one)[0]
    ]  # fmt: skip
    if bad or len("/".join(parts)) > _LONGEST:
        raise OSError(f"Windows would not write {'/'.join(parts)!r}")


sys.addaudithook(_check)
