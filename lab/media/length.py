"""Whether a file ends before it should, told from its outermost structure: no decoding, a few reads of a few bytes.

FFmpeg takes a file that was cut off for a shorter one and says nothing. But mp4, AVI and Matroska state the length of
their outer parts, so a download that stopped half-way can be told from a clip that is meant to be short.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MATROSKA = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_CLUSTER = "1f43b675"
# What a segment and a cluster are made of: seek head, info, tracks, cues, tags, chapters, attachments; timestamp,
# blocks, block groups, position, previous size, silent tracks, encrypted blocks; void and checksum anywhere.
_PARTS = {
    *(_CLUSTER, "114d9b74", "1549a966", "1654ae6b", "1c53bb6b", "1254c367", "1043a770", "1941a469"),
    *("e7", "a3", "a0", "a7", "ab", "5854", "af", "ec", "bf"),
}
_ELEMENTS = 20_000  # a ten-minute video; beyond, damage is for the decoder to find
_BOXES = 100_000  # of a fragmented file; more is no video that anybody has
_PADDING = 2**20  # how far zeros behind the last box are looked at


@dataclass(frozen=True)
class Cut:
    """Where a file breaks off: one line for a reader, and whether a part with headers is what is missing."""

    reason: str
    header: bool


def cut_short(path: Path, size: int) -> Cut | None:
    """How a file of ``size`` bytes falls short of what it states itself; None where it does not or states nothing."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _avi(file, size)
        if head[:4] == _MATROSKA:
            return _matroska(file, size)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp"):
            return _boxes(file, size)
    return None


def _boxes(file: BinaryIO, size: int) -> Cut | None:
    """ISO base media: a chain of boxes, each with its length and a four-letter kind."""
    at = 0
    for _ in range(_BOXES):
        if at + 8 > size:
            return None  # whole boxes, or a few bytes behind the last that mean nothing
        file.seek(at)
        head = file.read(16)
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length == 0 and (kind == b"mdat" or not any(head + file.read(_PADDING))):
            return None  # a box that lasts to the end of the file; zeros behind the last
        if length < 8 or not all(32 <= c < 127 or c == 0xA9 for c in kind):
            return Cut(f"damaged at byte {at:,} of {size:,}", header=True)
        if at + length > size:
            return Cut(f"the file ends at byte {size:,} of {at + length:,}", header=kind in (b"moov", b"ftyp"))
        at += length
    return None


def _avi(file: BinaryIO, size: int) -> Cut | None:
    """RIFF: one chunk, or several in a file beyond a gigabyte. Recorders that crash leave a length of 0."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length == 0:
            return None
        if at + 8 + length > size:
            return Cut(f"the file ends at byte {size:,} of {at + 8 + length:,}", header=False)
        at += 8 + length + length % 2
    return None


def _matroska(file: BinaryIO, size: int) -> Cut | None:
    """EBML: a header, then a segment that has a length unless it was streamed."""
    file.seek(4)
    skip = _number(file)
    if skip is None:
        return None
    file.seek(skip, 1)
    if file.read(4) != _SEGMENT:
        return None
    length = _number(file)
    end = file.tell() + (length or 0)
    if end > size:
        return Cut(f"the file ends at byte {size:,} of {end:,}", header=False)
    return _elements(file, end) if length else None


def _elements(file: BinaryIO, end: int) -> Cut | None:
    """The chain of a segment's parts and of the blocks in its clusters; what is none of these is damage.

    FFmpeg leaps over damage to the next cluster and reports nothing.
    """
    at = file.tell()
    for _ in range(_ELEMENTS):
        if at >= end:
            return None
        file.seek(at)
        first = file.read(1)
        width = 9 - first[0].bit_length() if first and first[0] else 9
        kind = (first + file.read(width - 1)).hex() if width <= 4 else ""
        length = _number(file)
        if kind not in _PARTS or (length is None and kind != _CLUSTER):
            return Cut(f"damaged at byte {at:,} of {end:,}", header=False)
        at = file.tell() + (0 if kind == _CLUSTER else length or 0)
    return None


def _number(file: BinaryIO) -> int | None:
    """A length as EBML codes it: the leading zero bits say how many bytes; all ones mean unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    value = int.from_bytes(bytes([first[0] & (0xFF >> width)]) + rest, "big")
    return None if len(rest) < width - 1 or value == (1 << 7 * width) - 1 else value
