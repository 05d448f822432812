"""Features that somebody already has, made into a store: matched to videos, checked as a whole, then written.

Everything is read twice: once for its shapes and its sanity, before anything is written, and once to be stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lab.cli import bar
from lab.convert.layouts import Choice, open_features
from lab.convert.layouts.captions import collection_of, read_queries
from lab.convert.layouts.survey import Rows, Survey, match
from lab.convert.store import fresh_store
from lab.convert.text import Spoken, write_texts
from lab.datasets import Collection
from lab.errors import LabError
from lab.store import CHUNK_VIDEOS, UNIT_VIDEOS, Store, open_store
from lab.store.create import create_store
from lab.store.ledger import Entry, videos_block
from lab.store.writer import AudioRow, FrameRow, StoreWriter


@dataclass(frozen=True)
class Origin:
    """Where features come from and what is known of them; the defaults of the command stand here.

    ``collection``: the data set whose videos these are; without it, the videos are those that have features or are in
    ``captions``. ``text``: a directory of Moment-DETR's qid*.npz, which needs ``captions`` with their qids.
    """

    layout: str | None = None
    choice: Choice = field(default_factory=Choice)
    collection: Collection | None = None
    captions: Path | None = None
    text: Path | None = None
    audio: Path | None = None
    audio_choice: Choice = field(default_factory=Choice)
    frames: int | None = None
    clip_name: str = "unknown"
    logit_scale: float = 100.0


def import_features(source: Path, target: Path, origin: Origin, *, force: bool = False) -> Store:
    """The store made of the features at ``source``. Raises LabError where they do not fit, having written nothing."""
    collection, qids = origin.collection, None
    queries = read_queries(origin.captions) if origin.captions else []
    if collection is not None and (queries or origin.text):
        raise LabError(
            "--captions and --text come in place of --dataset, which has captions of its own: give one of them"
        )
    if origin.text and not any(query.qid for query in queries):
        raise LabError("--text DIR needs --captions FILE with the qid of each caption: its files are named by them")
    with ExitStack() as held:
        fresh = held.enter_context(fresh_store(target, force))
        frames = held.enter_context(open_features(source, origin.layout, origin.choice))
        if collection is None:
            collection, qids = collection_of(frames.ids, queries, source.parent)
        seen, heard, spoken = Survey(frames, match(collection, frames), origin.frames), None, None
        if origin.audio:
            sound = held.enter_context(open_features(origin.audio, None, origin.audio_choice))
            heard = Survey(sound, match(collection, sound), origin.frames)
        if origin.text and qids:
            spoken = Spoken(origin.text, qids)
            if spoken.dim != seen.dim:
                raise LabError(
                    f"texts and frames must be as wide as each other, {origin.text} has {spoken.dim} dims and {source} "
                    f"{seen.dim}: take both from one network, or leave --text out"
                )
        create_store(fresh, collection)
        writer = StoreWriter(fresh)
        _frames(writer, seen, origin)
        if heard:
            _audio(writer, heard)
        if spoken:
            write_texts(writer, spoken, {"name": origin.clip_name, "logit_scale": origin.logit_scale})
    return open_store(target)


def _frames(writer: StoreWriter, seen: Survey, origin: Origin) -> None:
    about = {"name": origin.clip_name, "logit_scale": origin.logit_scale}
    writer.add_frames({**about, **seen.section()}, seen.length, seen.dim)
    for block in _units(writer, "frames"):
        held = [seen.row(row) for row in block]
        writer.write_frames(block.start, [None if rows is None else _frame_row(rows) for rows in held])
        _record(writer, block, "frames", [rows is not None for rows in held], seen)


def _frame_row(rows: Rows) -> FrameRow:
    """Frames of which no time is known, nor how they look."""
    return FrameRow(rows.astype(np.float32), np.full(len(rows), np.nan), [], float("nan"))


def _audio(writer: StoreWriter, heard: Survey) -> None:
    """Segments as they come; the clip's vector is their mean, and the passport says so."""
    section = {"name": "unknown", **heard.section(), "clip": "mean of the segments"}
    writer.add_audio(section, heard.length, heard.dim)
    for block in _units(writer, "audio"):
        held = [heard.row(row) for row in block]
        silent = ["absent" if row in heard.names else "unknown" for row in block]
        writer.write_audio(block.start, [_audio_row(*both) for both in zip(held, silent, strict=True)])
        _record(writer, block, "audio", [rows is not None for rows in held], heard)


def _audio_row(rows: Rows | None, otherwise: str) -> AudioRow:
    if rows is None:
        return AudioRow(None, None, otherwise)
    return AudioRow(rows.mean(axis=0, dtype=np.float32), rows.astype(np.float32), "present")


def _units(writer: StoreWriter, what: str) -> Iterator[range]:
    V = len(writer.store.videos)
    with bar(V, what, "video") as shown:
        for first in range(0, V, UNIT_VIDEOS):
            block = range(first, min(first + UNIT_VIDEOS, V))
            yield block
            shown.update(len(block))


def _record(writer: StoreWriter, block: range, modality: str, here: Sequence[bool], source: Survey) -> None:
    """The ledger's rows of a unit."""
    name = source.features.path.name
    marked = ("no_audio" if modality == "audio" else "missing", f"marked as missing in {name}")
    entries = []
    for row, held in zip(block, here, strict=True):
        status, reason = (
            ("ok", "imported") if held else marked if row in source.names else ("missing", f"not in {name}")
        )
        entries.append(Entry(writer.store.videos[row]["id"], modality, status, reason))
    writer.record(videos_block(block.start // CHUNK_VIDEOS), entries)
