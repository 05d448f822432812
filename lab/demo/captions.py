"""The captions of the split that the page shows: those to pick, their features, and the log of looks at them.

Picking a caption shows where its own video ranks, and a video's captions are ranked too: looks at the ground truth. On
a held-out split they are logged, once for each head, as ``lab.evaluate`` does (``lab.reads``); typing a query is not,
since no answer to it is known, unless what is typed is one of the split's captions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.demo.heads import Menu
from lab.embeddings import Texts
from lab.needs import Needs
from lab.reads import OPEN, Reader, load_split
from lab.store import Store

#: Captions that a list to pick from holds at most.
LISTED = 60


class Captions:
    """Of the split's captions those that have features and whose video is one of ``videos`` (rows of the store)."""

    def __init__(
        self, store: Store, menu: Menu, split: str, protocol: str, videos: NDArray[np.int64], command: str
    ) -> None:
        self.store, self.menu, self.split, self.protocol, self.command = store, menu, split, protocol, command
        self._videos = videos.tolist()
        encoded = store.read("encoded") if "text" in store.passport else np.zeros(len(store.captions))
        mine = [number for number, one in enumerate(store.captions) if one["splits"].get(protocol) == split]
        there = set(self._videos)
        self.rows = [number for number in mine if encoded[number] and store.captions[number]["video"] in there]
        self._known = {_plain(store.captions[number]["text"]) for number in mine}
        self._texts: Texts | None = None
        self._logged: set[str] = set()

    def one(self, row: int) -> dict[str, Any]:
        """A caption's row, its text, and its video's id."""
        held = self.store.captions[row]
        return {"row": row, "text": held["text"], "video": self.store.videos[held["video"]]["id"]}

    def holding(self, wanted: str = "", count: int = LISTED) -> dict[str, Any]:
        """Captions that hold all of some words."""
        words = wanted.lower().split()
        fitting = [row for row in self.rows if all(word in self.store.captions[row]["text"].lower() for word in words)]
        step = max(1, len(fitting) // count)  # from all over the split, not five of each of its first videos
        return {"of": len(fitting), "captions": [self.one(row) for row in fitting[::step][:count]]}

    def knows(self, text: str) -> bool:
        """Whether a text is one of the split's captions but for case and spacing."""
        return _plain(text) in self._known

    def look(self, keys: list[str]) -> Texts:
        """The captions' features for some heads; on a held-out split the look is logged, once for each head."""
        for key in keys:
            one = self.menu.head(key)  # two runs may share its label
            if self._texts is None or (self.split not in OPEN and key not in self._logged):
                reader = Reader(self.command, one.label, str(one.run) if one.run else None)
                needs = Needs(words="words" in self.store.group)  # any head's, and the word map's
                texts, videos = load_split(self.store, self.split, self.protocol, needs=needs, reader=reader)
                if videos.rows is None or videos.rows.tolist() != self._videos:
                    raise ValueError("a split's videos are those of its gallery")
                self._texts = texts
                self._logged.add(key)
        if self._texts is None:
            raise ValueError("captions are looked at under a head")
        return self._texts


def _plain(text: str) -> str:
    """A text without its case and its spacing, by which a typed one is known."""
    return " ".join(text.casefold().split())
