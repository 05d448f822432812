"""Heads held against the ground truth of a made world: where they look, and what they hear.

A caption tells of some seconds of its video. A head that attends to its frames puts more weight (``frame_weights``) on
the frames of these seconds than their share of the video's frames is, which is what the mean does. And a caption that
needs the sound cannot be found by a head that has only the picture, but by chance. Real data sets know neither, so what
is here needs a store whose captions know their truth (``--dataset toy``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from lab import cli
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.metrics import ranks
from lab.needs import check_inputs
from lab.significance import Interval, bootstrap_interval, mean_interval
from lab.similarity import evaluating, similarity_matrix
from lab.store import Store

#: A stretch's ends and a frame's time that are less than this apart (seconds) are the same moment: times are float32.
MOMENT_S = 5e-4
#: What ``AgainstTruth.attention`` gives, in words.
ATTENTION = {
    "mass": "weight on the seconds that a caption tells of",
    "uniform": "the same, were all frames alike",
    "lift": "the difference",
}
#: Texts whose weights over their own videos are computed together.
TILE = 64


@dataclass(frozen=True)
class AgainstTruth:
    """What each of T captions got from a head, and what was true of it. Aggregates are made from these.

    ``rows``, ``video``: its row in the store's caption table, and its video's number in the gallery.
    ``rank``: of its video, from 1 (``lab.metrics.ranks``).
    ``mass``: the weight on the frames of its own video that lie in its seconds. NaN where it knows no seconds, where
    the frames have no times, and where the head has no ``frame_weights``.
    ``uniform``: the mass of equal weights, which is the share of these frames. NaN where there are no seconds or times.
    ``needs_sound``: 1 yes, 0 no, −1 unknown.
    """

    rows: NDArray[np.int64]
    video: NDArray[np.int64]
    rank: NDArray[np.float64]
    mass: NDArray[np.float64]
    uniform: NDArray[np.float64]
    needs_sound: NDArray[np.int8]

    @property
    def telling(self) -> NDArray[np.bool_]:
        """Captions (T,) that tell of some of their video's frames and not of all: only there can a head look wrong."""
        return np.isfinite(self.mass) & (self.uniform > 0) & (self.uniform < 1)

    def attention(self) -> dict[str, Interval] | None:
        """Means over the telling captions of ``mass``, ``uniform`` and ``lift`` (mass − uniform); None if too few."""
        values = {"mass": self.mass, "uniform": self.uniform, "lift": self.mass - self.uniform}
        if not self._enough(self.telling):
            return None
        return {name: mean_interval(value, self.video, where=self.telling) for name, value in values.items()}

    def recall(self, needs_sound: bool, metric: str = "R@1") -> Interval | None:
        """A metric of the captions that need the sound, or of those that do not; None if too few have any.

        Too few are fewer than two videos, here and in ``attention``.
        """
        where = self.needs_sound == int(needs_sound)
        return bootstrap_interval(self.rank, self.video, metric, where=where) if self._enough(where) else None

    def _enough(self, where: NDArray[np.bool_]) -> bool:
        return len(np.unique(self.video[where])) >= 2


def knows_truth(store: Store, texts: Texts) -> bool:
    """Whether any caption of a split knows its seconds, or whether it needs the sound."""
    captions = [store.captions[row] for row in (texts.rows.tolist() if texts.rows is not None else [])]
    return any(caption["start_s"] is not None or caption["needs_sound"] is not None for caption in captions)


def against_truth(
    head: nn.Module, store: Store, texts: Texts, videos: Videos, rank: ArrayLike | None = None
) -> AgainstTruth:
    """Holds a head against the truth of the captions of a split, as ``lab.reads.load_split(store, split)`` gives it.

    ``rank`` (T,): the captions' ranks, where they are known already (for several seeds, one call each); else all pairs
    are scored. Raises ``LabError`` where no caption knows anything, or head and features do not fit each other.
    """
    rows, video, gallery = _of_store(texts, videos)
    captions = [store.captions[row] for row in rows]
    if not knows_truth(store, texts):
        raise LabError(
            f"{store.path} knows no truth of these {len(rows)} captions: only a made world does, as --dataset toy"
        )
    check_inputs(head, texts, videos)
    if rank is None:
        rank = ranks(similarity_matrix(head, texts, videos).numpy(), video)
    inside, real = told_frames(store, texts, videos)
    timed = np.array([caption["start_s"] is not None for caption in captions], bool)
    timed &= np.isfinite(store.frame_times_s(gallery))[:, 0][video]  # imported features bring no times
    mass = np.full(len(rows), np.nan)
    if hasattr(head, "frame_weights"):
        mass[timed] = (own_frame_weights(head, texts, videos) * inside).sum(1)[timed]
    share = inside.sum(1) / real.sum(1)
    known = [-1 if caption["needs_sound"] is None else int(caption["needs_sound"]) for caption in captions]
    return AgainstTruth(
        rows,
        video,
        np.asarray(rank, np.float64),
        mass,
        np.where(timed, share, np.nan),
        np.array(known, np.int8),
    )


def told_frames(store: Store, texts: Texts, videos: Videos) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which frames of each caption's own video (T, F) lie in its seconds, and which are real.

    A frame lies there if it appears at ``start_s`` or later and before ``end_s``. No frame of a caption without seconds
    does, nor does one without a time.
    """
    rows, video, gallery = _of_store(texts, videos)
    nowhere = {"start_s": np.inf, "end_s": -np.inf}
    start_s, end_s = (
        np.array([nowhere[end] if store.captions[row][end] is None else store.captions[row][end] for row in rows])
        for end in ("start_s", "end_s")
    )
    real = videos.frame_mask.cpu().numpy()[video]
    return real & within((start_s[:, None], end_s[:, None]), store.frame_times_s(gallery)[video]), real


def within(seconds: tuple[Any, Any], times_s: ArrayLike) -> NDArray[np.bool_]:
    """Which times lie in a stretch (its start and its end), to the moment; a time that is not known (NaN) does not."""
    start, end = seconds
    times = np.asarray(times_s, np.float64) + MOMENT_S
    return np.asarray((times >= start) & (times < end))


def own_frame_weights(head: nn.Module, texts: Texts, videos: Videos) -> NDArray[np.float64]:
    """The weights (T, F) that a head gives to the frames of each text's own video, in eval mode, tile by tile.

    Raises ``LabError`` where they are no weights: rows must sum to one over real frames.
    """
    if texts.video is None:
        raise ValueError("texts must name their videos")
    device = next((parameter.device for parameter in head.parameters()), videos.frames.device)
    owner = texts.video.to("cpu")
    order = torch.argsort(owner, stable=True)  # the captions of a video together: the fewer videos a tile has
    found = np.empty((len(texts), videos.frames.shape[1]))
    with evaluating(head):
        for rows in order.split(TILE):
            columns, place = torch.unique(owner[rows], return_inverse=True)
            weights = head.frame_weights(texts.select(rows).to(device), videos.select(columns).to(device))  # type: ignore[operator]
            found[rows.numpy()] = weights[torch.arange(len(rows)), place].double().cpu().numpy()
    padding = ~videos.frame_mask.cpu().numpy()[owner.numpy()]
    wrong = ~(np.abs(found.sum(1) - 1) < 1e-3) | (np.abs(found) * padding > 1e-6).any(1)
    if wrong.any():
        raise LabError(
            f"rows of frame_weights must sum to one over real frames, {int(wrong.sum())} of {len(wrong)} do not: "
            f"see {type(head).__name__}.frame_weights"
        )
    return found


def truth_table(result: AgainstTruth) -> str:
    """The aggregates with their intervals and counts, for a terminal."""
    lines = []
    attention = result.attention()
    for name, told in (attention or {}).items():
        lines.append([ATTENTION[name], *_cells(told, 3)])
    for needs, name in ((True, "R@1, captions that need the sound"), (False, "R@1, captions that do not")):
        recall = result.recall(needs)
        lines.append([name, *(_cells(recall, 1) if recall else ("-", "-", "-", "-"))])
    return cli.table(["against the truth", "mean", "95 %", "captions", "videos"], lines)


def _cells(told: Interval, digits: int) -> tuple[object, ...]:
    return f"{told.value:.{digits}f}", f"{told.low:.{digits}f} to {told.high:.{digits}f}", told.queries, told.videos


def _of_store(texts: Texts, videos: Videos) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Caption rows (T,), each one's place in the gallery (T,), and the gallery's rows in the video table (V,)."""
    if texts.rows is None or texts.video is None or videos.rows is None:
        raise ValueError("texts and videos must be those of a store: load them with store.load")
    return texts.rows.cpu().numpy(), texts.video.cpu().numpy(), videos.rows.cpu().numpy()
