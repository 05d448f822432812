"""What figures are drawn from: a split of a store, some heads, and what follows from both, each computed once."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lab.by_word import stored_words
from lab.caveats import left_out
from lab.choose import Candidate
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.evaluate import own_sound
from lab.heads.pooling import TopKPooling
from lab.heads.sweep import sweep
from lab.metrics import ranks
from lab.needs import Needs
from lab.reads import OPEN, Reader, load_split
from lab.runs import RUNS
from lab.significance import Interval, bootstrap_interval
from lab.similarity import similarity_matrix
from lab.store import Store
from lab.truth import AgainstTruth, against_truth, knows_truth, own_frame_weights

log = logging.getLogger(__name__)

#: What tells of heads beside heads.
METRICS = ("R@1", "R@5", "R@10")
#: Resamples of an interval in a figure: its ends are then sure to some 2 % of its width.
RESAMPLES = 2000


class NoData(LabError):  # noqa: N818 - it is said, not raised to the user, where all figures are drawn
    """A figure has nothing to show here; the message says what it lacks."""


class Material:
    """A split of a store with some heads. ``heads`` maps labels to heads; a label begins with its head's name.

    A held-out split is logged for each head, as ``lab.evaluate`` does, with ``command`` as the one who reads. ``runs``
    is where heads were looked for.
    """

    def __init__(
        self,
        store: Store,
        heads: Mapping[str, nn.Module] | Sequence[Candidate],
        split: str = "val",
        protocol: str | None = None,
        command: str = "lab.figures",
        runs: Path = RUNS,
    ) -> None:
        given = [Candidate(head, label) for label, head in heads.items()] if isinstance(heads, Mapping) else heads
        self.store, self.split, self.command, self.runs = store, split, command, runs
        self.protocol = protocol or store.protocols[0]
        self.heads: dict[str, Candidate] = {one.label: one for one in given}
        if len(self.heads) != len(given):
            raise ValueError(f"labels must differ, got {[one.label for one in given]}")
        self._loaded: dict[Needs, tuple[Texts, Videos]] = {}
        self._logged: set[str] = set()
        self._similarities: dict[str, NDArray[np.float32]] = {}
        self._intervals: dict[tuple[str, str, str], Interval] = {}

    # -- the split ---------------------------------------------------------------------------------------------------

    def load(self, needs: Needs, label: str, run: Path | None = None) -> tuple[Texts, Videos]:
        """Texts and videos with what is needed of them. A held-out split is logged once for each label."""
        if needs not in self._loaded or (self.split not in OPEN and label not in self._logged):
            reader = Reader(self.command, label, str(run) if run else None)
            self._loaded[needs] = load_split(self.store, self.split, self.protocol, needs=needs, reader=reader)
            self._logged.add(label)
        return self._loaded[needs]

    @cached_property
    def bare(self) -> tuple[Texts, Videos]:
        """Sentences and frames alone."""
        held = self._loaded
        return next(iter(held.values())) if held else self.load(Needs(), "features")

    def features(self, label: str) -> tuple[Texts, Videos]:
        """What one of the heads reads."""
        one = self.heads[label]
        return self.load(one.needs, label, one.run)

    @property
    def target(self) -> NDArray[np.int64]:
        """The column (T,) of each text's own video."""
        video = self.bare[0].video
        if video is None:
            raise ValueError("the texts of a store name their videos")
        return np.asarray(video.cpu().numpy())

    @cached_property
    def captions(self) -> list[dict[str, Any]]:
        """The store's row of each text: ``text``, ``start_s``, ``end_s``, ``needs_sound`` and others."""
        rows = self.bare[0].rows
        return [self.store.captions[row] for row in (rows.tolist() if rows is not None else [])]

    def seconds_of(self, text: int) -> tuple[float, float] | None:
        """From when until when a text tells of its video; None where that is not known."""
        row = self.captions[text]
        return None if row["start_s"] is None or row["end_s"] is None else (row["start_s"], row["end_s"])

    def words_of(self, text: int) -> tuple[Sequence[str], NDArray[np.int64]]:
        """``lab.by_word.stored_words`` of a text. Raises ``NoData`` where there are none."""
        rows = self.bare[0].rows
        words, word_of_token = stored_words(self.store, int(rows[text]) if rows is not None else text)
        if not len(word_of_token):
            raise NoData(f"the store holds no words of the caption '{self.captions[text]['text']}'")
        return words, word_of_token

    @cached_property
    def needs_sound(self) -> NDArray[np.float64]:
        """1 where a text (T,) needs the sound, 0 where it does not, NaN where unknown."""
        return np.array([np.nan if row["needs_sound"] is None else row["needs_sound"] for row in self.captions], float)

    @cached_property
    def has_sound(self) -> NDArray[np.float64]:
        """1 where a text's own video (T,) has sound, 0 where it has none or is silent, NaN where unknown."""
        return own_sound(self.store, *self.bare)

    @cached_property
    def video_rows(self) -> NDArray[np.int64]:
        """The store's row (V,) of each video."""
        rows = self.bare[1].rows
        return np.asarray([] if rows is None else rows.cpu().numpy())

    @property
    def frame_mask(self) -> NDArray[np.bool_]:
        """Which frames (V, F) are real."""
        mask = self.bare[1].frame_mask
        if mask is None:
            raise ValueError("Videos make a mask where none is given")
        return np.asarray(mask.cpu().numpy())

    @cached_property
    def times_s(self) -> NDArray[np.float32]:
        """Seconds (V, F) at which frames are shown; NaN in the padding."""
        return self.store.frame_times_s(self.video_rows)

    def frame_times_s(self, video: int) -> NDArray[np.float32]:
        """Seconds (F',) at which the real frames of one of the videos are shown; NaN where the store knows none."""
        return np.asarray(self.times_s[video][self.frame_mask[video]])

    def video_id(self, video: int) -> str:
        """The name of one of the videos."""
        return str(self.store.videos[int(self.video_rows[video])]["id"])

    # -- the heads ---------------------------------------------------------------------------------------------------

    def similarity(self, label: str) -> NDArray[np.float32]:
        """Similarity (T, V) under one of the heads."""
        if label not in self._similarities:
            self._similarities[label] = similarity_matrix(self.heads[label].head, *self.features(label)).numpy()
        return self._similarities[label]

    def ranks(self, label: str) -> NDArray[np.float64]:
        """The rank (T,) of each text's own video under one of the heads."""
        return ranks(self.similarity(label), self.target)

    def interval(self, label: str, metric: str = "R@1", where: NDArray[np.bool_] | None = None) -> Interval:
        """A metric of one of the heads with its bootstrap interval."""
        key = (label, metric, "" if where is None else where.tobytes().hex())
        if key not in self._intervals:
            self._intervals[key] = interval(self.ranks(label), self.target, metric, where)
        return self._intervals[key]

    def best_first(self) -> list[str]:
        """The labels of the heads by R@1; of those alike by R@5, then R@10, then as they were given."""
        found = {label: [-self.interval(label, metric).value for metric in METRICS] for label in self.heads}
        return sorted(found, key=found.__getitem__)

    def pooled(
        self, top_k: Sequence[int] = (), temperature: Sequence[float] = ()
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Untrained pooling under each setting: ranks (settings, T), and the similarities of each text's own video."""
        texts, videos = self.bare
        head = TopKPooling(texts.dim, top_k=1)
        rank = np.empty((len(top_k) + len(temperature), len(texts)))
        own = np.empty(rank.shape, np.float32)
        for rows, found in sweep(head, texts, videos, top_k=top_k, temperature=temperature):
            columns = self.target[rows]
            own[:, rows] = found[:, torch.arange(len(rows)), torch.from_numpy(columns)].numpy()
            for setting, similarity in enumerate(found.numpy()):
                rank[setting, rows] = ranks(similarity, columns)
        return rank, own

    def own_weights(self, label: str) -> NDArray[np.float64]:
        """The weights (T, F) of the frames of each text's own video under one of the heads; rows sum to one."""
        head = self.heads[label].head
        if not hasattr(head, "frame_weights"):
            raise NoData(f"the head '{label}' has no frame_weights")
        return own_frame_weights(head, *self.features(label))

    def training(self, head: str, *settings: str) -> str:
        """The command, to be pasted, that trains a head which the same figures find when they are drawn again."""
        words = ["python", "-m", "lab.train", head, *(word for each in settings for word in ("--set", each))]
        words += ["--store", str(self.store.path)]
        words += ["--protocol", self.protocol] if self.protocol != self.store.protocols[0] else []
        return shlex.join([*words, *into(self.runs)])

    def truth(self, label: str) -> AgainstTruth:
        """One of the heads held against the truth. Raises ``NoData`` where the captions know none."""
        if not knows_truth(self.store, self.bare[0]):
            raise NoData(f"the captions of {self.store.path.name} know no truth: only a made world's do (toy)")
        head = self.heads[label].head
        return against_truth(head, self.store, *self.features(label), self.ranks(label))

    def source(self, *labels: str) -> str:
        """The small print: store, passport, split, how many, and the runs of the heads that are named."""
        runs = dict.fromkeys(run.name for label in labels if (run := self.heads[label].run) is not None)
        held = self.store.coverage(self.split, self.protocol)
        counts = f"{held.captions} captions, {held.videos} videos"
        lines = [f"{self.store.path.name}, {self.protocol} {self.split}: {counts}"]
        lines += [lacking] if (lacking := left_out(held)) else []
        lines += [f"runs: {', '.join(runs)}"] if runs else []
        return "\n".join([*lines, *self.store.warnings])


def into(runs: Path) -> list[str]:
    """The words of a command that leave its result in a directory; none for the usual one."""
    return ["--runs", str(runs)] if runs != RUNS else []


def interval(
    rank: NDArray[np.float64], target: NDArray[np.int64], metric: str = "R@1", where: NDArray[np.bool_] | None = None
) -> Interval:
    """A metric with its interval, for figures. Raises ``NoData`` for queries of fewer than two videos."""
    kept = target if where is None else target[where]
    if len(np.unique(kept)) < 2:
        raise NoData(f"{len(np.unique(kept))} videos are too few to resample")
    return bootstrap_interval(rank, target, metric, where=where, resamples=RESAMPLES)
