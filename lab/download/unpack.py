"""Archives from strangers: nothing is written outside the target, and nothing at all if one member would be.

Members go to a fresh directory beside their place and move into it at the end, so a refused, damaged or interrupted
archive leaves the target as it was. Limits: what comes out may be 200 times the archive's size (10 MB are always
granted; deflated text reaches 10 to 20, a bomb 1000), must fit the free space, and holds two million members at most.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import logging
import lzma
import os
import re
import reprlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from lab.cli import bar
from lab.errors import LabError

log = logging.getLogger(__name__)

MAX_RATIO = 200
GRANTED_BYTES = 10_000_000
MAX_MEMBERS = 2_000_000
_BLOCK = 1 << 20
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, UnicodeError)
_NAMES = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


@dataclass(frozen=True)
class _Member:
    """A file (``content``), a link (to a path from the top of the archive), or neither: a device or a pipe."""

    name: str
    link: str = ""
    content: IO[bytes] | None = None


def unpack(archive: Path, target: Path, *, max_ratio: float = MAX_RATIO) -> list[Path]:
    """The files of a zip or tar (plain, gz, bz2, xz) under ``target``; done once, the second time is only a look.

    A link to a file of the archive becomes a second copy of it; links to directories are left out with a warning.

    Raises:
        LabError: no archive, damaged, locked by a password, a member outside the target, a device, a link that leads
            outside, or more than the limits above; it names the member, and nothing is written.
    """
    done = unpacked(archive, target)
    if done:
        return done
    if not archive.is_file():
        raise LabError(f"{archive} is no file: an archive is needed to unpack")
    target.mkdir(parents=True, exist_ok=True)
    prefix = f".{archive.name}.unpacking-"
    with archive.open("rb") as held:
        if not locked(held):
            raise LabError(f"another process is unpacking {archive}: wait for it, or end it")
        for left in target.glob(f"{glob.escape(prefix)}*"):  # of a process that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=target) as fresh:
            names = _Extraction(archive, Path(fresh), max_ratio).run()
            paths = _move(Path(fresh), target, names)
        _remember(archive, target, names)
    return paths


def locked(file: IO[bytes]) -> bool:
    """Whether this process now holds the lock on an open file; also true where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.debug("no lock on %s: %s", file.name, error)
    return True


def unpacked(archive: Path, target: Path) -> list[Path]:
    """What ``archive`` (which may be gone by now) left under ``target``, if all of it is still there; else nothing."""
    try:
        note = json.loads(_marker(archive).read_text(encoding="utf-8"))
        if archive.exists() and [archive.stat().st_size, archive.stat().st_mtime_ns] != note["archive"]:
            return []
        if note["target"] != os.path.relpath(target, archive.parent):
            return []
        paths = [target / name for name in note["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return paths if all(path.exists() for path in paths) else []


class _Extraction:
    """One archive into one empty directory, counting what it writes."""

    def __init__(self, archive: Path, folder: Path, max_ratio: float) -> None:
        self.archive, self.folder = archive, folder
        self.allowed = max(GRANTED_BYTES, int(max_ratio * archive.stat().st_size))
        self.free = shutil.disk_usage(folder).free
        self.written = 0
        self.files: dict[str, None] = {}
        self.links: dict[str, str] = {}

    def run(self) -> list[str]:
        """The names of the files written, sorted."""
        try:
            with bar(None, f"unpacking {self.archive.name}", "B") as shown:
                for count, member in enumerate(_members(self.archive)):
                    if count >= MAX_MEMBERS:
                        raise self.refusal(f"more than {MAX_MEMBERS:,} members")
                    self.take(member)
                    shown.update(self.written - shown.n)
            for name in self.links:
                self.follow(name)
            return sorted(self.files)
        except LabError:
            raise
        except RuntimeError as error:  # zipfile: encrypted; or a compression that it does not know
            raise LabError(f"{self.archive} cannot be unpacked ({error}): unpack it by hand") from None
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno in _NAMES:  # a file within a file, a name of 400 letters
                name = reprlib.repr(Path(error.filename or "").name)
                raise self.refusal(f"no file can be called {name} there ({error.strerror})") from None
            if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
                raise
            raise LabError(f"{self.archive} is damaged ({error}): delete it and get it again") from None

    def take(self, member: _Member) -> None:
        """Write a file, or keep a link for later."""
        name = self.inside(member.name)
        if member.link:
            self.links[name] = self.inside(member.link, f"link '{member.name}' to ")
        elif member.content is None:
            raise self.refusal(f"'{member.name}' is a device or pipe")
        else:
            self.write(name, member.content)

    def inside(self, name: str, what: str = "") -> str:
        """``name`` as a clean relative path; LabError if it is none, or leads out of the target."""
        slashed = name.replace("\\", "/")  # archives made on Windows; on other systems a backslash is a letter
        parts = PurePosixPath(slashed).parts
        if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or ".." in parts or "\0" in name:
            raise self.refusal(f"{what}'{name}' lies outside the target")
        return "/".join(parts)

    def write(self, name: str, content: IO[bytes]) -> None:
        path = self.folder / name
        if not name or path.is_dir():
            raise self.refusal(f"'{name}' is a file and a directory at once")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.files[name] = None
        with path.open("wb") as file:
            while block := content.read(_BLOCK):
                self.written += len(block)
                if self.written > self.allowed:
                    raise self.refusal(f"it unpacks to more than {self.allowed:,} bytes, at '{name}'")
                if self.written > self.free:
                    raise LabError(
                        f"{self.archive} needs more than the {self.free:,} bytes free: free some space and run again"
                    )
                file.write(block)

    def follow(self, name: str) -> None:
        """Make a link, met anywhere in the archive, a second copy of the file that it leads to."""
        seen, goal = {name}, self.links[name]
        while goal in self.links and goal not in seen:
            seen.add(goal)
            goal = self.links[goal]
        if goal in self.files:
            with (self.folder / goal).open("rb") as content:
                self.write(name, content)
        else:
            log.warning(
                "%s: link '%s' leads to no file of the archive ('%s') and is left out", self.archive.name, name, goal
            )

    def refusal(self, why: str) -> LabError:
        return LabError(f"{self.archive} is refused: {why}. Nothing was unpacked; get it from a source that you trust")


def _members(archive: Path) -> Iterator[_Member]:
    """All but directories, which files bring along.

    Tar is asked first: a tar that ends with a zip would pass for a zip, but no zip for a tar.
    """
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for info in tar:
                if info.issym():
                    yield _Member(info.name, _beside(info.name, info.linkname))
                elif info.islnk():
                    yield _Member(info.name, info.linkname)
                elif not info.isdir():
                    yield _Member(info.name, content=tar.extractfile(info) if info.isreg() else None)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if entry.is_dir():
                    continue
                with zipped.open(entry) as content:
                    if kind == stat.S_IFLNK:
                        yield _Member(entry.filename, _beside(entry.filename, content.read(4096).decode()))
                    else:
                        yield _Member(entry.filename, content=content if kind in (0, stat.S_IFREG) else None)
    else:
        raise LabError(f"{archive} is neither a zip nor a tar archive: delete it and get it again")


def _beside(name: str, link: str) -> str:
    """A symbolic link's target counts from its own directory; a hard link's, from the top of the archive."""
    return os.path.normpath(link if link.startswith("/") else PurePosixPath(name).parent / link)


def _move(fresh: Path, target: Path, names: list[str]) -> list[Path]:
    for name in names:
        if (target / name).is_dir():
            raise LabError(f"{target / name} is a directory where the archive has a file: move it away and run again")
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(fresh / name, target / name)
    return [target / name for name in names]


def _marker(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.unpacked")


def _remember(archive: Path, target: Path, names: list[str]) -> None:
    info = archive.stat()
    note = {
        "archive": [info.st_size, info.st_mtime_ns],
        "target": os.path.relpath(target, archive.parent),
        "files": names,
    }
    with suppress(PermissionError):  # an archive in a place that is not ours is unpacked again next time
        _marker(archive).write_text(json.dumps(note), encoding="utf-8")
