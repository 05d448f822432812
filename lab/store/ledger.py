"""The ledger: what became of every video and modality, and why. Resuming is a query on it.

One newline-delimited JSON file for each block of videos (or of captions, for text), replaced as a whole by a rename, so
it is either before or after a unit of work and never in between. ``polars.read_ndjson("STORE/tables/ledger/*.ndjson")``
reads it all. A row: ``video``, ``modality`` (frames, audio, text), ``status``, ``reason``, ``seconds`` (CPU time spent
decoding), ``bytes`` (the file's size then), ``digest`` (of its size and its ends then; empty: unknown), ``modified_ns``
(when it had last been written to; 0: unknown).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lab.atomic import replace_text
from lab.errors import LabError

#: Statuses after which the modality's features are in the store.
STORED = frozenset({"ok", "truncated", "silent", "too_short"})
#: Statuses that are a fact about the file, not a failure.
FACTS = STORED | {"no_audio"}


@dataclass(frozen=True)
class Entry:
    """One row: the outcome of one modality of one video."""

    video: str
    modality: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    bytes: int = 0
    digest: str = ""
    modified_ns: int = 0

    @property
    def failed(self) -> bool:
        """Whether something is wrong with the file, or there is none."""
        return self.status not in FACTS


_KINDS = {each.name: {"str": str, "int": int, "float": int | float}[str(each.type)] for each in fields(Entry)}


def _entry(row: Any) -> Entry:
    """A row; what a newer version of the lab says besides is left out, as each of its fields is one that may be."""
    if not isinstance(row, dict):
        raise TypeError(f"a row is no {type(row).__name__}")
    return Entry(**{name: value for name, value in row.items() if name in _KINDS})


def videos_block(block: int) -> str:
    """The name of a block of videos."""
    return f"videos-{block:06d}"


def text_block(unit: int) -> str:
    """The name of the block of a unit of captions."""
    return f"text-{unit:06d}"


class Ledger:
    """The rows of a store, in files under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, block: str) -> list[Entry]:
        """The rows of one block, none if nothing was done there yet. Raises ``LabError`` on a damaged file."""
        file = self.folder / f"{block}.ndjson"
        try:
            # Iterated, not splitlines(): that would also split at U+2028, which JSON leaves as it is within a reason.
            with file.open(encoding="utf-8") as lines:
                rows = [_entry(json.loads(line)) for line in lines]
            if not all(isinstance(getattr(row, name), kind) for row in rows for name, kind in _KINDS.items()):
                raise TypeError("a field is of another type")
            return rows
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, RecursionError) as error:
            raise LabError(f"{file} is damaged ({error}): delete it, and the pass does that block again") from None

    def write(self, block: str, rows: Iterable[Entry]) -> None:
        """Replaces a block's rows in one step that survives a crash."""
        self.folder.mkdir(exist_ok=True)
        text = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
        replace_text(self.folder / f"{block}.ndjson", text)

    def update(self, block: str, rows: Iterable[Entry]) -> None:
        """Puts rows in, in place of those with the same video and modality."""
        merged = {(row.video, row.modality): row for row in [*self.read(block), *rows]}
        self.write(block, merged.values())

    def __iter__(self) -> Iterator[Entry]:
        for file in sorted(self.folder.glob("*.ndjson")):
            yield from self.read(file.stem)


def tally(entries: Iterable[Entry]) -> dict[tuple[str, str], int]:
    """Videos by (modality, status); captions of one video may have a ledger row in two blocks, it counts once."""
    distinct = {(entry.modality, entry.status, entry.video) for entry in entries}
    return dict(sorted(Counter((modality, status) for modality, status, _ in distinct).items()))


def complaints(entries: Iterable[Entry]) -> list[str]:
    """One line for each video and reason; a broken file fails in every modality, and is told once."""
    told: dict[tuple[str, str, str], list[str]] = {}
    for entry in entries:
        if entry.failed:
            told.setdefault((entry.video, entry.status, entry.reason), []).append(entry.modality)
    return [f"{video}  {'+'.join(names)}  {status}: {reason}" for (video, status, reason), names in told.items()]
