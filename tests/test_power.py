"""A power cut: of what was written only that is sure to be there which was synced before, and a ledger says no more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from synthetic import BROKEN, T, World, make_world

from lab import open_store
from lab.store import UNIT_CAPTIONS
from lab.store.ledger import Entry, text_block
from lab.store.writer import StoreWriter


class Disk:
    """Holds what was synced: content by file, names by directory. The ledger's names get there by themselves.

    That is the worst that a kernel may do, which writes when it likes and in any order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, image: Path) -> None:
        self.root, self.image, self.cuts = root, image, 0
        self.files: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.held: list[int] = []  # open, so that no number of a file is given to another one
        self.meanwhile: Callable[[], None] = lambda: None
        fsync = os.fsync

        def noted(descriptor: int) -> None:
            self.meanwhile()
            fsync(descriptor)
            self.held.append(os.dup(descriptor))
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_dir():
                self.names[path.stat().st_ino] = inodes(path)
            else:
                self.files[path.stat().st_ino] = path.read_bytes()

        monkeypatch.setattr(os, "fsync", noted)

    def cut(self) -> Path:
        """What is found when the power is back."""
        self.cuts += 1
        made = self.image / str(self.cuts)
        self._restore(self.root, self.root.stat().st_ino, made)
        return made

    def _restore(self, now: Path, number: int, made: Path) -> None:
        """A directory that is ``now`` there, or was under this number, as ``made``."""
        made.mkdir(parents=True)
        names = self.names.get(number, {}) | ({"ledger": 0} if (now / "ledger").is_dir() else {})
        if now.name == "ledger":
            names = inodes(now)
        for name, inode in names.items():
            if inode in self.names or (now / name).is_dir():
                self._restore(now / name, inode, made / name)
            else:
                (made / name).write_bytes(self.files.get(inode, b""))


def inodes(folder: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(folder)}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    (tmp_path / "disk").mkdir()
    made = Disk(monkeypatch, tmp_path / "disk", tmp_path / "image")
    yield made
    for descriptor in made.held:
        os.close(descriptor)


def units(writer: StoreWriter, world: World) -> Iterator[None]:
    """A pass over a world, unit by unit: its chunks of videos hold the units before as well."""
    for first, rows in world.units():
        world.write_videos(writer, first, rows)
        yield
    for unit, first in enumerate(range(0, T, UNIT_CAPTIONS)):
        rows = np.arange(first, min(first + UNIT_CAPTIONS, T))
        world.write_text(writer, rows)
        owners = sorted({world.collection.captions[row].video for row in rows})
        writer.record(text_block(unit), [Entry(world.collection.videos[v].id, "text", "ok") for v in owners])
        yield


def held(path: Path) -> dict[str, bytes]:
    group = zarr.open_group(path, mode="r", use_consolidated=False)
    arrays = {name: array[:].tobytes() for name, array in group.arrays()}
    return arrays | {file.name: file.read_bytes() for file in sorted((path / "thumbnails").glob("*.zip"))}


def test_what_was_recorded_is_there_to_the_bit(disk: Disk, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    writer = world.create(disk.root / "s.zarr")
    assert open_store(disk.cut() / "s.zarr").captions == writer.store.captions
    world.make_room(writer)
    for _ in units(writer, world):
        after = disk.cut() / "s.zarr"
        assert held(after) == held(disk.root / "s.zarr")
        assert list(open_store(after).ledger) == list(writer.store.ledger)


def test_whenever_it_comes_what_the_ledger_tells_of_is_there(disk: Disk, tmp_path: Path) -> None:
    world = make_world(tmp_path)
    writer = world.create(disk.root / "s.zarr")
    rows = {video.id: row for row, video in enumerate(world.collection.videos)}

    def cut() -> None:
        store = open_store(disk.cut() / "s.zarr")
        told = {entry.video for entry in store.ledger if entry.status == "ok" and entry.modality == "frames"}
        if told:
            frames = store.read("frames")
        for video in told:
            wanted = world.frames[rows[video]].features
            assert np.array_equal(frames[rows[video], : len(wanted)], wanted)
            assert store.thumbnails(rows[video]) == list(world.frames[rows[video]].thumbnails)

    disk.meanwhile = cut
    world.make_room(writer)
    for first, block in world.units():
        world.write_videos(writer, first, block)
    assert disk.cuts > 100
    assert len([entry for entry in writer.store.ledger if entry.status == "ok"]) == len(rows) - len(BROKEN)
