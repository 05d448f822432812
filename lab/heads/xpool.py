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

from lab.embeddings import Texts, Videos, may_look
from lab.pairs import TINY, hide_padding, products, quadratic, slices
from lab.similarity import clean_frames, sentences_of


@dataclass(frozen=True)
class XPoolIndex:
    """What scoring keeps of V videos. Let m_f be what frame f brings to (1 + FC) LN2, but for LN2's deviation, and n
    what no frame brings, both centred; γ3 and β3 belong to LN3, which comes next.
    """

    keys: Tensor  # (V, F, D) over sqrt(D)
    values: Tensor  # (V, F, D) γ3 ⊙ m_f
    # Quadratic forms of LN2's variance, of LN3's, of |values|²; linear ones: m_f · n / D, values · (γ3 ⊙ n),
    # values · β3, ones. All in one matrix, since one product with the weights is faster than seven.
    forms: Tensor  # (V, 3 F + 4, F)
    mask: Tensor  # (V, F)


class XPool(nn.Module):
    """Cross-attention from a text to frames, then a residual layer; the score is a cosine with the raw text.

    As in the paper the text of the final cosine is the raw one (equations 3 and 6), there is no residual around the
    attention itself (13), FC is one linear layer, and all projections are D × D and start as the identity with biases
    of zero (section 5.2). Where it is silent this follows its authors' code: one LayerNorm serves text and frames, and
    inputs are not normalised. 1,316,352 parameters at D = 512.

    ``dropout``  on the residual layer's output while training.
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
        weights = self._weights(sentences, self._keys(frames), videos.frame_mask)
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
        return self._weights(sentences_of(texts, self.dim), keys, videos.frame_mask).permute(2, 0, 1)

    def index(self, videos: Videos) -> XPoolIndex:
        """Keys, values and the forms that give both variances and the length of the result."""
        frames = self._frames(videos)
        centred, gram = self._pooled(frames)
        brought, rest = _centre(centred + F.linear(centred, self.residual.weight)), self._rest()
        scale, shift = self.norm_out.weight, self.norm_out.bias
        values = brought * scale
        linear = [brought @ rest / self.dim, values @ (rest * scale), values @ shift, torch.ones_like(gram[..., 0])]
        squares = [gram, brought @ brought.mT / self.dim, values @ values.mT]
        forms = torch.cat([*squares, torch.stack(linear, 1)], 1)
        return XPoolIndex(self._keys(frames), values, forms, videos.frame_mask)

    @torch.no_grad()
    def score(self, texts: Texts, index: XPoolIndex) -> Tensor:
        """Cosine similarity (T, V), by inner products with the texts and forms of the weights; without gradients."""
        sentences, (V, frames) = sentences_of(texts, self.dim), index.mask.shape
        query, unit = self.query(self.norm_in(sentences)), F.normalize(sentences, dim=-1)
        # Of every pair: three quadratic forms, four linear ones, and the product with the text.
        squares, lines, product = (unit.new_empty(V, size, len(unit)) for size in (3, 4, 1))
        whole = may_look(index.mask) and bool(index.mask.all())
        for rows in slices(index.mask, len(unit)):
            e = products(index.keys[rows], query)
            e = e if whole else hide_padding(e, index.mask[rows])
            # Not divided by their sum, as the deviation divides it out: a / σ2 = e / sqrt(eᵀ G e + ε (Σ e)²).
            # On a GPU a softmax is two passes over memory in place of five; a CPU has these in its cache.
            e = e.softmax(1) if e.is_cuda else e.sub_(e.amax(1, keepdim=True)).exp_()
            formed = torch.bmm(index.forms[rows], e)
            lines[rows] = formed[:, 3 * frames :]
            by_form = formed[:, : 3 * frames].unflatten(1, (3, frames))
            torch.sum(by_form.mul_(e[:, None]), 2, out=squares[rows])
            torch.sum(products(index.values[rows], unit).mul_(e), 1, keepdim=True, out=product[rows])
        return self._cosine(squares.unbind(1), lines.unbind(1), product[:, 0], unit).T

    def _cosine(self, squares: tuple[Tensor, ...], lines: tuple[Tensor, ...], product: Tensor, unit: Tensor) -> Tensor:
        """Cosines (V, T) from the forms (V, T) in the order of ``XPoolIndex.forms``; writes over them."""
        rest, scale, shift = self._rest(), self.norm_out.weight, self.norm_out.bias
        (variance2, variance3, length), (with_rest, along_rest, along_shift, total) = squares, lines
        inverse = variance2.clamp_min_(0).add_(total.square_(), alpha=self.norm_pooled.eps).rsqrt_()  # 1 / σ2
        variance3.mul_(inverse).add_(with_rest, alpha=2).mul_(inverse).add_(rest @ rest / self.dim)
        outer = variance3.clamp_min_(0).add_(self.norm_out.eps).rsqrt_()  # 1 / σ3
        rest = rest * scale
        product.mul_(inverse).add_(unit @ rest).mul_(outer).add_(unit @ shift)
        length.mul_(inverse).add_(along_rest, alpha=2).mul_(inverse).add_(rest @ rest).mul_(outer)
        length.add_(along_shift.mul_(inverse).add_(rest @ shift), alpha=2).mul_(outer).add_(shift @ shift)
        return product.mul_(length.clamp_min_(TINY**2).rsqrt_())

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        """See ``Head``."""
        return frames * (6 * self.dim + 4 * frames), 16

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
