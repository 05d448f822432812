"""``python -m lab.search "an elephant spins" --run RUN``: the videos of a store that fit a text best.

    text ──► the store's text tower ──► a head's exact index ──► top videos, and the seconds that the text looks at

``lab.search(...)`` is the same in Python. For several queries make a ``Searcher``, which opens the store, indexes its
videos and loads the text tower once. A search covers all videos of a store, those of its test split too: no caption
with its video is read, nothing is measured, and so no read is logged (``lab.gallery``).
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lab import cli
from lab.choose import Candidate, choose_head, locate_run, store_of
from lab.embeddings import Texts
from lab.errors import LabError
from lab.gallery import gallery_rows, load_gallery, not_searched
from lab.needs import check_inputs, needed
from lab.query import Encoder, Query
from lab.runs import RUNS
from lab.similarity import evaluating, has_index, index_videos, score_texts, similarity_matrix
from lab.store import Store, open_store
from lab.store.find import store_options
from lab.tiles import floats_of

log = logging.getLogger(__name__)

#: An index beyond this is not kept: each query then goes over the videos in blocks.
MOST_MB = 4096
#: A frame is attended to if it has this many times the weight that it would have if all were alike.
ATTENDED = 1.2


@dataclass(frozen=True)
class Hit:
    """A video that was found. ``weights`` and ``times_s`` (F',) are those of its real frames; weights sum to one.

    ``row`` is that of the store's video table, from which ``store.thumbnails(row)`` gives its pictures. ``weights`` is
    empty for a head that weighs no frames, ``times_s`` holds NaN where the store knows no times. ``attended``: the
    stretches ``(start_s, end_s, share)`` that the text looks at, the most first; empty where all frames are alike.
    """

    video: str
    row: int
    score: float
    times_s: tuple[float, ...] = field(repr=False)
    weights: tuple[float, ...] = field(repr=False)
    attended: tuple[tuple[float, float, float], ...]


class Searcher:
    """A store's videos under one head, ready for queries; nothing is read or built twice.

    ``encoder`` is that of another searcher on the same store, so that several heads share one. Raises ``LabError``
    where head and store do not fit each other, or the split has no videos.
    """

    def __init__(
        self,
        store: Store,
        head: Candidate,
        *,
        split: str | None = None,
        protocol: str | None = None,
        encoder: Encoder | None = None,
        clip: str | None = None,
    ) -> None:
        self.store, self.one, self._encoder, self._clip = store, head, encoder, clip
        rows = gallery_rows(store, split, protocol)
        self.videos, self.times_s, self.durations_s = load_gallery(store, rows, head.needs.audio)
        self.rows = rows
        nothing = torch.zeros(1, self.videos.dim)
        check_inputs(head.head, Texts(nothing, nothing[None]), self.videos)
        self.index: Any = None
        if self._index_mb() <= MOST_MB:
            with evaluating(head.head):
                self.index = index_videos(head.head, self.videos)

    @property
    def encoder(self) -> Encoder:
        """The store's text tower, loaded on first use."""
        if self._encoder is None:
            self._encoder = Encoder(self.store, self._clip)
        return self._encoder

    def search(self, query: str | Query, top: int = 5) -> list[Hit]:
        """The ``top`` best videos. Raises ``LabError`` for a text without a word."""
        if top < 1:
            raise LabError(f"top >= 1 must hold, got top={top}")
        asked = self.encoder(query) if isinstance(query, str) else query
        scores = self.scores(asked.texts)[0]
        best = np.argsort(-scores, kind="stable")[:top]
        return self.hits(asked.texts, best, scores[best])

    def scores(self, texts: Texts) -> NDArray[np.float32]:
        """Similarity (T, V) of texts with all videos, in the order of ``rows``."""
        head = self.one.head
        texts, _ = needed(head, texts, self.videos)
        if self.index is None:
            return np.asarray(similarity_matrix(head, texts, self.videos).numpy())
        with evaluating(head):
            return np.asarray(score_texts(head, texts, self.index).float().numpy())

    def weights(self, texts: Texts, columns: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """What the frames of some videos (T, V', F) count for texts; None for a head without ``frame_weights``."""
        head: Any = self.one.head
        if not hasattr(head, "frame_weights"):
            return None
        with evaluating(head):
            found = head.frame_weights(*needed(head, texts, self.videos.select(torch.as_tensor(columns))))
        return np.asarray(found.float().numpy())

    def hits(self, texts: Texts, columns: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Hit]:
        """Some videos, by their columns (V',), as hits of one text."""
        weights = self.weights(texts, columns)
        found = []
        for place, (column, score) in enumerate(zip(columns.tolist(), scores.tolist(), strict=True)):
            count = int(self.videos.frame_mask[column].sum())
            times = self.times_s[column, :count]
            of_frames = np.zeros(0, np.float32) if weights is None else weights[0, place, :count]
            row = int(self.rows[column])
            found.append(
                Hit(
                    self.store.videos[row]["id"],
                    row,
                    float(score),
                    tuple(times.tolist()),
                    tuple(of_frames.tolist()),
                    attended(times, of_frames, float(self.durations_s[column])),
                )
            )
        return found

    def _index_mb(self) -> float:
        if not has_index(self.one.head):  # the videos themselves, which are there already
            return 0.0
        frames, segments = self.videos.frames.shape[1], 0 if self.videos.audio is None else self.videos.audio.shape[1]
        return floats_of(self.one.head, self.videos.dim, frames, 1, segments)[0] * len(self.videos) * 4 / 2**20


def attended(
    times_s: NDArray[Any], weights: NDArray[Any], duration_s: float = math.nan
) -> tuple[tuple[float, float, float], ...]:
    """Stretches of neighbouring frames with more than their share: ``(start_s, end_s, share)``, the most first.

    A frame stands for the time up to halfway to its neighbours, and the last one up to the video's end.

    >>> attended(np.array([1.0, 3.0, 5.0, 7.0]), np.array([0.5, 0.4, 0.0, 0.1]), 8.0)
    ((0.0, 4.0, 0.9),)
    """
    if not len(weights) or not np.isfinite(times_s).all():
        return ()
    middles = (times_s[1:] + times_s[:-1]) / 2
    end = duration_s if math.isfinite(duration_s) and duration_s > times_s[-1] else float(times_s[-1])
    starts, ends = [0.0, *middles.tolist()], [*middles.tolist(), end]
    found: list[tuple[float, float, float]] = []
    open_until = -1
    for i in np.flatnonzero(weights > ATTENDED / len(weights)).tolist():
        if i == open_until:
            start, _, share = found.pop()
            found.append((start, ends[i], share + float(weights[i])))
        else:
            found.append((starts[i], ends[i], float(weights[i])))
        open_until = i + 1
    return tuple(sorted(found, key=lambda stretch: -stretch[2]))


def search(
    query: str,
    *,
    store: Store | str | Path | None = None,
    dataset: str | None = None,
    run: str | Path | None = None,
    head: str | nn.Module | None = None,
    split: str | None = None,
    protocol: str | None = None,
    top: int = 5,
    features: Path = Path("features"),
    runs: Path = RUNS,
    clip: str | None = None,
    trust: Collection[str] = (),
) -> list[Hit]:
    """The ``top`` videos for a text, with scores and the seconds that the text looks at.

    ``run``: a trained head, by its path or name; ``head``: the name of one without training, or a module. Without
    either: the newest run on the store's data set, else mean pooling, said aloud. ``store`` is one, or its path;
    without it, that of ``dataset`` (by default the run's) below ``features``. Raises ``LabError`` as the command does.
    """
    path = None if run is None else locate_run(run, runs)
    if store is None:
        found = store_of(path, argparse.Namespace(store=None, dataset=dataset, features=features))
    else:
        found = store if isinstance(store, Store) else open_store(store)
    if isinstance(head, nn.Module):
        one = Candidate(head, type(head).__name__)
    else:
        one = choose_head(found, path, head, (), runs, trust)
    if told := not_searched(found, split, protocol):
        log.warning("%s", told)
    return Searcher(found, one, split=split, protocol=protocol, clip=clip).search(query, top)


# -- the command -----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.search",
        "Find the videos of a store that fit a text best. Without --run and --head: the newest run on the data set, "
        "else mean pooling.",
        'python -m lab.search "an elephant spins beside a pumpkin" --dataset toy',
    )
    add = parser.add_argument
    add("query", help="what the video should show, or sound like")
    add("--run", metavar="RUN", help="a trained head: its directory, or its name below --runs")
    add("--head", metavar="HEAD", help="a head without training: mean, topk, softmax")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a keyword of --head, as top_k=3")
    store_options(parser)
    add("--split", help="only videos of this split (default: all videos of the store)")
    add("--top", type=int, default=5, help="how many videos (default: %(default)s)")
    add("--clip", metavar="CLIP", help="the text tower, where the store does not say where its weights are")
    add("--trust", action="append", default=[], metavar="NAME", help="let a run use this class of your own")
    add("--runs", type=Path, default=RUNS, help="directory of runs (default: %(default)s)")
    given = parser.parse_args(argv)
    path = None if given.run is None else locate_run(given.run, given.runs)
    store = store_of(path, given)
    one = choose_head(store, path, given.head, given.set, given.runs, given.trust)
    searcher = Searcher(store, one, split=given.split, protocol=given.protocol, clip=given.clip)
    query = searcher.encoder(given.query)
    for note in query.notes:
        log.warning("%s", note)
    hits = searcher.search(query, given.top)
    rows = [[i, hit.video, f"{hit.score:.3f}", told(hit)] for i, hit in enumerate(hits, 1)]
    cli.say(f"{one.label} over {len(searcher.rows)} videos of {store.path}")
    if told_less := not_searched(store, given.split, given.protocol):
        cli.say(f"! {told_less}")
    cli.say(cli.table(["", "video", "score", "seconds that the text looks at"], rows))
    for warning in store.warnings:
        cli.say(f"! {warning}")
    return 0


def told(hit: Hit) -> str:
    """Where the text looks, in words: up to three stretches."""
    if not hit.weights:
        return "-"
    if not hit.attended:
        if not all(math.isfinite(time) for time in hit.times_s):
            return f"most at frame {int(np.argmax(hit.weights)) + 1} of {len(hit.weights)}"
        return "all alike"
    shown = ", ".join(f"{start:.1f} to {end:.1f} s ({100 * share:.0f} %)" for start, end, share in hit.attended[:3])
    return f"at {shown}"


class _Callable(ModuleType):
    """``lab.search`` is a function of the package and also the name of this module: so the module can be called."""

    __call__ = staticmethod(search)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """As a function it is sent to other processes by its name."""
        return import_module, (__name__,)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    sys.exit(cli.run(main))
