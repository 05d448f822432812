"""Files of a store that are not as long as they must be, and what to delete so that the pass makes them again.

A disk that was full, a power cut or a copy that broke off leave such files. A chunk of an array holds the videos, or
the captions, of one block of the ledger, so no more than that is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from lab.store.layout import TABLES
from lab.store.ledger import text_block, videos_block
from lab.store.reader import Store

#: Arrays that are filled when room is made for captions, and not by the pass over them.
_FIXED = frozenset({"word_start", "word_count", "token_ids", "token_word"})
_OF_TEXT = frozenset({"sentences", "words", "encoded"})


def damaged(store: Store) -> Iterator[str]:
    """One line for each chunk that has not the bytes of one, with what mends it. No file is read.

    Nothing of the shards of a packed copy: how long they must be stands in them.
    """
    for name, array in sorted(store.group.arrays()):
        if array.shards is not None or array.compressors:
            continue
        wanted = prod(array.chunks) * array.dtype.itemsize
        for file in sorted((store.path / name / "c").rglob("*")):
            if file.is_file() and not litter(file) and (found := file.stat().st_size) != wanted:
                yield f"{file} is damaged, it has {found:,} bytes of {wanted:,}: {_remedy(store, name, file)}"


def litter(file: Path) -> bool:
    """Whether a kill left it while it was written: under our names for such files, or zarr's."""
    return file.name.startswith(".") or file.suffix == ".partial"


def _remedy(store: Store, name: str, file: Path) -> str:
    if "packed" in store.group.attrs:
        return "make the packed copy again"
    section = "text" if name in _OF_TEXT else "audio" if name.startswith("audio") else "frames"
    if name in _FIXED or "imported" in store.passport.get(section, {}):
        return "put it back from a copy, or make the store again"
    number = int(file.relative_to(store.path / name / "c").parts[0])
    block = (text_block if section == "text" else videos_block)(number)
    ledger = store.path / TABLES / "ledger" / f"{block}.ndjson"
    return f"delete it and {ledger}, and the pass that made the store does that block again"
