"""Pooling without attention weights to learn: the mean, the top k, and a softmax with a temperature.

The last two go by the cosine of the text with each frame (X-Pool, equations 7 and 8). The similarity is the cosine of
the text with the weighted sum of the frames, |Σ a_f x_f|² being aᵀ G a with the frames' Gram matrix G.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab.embeddings import Texts, Videos
from lab.errors import LabError, unknown
from lab.pairs import TINY, by_parts, exactly, hide_padding, inner, products, quadratic
from lab.similarity import clean_frames, sentences_of

PROJECTIONS = ("none", "linear")


@dataclass(frozen=True)
class Frames:
    """What pooling keeps of V videos."""

    values: Tensor  # (V, F, D) what is pooled; zeros in the padding
    lengths: Tensor  # (V, F) |values|, so that a product with a text becomes a cosine
    gram: Tensor  # (V, F, F) inner products of the values
    mask: Tensor  # (V, F)


class Space(nn.Module):
    """Where texts and frames are compared: as they come, or each through a linear map without bias.

    ``linear`` is the frozen counterpart of a fine-tuned CLIP: its last projections alone, starting as the identity.
    """

    def __init__(self, dim: int, projection: str, normalize: bool) -> None:
        super().__init__()
        if projection not in PROJECTIONS:
            raise unknown("projection", projection, PROJECTIONS)
        self.dim, self.normalize = dim, normalize
        if projection == "linear":
            self.text, self.frame = (_identity(dim) for _ in range(2))
        else:
            self.text, self.frame = nn.Identity(), nn.Identity()

    def texts(self, texts: Texts) -> Tensor:
        """Sentences (T, D) of length one."""
        return F.normalize(self.text(sentences_of(texts, self.dim)).float(), dim=-1)

    def frames(self, videos: Videos) -> Frames:
        """Frames, of length one if ``normalize``, with their Gram matrix."""
        values = self.frame(clean_frames(videos, self.dim)).float()
        values = F.normalize(values, dim=-1) if self.normalize else values
        with exactly(values):
            gram = values @ values.mT
        # Of normalised frames a product is the cosine: to divide by a length of 1 ± 1e-7 would reorder frames that tie.
        lengths = (
            gram.diagonal(dim1=1, dim2=2).clamp_min(TINY**2).sqrt()
            if not self.normalize
            else torch.ones_like(gram[..., 0])
        )
        return Frames(values, lengths, gram, videos.frame_mask)


def _identity(dim: int) -> nn.Module:
    layer = nn.Linear(dim, dim, bias=False)
    nn.init.eye_(layer.weight)
    return layer


def pooled_cosines(texts: Tensor, frames: Frames, weigh: Callable[[Tensor, Frames], Tensor]) -> Tensor:
    """Cosines (T, V) of texts (T, D) of length one with Σ a_f x_f; ``weigh`` makes a of the frames' products (V, F, T).

    Some videos at a time.
    """

    def cosine(part: Frames) -> Tensor:
        product = products(part.values, texts)
        weights = weigh(product, part)
        length = quadratic(part.gram, weights).clamp_min(TINY**2).sqrt()
        return (weights * product).sum(1) / length

    with exactly(texts):
        return by_parts(cosine, frames, len(texts)).T


class MeanPooling(nn.Module):
    """The average of a video's frames, whatever the text: CLIP4Clip-meanP, and zero-shot CLIP without a projection.

    ``projection``  ``none``, or ``linear``: texts and frames each go through a linear map, which is trained.
    ``normalize``   average frames of length one, as the authors' code does; ``False`` averages them as they come.
    """

    def __init__(self, dim: int = 512, *, projection: str = "none", normalize: bool = True) -> None:
        super().__init__()
        self.dim, self.space = dim, Space(dim, projection, normalize)

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        """Cosine similarity (T, V), every text with every video."""
        return self.score(texts, self.index(videos))

    def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
        """One over the number of real frames (T, V, F)."""
        return even_weights(videos.frame_mask).expand(len(texts), -1, -1)

    def index(self, videos: Videos) -> Tensor:
        """One vector (V, D) of length one a video."""
        frames = self.space.frames(videos)
        with exactly(frames.values):
            return F.normalize(torch.einsum("vf,vfd->vd", even_weights(frames.mask), frames.values), dim=-1)

    def score(self, texts: Texts, index: Tensor) -> Tensor:
        """Cosine similarity (T, V)."""
        return inner(self.space.texts(texts), index)

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        """See ``Head``."""
        return 4 * frames * self.dim, 2


class _WeightedPooling(nn.Module):
    """Frames averaged by weights that the text gives them: ``_weights``, which is all that a kind adds.

    ``projection``  ``none``, or ``linear``: texts and frames each go through a linear map, which is trained.
    ``normalize``   average frames of length one, as the authors' code does; ``False`` averages them as they come.
    """

    top_k: Any  # a whole number; for softmax also None, which is all frames
    temperature = math.inf  # at which frames that count weigh the same

    def __init__(self, dim: int, top_k: int | None, projection: str, normalize: bool) -> None:
        super().__init__()
        self.dim, self.top_k, self.space = dim, top_k, Space(dim, projection, normalize)

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        """Cosine similarity (T, V), every text with every video."""
        return self.score(texts, self.index(videos))

    def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
        """The weights of every pair (T, V, F)."""
        index = self.index(videos)
        return self._weights(products(index.values, self.space.texts(texts)), index).permute(2, 0, 1)

    def index(self, videos: Videos) -> Frames:
        """Frames and their Gram matrices."""
        within(videos, self.top_k, self.temperature)
        return self.space.frames(videos)

    def score(self, texts: Texts, index: Frames) -> Tensor:
        """Cosine similarity (T, V)."""
        return pooled_cosines(self.space.texts(texts), index, self._weights)

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        """See ``Head``."""
        return frames * (4 * self.dim + frames), 3

    def _weights(self, product: Tensor, index: Frames) -> Tensor:
        """Weights (V, F, T) from inner products with unit texts, alike; they sum to one over real frames."""
        raise NotImplementedError


def closest(product: Tensor, lengths: Tensor, mask: Tensor, k: int) -> Tensor:
    """Ones (V, F, T) at the k frames with the largest cosines, exactly k however many tie; padding comes last.

    By cosines, not by what a head makes of them: an infinite temperature would make all frames tie. ``lengths`` of the
    frames and their ``mask`` are (V, F).
    """
    cosine = hide_padding(product.detach() / lengths[..., None], mask)
    return torch.zeros_like(cosine).scatter(1, cosine.topk(k, 1).indices, 1.0)


class TopKPooling(_WeightedPooling):
    """The mean of the frames that are closest to the text (X-Pool, equations 7 and 8); none to learn.

    ``top_k``  how many frames; a video with fewer has all of them averaged.

    Without ``normalize`` it is equation 7 to the letter. Raises ``LabError`` for ``top_k`` beyond the frames.
    """

    def __init__(self, dim: int = 512, *, top_k: int = 3, projection: str = "none", normalize: bool = True) -> None:
        super().__init__(dim, _counted(top_k), projection, normalize)

    def _weights(self, product: Tensor, index: Frames) -> Tensor:
        share = index.mask / index.mask.sum(1, keepdim=True).clamp(max=self.top_k)
        return closest(product, index.lengths, index.mask, self.top_k) * share[..., None]


class SoftmaxPooling(_WeightedPooling):
    """Frames weighted by softmax(cosine / ``temperature``).

    ``temperature``  near zero the closest frame alone, at infinity the mean; 0.01 in X-Pool's authors' code.
    ``top_k``        among the closest k frames only; ``None`` is among all.
    """

    def __init__(
        self,
        dim: int = 512,
        *,
        temperature: float = 0.01,
        top_k: int | None = None,
        projection: str = "none",
        normalize: bool = True,
    ) -> None:
        super().__init__(dim, None if top_k is None else _counted(top_k), projection, normalize)
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not temperature > 0:
            raise LabError(f"temperature > 0 must hold (inf is the mean), got temperature={temperature!r}")
        self.temperature = float(temperature)

    def _weights(self, product: Tensor, index: Frames) -> Tensor:
        # 1/τ, because ∞ · |x| would have no gradient
        logits = hide_padding(product * (1 / self.temperature / index.lengths)[..., None], index.mask)
        if self.top_k is not None and self.top_k < logits.shape[1]:
            logits = logits.masked_fill(closest(product, index.lengths, index.mask, self.top_k) == 0, float("-inf"))
        return logits.softmax(1)


def _counted(top_k: Any) -> int:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise LabError(f"1 <= top_k <= frames must hold, a whole number, got top_k={top_k!r}")
    return top_k


def within(videos: Videos, top_k: int | None, temperature: float | Tensor = math.inf) -> None:
    """Raises ``LabError`` for a setting out of range.

    The temperatures of heads that train in one stack are a tensor, which has no value to look at under ``torch.vmap``:
    each was looked at when its head was built.
    """
    if top_k is not None and not 1 <= top_k <= videos.frames.shape[1]:
        raise LabError(f"1 <= top_k <= {videos.frames.shape[1]} frames must hold, got top_k={top_k}")
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise LabError(f"temperature > 0 must hold (inf is the mean), got temperature={temperature!r}")


def even_weights(mask: Tensor) -> Tensor:
    """One over the number of real frames (V, F), zero in the padding."""
    return mask / mask.sum(1, keepdim=True)
