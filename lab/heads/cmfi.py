"""CMFI: the similarity of a text and a video's sound, added to that of any video head.

Li et al., arXiv 2407.12798, equations 11 to 14.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lab.embeddings import Texts, Videos
from lab.errors import LabError, unknown
from lab.needs import Needs, need_audio
from lab.similarity import index_videos, score_texts
from lab.tiles import floats_of

REDUCTIONS = ("last", "first")


@dataclass(frozen=True)
class CMFIIndex:
    """The indexes of both sides, and which videos have sound."""

    video: Any
    audio: Any
    present: Tensor  # (V,)


class CMFI(nn.Module):
    """(video-text + w · audio-text) / (1 + w) where a video has sound, video-text alone where it has none.

    Both are then on one scale. With w = 1 videos that have sound are in the order of the paper's sum, which is twice as
    much: to the loss, twice the logit scale. Audio-text is cos(L(LN(x_a)), x_t).

    ``video``           the video head's name: the paper's rows s-f, w-f and both are ``sf``, ``wf`` and ``mgfi``, its
                        base is ``mean``.
    ``video_keywords``  its keywords, as ``video_keywords.dropout``.
    ``audio_dim``       A, the width of the audio network's vectors: 2048 for PANN's Cnn14. Where it is not given a
                        training takes the store's.
    ``fusion_weight``   w, how much the sound counts; 1 in the paper. An attribute that may be set at any time; it is
                        not learned.
    ``reduction``       where A comes down to D, on which the paper is silent: ``last``, in L itself, after LN over A;
                        ``first``, in one more linear layer before LN, the paper's x_a being of width C already.
    ``audio``           the head that pools segments of sound: ``mean``, ``topk``, ``softmax``. One vector for a whole
                        clip is pooled by ``mean`` into itself.
    ``audio_keywords``  its keywords, as ``audio_keywords.top_k``.
    """

    needs_audio = True

    def __init__(
        self,
        dim: int = 512,
        *,
        video: str = "mgfi",
        video_keywords: dict[str, Any] | None = None,
        audio_dim: int = 2048,
        fusion_weight: float = 1.0,
        reduction: str = "last",
        audio: str = "mean",
        audio_keywords: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        from lab.heads import build_head  # here, because that table names this class

        if reduction not in REDUCTIONS:
            raise unknown("reduction", reduction, REDUCTIONS)
        if not (isinstance(fusion_weight, int | float) and 0 <= fusion_weight < math.inf):
            raise LabError(f"fusion_weight >= 0 must hold, got fusion_weight={fusion_weight!r}")
        self.dim, self.audio_dim, self.fusion_weight = dim, audio_dim, fusion_weight
        self.video = build_head(video, dim, **(video_keywords or {}))
        self.audio = build_head(audio, dim, **(audio_keywords or {}))
        if Needs.of(self.audio) != Needs():
            raise LabError(f"segments of sound are pooled by a head of sentences and frames, got audio='{audio}'")
        inside = audio_dim if reduction == "last" else dim
        self.reduce = nn.Identity() if reduction == "last" else nn.Linear(audio_dim, dim)
        self.norm, self.linear = nn.LayerNorm(inside), nn.Linear(inside, dim)

    @property
    def needs_words(self) -> bool:
        """Whether texts must carry words: if the video head reads them."""
        return Needs.of(self.video).words

    def audio_parameters(self) -> Iterator[nn.Parameter]:
        """All but the video head's: of what the paper trains in its second stage, all but the audio network itself."""
        for name, parameter in self.named_parameters():
            if not name.startswith("video."):
                yield parameter

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        """Similarity (T, V), every text with every video."""
        heard, present = self.hear(videos)
        return self.fuse(self.video(texts, videos), self.audio(texts, heard), present)

    def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
        """The video head's (T, V, F)."""
        weights: Tensor = self.video.frame_weights(texts, videos)  # type: ignore[operator]
        return weights

    def index(self, videos: Videos) -> CMFIIndex:
        """Both sides' indexes."""
        heard, present = self.hear(videos)
        return CMFIIndex(index_videos(self.video, videos), index_videos(self.audio, heard), present)

    def score(self, texts: Texts, index: CMFIIndex) -> Tensor:
        """Similarity (T, V)."""
        seen, heard = score_texts(self.video, texts, index.video), score_texts(self.audio, texts, index.audio)
        return self.fuse(seen, heard, index.present)

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        """See ``Head``."""
        seen, heard = floats_of(self.video, self.dim, frames, words, 0), floats_of(self.audio, self.dim, segments, 0, 0)
        return seen[0] + heard[0] + segments * (3 * self.audio_dim + self.dim), seen[1] + heard[1] + 3

    def hear(self, videos: Videos) -> tuple[Videos, Tensor]:
        """Sound in the joint space, in the place of frames (V, S, D), and which videos have any (V,)."""
        audio, mask = need_audio(videos)
        if audio.shape[2] != self.audio_dim:
            raise LabError(
                f"the head has audio_dim={self.audio_dim} but the audio has A={audio.shape[2]}: "
                f"build it with audio_dim={audio.shape[2]}"
            )
        present = mask.any(1)
        sound = audio.float().masked_fill(~mask[..., None], 0.0)
        # A video without sound keeps one segment of zeros, since nothing can be pooled from none; fuse leaves it out.
        kept = mask.clone()
        kept[:, 0] |= ~present
        return Videos(self.linear(self.norm(self.reduce(sound))), kept), present

    def fuse(self, seen: Tensor, heard: Tensor, present: Tensor) -> Tensor:
        """Similarities (T, V) of both sides as one, for videos of which (V,) have sound."""
        fused = (seen + self.fusion_weight * heard) / (1 + self.fusion_weight)
        return torch.where(present, fused, seen)
