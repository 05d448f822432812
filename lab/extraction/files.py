"""A video's file as it is now, held against what the ledger says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lab.media.file import digest_of
from lab.store.ledger import Entry


@dataclass(frozen=True)
class Present:
    """A file without a look into it.

    A size of 0 is a file that cannot be read now: what is stored stays, as a disk may only be away.
    """

    path: Path
    size: int
    modified_ns: int

    @cached_property
    def digest(self) -> str:
        """See ``digest_of``: two short reads, so only where a row is of another time and of this size."""
        return digest_of(self.path)

    def is_of(self, entry: Entry) -> bool:
        """Whether a row is of this file, as far as can be told.

        By its size; where it was written to at another time than then, by its digest. Features that were made elsewhere
        and converted have 0 bytes in the ledger: of which file they are is not known, and they stay.
        """
        if not entry.failed and 0 in (self.size, entry.bytes):
            return True
        if entry.bytes != self.size or entry.modified_ns in (0, self.modified_ns):  # 0: a store from before there were
            return entry.bytes == self.size
        return bool(entry.digest) and self.digest in ("", entry.digest)

    def settled(self, entry: Entry | None, retry: bool) -> bool:
        """Whether the ledger's word stands: the file was read or failed, as it is now."""
        if entry is None or entry.status == "missing":
            return False
        if retry and (entry.failed or (entry.status == "truncated" and self.size > 0)):
            return False
        return self.is_of(entry)

    def dated(self, entry: Entry) -> Entry:
        """A row of this file, of its time now: a copy's need not be told by its ends again.

        The time was looked up before the ends were: of what comes between the two it is not the time.
        """
        moved = entry.bytes == self.size and entry.modified_ns not in (0, self.modified_ns)
        if not (moved and entry.digest and entry.digest == self.digest):
            return entry
        return replace(entry, modified_ns=self.modified_ns)


def look(path: Path) -> Present:
    """A file now."""
    try:
        found = path.stat()
    except OSError:
        return Present(path, 0, 0)
    return Present(path, found.st_size, found.st_mtime_ns)
