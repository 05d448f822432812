"""Whether a store holds what it says: all is read once and held against the tables, the counts and the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.errors import LabError
from lab.store.damage import damaged
from lab.store.layout import AUDIO, CHUNK_VIDEOS, FRAMES, PRESENCE
from lab.store.ledger import STORED, Entry
from lab.store.reader import Store


def problems(store: Store) -> Iterator[str]:
    """One line for each thing that is not as it must be; none for a sound store. Reads every array block by block."""
    try:
        if broken := list(damaged(store)):
            yield from broken  # reading stops at the first of them
            return
        entries = list(store.ledger)
        yield from _tables(store)
        if "frames" in store.passport:
            yield from _frames(store, entries)
        if "audio" in store.passport:
            yield from _audio(store, entries)
        if "text" in store.passport:
            yield from _text(store, entries)
    except LabError as error:
        yield str(error)
    except (OSError, ValueError, RuntimeError) as error:
        yield f"reading stopped: {type(error).__name__}: {error}"


def _tables(store: Store) -> Iterator[str]:
    V = len(store.videos)
    if len({video["id"] for video in store.videos}) != V:
        yield "videos.ndjson: ids are not unique"
    untold = sum(not _is_truth(caption) for caption in store.captions)
    if untold:
        yield f"captions.ndjson: {untold} captions break 0 <= start_s < end_s, or needs_sound is neither true nor false"
    foreign = {name for row in (*store.videos, *store.captions) for name in row["splits"]} - set(store.protocols)
    if foreign:
        yield f"tables: splits of protocols that the store does not declare: {', '.join(sorted(foreign))}"


def _is_truth(caption: dict[str, Any]) -> bool:
    """Whether a caption's ground truth is well-formed; all of it may be unknown, but not one end of a stretch."""
    start_s, end_s, needs_sound = (caption[name] for name in ("start_s", "end_s", "needs_sound"))
    known = isinstance(start_s, int | float) and isinstance(end_s, int | float)
    told = 0 <= start_s < end_s if known else start_s is None and end_s is None
    return told and (needs_sound is None or isinstance(needs_sound, bool))


def _shaped(store: Store, name: str, rows: int) -> Iterator[str]:
    found = store.array(name).shape[0]
    if found != rows:
        yield f"{name}: {found} rows for {rows} in its table"


def _frames(store: Store, entries: list[Entry]) -> Iterator[str]:
    V = len(store.videos)
    for name in FRAMES:
        yield from _shaped(store, name, V)
    short = int((store.read("duration_s") < 0).sum())
    if short:
        yield f"duration_s: {short} are negative"
    counts = store.read("frame_count")
    F = store.array("frames").shape[1]
    imported = "imported" in store.passport["frames"]  # features from elsewhere bring no times and no pictures
    if ((counts < 0) | (counts > F)).any():
        yield f"frame_count: must lie in 0..{F}"
    for first in range(0, V, CHUNK_VIDEOS):
        block = slice(first, first + CHUNK_VIDEOS)
        real = np.arange(F) < counts[block, None]
        yield from _nan_outside(store, "frames", store.read("frames", block), real, first)
        times = store.read("frame_times_s", block)
        if not imported:
            yield from _nan_outside(store, "frame_times_s", times, real, first)
        for row in np.flatnonzero([(np.diff(t[: c]) < 0).any() or (t[:c] < 0).any()
                                   for t, c in zip(times, counts[block], strict=True)]):  # fmt: skip
            yield f"{store.videos[first + row]['id']}: frame times must not fall or be negative"
    for row in np.flatnonzero(counts > 0) if not imported else ():
        pictures = store.thumbnails(int(row))
        if len(pictures) != counts[row] or not all(p[:2] == b"\xff\xd8" and p[-2:] == b"\xff\xd9" for p in pictures):
            yield f"{store.videos[row]['id']}: {len(pictures)} thumbnails for {counts[row]} frames, or not JPEG"
    yield from _against_ledger(store, entries, "frames", counts > 0)


def _audio(store: Store, entries: list[Entry]) -> Iterator[str]:
    V = len(store.videos)
    for name in AUDIO:
        yield from _shaped(store, name, V)
    counts, presence = store.read("audio_segment_count"), store.read("audio_presence")
    segments = store.array("audio_segments")
    for first in range(0, V, CHUNK_VIDEOS):
        block = slice(first, first + CHUNK_VIDEOS)
        real = np.arange(segments.shape[1]) < counts[block, None]
        yield from _nan_outside(store, "audio_segments", store.read("audio_segments", block), real, first)
        yield from _nan_outside(store, "audio", store.read("audio", block), counts[block] > 0, first)
    odd = (counts > 0) != np.isin(presence, (PRESENCE["silent"], PRESENCE["present"]))
    for row in np.flatnonzero(odd):
        yield f"{store.videos[row]['id']}: audio_presence {presence[row]} with {counts[row]} segments"
    yield from _against_ledger(store, entries, "audio", counts > 0)


def _text(store: Store, entries: list[Entry]) -> Iterator[str]:
    T = len(store.captions)
    names = ("sentences", "encoded", "word_start", "word_count")
    for name in names:
        yield from _shaped(store, name, T)
    done = store.read("encoded") > 0
    start, count = (store.read(name).astype(np.int64) for name in ("word_start", "word_count"))
    words, unit = store.array("words"), store.array("sentences").chunks[0]
    width = words.chunks[0]
    for name in ("token_ids", "token_word"):
        if (places := len(store.read(name))) != words.shape[0]:
            yield f"{name}: {places} rows for {words.shape[0]} places of words"
    for first in range(0, T, unit):
        block = slice(first, first + unit)
        base = first // unit * width
        local = start[block] - base
        if (count[block] < 0).any() or (local < 0).any() or (local + count[block] > width).any():
            yield f"word_start: captions {first} to {first + unit - 1} leave their unit"
            continue
        bad = ~np.isfinite(store.read("sentences", block)).all(1) & done[block]
        held: NDArray[Any] = np.isfinite(store.read("words", slice(base, base + width))).all(1)
        spoken = [bool(held[s : s + c].all()) for s, c in zip(local, count[block], strict=True)]
        bad |= ~np.asarray(spoken, bool) & done[block]
        for row in np.flatnonzero(bad):
            yield f"caption {first + row}: encoded, but its features are not finite"
    said = {entry.video for entry in entries if entry.modality == "text" and entry.status == "ok"}
    owners = {store.videos[store.captions[row]["video"]]["id"] for row in np.flatnonzero(done)}
    if said != owners:
        yield f"text: the ledger and the array 'encoded' disagree about {len(said ^ owners)} videos"


def _nan_outside(store: Store, name: str, values: NDArray[Any], real: NDArray[Any], first: int) -> Iterator[str]:
    """Finite where the mask says so, NaN elsewhere; the axes behind the mask's are dims."""
    extra = tuple(range(real.ndim, values.ndim))
    finite, empty = np.isfinite(values).all(axis=extra), np.isnan(values).all(axis=extra)
    wrong = np.where(real, ~finite, ~empty).reshape(len(real), -1).any(1)
    for row in np.flatnonzero(wrong):
        yield f"{store.videos[first + row]['id']}: {name} must be finite where there is data and NaN elsewhere"


def _against_ledger(store: Store, entries: list[Entry], modality: str, held: NDArray[Any]) -> Iterator[str]:
    told = {entry.video: entry.status in STORED for entry in entries if entry.modality == modality}
    for video, here in zip(store.videos, held, strict=True):
        said = told.get(video["id"], False)
        if said != bool(here):
            yield f"{video['id']}: {modality} {'stored' if said else 'not stored'} by the ledger, but not by the array"
