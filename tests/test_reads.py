"""Held-out splits: who may read them, what is written down, and how it is counted."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from synthetic import SECTIONS, A, D, F, S, World

from lab.embeddings import RaggedWords
from lab.errors import LabError
from lab.gallery import gallery_rows
from lab.heads import build_head
from lab.needs import Needs
from lab.reads import Reader, count_reads, load_split, log_file
from lab.store import Store, open_store
from lab.store.find import find_store
from lab.store.ledger import Entry

ME = Reader("a test", "mean")


@pytest.fixture
def store(full: Path, tmp_path: Path) -> Store:
    """A copy: reading a test split leaves a file beside it."""
    shutil.copytree(full, tmp_path / "toy.zarr")
    return open_store(tmp_path / "toy.zarr")


def test_a_read_of_a_held_out_split_leaves_a_line(store: Store) -> None:
    assert count_reads(store, "test") == 0
    for run in (None, "studies/runs/x"):
        load_split(store, "test", needs=build_head("mean", D), reader=Reader("lab.evaluate mean", "mean", run))
    lines = [json.loads(line) for line in log_file(store).read_text().splitlines()]
    assert [line.pop("time")[:2] for line in lines] == ["20", "20"]
    held = store.coverage("test")
    wanted = {"command": "lab.evaluate mean", "head": "mean", "protocol": "whole", "split": "test"}
    assert lines[0] == wanted | {"run": None, "captions": held.captions, "videos": 8}
    assert lines[1]["run"] == "studies/runs/x"
    load_split(store, "test", "few", needs=build_head("mean", D), reader=ME)
    assert count_reads(store, "test") == 3  # under any protocol: they share their videos
    assert log_file(store) == store.path.with_name("toy.reads.jsonl")


def test_a_store_that_is_not_there_is_told_with_a_command_that_makes_it(tmp_path: Path) -> None:
    for name, made in (("folder", "cache --dataset folder --root DIR"), ("msvd", "cache --dataset msvd"),
                       ("imported", f"convert FEATURES {tmp_path}/NAME.zarr --captions FILE")):  # fmt: skip
        with pytest.raises(LabError) as error:
            find_store(tmp_path, name)
        assert str(error.value) == f"no store of {name} in {tmp_path}: make one with python -m lab.{made}"
    with pytest.raises(LabError, match=r"^unknown dataset 'fodler': did you mean 'folder'"):
        find_store(tmp_path, "fodler")


def test_training_cannot_reach_it(store: Store) -> None:
    with pytest.raises(ValueError, match="split 'test' is held out: only a final evaluation reads it"):
        load_split(store, "test", needs=build_head("mean", D))
    for split in ("train", "val"):
        assert len(load_split(store, split, needs=build_head("mean", D), reader=ME)[0])
    assert count_reads(store, "test") == 0
    assert not log_file(store).exists()


def test_a_look_that_fails_is_none(store: Store, world: World, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="unknown split of toy 'vla': did you mean 'val'"):
        load_split(store, "vla", needs=build_head("mean", D), reader=ME)
    path = tmp_path / "half.zarr"
    writer = world.create(path)
    with pytest.raises(
        LabError,
        match=r"half.zarr has captions without features: add those with python -m lab.cache .* toy .*--only text",
    ):
        load_split(open_store(path), "test", needs=build_head("mean", D), reader=ME)
    world.add_text(writer)
    writer.add_frames(SECTIONS["frames"], F, D)
    half = open_store(path)
    with pytest.raises(LabError, match=r"no video of split 'test' has features in .*half.zarr: run the pass on it"):
        load_split(half, "test", needs=build_head("mean", D), reader=ME)
    with pytest.raises(LabError, match=r"half.zarr holds no audio, which this head reads: add it with .*--only audio"):
        load_split(half, "test", needs=build_head("cmfi", D, video="mean", audio_dim=A), reader=ME)
    for first, rows in world.units():
        writer.write_frames(first, [world.frames[row] for row in rows])
    with pytest.raises(LabError, match=r"no caption of split 'test' has features in .*half.zarr: run the pass on it"):
        load_split(half, "test", needs=build_head("mean", D), reader=ME)
    half.__dict__["videos"] = [video | {"splits": {"whole": "train"}} for video in half.videos]
    with pytest.raises(
        LabError, match=r"there is no split 'test', .*half.zarr has train: give captions.csv rows of split test too, or"
    ):
        load_split(half, "test", needs=build_head("mean", D), reader=ME)
    half.__dict__["videos"] = [video | {"splits": {"whole": "all"}} for video in half.videos]
    with pytest.raises(LabError, match=r"has all: give captions.csv a split column, or let --split 70/10/20 deal"):
        load_split(half, "test", needs=build_head("mean", D), reader=ME)
    assert count_reads(half, "test") == 0


def test_a_split_whose_files_are_all_broken_is_not_sent_back_to_the_pass(world: World, tmp_path: Path) -> None:
    writer = world.create(tmp_path / "s.zarr")
    world.make_room(writer)
    store = open_store(tmp_path / "s.zarr")
    val = [video["id"] for video in store.videos if video["splits"]["whole"] == "val"]
    ways = (
        lambda: load_split(store, "val", needs=build_head("mean", D)),
        lambda: store.load("val"),
        lambda: gallery_rows(store, "val"),
    )
    writer.record("videos-000000", [Entry(name, "frames", "undecodable", "torn") for name in val[1:]])
    for look in ways:
        with pytest.raises(LabError, match=r"no video of split 'val' has features in .*: run the pass on it first$"):
            look()
    writer.record("videos-000000", [Entry(val[0], "frames", "empty", "0 bytes")])
    for look in ways:
        with pytest.raises(LabError) as error:
            look()
        assert f", of {len(val)} the pass could read none: mend what python -m" in str(error.value)
        assert f"lab.inspect {store.path} --all names" in str(error.value)
    with pytest.raises(LabError, match=r"^no video has features in .*: run the pass on it first$"):
        gallery_rows(store)


def test_a_log_that_was_cut_short_counts_and_goes_on(store: Store) -> None:
    log_file(store).write_bytes(b'{"split": "test"}\n{"split": "val"}\n\n[1]\n{"time": "2026-0')
    assert count_reads(store, "test") == 3  # one, and two that nobody can read
    load_split(store, "test", needs=build_head("mean", D), reader=ME)
    assert count_reads(store, "test") == 4
    assert json.loads(log_file(store).read_bytes().splitlines()[-1])["command"] == "a test"


def test_reads_at_the_same_time_are_all_there(store: Store) -> None:
    def read(_: int) -> None:
        load_split(store, "test", needs=build_head("mean", D), reader=ME)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(20)))
    assert [json.loads(line)["split"] for line in log_file(store).read_text().splitlines()] == ["test"] * 20


def test_what_cannot_be_written_down_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log_file(store).mkdir()
    monkeypatch.setattr(Store, "load", lambda *_, **__: pytest.fail("the split was read"))
    with pytest.raises(LabError, match=r"toy.reads.jsonl cannot be written \(Is a directory\), and a test split"):
        load_split(store, "test", needs=build_head("mean", D), reader=ME)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_told(store: Store, tmp_path: Path, number: int) -> None:
    """And its remedy, a link on another disk, is one: the log is beside the link."""

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        with pytest.raises(LabError, match=r"mount it with file locks \(Lustre: -o flock\), or link the store into a "):
            load_split(store, "test", needs=build_head("mean", D), reader=ME)
    link = tmp_path / "elsewhere" / "toy.zarr"
    link.parent.mkdir()
    link.symlink_to(store.path)
    load_split(open_store(link), "test", needs=build_head("mean", D), reader=ME)
    assert (count_reads(open_store(link), "test"), count_reads(store, "test")) == (1, 0)
    assert log_file(open_store(link)).parent == link.parent


def test_only_what_the_head_needs_is_loaded(store: Store) -> None:
    texts, videos = load_split(store, "val", needs=build_head("xpool", D))
    assert texts.words is None
    assert videos.audio is None
    hearing = build_head("cmfi", D, video="wf", audio_dim=A)
    for level, segments in (("clip", 1), ("segments", S)):
        texts, videos = load_split(store, "val", needs=Needs.of(hearing, audio_level=level))
        assert isinstance(texts.words, RaggedWords)
        assert videos.audio is not None
        assert videos.audio.shape[1:] == (segments, A)


def test_what_several_heads_read() -> None:
    heads = {name: build_head(name, D) for name in ("mean", "wf")}
    heads["cmfi"] = build_head("cmfi", D, video="mean", audio_dim=A)
    assert Needs.of() == Needs.of(heads["mean"], audio_level="segments") == Needs(words=False, audio=None)
    assert Needs.of(heads["mean"], heads["wf"]) == Needs(words=True)
    assert Needs.of(*heads.values(), audio_level="segments") == Needs(words=True, audio="segments")
    assert Needs.of(heads["cmfi"]) == Needs(audio="segments").at("clip")
    assert Needs(words=True).at("segments") == Needs(words=True)  # it stays deaf


def test_without_a_head_a_split_is_all_that_there_is(store: Store) -> None:
    texts, videos = load_split(store, "test", reader=ME)
    assert isinstance(texts.words, RaggedWords)
    assert videos.audio is not None
    assert videos.audio.shape[1:] == (1, A)
    assert count_reads(store, "test") == 1
    del store.passport["audio"]
    assert load_split(store, "val")[1].audio is None


def test_words_that_a_store_does_not_hold(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Store.load

    def wordless(*args: object, **kwargs: object) -> object:
        texts, videos = load(*args, **kwargs)  # type: ignore[arg-type]
        texts.words.counts.zero_()
        return texts, videos

    monkeypatch.setattr(Store, "load", wordless)
    with pytest.raises(LabError, match=r"toy.zarr holds no words, which this head reads: a pass of python"):
        load_split(store, "val", needs=build_head("wf", D))
    assert len(load_split(store, "val")[0])


def test_captions_without_a_word_are_no_samples_but_stay_queries(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    every, _ = load_split(store, "train", needs=build_head("mean", D))
    texts, _ = load_split(store, "train", needs=build_head("wf", D))
    counts = store.read("word_count")[every.rows.numpy()]  # type: ignore[union-attr]
    assert 0 < (counts == 0).sum() < len(every)
    assert f"{(counts == 0).sum()} captions without a word are left out of the training" in caplog.text
    assert texts.rows.tolist() == every.rows[torch.from_numpy(counts > 0)].tolist()  # type: ignore[index, union-attr]
    assert len(load_split(store, "val", needs=build_head("wf", D))[0]) == store.coverage("val").captions
