"""The end of the final step: the test split is read, once for all heads that ``lab.studies.rows`` has trained.

Nothing else in ``lab.studies`` unseals a store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab import cli
from lab.evaluate import evaluate
from lab.reads import Reader, count_reads, require_split
from lab.studies.diversity import diversity
from lab.studies.guard import SealedStore
from lab.studies.setups import Setup, Study
from lab.studies.splits import Fitted, Splits, load_levels
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
    """All rows on the test split. ``video`` and ``caption`` (T,) are the queries' rows in the store's tables;
    ``val_video`` says which of the validation split's videos each of its captions is of.
    """

    rows: tuple[RankedRow, ...]
    video: NDArray[np.int64]
    caption: NDArray[np.int64]
    val_video: NDArray[np.int64]
    videos: int
    reads_before: int
    protocol: str
    sweep: dict[str, Any]

    def row(self, name: str) -> RankedRow:
        """A row by its name."""
        return next(row for row in self.rows if row.setup.name == name)


def read_test(
    study: Study, trained: Sequence[Sequence[Fitted]], splits: Splits, sealed: SealedStore, command: str
) -> Final:
    """Opens the store, reads the test split once, and ranks with every head. From here on nothing can be chosen.

    A sweep changes the videos that were read, and ranks again.
    """
    require_split(sealed, "test", splits.protocol)
    heard = {fit.run.audio_level for fits in trained for fit in fits}
    val = {level: splits.load("val", level) for level in heard}
    with cli.bar(sum(map(len, trained)), "validation split", "head") as bar:
        on_val = [np.stack([_ranks(fit, val, bar)["t2v"] for fit in fits]) for fits in trained]
    before = count_reads(sealed, "test")
    names = ", ".join(fits[0].setup.name for fits in trained)
    store = sealed.unseal()
    levels = heard if splits.needs.audio else {"clip"}
    test = load_levels(
        store, "test", splits.protocol, splits.needs, levels, splits.device, Reader(command, names, study.name)
    )
    rows = []
    with cli.bar(sum(map(len, trained)), "test split", "head") as bar:
        for fits, chosen_on in zip(trained, on_val, strict=True):
            ranks = [_ranks(fit, test, bar) for fit in fits]
            by_direction = {name: np.stack([each[name] for each in ranks]) for name in ranks[0]}
            rows.append(RankedRow(fits, by_direction, chosen_on))
    texts, videos = next(iter(test.values()))
    if texts.video is None or texts.rows is None or videos.rows is None:
        raise ValueError("a split of a store knows its rows")
    owner = videos.rows[texts.video.to(videos.rows.device)]
    sweep = diversity(study, rows, store, texts, videos) if study.kind == "sweep" else {}
    queries = owner.cpu().numpy(), texts.rows.cpu().numpy()
    target = next(iter(val.values()))[0].video
    val_video = target.cpu().numpy() if target is not None else queries[0]
    return Final(tuple(rows), *queries, val_video, len(videos), before, splits.protocol, sweep)


def _ranks(fit: Fitted, levels: Mapping[str, Split], bar: Any) -> dict[str, NDArray[np.float64]]:
    split = levels.get(fit.run.audio_level) or next(iter(levels.values()))
    ranks = evaluate(fit.head, *split)
    bar.update()
    return ranks
