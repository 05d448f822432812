"""Code of a study cannot reach held-out captions or videos before its final step."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

import lab.studies
from lab.errors import LabError
from lab.evaluate import evaluate
from lab.heads import build_head
from lab.reads import load_split, log_file
from lab.store import open_store
from lab.studies.guard import GUARDED, TOLD, SealedError, SealedStore

CODE = Path(lab.studies.__file__).parent


def held_out(store: SealedStore, table: str) -> int:
    rows = getattr(open_store(store.path), table)
    return next(i for i, row in enumerate(rows) if row["splits"].get("whole") == "test")


REACHES: dict[str, Callable[[SealedStore], Any]] = {
    "the split": lambda store: store.load("test"),
    "the split by another protocol": lambda store: store.load("test", "few"),
    "the split that is everything": lambda store: store.load("all"),
    "a caption": lambda store: store.captions[held_out(store, "captions")]["text"],
    "whose caption it is": lambda store: store.captions[held_out(store, "captions")]["video"],
    "a video": lambda store: store.videos[held_out(store, "videos")]["id"],
    "values of an array": lambda store: store.array("frames")[30:],
    "an array": lambda store: store.read("sentences"),
    "the group": lambda store: store.group["frames"],
    "a table": lambda store: store.table("captions"),
    "the ledger": lambda store: list(store.ledger),
    "thumbnails": lambda store: store.thumbnails(30),
    "frame times": lambda store: store.frame_times_s(np.arange(30, 31)),
    "rows of videos": lambda store: store.videos_of(np.arange(30, 31)),
    "the loader of a split": lambda store: load_split(store, "test", needs=build_head("mean", 7)),
}


@pytest.mark.parametrize("what", REACHES)
def test_what_is_held_out_cannot_be_reached(full: Path, what: str) -> None:
    log = log_file(open_store(full))
    before = log.read_bytes() if log.exists() else None  # other tests may read the shared store's test split
    with pytest.raises(ValueError, match=r"asked for|sealed|held out"):
        REACHES[what](SealedStore(open_store(full)))
    assert (log.read_bytes() if log.exists() else None) == before


def test_whatever_the_guard_does_not_name_is_out_of_reach(full: Path) -> None:
    """So what a store learns to do one day is out of reach until somebody has thought about it."""
    store = open_store(full)
    names = {name for name in {*dir(store), "new_one"} if not name.startswith("_")} - {*TOLD, *GUARDED}
    assert names >= {"group", "ledger", "read", "take", "table", "thumbnails", "frame_times_s", "new_one"}
    for name in names:
        with pytest.raises(SealedError, match=f"'{name}' of a store was asked for"):
            getattr(SealedStore(store), name)


def test_what_may_be_seen_is_as_it_was(full: Path) -> None:
    store, sealed = open_store(full), SealedStore(open_store(full))
    for split in ("train", "val"):
        (texts, videos), (mine, gallery) = store.load(split), sealed.load(split)
        assert texts.sentences.equal(mine.sentences)
        assert videos.frames.nan_to_num().equal(gallery.frames.nan_to_num())
        rows = mine.rows.tolist() if mine.rows is not None else []
        assert [sealed.captions[row]["text"] for row in rows] == [store.captions[row]["text"] for row in rows]
    assert sealed.coverage("test") == store.coverage("test")
    assert sealed.splits == store.splits
    assert sealed.array("frames").shape == store.array("frames").shape


def test_what_is_asked_of_a_split_is_what_comes(full: Path) -> None:
    how: dict[str, Any] = {"audio": "segments", "words": False, "dtype": torch.float16}
    (texts, videos), (mine, gallery) = (
        open_store(full).load("val", **how),
        SealedStore(open_store(full)).load("val", **how),
    )
    assert mine.words is None
    assert gallery.frames.dtype == torch.float16
    assert gallery.audio is not None
    assert videos.audio is not None
    assert gallery.audio.nan_to_num().equal(videos.audio.nan_to_num())
    assert mine.sentences.equal(texts.sentences)
    assert SealedStore(open_store(full)).load("val", audio=None)[1].audio is None


def test_an_unknown_protocol_is_told_when_a_store_is_sealed(full: Path) -> None:
    with pytest.raises(LabError, match=r"unknown protocol.* 'hwole': did you mean 'whole'"):
        SealedStore(open_store(full), "hwole")


def test_a_split_of_which_no_file_could_be_read_is_one_line(full: Path, tmp_path: Path) -> None:
    shutil.copytree(full, tmp_path / "toy.zarr")
    zarr.open_group(tmp_path / "toy.zarr")["frame_count"][:] = 0
    with pytest.raises(LabError, match=r"no video of split 'val' has features in .*: run the pass on it first"):
        load_split(SealedStore(open_store(tmp_path / "toy.zarr")), "val", needs=build_head("mean", 7))


def test_it_opens_once(full: Path) -> None:
    sealed = SealedStore(open_store(full))
    texts, videos = sealed.unseal().load("test")
    assert len(evaluate(build_head("mean", 7), texts, videos)["t2v"]) == len(texts)
    with pytest.raises(SealedError, match="final step has begun"):
        sealed.unseal()
    with pytest.raises(SealedError, match="final step has begun"):
        sealed.load("val")


def test_only_the_final_step_opens_it() -> None:
    openers = set()
    for file in CODE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "unseal":
                openers.add(file.stem)
            assert not (isinstance(node, ast.Name) and node.id == "open_store"), f"{file} opens a store"
    assert openers == {"final"}
