"""Ranks and what is made of them. NumPy only; imports nothing of the lab.

Worked example, 2 texts × 4 videos, the true videos being 1 and 0::

    similarity = [[0.1, 0.9, 0.3, 0.3],     text 0: its video 1 scores best           rank 1
                  [0.5, 0.8, 0.5, 0.2]]     text 1: its video 0 ties for 2nd and 3rd  rank 2.5
    R@1 = 50, R@5 = 100, MdR = 1.75, MnR = 1.75

Ties share the mean of the ranks that they span: counting only what is strictly greater would give R@1 = 100 to a head
that scores everything alike. What is not finite is an error, never a rank: dropped NaNs are how broken features improve
published numbers.

Text to video (t2v), every caption is a query and the gallery is all videos. Video to text (v2t), two protocols are in
use where videos have several captions, and their numbers beyond R@1 differ, so each has a name in ``V2T``:

``groups``      a video scores a group of captions (those of one video) by its best one, and its own group is ranked
                among the groups: CLIP4Clip, X-Pool and most since.
``captions``    the best of its own captions is ranked among all captions, but not behind its own others: CE, MMT.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

CUTOFFS = (1, 5, 10, 50, 100)
#: Similarities that are looked at together, where they are copied.
TILE = 1 << 22
#: Of the dual softmax, on cosines: the inverse of the temperature that CLIP was trained with.
DSL_SCALE = 100.0
V2T = Literal["groups", "captions"]


def ranks(similarity: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The rank (T,), from 1, of each text's true video in its row of ``similarity`` (T, V); ties share their mean.

    ``target`` (T,) holds the column of each text's video. Raises ``ValueError`` for a similarity that is not finite or
    not two-dimensional, and for a target that is no column.
    """
    scores, columns = _checked(similarity, target)
    own = np.take_along_axis(scores, columns[:, None], axis=1)
    greater, equal = (scores > own).sum(1), (scores == own).sum(1)
    return np.asarray(greater + (equal + 1) / 2, np.float64)


def rank_of(scores: NDArray[Any], column: int) -> float:
    """``ranks`` of one row of scores (V,), some of which may be minus infinity: videos that are not in the running."""
    own = scores[column]
    return float((scores > own).sum() + ((scores == own).sum() + 1) / 2)


def best_own_rank(scores: NDArray[Any], own: NDArray[np.bool_]) -> float:
    """``v2t_ranks`` by ``captions`` of one video, from its column of scores (T,) and which captions are its ``own``."""
    top = scores[own].max()
    mine, level = (scores[own] == top).sum(), (scores[~own] == top).sum()
    return float((scores > top).sum() + 1 + level / (mine + 1))


def v2t_ranks(similarity: ArrayLike, target: ArrayLike, protocol: V2T = "groups") -> NDArray[np.float64]:
    """The rank (G,), from 1, that each video gives to its own captions, by a protocol of ``V2T``.

    ``similarity`` (T, V) and ``target`` (T,) are those of ``ranks``. A video without a caption has nothing to find and
    is no query: the G queries are the videos ``np.unique(target)``, in that order. Ties share the mean of the ranks
    that they span. Where e of a video's own captions tie for its best with o of others, the first of its own comes
    behind o / (e + 1) of them in the mean over all orders; so R@1 is the same in both protocols. (CE's code lets equal
    captions of one video, which are usual in MSVD, push each other down.)

    Raises ``ValueError`` as ``ranks`` does, and for an unknown protocol.
    """
    if protocol not in get_args(V2T):
        raise ValueError(f"protocol must be one of {', '.join(get_args(V2T))}, got {protocol!r}")
    scores, columns = _checked(similarity, target)
    groups, texts = _groups(columns)
    G = len(groups)
    best = np.empty((G, G), scores.dtype)  # groups of captions × videos
    for group, rows in enumerate(texts):
        best[group] = scores[rows].max(0)[groups]
    if protocol == "groups":
        return ranks(best.T, np.arange(G))
    top = best.diagonal()
    above, level = np.zeros(G), np.zeros(G)
    for rows in np.array_split(np.arange(len(scores)), 1 + scores.size // TILE):
        given = scores[rows][:, groups]
        above += (given > top).sum(0)
        level += (given == top).sum(0)
    mine = np.array([(scores[rows, column] == own).sum() for column, rows, own in zip(groups, texts, top, strict=True)])
    return np.asarray(above + 1 + (level - mine) / (mine + 1), np.float64)


def query_values(rank: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """What each query, of ranks in any shape, adds to the mean that is metric ``name``: R@k (0 or 100) MnR MRR nDCG@10.

    Raises ``ValueError`` for another name, MdR among them, which is no mean.
    """
    if name.startswith("R@") and name[2:].isdecimal():
        return np.where(rank <= int(name[2:]), 100.0, 0.0)
    if name == "MnR":
        return np.asarray(rank, np.float64)
    if name == "MRR":
        return np.asarray(1 / rank, np.float64)
    if name == "nDCG@10":
        return np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)
    raise ValueError(f"a metric that is a mean over queries must be R@k, MnR, MRR or nDCG@10, got {name!r}")


def summarise(rank: NDArray[np.float64]) -> dict[str, float]:
    """R@k in percent, median and mean rank, mean reciprocal rank and nDCG@10 of ranks (T,). ``ValueError`` for none.

    nDCG@10 is that of one right answer a query; with v2t ranks by ``captions`` it counts the best-ranked one alone.
    """
    if not rank.size:
        raise ValueError("there must be at least one query to summarise, got none")
    means = {name: float(query_values(rank, name).mean()) for name in (*_RECALLS, "MnR", "MRR", "nDCG@10")}
    return {**{name: means[name] for name in _RECALLS}, "MdR": float(np.median(rank)), **means}


def retrieval_metrics(similarity: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """Text-to-video metrics of a similarity (T, V), where ``target`` (T,) is the video of each text.

    Keys: R@1 R@5 R@10 R@50 R@100 (percent) MdR MnR (from 1) MRR nDCG@10 (from 0 to 1). Every caption is a query.
    """
    return summarise(ranks(similarity, target))


def v2t_metrics(similarity: ArrayLike, target: ArrayLike, protocol: V2T = "groups") -> dict[str, float]:
    """Video-to-text metrics, by a protocol of ``V2T``, of the same similarity (T, V) and target; the same keys."""
    return summarise(v2t_ranks(similarity, target, protocol))


def geometric_mean(metrics: dict[str, float]) -> float:
    """The geometric mean of R@1, R@5 and R@10 in percent: one number that no single cutoff rules.

    >>> round(geometric_mean({"R@1": 40.0, "R@5": 50.0, "R@10": 62.5}), 9)
    50.0
    """
    return float(np.cbrt(metrics["R@1"] * metrics["R@5"] * metrics["R@10"]))


def dual_softmax(
    similarity: ArrayLike, scale: float = DSL_SCALE, over: Literal["texts", "videos"] = "texts"
) -> NDArray[np.float64]:
    """CAMoE's dual softmax (T, V): S ⊙ N softmax(scale S), over the N = T texts for t2v, over the N = V videos for v2t.

    **Transductive**: what a query finds depends on which other queries are asked, and it gains by each video having few
    captions among them. Its numbers go into a column of their own, never beside those of single queries.

    ``similarity`` (T, V) holds cosines; ``scale`` is the inverse of the softmax's temperature, by default CLIP's own.
    CAMoE's code (DSL.py) has softmax(S / 1000) by default and does not tell whether its S is scaled: on cosines that is
    the scale 0.001, on logits of 100 × cosine 0.1. Either leaves the weights nearly even and the ranks nearly as they
    are. The product is meant for positive similarities: a negative one is divided by its weight, since a small weight
    would lift it. Raises ``ValueError`` for what is not finite or no matrix, and for a scale or an axis that is none.
    """
    given = np.asarray(similarity)
    if given.ndim != 2 or not np.isfinite(given).all() or not 0 < scale < np.inf or over not in ("texts", "videos"):
        raise ValueError(
            "similarity must be (T, V) and finite, scale positive and over 'texts' or 'videos', "
            f"got {given.shape}, {scale} and {over!r}"
        )
    result = np.empty(given.shape)
    into, given = (result, given) if over == "texts" else (result.T, given.T)
    for columns in np.array_split(np.arange(given.shape[1]), 1 + given.size // TILE) if given.size else ():
        scores = given[:, columns].astype(np.float64)
        logits = scale * (scores - scores.max(0))
        weight = logits - np.log(np.exp(logits).mean(0))
        into[:, columns] = scores * np.exp(np.clip(np.where(scores < 0, -weight, weight), -600, 600))
    return result


_RECALLS = tuple(f"R@{cutoff}" for cutoff in CUTOFFS)


def _checked(similarity: ArrayLike, target: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as arrays. Raises ``ValueError`` as ``ranks`` tells."""
    scores, columns = np.asarray(similarity), np.asarray(target)
    if scores.ndim != 2 or columns.shape != scores.shape[:1] or not np.issubdtype(columns.dtype, np.integer):
        raise ValueError(
            f"similarity must be (T, V) and target (T,) whole numbers, got {scores.shape} and {columns.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"similarities must be finite, {int((~np.isfinite(scores)).sum())} are not")
    if columns.size and not (columns.min() >= 0 and columns.max() < scores.shape[1]):
        raise ValueError(f"targets must be columns 0..{scores.shape[1] - 1}, got {columns.min()}..{columns.max()}")
    return scores, columns


def _groups(columns: NDArray[Any]) -> tuple[NDArray[Any], list[NDArray[np.int64]]]:
    """The videos (G,) that have texts, and the rows of the texts of each."""
    order = np.argsort(columns, kind="stable")
    groups, first = np.unique(columns[order], return_index=True)
    return groups, np.split(order, first)[1:]
