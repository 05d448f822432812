"""X-Pool: a text attends to the frames that are closest to it (Gorti et al., CVPR 2022, equations 9 to 14)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab.embeddings import Texts, Videos


class XPool(nn.Module):
    """Cross-attention from a text to frames, then a residual layer; the score is a cosine with the raw text.

    Where the paper is silent this follows its authors' code: one LayerNorm serves text and frames, every projection has
    a bias and starts as the identity, inputs are not normalised, the text of the final cosine is the raw one, and there
    is no residual around the attention itself. 1,316,352 parameters at D = 512.
    """

    def __init__(self, dim: int = 512, *, dropout: float = 0.3) -> None:
        super().__init__()
        self.dim = dim
        self.norm_in, self.norm_pooled, self.norm_out = (nn.LayerNorm(dim) for _ in range(3))
        self.query, self.key, self.value, self.out, self.residual = (nn.Linear(dim, dim) for _ in range(5))
        for layer in (self.query, self.key, self.value, self.out, self.residual):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        """Cosine similarity (T, V), every text with every video."""
        frames = _clean(videos)
        weights = self._weights(texts, frames, videos)
        value = self.value(self.norm_in(frames))
        pooled = self.norm_pooled(self.out(torch.einsum("tvf,vfd->tvd", weights, value)))
        seen = self.norm_out(pooled + self.dropout(self.residual(pooled)))
        return torch.einsum("td,tvd->tv", F.normalize(texts.sentences.float(), dim=-1), F.normalize(seen, dim=-1))

    def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
        """The attention (T, V, F) of each text over each video's frames; rows sum to one, padding has zero."""
        return self._weights(texts, _clean(videos), videos)

    def _weights(self, texts: Texts, frames: Tensor, videos: Videos) -> Tensor:
        query = self.query(self.norm_in(texts.sentences.float()))
        logits = torch.einsum("td,vfd->tvf", query, self.key(self.norm_in(frames))) / math.sqrt(self.dim)
        mask = videos.frame_mask
        return logits.masked_fill(~mask, float("-inf")).softmax(-1) if mask is not None else logits.softmax(-1)


def _clean(videos: Videos) -> Tensor:
    """Frames (V, F, D) with zeros in the padding: NaN × 0 is NaN, so a weight of zero would not keep it out."""
    frames = videos.frames.float()
    return frames if videos.frame_mask is None else frames.masked_fill(~videos.frame_mask[..., None], 0.0)
