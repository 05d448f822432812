"""How well a CLIP sees the toy world by itself: 100 clips of one scene each, no two with the same actor."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lab.backbones.clip import ClipBackbone
from lab.media import read_clip
from lab.metrics import retrieval_metrics
from lab.sampling import parse_sampling
from lab.toy.actors import ACTORS
from lab.toy.dice import Dice
from lab.toy.film import render
from lab.toy.grammar import seen
from lab.toy.world import Clip, probe_scene

FRAMES = "midpoints-12"


def probe(clip: ClipBackbone, number: int = 1, count: int = 100) -> dict[str, float]:
    """Text-to-video metrics of frozen mean pooling over ``count`` clips under the seeds of world ``number``.

    The clips go through a file and its codec, as all clips do.
    """
    nouns = Dice("probe", number).sample(tuple(ACTORS), count)
    frames, texts = [], []
    with TemporaryDirectory() as folder:
        for i, noun in enumerate(nouns):
            dice, scene = probe_scene(number, i, noun)
            texts.append(seen(dice, scene))
            made = Clip(f"probe{i}", "probe", (scene,), "absent", ())
            file = render(made, Path(folder) / f"{made.id}.mp4")
            vectors = clip.encode_frames(read_clip(file, parse_sampling(FRAMES), clip.image, audio_hz=None).pictures)
            frames.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(0))
    sentences = clip.encode_texts(texts).sentences
    videos = np.stack(frames)
    videos /= np.linalg.norm(videos, axis=1, keepdims=True)
    sentences = sentences / np.linalg.norm(sentences, axis=1, keepdims=True)
    return retrieval_metrics(sentences @ videos.T, np.arange(count))
