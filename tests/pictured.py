"""A made-up store whose pictures, words, sound and truth fit together, and what is written on a figure."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from lab.datasets import Caption, Collection, Video
from lab.store.create import create_store
from lab.store.writer import AudioRow, FrameRow, StoreWriter

F, D, A = 6, 16, 5
SPLITS = {"train": 12, "val": 10, "test": 7}
#: Each video shows one thing for three frames and another for three; the last video of a split has but four frames.
THINGS = ["dog", "cat", "drum", "tree", "boat", "lamp"]
RNG = np.random.default_rng(0)
CONCEPTS = np.linalg.qr(RNG.normal(size=(D, D)))[0][: len(THINGS) + 2].astype(np.float32)


def near(concept: int) -> np.ndarray:
    return (CONCEPTS[concept] + 0.15 * RNG.normal(size=D)).astype(np.float32)


def jpeg(concept: int) -> bytes:
    blob = io.BytesIO()
    Image.new("RGB", (16, 12), tuple(int(40 * concept + 20) % 256 for _ in range(3))).save(blob, "JPEG")
    return blob.getvalue()


def make(path: Path, *, sound: bool = True, truth_known: bool = True, pictures: bool = True) -> Path:
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    shown = [(v % 6, (v + 1 + v // 6) % 6) for v in range(len(splits))]
    videos, captions, sentences, tokens = [], [], [], []
    for v, split in enumerate(splits):
        videos.append(Video(f"v{v:02d}", None, {"made": split}))
        for scene, thing in enumerate(shown[v]):
            known = {"seconds": (1.5 * scene, 1.5 * scene + 1.5), "needs_sound": thing == 2} if truth_known else {}
            captions.append(Caption(v, f"a {THINGS[thing]} for $5", {"made": split}, **known))
            sentences.append(near(thing))
            tokens.append(np.stack([near(6), near(thing), near(7), near(7), near(7)]))
    store = create_store(path, Collection("made", path.parent, tuple(videos), tuple(captions), ("made",), ()), {})
    writer = StoreWriter(store.path)
    writer.add_frames({"model": "none", "random": False}, F, D)
    counts = np.full(len(captions), 5)
    word = np.tile([0, 1, 1, 2, 3], len(captions))  # the dog in two pieces
    writer.add_text({"model": "none", "random": False}, D, counts, np.arange(counts.sum()), word)
    if sound:
        writer.add_audio({"model": "none", "random": False}, 2, A)
    ends = set(np.cumsum(list(SPLITS.values())) - 1)
    for first in range(0, len(videos), 16):
        frame_rows, audio_rows = [], []
        for v in range(first, min(first + 16, len(videos))):
            things = [shown[v][0]] * 3 + [shown[v][1]] * (1 if v in ends else 3)
            features, times = np.stack([near(thing) for thing in things]), np.arange(len(things)) / 2
            jpegs = tuple(jpeg(thing) for thing in things) if pictures else ()
            frame_rows.append(FrameRow(features, times, jpegs, 3.0 + v % 2))
            heard = CONCEPTS[list(shown[v])][:, :A]
            audio_rows.append(AudioRow(heard.sum(0), heard, "present") if v % 4 else AudioRow(None, None, "absent"))
        writer.write_frames(first, frame_rows)
        if sound:
            writer.write_audio(first, audio_rows)
    writer.write_text(np.arange(len(captions)), np.stack(sentences), np.concatenate(tokens))
    return path


def texts_of(figure: Figure) -> Iterator[Text]:
    """What is written on a figure; labels of ticks beyond the ends of an axis exist and are not drawn."""
    figure.draw_without_rendering()  # puts tick labels in their place
    beyond = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        beyond |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in beyond:
            yield text


def leaving(figure: Figure, shown: list[Text]) -> list[str]:
    """What is written beyond the edges of the paper."""
    wide, high = figure.canvas.get_width_height()
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    return [text for text, box in boxes if box.x0 < -2 or box.y0 < -2 or box.x1 > wide + 2 or box.y1 > high + 2]
