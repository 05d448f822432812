"""How heads bear videos of many scenes: X-Pool's Figure 4 (section 5.3), on frozen features.

Into every test video n others of the split are inserted, whole, each at a random place of what is there by then. F
frames are sampled anew from the middles of F even parts of the long video, so every video keeps its share of the time.
The long video's frames were never encoded: for each sampled time the nearest stored frame of the video that is shown
then is taken, so the resolution is that of the stored frames, and with many videos inserted some are not seen at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lab import cli
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.metrics import ranks, summarise
from lab.similarity import similarity_matrix
from lab.store import Store

if TYPE_CHECKING:
    from lab.studies.final import RankedRow
    from lab.studies.setups import Study
    from lab.studies.splits import Splits

KEPT = ("MdR", "R@1", "R@5", "R@10", "MnR")
NOTE = (
    "frames of the lengthened videos are the nearest stored ones, so their resolution is that of the store "
    "({frames} frames a video)"
)


def diversity(study: Study, rows: Sequence[RankedRow], store: Store, texts: Texts, videos: Videos) -> dict[str, Any]:
    """``inserted`` and, for each row, each metric as draws' values for each of them, every seed's head in the mean."""
    if videos.rows is None or texts.video is None:
        raise ValueError("the sweep needs a split of a store")
    times = store.frame_times_s(videos.rows.cpu().numpy())
    lengths = _lengths(store, videos.rows.cpu().numpy(), times)
    real = videos.frame_mask.cpu().numpy() if videos.frame_mask is not None else ~np.isnan(times)
    found: dict[str, dict[str, list[list[float]]]] = {row.setup.name: {name: [] for name in KEPT} for row in rows}
    with cli.bar(len(study.inserted) * study.draws * sum(len(row.fits) for row in rows), "diversity", "head") as bar:
        for inserted in study.inserted:
            values: dict[str, list[dict[str, float]]] = {row.setup.name: [] for row in rows}
            for draw in range(study.draws):
                rng = np.random.default_rng([study.seed, inserted, draw])
                longer = lengthened(videos, *pick(times, lengths, real, inserted, rng))
                for row in rows:
                    values[row.setup.name].append(_metrics(row, texts, longer, bar))
            for name, draws in values.items():
                for metric in KEPT:
                    found[name][metric].append([each[metric] for each in draws])
    return {
        "name": "diversity",
        "inserted": list(study.inserted),
        "draws": study.draws,
        "rows": found,
        "note": NOTE.format(frames=times.shape[1]),
    }


def require(splits: Splits) -> None:
    """Raises ``LabError`` for what this sweep cannot do, which is better known before the test split is read."""
    held, most = splits.store.coverage("test", splits.store.protocol).videos, max(splits.study.inserted)
    if splits.needs.audio is not None:
        raise LabError(
            "a row of this sweep hears, and sound is not stored finely enough to be lengthened: leave it out"
        )
    if most >= held:
        raise LabError(f"inserted < {held} test videos must hold, got inserted={most}")


def _metrics(row: RankedRow, texts: Texts, videos: Videos, bar: Any) -> dict[str, float]:
    told = []
    for fit in row.fits:
        similarity = similarity_matrix(fit.head, texts, videos)
        target = texts.video.cpu().numpy() if texts.video is not None else None
        told.append(summarise(ranks(similarity.numpy(), np.asarray(target))))
        bar.update()
    return {metric: float(np.mean([each[metric] for each in told])) for metric in KEPT}


def _lengths(store: Store, rows: NDArray[np.int64], times: NDArray[np.float32]) -> NDArray[np.float64]:
    """Seconds (V,); where a duration is unknown, what its frames' times suggest."""
    lengths = store.read("duration_s")[rows].astype(np.float64)
    last, count = np.nanmax(times, 1), (~np.isnan(times)).sum(1)
    guess = np.maximum(last * (count + 0.5) / np.maximum(count - 0.5, 0.5), 1e-3)
    return np.where(np.isfinite(lengths) & (lengths > 0), lengths, guess)


def pick(
    times: NDArray[np.float32],
    lengths: NDArray[np.float64],
    real: NDArray[np.bool_],
    inserted: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each video (V,) and frame (F,) of the lengthened gallery: which video is shown, and which of its frames.

    ``times`` (V, F) in seconds, ``lengths`` (V,), ``real`` (V, F) says which frames there are.
    """
    V, F = times.shape
    video, frame = np.empty((V, F), np.int64), np.empty((V, F), np.int64)
    for v in range(V):
        others = rng.choice(V - 1, inserted, replace=False)
        shown, starts, ends = timeline(v, others + (others >= v), lengths, rng)
        edges = np.cumsum(ends - starts)
        at = (np.arange(F) + 0.5) / F * edges[-1]
        piece = np.minimum(np.searchsorted(edges, at, side="right"), len(shown) - 1)
        video[v] = shown[piece]
        within = starts[piece] + at - (edges - (ends - starts))[piece]
        away = np.where(real[video[v]], np.abs(times[video[v]] - within[:, None]), np.inf)
        frame[v] = away.argmin(1)
    return video, frame


def timeline(
    own: int, others: NDArray[np.int64], lengths: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The pieces of a lengthened video in order: whose they are, and from which to which second of that video."""
    pieces = [(own, 0.0, float(lengths[own]))]
    for other in others.tolist():
        at, place = rng.uniform(0, sum(end - start for _, start, end in pieces)), 0
        while at > pieces[place][2] - pieces[place][1] and place < len(pieces) - 1:
            at -= pieces[place][2] - pieces[place][1]
            place += 1
        whose, start, end = pieces[place]
        cut = min(start + at, end)
        pieces[place : place + 1] = [(whose, start, cut), (other, 0.0, float(lengths[other])), (whose, cut, end)]
    shown, starts, ends = zip(*pieces, strict=True)
    return np.array(shown), np.array(starts), np.array(ends)


def lengthened(videos: Videos, video: NDArray[np.int64], frame: NDArray[np.int64]) -> Videos:
    """The gallery with the picked frames; each has all F."""
    device = videos.frames.device
    picked = videos.frames[torch.from_numpy(video).to(device), torch.from_numpy(frame).to(device)]
    return Videos(picked, rows=videos.rows)
