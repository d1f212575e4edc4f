"""Decode JPEG, JPEG-LS and JPEG 2000 frames for `bleedmap.io.dicom.decode`, which runs this file as a child process.

The native decoders crash, hang or take gigabytes on damaged data; here they can do so without harm. A request is a line
of JSON and the frame's bytes on standard input; a reply is a line of JSON and the decoded bytes on standard output.
The first reply, without bytes, says that it is ready, or why it cannot be.
"""

import json
import os
import sys
import tempfile
import time
from typing import Any, BinaryIO

try:
    import gdcm  # type: ignore[import-untyped]
    import jpeg_ls  # type: ignore[import-untyped]
    import openjpeg  # type: ignore[import-untyped,unused-ignore]

    MISSING = ""
except (ImportError, OSError, MemoryError) as error:
    MISSING = f"{type(error).__name__}: {error}"

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

MOST_BYTES = 2 << 30  # of this process; a frame of 2048 × 2048 takes under 0.3 GiB
MOST_S = 8  # of processor time for one frame, so that a busy machine does not count; 2048 × 2048 pixels take 1 s


def decode_by_gdcm(data: bytes, request: dict[str, Any]) -> bytes:
    """Decode JPEG: baseline, extended or lossless."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((request["columns"], request["rows"], 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(request["syntax"])))
    precision = request["precision"]
    image.SetPixelFormat(gdcm.PixelFormat(1, 8 if precision <= 8 else 16, precision, precision - 1, 0))
    return bytes(image.GetBuffer().encode("utf-8", "surrogateescape"))  # gdcm gives bytes as text


def decode_by_charls(data: bytes, request: dict[str, Any]) -> bytes:
    """Decode JPEG-LS."""
    return bytes(jpeg_ls.decode_pixel_data(data)[0])


def decode_by_openjpeg(data: bytes, request: dict[str, Any]) -> bytes:
    """Decode JPEG 2000."""
    return bytes(openjpeg.decode_pixel_data(data, version=2))  # type: ignore[attr-defined]


class Complaints:
    """Keeps what the decoders print: on damaged data gdcm prints a warning and goes on."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        for stream in (1, 2):
            os.dup2(self._file.fileno(), stream)

    def take(self) -> bytes:
        """Return all that was printed since the last call."""
        self._file.seek(0)
        printed = self._file.read(1 << 16)
        self._file.seek(0)
        self._file.truncate()
        return printed


def limit_time() -> None:
    """Let the system end this process when the next frame takes too long."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        soon = int(time.process_time()) + 1 + MOST_S
        resource.setrlimit(resource.RLIMIT_CPU, (soon if most < 0 else min(soon, most), most))


DECODERS = {"gdcm": decode_by_gdcm, "charls": decode_by_charls, "openjpeg": decode_by_openjpeg}


def answer(requests: BinaryIO, replies: BinaryIO, complaints: Complaints) -> None:
    """Answer requests until standard input ends."""
    while line := requests.readline():
        request = json.loads(line)
        data = requests.read(request["bytes"])
        limit_time()
        try:
            decoded, error = DECODERS[request["decoder"]](data, request), ""
            if b"Corrupt" in complaints.take():
                decoded, error = b"", "damaged data"
        except Exception as why:
            decoded, error = b"", type(why).__name__
        reply(replies, decoded, error)


def reply(replies: BinaryIO, decoded: bytes, error: str) -> None:
    """Write one reply."""
    replies.write(json.dumps({"bytes": len(decoded), "error": error}).encode() + b"\n" + decoded)
    replies.flush()


def limit() -> None:
    """Keep to the memory that a frame may take, or to less where this process has less; leave no core file."""
    if resource is None:
        return
    limits = [one for one in resource.getrlimit(resource.RLIMIT_AS) if one != resource.RLIM_INFINITY]
    most = min([MOST_BYTES, *limits])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "wb")
    try:
        limit()
        printed = Complaints()
    except (OSError, ValueError) as error:  # of temporary files there is no folder, or no space in it
        MISSING = MISSING or f"{type(error).__name__}: {error}"
    reply(own, b"", MISSING)
    if not MISSING:
        answer(sys.stdin.buffer, own, printed)
