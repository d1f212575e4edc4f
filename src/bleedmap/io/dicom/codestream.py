"""What a compressed frame says of itself, read before a decoder allocates for it.

JPEG markers: ITU-T T.81 annex B, JPEG-LS: T.87 annex C; JPEG 2000 SIZ: T.800 annex A.5.1.
"""

import struct
from dataclasses import dataclass

_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # SOF0-15, SOF55; not DHT, JPG, DAC
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # without a length
_MOST_TILES = 1024
_END = b"\xff\xd9"  # of a picture, in all three


@dataclass(frozen=True)
class Codestream:
    """Size and depth of a frame, by its own header; and whether it has its end."""

    rows: int
    columns: int
    components: int
    precision: int
    ended: bool


def jpeg(data: bytes) -> Codestream | None:
    """Of JPEG or JPEG-LS; None for bytes that are neither."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME_MARKERS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, at + 4)
            return Codestream(rows, columns, components, precision, _ended(data))
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def jpeg_2000(data: bytes) -> Codestream | None:
    """Of a JPEG 2000 codestream, bare or in a box; None for other bytes, or more tiles than a picture has."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 512)
    if start < 0 or len(data) < start + 43:
        return None
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", data, start + 8)
    components, depth = struct.unpack_from(">HB", data, start + 40)
    if min(tile_width, tile_height) == 0 or (right // tile_width + 1) * (bottom // tile_height + 1) > _MOST_TILES:
        return None
    return Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1, _ended(data))


def _ended(data: bytes) -> bool:
    """Whether the end marker is there; decoders fill up what is cut off, and say nothing."""
    return _END in data[-4:] or data.rstrip(b"\0").endswith(_END)
