"""What a pass has to do, by what the ledger says of each video and by its file's size now."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.extraction.units import Share, Unit, units
from lab.media.file import digest_of
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
    videos, ledger = collection(folder, sizes), Ledger(folder / "ledger")
    ledger.write(videos_block(0), rows)
    return list(units(videos, ledger, Share(**share), ("frames", "audio")))


def sizes(unit: Unit) -> list[int | None]:
    return [file and file.size for file in unit.found]


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
        assert set(sizes(unit)) == {7}
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
        assert sizes(unit) == [size]


@pytest.mark.parametrize("later_ns", [-(10**18), -1, 1, 10**18])
@pytest.mark.parametrize(
    ("status", "digest", "again", "replaced"),
    [
        ("ok", "the same", False, 0),  # copied without its time
        ("ok", "another", True, 1),
        ("ok", "", True, 1),
        ("no_audio", "another", True, 1),
        ("truncated", "the same", False, 0),
        ("truncated", "another", True, 1),
        ("undecodable", "the same", False, 0),
        ("undecodable", "another", True, 0),
        ("timeout", "", True, 0),  # its process was ended before it could tell
    ],
)
def test_a_file_of_another_time_is_told_by_its_digest(
    tmp_path: Path, status: str, digest: str, again: bool, replaced: int, later_ns: int
) -> None:
    """Whether it is older now (moved in) or newer, and whenever the ledger was written."""
    (file,) = (video.file for video in collection(tmp_path, [7]).videos)
    told, then_ns = digest_of(file) if digest == "the same" else digest, 1_700_000_000_123_456_789
    rows = [
        Entry("v0", name, status, bytes=7, digest=told, modified_ns=then_ns + later_ns) for name in ("frames", "audio")
    ]
    videos, ledger = SimpleNamespace(videos=[SimpleNamespace(id="v0", file=file)]), Ledger(tmp_path / "ledger")

    def todo() -> list[Unit]:
        os.utime(file, ns=(0, then_ns))
        return list(units(videos, ledger, Share(), ("frames", "audio")))  # type: ignore[arg-type]

    ledger.write(videos_block(0), rows)
    assert [unit.replaced for unit in todo()] == ([replaced] if again else [])
    assert all(unit.kept == (frozenset(),) for unit in todo())
    copied = digest == "the same"
    assert list(ledger) == [replace(row, modified_ns=then_ns) if copied else row for row in rows]
    # Of the same time, or of a store from before there were times: by the size alone.
    for modified_ns in (then_ns, 0):
        ledger.write(videos_block(0), [replace(row, modified_ns=modified_ns) for row in rows])
        assert todo() == []


def test_what_cannot_be_read_now_is_not_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the same: its row keeps its time."""
    monkeypatch.setattr("lab.extraction.files.digest_of", lambda path: "")
    rows = [Entry("v0", name, "ok", bytes=7, digest="ab", modified_ns=1) for name in ("frames", "audio")]
    assert found(tmp_path, [7], rows) == []
    assert list(Ledger(tmp_path / "ledger")) == rows


def test_a_copy_is_looked_into_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five videos: one copied, one of its time, one replaced, one without a file, one that nobody has looked for."""
    looked: list[Path] = []
    monkeypatch.setattr("lab.extraction.files.digest_of", lambda path: looked.append(path) or digest_of(path))
    videos, ledger = collection(tmp_path, [7, 7, 7, 0, None]), Ledger(tmp_path / "ledger")
    digest = digest_of(tmp_path / "0.mp4")
    times = [(tmp_path / f"{n}.mp4").stat().st_mtime_ns for n in range(3)]
    rows = [
        Entry("v0", "frames", "ok", bytes=7, digest=digest, modified_ns=1),
        Entry("v1", "frames", "undecodable", bytes=7, digest=digest, modified_ns=times[1]),
        Entry("v2", "frames", "ok", bytes=7, digest="another", modified_ns=1),
        Entry("v3", "frames", "ok", bytes=7, digest=digest, modified_ns=1),
    ]
    ledger.write(videos_block(0), rows)
    missing = Entry("v4", "frames", "missing", "no file of this name below the root")
    written = set()
    for again in range(3):
        looked.clear()
        (unit,) = units(videos, ledger, Share(), ("frames",))
        assert (unit.replaced, looked) == (1, [tmp_path / f"{n}.mp4" for n in ((2,) if again else (0, 2))])
        assert list(ledger) == [replace(rows[0], modified_ns=times[0]), *rows[1:], missing]
        written.add((tmp_path / "ledger" / "videos-000000.ndjson").stat().st_mtime_ns)
    assert len(written) == 1


def test_a_digest_tells_files_of_one_size_apart(tmp_path: Path) -> None:
    """By their ends: a file of 1, of 100,000 and of 200,000 bytes, each with one byte changed."""
    for size in (1, 100_000, 200_000):
        file = tmp_path / f"{size}"
        seen = set()
        for place in (None, 0, size - 1):
            content = bytearray(size)
            if place is not None:
                content[place] = 1
            file.write_bytes(content)
            seen.add(digest_of(file))
        assert len(seen) == (2 if size == 1 else 3)
    assert digest_of(tmp_path / "1") != digest_of(tmp_path / "100000")
    assert digest_of(tmp_path / "nowhere") == ""


def test_a_unit_names_the_files_that_it_reads(tmp_path: Path) -> None:
    """One is to be read, one is done and comes along, one has no file."""
    rows = [Entry("v1", name, "ok", bytes=5) for name in ("frames", "audio")]
    (unit,) = found(tmp_path, [7, 5, None], rows)
    assert unit.files == (tmp_path / "0.mp4", tmp_path / "1.mp4", None)
    assert sizes(unit) == [7, 5, None]
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
