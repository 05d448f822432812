"""Downloads over HTTP that resume, check what arrived, and say what to do where there is no network."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lab.cli import bar
from lab.download.http import forget, host_of, transfer, unreachable
from lab.download.unpack import locked, unpack, unpacked
from lab.errors import LabError

__all__ = ["Source", "download", "fetch", "unpack"]

log = logging.getLogger(__name__)

CONNECT_S = 3.0  # without a network the whole answer, the start of Python included, is to come within five seconds


@dataclass(frozen=True)
class Source:
    """One file to be had at a public address, and where it goes below the root of its data set."""

    url: str
    file: str
    what: str = ""
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    unpack: bool = False


def fetch(source: Source, root: Path, *, timeout_s: float = CONNECT_S) -> Path:
    """The file of ``source`` under ``root``, downloaded unless it is there.

    A file in its place is complete (it gets its name only when it is) and kept if its checksum holds, without any
    network. What arrives goes to ``FILE.part``, from where a later call goes on.

    Raises:
        LabError: no connection within ``timeout_s``, the server refuses, the checksum is wrong (the part is deleted
            then), the disk is full, or somebody else is downloading the same file.
    """
    target = place(source, root)
    if target.exists():
        wrong = _wrong(target, source)
        if wrong:
            raise LabError(f"{target} is not the file that {source.url} had ({wrong}): move it away and run again")
        return target
    offline = unreachable([source.url], timeout_s)
    if offline:
        raise _missing([source], root, offline)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with _alone(part):
        transfer(source.url, part, target.name, source.size)
        wrong = _wrong(part, source)
        if wrong:
            forget(part)
            raise LabError(
                f"{target.name} from {source.url} arrived wrong ({wrong}) and was deleted: run again, or get it by hand"
            )
        with part.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut could leave the final name on an empty file
        part.replace(target)
        forget(part)
    return target


def download(name: str, sources: Sequence[Source], instructions: str, root: Path) -> None:
    """Bring every public file of the data set ``name`` under ``root``, and say how to get what is not public.

    A file that cannot be had does not keep the others from coming.

    Raises:
        LabError: some are missing in the end; it names each, where it is to be had, and where to put it. Or nothing is
            public, and there is no ``root`` with what was got by hand.
    """
    if not sources and not root.expanduser().exists():
        make = shlex.join(["mkdir", "-p", str(root)])
        raise LabError(f"nothing of {name} can be fetched: {instructions.strip()}; there is no root {root} yet: {make}")
    if instructions:
        log.info("%s: %s", name, instructions.strip())
    todo = [
        source
        for source in sources
        if not (source.unpack and unpacked(place(source, root), place(source, root).parent))
    ]
    wanted = [source for source in todo if not place(source, root).exists()]
    offline = unreachable([source.url for source in wanted], CONNECT_S) if wanted else {}
    lost = [source for source in wanted if host_of(source.url) in offline]
    failures = [str(_missing(lost, root, offline))] if lost else []
    for source in todo:
        if source in lost:
            continue
        try:
            file = fetch(source, root)
            log.info("%s: %s is here (%s)", name, file, source.what or source.url)
            if source.unpack:
                log.info("%s: %d files out of %s, which may be deleted", name, len(unpack(file, file.parent)), file)
        except LabError as error:
            failures.append(str(error))
    if failures:
        raise LabError("; ".join(failures))


def place(source: Source, root: Path) -> Path:
    """Where the file of ``source`` goes; LabError if that were outside ``root``."""
    relative = PurePosixPath(source.file)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise LabError(
            f"a source's file must lie below the root, got '{source.file}': correct it in the table of sources"
        )
    return root / relative


def _missing(sources: Sequence[Source], root: Path, offline: dict[str, str]) -> LabError:
    """What is missing, where it is to be had, where to put it."""
    hosts = dict.fromkeys(host_of(source.url) for source in sources)
    reasons = ", ".join(f"{host} ({offline[host]})" for host in hosts)
    files = "; ".join(f"{s.what or 'the file'}: get {s.url} and put it at {place(s, root)}" for s in sources)
    unpacking = " (and unpack it there)" if any(source.unpack for source in sources) else ""
    return LabError(f"cannot reach {reasons}, so this is missing: {files}{unpacking}")


def _wrong(file: Path, source: Source) -> str:
    """How ``file`` differs from what is known of ``source``, or nothing."""
    size = file.stat().st_size
    if source.size is not None and size != source.size:
        return f"{size:,} bytes, {source.size:,} expected"
    for kind, expected in (("sha256", source.sha256), ("md5", source.md5)):
        if expected:
            with file.open("rb") as stream, bar(size, f"{kind} of {file.name}", "B") as shown:
                digest = hashlib.new(kind, usedforsecurity=False)
                while block := stream.read(1 << 20):
                    digest.update(block)
                    shown.update(len(block))
            found = digest.hexdigest()
            return f"{kind} {found}, expected {expected}" if found != expected.lower() else ""
    return ""


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Only one process at a time fills ``part``; the lock is on the file itself, so a killed process leaves none."""
    with part.open("ab") as file:
        held = locked(file) and part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat())
        if not held:
            raise LabError(f"another process is downloading {part.with_suffix('')}: wait for it, or end it")
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_size == 0:
                    forget(part)
