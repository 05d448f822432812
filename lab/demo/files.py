"""Pictures and files of a store's videos, for the page.

A file is named by a row alone, and lies below the root, or is not given: so a link that leads elsewhere shows nothing,
nor does a store whose table was written to point at other files.
"""

from __future__ import annotations

import functools
from pathlib import Path

from lab.store import Store, thumbnails


class Files:
    """``root``: where the videos lie, if not where the store's pass saw them last."""

    def __init__(self, store: Store, root: Path | None = None) -> None:
        self.store = store
        self.root = (root or last_root(store)).expanduser().resolve()
        self._archive = functools.lru_cache(64)(thumbnails.read)

    def pictures(self, row: int) -> list[bytes]:
        """A JPEG of every sampled frame of the video in a row; an empty list if it has none."""
        return self._archive(self.store.thumbnail_file(row)).get(row, [])

    def video(self, row: int) -> Path | None:
        """The file of the video in a row; None if it is not there."""
        named = self.store.videos[row]["file"] if row < len(self.store.videos) else ""
        if not named or "\0" in named:
            return None
        path = (self.root / named).resolve()
        return path if path.is_relative_to(self.root) and path.is_file() else None


def last_root(store: Store) -> Path:
    """Where the videos were last seen, as ``features/README.md`` describes it."""
    try:
        return Path((store.path / "tables" / "root.txt").read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        return store.path / "absent"
