"""The server's settings: the TOML file, the flags and the table in the docs are these frozen dataclasses.

`[server]` and the other tables of the file are the fields of `Settings`; `[[dicom.peer]]` and `[[target]]` are lists.
What nobody needs to change stands above them: numbers that protect the server from what it is sent, with their reasons.
"""

import json
import socket
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args, get_type_hints

from bleedmap.archive.remote.web import is_loopback_host
from bleedmap.errors import SettingsError, usable

GB = 1_000_000_000
ACSE_TIMEOUT_S = 5.0  # a socket that says nothing is closed: 40 of them kept a true sender out for 30 s
DIMSE_TIMEOUT_S = 60.0  # a PACS that writes to tape may take long for one C-STORE
NETWORK_TIMEOUT_S = 60.0  # an association that is silent this long is aborted
CONNECT_TIMEOUT_S = 10.0  # to a target
TLS_HANDSHAKE_S = 5.0  # as ACSE_TIMEOUT_S, one layer below
SILENT_S = 60.0  # an open association that sends nothing this long holds no study open
TICK_S = 0.5  # the database is told of arrivals once in this time: files come at 160/s, commits at some 150/s
HOLD_S = 5.0  # an association that is alive holds its study this much longer at each tick, should the listener die
LEASE_S = 60.0  # a job belongs to a process this long, and is renewed each third of it
BEAT_S = 5.0  # a process says that it lives
BEAT_OLD_S = 30.0  # after this it counts as dead
BACKOFF_S, LONGEST_BACKOFF_S = 5.0, 900.0  # doubled each time, ±20 %
COMPUTE_ERRORS = 3  # a step that computes and fails this often fails for good; steps on the network never do
HEADER_BYTES = 64 * 1024 * 1024  # a data set whose header alone is longer is no image
SLICES = 5000  # instances of one study
INSTANCE_BYTES = 700 << 20  # as what is read: a multi-frame scan of 1,300 slices of 512 × 512
INFLIGHT_BYTES = 1 << 30  # of all associations together, in memory
PDU_BYTES = 4 << 20  # the longest that is read: twice what any peer was seen to send with an unlimited size agreed


def _setting(
    default: Any, text: str, *, least: float | None = None, of: tuple[str, ...] = (), suffix: str | None = None
) -> Any:
    """A field with its meaning; `least` that a number may be, `of` which words a text or list may be.

    `suffix` is that of a text that names a file or folder, '' where any does.
    """
    return field(default=default, metadata={"help": text, "least": least, "of": of, "suffix": suffix})


@dataclass(frozen=True)
class Server:
    """Where everything lies."""

    data: str = _setting("bleedmap-data", "folder of studies, results and, with SQLite, the database", suffix="")
    database: str = _setting("sqlite", "sqlite, or a URL: postgresql+psycopg://user@host/name (password: ~/.pgpass)")


@dataclass(frozen=True)
class Peer:
    """A DICOM application that may connect."""

    ae_title: str = _setting("", "its AE title")
    address: str = _setting("", "its IP address; empty: any")
    may: tuple[str, ...] = _setting(("store",), "store, query", of=("store", "query"))
    port: int = _setting(0, "where it answers C-FIND and C-MOVE; 0: it is not asked")


@dataclass(frozen=True)
class Dicom:
    """The DICOM listener."""

    ae_title: str = _setting("BLEEDMAP", "our AE title")
    listen: str = _setting("127.0.0.1:11112", "address and port; 0.0.0.0 for all networks")
    quiet_s: float = _setting(15.0, "seconds without a new slice after which a study is complete", least=0.1)
    max_associations: int = _setting(40, "at once, from all peers together", least=1)
    max_associations_per_address: int = _setting(20, "at once, from one address", least=1)
    max_pdu: int = _setting(131072, "largest protocol data unit, bytes", least=4096)
    any_peer: bool = _setting(False, "while no peer is listed, take studies from any address, not from loopback alone")
    tls_certificate: str = _setting("", "PEM file of the server's certificate; empty: no TLS", suffix="")
    tls_key: str = _setting("", "PEM file of its key", suffix="")
    tls_client_ca: str = _setting("", "PEM file of the authority whose clients may connect", suffix="")
    peer: tuple[Peer, ...] = _setting((), "who may connect")


@dataclass(frozen=True)
class Target:
    """A PACS that takes the results."""

    name: str = _setting("", "a short name, for lists and logs")
    kind: str = _setting("dimse", "dimse (C-STORE) or dicomweb (STOW-RS)", of=("dimse", "dicomweb"))
    ae_title: str = _setting("", "dimse: its AE title")
    address: str = _setting("", "dimse: host:port")
    url: str = _setting("", "dicomweb: the service's root, as https://pacs/dicom-web")
    token_file: str = _setting("", "dicomweb: file of a bearer token", suffix="")
    tls: bool = _setting(False, "dimse: TLS, with our certificate")
    tls_ca: str = _setting("", "PEM file of the authority of its certificate; empty: the system's", suffix="")
    send: tuple[str, ...] = _setting(
        ("seg", "sr", "pictures"), "seg, sr, pictures, probability", of=("seg", "sr", "pictures", "probability")
    )
    when: str = _setting("always", "always, or bleed: only studies with a bleed marked", of=("always", "bleed"))
    commitment: bool = _setting(True, "dimse: ask for storage commitment; else C-FIND")


@dataclass(frozen=True)
class Web:
    """The web server."""

    listen: str = _setting("127.0.0.1:8080", "address and port")
    public_url: str = _setting("", "how users reach it, behind a proxy")
    trusted_proxies: tuple[str, ...] = _setting((), "addresses whose X-Forwarded headers are believed")
    tls_certificate: str = _setting("", "PEM file; empty: no TLS, loopback only", suffix="")
    tls_key: str = _setting("", "PEM file of its key", suffix="")
    metrics: str = _setting("127.0.0.1:9112", "address and port of /metrics; empty: none")


@dataclass(frozen=True)
class Oidc:
    """Log in by the hospital's OpenID Connect."""

    issuer: str = _setting("", "URL of the issuer; empty: passwords of our own")
    client_id: str = _setting("", "of this server")
    client_secret_file: str = _setting("", "file of its secret", suffix="")
    reader_group: str = _setting("", "group whose members read")
    admin_group: str = _setting("", "group whose members administer")


@dataclass(frozen=True)
class Limits:
    """What protects the disk and the queue."""

    free_gb: float = _setting(10.0, "nothing is received below this much free space", least=0)
    study_gb: float = _setting(4.0, "largest study", least=1e-6)
    upload_gb: float = _setting(2.0, "largest upload", least=1e-6)
    keep_days: float = _setting(14.0, "images of a delivered study are deleted after this; 0: never", least=0)
    keep_results_days: float = _setting(90.0, "and its results after this; 0: never", least=0)
    attempts: int = _setting(12, "times that a study may end its worker before it counts as failed", least=1)


@dataclass(frozen=True)
class Worker:
    """Segmenting and sending."""

    processes: int = _setting(1, "worker processes on this machine", least=1)
    senders: int = _setting(2, "processes on this machine that bring results to the targets", least=1)
    weights: str = _setting("", "installed weights by name, or an .onnx file; empty: the default", suffix=".onnx")
    threshold: float = _setting(0.0, "lesion from this probability on; 0: the weights' own")
    accept: tuple[str, ...] = _setting((), "input checks whose refusal is overruled")


@dataclass(frozen=True)
class Settings:
    """All settings of a server."""

    server: Server = Server()
    dicom: Dicom = Dicom()
    target: tuple[Target, ...] = ()
    web: Web = Web()
    oidc: Oidc = Oidc()
    limits: Limits = Limits()
    worker: Worker = Worker()

    @property
    def data(self) -> Path:
        """The folder of everything."""
        return Path(self.server.data)


def read_settings(path: Path | None) -> Settings:
    """Read the settings from a TOML file; None: all as they are by default. Relative paths start at the file.

    Raises:
        SettingsError: not TOML, an unknown setting, or a value that cannot work.
    """
    if path is None:
        return Settings()
    remedy = "write one to begin with: bleedmap serve --write-config > bleedmap.toml"
    with usable(path, SettingsError, "a TOML file of settings", remedy, found="cannot be read"):
        content = tomllib.loads(path.read_text("utf-8"))
    settings: Settings = _start_at(path.parent, parse_settings(content, str(path)))
    return settings


def _start_at(folder: Path, value: Any) -> Any:
    """Settings whose relative paths start at a folder: a service does not run in that of its settings."""
    if isinstance(value, tuple):
        return tuple(_start_at(folder, one) for one in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    made = {one.name: _start_at(folder, getattr(value, one.name)) for one in fields(value)}
    for one in fields(value):
        suffix, named = one.metadata.get("suffix"), made[one.name]
        if suffix is not None and named and named.endswith(suffix):
            made[one.name] = str(folder / named)
    return replace(value, **made)


def parse_settings(content: dict[str, Any], subject: str = "settings") -> Settings:
    """Make settings of a parsed TOML file.

    Raises:
        SettingsError: an unknown setting, or a value that cannot work.
    """
    settings: Settings = _parse(Settings, content, subject, "")
    for found, needed in _find_wrong(settings):
        raise _refuse(subject, found, needed)
    return settings


def split_address(address: str) -> tuple[str, int]:
    """'10.0.0.9:4242' or '[::1]:4242' -> host and port.

    Raises:
        ValueError: it has no port.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or not host or int(port) > 65535:
        raise ValueError(address)
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    return is_loopback_host(split_address(address)[0])


def refuse_open_doors(settings: Settings, insecure: bool) -> None:
    """Refuse to let other machines in without protection.

    Args:
        insecure: pages may be served without TLS.

    Raises:
        SettingsError: other machines reach the pages without TLS, or the listener without a list of peers.
    """
    web, dicom = settings.web, settings.dicom
    if not is_loopback(web.listen) and not web.tls_certificate and not web.trusted_proxies and not insecure:
        raise SettingsError(
            "web.listen", found=f"{web.listen}, which others can reach, without TLS",
            needed="web.tls_certificate, or a proxy with TLS among web.trusted_proxies",
            remedy="set one, listen on 127.0.0.1, or give --insecure",
        )  # fmt: skip
    if not is_loopback(dicom.listen) and not dicom.peer and not dicom.any_peer:
        raise SettingsError(
            "dicom.listen", found=f"{dicom.listen}, which others can reach, without a list of peers",
            needed="a [[dicom.peer]] for each sender", remedy="list them, or set dicom.any_peer = true",
        )  # fmt: skip


def is_ip_address(text: str) -> bool:
    """Whether a text is an IP address, as the listener sees those who connect."""
    try:
        return str(ip_address(text)) == text
    except ValueError:
        return False


def check_port(name: str, address: str) -> None:
    """Try whether an address can be listened at.

    Raises:
        SettingsError: it is in use, is none of this machine, or may not be taken.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, port))
    except OSError as error:
        raise SettingsError(
            name, found=f"{address} cannot be listened at: {error.strerror or error}",
            needed="an address of this machine with a free port",
            remedy=f"end what listens there (another `bleedmap serve`?), or change {name}",
        ) from error  # fmt: skip


def _parse(kind: type, content: Any, subject: str, place: str) -> Any:
    if not isinstance(content, dict):
        raise _refuse(subject, f"{place} = {content!r}", f"a table [{place}]")
    types, values = get_type_hints(kind), {}
    about = {one.name: one.metadata for one in fields(kind)}
    for name, value in content.items():
        where = f"{place}.{name}" if place else name
        if name not in types:
            near = get_close_matches(name, types, 1)
            said = f"; did you mean '{near[0]}'?" if near else ""
            raise _refuse(subject, f"unknown setting {where}{said}", f"one of {', '.join(types)}")
        made = values[name] = _convert(types[name], value, subject, where)
        least, of = about[name].get("least"), about[name].get("of")
        if least is not None and not made >= least:
            raise _refuse(subject, f"{where} = {value}", f"a number of at least {least}")
        if of and not set(made if isinstance(made, tuple) else (made,)) <= set(of):
            raise _refuse(subject, f"{where} = {value!r}", f"of {', '.join(of)}")
    return kind(**values)


def _convert(kind: Any, value: Any, subject: str, place: str) -> Any:
    if is_dataclass(kind):
        return _parse(kind, value, subject, place)  # type: ignore[arg-type]
    if get_args(kind):
        if not isinstance(value, list):
            raise _refuse(subject, f"{place} = {value!r}", "a list")
        return tuple(_convert(get_args(kind)[0], one, subject, place) for one in value)
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise _refuse(subject, f"{place} = {value!r}", {str: "a text", bool: "true or false"}.get(kind, "a number"))
    return kind(value)


def _refuse(subject: str, found: str, needed: str) -> SettingsError:
    return SettingsError(
        subject, found=found, needed=needed, remedy="bleedmap serve --write-config shows every setting with its meaning"
    )


def _find_wrong(settings: Settings) -> Iterator[tuple[str, str]]:
    """Find values that cannot work: what was found, and what is needed."""
    dicom, web, targets = settings.dicom, settings.web, settings.target
    dimse = [one for one in targets if one.kind == "dimse"]
    addresses = {"dicom.listen": dicom.listen, "web.listen": web.listen}
    addresses |= {"web.metrics": web.metrics} if web.metrics else {}
    for name, address in (addresses | {f"address of the target {one.name}": one.address for one in dimse}).items():
        try:
            split_address(address)
        except ValueError:
            yield f"{name} = {address!r}", "an address and a port, as 127.0.0.1:11112"
    titles = [("dicom.ae_title", dicom.ae_title), *(("ae_title of a peer", one.ae_title) for one in dicom.peer)]
    for name, title in (*titles, *((f"ae_title of the target {one.name}", one.ae_title) for one in dimse)):
        if not 1 <= len(title.strip()) <= 16 or "\\" in title or not title.isascii() or not title.isprintable():
            yield f"{name} = {title!r}", "1 to 16 ASCII characters without backslash (PS3.5, AE)"
    for peer in dicom.peer:
        if peer.address and not is_ip_address(peer.address):
            yield f"peer {peer.ae_title}: address {peer.address!r}", "its IP address; '' for any"
        if "query" in peer.may and peer.port and not peer.address:
            yield f"peer {peer.ae_title}: no address, to ask it at port {peer.port}", "its IP address"
    names = [one.name for one in targets]
    if not all(names) or len(set(names)) < len(names):
        yield "targets without a name, or two of one name", "a name of its own for each [[target]]"
    for one in targets:
        if one.kind == "dicomweb" and not one.url.startswith(("http://", "https://")):
            yield f"target {one.name}: url {one.url!r}", "an http(s) URL of the DICOMweb service"
    oidc = settings.oidc
    if oidc.issuer and not (oidc.client_id and (oidc.reader_group or oidc.admin_group)):
        yield "oidc.issuer without a client_id, or without a group", "oidc.client_id, and a group whose members log in"
    if not 0 <= settings.worker.threshold <= 1:
        yield f"worker.threshold = {settings.worker.threshold}", "a probability, or 0 for the weights' own"


def write_settings(settings: Settings = Settings()) -> str:
    """Write settings as a TOML file with a comment at each; lists of tables are shown commented out where empty."""
    lines = [
        "# bleedmap serve --config THIS-FILE. Every setting has its default here; leave out what you do not change."
    ]
    for one in fields(Settings):
        value = getattr(settings, one.name)
        if one.name == "target":
            lines += _write_list("target", Target, value)
        else:
            lines += _write_table(f"[{one.name}]", value)
            if one.name == "dicom":
                lines += _write_list("dicom.peer", Peer, value.peer)
    return "\n".join(lines) + "\n"


def _write_table(head: str, value: Any, mark: str = "") -> list[str]:
    rows = [(one.name, getattr(value, one.name), one.metadata["help"]) for one in fields(value) if one.name != "peer"]
    said = (type(value).__doc__ or "").split("\n")[0]
    return ["", f"{mark}{head}  # {said}", *(f"{mark}{name} = {_toml(held)}  # {text}" for name, held, text in rows)]


def _write_list(name: str, kind: Any, values: tuple[Any, ...]) -> list[str]:
    mark = "" if values else "# "
    return [line for one in values or (kind(),) for line in _write_table(f"[[{name}]]", one, mark)]


def _toml(value: Any) -> str:
    """A value as TOML has it: texts, lists and booleans are those of JSON."""
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def list_settings() -> list[tuple[str, str, str]]:
    """List every setting as (name, default, meaning), for the docs' table."""
    rows = []
    for name, kind in (
        ("server", Server), ("dicom", Dicom), ("dicom.peer", Peer), ("target", Target), ("web", Web), ("oidc", Oidc),
        ("limits", Limits), ("worker", Worker),
    ):  # fmt: skip
        for one in fields(kind):
            if one.name != "peer" and one.default is not MISSING:
                rows.append((f"{name}.{one.name}", _toml(one.default), one.metadata["help"]))
    return rows
