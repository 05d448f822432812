"""One-line trained baselines from scikit-learn, which a deep head must beat: linear maps between captions and videos.

Each is fitted on the train split, on pairs of a caption and the mean of its video's frames, all of length one, and then
is a cosine between what the maps make of both. In a study file their names are ``ridge``, ``cca`` and ``pca``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads.pooling import MeanPooling

#: Pairs that CCA is fitted on at most: its cost grows with their number, its 2 D² numbers are settled long before.
MOST = 20_000


class _Linear(MeanPooling):
    """Mean pooling, then a linear map for texts and one for videos, both without gradients; ``fit`` sets them."""

    text: Tensor
    video: Tensor
    text_mean: Tensor
    video_mean: Tensor

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(dim)
        for name in ("text", "video"):
            self.register_buffer(name, torch.zeros(dim, width))
            self.register_buffer(f"{name}_mean", torch.zeros(dim))

    def index(self, videos: Videos) -> Tensor:
        """One vector of length one a video."""
        return F.normalize((super().index(videos) - self.video_mean) @ self.video, dim=-1)

    def score(self, texts: Texts, index: Tensor) -> Tensor:
        """Cosine similarity (T, V)."""
        return F.normalize((self.space.texts(texts) - self.text_mean) @ self.text, dim=-1) @ index.T

    def _pairs(self, texts: Texts, videos: Videos) -> tuple[NDArray[Any], NDArray[Any]]:
        """A caption and its video a row, (T, D) each, before they are mapped."""
        if texts.video is None:
            raise ValueError("training texts must name their videos")
        read, seen = self.space.texts(texts), super().index(videos)[texts.video]
        return read.cpu().double().numpy(), seen.cpu().double().numpy()

    def _put(self, **arrays: Any) -> None:
        for name, values in arrays.items():
            getattr(self, name).copy_(torch.from_numpy(np.ascontiguousarray(values, np.float32)))


class Ridge(_Linear):
    """Videos by ridge regression from their vector to their captions'; ``alpha`` is the penalty."""

    def __init__(self, dim: int = 512, *, alpha: float = 1.0) -> None:
        super().__init__(dim, dim)
        if not alpha > 0:
            raise LabError(f"alpha > 0 must hold, got alpha={alpha!r}")
        self.alpha = alpha

    def fit(self, texts: Texts, videos: Videos) -> None:
        """Fits the map of videos; texts stay as they are."""
        from sklearn.linear_model import Ridge as Fitted

        read, seen = self._pairs(texts, videos)
        found = Fitted(alpha=self.alpha).fit(seen, read)
        # A x + b, as (x − m) A with m = 0 where b is none; b shifts the mean, and the cosine is about the origin.
        weights = found.coef_.T
        shift = np.linalg.lstsq(weights.T, -found.intercept_, rcond=None)[0]
        self._put(text=np.eye(self.dim), text_mean=np.zeros(self.dim), video=weights, video_mean=shift)


class PCA(_Linear):
    """The first ``components`` principal directions of captions and videos together, their means taken off."""

    def __init__(self, dim: int = 512, *, components: int = 64) -> None:
        components = _within(components, dim)
        super().__init__(dim, components)
        self.components = components

    def fit(self, texts: Texts, videos: Videos) -> None:
        """Fits one map for both; each side has a mean of its own."""
        from sklearn.decomposition import PCA as Fitted  # noqa: N811 - the same name

        read, seen = self._pairs(texts, videos)
        means = read.mean(0), seen.mean(0)
        both = np.concatenate([read - means[0], seen - means[1]])
        maps = Fitted(self.components, random_state=0).fit(both).components_.T
        self._put(text=maps, text_mean=means[0], video=maps, video_mean=means[1])


class CCA(_Linear):
    """The ``components`` directions in which captions and their videos correlate most, each weighted by how much.

    The covariances of either side are shrunk towards the identity by ``shrink`` of their mean variance. In closed form:
    whitening by scikit-learn's shrunk covariances, then a singular value decomposition; scikit-learn's own ``CCA``
    looks for one direction after the other, which takes minutes at D = 512.
    """

    def __init__(self, dim: int = 512, *, components: int = 64, shrink: float = 0.1) -> None:
        components = _within(components, dim)
        super().__init__(dim, components)
        if not 0 <= shrink <= 1:
            raise LabError(f"0 <= shrink <= 1 must hold, got shrink={shrink!r}")
        self.components, self.shrink = components, shrink

    def fit(self, texts: Texts, videos: Videos) -> None:
        """Fits both maps."""
        from sklearn.covariance import ShrunkCovariance

        read, seen = self._pairs(texts, videos)
        if len(read) > MOST:
            rows = np.random.default_rng(0).choice(len(read), MOST, replace=False)
            read, seen = read[rows], seen[rows]
        means = read.mean(0), seen.mean(0)
        white = [
            _inverse_root(ShrunkCovariance(shrinkage=self.shrink).fit(side - mean).covariance_)
            for side, mean in zip((read, seen), means, strict=True)
        ]
        cross = (read - means[0]).T @ (seen - means[1]) / len(read)
        left, strength, right = np.linalg.svd(white[0] @ cross @ white[1])
        weights = np.sqrt(strength[: self.components])
        self._put(
            text=white[0] @ left[:, : self.components] * weights,
            text_mean=means[0],
            video=white[1] @ right.T[:, : self.components] * weights,
            video_mean=means[1],
        )


def _within(components: int, dim: int) -> int:
    if isinstance(components, bool) or not isinstance(components, int) or components < 1:
        raise LabError(f"components >= 1 must hold, a whole number, got components={components!r}")
    return min(components, dim)


def _inverse_root(covariance: NDArray[Any]) -> NDArray[Any]:
    values, vectors = np.linalg.eigh(covariance)
    root: NDArray[Any] = (vectors / np.sqrt(np.maximum(values, 1e-12))) @ vectors.T
    return root
