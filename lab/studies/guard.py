"""The guard: what a study holds of a store before its final step, with the held-out captions and videos out of reach.

Searching, choosing and training get a ``SealedStore``. It looks like a store and loads ``train`` and ``val`` of the
study's protocol; everything that could show more raises ``SealedError``, which is a bug in the study and not a mistake
of its user. ``unseal`` gives the store itself, once, and only ``lab.studies.final`` calls it.

A class cannot stop code that is out to break it. It stops code that reads the test split without meaning to.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.store import Coverage, Store

#: What a study may learn and choose from.
SEEN = ("train", "val")


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
        self.__store: Store | None = store
        self.path: Path = store.path
        self.name, self.protocols = store.name, store.protocols
        self.passport = store.passport
        self.protocol = protocol or store.protocols[0]
        store.splits_of(self.protocol)  # so that an unknown one is told here

    def unseal(self) -> Store:
        """The store itself, for the final step. Raises ``SealedError`` the second time."""
        store, self.__store = self.__inner(), None
        return store

    # -- what may be known --------------------------------------------------------------------------------------

    def splits_of(self, protocol: str | None = None) -> tuple[str, ...]:
        """See ``Store``."""
        return self.__inner().splits_of(protocol)

    def coverage(self, split: str, protocol: str | None = None) -> Coverage:
        """How many videos and captions a split has, which tells nothing about them."""
        return self.__inner().coverage(split, protocol)

    def load(
        self,
        split: str,
        protocol: str | None = None,
        device: torch.device | str = "cpu",
        *,
        audio: Literal["clip", "segments"] | None = "clip",
        words: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Texts, Videos]:
        """``train`` or ``val`` of the study's protocol; another protocol's could hold videos of this one's test."""
        if split not in SEEN or (protocol or self.protocol) != self.protocol:
            raise SealedError(f"split '{split}' of {protocol} is sealed: a study chooses on train and val")
        return self.__inner().load(split, self.protocol, device, audio=audio, words=words, dtype=dtype)

    def nothing_of(self, split: str | None = None, protocol: str | None = None) -> LabError:
        """See ``Store``: it says how many videos there are and that none could be read."""
        return self.__inner().nothing_of(split, protocol)

    @cached_property
    def videos(self) -> list[dict[str, Any]]:
        """The table, with held-out rows closed."""
        return list(self.__closed(self.__inner().videos))

    @cached_property
    def captions(self) -> list[dict[str, Any]]:
        """The table, with held-out rows closed."""
        return list(self.__closed(self.__inner().captions))

    def array(self, name: str) -> Any:
        """An array's shape and type."""
        return HeldOutArray(name, self.__inner().array(name))

    def __inner(self) -> Store:
        if self.__store is None:
            raise SealedError("the final step has begun: nothing can be chosen any more")
        return self.__store

    def __closed(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            split = row["splits"].get(self.protocol)
            yield row if split in SEEN else HeldOutRow(splits={self.protocol: split} if split else {})

    # -- what is out of reach -----------------------------------------------------------------------------------

    @property
    def group(self) -> NoReturn:  # type: ignore[override]
        """Out of reach."""
        raise SealedError("the zarr group of a store was asked for: load a split with store.load('train')")

    @property
    def ledger(self) -> NoReturn:
        """Out of reach: it names all videos."""
        raise SealedError("the ledger of a store was asked for: a study has no use for it")

    def read(self, name: str, rows: slice = slice(None)) -> NoReturn:
        """Out of reach."""
        raise SealedError(f"the array '{name}' was asked for: load a split with store.load('train')")

    def table(self, name: Literal["videos", "captions", "ledger"]) -> NoReturn:
        """Out of reach."""
        raise SealedError(f"the table '{name}' was asked for: its held-out rows are not for a study")

    def videos_of(self, rows: Any, audio: Any = None, dtype: Any = None) -> NoReturn:
        """Out of reach."""
        raise SealedError("rows of videos were asked for: load a split with store.load('train')")

    def frame_times_s(self, rows: Any) -> NoReturn:
        """Out of reach."""
        raise SealedError("frame times were asked for: only the final step of a study may read them")

    def thumbnail_file(self, row: int) -> NoReturn:
        """Out of reach."""
        raise SealedError("a thumbnail was asked for: only the final step of a study may read it")
