"""Files that are there whole or not at all, whenever the machine stops."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from lab.errors import LabError


def replace_text(file: Path, text: str) -> None:
    """``replace_bytes`` in UTF-8; the odd bytes of a file name (lone surrogates here) become the escapes of JSON."""
    replace_bytes(file, text.encode("utf-8", "backslashreplace"))


def replace_bytes(file: Path, data: bytes) -> None:
    """Writes a file through a temporary one and a rename; on an error the old content stands and nothing is left.

    Raises ``LabError`` where a link or a device stands: a rename would put a file in its place, of ``/dev/null``, too.
    """
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise LabError(f"{file} is a {_kind(file)}: name a file")
    # Not the pid: shards on two machines may share it, and the directory.
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with fresh.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _kind(file: Path) -> str:
    return "link" if file.is_symlink() else "directory" if file.is_dir() else "device or a pipe"
