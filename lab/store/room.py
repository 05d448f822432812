"""Room for a modality in a store: its arrays, and then its section in the passport, which says that they are there.

Each function returns the store as it is afterwards, and does nothing where there is room. Each raises ``LabError``
where the modality is there under another passport, where frames and texts would be of two widths, and where features
are stored that the passport has lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import ArrayLike

from lab.atomic import sync
from lab.errors import LabError
from lab.store import passport as passports
from lab.store.create import make_arrays
from lab.store.folder import Folder
from lab.store.layout import audio_arrays, frame_arrays, placed_words, text_arrays, token_rows
from lab.store.ledger import STORED
from lab.store.lock import alone
from lab.store.reader import Store

log = logging.getLogger(__name__)


def add_frames(path: Path, section: Mapping[str, Any], frames: int, dim: int) -> Store:
    """Room for F frames of D a video."""
    with _room(path, "frames", section) as (store, group):
        if group is not None:
            _require_one_space(store, "frames", section, dim)
            make_arrays(group, frame_arrays(len(store.videos), frames, dim))
            group.require_group("thumbnails")
    return Store(path)


def add_text(
    path: Path, section: Mapping[str, Any], dim: int, counts: ArrayLike, ids: ArrayLike, word: ArrayLike
) -> Store:
    """Room for the captions: ``counts`` (T,) word tokens each, ``ids`` and ``word`` of all tokens in a row.

    Every unit of captions begins at a chunk of its own, as wide as the widest unit, so that units share no file.
    """
    count, ids, word = (np.asarray(values, np.int64) for values in (counts, ids, word))  # an empty list is float
    if len(count) != (T := len(Store(path).captions)):
        raise ValueError(f"{len(count)} token counts for {T} captions")
    with _room(path, "text", section) as (store, group):
        if group is not None:
            _require_one_space(store, "text", section, dim)
            start, width, N = placed_words(count)
            made = make_arrays(group, text_arrays(T, N, width, dim))
            made["word_start"][:], made["word_count"][:] = start, count
            rows = token_rows(start, count)
            for name, values in (("token_ids", ids), ("token_word", word)):
                placed = np.full(N, -1, np.int32)
                placed[rows] = values
                made[name][:] = placed
    return Store(path)


def add_audio(path: Path, section: Mapping[str, Any], segments: int, dim: int) -> Store:
    """Room for a clip vector and up to S segment vectors of A a video."""
    with _room(path, "audio", section) as (store, group):
        if group is not None:
            make_arrays(group, audio_arrays(len(store.videos), segments, dim))
    return Store(path)


def has_section(store: Store, modality: str, section: Mapping[str, Any]) -> bool:
    """Whether a store already has the modality. Raises ``LabError`` if it was made under another passport."""
    remedy = "Use the settings and package versions that made it, or give the new features another --name"
    passports.require_same(store.passport, {modality: dict(section)}, str(store.path), remedy)
    return modality in store.passport


@contextmanager
def _room(path: Path, modality: str, section: Mapping[str, Any]) -> Iterator[tuple[Store, zarr.Group | None]]:
    """The store, and its group if the body has to make the arrays; afterwards the section is in the passport.

    Shards that start together all find a modality missing. The first makes room; had the others no second look,
    they would make it anew over what the first has written by then.
    """
    with alone(path):
        store = Store(path)
        if has_section(store, modality, section):
            yield store, None
            return
        _require_nothing_of(store, modality)
        group = zarr.open_group(Folder(path), mode="r+", use_consolidated=False)
        yield store, group
        for litter in path.glob(".zarr.json.*"):  # of a pass that was killed here; zarr warns of it at each listing
            litter.unlink()
        sync(file for file in path.rglob("*") if file.is_dir())  # what the section tells of must outlast a power cut
        group.attrs.update({"passport": store.passport | {modality: dict(section)}})
        sync([path])


def _require_nothing_of(store: Store, modality: str) -> None:
    if any(entry.modality == modality and entry.status in STORED for entry in store.ledger):
        raise LabError(
            f"{store.path} has features of {modality} by its ledger, and none by its passport: put zarr.json back from "
            "a copy, or make another store with --name"
        )


def _require_one_space(store: Store, modality: str, section: Mapping[str, Any], dim: int) -> None:
    """Frames and texts are compared, so they must be of two towers of one network, as far as can be told."""
    other = "text" if modality == "frames" else "frames"
    if other not in store.passport:
        return
    theirs, ours = (about.get("name", "unknown") for about in (store.passport[other], section))
    held = store.array("sentences" if other == "text" else "frames").shape[-1]
    if held != dim:
        raise LabError(
            f"frames and text must be as wide as each other: {store.path} has {other} by '{theirs}' with {held} dims, "
            f"{modality} by '{ours}' would have {dim}: name the CLIP of the {other} with --clip, or make another store "
            "with --name"
        )
    if theirs != ours:
        log.warning("%s: its %s is by '%s', the %s by '%s': nothing tells whether they belong together",
                    store.path, other, theirs, modality, ours)  # fmt: skip
