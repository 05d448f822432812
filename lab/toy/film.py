"""A toy clip as a file: what its scenes show and what is heard in them, encoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.toy.actors import ACTORS
from lab.toy.draw import draw
from lab.toy.sounds import HZ, soundtrack
from lab.toy.sounds import Part as Voice
from lab.toy.world import FPS, Clip
from lab.toy.write import write_clip

_X264 = {"preset": "superfast", "crf": "20"}


def render(clip: Clip, path: Path) -> Path:
    """One clip as a file: H.264 at 8 frames a second and, unless it has none, AAC sound at 32 kHz."""
    audio = None if clip.audio == "absent" else waveform(clip)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part.mp4")
    try:
        write_clip(part, pictures(clip), FPS, options=_X264, audio=audio)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def render_to(item: tuple[Clip, Path]) -> Path:
    """``render`` as the job of a pool."""
    return render(*item)


def pictures(clip: Clip) -> Iterator[NDArray[np.uint8]]:
    """The frames (128, 128, 3) of a clip, scene after scene."""
    for scene in clip.scenes:
        count = round((scene.end_s - scene.start_s) * FPS)
        for i in range(count):
            yield draw(scene, i / (count - 1))


def waveform(clip: Clip) -> NDArray[np.float32]:
    """The sound (N,) of a clip at 32 kHz: what is heard in each scene over a faint background, or zeros."""
    if clip.audio != "sound":
        return np.zeros(round(clip.seconds * HZ), np.float32)
    voices = [
        Voice(ACTORS[scene.heard].sound or "", scene.start_s, scene.end_s, scene.sound_seed or 0)
        for scene in clip.scenes
        if scene.heard is not None
    ]
    return soundtrack(voices, clip.seconds, clip.scenes[0].look)
