"""Writing a store: unit by unit, and what a failure on the way leaves."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from synthetic import SECTIONS, A, D, F, S, T, V, World, exact

from lab import open_store
from lab.convert.pack import pack_store
from lab.errors import LabError
from lab.store import UNIT_CAPTIONS, UNIT_VIDEOS
from lab.store.create import create_store
from lab.store.ledger import Entry
from lab.store.writer import AudioRow, FrameRow, StoreWriter, require_finite


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of a store by its name, thumbnails included."""
    group = zarr.open_group(path, mode="r", use_consolidated=False)
    found = {name: array[:] for name, array in group.arrays()}
    archives = (path / "thumbnails").glob("*.zip")
    return found | {f"thumbnails/{file.stem}": np.frombuffer(file.read_bytes(), np.uint8) for file in archives}


def same(mine: Path, other: Path, known: dict[str, NDArray[Any]] | None = None) -> None:
    left, right = arrays(mine), known or arrays(other)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype
        assert np.array_equal(left[name], right[name], equal_nan=left[name].dtype.kind == "f"), name
    assert [e.__dict__ for e in open_store(mine).ledger] == [e.__dict__ for e in open_store(other).ledger]


# -- layout ----------------------------------------------------------------------------------------------------------


def test_a_unit_of_captions_begins_at_a_chunk_of_its_own(world: World, full: Path) -> None:
    store = open_store(full)
    start, count = store.array("word_start")[:], store.array("word_count")[:]
    totals = [int(world.counts[first : first + UNIT_CAPTIONS].sum()) for first in range(0, T, UNIT_CAPTIONS)]
    width = max(totals)
    assert store.array("words").chunks == (width, D)
    assert store.array("words").shape == (3 * width, D)
    assert count.tolist() == world.counts.tolist()
    wanted = []  # the plain way: a cursor that jumps to the next chunk at every unit
    for t, words in enumerate(world.counts.tolist()):
        cursor = t // UNIT_CAPTIONS * width if t % UNIT_CAPTIONS == 0 else cursor  # noqa: F821
        wanted.append(cursor)
        cursor += words
    assert start.tolist() == wanted


def test_tokens_lie_where_their_words_lie(world: World, full: Path) -> None:
    store = open_store(full)
    ids, word = store.array("token_ids")[:], store.array("token_word")[:]
    start = store.array("word_start")[:]
    told = np.concatenate([ids[s : s + c] for s, c in zip(start, world.counts, strict=True)])
    assert told.tolist() == list(range(world.counts.sum()))
    for t in (1, 513, 1029):
        assert word[start[t] : start[t] + world.counts[t]].tolist() == list(range(world.counts[t]))
    assert (ids == -1).sum() == len(ids) - world.counts.sum()


def test_what_was_not_written_is_nan_and_never_zero(world: World, tmp_path: Path) -> None:
    writer = world.create(tmp_path / "s.zarr")
    world.make_room(writer)
    world.write_videos(writer, 16, range(16, 32))
    world.write_text(writer, np.arange(512, 1024))
    held = arrays(tmp_path / "s.zarr")
    for name in ("frames", "frame_times_s", "audio", "audio_segments", "duration_s"):
        assert np.isnan(held[name][:16]).all(), name
        assert np.isnan(held[name][32:]).all(), name
        assert not np.isnan(held[name][17]).all(), name
    assert np.isnan(held["sentences"][:512]).all()
    assert not np.isnan(held["sentences"][512:1024]).any()
    assert [held[name][:16].sum() for name in ("frame_count", "audio_presence")] == [0, 0]
    assert "thumbnails/000000" not in held


def test_only_whole_chunks_of_a_unit_are_touched(world: World, tmp_path: Path) -> None:
    writer = world.create(tmp_path / "s.zarr")
    world.make_room(writer)
    world.write_text(writer, np.arange(512, 1024))
    assert [f.name for f in (tmp_path / "s.zarr" / "words" / "c").iterdir()] == ["1"]


def test_zarr_lists_a_store_without_a_murmur(full: Path) -> None:
    group = zarr.open_group(full, mode="r")  # warnings are errors here
    assert {"frames", "words", "audio", "tables", "thumbnails"} <= {name for name, _ in group.members()}


# -- units in parts --------------------------------------------------------------------------------------------------


def test_rows_that_are_none_stay_as_they_are(world: World, full: Path, tmp_path: Path) -> None:
    """A unit in two halves, even rows then odd ones, is the unit in one piece, thumbnails included."""
    writer = world.create(tmp_path / "s.zarr")
    world.make_room(writer)
    for first, rows in world.units():
        for parity in (0, 1):
            writer.write_frames(first, [world.frames[r] if r % 2 == parity else None for r in rows])
            writer.write_audio(first, [world.audio[r] if r % 2 == parity else None for r in rows])
    mine, whole = arrays(tmp_path / "s.zarr"), arrays(full)
    for name in whole:
        if name.startswith(("frame", "audio", "thumb", "duration")):
            assert np.array_equal(mine[name], whole[name], equal_nan=whole[name].dtype.kind == "f"), name


def test_a_part_of_a_unit_leaves_the_rest_of_it(world: World, tmp_path: Path) -> None:
    writer = world.create(tmp_path / "s.zarr")
    world.make_room(writer)
    writer.write_frames(0, world.frames[0:3])
    writer.write_frames(3, world.frames[3:5])
    for row in range(5):
        assert writer.store.thumbnails(row) == list(world.frames[row].thumbnails)
    assert writer.store.thumbnails(5) == []


def test_captions_of_a_unit_in_two_parts(world: World, full: Path, tmp_path: Path) -> None:
    writer = world.create(tmp_path / "s.zarr")
    world.make_room(writer)
    for start in range(0, T, UNIT_CAPTIONS):
        rows = np.arange(start, min(start + UNIT_CAPTIONS, T))
        world.write_text(writer, rows[rows % 3 == 0])
        world.write_text(writer, rows[rows % 3 != 0])
    mine, whole = arrays(tmp_path / "s.zarr"), arrays(full)
    for name in ("sentences", "words", "encoded"):
        assert np.array_equal(mine[name], whole[name], equal_nan=name != "encoded"), name


def test_a_video_that_broke_loses_its_features(world: World, tmp_path: Path) -> None:
    writer = world.create(tmp_path / "s.zarr")
    world.make_room(writer)
    world.write_videos(writer, 0, range(16))
    gone = FrameRow(np.zeros((0, D), np.float32), np.zeros(0), (), float("nan"))
    writer.write_frames(0, [gone, *[None] * 15])
    writer.write_audio(0, [None, AudioRow(None, None, "absent"), *[None] * 14])
    held = arrays(tmp_path / "s.zarr")
    assert np.isnan(held["frames"][0]).all()
    assert np.isnan(held["audio_segments"][1]).all()
    assert (held["frame_count"][0], held["audio_segment_count"][1], held["audio_presence"][1]) == (0, 0, 1)
    assert writer.store.thumbnails(0) == []
    assert writer.store.thumbnails(1) == list(world.frames[1].thumbnails)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda w: w.write_frames(8, [None] * 9), "rows must lie within one unit of 16, got 8..16"),
        (lambda w: w.write_audio(0, []), "rows must lie within one unit of 16, got 0..-1"),
        (
            lambda w: w.write_text(np.array([511, 512]), exact(np.random.default_rng(0), 2, D), np.zeros((0, D))),
            "rows must lie within one unit of 512, got 0..512",
        ),
        (
            lambda w: w.write_text(np.array([0]), exact(np.random.default_rng(0), 1, D), np.zeros((3, D))),
            "3 word vectors for 0 tokens",
        ),
        (lambda w: w.add_text({}, D, [1, 2], [0, 0, 0], [0, 0, 0]), f"2 token counts for {T} captions"),
    ],
)
def test_misuse_is_told_and_writes_nothing(
    world: World, tmp_path: Path, call: Callable[[StoreWriter], None], said: str
) -> None:
    writer = world.create(tmp_path / "s.zarr")
    world.make_room(writer)
    with pytest.raises(ValueError, match=said):
        call(writer)
    assert not (tmp_path / "s.zarr" / "frames" / "c").exists()
    assert not (tmp_path / "s.zarr" / "sentences" / "c").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, 65_536.0])
def test_a_feature_must_survive_float16(value: float) -> None:
    require_finite(np.array([65_504.0, -65_504.0], np.float32), "x")
    require_finite(np.zeros((0, 3), np.float32), "x")
    with pytest.raises(LabError, match=r"^frames of v1: features must be finite in float16, got (nan|inf|65536.0);"):
        require_finite(np.array([0, value], np.float32), "frames of v1")


# -- sections of the passport ----------------------------------------------------------------------------------------


def test_a_modality_is_added_without_touching_the_others(world: World, tmp_path: Path) -> None:
    writer = world.create(tmp_path / "s.zarr")
    writer.add_frames(SECTIONS["frames"], F, D)
    writer.write_frames(0, world.frames[:16])
    before = arrays(tmp_path / "s.zarr")
    later = StoreWriter(tmp_path / "s.zarr")
    assert later.require_section("frames", SECTIONS["frames"])
    assert not later.require_section("audio", SECTIONS["audio"])
    later.add_audio(SECTIONS["audio"], S, A)
    after = arrays(tmp_path / "s.zarr")
    assert all(np.array_equal(before[n], after[n], equal_nan=before[n].dtype.kind == "f") for n in before)
    assert open_store(tmp_path / "s.zarr").passport == {
        "dataset": {"name": "toy", "version": "1"}, "frames": SECTIONS["frames"], "audio": SECTIONS["audio"]
    }  # fmt: skip


def test_another_passport_is_refused_and_changes_nothing(world: World, full: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    shutil.copytree(full, path)
    other = SECTIONS["frames"] | {"sampling": "fps1-5"}
    writer = StoreWriter(path)
    for attempt in (lambda: writer.require_section("frames", other), lambda: writer.add_frames(other, F, D)):
        with pytest.raises(LabError) as error:
            attempt()
        assert "frames.sampling: 'midpoints-5' in the store, 'fps1-5' wanted" in str(error.value)
        assert "another --name" in str(error.value)
    same(path, full)


@pytest.mark.parametrize(("first", "second"), [("frames", "text"), ("text", "frames")])
def test_frames_and_text_share_a_space(
    first: str, second: str, world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two towers that cannot be one network's would leave a store that no head can score."""
    path = tmp_path / "s.zarr"
    tokens = np.zeros(int(world.counts.sum()))

    def add(modality: str, name: str, dim: int) -> None:
        writer = StoreWriter(path)
        if modality == "frames":
            writer.add_frames({"name": name}, F, dim)
        else:
            writer.add_text({"name": name}, dim, world.counts, tokens, tokens)

    world.create(path)
    add(first, "unknown", D)
    before = arrays(path)
    with pytest.raises(LabError) as error:
        add(second, "CLIP", D + 4)
    assert f"has {first} by 'unknown' with {D} dims, {second} by 'CLIP' would have {D + 4}: name the" in str(
        error.value
    )
    assert arrays(path).keys() == before.keys()
    assert second not in open_store(path).passport
    assert not caplog.text
    add(second, "CLIP", D)
    assert f"its {first} is by 'unknown', the {second} by 'CLIP': nothing tells whether they belong" in caplog.text
    caplog.clear()
    add(second, "CLIP", D)  # a pass that goes on has said so before
    assert not caplog.text


def test_room_that_is_there_is_not_made_again(world: World, full: Path, tmp_path: Path) -> None:
    """Two shards open the store before either makes room; the slower must not wipe what the faster has written."""
    path = tmp_path / "s.zarr"
    fast = world.create(path)
    slow = StoreWriter(path)
    world.fill(fast)
    assert "frames" not in slow.store.passport
    world.make_room(slow)
    same(path, full)
    assert slow.require_section("audio", SECTIONS["audio"])


def test_features_that_the_passport_has_lost_are_not_wiped(world: World, full: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    shutil.copytree(full, path)
    group = zarr.open_group(path)
    passport: Any = group.attrs["passport"]
    ledger = open_store(path).ledger
    ledger.update("text-000000", [Entry("v00", "text", "ok"), Entry("v00", "audio", "silent")])
    for modality, of in (("frames", "frames"), ("audio", "audio"), ("text", "sentences")):
        group.attrs["passport"] = {name: section for name, section in passport.items() if name != modality}
        with pytest.raises(LabError) as error:
            world.make_room(StoreWriter(path))
        assert str(error.value) == (
            f"{path} has features of {modality} by its ledger, and none by its passport: put zarr.json back from a "
            "copy, or make another store with --name"
        )
        assert np.array_equal(arrays(path)[of], arrays(full)[of], equal_nan=True)


def test_what_a_kill_left_while_room_was_made_is_cleared_away(world: World, tmp_path: Path) -> None:
    writer = world.create(tmp_path / "s.zarr")
    for name in (".zarr.json.ab12", "zarr.ab12.partial"):  # ours, and that of stores which zarr wrote by itself
        (tmp_path / "s.zarr" / name).write_text("{")
    world.make_room(writer)
    assert not [file.name for file in (tmp_path / "s.zarr").iterdir() if "ab12" in file.name]


def test_a_disk_without_hard_links_will_do(
    world: World, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    writer = world.create(tmp_path / "s.zarr")
    world.fill(writer)
    same(tmp_path / "s.zarr", full)
    pack_store(writer.store, tmp_path / "packed.zarr", 64)


# -- creating --------------------------------------------------------------------------------------------------------


def test_a_store_that_exists_is_returned(world: World, full: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    shutil.copytree(full, path)
    create_store(path, world.collection, {"name": "toy", "version": "1"})
    same(path, full)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_store_is_not_replaced(world: World, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s.zarr"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    with pytest.raises(LabError) as error:
        create_store(path, world.collection, {})
    assert str(error.value) == f"{path} is there already, and is no feature store: move it away, or give --name"
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("stage", ["write_tables", "Path.rename"])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_half_made(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, kind: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise kind

    monkeypatch.setattr(f"lab.store.create.{stage}", fail)
    with pytest.raises(kind):
        create_store(tmp_path / "s.zarr", world.collection, {})
    assert list(tmp_path.iterdir()) == []


RACE = """
import sys
from pathlib import Path
import numpy as np
from synthetic import D, F, V, make_world
from lab.store.ledger import Entry
from lab.store.lock import writing
from lab.store.writer import StoreWriter

shard, where = int(sys.argv[1]), Path(sys.argv[2])
world = make_world(where)
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    path = where / f"s{n}.zarr"
    world.create(path)
    with writing(path, (shard, 2)):
        writer = StoreWriter(path)
        writer.add_frames({"model": "toy"}, F, D)
        # The rows of two shards never share a chunk; here a shard has the arrays of one modality to itself.
        if shard == 1:
            writer.write_frames(0, world.frames[:16])
        else:
            world.add_text(writer)
            world.write_text(writer, np.arange(512))
        writer.record(f"videos-{shard:06d}", [Entry(f"v{shard}", "frames", "ok")])
"""


def test_two_processes_create_and_fill_the_same_stores(world: World, tmp_path: Path) -> None:
    rounds = 5
    command = [sys.executable, "-W", "error", "-c", RACE]
    shards = [
        subprocess.Popen(
            [*command, str(shard), str(tmp_path), str(rounds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent,
        )
        for shard in (1, 2)
    ]  # fmt: skip
    for shard in shards:
        assert shard.stdout is not None
        assert shard.stdout.readline() == "ready\n"
    for shard in shards:
        assert shard.stdin is not None
        shard.stdin.write("go\n")
        shard.stdin.flush()
    assert [shard.communicate()[1] for shard in shards] == ["", ""]
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"s{n}.zarr" for n in range(rounds)]
    for n in range(rounds):
        store = open_store(tmp_path / f"s{n}.zarr")
        assert {"frames", "text"} <= store.passport.keys()
        assert (store.array("frame_count")[:16] > 0).tolist() == [row != 5 for row in range(16)]
        assert store.array("encoded")[:].sum() == 512
        assert {entry.video for entry in store.ledger} == {"v1", "v2"}


# -- a disk that fills up --------------------------------------------------------------------------------------------


class Disk:
    """Fails at the n-th step that changes a file, after half of the bytes where it is a write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, below: Path, fail_at: int) -> None:
        self.steps, self.fail_at, self.below = 0, fail_at, below
        opened = Path.open

        def open_(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            stream = opened(path, mode, *args, **kwargs)
            if "w" in mode and self._step(path):
                stream.write(b"half")
                stream.close()
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return stream

        monkeypatch.setattr(Path, "open", open_)
        for name in ("rename", "replace"):
            monkeypatch.setattr(Path, name, self._failing(getattr(Path, name)))

    def _failing(self, action: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def step(path: Path, target: Path) -> Path:
            if self._step(path):
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return action(path, target)

        return step

    def _step(self, path: Path) -> bool:
        if not path.is_relative_to(self.below):
            return False
        self.steps += 1
        return self.steps == self.fail_at


def every_failure(base: Path, tmp_path: Path, unit: Callable[[Path], None], readable: Callable[[Path], None]) -> None:
    """Runs the unit on a copy of a store with a failure at step 1, 2, ... until there are no more steps."""
    undisturbed = tmp_path / "undisturbed.zarr"
    shutil.copytree(base, undisturbed)
    unit(undisturbed)
    wanted = arrays(undisturbed)
    for n in range(1, 200):
        path = tmp_path / f"failed{n}.zarr"
        shutil.copytree(base, path)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, path, n)
            try:
                unit(path)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017
        if disk.steps < n:
            assert n > 3, "the unit changes more files than that, so the failures were not injected"
            return
        readable(path)
        unit(path)
        same(path, undisturbed, wanted)
        shutil.rmtree(path)
    raise AssertionError("no end of steps")


def test_a_full_disk_while_a_unit_of_videos_is_written(world: World, tmp_path: Path) -> None:
    """The even rows of unit 1 were done, and their files have gone since, but for that of 18, which is broken now.

    Now come the odd rows. At every step the rows of before are whole, and what is counted is there.
    """
    base = tmp_path / "base.zarr"
    writer = world.create(base)
    world.make_room(writer)
    world.write_videos(writer, 0, range(16))
    writer.write_frames(16, [world.frames[r] if r % 2 == 0 else None for r in range(16, 32)])
    writer.write_audio(16, [world.audio[r] if r % 2 == 0 else None for r in range(16, 32)])
    frames = {r: world.frames[r] for r in range(17, 32, 2)}
    sounds = {r: world.audio[r] for r in range(17, 32, 2)}
    frames[18] = FrameRow(np.zeros((0, D), np.float32), np.zeros(0), (), float("nan"))
    sounds[18] = AudioRow(None, None, "unknown")

    def unit(path: Path) -> None:
        writer = StoreWriter(path)
        writer.write_frames(16, [frames.get(r) for r in range(16, 32)])
        writer.write_audio(16, [sounds.get(r) for r in range(16, 32)])
        writer.record("videos-000000", [Entry(f"v{r}", "frames", "ok") for r in range(17, 32, 2)])

    def readable(path: Path) -> None:
        store = open_store(path)
        _, videos = store.load("train", audio="segments")
        assert videos.rows is not None
        assert videos.frame_mask is not None
        assert videos.audio is not None
        assert {*range(16), 16, 20} - {5} <= {*videos.rows.tolist()}
        for i, row in enumerate(videos.rows.tolist()):
            real = videos.frames[i][videos.frame_mask[i]].numpy()
            assert np.array_equal(real, world.frames[row].features)
        assert not videos.audio[videos.audio_mask].isnan().any()
        for row in (3, 15, 16, 30):
            assert store.thumbnails(row) == list(world.frames[row].thumbnails)
        assert len(list(store.ledger)) in (16, 24)

    every_failure(base, tmp_path, unit, readable)


def test_a_full_disk_while_captions_are_written(world: World, tmp_path: Path) -> None:
    base = tmp_path / "base.zarr"
    writer = world.create(base)
    world.make_room(writer)
    world.write_videos(writer, 0, range(16))
    rows = np.arange(512)
    world.write_text(writer, rows[::2])

    def unit(path: Path) -> None:
        writer = StoreWriter(path)
        world.write_text(writer, rows[1::2])
        writer.record("text-000000", [Entry("v00", "text", "ok")])

    def readable(path: Path) -> None:
        texts, _ = open_store(path).load("train")
        assert texts.rows is not None
        assert np.array_equal(texts.sentences.numpy(), world.sentences[texts.rows.numpy()])
        padded, mask = texts.padded_words()
        wanted = [world.words[t] for t in texts.rows.tolist()]
        assert np.array_equal(padded[mask].numpy(), np.concatenate(wanted))

    every_failure(base, tmp_path, unit, readable)


def test_a_full_disk_while_room_is_made(world: World, tmp_path: Path) -> None:
    base = tmp_path / "base.zarr"
    writer = world.create(base)
    writer.add_frames(SECTIONS["frames"], F, D)
    writer.write_frames(0, [FrameRow(row.features, row.times_s, (), 1.0) for row in world.frames[:16]])

    def readable(path: Path) -> None:
        texts, videos = open_store(path).load("train")
        assert (len(texts), len(videos)) == (0, 15)

    every_failure(base, tmp_path, lambda path: world.add_text(StoreWriter(path)), readable)


def test_the_units_are_those_of_the_tests() -> None:
    assert (UNIT_VIDEOS, UNIT_CAPTIONS, V % UNIT_VIDEOS, T % UNIT_CAPTIONS) == (16, 512, 5, 7)
