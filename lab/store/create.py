"""A new store: the tables of a collection and no features yet, there by one rename or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr

from lab.atomic import replace_text, sync
from lab.errors import LabError
from lab.store.folder import Folder
from lab.store.layout import SCHEMA, TABLES, Spec, video_arrays
from lab.store.reader import Store

if TYPE_CHECKING:
    from lab.datasets import Caption, Collection


def create_store(path: Path, collection: Collection, dataset: Mapping[str, Any] | None = None) -> Store:
    """A store with the tables of a collection and no features yet.

    ``dataset`` is that section of its passport, the collection's name and version where none is given.

    It appears at ``path`` by a rename, so a process that dies on the way leaves no half-made store. If another process
    was faster, its store is returned.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new-{secrets.token_hex(4)}")  # two hosts may share a pid and this directory
    try:
        about = {"name": collection.name, "version": collection.version} if dataset is None else dict(dataset)
        attributes = {"schema": SCHEMA, "name": collection.name, "protocols": list(collection.protocols)}
        group = zarr.create_group(
            Folder(fresh), zarr_format=3, attributes=attributes | {"passport": {"dataset": about}}
        )
        group.create_group(TABLES)
        write_tables(fresh, collection)
        make_arrays(group, video_arrays(len(collection.videos)))
        sync([fresh, *fresh.rglob("*")])
        try:
            fresh.rename(path)
            sync([path.parent])
        except OSError as error:
            if not path.exists():
                raise
            if not (path / "zarr.json").exists():
                raise LabError(
                    f"{path} is there already, and is no feature store: move it away, or give --name"
                ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Store(path)


def make_arrays(group: zarr.Group, specs: Iterable[Spec]) -> dict[str, Any]:
    """Arrays by name, empty, also where there were some.

    No compressor: float16 features do not compress (7 %), a codec would cost more than it saves.
    """
    return {
        spec.name: group.create_array(
            spec.name,
            shape=spec.shape,
            dtype=spec.dtype,
            chunks=spec.chunks,
            compressors=None,
            fill_value=spec.fill,
            overwrite=True,
        )
        for spec in specs
    }


def write_tables(store: Path, collection: Collection) -> None:
    """The tables of a collection, in place of those that are there, and where its files are."""
    both = zip(collection.videos, files_of(collection), strict=True)
    videos = [{"id": video.id, "file": file, "splits": dict(video.splits)} for video, file in both]
    captions = [{"video": c.video, "text": c.text, "splits": dict(c.splits)} | _truth(c) for c in collection.captions]
    for name, rows in (("videos", videos), ("captions", captions)):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        replace_text(store / TABLES / f"{name}.ndjson", "".join(lines))
    replace_text(store / TABLES / "root.txt", f"{collection.root}\n")


def files_of(collection: Collection) -> list[str]:
    """The file of each video below the root, empty where it has none."""
    return [os.path.relpath(video.file, collection.root) if video.file else "" for video in collection.videos]


def _truth(caption: Caption) -> dict[str, Any]:
    """What is known of a caption's ground truth, by column; no key where it is not, which most data sets never do."""
    start_s, end_s = caption.seconds or (None, None)
    known = {"start_s": start_s, "end_s": end_s, "needs_sound": caption.needs_sound}
    return {name: value for name, value in known.items() if value is not None}
