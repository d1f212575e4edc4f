"""Damaged bytes never raise but InputError, never end the program; and nothing of a patient is said."""

import logging
import os
import random
import signal
import struct
import subprocess
import sys
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames

from bleedmap.errors import InputError
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from dicom_studies import even_grid, read, series, volume_on, write

COMPRESSED = ("rle", "jpeg", "jpeg-ls", "jpeg-2000")
EXPECTED = volume_on(even_grid())


def damaged(data: bytes, draw: random.Random, first: int = 0) -> bytes:
    """Bytes changed, cut off, left out or put in."""
    changed, kind = bytearray(data), draw.randrange(4)
    at = draw.randrange(first, len(changed))
    if kind == 0:
        for _ in range(draw.choice((1, 3, 30))):
            changed[draw.randrange(first, len(changed))] = draw.randrange(256)
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        del changed[at : at + draw.randrange(1, 40)]
    else:
        changed[at:at] = draw.randbytes(draw.randrange(1, 40))
    return bytes(changed)


@pytest.mark.parametrize("kind", ["explicit", "implicit", "deflated", "multi-frame"])
def test_damaged_headers_are_refused_or_read_without_a_word(tmp_path, kind, capfd, caplog):
    """150 of each: no exception but InputError, no warning, no log line, no output; left out counts as refused."""
    caplog.set_level(logging.DEBUG)
    made = [enhanced_ct(EXPECTED)] if kind == "multi-frame" else series(EXPECTED, transfer_syntax=kind)[:3]
    folder = write(tmp_path, made)
    caplog.clear()
    path = sorted(folder.iterdir())[0]
    whole = path.read_bytes()
    header = len(whole) if kind == "deflated" else whole.rindex(b"\xe0\x7f\x10\x00")
    ended, said = {"read": 0, "refused": 0}, [""]
    for seed in range(150):
        path.write_bytes(damaged(whole[:header], random.Random(seed)) + whole[header:])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                ended["refused" if read(folder).acquisition.unread else "read"] += 1
            except InputError as error:
                ended["refused"] += 1
                said.append(error.explain())
    assert ended["read"] > 5
    assert ended["refused"] > 5
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert "Phantom^" not in " ".join(said)


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no process' time; there the clock on the wall does")
def test_a_decoder_that_hangs_is_ended_by_its_own_processor_time():
    spin = "from bleedmap.io.dicom import decode_worker as w; w.MOST_S = 0; w.limit_time()\nwhile True: pass"
    ended = subprocess.run([sys.executable, "-c", spin], timeout=120, check=False)
    assert ended.returncode in (-signal.SIGXCPU, -signal.SIGKILL)


@pytest.mark.parametrize("name", COMPRESSED)
def test_damaged_compressed_pixels_never_end_the_program(tmp_path, name, capfd):
    """Native decoders crash on some of these; here they do so in a process of their own."""
    instances = series(EXPECTED, transfer_syntax=name)[:2]
    folder = write(tmp_path, instances)
    one = instances[0]
    path = next(path for path in folder.iterdir() if pydicom.dcmread(path).SOPInstanceUID == one.SOPInstanceUID)
    frame = next(generate_frames(one.PixelData, number_of_frames=1))
    refused = 0
    for seed in range(12):
        one.PixelData = encapsulate([damaged(frame, random.Random(seed))])
        one.save_as(path, enforce_file_format=True)
        try:
            refused += bool(read(folder).acquisition.unread)
        except InputError:
            refused += 1
    assert refused > 2
    assert capfd.readouterr() == ("", "")


def test_a_decoder_that_crashes_is_an_input_error(tmp_path):
    """A precision of 127 bits makes gdcm write where it may not. Slices after it are decoded all the same."""
    instances = series(EXPECTED, transfer_syntax="jpeg")
    frame = bytearray(next(generate_frames(instances[0].PixelData, number_of_frames=1)))
    at = frame.index(b"\xff\xc3")
    frame[at + 4] = 127
    instances[0].PixelData = encapsulate([bytes(frame)])
    with pytest.raises(InputError, match="cannot be decoded"):
        read(write(tmp_path / "alone", instances[:1]))
    found = read(write(tmp_path / "several", instances))
    np.testing.assert_array_equal(found.volume.hu, EXPECTED.hu[1:])
    assert "1 slice of the series could not be read" in found.acquisition.unread


def test_compressed_pixels_of_another_size_or_cut_off(tmp_path):
    instances = series(EXPECTED, transfer_syntax="jpeg-ls")[:1]
    frame = next(generate_frames(instances[0].PixelData, number_of_frames=1))
    instances[0].PixelData = encapsulate([frame[:-200]])
    with pytest.raises(InputError, match="cut off after"):
        read(write(tmp_path / "a", instances))
    at = frame.index(b"\xff\xf7")
    instances[0].PixelData = encapsulate([frame[: at + 5] + struct.pack(">HH", 60000, 60000) + frame[at + 9 :]])
    with pytest.raises(InputError, match="60000 × 60000 pixels"):
        read(write(tmp_path / "b", instances))


def test_peer_15_no_name_number_or_birth_date_is_said(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    secrets = (
        ("PatientName", "PN", "Secretive^Person"),
        ("PatientID", "LO", "ID-4711"),
        ("PatientBirthDate", "DA", "19510417"),
    )
    instances = series(EXPECTED)
    for number, one in enumerate(instances):
        for keyword, vr, value in secrets:
            one.add_new(keyword, vr, value)
        one.add_new("PatientAge", "AS", "050Y")
        one.InstitutionName, one.SliceThickness = "Secretive Hospital", "3"
        if number == 4:
            one.ImagePositionPatient = [one.ImagePositionPatient[0], one.ImagePositionPatient[1], -8.2]
    caplog.clear()
    found = read(write(tmp_path, instances))
    said = " ".join([*found.notes, repr(found.acquisition), repr(found.choice), caplog.text, *capfd.readouterr()])
    assert len(found.notes) == 2
    for secret in ("Secretive", "4711", "19510417", "1951"):
        assert secret not in said


def test_headers_have_no_pixels_and_no_value_that_fails_later(tmp_path):
    instances = series(EXPECTED)
    for one in instances:
        one.add_new((0x0009, 0x0010), "LO", "VENDOR")
        one.add_new("TableHeight", "DS", "1")
        one["TableHeight"]._value = "not a number"
    folder = write(tmp_path, instances)
    found = read(folder)
    assert [one.InstanceNumber for one in found.headers] == list(range(1, 13))
    for header in found.headers:
        assert "PixelData" not in header
        assert list(header.iterall())  # converts every value
        assert header.PatientID == "PHANTOM"
