"""The nouns of a data set: videos, captions, the protocols that divide them. No tensors, no decoding."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from lab.download import Source

Splits = Mapping[str, str]  # protocol -> split; a protocol that leaves the row out has no key
# protocol -> split -> (videos, captions); None where no published count is known
Expected = Mapping[str, Mapping[str, tuple[int | None, int]]]

PARTS = ("train", "val", "test")
SPLIT_ORDER = (*PARTS, "all")


@dataclass(frozen=True, slots=True)
class Video:
    """One video that the data set lists; ``file`` lies below the root, or is None where none has its name."""

    id: str
    file: Path | None
    splits: Splits


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption row. ``video`` is a row of ``Collection.videos``; ``splits`` says where it is a query or a sample.

    ``seconds`` and ``needs_sound`` are ground truth, which a made world has and real data sets lack: from when until
    before when the video shows what the caption tells, and whether the picture alone cannot tell. None is unknown. They
    are for measuring heads and enter no feature. Raises ValueError for a stretch that is none.
    """

    video: int
    text: str
    splits: Splits
    seconds: tuple[float, float] | None = None
    needs_sound: bool | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 <= self.seconds[0] < self.seconds[1] < math.inf:
            raise ValueError(f"0 <= start < end must hold of a caption's seconds, got {self.seconds}: {self.text!r}")

    @property
    def has_truth(self) -> bool:
        """Whether any of its ground truth is known."""
        return self.seconds is not None or self.needs_sound is not None


@dataclass(frozen=True)
class Collection:
    """All videos and captions of a data set; each protocol is a view on them through ``splits``.

    ``videos`` are ordered so that each split of the default protocol (``protocols[0]``) is contiguous: train, val,
    test, then what the protocol leaves out. ``captions`` are grouped by video, in the order of ``videos``. ``notes``
    has one line for each way in which the files differ from what the data set is known to hold.
    """

    name: str
    root: Path
    videos: tuple[Video, ...]
    captions: tuple[Caption, ...]
    protocols: tuple[str, ...]
    notes: tuple[str, ...]

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The ids of videos without a file below the root, in the order of ``videos``."""
        return tuple(video.id for video in self.videos if video.file is None)

    @cached_property
    def version(self) -> str:
        """SHA-256 (hex) over ids, captions and splits: what the data set says, not which files are present or where.

        Ground truth counts where there is some; without any the version is that of a data set that cannot have it.
        """
        table: dict[str, int] = {}  # the few distinct splits, so that 200,000 captions cost one number each

        def number(splits: Splits) -> int:
            return table.setdefault(json.dumps(sorted(splits.items())), len(table))

        by_identity: dict[int, int] = {}
        captions = []
        for caption in self.captions:
            key = id(caption.splits)
            if key not in by_identity:
                by_identity[key] = number(caption.splits)
            captions.append((caption.video, caption.text, by_identity[key]))
        videos = [(video.id, number(video.splits)) for video in self.videos]
        said: list[object] = [videos, captions, list(table)]
        truth = [(row, c.seconds, c.needs_sound) for row, c in enumerate(self.captions) if c.has_truth]
        return hashlib.sha256(json.dumps([*said, truth] if truth else said).encode()).hexdigest()

    def splits(self, protocol: str) -> dict[str, tuple[int, int]]:
        """Split -> (videos, captions) that a protocol holds, in the order train, val, test, all."""
        videos = Counter(video.splits.get(protocol) for video in self.videos)
        captions = Counter(caption.splits.get(protocol) for caption in self.captions)
        return {name: (videos[name], captions[name]) for name in SPLIT_ORDER if name in videos}


class Dataset(Protocol):
    """How one data set is laid out on disk, what it should hold, and where it is to be had."""

    @property
    def name(self) -> str:
        """The key in DATASETS."""

    @property
    def protocols(self) -> tuple[str, ...]:
        """Names of the protocols, the default first."""

    @property
    def default_sampling(self) -> str:
        """The sampling rule (a name of ``lab.sampling``) that a pass takes where none is named."""

    @property
    def expected(self) -> Expected:
        """The counts that a complete copy has, by protocol and split."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """What is public, and where it goes below the root."""

    @property
    def instructions(self) -> str:
        """What a person has to do for what is not public."""

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """Read lists and captions below ``root`` and match the video files.

        Raises LabError where the root, a list or a caption file is missing or unreadable.
        """
