"""Pictures and files of a store's videos, for the page.

A file is named by a row alone. It is given if it lies below the root, links followed, and has a video's suffix; so a
name with ``..`` or a link that leads out of the root shows nothing. The root itself is what the store says, if no other
is given: of a store that somebody else made it may be any directory, and then all videos below it can be shown, to
whoever can ask this machine's loopback. What is no video by its name is never given.
"""

from __future__ import annotations

import functools
from pathlib import Path

from lab.datasets.tree import VIDEO_SUFFIXES
from lab.store import Store, thumbnails
from lab.store.find import last_root


class Files:
    """``root``: where the videos lie, if not where the store's pass saw them last."""

    def __init__(self, store: Store, root: Path | None = None) -> None:
        self.store = store
        found = root if root is not None else last_root(store)
        self.root = None if found is None else found.expanduser().resolve()
        self._archive = functools.lru_cache(64)(thumbnails.read)

    def pictures(self, row: int) -> list[bytes]:
        """A JPEG of every sampled frame of the video in a row; an empty list if it has none."""
        return self._archive(self.store.thumbnail_file(row)).get(row, [])

    def video(self, row: int) -> Path | None:
        """The file of the video in a row; None if it is not there, or no video by its name."""
        named = self.store.videos[row]["file"] if row < len(self.store.videos) else ""
        if self.root is None or not named or "\0" in named:
            return None
        path = (self.root / named).resolve()
        fitting = path.suffix.lower() in VIDEO_SUFFIXES and path.is_relative_to(self.root)
        return path if fitting and path.is_file() else None
