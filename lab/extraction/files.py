"""A video's file as it is now, held against what the ledger says of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.media.file import digest_of
from lab.store.ledger import Entry


@dataclass(frozen=True)
class Present:
    """A file without a look into it. ``touched``: it was written to after the ledger last spoke of its block.

    A size of 0 is a file that cannot be read now: what is stored stays, as a disk may only be away.
    """

    path: Path
    size: int
    touched: bool

    @cached_property
    def digest(self) -> str:
        """See ``digest_of``: two short reads, so only where a file was touched and has the size that it had."""
        return digest_of(self.path)

    def settled(self, entry: Entry | None, retry: bool) -> bool:
        """Whether the ledger's word stands: the file was read or failed, as it is now."""
        if entry is None or entry.status == "missing":
            return False
        if (retry or self.touched) and (entry.failed or (entry.status == "truncated" and self.size > 0)):
            return False
        return entry.bytes == self.size if entry.failed else self.gave(entry)

    def gave(self, entry: Entry) -> bool:
        """Whether features are stored, of this file as far as can be told.

        Features that were made elsewhere and converted have 0 bytes in the ledger, and no digest: of which file they
        are is not known.
        """
        if entry.failed or self.size == 0 or entry.bytes == 0:
            return not entry.failed
        if entry.bytes != self.size or not (self.touched and entry.digest):
            return entry.bytes == self.size
        return self.digest in ("", entry.digest)


def look(path: Path, spoken_s: float) -> Present:
    """A file now; ``spoken_s`` is when the ledger last spoke of its block (``Ledger.written_s``)."""
    try:
        found = path.stat()
    except OSError:
        return Present(path, 0, False)
    return Present(path, found.st_size, found.st_mtime > spoken_s)
