"""`bleedmap serve` and `bleedmap server` without a server: settings, checks, refusals, backup."""

import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from bleedmap.server.config import Settings, read_settings, write_settings
from bleedmap.server.place import Place
from bleedmap.server.store.engine import prepared_database
from command_line import run
from free_port import free_port

_WITHOUT = "import sys; sys.modules.update(dict.fromkeys({!r})); from bleedmap.cli.main import main; main({!r})"


@pytest.mark.parametrize("words", [["serve"], ["server", "status"]])
def test_without_the_extra_the_way_to_install_it_is_told(words, tmp_path):
    code = _WITHOUT.format(["sqlalchemy", "pynetdicom", "uvicorn"], words)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 2
    assert "pip install 'bleedmap[server]'" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_settings_that_are_printed_are_the_default_ones(capsys, tmp_path):
    assert run("serve", "--write-config") == 0
    shown = capsys.readouterr().out
    assert shown == write_settings(Settings())
    (tmp_path / "s.toml").write_text(shown)
    assert run("serve", "--config", tmp_path / "s.toml", "--set", "dicom.ae_title=CT", "--write-config") == 0
    (tmp_path / "t.toml").write_text(capsys.readouterr().out)
    assert read_settings(tmp_path / "t.toml").dicom.ae_title == "CT"
    assert run("serve", "--config", tmp_path / "s.toml", "--print-systemd") == 0
    unit = capsys.readouterr().out
    assert f"serve --config {tmp_path / 's.toml'}" in unit
    assert f"ReadWritePaths={tmp_path / 'bleedmap-data'}" in unit


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("web.listen=0.0.0.0:8080", "without TLS"),
        ("dicom.listen=0.0.0.0:11112", "without a list of peers"),
        ("dicom.quiet=3", "did you mean 'quiet_s'"),
        ("quiet_s=3", "a table, a dot, a name and a value"),
    ],
)
def test_doors_that_would_stand_open_and_unknown_settings_are_refused(change, told, capsys, tmp_path):
    assert run("serve", "--set", f"server.data={tmp_path / 'd'}", "--set", change) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_check_tries_everything_and_names_what_does_not_work(capsys, tmp_path, weights):
    (tmp_path / "s.toml").write_text(
        f'[server]\ndata = "{tmp_path / "d"}"\n[worker]\nweights = "{weights}"\n'
        f'[dicom]\nlisten = "127.0.0.1:{free_port()}"\n[web]\nlisten = "0.0.0.0:{free_port()}"\n'
        f'metrics = "127.0.0.1:{free_port()}"\n'
        "[limits]\nfree_gb = 0\n"
        f'[[target]]\nname = "pacs"\nae_title = "PACS"\naddress = "127.0.0.1:{free_port()}"\n'
        f'[[target]]\nname = "web"\nkind = "dicomweb"\nurl = "http://127.0.0.1:{free_port()}/x"\n'
    )
    assert run("serve", "--config", tmp_path / "s.toml", "--check") == 2
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == ["ok"] * 8 + ["no"] * 3
    assert "which others can reach, without TLS" in next(line for line in lines if line.startswith("no access"))
    assert "no target pacs: no connection" in lines
    assert any(line.startswith("no target web: no connection") for line in lines)


def test_a_backup_of_a_database_in_use_is_whole(capsys, tmp_path, monkeypatch):
    settings = read_settings(None)
    monkeypatch.chdir(tmp_path)
    Place(settings.data)
    with prepared_database(settings) as database, database.write():
        assert run("server", "backup", "-o", tmp_path / "copy.db") == 0
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert copy.execute("SELECT step FROM schema").fetchall() == [(1,)]
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert (tmp_path / "copy.db").stat().st_mode & 0o077 == 0
    assert run("server", "backup", "-o", tmp_path / "copy.db") == 2
    capsys.readouterr()
    assert run("server", "status", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["studies"], shown["processes"]) == ({}, {})
    assert run("server", "status") == 0
    assert capsys.readouterr().out.startswith("Processes: none\nStudies: none\nOpen jobs: none\n")


def test_a_backup_is_put_back_beside_the_log_of_what_came_after_it(tmp_path, monkeypatch):
    """As after a server that was killed: SQLite would play that log on the backup, and damage it."""
    settings = read_settings(None)
    monkeypatch.chdir(tmp_path)
    Place(settings.data)

    def add(count: int) -> None:
        """By a process that ends without closing anything."""
        child = multiprocessing.get_context("fork").Process(target=_add_rows, args=(settings, count))
        child.start()
        child.join()
        assert child.exitcode == 7

    add(50)
    assert run("server", "backup", "-o", tmp_path / "copy.db") == 0
    add(150)
    assert (settings.data / "server.db-wal").stat().st_size
    shutil.copy(tmp_path / "copy.db", settings.data / "server.db")
    with prepared_database(settings) as database, database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        assert connection.exec_driver_sql("SELECT count(*) FROM audit").scalar_one() == 50


def _add_rows(settings, count: int) -> None:
    from bleedmap.server.store import audit
    from bleedmap.server.store.engine import open_database, prepare

    database = open_database(settings)
    prepare(database)
    for number in range(count):
        with database.write() as connection:
            audit.record(connection, 1.0, "server", "x" * 500, number=number)
    os._exit(7)


def test_users_are_listed_disabled_and_get_a_new_password(capsys, tmp_path, monkeypatch):
    from bleedmap.server.store import users
    from bleedmap.server.web.login import hash_password, verify_password

    monkeypatch.chdir(tmp_path)
    settings = read_settings(None)
    Place(settings.data)
    with prepared_database(settings) as database:
        with database.write() as connection:
            for name in ("anna", "bert"):
                users.add_user(connection, 1.0, name, "admin", password=hash_password("correct horse", name))
        assert run("server", "users", "--disable", "bert", "--reset", "Anna") == 0
        shown = capsys.readouterr().out
        password = shown.split("the new password is ")[1].split()[0]
        with database.read() as connection:
            assert verify_password(users.find_by_name(connection, "anna")["password"], password)
            assert users.find_by_name(connection, "bert")["disabled_at"] is not None
    assert run("server", "users", "--disable", "anna") == 2
    assert "last administrator" in capsys.readouterr().err
    assert run("server", "users", "--json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["anna", "bert"]


def test_the_token_of_the_first_administrator_is_printed_where_there_is_one(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("server", "token") == 2
    assert "a server that has begun" in capsys.readouterr().err
    place = Place(read_settings(None).data)
    made = place.read_secret("keys/first-run-token", lambda: "secret-1")
    assert run("server", "token") == 0
    assert capsys.readouterr().out.strip() == made
