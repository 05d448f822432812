"""Pictures and files of a store's videos, for the page.

A file is named by a row alone. It is given if it lies below the root, links followed, and has a video's suffix; so a
name with ``..`` or a link that leads out of the root shows nothing. The root itself is what the store says, if no other
is given: of a store that somebody else made it may be any directory, and then all videos below it can be shown, to
whoever can ask this machine's loopback. What is no video by its name is never given.
"""

from __future__ import annotations

import functools
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
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
        path = self._target(row)
        fitting = path is not None and self._inside(path) and path.suffix.lower() in VIDEO_SUFFIXES
        return path if fitting and path is not None and path.is_file() else None

    def leads_out(self, row: int) -> bool:
        """Whether the file of the video in a row would lie out of the root, there or not."""
        path = self._target(row)
        return path is not None and not self._inside(path)

    def told_of_links(self, rows: Iterable[int]) -> str:
        """How many of some videos are links that lead out of the root, and what shows them; '' if none is."""
        # Folders are few and files many: of most, one question to the file system tells that they are no links.
        folder = functools.cache(Path.resolve)
        ways: Counter[Path | None] = Counter()
        for row in rows:
            path = self._target(row, folder)
            if path is not None and not self._inside(path) and path.is_file():
                below = Path(self.store.videos[row]["file"]).parts
                same = path.parts[-len(below) :] == below
                ways[path.parents[len(below) - 1] if same else None] += 1
        if not ways:
            return ""
        told = f"{ways.total()} videos are links that lead out of {self.root} and are not played"
        remedies = [f"--root {shlex.quote(str(root))} plays {count}" for root, count in ways.most_common() if root]
        return f"{told}: {' or '.join(remedies[:3]) or 'have the files themselves there, or hard links'}"

    def _inside(self, path: Path) -> bool:
        return self.root is not None and path.is_relative_to(self.root)

    def _target(self, row: int, folder: Callable[[Path], Path] | None = None) -> Path | None:
        """Where a row's file is, links followed, those of its folder by ``folder``; None where that cannot be told."""
        named = self.store.videos[row]["file"] if row < len(self.store.videos) else ""
        if self.root is None or not named or "\0" in named:
            return None
        path = self.root / named
        try:
            if folder is None or path.name in ("", ".."):
                return path.resolve()
            path = folder(path.parent) / path.name
            return path.resolve() if path.is_symlink() else path
        except (OSError, RuntimeError):  # links that lead to each other
            return None
