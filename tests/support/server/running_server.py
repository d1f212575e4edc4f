"""`bleedmap serve` as a process of its own, on free loopback ports, with the tiny network."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from bleedmap.server.config import Dicom, Settings, Worker, write_settings
from bleedmap.server.store import tables
from bleedmap.server.store.engine import Database, open_database, prepare
from dicom_sender import associate
from server_web import small_settings
from tiny_network import write_spot_network


@dataclass
class Server:
    """A running server."""

    settings: Settings
    port: int
    process: subprocess.Popen
    log: Path
    database: Database

    def rows(self, table: Any = tables.study) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(select(table)).mappings())

    def wait(self, met: Callable[[list[Any]], bool], seconds: float = 30.0, table: Any = tables.study) -> list[Any]:
        """Wait until the rows of a table meet a condition; return them."""
        until, rows = time.monotonic() + seconds, []
        while time.monotonic() < until:
            rows = self.rows(table)
            if met(rows):
                return rows
            time.sleep(0.1)
        told = self.log.read_text(errors="replace")[-3000:]
        raise AssertionError(f"not met in {seconds} s: {[dict(one) for one in rows]}\n{told}")

    def pids(self, kind: str) -> list[int]:
        """The living processes of a kind, the newest last."""
        rows = sorted(self.rows(tables.process), key=lambda one: one["started_at"])
        return [one["pid"] for one in rows if one["kind"] == kind and Path(f"/proc/{one['pid']}").exists()]


def spot_settings(folder: Path, dicom_port: int, quiet_s: float = 1.0, **changes: Any) -> Settings:
    """Settings of a small server that segments by the network that marks a spot."""
    write_spot_network(folder / "spot.onnx")
    dicom = Dicom(listen=f"127.0.0.1:{dicom_port}", quiet_s=quiet_s)
    return small_settings(folder, dicom=dicom, worker=Worker(weights=str(folder / "spot.onnx")), **changes)


@contextmanager
def run_server(
    settings: Settings, port: int, *, only: tuple[str, ...] = ("listener", "worker", "sender")
) -> Iterator[Server]:
    """Yield a server that answers; it is ended by SIGTERM, and must end well."""
    settings.data.mkdir(parents=True, exist_ok=True)
    config, log = settings.data.parent / f"{settings.data.name}.toml", settings.data.parent / "serve.log"
    config.write_text(write_settings(settings))
    command = [sys.executable, "-m", "bleedmap", "serve", "--config", str(config)]
    chosen = [word for kind in only for word in ("--only", kind)]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*command, *chosen], stdout=file, stderr=file, env={**os.environ, "BLEEDMAP_CACHE": "off"}
        )
    database = open_database(settings)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                with associate(port, title="TEST") as association:
                    association.send_c_echo()
                break
            except AssertionError:
                assert process.poll() is None, log.read_text(errors="replace")
                assert time.monotonic() < until, log.read_text(errors="replace")
                time.sleep(0.1)
        prepare(database)
        yield Server(settings, port, process, log, database)
    finally:
        database.close()
        was_killed = process.poll() == -signal.SIGKILL  # by the test itself
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert code == 0 or was_killed, log.read_text(errors="replace")
