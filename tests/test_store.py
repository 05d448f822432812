"""Reading a store: what was written is what comes back, and what is broken is told in one line."""

from __future__ import annotations

import json
import logging
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from synthetic import BROKEN, SECTIONS, A, D, F, S, T, V, World, split_of

from lab import open_store
from lab.datasets import Caption, Collection, Video
from lab.embeddings import RaggedWords, Texts
from lab.errors import LabError
from lab.store import Store, thumbnails
from lab.store.create import create_store
from lab.store.damage import damaged
from lab.store.ledger import Entry
from lab.store.writer import FrameRow, StoreWriter


@pytest.fixture
def copy(full: Path, tmp_path: Path) -> Path:
    """The full store, to be damaged."""
    shutil.copytree(full, tmp_path / "toy.zarr")
    return tmp_path / "toy.zarr"


def one_line(error: pytest.ExceptionInfo[LabError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# -- round trip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "protocol"), [("train", None), ("val", "whole"), ("test", "whole"), ("test", "few")])
def test_what_was_written_comes_back(world: World, full: Path, split: str, protocol: str | None) -> None:
    texts, videos = open_store(full).load(split, protocol, audio="segments")
    named = protocol or "whole"
    rows = [
        v for v, video in enumerate(world.collection.videos) if video.splits.get(named) == split and v not in BROKEN
    ]
    assert videos.rows is not None
    assert videos.rows.tolist() == rows
    assert videos.frame_mask is not None
    assert videos.audio is not None
    assert videos.audio_mask is not None
    assert tuple(videos.frames.shape) == (len(rows), F, D)
    assert tuple(videos.audio.shape) == (len(rows), S, A)
    for i, row in enumerate(rows):
        frames, sound = world.frames[row].features, world.audio[row].segments
        assert videos.frame_mask[i].tolist() == [f < len(frames) for f in range(F)]
        assert np.array_equal(videos.frames[i, : len(frames)].numpy(), frames)
        assert videos.frames[i, len(frames) :].isnan().all()
        heard = 0 if sound is None else len(sound)
        assert videos.audio_mask[i].tolist() == [s < heard for s in range(S)]
        assert videos.audio[i, heard:].isnan().all()
        assert sound is None or np.array_equal(videos.audio[i, :heard].numpy(), sound)
    asked = [
        t for t, c in enumerate(world.collection.captions) if c.splits.get(named) == split and c.video not in BROKEN
    ]
    same_texts(world, texts, asked, rows)


def same_texts(world: World, texts: Texts, asked: list[int], rows: list[int]) -> None:
    assert texts.rows is not None
    assert texts.video is not None
    assert texts.rows.tolist() == asked
    assert np.array_equal(texts.sentences.numpy(), world.sentences[asked])
    assert [rows[v] for v in texts.video.tolist()] == [world.collection.captions[t].video for t in asked]
    assert isinstance(texts.words, RaggedWords)
    assert texts.words.values.dtype == torch.float16
    assert texts.words.counts.tolist() == [len(world.words[t]) for t in asked]
    padded, mask = texts.padded_words()
    for i, t in enumerate(asked):
        assert np.array_equal(padded[i][mask[i]].numpy(), world.words[t])


def test_a_protocol_of_few_captions_holds_only_their_words(world: World, full: Path) -> None:
    texts, videos = open_store(full).load("test", "few")
    assert len(texts) == len(videos) == 23  # one caption each of videos 13..36, but for the broken 22
    assert isinstance(texts.words, RaggedWords)
    assert len(texts.words.values) == int(texts.words.counts.sum())


def test_every_caption_of_a_broken_video_is_left_out_and_counted(
    world: World, full: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(full)
    owned = [c.video for c in world.collection.captions]
    listed = sum(split_of(v) == "train" for v in owned)
    held = store.coverage("train")
    assert (held.videos, held.videos_listed) == (21, 23)
    assert (held.captions, held.captions_listed) == (listed - owned.count(5) - owned.count(22), listed)
    assert not held.complete
    assert store.coverage("val").complete
    with caplog.at_level(logging.WARNING, "lab.store"):
        store.load("val")
        assert not caplog.records
        store.load("train")
    assert caplog.messages[0].startswith(
        f"toy train: 21 of 23 videos and {held.captions} of {listed} captions are here"
    )


def test_audio_by_the_clip(world: World, full: Path) -> None:
    _, videos = open_store(full).load("test")
    assert videos.rows is not None
    assert videos.audio is not None
    assert videos.audio_mask is not None
    assert tuple(videos.audio.shape) == (8, 1, A)
    for i, row in enumerate(videos.rows.tolist()):
        clip = world.audio[row].clip
        assert bool(videos.audio_mask[i, 0]) == (clip is not None)
        assert videos.audio[i].isnan().all() if clip is None else np.array_equal(videos.audio[i, 0].numpy(), clip)


def test_absent_silent_and_present_are_three_things(full: Path) -> None:
    presence = open_store(full).array("audio_presence")[:]
    assert presence[[4, 1, 2, 3]].tolist() == [1, 2, 3, 3]  # 4 has no sound, 1 a silent track, 2 and 3 are heard


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_type_that_is_asked_for(full: Path, dtype: torch.dtype) -> None:
    texts, videos = open_store(full).load("val", dtype=dtype)
    assert videos.audio is not None
    assert {texts.sentences.dtype, videos.frames.dtype, videos.audio.dtype} == {dtype}
    assert isinstance(texts.words, RaggedWords)
    assert texts.words.values.dtype == torch.float16


def test_words_are_left_out_when_not_wanted(full: Path) -> None:
    assert open_store(full).load("val", words=False)[0].words is None


def test_times_and_thumbnails(world: World, full: Path) -> None:
    store = open_store(full)
    rows = np.array([31, 3, 17, 3])  # in any order, twice if need be
    times = store.frame_times_s(rows)
    for got, row in zip(times, rows, strict=True):
        wanted = world.frames[row].times_s
        assert np.array_equal(got[: len(wanted)], wanted)
        assert np.isnan(got[len(wanted) :]).all()
    assert store.frame_times_s(np.zeros(0, np.int64)).shape == (0, F)
    for row in range(V):
        assert store.thumbnails(row) == list(world.frames[row].thumbnails)


def test_tables_are_read_by_polars(world: World, full: Path) -> None:
    store = open_store(full)
    videos, captions, ledger = (store.table(name) for name in ("videos", "captions", "ledger"))
    assert videos["id"].to_list() == [video.id for video in world.collection.videos]
    assert videos["file"].to_list()[4:6] == ["v04.mp4", ""]
    assert videos["duration_s"].to_list()[3] == 3.5
    assert np.isnan(videos["duration_s"].to_list()[5])
    assert captions["text"].to_list() == [caption.text for caption in world.collection.captions]
    assert captions["video"].to_list() == [caption.video for caption in world.collection.captions]
    assert ledger.filter(status="undecodable")["video"].to_list() == ["v05", "v22"]


def test_splits_and_protocols(full: Path) -> None:
    store = open_store(full)
    assert store.protocols == ("whole", "few")
    assert store.splits == ("train", "val", "test")
    assert store.splits_of("few") == ("test",)


def test_random_weights_are_said(full: Path, tmp_path: Path, world: World) -> None:
    assert "RANDOM WEIGHTS" in open_store(full).warnings[0]
    real = world.create(tmp_path / "real.zarr")
    real.add_frames(SECTIONS["frames"] | {"random": False}, F, D)
    assert real.store.warnings == ()


# -- little in it ----------------------------------------------------------------------------------------------------


def tiny(path: Path, videos: int, captions: int) -> StoreWriter:
    table = tuple(Video(f"v{i}", None, {"p": "all"}) for i in range(videos))
    queries = tuple(Caption(i % videos, f"c{i}", {"p": "all"}) for i in range(captions))
    create_store(path, Collection("tiny", path.parent, table, queries, ("p",), ()), {})
    return StoreWriter(path)


def test_nothing_written_yet(tmp_path: Path) -> None:
    writer = tiny(tmp_path / "t.zarr", 3, 2)
    with pytest.raises(LabError, match=r"no video of split 'all' has features in .*: run the pass on it first"):
        writer.store.load("all")
    writer.add_frames({}, F, D)
    store = open_store(tmp_path / "t.zarr")
    assert np.isnan(store.array("frames")[:]).all()
    assert np.isnan(store.array("duration_s")[:]).all()
    with pytest.raises(LabError, match="no video of split 'all' has features"):
        store.load("all")


def test_a_split_without_captions_is_a_gallery(tmp_path: Path) -> None:
    writer = tiny(tmp_path / "t.zarr", 3, 0)
    writer.add_frames({}, F, D)
    writer.add_text({}, D, [], [], [])
    writer.write_frames(0, [FrameRow(np.ones((2, D), np.float32), np.arange(2.0), (), 1.0), None])
    texts, videos = open_store(tmp_path / "t.zarr").load("all")
    assert (tuple(texts.sentences.shape), len(videos)) == ((0, D), 1)
    assert texts.video is not None
    assert texts.video.shape == (0,)
    assert videos.audio is None


def test_frames_without_text(tmp_path: Path) -> None:
    writer = tiny(tmp_path / "t.zarr", 3, 2)
    writer.add_frames({}, F, D)
    writer.write_frames(0, [FrameRow(np.ones((1, D), np.float32), np.zeros(1), (), 1.0)])
    texts, videos = open_store(tmp_path / "t.zarr").load("all")
    assert (len(texts), len(videos)) == (0, 1)


@pytest.mark.parametrize(("videos", "captions"), [(0, 0), (2, 0)])
def test_an_empty_collection(tmp_path: Path, videos: int, captions: int) -> None:
    writer = tiny(tmp_path / "t.zarr", videos, captions)
    writer.add_frames({}, F, D)
    writer.add_text({}, D, [], [], [])
    writer.add_audio({}, S, A)
    store = open_store(tmp_path / "t.zarr")
    assert (store.table("videos").height, store.table("captions").height, store.table("ledger").height) == (
        videos,
        0,
        0,
    )
    assert store.splits == (("all",) if videos else ())
    assert store.array("frames").shape == (videos, F, D)


def test_captions_without_a_word(tmp_path: Path) -> None:
    writer = tiny(tmp_path / "t.zarr", 1, 3)
    writer.add_frames({}, F, D)
    writer.add_text({}, D, [0, 0, 0], [], [])
    writer.write_frames(0, [FrameRow(np.ones((1, D), np.float32), np.zeros(1), (), 1.0)])
    writer.write_text(np.arange(3), np.ones((3, D), np.float32), np.zeros((0, D), np.float32))
    texts, _ = open_store(tmp_path / "t.zarr").load("all")
    words, mask = texts.padded_words()
    assert (tuple(words.shape), tuple(mask.shape)) == ((3, 0, D), (3, 0))


# -- errors ----------------------------------------------------------------------------------------------------------


def test_unknown_names_suggest_the_nearest(full: Path) -> None:
    store = open_store(full)
    with pytest.raises(LabError) as error:
        store.load("tset")
    assert one_line(error) == "unknown split of toy whole 'tset': did you mean 'test'? known: train, val, test"
    with pytest.raises(LabError) as error:
        store.load("train", "few")
    assert one_line(error).endswith("known: test")
    with pytest.raises(LabError) as error:
        store.coverage("test", "hole")
    assert one_line(error) == "unknown protocol of toy 'hole': did you mean 'whole'? known: whole, few"


def test_not_a_store(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.zarr"):
        with pytest.raises(LabError) as error:
            open_store(path)
        assert one_line(error) == f"{path} is not a feature store: make one with python -m lab.cache --dataset NAME"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "\x00\xff",
        "[]",
        "{}",
        '{"zarr_format": 3, "node_type": "group", "attributes": {}}',
        '{"zarr_format": 3, "node_type": "group", "attributes": {"schema": "one", "passport": {}, "name": "x"}}',
        '{"zarr_format": 3, "node_type": "group", "attributes": {"schema": 1, "passport": 5, "name": "x"}}',
        '{"zarr_format": 3, "node_type": "group", "attributes": {"schema": 1, "passport": {"frames": null}, '
        '"name": "x", "protocols": ["p"]}}',
        '{"zarr_format": 3, "node_type": "group", "attributes": {"schema": 1, "passport": {}, "name": "x", '
        '"protocols": []}}',
        '{"zarr_format": 3, "node_type": "group", "attributes": {"schema": 1, "passport": {}, "name": "x", '
        '"protocols": "p"}}',
        '{"zarr_format": 3, "node_type": "group", "attributes": {"schema": 1, "passport": {}, "name": null, '
        '"protocols": ["p"]}}',
        '{"zarr_format": 3, "node_type": "array"}',
        '{"zarr_format": 9, "node_type": "group"}',
    ],
)
def test_damaged_metadata_is_one_line(copy: Path, content: str) -> None:
    (copy / "zarr.json").write_text(content, encoding="latin-1")
    with pytest.raises(LabError) as error:
        open_store(copy)
    assert one_line(error).startswith(f"{copy} is damaged: ")
    assert one_line(error).endswith("; restore zarr.json, or make the store again")


def test_a_newer_schema_is_refused_even_if_its_fields_have_other_names(copy: Path) -> None:
    root = json.loads((copy / "zarr.json").read_text())
    root["attributes"] = {"schema": 2, "identity": root["attributes"]["passport"]}
    (copy / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(LabError) as error:
        open_store(copy)
    assert one_line(error) == f"{copy} has schema 2, this version reads up to 1: upgrade the lab to open it"


@pytest.mark.parametrize("name", ["frames", "sentences", "words", "audio", "frame_count"])
def test_a_missing_array_is_named(copy: Path, name: str) -> None:
    shutil.rmtree(copy / name)
    with pytest.raises(LabError) as error:
        open_store(copy).load("test")
    assert one_line(error).startswith(f"{copy}: array '{name}' is gone or damaged (")
    assert f"python -m lab.inspect {copy} --verify" in one_line(error)


def test_a_damaged_array_is_named(copy: Path) -> None:
    (copy / "frames" / "zarr.json").write_text("{")
    with pytest.raises(LabError) as error:
        open_store(copy).load("test")
    assert "array 'frames' is gone or damaged" in one_line(error)


@pytest.mark.parametrize("name", ["frames", "words"])
def test_a_chunk_that_was_cut_is_named(copy: Path, name: str) -> None:
    for chunk in (copy / name / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(LabError) as error:
        open_store(copy).load("train")
    assert f"array '{name}' cannot be read (" in one_line(error)


def test_what_a_kill_left_beside_chunks_is_no_damage(copy: Path) -> None:
    """Under our names for files that are being written, and under zarr's, of stores that it wrote by itself."""
    for name, tail in (("frames", "0"), ("frame_count", "")):
        folder = copy / name / "c" / tail
        for litter in (".0.ab12", "0.ab12.partial"):
            (folder / litter).write_bytes(b"half")
    assert list(damaged(open_store(copy))) == []


def test_a_pipe_for_a_chunk_is_not_waited_for(copy: Path) -> None:
    chunk = next(file for file in (copy / "frames" / "c").rglob("0") if file.is_file())
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(LabError) as error:
        open_store(copy).load("train")
    assert "array 'frames' cannot be read (" in one_line(error)


@pytest.mark.parametrize("table", ["videos", "captions"])
def test_a_damaged_table_is_named(copy: Path, table: str) -> None:
    file = copy / "tables" / f"{table}.ndjson"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(LabError) as error:
        open_store(copy).load("test")
    assert str(file) in one_line(error)
    file.unlink()
    with pytest.raises(LabError) as error:
        open_store(copy).load("test")
    assert str(file) in one_line(error)


ROWS = {
    "videos": ['{"id": "a"}', "1", '{"id": "a", "file": 1, "splits": {}}', "[" * 100_000,
               '{"id": "a", "file": "", "splits": {"p": []}}'],
    "captions": ['{"video": "x", "text": "", "splits": {}}', '{"video": true, "text": "", "splits": {}}',
                 '{"video": 1' + 30 * "0" + ', "text": "", "splits": {}}', '{"video": 0, "text": 7, "splits": {}}',
                 '{"video": 0, "text": "", "splits": {}, "start_s": "soon"}', "null"],
}  # fmt: skip


@pytest.mark.parametrize(("table", "row"), [(table, row) for table, rows in ROWS.items() for row in rows])
def test_a_row_of_the_wrong_form_is_named(copy: Path, table: str, row: str) -> None:
    file = copy / "tables" / f"{table}.ndjson"
    file.write_text(file.read_text() + row + "\n")
    with pytest.raises(LabError) as error:
        open_store(copy).load("test")
    assert one_line(error).startswith(f"{file} is damaged or gone (")
    assert len(one_line(error)) < 400


@pytest.mark.parametrize("flat", [True, False])
def test_an_array_of_another_form_is_named(copy: Path, flat: bool) -> None:
    group = zarr.open_group(copy, mode="r+")
    frames: Any = group["frames"]
    values = frames[:]
    group.create_array("frames", data=values[:, 0] if flat else values.view("i2"), overwrite=True)
    with pytest.raises(LabError) as error:
        open_store(copy).load("test")
    assert "array 'frames' is gone or damaged (ValueError: " in one_line(error)


def test_a_damaged_archive_of_thumbnails_is_named(copy: Path) -> None:
    file = copy / "thumbnails" / "000000.zip"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(LabError) as error:
        Store(copy).thumbnails(3)
    assert str(file) in one_line(error)
    file.unlink()
    assert Store(copy).thumbnails(3) == []


@pytest.mark.parametrize("spoiled", ["encrypted", "unknown compression", "damaged bytes", "too large"])
def test_an_archive_of_thumbnails_by_others_is_named(copy: Path, spoiled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = copy / "thumbnails" / "000000.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("000003-000.jpg", bytes(1000))
    content = bytearray(file.read_bytes())
    listed = content.index(b"PK\x01\x02")
    if spoiled == "encrypted":
        content[6] = content[listed + 8] = 1
    elif spoiled == "unknown compression":
        content[8] = content[listed + 10] = 99
    elif spoiled == "damaged bytes":
        content[44:48] = b"\xff\xff\xff\xff"
    else:
        monkeypatch.setattr(thumbnails, "MOST_BYTES", 999)
    file.write_bytes(content)
    with pytest.raises(LabError) as error:
        Store(copy).thumbnails(3)
    assert one_line(error).startswith(f"{file} is damaged (")
    assert "its frames are then shown without pictures" in one_line(error)


def test_a_ledger_row_has_every_field(full: Path) -> None:
    assert set(open_store(full).table("ledger").columns) == set(Entry.__dataclass_fields__)


def test_the_world_is_as_prime_as_it_says(world: World) -> None:
    assert [len({v for v in range(V) if split_of(v) == s}) for s in ("train", "val", "test")] == [23, 6, 8]
    assert (len(world.words), len(world.frames)) == (T, V)
