"""Decode stored pixel data into words, frame by frame, in any transfer syntax of CT: DICOM PS3.5 8 and A.4.

Native and run-length frames are read here. JPEG, JPEG-LS and JPEG 2000 go through native decoders, which crash or hang
on damaged data; they run in one child process for as long as a series is read, which is killed when it takes too long.
What a compressed frame says of itself is read before a decoder allocates for it: JPEG markers, ITU-T T.81 annex B;
JPEG-LS, T.87 annex C; JPEG 2000 SIZ, T.800 annex A.5.1.
"""

import json
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, RLELossless

from bleedmap.arrays import AnyArray
from bleedmap.errors import DamagedFileError, InputError, ResourceError, find_shortage
from bleedmap.io.dicom.header import text, value_of

_WORKER = Path(__file__).with_name("decode_worker.py")
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_NATIVE = {_IMPLICIT: "<", "1.2.840.10008.1.2.1": "<", "1.2.840.10008.1.2.1.99": "<", _BIG_ENDIAN: ">"}
_DECODERS = {
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{one}" for one in (50, 51, 57, 70)], "gdcm"),  # JPEG
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{one}" for one in (80, 81)], "charls"),  # JPEG-LS
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{one}" for one in (90, 91, 201, 202, 203)], "openjpeg"),  # JPEG 2000
}
_MOST_S = 120.0  # for one frame, where the child's own limit of processor time does not end it
_KILLED, _OUT_OF_TIME = -9, -24  # SIGKILL; SIGXCPU
_START_S = 60.0  # to load the decoders, from a slow disk too
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # SOF0-15, SOF55; not DHT, JPG, DAC
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # without a length
_MOST_TILES = 1024
_END = b"\xff\xd9"  # of a picture, in all three


@dataclass(frozen=True)
class FrameShape:
    """Size and depth of a frame, by the header."""

    rows: int
    columns: int
    bits_allocated: int
    frames: int


@dataclass(frozen=True)
class _Codestream:
    """Size and depth of a compressed frame, by its own header, and whether its end is there."""

    rows: int
    columns: int
    components: int
    precision: int
    ended: bool


class FrameDecoder:
    """Decodes frames. Use it in a `with` block, which ends the child process that it starts when first needed."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "FrameDecoder":
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def frames(self, header: Dataset, shape: FrameShape, name: str) -> Iterator[AnyArray]:
        """Decode one frame after the other.

        Args:
            header: with its pixel data.
            shape: by the header, checked.
            name: of the file, for messages.

        Yields:
            (row, column) uint8 or uint16 words, not yet signed or cleaned of unused bits.

        Raises:
            DamagedFileError: a transfer syntax that is not known, too few bytes, or bytes that cannot be decoded.
        """
        syntax, data = _read_syntax(header), value_of(header, "PixelData")
        if not isinstance(data, bytes) or not data:
            raise _refusal(name, "no pixel data (7FE0,0010)", "an image")
        if syntax in _NATIVE:
            yield from _read_native(data, shape, _NATIVE[syntax], header, name)
        elif syntax == RLELossless:
            yield from _read_run_lengths(header, shape, name)
        elif syntax in _DECODERS:
            for packed in _split_compressed(header, data, shape.frames, name):
                yield self._decode(packed, syntax, shape, name)
        else:
            raise DamagedFileError(
                name, found=f"pixels in transfer syntax {UID(str(syntax)).name}, which is not decoded",
                needed="native, RLE, JPEG (baseline, extended, lossless), JPEG-LS or JPEG 2000",
                remedy="unpack the series first: dcmdjpeg, gdcmconv --raw, or an export as Explicit VR Little Endian",
            )  # fmt: skip

    def _decode(self, packed: bytes, syntax: str, shape: FrameShape, name: str) -> AnyArray:
        decoder = _DECODERS[syntax]
        stream = _read_jpeg_2000_header(packed) if decoder == "openjpeg" else _read_jpeg_header(packed)
        if stream is None or (stream.rows, stream.columns, stream.components) != (shape.rows, shape.columns, 1):
            found = f"bytes that are not what the transfer syntax says, {UID(syntax).name}" if stream is None else (
                f"a compressed picture of {stream.rows} × {stream.columns} pixels, {stream.components} colour(s)"
            )  # fmt: skip
            raise _refusal(name, found, f"a picture of {shape.rows} × {shape.columns}, grey, as the header says")
        if not stream.ended:
            raise _refusal(name, f"a compressed picture that is cut off after {len(packed):,} bytes", "all of it")
        request = {
            "decoder": decoder, "syntax": syntax, "rows": shape.rows, "columns": shape.columns,
            "precision": stream.precision, "bytes": len(packed),
        }  # fmt: skip
        decoded = self._ask(json.dumps(request).encode() + b"\n" + packed, name)
        pixels = shape.rows * shape.columns
        if len(decoded) not in (pixels, 2 * pixels):
            raise _refusal(name, f"a picture that decodes to {len(decoded):,} bytes", f"{2 * pixels:,} bytes")
        return np.frombuffer(decoded, "u1" if len(decoded) == pixels else "<u2").reshape(shape.rows, shape.columns)

    def _ask(self, request: bytes, name: str) -> bytes:
        if self._child is not None and self._child.poll() is not None:  # a damaged frame ended it
            self.__exit__()
        if self._child is None:
            self._child = _start_child()
            started, _ = _exchange(self._child, b"", _START_S)
            if started["error"]:
                raise _cannot_start(started["error"])
        reply, decoded = _exchange(self._child, request, _MOST_S)
        if reply["error"]:
            raise _refusal(name, f"compressed pixels that cannot be decoded ({reply['error']})", "undamaged pixels")
        return decoded


def _start_child() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable or "python", "-P", str(_WORKER)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise find_shortage(error) or _cannot_start(f"{sys.executable or 'python'}: {error.strerror}") from error


def _exchange(child: subprocess.Popen[bytes], request: bytes, most_s: float) -> tuple[dict[str, Any], bytes]:
    """Send a request, and take the reply with what was decoded; the child is killed when it takes too long.

    Raises:
        ResourceError: somebody else killed it, as a system does that is short of memory.
    """
    assert child.stdin is not None
    assert child.stdout is not None
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    alarm = threading.Timer(most_s, end)
    alarm.start()
    try:
        child.stdin.write(request)
        child.stdin.flush()
        if line := child.stdout.readline():
            reply = json.loads(line)
            return reply, child.stdout.read(reply["bytes"])
    except OSError:  # it died before it took all
        pass
    finally:
        alarm.cancel()
    code = child.wait()
    if code == _KILLED and not late.is_set():
        raise find_shortage(MemoryError()) or _cannot_start("killed")
    hung = late.is_set() or code == _OUT_OF_TIME
    return {"error": "the decoder hung" if hung else f"the decoder crashed, exit code {code}"}, b""


def _cannot_start(why: str) -> ResourceError:
    return ResourceError(
        "decoder of compressed pixels", found=f"its process cannot be started ({why})",
        needed="a child process with Python and this installation's decoders",
        remedy="install bleedmap again, or unpack the series first: gdcmconv --raw, or dcmdjpeg",
    )  # fmt: skip


def _read_syntax(header: Dataset) -> str | None:
    """Read the Transfer Syntax UID; for files without meta information, infer it from how they were parsed."""
    named = text(getattr(header, "file_meta", Dataset()), "TransferSyntaxUID")
    if named is not None:
        return named
    return _IMPLICIT if header.original_encoding[1] else _BIG_ENDIAN


def _read_native(data: bytes, shape: FrameShape, order: str, header: Dataset, name: str) -> Iterator[AnyArray]:
    needed = shape.frames * (shape.rows * shape.columns * shape.bits_allocated // 8)
    if len(data) < needed:
        raise _refusal(name, f"{len(data):,} of {needed:,} bytes of pixels", "all of them")
    if shape.bits_allocated == 8 and order == ">" and header["PixelData"].VR == "OW":
        data = np.frombuffer(data[: len(data) // 2 * 2], "u2").byteswap().tobytes()  # two pixels a word: PS3.5 A.3
    words = np.frombuffer(data, f"{order}u{shape.bits_allocated // 8}", count=needed * 8 // shape.bits_allocated)
    yield from words.reshape(shape.frames, shape.rows, shape.columns)


def _read_run_lengths(header: Dataset, shape: FrameShape, name: str) -> Iterator[AnyArray]:
    try:
        for stored, _ in get_decoder(RLELossless).iter_array(header, raw=True, decoding_plugin="pydicom"):
            yield stored.view(f"u{shape.bits_allocated // 8}")
    except (InputError, MemoryError):
        raise
    except Exception as error:
        found = f"run lengths that cannot be decoded ({type(error).__name__})"
        raise _refusal(name, found, "undamaged pixels") from error


def _split_compressed(header: Dataset, data: bytes, frames: int, name: str) -> Iterator[bytes]:
    """Split the pixel data into the frames' compressed bytes: PS3.5 A.4."""
    tables = (value_of(header, "ExtendedOffsetTable"), value_of(header, "ExtendedOffsetTableLengths"))
    try:
        found = list(generate_frames(data, number_of_frames=frames, extended_offsets=tables if all(tables) else None))
    except MemoryError:
        raise
    except Exception as error:
        what = f"compressed frames that cannot be separated ({type(error).__name__})"
        raise _refusal(name, what, "undamaged pixels") from error
    if len(found) < frames:
        raise _refusal(name, f"{len(found):,} compressed frames", f"{frames:,}")
    return iter(found[:frames])


def _refusal(name: str, found: str, needed: str) -> DamagedFileError:
    return DamagedFileError(name, found=found, needed=needed, remedy="send or copy the series again")


def _read_jpeg_header(data: bytes) -> _Codestream | None:
    """Read a JPEG or JPEG-LS header; return None for bytes that are neither."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME_MARKERS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, at + 4)
            return _Codestream(rows, columns, components, precision, _has_end(data))
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _read_jpeg_2000_header(data: bytes) -> _Codestream | None:
    """Read a JPEG 2000 header, bare or in a box; return None for other bytes, or more tiles than a picture has."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 512)
    if start < 0 or len(data) < start + 43:
        return None
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", data, start + 8)
    components, depth = struct.unpack_from(">HB", data, start + 40)
    if min(tile_width, tile_height) == 0 or (right // tile_width + 1) * (bottom // tile_height + 1) > _MOST_TILES:
        return None
    return _Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1, _has_end(data))


def _has_end(data: bytes) -> bool:
    """Whether the end marker is there; decoders fill what is cut off without saying so."""
    return _END in data[-4:] or data.rstrip(b"\0").endswith(_END)
