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

    A link to a file gives way, what it leads to stays as it is: so stores can be kept where each file is a link (DVC,
    git-annex). Raises ``LabError`` as ``require_replaceable``.
    """
    require_replaceable(file)
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


def require_replaceable(file: Path, *, links: bool = True) -> None:
    """Raises ``LabError`` where a device, a pipe, a directory or a link to such stands.

    A rename would put a file in its place, in that of ``/dev/null``, too. ``links=False``, for what a user names:
    nor may a link to a file stand there, as ``/dev/stdout`` may be one.
    """
    if not links and file.is_symlink():
        kind = "link"
    elif file.exists() and not file.is_file():
        kind = "directory" if file.is_dir() else "device or a pipe"
    else:
        return
    raise LabError(f"{file} is a {kind}: name a file")
