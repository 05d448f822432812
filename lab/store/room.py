"""Room for a modality in a store: its arrays, and then its section in the passport, which says that they are there."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import zarr
from numpy.typing import NDArray

from lab.atomic import sync
from lab.errors import LabError
from lab.store import passport as passports
from lab.store.create import make_arrays
from lab.store.folder import Folder
from lab.store.layout import Spec
from lab.store.ledger import STORED
from lab.store.lock import alone
from lab.store.reader import Store

log = logging.getLogger(__name__)


def make_room(
    store: Store, modality: str, section: Mapping[str, Any], arrays: Sequence[Spec], **filled: NDArray[Any]
) -> Store:
    """The store with these arrays, some of them ``filled`` at once; nothing is done where there is room already.

    Raises ``LabError`` where the modality is there under another passport, where frames and texts would be of two
    widths, and where features are stored that the passport has lost.
    """
    path = store.path
    # Shards that start together all find a modality missing. The first makes room; had the others no second look, they
    # would make it anew over what the first has written by then.
    with alone(path):
        store = Store(path)
        if has_section(store, modality, section):
            return store
        _require_nothing_of(store, modality)
        if modality != "audio":
            _require_one_space(store, modality, section, arrays[0].shape[-1])
        group = zarr.open_group(Folder(path), mode="r+", use_consolidated=False)
        made = make_arrays(group, arrays)
        for name, values in filled.items():
            made[name][:] = values
        if modality == "frames":
            group.require_group("thumbnails")
        for pattern in (".zarr.json.*", "zarr.*.partial"):  # of a pass that was killed here; zarr warns at each listing
            for litter in path.glob(pattern):
                litter.unlink()
        sync(file for file in path.rglob("*") if file.is_dir())  # what the section tells of must outlast a power cut
        group.attrs.update({"passport": store.passport | {modality: dict(section)}})
        sync([path])
    return Store(path)


def has_section(store: Store, modality: str, section: Mapping[str, Any]) -> bool:
    """Whether a store already has the modality. Raises ``LabError`` if it was made under another passport."""
    remedy = "Use the settings and package versions that made it, or give the new features another --name"
    passports.require_same(store.passport, {modality: dict(section)}, str(store.path), remedy)
    return modality in store.passport


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
