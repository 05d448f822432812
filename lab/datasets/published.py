"""Data sets that others published: one way from their lists and captions to a Collection.

A module of one says what its files hold (``listing``). Here the files are held against the published ones, videos are
matched, and what differs is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.datasets.assemble import Row, assemble, refuse_split
from lab.datasets.collection import Collection, Expected, Splits
from lab.datasets.reading import check_published
from lab.datasets.tree import Tree, Videos
from lab.download import Source

#: Id -> its splits, in the order of the lists, and id -> its captions.
Listing = tuple[Mapping[str, Splits], Mapping[str, Sequence[Row]]]


@dataclass(frozen=True)
class Published:
    """A ``Dataset`` of lists and captions; see there for what has no comment."""

    name: str
    protocols: tuple[str, ...]
    expected: Expected
    instructions: str
    listing: Callable[[Tree], Listing]  # what to tell goes to the tree's notes
    sources: tuple[Source, ...] = ()
    md5s: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of files that ``listing`` finds, by their names
    suffixes: tuple[str, ...] = (".mp4",)  # of its videos as documented, the preferred first
    find: Callable[[Videos, str], Path | None] = Videos.file  # the file of an id
    default_sampling: str = "midpoints-12"

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """See ``Dataset.read``; a protocol of which nothing is there is left out."""
        refuse_split(self.name, split)
        tree = Tree(root, self.name)
        videos, captions = self.listing(tree)
        files = Videos(tree, self.suffixes)
        matched = {key: self.find(files, key) for key in videos}
        known = [path for path in dict.fromkeys(tree.found) if path.name in self.md5s]
        checked = [note for path in known for note in check_published(path, self.md5s[path.name])]
        held = {protocol for splits in videos.values() for protocol in splits}
        return assemble(
            self.name,
            tree.root,
            videos=videos,
            captions=captions,
            files=matched,
            protocols=[protocol for protocol in self.protocols if protocol in held] or self.protocols,
            expected=self.expected,
            notes=[*tree.notes, *checked, *files.notes()],
        )
