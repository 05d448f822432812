"""Files that are there whole or not at all, whenever the machine stops, and its power too."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError

#: What some network drives and FUSE say of a directory, which they keep by themselves.
NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def replace_text(file: Path, text: str) -> None:
    """``replace_bytes`` in UTF-8; the odd bytes of a file name (lone surrogates here) become the escapes of JSON."""
    replace_bytes(file, text.encode("utf-8", "backslashreplace"))


def replace_bytes(file: Path, data: bytes) -> None:
    """Writes a file as ``replaced`` does."""
    with replaced(file) as fresh, fresh.open("wb") as stream:
        stream.write(data)


@contextmanager
def replaced(file: Path) -> Iterator[Path]:
    """A path for a file that takes the place of ``file`` when the body ends; on an error nothing of it is left.

    Its content is on the disk before it has that name: after a power cut there is the old one or the new one. A link
    to a file gives way, what it leads to stays as it is: so stores can be kept where each file is a link (DVC,
    git-annex). Raises ``LabError`` as ``require_replaceable``.
    """
    require_replaceable(file)
    # Not the pid: shards on two machines may share it, and the directory.
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        yield fresh
        sync([fresh])
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def sync(paths: Iterable[Path]) -> None:
    """Waits until files, and the names in directories, are on the disk."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if not (error.errno in NO_SYNC and path.is_dir()):
                raise
        finally:
            os.close(descriptor)


def require_room_for(path: Path) -> None:
    """Raises ``OSError`` where nothing can be made at ``path``: before the work, not after; or ``LabError``.

    Tried, which leaves nothing: permissions tell neither of a read-only disk nor of what a network drive allows.
    """
    above = next(folder for folder in path.absolute().parents if folder.exists() or folder.is_symlink())
    if not above.exists():
        raise LabError(f"{above} is a link that leads nowhere: mount what it leads to, or name another path")
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


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
