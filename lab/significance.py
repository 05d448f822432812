"""How sure a number is, and whether one head beats another: both by resampling videos. NumPy and lab.metrics.

Captions of one video are alike, so 27,763 captions of 670 videos tell far less than 27,763 independent queries would.
What is drawn here, with replacement, is therefore videos, and all captions of a drawn video come along. The gallery
stays as it is: an interval says what other queries of this kind would give, not what a larger gallery would.

Ranks (T,) are those of ``lab.metrics``; a head that was trained with several seeds gives (R, T), one row a seed, and
its metric is the mean over the seeds. Such an interval tells of the queries, not of the seeds. For v2t ranks each video
is its own one query: give ``numpy.unique(target)`` as the videos.

All is the same again under the same ``seed``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lab.metrics import query_values

#: The metric that is the geometric mean of R@1, R@5 and R@10 (``lab.metrics.geometric_mean``).
GEOMETRIC_MEAN = "gm(R@1,5,10)"
#: Numbers that are held together while resampling.
BLOCK = 1 << 22

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # how often each video was drawn (B, C) -> (B,)


@dataclass(frozen=True)
class Interval:
    """A metric with the percentile interval (``low``, ``high``) that holds a share ``level`` of the resamples."""

    metric: str
    value: float
    low: float
    high: float
    level: float
    queries: int
    videos: int


@dataclass(frozen=True)
class PairedTest:
    """Two heads on the same queries. ``difference`` is first − second, in the metric's unit.

    ``low`` and ``high``: symmetric about the difference; they leave zero out where ``p_value`` < 1 − ``level``.
    ``lower_bound``: the difference lies above it with confidence ``level``, one-sided ("at most one point worse").
    ``p_value``: two-sided. Of resamples whose own difference were drawn about zero instead of about the observed one,
    the share that lies as far from zero as the observed one does: (1 + #{|d* − d| ≥ |d|}) / (1 + resamples).
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    lower_bound: float
    p_value: float
    level: float
    queries: int
    videos: int


def bootstrap_interval(
    rank: ArrayLike,
    video: ArrayLike,
    metric: str = "R@1",
    *,
    where: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The interval of a metric of ranks (T,) or (R, T), where ``video`` (T,) says whose caption each query is.

    ``metric``: a key of ``lab.metrics.summarise``, R@k for any k, or ``GEOMETRIC_MEAN``. ``where`` (T,) bool picks
    queries (those that need the sound, say); videos without any are then not drawn. Raises ``ValueError`` for what does
    not fit, ranks below 1, an unknown metric, and fewer than two videos, which have no spread to tell of.
    """
    ranks, cluster = _ranked(rank, video, where)
    return _interval(metric, _statistic(ranks, cluster, metric), cluster, level, resamples, seed)


def mean_interval(
    values: ArrayLike,
    video: ArrayLike,
    *,
    where: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The same of the mean of any finite number that each query (T,) has, such as a difference between two heads."""
    found, cluster = _queries(values, video, where)
    return _interval("mean", _mean(found[None], cluster), cluster, level, resamples, seed)


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    video: ArrayLike,
    metric: str = "R@1",
    *,
    where: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Whether two heads differ in a metric, on the same queries in the same order; each resample draws both alike.

    Arguments and errors are those of ``bootstrap_interval``; the two may have different numbers of seeds.
    """
    (one, cluster), (other, _) = _ranked(first, video, where), _ranked(second, video, where)
    statistics = [_statistic(ranks, cluster, metric) for ranks in (one, other)]
    drawn = _resample(statistics, cluster, level, resamples, seed)
    C = int(cluster.max()) + 1
    mine, theirs = (_as_is(statistic, C) for statistic in statistics)
    difference, differences = mine - theirs, drawn[0] - drawn[1]
    away = np.abs(differences - difference)
    slack = 1e-9 * max(1.0, abs(mine), abs(theirs))  # equal fractions may differ in their last bit
    beyond = _largest(level, resamples)
    reach = float(np.sort(away)[-1 - beyond])
    return PairedTest(
        metric,
        mine,
        theirs,
        difference,
        difference - reach,
        difference + reach,
        float(np.quantile(differences, 1 - level)),
        float((1 + (away >= abs(difference) - slack).sum()) / (1 + resamples)),
        level,
        len(cluster),
        C,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several comparisons, adjusted so that the chance of any false one among them stays what is asked for.

    Holm's step-down procedure (Scand. J. Statist. 6, 1979), which holds however the comparisons depend on each other:
    in ascending order the i-th of m, from 0, becomes the largest of (m − j) p_j over j ≤ i, and at most 1.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for i, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - i) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _largest(level: float, resamples: int) -> int:
    """How many resamples may lie as far off as the observed difference for its p-value to be below 1 − level."""
    most = (1 - level) * (1 + resamples)
    return math.ceil(most - 1e-9) - 2  # 0.05 × 40 is 2.0000000000000018


def _interval(
    metric: str, statistic: Statistic, cluster: NDArray[np.int64], level: float, resamples: int, seed: int
) -> Interval:
    drawn = _resample([statistic], cluster, level, resamples, seed)[0]
    C = int(cluster.max()) + 1
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(metric, _as_is(statistic, C), float(low), float(high), level, len(cluster), C)


def _ranked(
    rank: ArrayLike, video: ArrayLike, where: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    ranks, cluster = _queries(rank, video, where)
    if not (ranks >= 1).all():
        raise ValueError("ranks count from 1: take them from lab.metrics.ranks")
    return ranks, cluster


def _queries(
    values: ArrayLike, video: ArrayLike, where: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The picked values (R, T') and the number, from 0 to C − 1, of each one's video (T',)."""
    found, videos = np.atleast_2d(np.asarray(values, np.float64)), np.asarray(video)
    if found.ndim != 2 or videos.shape != found.shape[1:]:
        raise ValueError(f"values must be (T,) or (R, T) and video (T,), got {np.shape(values)} and {videos.shape}")
    if where is not None:
        chosen = np.asarray(where)
        if chosen.shape != videos.shape or chosen.dtype != np.bool_:
            raise ValueError(f"where must be bool of shape {videos.shape}, got {chosen.dtype} of {chosen.shape}")
        found, videos = found[:, chosen], videos[chosen]
    if not np.isfinite(found).all():
        raise ValueError(f"values must be finite, {int((~np.isfinite(found)).sum())} are not")
    names, cluster = np.unique(videos, return_inverse=True)
    if len(names) < 2 or not len(found):
        raise ValueError(f"resampling needs queries of at least two videos, got {len(names)}")
    return found, np.asarray(cluster, np.int64)


def _statistic(ranks: NDArray[np.float64], cluster: NDArray[np.int64], metric: str) -> Statistic:
    """The metric, mean over runs, as a function of how often each video counts."""
    if metric == "MdR":
        return _median(ranks, cluster)
    names = ("R@1", "R@5", "R@10") if metric == GEOMETRIC_MEAN else (metric,)
    return _mean(np.stack([query_values(ranks, name) for name in names]), cluster)


def _mean(values: NDArray[np.float64], cluster: NDArray[np.int64]) -> Statistic:
    """The mean over queries of ``values`` (names, R, T'), then the geometric mean over names, then the mean over R."""
    names, runs, _ = values.shape
    sums = np.stack([np.bincount(cluster, row) for row in values.reshape(names * runs, -1)], axis=1)
    sizes = np.bincount(cluster).astype(np.float64)

    def mean(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        means = ((drawn @ sums) / (drawn @ sizes)[:, None]).reshape(len(drawn), names, runs)
        return np.asarray((means[:, 0] if names == 1 else means.prod(1) ** (1 / names)).mean(1), np.float64)

    return mean


def _median(ranks: NDArray[np.float64], cluster: NDArray[np.int64]) -> Statistic:
    places, number = np.unique(ranks, return_inverse=True)
    number = number.reshape(ranks.shape)
    C, U = int(cluster.max()) + 1, len(places)
    # per run: how many queries of a video stand at each place (C, U); one product with it does all resamples of a block
    counts = [np.bincount(cluster * U + row, minlength=C * U).reshape(C, U).astype(np.float64) for row in number]

    def median(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.zeros(len(drawn))
        for count in counts:
            seen = np.cumsum(drawn @ count, axis=1)
            n = seen[:, -1:]
            for middle in ((n - 1) // 2, n // 2):  # the two middles of an even number, twice the one of an odd
                total += places[(seen > middle).argmax(1)]
        return total / (2 * len(counts))

    return median


def _as_is(statistic: Statistic, C: int) -> float:
    return float(statistic(np.ones((1, C)))[0])


def _resample(
    statistics: list[Statistic], cluster: NDArray[np.int64], level: float, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Each statistic of each resample (statistics, resamples); a resample is the same one for all of them."""
    if not 0 < level < 1 or resamples * (1 - level) < 1 - 1e-9:
        raise ValueError(
            f"0 < level < 1 and resamples >= 1 / (1 - level) must hold, got level={level} and resamples={resamples}"
        )
    blocks = [
        [statistic(drawn) for statistic in statistics]
        for drawn in _draws(int(cluster.max()) + 1, len(cluster), resamples, seed)
    ]
    return np.concatenate(blocks, axis=1)


def _draws(C: int, queries: int, resamples: int, seed: int) -> Iterator[NDArray[Any]]:
    """How often each of C videos is drawn (b, C), block after block of resamples."""
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // queries)
    for start in range(0, resamples, step):
        b = min(step, resamples - start)
        drawn = rng.integers(0, C, (b, C)) + C * np.arange(b)[:, None]
        yield np.bincount(drawn.ravel(), minlength=b * C).reshape(b, C).astype(np.float64)
