"""The guard: what a study holds of a store before its final step, with the held-out captions and videos out of reach.

Searching, choosing and training get a ``SealedStore``. It looks like a store and loads ``train`` and ``val`` of the
study's protocol; whatever is not named here raises ``SealedError``, which is a bug in the study and not a mistake of
its user. ``unseal`` gives the store itself, once, and only ``lab.studies.final`` calls it.

A class cannot stop code that is out to break it. It stops code that reads the test split without meaning to.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NoReturn

from lab.embeddings import Texts, Videos
from lab.store import Store

#: What a study may learn and choose from.
SEEN = ("train", "val")
#: What a store says of itself as a whole, which tells nothing of single videos and captions.
TOLD = (
    *("path", "name", "protocols", "passport", "fingerprint", "warnings"),
    *("splits", "splits_of", "coverage", "nothing_of"),
)
#: What the guard has in place of the store's own.
GUARDED = ("protocol", "unseal", "load", "videos", "captions", "array")


class SealedError(ValueError):
    """Code of a study reached for what only its final step may see."""


class HeldOutRow(dict[str, Any]):
    """A table row of a held-out video or caption: its place in the splits is known, nothing else can be had."""

    def __missing__(self, key: str) -> NoReturn:
        raise SealedError(f"'{key}' of a held-out row was asked for: only the final step of a study may read it")


class HeldOutArray:
    """An array's shape and type, without its values, of which some are of held-out videos."""

    def __init__(self, name: str, array: Any) -> None:
        self.name, self.shape, self.dtype = name, tuple(array.shape), array.dtype

    def __getitem__(self, rows: object) -> NoReturn:
        raise SealedError(f"values of the array '{self.name}' were asked for: load a split with store.load('train')")


class SealedStore(Store):
    """A store of which only ``train`` and ``val`` of one protocol can be read."""

    def __init__(self, store: Store, protocol: str | None = None) -> None:
        self.__store, self.__sealed = store, True
        self.protocol = protocol or store.protocols[0]
        store.splits_of(self.protocol)  # so that an unknown one is told here

    def __getattribute__(self, name: str) -> Any:
        if name in GUARDED or name.startswith("_"):
            return super().__getattribute__(name)
        if name in TOLD:
            return getattr(self.__store, name)
        raise SealedError(f"'{name}' of a store was asked for: a study loads a split, with store.load('train')")

    def unseal(self) -> Store:
        """The store itself, for the final step. Raises ``SealedError`` the second time."""
        store, self.__sealed = self.__inner(), False
        return store

    def load(self, split: str, protocol: str | None = None, *given: Any, **options: Any) -> tuple[Texts, Videos]:
        """``train`` or ``val`` of the study's protocol; another protocol's could hold videos of this one's test."""
        if split not in SEEN or (protocol or self.protocol) != self.protocol:
            raise SealedError(f"split '{split}' of {protocol} is sealed: a study chooses on train and val")
        return self.__inner().load(split, self.protocol, *given, **options)

    @cached_property
    def videos(self) -> list[dict[str, Any]]:
        """The table, with held-out rows closed."""
        return list(self._closed(self.__inner().videos))

    @cached_property
    def captions(self) -> list[dict[str, Any]]:
        """The table, with held-out rows closed."""
        return list(self._closed(self.__inner().captions))

    def array(self, name: str) -> Any:
        """An array's shape and type."""
        return HeldOutArray(name, self.__inner().array(name))

    def __inner(self) -> Store:
        if not self.__sealed:
            raise SealedError("the final step has begun: nothing can be chosen any more")
        return self.__store

    def _closed(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            split = row["splits"].get(self.protocol)
            yield row if split in SEEN else HeldOutRow(splits={self.protocol: split} if split else {})
