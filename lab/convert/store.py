"""What every way of making a store from something else needs: a fresh place, and all that is in an old one."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lab.atomic import require_room_for, sync
from lab.errors import LabError
from lab.store import Store
from lab.store.lock import writing

BLOCK_BYTES = 1 << 26


@contextmanager
def fresh_store(target: Path, force: bool) -> Iterator[Path]:
    """A path to make a store at, which takes the place of ``target`` when the body has ended without an error.

    Raises LabError where there is something at ``target`` already, unless ``force``, or where a pass writes to it, and
    OSError where nothing can be made beside it: all before the body.
    """
    if target.suffix != ".zarr":
        raise LabError(f"a store's name ends in .zarr, got {target}: call it {target.name}.zarr")
    if target.is_symlink():
        raise LabError(f"{target} is a link: name the directory that it leads to, or another one")
    if target.exists() and not force:
        raise LabError(f"{target} exists: choose another name, or replace it with --force")
    if target.exists() and not (target / "zarr.json").exists():
        raise LabError(f"{target} exists and is no feature store: move it away, --force replaces stores only")
    require_room_for(target)
    fresh, old = (target.with_name(f"{target.name}.new-{os.getpid()}-{word}") for word in ("made", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        with ExitStack() as held:
            if target.exists():
                held.enter_context(writing(target))
            yield fresh
            Store(fresh)  # what cannot be opened must not take a good store's place
            sync([fresh, *fresh.rglob("*")])
            if target.exists():
                target.rename(old)
            fresh.rename(target)
            sync([target.parent])
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Contents:
    """All that is in a store, by paths in it: zarr's groups (their attributes) and arrays, and files not zarr's."""

    groups: dict[str, dict[str, Any]]
    arrays: dict[str, Any]
    files: dict[str, Path]


def contents(store: Store) -> Contents:
    """What a copy of ``store`` must have. Locks and what else begins with a dot are left out.

    The directories are walked, since zarr lists no plain files and warns of those that it meets.
    """
    found = Contents({}, {}, {})
    _walk(store, store.path, found)
    return found


def _walk(store: Store, folder: Path, found: Contents) -> None:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(store.path).as_posix()
        if path.name.startswith(".") or path.name == "zarr.json":
            continue
        if path.is_file():
            found.files[name] = path
        elif (path / "zarr.json").is_file():
            node = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
            if node.get("node_type") == "array":
                found.arrays[name] = store.array(name)
                continue
            found.groups[name] = dict(node.get("attributes", {}))
        if path.is_dir():
            _walk(store, path, found)


def blocks(array: Any, multiple: int = 1) -> Iterator[slice]:
    """Slices over an array's first axis, of about BLOCK_BYTES at most and of whole multiples of so many rows."""
    row = array.dtype.itemsize * math.prod(array.shape[1:])
    step = max(1, BLOCK_BYTES // max(1, row) // multiple) * multiple
    for first in range(0, array.shape[0], step):
        yield slice(first, min(first + step, array.shape[0]))


def inside(folder: Path, name: str) -> Path:
    """``folder / name``. Raises LabError if that lies elsewhere."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name or not parts:
        raise LabError(f"'{name}' lies outside the store: the file that says so was not made by this lab")
    return folder / name
