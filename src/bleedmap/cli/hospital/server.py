"""`bleedmap server`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from bleedmap.cli.console import make_table, print_json, print_line, print_rows, print_table
from bleedmap.cli.hospital.serve import settings_options
from bleedmap.cli.options import json_option, out_option
from bleedmap.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from bleedmap.server.config import Settings


@click.group()
def command() -> None:
    """Look after a server that `bleedmap serve` runs, from its own machine.

    Needs the extra 'server': pip install 'bleedmap[server]'.

    \b
    bleedmap server status --config bleedmap.toml
    bleedmap server backup --config bleedmap.toml -o copy.db
    """


@command.command()
@settings_options
@json_option
def status(settings: "Settings", as_json: bool) -> None:
    """Say which processes live, how many studies are in which state, what waits, and how full the disk is.

    In: the settings. Out: a table, or JSON. No name or number of a patient is shown.

    \b
    bleedmap server status --config bleedmap.toml
    """
    from bleedmap.server.work.check import read_status

    found = read_status(settings)
    if as_json:
        print_json(found)
        return
    for head, count, title in (("What", "Count", "Processes"), ("State", "Studies", "Studies")):
        _print_counts(
            title, (head, f">{count}"), [(name, f"{n:,}") for name, n in sorted(found[title.lower()].items())]
        )
    jobs = [(one["step"], one["state"], f"{one['count']:,}") for one in found["jobs"]]
    _print_counts("Open jobs", ("Step", "State", ">Jobs"), jobs)
    for one in found["waiting"]:
        print_line(f"waits: {one['count']:,} × {escape(one['reason'])}")
    for one in found["passed_over"]:
        print_line(f"not processed: {one['count']:,} × {escape(one['reason'])}, from {escape(one['sender_ae'] or '?')}")
    if found["oldest_waiting_s"] is not None:
        print_line(f"the oldest open job has waited for {found['oldest_waiting_s']:,.0f} s")
    print_line(f"free on the disk: {found['free_gb']:,.1f} GB")


def _print_counts(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        print_rows(*heads, rows=rows, title=title)
    else:
        print_line(f"{title}: none")


@command.command()
@settings_options
@click.option("--peer", required=True, help='AE title of a peer of the settings that may be asked: may = ["query"].')
@click.argument("study_uid", metavar="STUDY-UID")
def fetch(settings: "Settings", peer: str, study_uid: str) -> None:
    """Let the server fetch a study from a PACS: C-FIND, then C-MOVE to its listener.

    In: the Study Instance UID. Out: the server's own name for the study; what becomes of it stands in the worklist.

    \b
    bleedmap server fetch --config bleedmap.toml --peer PACS 1.2.840.113619.2.5
    """
    from bleedmap.server.place import Place
    from bleedmap.server.store.engine import prepared_database
    from bleedmap.server.work.fetch import list_askable, request_fetch

    if peer not in list_askable(settings):
        raise SettingsError(
            "--peer", found=f"'{peer}'", needed='a [[dicom.peer]] with may = ["query"] and its port',
            remedy="add it to the settings",
        )  # fmt: skip
    if len(study_uid) > 64 or not study_uid.replace(".", "").isdigit():
        raise SettingsError(
            "STUDY-UID", found="no UID", needed="digits and dots, 64 at most", remedy="copy it from the PACS"
        )
    with prepared_database(settings) as database:
        print_line(request_fetch(database, Place(settings.data), peer, study_uid))


@command.command()
@settings_options
@click.option("--disable", metavar="NAME", help="Forbid this user to log in; open sessions end at once.")
@click.option("--enable", metavar="NAME", help="Let this user log in again.")
@click.option("--reset", metavar="NAME", help="Give this user a new password, which is printed once.")
@json_option
def users(settings: "Settings", disable: str | None, enable: str | None, reset: str | None, as_json: bool) -> None:
    """List the users, or change one: for an administrator who cannot log in any more.

    In: the settings. Out: names, roles, and when they were last seen.

    \b
    bleedmap server users --config bleedmap.toml
    bleedmap server users --config bleedmap.toml --reset anna
    """
    import secrets

    from bleedmap.server.store import audit
    from bleedmap.server.store import users as stored
    from bleedmap.server.store.engine import prepared_database
    from bleedmap.server.web.login import hash_password

    with prepared_database(settings) as database:
        for what, name in (("disable", disable), ("enable", enable), ("reset", reset)):
            if name is None:
                continue
            with database.write() as connection:
                row, now = stored.find_by_name(connection, name), database.now(connection)
                if row is None:
                    raise SettingsError(
                        f"--{what}", found=f"no user '{name}'", needed="a user's name", remedy="bleedmap server users"
                    )
                if what == "reset":
                    password = secrets.token_urlsafe(15)
                    stored.change_user(connection, row["id"], password=hash_password(password, name))
                    print_line(f"{escape(row['name'])}: the new password is {password}")
                else:
                    stored.change_user(connection, row["id"], disabled_at=now if what == "disable" else None)
                audit.record(connection, now, "server", f"user {what}", user=row["id"])
        with database.read() as connection:
            listed = stored.list_users(connection)
    rows = [{key: one[key] for key in ("name", "role", "created_at", "last_seen", "disabled_at")} for one in listed]
    if as_json:
        print_json(rows)
        return
    table = make_table("User", "Role", "Last seen", "May log in")
    for one in rows:
        seen = "" if one["last_seen"] is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(one["last_seen"]))
        table.add_row(escape(one["name"]), one["role"], seen, "yes" if one["disabled_at"] is None else "no")
    print_table(table)


@command.command()
@settings_options
@click.option("--dicomweb", is_flag=True, help="The token of machines that ask by DICOMweb.")
def token(settings: "Settings", dicomweb: bool) -> None:
    """Print the token by which the first administrator is made, in the pages of a new server.

    In: the settings. Out: the token, from a file of the server's folder that only its owner can read.

    \b
    bleedmap server token --config bleedmap.toml
    """
    name = "keys/dicomweb-token" if dicomweb else "keys/first-run-token"
    path = settings.data / name
    if not path.is_file():
        raise SettingsError(
            path, found="is not there", needed="a server that has begun, and that has no user yet",
            remedy="start `bleedmap serve`; where there are users, an administrator adds others in the pages",
        )  # fmt: skip
    print_line(escape(path.read_text("utf-8").strip()))


@command.command()
@settings_options
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="A new file for the copy."
)
def backup(settings: "Settings", out: Path) -> None:
    """Copy the embedded database into one file while the server runs.

    In: the settings. Out: an SQLite file, whole or not at all, to be put back as server.db while the server is stopped.
    Studies and results lie in the folder of the server: copy that too, after the database. PostgreSQL has pg_dump.

    \b
    bleedmap server backup --config bleedmap.toml -o /backup/bleedmap-2026-11-29.db
    """
    import sqlite3
    from contextlib import closing

    from bleedmap.io.files import written_whole

    if settings.server.database != "sqlite":
        raise SettingsError(
            "server.database", found="not the embedded database", needed="sqlite", remedy="use pg_dump of PostgreSQL"
        )
    source = settings.data / "server.db"
    if not source.is_file():
        raise SettingsError(
            source, found="is not there", needed="the database of a server", remedy="give its settings with --config"
        )
    if out.exists():
        raise OutputError(out, found="is there already", needed="a new file", remedy="give another name")
    started = time.monotonic()
    with written_whole(out) as part:
        part.touch(mode=0o600)
        held = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
        with closing(held), closing(sqlite3.connect(part)) as copy:
            held.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # by which a copy that is put back is known
    print_line(f"{escape(str(out))}: {out.stat().st_size / 1e6:,.1f} MB in {time.monotonic() - started:.1f} s")


@command.group()
def corrections() -> None:
    """Readers' outlines, as a data set."""


@corrections.command(name="export")
@settings_options
@out_option("A new folder for the images and outlines.")
@click.option("--pseudonymous", is_flag=True, help="Leave out names, numbers and dates, and give other UIDs.")
@json_option
def export_corrections(settings: "Settings", out: Path, pseudonymous: bool, as_json: bool) -> None:
    """Export the studies that readers judged: images, and the outline that counts as a DICOM segmentation.

    In: the settings. Out: a folder for each study; patients.csv, which says whose each study is; and studies.csv, which
    says where each outline comes from. A reader's correction counts first; else the program's outline if a reader
    agreed with it, or an empty one if a reader called it a false alarm. `bleedmap evaluate --studies` reads the folder.

    With --pseudonymous only what reading and measuring need is kept; words burned into pixels are not found.

    \b
    bleedmap server corrections export --config bleedmap.toml -o outlines --pseudonymous
    bleedmap evaluate --studies outlines -o measured
    """
    from bleedmap.server.place import Place
    from bleedmap.server.store.engine import prepared_database
    from bleedmap.server.work.corrections import export_corrections as export

    with prepared_database(settings) as database:
        written, left_out = export(database, Place(settings.data), settings, out, pseudonymous=pseudonymous)
    if as_json:
        print_json({"written": dict(written), "left_out": dict(left_out)})
        return
    for source, count in sorted(written.items()):
        print_line(f"{count:,} × {source}")
    for reason, count in sorted(left_out.items()):
        print_line(f"left out: {count:,} × {escape(reason)}")
    print_line(f"Studies: {written.total():,}. Written: {escape(str(out))}")
