"""The loss of a batch, and which texts of it are true of which videos."""

from __future__ import annotations

import torch
from torch import Tensor

#: What to do with texts of a batch that are true of a video beside its own text: a video may be in a batch twice.
TWINS = ("ignored", "negatives", "positives")


def contrastive_loss(similarity: Tensor, true: Tensor, scale: Tensor, *, twins: str = "ignored") -> Tensor:
    """The mean of the t→v and v→t cross-entropies of a batch's similarities (B, B), scaled (X-Pool eq. 15-17).

    ``true`` (B, B) bool: whether text i is true of video j, which it is on the diagonal. Elsewhere these ``twins`` are
    ``ignored``, so that a video's own captions are not pushed away from it; ``negatives``, as in both papers and in
    X-Pool's code; or ``positives``, as right as the diagonal (the mean of the cross-entropies of all right answers).
    X-Pool's eq. 17 and MGFI's eq. 14 are sums of the two directions, where X-Pool's code has the mean. MGFI's eq. 12-13
    print no temperature: with bare cosines all candidates are nearly as likely, so ``scale`` is CLIP's there, too.
    """
    logits = similarity * scale
    if twins == "ignored":
        own = torch.arange(len(true), device=true.device)
        logits = logits.masked_fill(true & (own[:, None] != own), float("-inf"))
    texts, videos = logits.log_softmax(1), logits.log_softmax(0)
    if twins == "positives":
        texts, videos = texts * true / true.sum(1, keepdim=True), videos * true / true.sum(0, keepdim=True)
    else:  # not F.cross_entropy, of which torch.vmap makes thirty small operations
        texts, videos = texts.diagonal(), videos.diagonal()
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
