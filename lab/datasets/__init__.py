"""Data sets as protocol objects: splits, ids, captions, files, expected counts, where to download. No tensors."""

from __future__ import annotations

from lab.datasets.activitynet import ACTIVITYNET
from lab.datasets.collection import Caption, Collection, Dataset, Expected, Splits, Video
from lab.datasets.didemo import DIDEMO
from lab.datasets.folder import Folder
from lab.datasets.lsmdc import LSMDC
from lab.datasets.msrvtt import MSRVTT
from lab.datasets.msvd import MSVD
from lab.datasets.toy import Toy
from lab.datasets.vatex import VATEX
from lab.errors import unknown

__all__ = ["DATASETS", "SOUNDING", "Caption", "Collection", "Dataset", "Expected", "Splits", "Video", "get_dataset"]

_ALL: tuple[Dataset, ...] = (MSVD, MSRVTT, DIDEMO, LSMDC, ACTIVITYNET, VATEX, Folder(), Toy())
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}

#: By data set: how many of how many videos have an audio stream in a copy that has lost none, of a protocol's split, or
#: of all (None). These are counts that users of the data report; there is no list of the videos.
SOUNDING: dict[str, dict[tuple[str, str] | None, tuple[int, int]]] = {
    "msrvtt": {None: (8811, 10000), ("1k-A-9k", "test"): (884, 1000)},
}


def get_dataset(name: str) -> Dataset:
    """The data set of that name. Raises LabError with the nearest name where there is none."""
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    return DATASETS[name]
