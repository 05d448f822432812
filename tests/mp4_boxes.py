"""Takes mp4 files apart for the tests that need what no encoder of ours writes."""

from __future__ import annotations

import struct


def find(data: bytes, path: str) -> tuple[int, int]:
    """(start, end) of the box at ``moov/trak[1]/tkhd``: names from the outside in, the number of equals in brackets."""
    start, end = 0, len(data)
    for step in path.split("/"):
        name, _, number = step.partition("[")
        left = int(number.rstrip("]") or 0) if number else 0
        while True:
            size, kind = struct.unpack(">I4s", data[start : start + 8])
            if kind == name.encode():
                if left == 0:
                    break
                left -= 1
            start += size
            if start >= end:
                raise KeyError(path)
        start, end = start + 8, start + size
    return start - 8, end


def replace(data: bytes, path: str, body: bytes) -> bytes:
    """The file with another body in a box behind which no media data lie; the lengths of its parents follow."""
    start, end = find(data, path)
    grown = len(body) - (end - start - 8)
    out = bytearray(data[:start] + struct.pack(">I", len(body) + 8) + data[start + 4 : start + 8] + body + data[end:])
    steps = path.split("/")
    for depth in range(1, len(steps)):
        at, _ = find(data, "/".join(steps[:depth]))
        (size,) = struct.unpack(">I", data[at : at + 4])
        struct.pack_into(">I", out, at, size + grown)
    return bytes(out)


def turn(data: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """With another display matrix in the first track's header: (x, y) is shown at (a x + c y, b x + d y)."""
    start, _ = find(data, "moov/trak/tkhd")
    one = 1 << 16
    out = bytearray(data)
    struct.pack_into(">9i", out, start + 48, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    return bytes(out)


def edit(data: bytes, *parts: tuple[float, float]) -> bytes:
    """Show these (first second, seconds) of the first track one after the other."""
    media, _ = find(data, "moov/trak/mdia/mdhd")
    movie, _ = find(data, "moov/mvhd")
    (media_hz,) = struct.unpack(">I", data[media + 20 : media + 24])
    (movie_hz,) = struct.unpack(">I", data[movie + 20 : movie + 24])
    first, _ = find(data, "moov/trak/edts/elst")
    _, count, _, lead = struct.unpack(">IIIi", data[first + 8 : first + 24])
    assert count == 1
    rows = [struct.pack(">IiI", round(s * movie_hz), lead + round(at * media_hz), 1 << 16) for at, s in parts]
    return replace(data, "moov/trak/edts/elst", struct.pack(">II", 0, len(rows)) + b"".join(rows))
