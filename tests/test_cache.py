"""The pass from its front door: what it leaves, what it does again and what it never does."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worlds
import zarr
from huggingface_hub import constants

from lab import cli, open_store
from lab.cache import main, other_sound
from lab.datasets import DATASETS, SOUNDING, get_dataset
from lab.errors import LabError
from lab.extraction.encode import Begun, begin
from lab.extraction.files import Present
from lab.extraction.loop import Pass
from lab.extraction.options import Options
from lab.extraction.outcome import writable
from lab.extraction.plan import backbones, prepare
from lab.extraction.units import Unit
from lab.inspect import main as inspect
from lab.media import Clip, MediaError
from lab.store import PRESENCE
from lab.store.find import pass_command
from lab.store.ledger import Entry
from lab.store.verify import problems
from lab.store.writer import StoreWriter

SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """37 videos, a tiny CLIP, and the store of an undisturbed pass over them, named ``whole``."""
    base = tmp_path_factory.mktemp("world")
    worlds.folder(base / "root", 37)
    assert cache(base, "--name", "whole") == 0
    return base


def cache(base: Path, *more: str, root: Path | None = None) -> int:
    given = ["--dataset", "folder", "--root", str(root or base / "root"), *worlds.tiny_networks(base)]
    return cli.run(main, [*given, "--features", str(base / "features"), "--workers", "2", *more])


def held(base: Path, name: str) -> dict[str, object]:
    return worlds.contents(base / "features" / f"{name}.zarr")


def test_a_copy_that_has_lost_its_sound_is_told(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(shutil.copytree(world / "features" / "whole.zarr", tmp_path / "lost.zarr"))
    view = store.protocols[0]
    train = [video["splits"][view] == "train" for video in store.videos]
    streams = store.read("audio_presence") != PRESENCE["absent"]
    heard, total = int(streams[train].sum()), int(streams.sum())
    assert 0 < total < 33
    monkeypatch.setitem(SOUNDING, "folder", {None: (total, 37), (view, "train"): (heard, sum(train))})
    assert list(other_sound(store)) == []
    monkeypatch.setitem(SOUNDING, "folder", {None: (33, 37), (view, "train"): (1, 1), (view, "gone"): (1, 1)})
    whole, part = other_sound(store)
    assert whole.startswith(f"folder: {total} of 37 videos have an audio stream, elsewhere 33 of 37 do: ")
    assert part.startswith(f"folder {view} train: {heard} of {sum(train)} videos have")
    capsys.readouterr()
    assert cache(world, "--name", "whole") == 0
    assert f"! {whole}" in capsys.readouterr().out
    every: Any = zarr.open_group(store.path, mode="a")["audio_presence"]
    every[3:6] = PRESENCE["unknown"]  # 34 of 37 are less than 95 %
    assert [line for line in other_sound(open_store(store.path)) if line.startswith("folder: ")] == []


def test_the_counts_of_videos_with_sound_are_of_splits_that_there_are() -> None:
    assert SOUNDING["msrvtt"] == {None: (8811, 10000), ("1k-A-9k", "test"): (884, 1000)}
    for name, views in SOUNDING.items():
        for view, (sounding, videos) in views.items():
            assert 0 < sounding <= videos
            assert view is None or DATASETS[name].expected[view[0]][view[1]][0] == videos


def test_no_audio_network_is_loaded_for_a_data_set_without_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RETRIEVAL_LAB_WEIGHTS", str(tmp_path))
    assert backbones(Options("msvd", only=("audio",)), get_dataset("msvd")) == (None, None)
    with pytest.raises(LabError, match="PANN Cnn14"):
        backbones(Options("msrvtt", only=("audio",)), get_dataset("msrvtt"))
    with pytest.raises(LabError, match="PANN Cnn10"):
        backbones(Options("msvd", only=("audio",), panns="cnn10"), get_dataset("msvd"))


def test_a_pass_leaves_a_store_that_verifies(world: Path) -> None:
    store = open_store(world / "features" / "whole.zarr")
    assert list(problems(store)) == []
    assert store.splits == ("train", "val", "test")
    texts, videos = store.load("train", audio="segments")
    # 37 videos, of each five three are train: rows 0-2 of each
    assert len(videos) == 23
    assert len(texts) == 46
    assert videos.frames.shape == (23, 12, 29)
    assert np.isfinite(videos.frames[videos.frame_mask].numpy()).all()
    # clip000 has 5 frames, so 5 are real; clips 2, 5, 8 ... have no audio stream
    rows = {store.videos[row]["id"]: i for i, row in enumerate(videos.rows.tolist())}
    assert videos.frame_mask[rows["clip000.mp4"]].sum() == 5
    assert videos.audio_mask.any(1).sum() < 23
    presence = store.array("audio_presence")[:]
    silent = [video["id"] for video, code in zip(store.videos, presence, strict=True) if code == 1]
    assert "clip002.mp4" in silent
    assert "clip000.mp4" not in silent
    assert store.thumbnails(0)[0][:2] == b"\xff\xd8"
    assert store.warnings, "random weights must be said"
    assert store.table("videos").height == 37
    assert set(store.table("ledger")["status"]) == {"ok", "no_audio"}


def test_frames_are_shown_at_the_times_that_the_store_says(world: Path) -> None:
    store = open_store(world / "features" / "whole.zarr")
    row = next(i for i, video in enumerate(store.videos) if video["id"] == "clip000.mp4")
    assert np.allclose(store.frame_times_s(np.array([row]))[0][:5], [0, 0.1, 0.2, 0.3, 0.4], atol=1e-3)


def test_the_same_command_again_does_nothing(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = worlds.tree(world / "features" / "whole.zarr")
    assert cache(world, "--name", "whole") == 0
    after = worlds.tree(world / "features" / "whole.zarr")
    assert {k: v[1] for k, v in before.items() if ".lock" not in k} == {
        k: v[1] for k, v in after.items() if ".lock" not in k
    }
    assert "\n0 videos and 0 captions in this run" in capsys.readouterr().out


def test_a_gpu_encodes_a_unit_while_the_one_before_is_written(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is begun is computed late here, as a GPU may; the store is the same."""
    events: list[str] = []

    def later(modalities: Any, clips: Any, *networks: Any) -> Begun:
        events.append("begin")
        return Begun(*(lambda n=n: getattr(begin(modalities, clips, *networks), n)() for n in ("frames", "audio")))

    def written(self: StoreWriter, first: int, rows: Any) -> None:
        events.append(f"write {first}")
        write(self, first, rows)

    write = StoreWriter.write_frames
    monkeypatch.setattr(Pass, "_on_gpu", lambda self: True)
    monkeypatch.setattr("lab.extraction.loop.begin", later)
    monkeypatch.setattr(StoreWriter, "write_frames", written)
    assert cache(world, "--name", "late") == 0
    assert events == ["begin", "begin", "write 0", "begin", "write 16", "write 32"]
    assert held(world, "late") == held(world, "whole")


@pytest.mark.parametrize("gpu", [False, True])
def test_the_bar_shows_what_a_kill_would_leave(
    gpu: bool, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, str]] = []
    path = tmp_path / "s.zarr"

    class Bar:
        def __init__(self, total: float, what: str, unit: str) -> None:
            self.total, self.postfix, self.n = total, "", 0

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            assert (self.n, self.postfix) == (self.total, "")

        def set_postfix_str(self, text: str, refresh: bool) -> None:
            self.postfix = text

        def update(self, n: int) -> None:
            self.n += n
            shown.append((self.n, self.postfix))
            assert self.n == len({entry.video for entry in open_store(path).ledger})

    def prepared(*arguments: Any) -> Pass:
        return replace(prepare(*arguments), bar=Bar)

    monkeypatch.setattr("lab.cache.prepare", prepared)
    monkeypatch.setattr(Pass, "_on_gpu", lambda self: gpu)
    options = ["--features", str(tmp_path), "--name", "s", "--only", "frames"]
    assert cache(world, *options) == 0
    late = [(0, "16 more decoded"), (16, "16 more decoded"), (32, "5 more decoded"), (37, "")]
    assert shown == (late if gpu else [(16, ""), (32, ""), (37, ""), (37, "")])


def test_same_input_same_bits(world: Path) -> None:
    assert cache(world, "--name", "again", "--workers", "1") == 0
    assert held(world, "again") == held(world, "whole")


def test_another_batch_size_changes_rounding_only(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(world, "--name", "batch", "--batch", "5") == 0
    stores = [str(world / "features" / f"{name}.zarr") for name in ("whole", "batch")]
    capsys.readouterr()
    assert cli.run(inspect, stores) == 0, capsys.readouterr().out  # exit 0: every cosine is at least 0.9999


def test_in_parts_by_limit(world: Path) -> None:
    for limit in ("3", "20", "37"):
        cache(world, "--name", "parts", "--limit", limit)
    assert held(world, "parts") == held(world, "whole")


def test_in_parts_by_modality(world: Path) -> None:
    for modality in ("frames", "audio", "text"):
        assert cache(world, "--name", "modality", "--only", modality) == 0
    whole, parts = held(world, "whole"), held(world, "modality")
    assert json.loads(parts["attributes"])["passport"] == json.loads(whole["attributes"])["passport"]  # type: ignore[arg-type]
    assert {k: v for k, v in parts.items() if k != "attributes"} == {
        k: v for k, v in whole.items() if k != "attributes"
    }


def test_in_parts_by_shard(tmp_path: Path) -> None:
    worlds.folder(tmp_path / "root", 150, captions=8)  # 3 blocks of videos and 3 of captions
    assert cache(tmp_path, "--name", "whole", "--panns", "none") == 0
    for name, shards in {"shards": ("2/3", "3/3", "1/3"), "renumbered": ("3/3", "1/2", "2/2")}.items():
        for shard in shards:
            cache(tmp_path, "--name", name, "--shard", shard, "--panns", "none")
        assert held(tmp_path, name) == held(tmp_path, "whole")


def test_a_file_that_comes_later_is_done_then(world: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(world / "root", root)
    away = [f"clip{i:03d}.mp4" for i in (4, 5, 30)]
    for name in away:
        (root / name).rename(tmp_path / name)
    assert cache(tmp_path, "--name", "later", root=root) == 1
    store = open_store(tmp_path / "features" / "later.zarr")
    assert store.coverage("train").videos_listed == 23
    assert {entry.video for entry in store.ledger if entry.status == "missing"} == set(away)
    for name in away:
        (tmp_path / name).rename(root / name)
    assert cache(tmp_path, "--name", "later", root=root) == 0
    assert held(tmp_path, "later") == held(world, "whole")


def test_features_stay_when_their_file_has_gone(world: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(world / "root", root)
    (root / "clip001.mp4").rename(tmp_path / "clip001.mp4")
    cache(tmp_path, "--name", "gone", root=root)
    (root / "clip000.mp4").unlink()  # its features are stored; its unit is done again because of clip001
    (tmp_path / "clip001.mp4").rename(root / "clip001.mp4")
    assert cache(tmp_path, "--name", "gone", root=root) == 0
    mine, whole = held(tmp_path, "gone"), held(world, "whole")
    assert list(problems(open_store(tmp_path / "features" / "gone.zarr"))) == []
    assert mine["thumbnails/000000"] == whole["thumbnails/000000"]
    assert mine["frame_count"] == whole["frame_count"]


def test_features_stay_when_their_file_cannot_be_read_any_more(world: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(world / "root", root)
    (root / "clip001.mp4").rename(tmp_path / "clip001.mp4")
    cache(tmp_path, "--name", "torn", root=root)
    size = (root / "clip000.mp4").stat().st_size
    modified_ns = (root / "clip000.mp4").stat().st_mtime_ns
    (root / "clip000.mp4").write_bytes(bytes(size))  # as a disk gives that is failing
    os.utime(root / "clip000.mp4", ns=(modified_ns, modified_ns))
    (tmp_path / "clip001.mp4").rename(root / "clip001.mp4")
    assert cache(tmp_path, "--name", "torn", root=root) == 0
    mine, whole = held(tmp_path, "torn"), held(world, "whole")
    assert {name: mine[name] == whole[name] for name in ("frame_count", "audio_presence", "ledger")} == {
        "frame_count": True, "audio_presence": True, "ledger": True}  # fmt: skip


@pytest.mark.parametrize("name", [name for name, dataset in DATASETS.items() if not dataset.sources and name != "toy"])
def test_download_of_what_nobody_gives_away_ends_with_how_to_get_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "absent"
    for more in ((), ("--dry-run",)):
        assert cli.run(main, ["--dataset", name, "--root", str(root), "--download", *more]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"nothing of {name} can be fetched: {get_dataset(name).instructions}; " in line
        assert line.endswith(f"there is no root {root} yet: mkdir -p {root}")
        assert "--download" not in line  # it was given
    root.mkdir()  # as told: what is still lacking is named
    assert cli.run(main, ["--dataset", name, "--root", str(root), "--download"]) == 2
    assert "see --download" not in capsys.readouterr().err


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three videos, and the store ``s`` of a pass over them."""
    worlds.folder(tmp_path / "root", 3)
    assert cache(tmp_path, "--name", "s") == 0
    return tmp_path


def test_captions_that_are_cut_off_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worlds.folder(tmp_path / "root", 2)
    worlds.captions_csv(tmp_path / "root", {"clip000.mp4": ["a dog", "dog " * 76], "clip001.mp4": ["dog " * 75]})
    assert cache(tmp_path, "--only", "text") == 0
    assert "1 of 3 captions are longer than the text tower reads, their ends are cut off" in capsys.readouterr().err


def test_a_rule_with_seconds_is_that_of_the_sound_too(tmp_path: Path) -> None:
    """A clip of 2.6 s, 10 pictures a second."""
    worlds.folder(tmp_path / "root", 1)
    worlds.clip_file(tmp_path / "root" / "clip000.mp4", frames=26)
    assert cache(tmp_path, "--name", "s", "--sampling", "midpoints-12-1s") == 0
    store = open_store(tmp_path / "features" / "s.zarr")
    assert store.passport["frames"]["sampling"] == "midpoints-12-1s"
    assert store.passport["audio"]["max_audio_s"] == 1
    assert store.read("frame_count")[0] == 10
    assert np.nanmax(store.read("frame_times_s")[0]) == pytest.approx(0.9)


def test_frames_and_sound_are_of_the_same_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worlds.folder(tmp_path / "root", 1)
    assert cache(tmp_path, "--name", "s", "--sampling", "midpoints-4-1s", "--only", "frames") == 0
    assert cache(tmp_path, "--name", "s", "--only", "audio") == 2
    told = "has frames by sampling midpoints-4-1s and sound of the first 600 s, or would"
    assert told in capsys.readouterr().err
    pasted = shlex.split(pass_command(open_store(tmp_path / "features" / "s.zarr"), "audio"))[3:]
    assert cli.run(main, [*pasted, *worlds.tiny_networks(tmp_path)[2:]]) == 0
    assert open_store(tmp_path / "features" / "s.zarr").passport["audio"]["max_audio_s"] == 1
    assert cache(tmp_path, "--sampling", "midpoints-4") == 0
    capsys.readouterr()
    assert cache(tmp_path, "--sampling", "midpoints-5") == 0
    assert "-midpoints-4.zarr is beside the new " in capsys.readouterr().err


def row(base: Path, video: str, modality: str = "frames") -> Entry:
    entries = open_store(base / "features" / "s.zarr").ledger
    return next(entry for entry in entries if (entry.video, entry.modality) == (video, modality))


def test_a_replaced_file_is_read_again(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worlds.clip_file(small / "root" / "clip001.mp4", 9, frames=4, sound=False)
    assert cache(small, "--name", "s") == 0
    assert "1 files are others than when they were read" in capsys.readouterr().err
    assert cache(small, "--name", "fresh") == 0
    assert held(small, "s") == held(small, "fresh")
    assert row(small, "clip001.mp4", "audio").status == "no_audio"
    capsys.readouterr()
    assert cache(small, "--name", "s") == 0
    assert "\n0 videos and 0 captions in this run" in capsys.readouterr().out


def test_a_file_replaced_by_one_of_its_size_is_read_again(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two clips are of one size here, by padding; a copy of the same bytes is no other file."""
    clips = [small / "root" / f"clip00{n}.mp4" for n in (0, 1)]
    size = max(clip.stat().st_size for clip in clips)
    for clip in clips:
        clip.write_bytes(clip.read_bytes().ljust(size, b"\0"))
    assert cache(small, "--name", "s") == 0
    shutil.copyfile(clips[1], clips[0])
    capsys.readouterr()
    assert cache(small, "--name", "s") == 0
    assert "1 files are others than when they were read" in capsys.readouterr().err
    assert cache(small, "--name", "fresh") == 0
    assert held(small, "s") == held(small, "fresh")
    shutil.copyfile(clips[1], clips[0])
    capsys.readouterr()
    assert cache(small, "--name", "s") == 0
    assert "\n0 videos and 0 captions in this run" in capsys.readouterr().out
    shutil.rmtree(small / "features" / "fresh.zarr")
    assert cache(small, "--name", "fresh") == 0
    assert held(small, "s") == held(small, "fresh")


@pytest.mark.parametrize("moved_s", [-(10**6), 10**6])
def test_a_write_to_the_ledger_hides_no_replaced_file(
    small: Path, capsys: pytest.CaptureFixture[str], moved_s: int
) -> None:
    """A pass that adds a modality notes the missing videos first; the file's own time may be older, or of tomorrow."""
    worlds.captions_csv(small / "root", {f"clip00{n}.mp4": ["a dog"] for n in range(4)})  # of which one has no file
    clips = [small / "root" / f"clip00{n}.mp4" for n in (0, 1)]
    size = max(clip.stat().st_size for clip in clips)
    for clip in clips:
        clip.write_bytes(clip.read_bytes().ljust(size, b"\0"))
    assert cache(small, "--name", "t", "--only", "frames") == 1
    shutil.copyfile(clips[1], clips[0])
    then_s = time.time() + moved_s
    os.utime(clips[0], (then_s, then_s))
    capsys.readouterr()
    assert cache(small, "--name", "t") == 1
    assert "1 files are others than when they were read" in capsys.readouterr().err
    assert cache(small, "--name", "fresh") == 1
    assert held(small, "t") == held(small, "fresh")
    capsys.readouterr()
    assert cache(small, "--name", "t") == 1
    assert "\n0 videos and 0 captions in this run" in capsys.readouterr().out


def test_copied_files_are_no_others(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that failed or were truncated."""
    film = worlds.clip_file(small / "film.mkv", 5, frames=30).read_bytes()
    (small / "root" / "film.mkv").write_bytes(film[: len(film) * 2 // 3])
    (small / "root" / "page.mp4").write_text("<html>no such video</html>")
    assert cache(small, "--name", "t") == 1
    assert {row.status for row in open_store(small / "features" / "t.zarr").ledger} >= {"truncated", "not_video"}
    (small / "root").rename(small / "away")
    shutil.copytree(small / "away", small / "root", copy_function=shutil.copyfile)
    capsys.readouterr()
    assert cache(small, "--name", "t") == 1
    assert "\n0 videos and 0 captions in this run" in capsys.readouterr().out


def test_what_of_a_file_cannot_be_read_now_stays_as_it_was(tmp_path: Path) -> None:
    """The frames are read again, the sound of which features are stored is not to be had any more."""
    both = frozenset(("frames", "audio"))
    unit = Unit(0, (tmp_path,), both, (Present(tmp_path, 7, 1),), (both,))
    clip = Clip(np.zeros((0, 2, 2, 3), np.uint8), np.zeros(0), [], 1.0, "ok", "", None, "undecodable", "torn", 0.1)
    assert writable(unit, [clip], "frames") == [clip]
    assert writable(unit, [clip], "audio") == [None]
    assert writable(unit, [replace(clip, audio_status="no_audio")], "audio") != [None]
    assert writable(replace(unit, kept=(frozenset(),)), [clip], "audio") == [clip]
    assert writable(unit, [MediaError("unreadable", "")], "frames") == [None]


def test_a_file_replaced_by_a_broken_one_has_no_features(small: Path) -> None:
    (small / "root" / "clip001.mp4").write_bytes(b"no video")
    assert cache(small, "--name", "s") == 1
    assert row(small, "clip001.mp4").status == "not_video"
    assert open_store(small / "features" / "s.zarr").array("frame_count")[:].tolist().count(0) == 1
    assert list(problems(open_store(small / "features" / "s.zarr"))) == []


def test_what_was_truncated_is_read_again_when_asked_or_whole(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(small / "features")
    film = worlds.clip_file(small / "film.mkv", 5, frames=30)
    cut = small / "root" / "film.mkv"
    cut.write_bytes(film.read_bytes()[: film.stat().st_size * 2 // 3])
    for more, done in (((), 4), ((), 0), (("--retry",), 4)):
        capsys.readouterr()
        assert cache(small, "--name", "s", *more) == 0
        assert f"\n{done} videos and" in capsys.readouterr().out
        assert row(small, "film.mkv").status == "truncated"
    shutil.copyfile(film, cut)
    assert cache(small, "--name", "s") == 0
    assert (row(small, "film.mkv").status, row(small, "film.mkv").bytes) == ("ok", film.stat().st_size)


def test_features_of_an_unknown_file_stay(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = open_store(small / "features" / "s.zarr").ledger
    ledger.write("videos-000000", [replace(entry, bytes=0) for entry in ledger.read("videos-000000")])  # as converted
    capsys.readouterr()
    assert cache(small, "--name", "s") == 0
    assert "\n0 videos and 0 captions in this run" in capsys.readouterr().out


def test_frames_stay_when_the_file_of_a_failed_sound_has_gone(small: Path) -> None:
    ledger = open_store(small / "features" / "s.zarr").ledger
    failed = replace(row(small, "clip001.mp4", "audio"), status="undecodable")
    ledger.update("videos-000000", [failed])
    (small / "root" / "clip001.mp4").unlink()
    (small / "root" / "clip001.mp4").symlink_to(small / "nowhere.mp4")
    before = held(small, "s")["frame_count"]
    assert cache(small, "--name", "s", "--retry") == 1
    assert held(small, "s")["frame_count"] == before
    assert row(small, "clip001.mp4").status == "ok"
    assert row(small, "clip001.mp4", "audio").status == "gone"


def test_the_command_that_adds_a_modality_can_be_pasted(tmp_path: Path) -> None:
    root = worlds.folder(tmp_path / "my root", 3)
    assert cache(tmp_path, "--name", "s", "--only", "frames", "--clip", "toy", root=root) == 0
    store = open_store(tmp_path / "features" / "s.zarr")
    given = shlex.split(pass_command(store, "text"))
    assert given[:3] == ["python", "-m", "lab.cache"]
    assert given[-2:] == ["--only", "text"]
    assert cli.run(main, given[3:]) == 0
    texts, _ = open_store(store.path).load("train")
    assert len(texts) == 6


def test_the_command_that_adds_text_to_features_from_elsewhere_can_be_pasted(tmp_path: Path) -> None:
    """It tells how the splits were dealt, and leaves a place where nobody knows which CLIP made the frames."""
    from lab.convert import main as convert

    root = worlds.folder(tmp_path / "root", 5)
    features = {f"clip{i:03d}": np.random.default_rng(i).standard_normal((2, 256)) for i in range(5)}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({name: rows.astype(np.float32) for name, rows in features.items()}))
    target = tmp_path / "features" / "s.zarr"
    source = [str(tmp_path / "x.pkl"), str(target)]
    assert cli.run(convert, [*source, "--captions", str(root / "captions.csv")]) == 0
    told = pass_command(open_store(target), "text")
    assert "--captions FILE --text DIR where DIR has their features, or, where the videos are on this disk" in told
    again = shlex.split(told.partition(", with ")[2].partition(" and a pass of --only text")[0])
    assert again[:3] == ["python", "-m", "lab.convert"]
    given = {"FEATURES": source[0], "VIDEOS": str(root)}
    dealt = ["--split", "60/20/20", "--seed", "3"]
    assert cli.run(convert, [given.get(word, word) for word in again[3:]] + dealt) == 0
    command, _, word = pass_command(open_store(target), "text").partition(" (")
    assert word == "MODEL:TAG: the CLIP that made its frames, by name 'unknown')"
    given = {"MODEL:TAG": "toy"}
    assert cli.run(main, [given.get(word, word) for word in shlex.split(command)[3:]]) == 0
    store = open_store(target)
    assert store.protocols == ("60/20/20-seed3", "all")
    texts, videos = store.load("train")
    assert (len(texts), len(videos)) == (6, 3)
    audio = shlex.split(pass_command(store, "audio"))
    assert cli.run(main, [*audio[3:], "--panns", "toy"]) == 0
    assert open_store(target).load("train")[1].audio is not None


def test_videos_without_captions_are_said_to_be_such_by_whoever_needs_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("starlette", reason="the page needs the extra 'demo'")
    from lab.demo.__main__ import main as demo
    from lab.evaluate import main as evaluate

    (worlds.folder(tmp_path / "root", 3) / "captions.csv").unlink()
    assert cache(tmp_path, "--name", "s", "--clip", "toy") == 0
    store = ["--store", str(tmp_path / "features" / "s.zarr"), "--runs", str(tmp_path / "runs")]
    told = (
        f"{store[1]} is of videos without captions, which can be searched and not ranked: put captions.csv beside the "
        "videos and make another store, with python -m lab.cache --dataset folder --name NAME\n"
    )
    capsys.readouterr()
    assert cli.run(evaluate, ["mean", *store, "--split", "all"]) == 2
    assert capsys.readouterr().err.endswith(told)
    assert cli.run(demo, [*store, "--export", str(tmp_path / "page")]) == 2
    assert capsys.readouterr().err.endswith(told)


def test_a_packed_copy_is_for_reading(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lab.convert.pack import pack_store

    pack_store(open_store(world / "features" / "whole.zarr"), world / "features" / "packed.zarr", 128)
    assert cache(world, "--name", "packed") == 2
    assert "packed copy" in capsys.readouterr().err


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder of good files and of everything that only has a video's name."""
    root = tmp_path / "root"
    worlds.folder(root, 3)
    good = (root / "clip001.mp4").read_bytes()
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("this is no video")
    (root / "cut.mp4").write_bytes(good[: len(good) // 2])
    (root / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (root / "directory.mp4").mkdir()
    (root / "dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(root / "pipe.mp4")
    worlds.captions_csv(root, {f.name: [f"about {f.name}"] for f in sorted(root.iterdir()) if f.suffix == ".mp4"})
    return tmp_path


def test_every_broken_file_is_a_row_and_stops_nothing(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(broken, "--name", "s") == 1
    out = capsys.readouterr().out
    store = open_store(broken / "features" / "s.zarr")
    rows = {entry.video: entry for entry in store.ledger if entry.modality == "frames"}
    assert {name for name, entry in rows.items() if not entry.failed} == {f"clip00{i}.mp4" for i in range(3)}
    for name in ("empty", "text", "cut", "noise", "directory", "dangling", "pipe"):
        assert rows[f"{name}.mp4"].reason, name
        assert f"{name}.mp4" in out
    assert list(problems(store)) == []
    assert sum(store.coverage(split).videos for split in store.splits) == 3


def test_a_mended_file_is_done_again_and_others_only_when_asked(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache(broken, "--name", "s")
    capsys.readouterr()
    cache(broken, "--name", "s")
    assert "\n0 videos and 0 captions in this run" in capsys.readouterr().out
    shutil.copyfile(broken / "root" / "clip001.mp4", broken / "root" / "text.mp4")
    assert cache(broken, "--name", "s") == 1
    store = open_store(broken / "features" / "s.zarr")
    assert {e.status for e in store.ledger if e.video == "text.mp4"} == {"ok"}
    capsys.readouterr()
    assert cache(broken, "--name", "s", "--retry") == 1
    assert "\n0 videos and 0 captions in this run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("array", "of"),
    [("frames", "videos"), ("frame_count", "videos"), ("duration_s", "videos"), ("audio_presence", "videos"),
     ("sentences", "text"), ("words", "text")],
)  # fmt: skip
def test_a_chunk_that_was_cut_is_mended_as_is_told(
    array: str, of: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a power cut leaves it: the pass that goes on with its block, and --verify, say what to delete."""
    path = Path(shutil.copytree(world / "features" / "whole.zarr", tmp_path / "features" / "cut.zarr"))
    (chunk,) = (file for file in (path / array / "c").rglob("*") if file.is_file())
    chunk.write_bytes(b"")
    ledger = path / "tables" / "ledger" / f"{of}-000000.ndjson"
    rows = ledger.read_bytes()
    ledger.unlink()
    told = f"{chunk} is damaged, it has 0 bytes of "
    mend = f": delete it and {ledger}, and the pass that made the store does that block again"
    again = ["--dataset", "folder", "--root", str(world / "root"), *worlds.tiny_networks(world)]
    again += ["--features", str(path.parent), "--name", "cut"]
    capsys.readouterr()
    assert cli.run(main, again) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in line
    assert line.endswith(mend)
    ledger.write_bytes(rows)
    assert cli.run(inspect, [str(path), "--verify"]) == 1
    line = capsys.readouterr().out.strip()
    assert line.startswith(told)
    assert line.endswith(mend)
    for file in (chunk, ledger):
        file.unlink()
    assert cli.run(main, again) == 0
    assert worlds.contents(path) == held(world, "whole")


def test_another_passport_names_the_fields_and_changes_nothing(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = worlds.tree(world / "features" / "whole.zarr")
    assert cache(world, "--name", "whole", "--sampling", "fps1-12") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "frames.sampling: 'midpoints-12' in the store, 'fps1-12' wanted" in told
    assert "--name" in told
    assert cache(world, "--name", "whole", "--only", "audio", "--panns", "cnn10:random") == 2
    assert "audio.name" in capsys.readouterr().err
    after = worlds.tree(world / "features" / "whole.zarr")
    assert {k: v for k, v in after.items() if ".lock" not in k} == {k: v for k, v in before.items() if ".lock" not in k}


def test_changed_data_are_told_in_words_with_a_remedy_that_works(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = {f"clip00{i}.mp4": [f"clip {i} says {j} words of it" for j in range(2)] for i in (1, 2, 3, 0)}
    captions["clip001.mp4"][0] = "corrected"
    (small / "root" / "clip000.mp4").unlink()
    shutil.copyfile(small / "root" / "clip001.mp4", small / "root" / "clip003.mp4")
    worlds.captions_csv(small / "root", {name: texts for name, texts in captions.items() if name != "clip000.mp4"})
    (small / "root" / "captions.csv").write_text(
        (small / "root" / "captions.csv")
        .read_text()
        .replace("clip 2 says 0 words of it,train", "clip 2 says 0 words of it,val")
        .replace("clip 2 says 1 words of it,train", "clip 2 says 1 words of it,val")
    )
    capsys.readouterr()
    assert cache(small, "--name", "s") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    path = small / "features" / "s.zarr"
    assert told.startswith(
        f"lab.cache: error: {path} was made of other data, since then: 1 video came (clip003.mp4); 1 video went "
        "(clip000.mp4); 1 caption differs (clip001.mp4); 1 video is in another split (clip002.mp4). "
    )
    assert f"--name s-2, which other commands take as --store {path.with_name('s-2.zarr')}," in told
    assert cache(small, "--name", "s-2") == 0
    assert cache(small, "--name", "s") == 2
    assert "--name s-3" in capsys.readouterr().err


def test_captions_in_another_order_are_other_data(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A video's captions: rows are numbers. The order of the videos in the file says nothing, they are sorted."""
    file = small / "root" / "captions.csv"
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header, *rows[4:], *rows[:4]]))
    assert cache(small, "--name", "s") == 0
    file.write_text("\n".join([header, rows[1], rows[0], *rows[2:]]))
    capsys.readouterr()
    assert cache(small, "--name", "s") == 2
    assert "was made of other data, since then: its order or its ground truth. Its rows" in capsys.readouterr().err


def test_two_passes_at_one_store(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lab.store.lock import writing

    with writing(world / "features" / "whole.zarr"):
        assert cache(world, "--name", "whole") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"process {os.getpid()}" in line


def test_dry_run_tells_and_writes_nothing(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(world, "--name", "dry", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "videos with a file" in out
    assert "expected for videos" in out
    assert not (world / "features" / "dry.zarr").exists()


def test_dry_run_without_weights_tells_all_but_the_time(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RETRIEVAL_LAB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    plain = ["--dataset", "folder", "--root", str(world / "root"), "--features", str(tmp_path / "f"), "--dry-run"]
    assert cli.run(main, plain) == 0
    out = capsys.readouterr().out
    told = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line)
    assert {key: value.strip() for key, value in told.items()} == {
        "videos with a file": "37",
        "videos missing": "0",
        "bytes of video": f"{sum(file.stat().st_size for file in (world / 'root').glob('*.mp4')):,}",
        "captions to encode": "74",
        "store": str(tmp_path / "f/folder-root-ViT-B-32-quickgelu-openai-midpoints-12.zarr"),
        "expected time": "unknown, 2 of the networks cannot be tried",
    }
    clip, panns = (line for line in out.splitlines() if line.startswith("! "))
    assert "the weights of OpenAI CLIP ViT-B/32" in clip
    assert clip.endswith("; --clip random tries the chain, its features mean nothing")
    assert "the weights of PANN Cnn14" in panns
    assert panns.endswith("; --panns random tries the chain, its features mean nothing")
    assert cli.run(main, [*plain, "--clip", "ViT-B-23:openai"]) == 2  # a wrong name is no lack of weights
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dataset", "mvsd"], "did you mean 'msvd'"),
        (["--dataset", "folder", "--root", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--dataset", "folder", "--shard", "3/2"], "--shard"),
        (["--dataset", "folder", "--limit", "-1"], "--limit"),
        (["--dataset", "folder", "--sampling", "midpoint-12"], "midpoints"),
        (["--dataset", "folder", "--clip", "ViT-B-23:random"], "ViT-B-32"),
        (["--dataset", "folder", "--clip", "ViT-B-32:openai"], "ViT-B-32-quickgelu"),
        (["--dataset", "folder", "--panns", "cnn15"], "cnn14"),
        (["--dataset", "folder", "--name", "../escape"], "--name"),
        (["--dataset", "folder", "--split", "70/10"], "70/10/20"),
    ],
)
def test_a_wrong_argument_gets_one_line(
    world: Path, tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = worlds.tiny_networks(world)[1]
    given = {"--root": str(world / "root"), "--clip": clip, "--panns": "none"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    given["--features"] = str(tmp_path / "features")
    assert cli.run(main, [part for pair in given.items() for part in pair]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert told in err[-1]
    assert "Traceback" not in "".join(err)
    assert not list(tmp_path.glob("features/*.zarr"))


def test_features_that_cannot_be_written_are_told_before_a_network_is_loaded(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lab.cache.backbones", lambda *_: pytest.fail("a network was loaded before"))
    (tmp_path / "file").write_text("mine")
    assert cache(world, "--features", str(tmp_path / "file")) == 2
    assert "a file is there where a directory is needed" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(not SHARED.exists(), reason="the real clips are not on this machine")
@pytest.mark.parametrize("name", ["clips", "msrvtt"])
def test_real_clips(name: str, tmp_path: Path) -> None:
    dataset = {"clips": "folder", "msrvtt": "msrvtt"}[name]
    given = ["--dataset", dataset, "--root", str(SHARED / "data" / name), *worlds.tiny_networks(tmp_path)]
    cli.run(main, [*given, "--features", str(tmp_path), "--name", "real"])
    store = open_store(tmp_path / "real.zarr")
    audio = {
        entry.video: entry.status for entry in store.ledger if entry.modality == "audio" and entry.status != "missing"
    }
    if name == "clips":
        assert len(audio) == 7
        assert set(audio.values()) == {"ok"}
        assert store.splits == ("all",)
    else:
        assert audio == {"video7500": "no_audio"}
    assert list(problems(store)) == []
