"""A split on which a linear map is worth learning: captions see the frames through a turned and mirrored space."""

from __future__ import annotations

import math

import torch

from lab.embeddings import RaggedWords, Texts, Videos

V, D, FRAMES, SOUND = 31, 13, 3, 11


def alike() -> tuple[Texts, Videos]:
    """Captions that are their videos' frames, and videos so near each other that any larger logit scale is better."""
    torch.manual_seed(0)
    frames = torch.randn(1, 1, D) + 0.05 * torch.randn(V, 1, D)
    return Texts(frames[:, 0].clone(), video=torch.arange(V)), Videos(frames)


def toy(seed: int = 0, *, padded: bool = False) -> tuple[Texts, Videos]:
    """Two captions a video, which see its frames through a turned and mirrored space: a linear map undoes that.

    The words of a caption are its sentence again; the sound of a video is one of its frames, and every fifth has none.
    ``padded``: videos have one to all of their frames, and what lies beyond is NaN.
    """
    torch.manual_seed(seed)
    frames = torch.randn(V, 1, D) + 0.1 * torch.randn(V, FRAMES, D)
    turn = torch.linalg.qr(torch.randn(D, D))[0]
    video = torch.arange(V).repeat_interleave(2)
    sentences = frames.mean(1)[video] @ turn + 0.1 * torch.randn(2 * V, D)
    counts = 1 + torch.arange(2 * V) % 3
    words = RaggedWords(sentences.repeat_interleave(counts, 0).half(), counts.cumsum(0) - counts, counts)
    sound = frames[:, :1, :SOUND].clone()
    mask = torch.arange(FRAMES) < 1 + (torch.arange(V) % FRAMES)[:, None] if padded else None
    if mask is not None:
        frames[~mask] = math.nan
    return Texts(sentences, words, video=video), Videos(frames, mask, sound, (torch.arange(V) % 5 > 0)[:, None])
