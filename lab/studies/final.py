"""The end of the final step: the test split is read, once for all heads that ``lab.studies.rows`` has trained.

Nothing else in ``lab.studies`` unseals a store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab import cli
from lab.embeddings import Texts, Videos
from lab.evaluate import evaluate
from lab.reads import Reader, count_reads, load_split
from lab.studies.diversity import diversity
from lab.studies.setups import Setup
from lab.studies.splits import Fitted, Splits
from lab.training.course import Split


@dataclass(frozen=True)
class RankedRow:
    """A row's heads, one a seed, and the ranks that they gave, (R, queries): on test by direction, on validation of its
    captions.
    """

    fits: Sequence[Fitted]
    ranks: dict[str, NDArray[np.float64]]
    val_ranks: NDArray[np.float64]

    @property
    def setup(self) -> Setup:
        """What was trained."""
        return self.fits[0].setup


@dataclass(frozen=True)
class Final:
    """All rows on the test split. Queries of test and of validation, (T,) each, are told by the rows of the store's
    tables that their video and their caption have.
    """

    rows: tuple[RankedRow, ...]
    video: NDArray[np.int64]
    caption: NDArray[np.int64]
    val_video: NDArray[np.int64]
    val_caption: NDArray[np.int64]
    reads_before: int
    sweep: dict[str, Any]

    def row(self, name: str) -> RankedRow:
        """A row by its name."""
        return next(row for row in self.rows if row.setup.name == name)


def read_test(trained: Sequence[Sequence[Fitted]], splits: Splits, command: str) -> Final:
    """Opens the store, reads the test split once, and ranks with every head. From here on nothing can be chosen.

    A sweep changes the videos that were read, and ranks again.
    """
    study, sealed = splits.study, splits.store
    protocol = sealed.protocol
    heads = sum(map(len, trained))
    with cli.bar(heads, "validation split", "head") as bar:
        on_val = [_ranks(fits, lambda level: splits.load("val", level), bar)["t2v"] for fits in trained]
    val_queries = _queries(*splits.load("val", trained[0][0].run.audio_level))
    before = count_reads(sealed, "test")
    store = sealed.unseal()
    needs = {splits.needs.at(fit.run.audio_level) for fits in trained for fit in fits}
    first, *others = sorted(needs, key=lambda each: each.audio or "")
    reader = Reader(command, ", ".join(fits[0].setup.name for fits in trained), study.name)
    texts, videos = load_split(store, "test", protocol, needs=first, device=splits.device, reader=reader)
    gallery = {first: videos}  # of other heads, which hear the same at another level
    for each in others:
        gallery[each] = store.load("test", protocol, splits.device, audio=each.audio, words=False)[1]
    with cli.bar(heads, "test split", "head") as bar:
        on_test = [_ranks(fits, lambda level: (texts, gallery[splits.needs.at(level)]), bar) for fits in trained]
    rows = tuple(map(RankedRow, trained, on_test, on_val))
    sweep = diversity(study, rows, store, texts, videos) if study.kind == "sweep" else {}
    return Final(rows, *_queries(texts, videos), *val_queries, before, sweep)


def _ranks(fits: Sequence[Fitted], load: Callable[[str], Split], bar: Any) -> dict[str, NDArray[np.float64]]:
    """Ranks (R, queries) of a row's heads by direction; ``load`` gives a split at a level at which a head hears."""
    told = []
    for fit in fits:
        told.append(evaluate(fit.head, *load(fit.run.audio_level)))
        bar.update()
    return {direction: np.stack([each[direction] for each in told]) for direction in told[0]}


def _queries(texts: Texts, videos: Videos) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (T,) of the store's tables: the videos and the captions of queries."""
    if texts.video is None or texts.rows is None or videos.rows is None:
        raise ValueError("a split of a store knows its rows")
    return videos.rows[texts.video.to(videos.rows.device)].cpu().numpy(), texts.rows.cpu().numpy()
