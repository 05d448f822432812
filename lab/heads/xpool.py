"""X-Pool: a text attends to the frames that are closest to it (Gorti et al., CVPR 2022, equations 9 to 14).

The weights of a pair sum to one, so what follows the softmax folds into vectors that a frame has once: W_O with its
bias directly, LN because its variance is a quadratic form in the weights, FC because it is linear. Training then does
two products of F × D for a pair in place of two of D × D; scoring needs inner products with the text only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab.embeddings import Texts, Videos
from lab.similarity import TINY, clean_frames, frame_mask, hide_padding, parts, products, quadratic, sentences_of


@dataclass(frozen=True)
class XPoolIndex:
    """What scoring keeps of V videos. Let m_f be what frame f brings to (1 + FC) LN2, but for LN2's deviation, and n
    what no frame brings, both centred; γ3 and β3 belong to LN3, which comes next.
    """

    keys: Tensor  # (V, F, D) over sqrt(D)
    values: Tensor  # (V, F, D) γ3 ⊙ m_f
    forms: Tensor  # (V, 3 F, F) quadratic forms of LN2's variance, of LN3's, and of |values|²
    lines: Tensor  # (V, 4, F) m_f · n / D, values · (γ3 ⊙ n), values · β3, and ones
    mask: Tensor  # (V, F)


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
        sentences, frames = sentences_of(texts, self.dim), self._frames(videos)
        weights = self._weights(sentences, self._keys(frames), frame_mask(videos))
        centred, gram = self._pooled(frames)
        shares = (weights / (quadratic(gram, weights) + self.norm_pooled.eps).sqrt()[:, None]).mT  # (V, T, F) a / σ2
        pooled = torch.bmm(shares, centred) + self.norm_pooled.bias
        turned = torch.bmm(shares, F.linear(centred, self.residual.weight)) + self.residual(self.norm_pooled.bias)
        seen = self.norm_out(pooled + self.dropout(turned))  # (V, T, D)
        product: Tensor = (seen * F.normalize(sentences, dim=-1)).sum(-1)
        similarity: Tensor = product / seen.norm(dim=-1).clamp_min(TINY)
        return similarity.T

    def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
        """The attention (T, V, F) of each text over each video's frames; rows sum to one, padding has zero."""
        keys = self._keys(self._frames(videos))
        return self._weights(sentences_of(texts, self.dim), keys, frame_mask(videos)).permute(2, 0, 1)

    def index(self, videos: Videos) -> XPoolIndex:
        """Keys, values and the forms that give both variances and the length of the result."""
        frames = self._frames(videos)
        centred, gram = self._pooled(frames)
        brought, rest = _centre(centred + F.linear(centred, self.residual.weight)), self._rest()
        scale, shift = self.norm_out.weight, self.norm_out.bias
        values = brought * scale
        return XPoolIndex(
            self._keys(frames),
            values,
            torch.cat([gram, brought @ brought.mT / self.dim, values @ values.mT], 1),
            torch.stack(
                [brought @ rest / self.dim, values @ (rest * scale), values @ shift, torch.ones_like(values[..., 0])], 1
            ),
            frame_mask(videos),
        )

    def score(self, texts: Texts, index: XPoolIndex) -> Tensor:
        """Cosine similarity (T, V); not to be differentiated, since it writes over what it has read."""
        sentences = sentences_of(texts, self.dim)
        query, unit = self.query(self.norm_in(sentences)), F.normalize(sentences, dim=-1)
        rest = self._rest()
        return torch.cat([self._cosine(query, unit, rest, part) for part in parts(index, len(texts))]).T

    def _cosine(self, query: Tensor, unit: Tensor, rest: Tensor, index: XPoolIndex) -> Tensor:
        """Cosines (V, T) from queries and texts of length one (T, D), by inner products with the texts only."""
        V, frames = index.mask.shape
        logits = hide_padding(products(index.keys, query), index.mask)
        # Not divided by their sum, as the deviation divides it out again: s = a / σ2 = e / sqrt(eᵀ G e + ε (Σ e)²).
        e = logits.sub_(logits.amax(1, keepdim=True)).exp_()
        squares = torch.bmm(index.forms, e).view(V, 3, frames, -1).mul_(e[:, None]).sum(2)
        with_rest, along_rest, along_shift, total = torch.bmm(index.lines, e).unbind(1)
        inverse = (squares[:, 0].clamp_min(0) + self.norm_pooled.eps * total * total).rsqrt()
        shift = self.norm_out.bias
        variance = inverse * (inverse * squares[:, 1] + 2 * with_rest) + rest @ rest / self.dim
        outer = (variance.clamp_min(0) + self.norm_out.eps).rsqrt()  # 1 / σ3
        rest = rest * self.norm_out.weight
        product = products(index.values, unit).mul_(e).sum(1)
        product = (inverse * product + unit @ rest) * outer + unit @ shift
        length = inverse * (inverse * squares[:, 2] + 2 * along_rest) + rest @ rest
        length = outer * (outer * length + 2 * (inverse * along_shift + rest @ shift)) + shift @ shift
        cosine: Tensor = product * length.clamp_min(TINY**2).rsqrt()
        return cosine

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        """See ``Head``."""
        return frames * (6 * self.dim + 4 * frames), 3

    def _frames(self, videos: Videos) -> Tensor:
        frames: Tensor = self.norm_in(clean_frames(videos, self.dim))
        return frames

    def _keys(self, frames: Tensor) -> Tensor:
        keys: Tensor = self.key(frames) / math.sqrt(self.dim)
        return keys

    def _weights(self, sentences: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """softmax(q kᵀ / sqrt(D)) as (V, F, T)."""
        query = self.query(self.norm_in(sentences))
        return hide_padding(products(keys, query), mask).softmax(1)

    def _pooled(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """γ2 ⊙ (u_f − mean) (V, F, D) with u = W_O v + b, and the form (V, F, F) of the variance of Σ a_f u_f."""
        centred = _centre(self.out(self.value(frames)))
        return centred * self.norm_pooled.weight, centred @ centred.mT / self.dim

    def _rest(self) -> Tensor:
        """What no frame brings to (1 + FC) LN2, centred: n (D,)."""
        return _centre(self.norm_pooled.bias + self.residual(self.norm_pooled.bias))


def _centre(values: Tensor) -> Tensor:
    return values - values.mean(-1, keepdim=True)
