"""What a pass has to do, by what the ledger says of each video and by its file's size now."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.extraction.units import Share, Unit, units
from lab.store import CHUNK_VIDEOS, UNIT_VIDEOS
from lab.store.ledger import Entry, Ledger, videos_block


def collection(folder: Path, sizes: list[int | None]) -> Any:
    """Videos v0, v1, ... whose files have these sizes: 0 is a file that is away, None a video without any."""
    videos = []
    for number, size in enumerate(sizes):
        file = folder / f"{number}.mp4"
        if size:
            file.write_bytes(bytes(size))
        videos.append(SimpleNamespace(id=f"v{number}", file=None if size is None else file))
    return SimpleNamespace(videos=videos)


def found(folder: Path, sizes: list[int | None], rows: list[Entry], **share: Any) -> list[Unit]:
    ledger = Ledger(folder / "ledger")
    ledger.write(videos_block(0), rows)
    return list(units(collection(folder, sizes), ledger, Share(**share), ("frames", "audio")))


def test_all_is_to_be_done_where_nothing_was(tmp_path: Path) -> None:
    count = CHUNK_VIDEOS + UNIT_VIDEOS + 3
    todo = found(tmp_path, [7] * count, [])
    assert [(unit.first, len(unit.files)) for unit in todo] == [
        *((first, UNIT_VIDEOS) for first in range(0, CHUNK_VIDEOS + UNIT_VIDEOS, UNIT_VIDEOS)),
        (CHUNK_VIDEOS + UNIT_VIDEOS, 3),
    ]
    for unit in todo:
        assert (unit.modalities, unit.replaced) == ({"frames", "audio"}, 0)
        assert unit.files[0] == tmp_path / f"{unit.first}.mp4"
        assert set(unit.sizes) == {7}
        assert set(unit.kept) == {frozenset()}


@pytest.mark.parametrize(
    ("status", "held", "size", "retry", "again"),
    [
        ("ok", 7, 7, False, False),
        ("ok", 7, 7, True, False),
        ("ok", 7, 8, False, True),  # the file is another one now
        ("ok", 7, 0, False, False),  # its disk is away
        ("ok", 0, 7, True, False),  # made elsewhere, of which file is not known
        ("silent", 7, 8, False, True),
        ("no_audio", 7, 7, True, False),
        ("truncated", 7, 7, False, False),
        ("truncated", 7, 7, True, True),
        ("truncated", 7, 0, True, False),
        ("undecodable", 7, 7, False, False),
        ("undecodable", 7, 7, True, True),
        ("undecodable", 7, 8, False, True),
        ("undecodable", 0, 7, False, True),
        ("undecodable", 0, 0, False, False),
        ("missing", 7, 7, False, True),
        ("missing", 0, 0, False, True),
    ],
)
def test_what_stands(tmp_path: Path, status: str, held: int, size: int, retry: bool, again: bool) -> None:
    """Of the sound; frames were read of the file as it is."""
    rows = [Entry("v0", "frames", "ok", bytes=size), Entry("v0", "audio", status, bytes=held)]
    todo = found(tmp_path, [size], rows, retry=retry)
    assert [unit.modalities for unit in todo] == ([{"audio"}] if again else [])
    for unit in todo:
        features = status not in ("undecodable", "missing") and (held == size or 0 in (held, size))
        assert unit.kept == ({"frames", "audio"} if features else {"frames"},)
        assert unit.replaced == (status in ("ok", "silent"))
        assert unit.sizes == (size,)


def test_a_unit_names_the_files_that_it_reads(tmp_path: Path) -> None:
    """One is to be read, one is done and comes along, one has no file."""
    rows = [Entry("v1", name, "ok", bytes=5) for name in ("frames", "audio")]
    (unit,) = found(tmp_path, [7, 5, None], rows)
    assert unit.files == (tmp_path / "0.mp4", tmp_path / "1.mp4", None)
    assert unit.sizes == (7, 5, 0)
    assert unit.kept == (frozenset(), {"frames", "audio"}, frozenset())
    assert found(tmp_path, [None, 5], rows) == []


def test_a_file_that_changed_counts_once(tmp_path: Path) -> None:
    rows = [Entry(f"v{n}", name, "ok", bytes=5) for n in range(3) for name in ("frames", "audio")]
    (unit,) = found(tmp_path, [6, 5, 6], rows)
    assert unit.replaced == 2
    (unit,) = found(tmp_path, [6, 5, 6], rows, limit=2)
    assert unit.replaced == 1


def test_a_limit_counts_videos_with_a_file_and_leaves_what_is_done(tmp_path: Path) -> None:
    rows = [Entry(f"v{n}", name, "ok", bytes=5) for n in (1, 4) for name in ("frames", "audio")]
    (unit,) = found(tmp_path, [None, 5, 5, 5, 5, 5], rows, limit=2)
    assert [file and file.name for file in unit.files] == [None, "1.mp4", "2.mp4", None, "4.mp4", None]
    assert found(tmp_path, [5] * 6, rows, limit=0) == []
    todo = found(tmp_path, [5] * (2 * UNIT_VIDEOS), [], limit=UNIT_VIDEOS)
    assert [unit.first for unit in todo] == [0]


def test_shards_have_every_chunk_once(tmp_path: Path) -> None:
    sizes: list[int | None] = [1] * (2 * CHUNK_VIDEOS + 1)
    firsts = [[unit.first // CHUNK_VIDEOS for unit in found(tmp_path, sizes, [], index=i, count=2)] for i in (1, 2)]
    per_chunk = CHUNK_VIDEOS // UNIT_VIDEOS
    assert firsts == [[0] * per_chunk + [2], [1] * per_chunk]
