"""Settings: the file that the program writes is the one it reads; what cannot work is refused with its name."""

import os
import socket
import stat
import threading
from dataclasses import replace

import pytest

from bleedmap.errors import SettingsError
from bleedmap.server.config import (
    Dicom,
    Peer,
    Settings,
    Target,
    Web,
    is_loopback,
    list_settings,
    parse_settings,
    read_settings,
    write_settings,
)
from bleedmap.server.place import Place, new_id
from bleedmap.server.store.engine import prepared_database
from bleedmap.server.work.worker import KINDS


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        replace(
            Settings(), dicom=Dicom(peer=(Peer("CT1", "10.0.0.5"), Peer("CT2", "10.0.0.6", ("store", "query"), 104))),
            target=(
                Target("pacs", "dimse", "ORTHANC", "10.0.0.9:4242", commitment=False),
                Target('a "b" \\', url="https://x", kind="dicomweb"),
            ),
        ),
    ],
    ids=["default", "lists"],
)  # fmt: skip
def test_what_is_written_is_read_back(settings, tmp_path):
    (tmp_path / "s.toml").write_text(write_settings(settings))
    read = read_settings(tmp_path / "s.toml")
    assert replace(read, server=settings.server) == settings
    assert read.data == tmp_path / "bleedmap-data"
    assert len(list_settings()) > 40


def test_relative_paths_start_at_the_settings(tmp_path):
    """A service begins in another folder than who tried the settings."""
    (tmp_path / "s.toml").write_text(
        '[dicom]\ntls_certificate = "cert.pem"\ntls_key = "/etc/key.pem"\n[worker]\nweights = "mine/net.onnx"\n'
        '[[target]]\nname = "a"\nkind = "dicomweb"\nurl = "https://x"\ntoken_file = "token"\n'
    )
    read = read_settings(tmp_path / "s.toml")
    assert (read.dicom.tls_certificate, read.dicom.tls_key) == (str(tmp_path / "cert.pem"), "/etc/key.pem")
    assert (read.worker.weights, read.target[0].token_file) == (
        str(tmp_path / "mine/net.onnx"),
        str(tmp_path / "token"),
    )
    assert (read.web.tls_key, read.target[0].tls_ca) == ("", "")
    (tmp_path / "s.toml").write_text('[worker]\nweights = "bone"\n')
    assert read_settings(tmp_path / "s.toml").worker.weights == "bone"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"dicom": {"quite_s": 3}}, "dicom.quite_s; did you mean 'quiet_s'"),
        ({"dicom": {"quiet_s": "3"}}, "dicom.quiet_s = '3'"),
        ({"dicom": {"quiet_s": float("nan")}}, "quiet_s = nan"),
        ({"dicom": {"max_pdu": True}}, "max_pdu = True"),
        ({"dicom": {"listen": "11112"}}, "dicom.listen"),
        ({"dicom": {"ae_title": "A" * 17}}, "ae_title"),
        ({"dicom": {"peer": {"ae_title": "X"}}}, "dicom.peer"),
        ({"target": [{"name": "a", "ae_title": "A", "address": "h"}]}, "address of the target a"),
        ({"target": [{"name": "a", "kind": "ftp"}]}, "target.kind = 'ftp'"),
        ({"target": [{"kind": "dicomweb", "url": "https://x"}]}, "without a name"),
        ({"target": [{"name": "a", "send": ["seg", "jpeg"]}]}, "target.send = ['seg', 'jpeg']"),
        ({"target": [{"name": "a", "kind": "dicomweb", "url": "pacs"}]}, "url 'pacs'"),
        ({"dicom": {"peer": [{"ae_title": "CT1", "address": "ct1.example"}]}}, "peer CT1: address 'ct1.example'"),
        ({"dicom": {"peer": [{"ae_title": "X", "may": ["query"], "port": 104}]}}, "peer X: no address, to ask it"),
        ({"oidc": {"issuer": "https://x", "client_id": "a"}}, "oidc.issuer without a client_id, or without a group"),
        ({"worker": {"processes": 0}}, "worker.processes = 0"),
        ({"worker": {"threshold": 1.5}}, "worker.threshold = 1.5"),
        ({"server": 3}, "server = 3"),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(content, told):
    with pytest.raises(SettingsError) as error:
        parse_settings(content)
    assert told in str(error.value)


def test_loopback_is_known():
    assert all(map(is_loopback, ("127.0.0.1:1", "[::1]:1", "localhost:1")))
    assert not any(map(is_loopback, ("0.0.0.0:1", "10.0.0.1:1", "host:1")))


def test_the_folder_is_closed_to_others_and_its_names_tell_nothing(tmp_path):
    place = Place(tmp_path / "data")
    assert stat.S_IMODE(place.root.stat().st_mode) == 0o700
    key = place.root / "keys/place.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    name = place.key_of("1.2.840.1")
    assert name == Place(tmp_path / "data").key_of("1.2.840.1\0") != Place(tmp_path / "other").key_of("1.2.840.1")
    assert len(name) == 32
    for wrong in ("../x", "", "A" * 20):
        with pytest.raises(ValueError, match="not the identifier"):
            place.version(wrong, 1)
    assert place.version(new_id(), 2).parent.parent == place.root / "studies"


@pytest.mark.parametrize(
    ("kind", "name"), [("listener", "dicom.listen"), ("web", "web.listen"), ("web", "web.metrics")]
)
def test_a_process_whose_port_is_taken_names_the_setting(sqlite_settings, kind, name):
    table, key = name.split(".")
    settings = replace(sqlite_settings, web=Web(listen="127.0.0.1:0", metrics=""))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = replace(settings, **{table: replace(getattr(settings, table), **{key: address})})
        with pytest.raises(SettingsError, match=rf"{name}: {address} cannot be listened at: Address already in use"):
            KINDS[kind](settings, threading.Event())


def test_what_root_makes_belongs_to_the_owner_of_the_folder(sqlite_settings, monkeypatch):
    """An administrator tries the settings, or asks for the status, before the service begins as a user of its own."""
    given: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.setdefault(path.name, (user, group)))
    Place(sqlite_settings.data)
    with prepared_database(sqlite_settings):
        pass
    made = {one.name for one in sqlite_settings.data.rglob("*")}
    assert given.keys() >= made > {"incoming", "place.key", "server.db"}
    owner = sqlite_settings.data.stat()
    assert set(given.values()) == {(owner.st_uid, owner.st_gid)}
