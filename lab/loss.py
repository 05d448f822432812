"""The loss of a batch, and which texts of it are true of which videos."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name


def contrastive_loss(similarity: Tensor, true: Tensor, scale: Tensor, *, multi_positive: bool = False) -> Tensor:
    """The mean of the t→v and v→t cross-entropies of a batch's similarities (B, B), scaled.

    ``true`` (B, B) bool: whether text i is true of video j, which it is on the diagonal. Elsewhere it is no negative:
    left out, so that a video which is in the batch twice does not push its own captions away, or, with
    ``multi_positive``, as right an answer as the diagonal (the mean of the cross-entropies of all right answers).
    """
    logits = similarity * scale
    own = torch.arange(len(true), device=true.device)
    if not multi_positive:
        logits = logits.masked_fill(true & (own[:, None] != own), float("-inf"))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    texts, videos = (logits.log_softmax(dim) * true / true.sum(dim, keepdim=True) for dim in (1, 0))
    loss: Tensor = -(texts.sum() + videos.sum()) / (2 * len(true))
    return loss


class Truth:
    """Which texts of a batch are true of which of its videos.

    ``video`` (T,) is each text's video, of so many ``videos``. ``same_text`` (T,) int64: texts of the same words share
    a number; without it a text is true of its own video alone.
    """

    def __init__(self, video: Tensor, videos: int, same_text: Tensor | None) -> None:
        self.video, self.videos = video, videos
        # A caption is true of every video that has one of the same words, whichever caption of it is in the batch.
        self.group = torch.arange(len(video), device=video.device) if same_text is None else same_text
        self.pairs = None if same_text is None else (self.group * videos + video).unique()

    def of(self, rows: Tensor) -> Tensor:
        """(B, B) for the pairs in ``rows``."""
        video = self.video[rows]
        same = video[:, None] == video
        if self.pairs is None:
            return same
        asked = self.group[rows][:, None] * self.videos + video
        found = self.pairs[torch.searchsorted(self.pairs, asked).clamp(max=len(self.pairs) - 1)]
        same |= found == asked
        return same
