"""Thumbnails: the JPEGs of a unit's frames in one zip archive, replaced as a whole by a rename.

``thumbnails/000011.zip`` holds ``000187-003.jpg``: frame 3 of the video in row 187. A plain archive, because the
pictures are for people and for pages; nothing computes on them.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.atomic import replace_bytes
from lab.errors import LabError

#: Of a unit's pictures, which have some 10 MB.
MOST_BYTES = 1 << 28


def read(file: Path) -> dict[int, list[bytes]]:
    """Row → the JPEGs of its frames, in order; empty if there is no archive. Raises ``LabError`` for a damaged one."""
    pictures: dict[int, list[bytes]] = {}
    if not file.is_file():
        return {}
    try:
        with zipfile.ZipFile(file) as archive:
            if (size := sum(info.file_size for info in archive.infolist())) > MOST_BYTES:
                raise ValueError(f"its pictures are said to have {size:,} bytes, {MOST_BYTES:,} are allowed")
            for name in sorted(archive.namelist()):
                pictures.setdefault(int(name.partition("-")[0]), []).append(archive.read(name))
    # RuntimeError: encrypted, or compressed in a way that zipfile does not know
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError) as error:
        raise LabError(f"{file} is damaged ({error}): delete it, its frames are then shown without pictures") from None
    return pictures


def replace(file: Path, pictures: Mapping[int, Sequence[bytes]]) -> None:
    """Writes the archive anew; the same pictures give the same bytes."""
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w") as archive:
        for row, frames in sorted(pictures.items()):
            for place, picture in enumerate(frames):
                archive.writestr(zipfile.ZipInfo(f"{row:06d}-{place:03d}.jpg"), picture)
    replace_bytes(file, blob.getvalue())
