"""PostgreSQL on a free loopback port, with a folder of its own, as a user that is not root."""

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from free_port import free_port


@contextmanager
def run_postgres() -> Iterator[str]:
    """Yield the URL of a server without its database's name; skipped where PostgreSQL is missing, failing in CI."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        reason = "needs the Debian package postgresql"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="bleedmap-postgres-", dir="/tmp"))
    as_other = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        as_other = ["runuser", "-u", "postgres", "--"]
    port, user = free_port(), "postgres" if as_other else getpass.getuser()
    control = [*as_other, str(programs[-1] / "pg_ctl"), "-D", str(folder / "data"), "-s", "-w"]
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    init = [*as_other, str(programs[-1] / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-N", "-U", user]
    try:
        subprocess.run(init, check=True, capture_output=True, cwd="/tmp")
        log = ["-l", str(folder / "log"), "-o", options]
        subprocess.run([*control, *log, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/tmp")
        yield f"postgresql+psycopg://{user}@127.0.0.1:{port}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True, cwd="/tmp")
        shutil.rmtree(folder, ignore_errors=True)
