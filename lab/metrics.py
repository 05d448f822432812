"""Ranks and what is made of them. NumPy only; imports nothing of the lab.

Worked example, 2 texts × 4 videos, the true videos being 1 and 0::

    similarity = [[0.1, 0.9, 0.3, 0.3],     text 0: its video 1 scores best           rank 1
                  [0.5, 0.8, 0.5, 0.2]]     text 1: its video 0 ties for 2nd and 3rd  rank 2.5
    R@1 = 50, R@5 = 100, MdR = 1.75, MnR = 1.75

Ties share the mean of the ranks that they span: counting only what is strictly greater would give R@1 = 100 to a head
that scores everything alike. What is not finite is an error, never a rank: dropped NaNs are how broken features improve
published numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

CUTOFFS = (1, 5, 10, 50, 100)


def ranks(similarity: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The rank (T,), from 1, of each text's true video in its row of ``similarity`` (T, V); ties share their mean.

    ``target`` (T,) holds the column of each text's video. Raises ``ValueError`` for a similarity that is not finite or
    not two-dimensional, and for a target that is no column.
    """
    scores, columns = np.asarray(similarity), np.asarray(target)
    if scores.ndim != 2 or columns.shape != scores.shape[:1] or not np.issubdtype(columns.dtype, np.integer):
        raise ValueError(
            f"similarity must be (T, V) and target (T,) whole numbers, got {scores.shape} and {columns.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"similarities must be finite, {int((~np.isfinite(scores)).sum())} are not")
    if columns.size and not (columns.min() >= 0 and columns.max() < scores.shape[1]):
        raise ValueError(f"targets must be columns 0..{scores.shape[1] - 1}, got {columns.min()}..{columns.max()}")
    own = np.take_along_axis(scores, columns[:, None], axis=1)
    greater, equal = (scores > own).sum(1), (scores == own).sum(1)
    return np.asarray(greater + (equal + 1) / 2, np.float64)


def summarise(rank: NDArray[np.float64]) -> dict[str, float]:
    """R@k in percent, median and mean rank, mean reciprocal rank and nDCG@10 of ranks (T,). ``ValueError`` for none."""
    if not rank.size:
        raise ValueError("there must be at least one query to summarise, got none")
    gain = np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)
    return {
        **{f"R@{cutoff}": float(100 * np.mean(rank <= cutoff)) for cutoff in CUTOFFS},
        "MdR": float(np.median(rank)),
        "MnR": float(rank.mean()),
        "MRR": float(np.mean(1 / rank)),
        "nDCG@10": float(gain.mean()),
    }


def retrieval_metrics(similarity: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """Text-to-video metrics of a similarity (T, V), where ``target`` (T,) is the video of each text.

    Keys: R@1 R@5 R@10 R@50 R@100 (percent) MdR MnR (from 1) MRR nDCG@10 (from 0 to 1). Every caption is a query.
    """
    return summarise(ranks(similarity, target))
