"""`bleedmap serve`."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from bleedmap.cli.console import print_line
from bleedmap.errors import SettingsError

if TYPE_CHECKING:
    from bleedmap.server.config import Settings

_KINDS = ("listener", "web", "worker", "sender")
_UNIT = """[Unit]
Description=bleedmap: intracranial hemorrhage on head CT, research only
After=network-online.target postgresql.service
Wants=network-online.target

[Service]
ExecStart={program} serve --config {config}
User=bleedmap
Restart=always
RestartSec=2
TimeoutStopSec=60
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ReadWritePaths={data}
Environment=BLEEDMAP_CACHE={data}/cache

[Install]
WantedBy=multi-user.target
"""

_config_option = click.option(
    "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Settings, a TOML file. Not given: every setting as --write-config shows it.",
)  # fmt: skip
_set_option = click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE",
    help="Change one setting, for example dicom.quiet_s=5. Repeat for several.",
)  # fmt: skip


def settings_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The flags --config and --set of a verb, which gets the settings that they make."""

    @_config_option
    @_set_option
    @wraps(verb)
    def with_settings(config: Path | None, changes: tuple[str, ...], **given: Any) -> None:
        verb(settings=_load_settings(config, changes), **given)

    return with_settings


@click.command()
@settings_options
@click.option(
    "--only", type=click.Choice(_KINDS), multiple=True,
    help="Run only this kind of process here, others elsewhere with the same database and folder. Repeat for several.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Try all that the settings name, say what does not work, and end.")
@click.option("--write-config", is_flag=True, help="Print the settings with their meaning, and end.")
@click.option("--print-systemd", is_flag=True, help="Print a unit for systemd, and end.")
@click.option("--insecure", is_flag=True, help="Let pages be served beyond this machine without TLS.")
def command(
    settings: "Settings", only: tuple[str, ...], check: bool, write_config: bool, print_systemd: bool, insecure: bool
) -> None:  # fmt: skip
    """Serve a hospital: a DICOM listener, segmenting, sending to a PACS, a worklist and a reading page.

    Research software, not a medical device: no result may be used to diagnose or treat a patient.

    Needs the extra 'server': pip install 'bleedmap[server]'.

    In: head CTs by C-STORE, DICOMweb or upload. Out: for each a segmentation, a structured report and pictures, kept in
    the folder of the server and sent to the targets of the settings. Listens on this machine alone until the settings
    say otherwise; nothing is sent anywhere that they do not name.

    SIGTERM, SIGINT and SIGHUP end it: jobs that are under way are finished or given back.

    \b
    bleedmap serve
    bleedmap serve --write-config > bleedmap.toml
    bleedmap serve --config bleedmap.toml --check
    bleedmap serve --config bleedmap.toml
    """
    if write_config:
        from bleedmap.server.config import write_settings

        sys.stdout.write(write_settings(settings))
    elif print_systemd:
        program, config = Path(sys.argv[0]).resolve(), click.get_current_context().params["config"]
        said = "/etc/bleedmap/bleedmap.toml" if config is None else str(config.resolve())
        sys.stdout.write(_UNIT.format(program=program, config=said, data=settings.data.resolve()))
    elif check:
        _check(settings, insecure)
    else:
        from bleedmap.server.config import refuse_open_doors

        refuse_open_doors(settings, insecure)
        _serve(settings, only)


def _load_settings(config: Path | None, changes: tuple[str, ...]) -> "Settings":
    """Read the settings and change those that are given by --set."""
    import json
    import tomllib
    from dataclasses import asdict

    from bleedmap.server.config import parse_settings, read_settings

    settings = read_settings(config)
    if not changes:
        return settings
    content: dict[str, Any] = json.loads(json.dumps(asdict(settings)))  # lists, as in a file
    for change in changes:
        name, sign, value = change.partition("=")
        table, dot, key = name.partition(".")
        if not (sign and dot) or not isinstance(content.get(table), dict):
            raise SettingsError(
                "--set", found=f"'{change}'", needed="a table, a dot, a name and a value: dicom.quiet_s=5",
                remedy="bleedmap serve --write-config shows every setting",
            )  # fmt: skip
        try:
            content[table][key] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            content[table][key] = value  # a text without its quotes
    return parse_settings(content, "--set")


def _serve(settings: "Settings", only: tuple[str, ...]) -> None:
    import pynetdicom  # noqa: F401 - says at once which extra is missing
    import sqlalchemy  # noqa: F401
    import uvicorn  # noqa: F401

    from bleedmap.server.log import logger, set_up_logging
    from bleedmap.server.place import Place
    from bleedmap.server.work.supervise import stop_on_signals, supervise

    os.umask(0o077)
    set_up_logging("supervisor")
    Place(settings.data)
    several = {"worker": settings.worker.processes, "sender": settings.worker.senders}
    kinds = [one for one in only or _KINDS for _ in range(several.get(one, 1))]
    logger.info("DICOM at %s as %s, data in %s", settings.dicom.listen, settings.dicom.ae_title, settings.data)
    supervise(settings, kinds, stop_on_signals())
    logger.info("ended")


def _check(settings: "Settings", insecure: bool) -> None:
    from bleedmap.server.work.check import check_settings

    failed = 0
    for what, problem in check_settings(settings, insecure=insecure):
        failed += bool(problem)
        mark = "[bold red]no[/]" if problem else "[green]ok[/]"
        print_line(f"{mark}  {escape(what)}{': ' + escape(problem) if problem else ''}")
    if failed:
        raise SettingsError(
            "serve --check", found=f"{failed} of these do not work", needed="all of them",
            remedy="mend what is marked 'no', then check again",
        )  # fmt: skip
