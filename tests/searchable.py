"""A small store whose captions the toy CLIP encoded, with files, pictures, sound and runs: for search and the page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from worlds import clip_file

from lab.backbones import load_clip
from lab.datasets import Caption, Collection, Video
from lab.heads import build_head
from lab.runs import Run, save_run, sections
from lab.store import open_store
from lab.store.create import create_store
from lab.store.writer import AudioRow, FrameRow, StoreWriter

F, A = 6, 5
#: Half a second between frames; each video shows the first thing for three frames, then the second.
THINGS = (
    "a dog barks in the dark",
    "the red car crosses from left to right",
    "a cat sits among the trees",
    "rain falls on the sea",
    "a bird flies to the moon",
    "<script>document.title='owned'</script> & a bell rings",
    "two fish swim at night",
)
#: Heads that see words, sound, both or neither, for ``save_heads``.
HEADS: dict[str, dict[str, Any]] = {
    "xpool": {},
    "mgfi": {},
    "cmfi": {"video": "xpool", "audio_dim": A, "fusion_weight": 0.1},
}
SPLITS = {"train": 5, "val": 7, "test": 4}
#: What its name would do in a page that took it for markup.
EVIL = "<script>alert(1)</script>.mp4"


def jpeg(shade: int) -> bytes:
    blob = io.BytesIO()
    pixels = np.full((36, 64, 3), (40 * shade % 256, 90 + 20 * shade % 160, 200 - 25 * shade), np.uint8)
    pixels[8:28, 6 + 7 * shade : 16 + 7 * shade] = 245
    Image.fromarray(pixels).save(blob, "JPEG")
    return blob.getvalue()


def shown(video: int) -> tuple[int, int]:
    """The two things of a video."""
    return video % len(THINGS), (video + 1 + video // len(THINGS)) % len(THINGS)


def make(root: Path, *, files: bool = True) -> Path:
    """``root/made.zarr`` and, below ``root/clips``, the files of three videos of val."""
    rng = np.random.default_rng(0)
    splits = [split for split, count in SPLITS.items() for _ in range(count)]
    clip = load_clip("toy")
    texts = [THINGS[thing] for v in range(len(splits)) for thing in shown(v)]
    encoded = clip.encode_texts(texts)
    clips = root / "clips"
    clips.mkdir(parents=True)
    named = {5: EVIL, 6: "v06.mp4", 7: "v07.mp4"} if files else {}
    for number, name in named.items():
        clip_file(clips / name.replace("/", "_"), number, frames=30)
    videos, captions = [], []
    for v, split in enumerate(splits):
        file = clips / named[v].replace("/", "_") if v in named else None
        videos.append(Video(f"v{v:02d}" if v != 5 else EVIL, file, {"made": split}))
        for scene, thing in enumerate(shown(v)):
            when = (1.5 * scene, 1.5 * scene + 1.5)
            captions.append(Caption(v, THINGS[thing], {"made": split}, seconds=when, needs_sound=thing == 0))
    path = root / "made.zarr"
    store = create_store(path, Collection("made", clips, tuple(videos), tuple(captions), ("made",), ()), {"name": "m"})
    writer = StoreWriter(store.path)
    writer.add_frames({**clip.passport, "sampling": "midpoints-6", "dtype": "float16"}, F, clip.dim)
    writer.add_text({k: v for k, v in clip.passport.items() if k != "image"}, clip.dim, encoded.tokens.counts,
                    encoded.tokens.ids, encoded.tokens.word_index)  # fmt: skip
    writer.add_audio({"model": "none", "random": False}, 2, A)
    for first in range(0, len(videos), 16):
        frames, audio = [], []
        for v in range(first, min(first + 16, len(videos))):
            things = [2 * v] * 3 + [2 * v + 1] * 3
            noise = 0.4 * encoded.sentences.std() * rng.normal(size=(F, clip.dim))
            features = (encoded.sentences[things] + noise).astype(np.float32)
            jpegs = tuple(jpeg(shown(v)[thing % 2]) for thing in things)
            frames.append(FrameRow(features, 0.25 + np.arange(F) / 2, jpegs, 3.0))
            heard = rng.normal(size=(2, A)).astype(np.float32)
            audio.append(AudioRow(heard.mean(0), heard, "present") if v % 4 else AudioRow(None, None, "absent"))
        writer.write_frames(first, frames)
        writer.write_audio(first, audio)
    writer.write_text(np.arange(len(texts)), encoded.sentences, encoded.words)
    return path


def save_heads(store_path: Path, runs: Path, heads: dict[str, dict[str, Any]]) -> None:
    """A run for each head by name, its weights a little away from where they begin; the last one is the newest."""
    store = open_store(store_path)
    dim = store.array("frames").shape[2]
    for minute, (name, keywords) in enumerate(heads.items()):
        torch.manual_seed(minute)
        head = build_head(name, dim, **keywords)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        run = Run(
            head=name, keywords=keywords, dim=dim, dataset=store.name, protocol=store.protocols[0],
            store=str(store_path), passport=sections(store, head), recipe={"seed": 0},
            kept={"epoch": 1, "metrics": {"R@1": 50.0}}, chosen="test", parameters=1, seconds=1.0,
            time=f"2026-01-01T00:{minute:02d}:00+00:00",
        )  # fmt: skip
        save_run(head, run, [], runs, f"{name}-s0")
