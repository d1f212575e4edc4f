"""The listener: what it keeps, what it counts, what it refuses, and who cannot hold it up."""

import contextlib
import os
import random
import resource
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    generate_uid,
)
from pynetdicom.sop_class import Verification
from sqlalchemy import select

import dicom_studies
from bleedmap.archive.remote.tls import make_client_context
from bleedmap.server.config import Dicom, Peer, Target
from bleedmap.server.dicom import listener as listener_module
from bleedmap.server.dicom import receive as receive_module
from bleedmap.server.dicom.listener import Listener
from bleedmap.server.dicom.receive import Receiver, RefusedError
from bleedmap.server.dicom.send import AwayError
from bleedmap.server.dicom.send import associate as associate_target
from bleedmap.server.place import Place
from bleedmap.server.store import tables
from bleedmap.server.store.engine import open_database, prepare
from certificates import write_certificate
from dicom_sender import associate, echo, send
from pdu_mutations import mutate, record_speech


class Running:
    """A listener of this process with its folder and database."""

    def __init__(self, settings, **dicom) -> None:
        self.settings = replace(settings, dicom=Dicom(**({"listen": "127.0.0.1:0", "quiet_s": 0.2} | dicom)))
        self.place, self.database = Place(settings.data), open_database(settings)
        prepare(self.database)
        self.receiver = Receiver(self.settings, self.place)
        self.listener = Listener(self.settings, self.receiver, lambda report: None)
        self.port = self.listener.address[1]

    def flush(self) -> None:
        self.receiver.flush(self.database, self.listener.list_held())

    def rows(self, table):
        with self.database.read() as connection:
            return list(connection.execute(select(table)).mappings())

    def files(self) -> list[Path]:
        return sorted((self.place.root / "incoming").glob("*/*.dcm"))


@pytest.fixture
def run(sqlite_settings):
    running = []

    def start(**dicom) -> Running:
        running.append(Running(sqlite_settings, **dicom))
        return running[-1]

    yield start
    for one in running:
        one.listener.close()
        one.database.close()


def instances(slices: int = 4) -> list[Dataset]:
    made = dicom_studies.series(dicom_studies.volume_on(dicom_studies.even_grid(slices)))
    for one in made:
        one.PatientName, one.PatientID, one.AccessionNumber = "PHANTOM^ANNA", "P-4711", "ACC-1"
    return made


def test_slices_lie_as_they_were_sent_and_the_database_is_told(run):
    server, made = run(), instances()
    assert send(server.port, made) == [0] * len(made)
    assert {dcmread(path).SOPInstanceUID for path in server.files()} == {one.SOPInstanceUID for one in made}
    for path in server.files():
        read = dcmread(path)
        (sent,) = [one for one in made if one.SOPInstanceUID == read.SOPInstanceUID]
        assert read.PixelData == sent.PixelData
        assert path.stat().st_mode & 0o077 == 0
        assert not any(str(uid) in str(path) for uid in (sent.StudyInstanceUID, sent.SOPInstanceUID, "4711"))
    server.flush()
    (row,) = server.rows(tables.study)
    assert (row["state"], row["instances"], row["sender_ae"]) == ("receiving", len(made), "CT1")
    (who,) = server.rows(tables.identity)
    assert (who["name"], who["patient_id"], who["accession"]) == ("PHANTOM^ANNA", "P-4711", "ACC-1")


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
    ids=["implicit", "big-endian", "deflated", "rle"],
)  # fmt: skip
def test_every_transfer_syntax_is_kept_without_decoding(run, syntax):
    server, (one, *_) = run(), instances(2)
    if syntax == RLELossless:
        one.compress(RLELossless)
    else:
        one = dicom_in(one, syntax)
    assert send(server.port, [one]) == [0]
    (path,) = server.files()
    read = dcmread(path)
    assert read.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(read.pixel_array, one.pixel_array)


def dicom_in(one: Dataset, syntax: str) -> Dataset:
    """The instance in another uncompressed encoding, written and read."""
    from io import BytesIO

    if syntax == ExplicitVRBigEndian:
        one.PixelData = np.frombuffer(one.PixelData, "<u2").astype(">u2").tobytes()
        one["PixelData"].VR = "OW"
    one.file_meta.TransferSyntaxUID = syntax
    stream = BytesIO()
    one.save_as(stream, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian,
                little_endian=syntax != ExplicitVRBigEndian)  # fmt: skip
    stream.seek(0)
    return dcmread(stream)


def other(kind: str, **changes) -> Dataset:
    """An object of another class."""
    one, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID, one.StudyInstanceUID = kind, generate_uid(), generate_uid()
    one.file_meta = meta
    one.update(changes and Dataset())
    for key, value in changes.items():
        setattr(one, key, value)
    return one


def test_other_objects_are_accepted_and_counted_never_dropped_silently(run):
    server = run()
    mr, private = other(MRImageStorage), other("1.3.12.2.1107.5.9.1")
    own = instances(2)[0]
    own.Manufacturer = own.ManufacturerModelName = "bleedmap"
    assert send(server.port, [mr, mr, private, own]) == [0] * 4
    assert server.files() == []
    server.flush()
    counts = {(one["sop_class"], one["reason"]): one["count"] for one in server.rows(tables.passed_over)}
    assert counts == {
        (MRImageStorage, "not a CT"): 2, ("1.3.12.2.1107.5.9.1", "not a CT"): 1, (CTImageStorage, "own result"): 1,
    }  # fmt: skip
    assert server.rows(tables.study) == []


def test_what_cannot_be_kept_gets_a_status_that_says_why(run, monkeypatch):
    server = run()
    (one, *_) = instances(2)
    nameless = other(CTImageStorage)
    del nameless.StudyInstanceUID
    assert send(server.port, [nameless]) == [0xC000]
    monkeypatch.setattr(receive_module, "is_full", lambda folder, free_gb: True)
    assert send(server.port, [one]) == [0xA700]
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert send(server.port, [one]) == [0xA700]
    monkeypatch.undo()
    with pytest.raises(RefusedError) as refused:
        server.receiver.refuse_other_class("1.2.840.10008.5.1.4.1.2.2.1")
    assert refused.value.status == 0x0122
    assert list(server.place.root.glob("incoming/*/*")) == [], "nothing half-written stays"
    assert send(server.port, [one]) == [0]


def test_a_study_larger_than_its_limit_is_refused(run):
    server, made = run(), instances()
    size = len(made[0].PixelData)
    server.receiver._limits = replace(server.settings.limits, study_gb=2.5 * (size + 1500) / 1e9)
    assert send(server.port, made) == [0, 0, 0xA700, 0xA700]


def test_what_comes_twice_is_held_once_and_files_without_a_row_get_one(run):
    server, made = run(), instances()
    send(server.port, made)
    send(server.port, made)
    server.flush()
    assert len(server.files()) == len(made)
    assert [one["count"] for one in server.rows(tables.passed_over)] == [len(made)]
    again = Receiver(server.settings, server.place)
    for name, age_s in (("dead", 7200), ("alive", 5)):
        part = server.place.root / f"incoming/parts/{name}.part"
        part.write_bytes(b"half")
        os.utime(part, (time.time() - age_s,) * 2)
    with server.database.write() as connection:
        connection.execute(tables.study.delete())
        connection.execute(tables.identity.delete())
    assert again.sweep(server.database) == 1
    assert [one["instances"] for one in server.rows(tables.study)] == [len(made)]
    assert [one.name for one in server.place.root.glob("incoming/parts/*")] == ["alive.part"]


def test_four_senders_of_the_same_instances_meet_nothing_half(run):
    server, made = run(), instances(6)
    statuses: list[list[int]] = []
    threads = [threading.Thread(target=lambda: statuses.append(send(server.port, made))) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert statuses == [[0] * 6] * 4
    assert len(server.files()) == 6


def test_a_database_that_is_away_loses_no_arrival(run, monkeypatch):
    server, made = run(), instances()
    send(server.port, made)
    monkeypatch.setattr(server.database, "write", lambda: (_ for _ in ()).throw(ConnectionError()))
    with pytest.raises(ConnectionError):
        server.flush()
    monkeypatch.undo()
    server.flush()
    assert [one["instances"] for one in server.rows(tables.study)] == [len(made)]


def test_an_open_association_holds_its_study_until_it_is_silent(run, monkeypatch):
    server, made = run(), instances(2)
    with associate(server.port, [(CTImageStorage, ExplicitVRLittleEndian)]) as association:
        association.send_c_store(made[0])
        (key,) = server.listener.list_held()
        assert key == server.place.key_of(made[0].StudyInstanceUID)
        monkeypatch.setattr(listener_module, "SILENT_S", 0.0)
        assert server.listener.list_held() == set()
        monkeypatch.undo()
    time.sleep(0.2)
    assert server.listener.list_held() == set()


def test_silent_connections_neither_keep_a_sender_out_nor_stay(run, monkeypatch):
    """pynetdicom kept a socket that says nothing for 30 s, and 40 of them kept everybody out."""
    monkeypatch.setattr(listener_module, "ACSE_TIMEOUT_S", 1.0)
    server = run(max_associations=10, max_associations_per_address=8)
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    deadline = time.monotonic() + 6
    while server.listener.refused["too many of one address"] < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.listener.refused["too many of one address"] >= 12
    while server.listener.count_associations() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.listener.count_associations() == 0
    assert echo(server.port) == 0
    for one in silent:
        one.close()


def test_connections_that_close_at_once_leave_no_threads(run):
    server = run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(150):
        socket.create_connection(("127.0.0.1", server.port)).close()
    until = time.monotonic() + 30
    while server.listener.count_associations() > 15 and time.monotonic() < until:
        time.sleep(0.05)
    assert server.listener.count_associations() <= 15
    assert echo(server.port) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000, "kB"


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff" + b"\0" * 1000,
        b"\x04\x00\x00\x00\x00\x08" + b"\0" * 8,
        b"\x01\x00\x00\x00\x00\x04\0\x01\0\0",
    ],
    ids=["HTTP", "4 GB stated", "data first", "cut"],
)
def test_what_is_no_dicom_is_ended_and_the_next_sender_served(run, said):
    server = run()
    with socket.create_connection(("127.0.0.1", server.port)) as one:
        one.sendall(said)
        assert echo(server.port) == 0


def test_mutated_pdus_hold_nobody_up(run, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda fault: None)  # as the listener's process does
    server, draw, spoken = run(), random.Random(3), record_speech()
    for turn in range(80):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one, contextlib.suppress(OSError):
            one.sendall(mutate(draw, spoken))
        if turn % 40 == 39:
            assert echo(server.port, bind_address=("127.0.0.2", 0)) == 0  # it has a time limit of its own
    until = time.monotonic() + 15
    while server.listener.count_associations() and time.monotonic() < until:
        server.listener.tidy()
        time.sleep(0.1)
    assert server.listener.count_associations() == 0, "none is left behind"


def test_a_sender_that_dies_after_any_slice_leaves_whole_slices_and_the_rest_may_follow(run):
    server, made = run(), instances(6)
    for count in range(1, 6):
        with associate(server.port, [(CTImageStorage, ExplicitVRLittleEndian)]) as association:
            for one in made[:count]:
                association.send_c_store(one)
            association.abort()
        assert len(server.files()) == count
        assert all(dcmread(path).PixelData for path in server.files())
        assert not list(server.place.root.glob("incoming/parts/*"))
    assert send(server.port, made) == [0] * 6
    assert len(server.files()) == 6


def test_a_data_set_without_an_end_is_ended(run, monkeypatch):
    monkeypatch.setattr(listener_module, "INSTANCE_BYTES", 300_000)
    server = run()
    (one, *_) = instances(2)
    one.PixelData = bytes(1_000_000)
    contexts = [(CTImageStorage, ExplicitVRLittleEndian)]
    with associate(server.port, contexts) as association:
        assert "Status" not in association.send_c_store(one)
    assert server.listener.refused["instance too large"] == 1
    assert server.files() == []
    assert echo(server.port) == 0


def test_only_listed_peers_are_served(run):
    server = run(peer=(Peer("CT1", "127.0.0.1"), Peer("PACS", "127.0.0.1", ("query",)), Peer("CT9", "10.9.9.9")))
    (one, *_) = instances(2)
    assert send(server.port, [one]) == [0]
    assert send(server.port, [one], title="PACS") == [0x0124]
    assert send(server.port, [one], title="CT9") == [0x0124], "its title, from another address"
    with pytest.raises(AssertionError, match="no association"):
        echo(server.port, title="NOBODY")
    assert not server.listener.may_connect("10.0.0.1")
    assert server.listener.may_connect("10.9.9.9")


def test_a_peer_is_known_by_its_ipv4_address_on_all_networks(run):
    """Over a socket of IPv6 it comes as ::ffff:127.0.0.1."""
    server = run(listen="[::]:0", peer=(Peer("CT1", "127.0.0.1"),))
    assert send(server.port, instances(1)) == [0]
    assert not server.listener.refused


def test_without_a_list_only_this_machine_is_served(run):
    assert not run().listener.may_connect("10.0.0.1")
    assert run(any_peer=True).listener.may_connect("10.0.0.1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[str, str]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


def test_a_client_silent_in_its_tls_handshake_holds_nobody_up(run, certificate, monkeypatch):
    """pynetdicom made the handshake in the loop that accepts: one silent client stopped the port."""
    monkeypatch.setattr(listener_module, "TLS_HANDSHAKE_S", 60.0)
    pem, key = certificate
    server = run(tls_certificate=pem, tls_key=key)
    silent = socket.create_connection(("127.0.0.1", server.port))
    time.sleep(0.1)
    tls = {"tls_args": (make_client_context(pem), "localhost")}
    assert send(server.port, instances(2), **tls) == [0, 0]
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):  # it is still waited for: the others were served meanwhile
        silent.recv(1)
    silent.close()


def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(run, certificate):
    pem, key = certificate
    server = run(tls_certificate=pem, tls_key=key, tls_client_ca=pem)
    with pytest.raises(AssertionError, match="no association"):
        echo(server.port, tls_args=(make_client_context(pem), "localhost"))
    assert echo(server.port, tls_args=(make_client_context(pem, pem, key), "localhost")) == 0


def test_results_go_over_tls_to_a_target_whose_certificate_is_known(run, certificate):
    pem, key = certificate
    server = run(tls_certificate=pem, tls_key=key, tls_client_ca=pem)
    target = Target("pacs", "dimse", "BLEEDMAP", f"localhost:{server.port}", tls=True, tls_ca=pem)
    with associate_target(server.settings, target, [(Verification, None)]) as association:
        assert association.send_c_echo().Status == 0
    with (
        pytest.raises(AwayError),
        associate_target(server.settings, replace(target, tls_ca=""), [(Verification, None)]),
    ):
        pass
