"""What a pass was asked for, and what follows from that alone: its sampling, its networks' names, its store's place."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from lab.backbones import DEFAULT_CLIP
from lab.datasets import Collection, get_dataset
from lab.datasets.toy import Toy
from lab.errors import LabError
from lab.extraction.units import Share
from lab.sampling import Sampling, parse_sampling

MODALITIES = ("frames", "text", "audio")
#: Of longer sound the first part is heard; the passport says so.
MAX_AUDIO_S = 600.0


@dataclass(frozen=True)
class Options:
    """What a pass needs to know; the defaults of the command stand here."""

    dataset: str
    root: Path | None = None
    clip: str | None = None
    panns: str | None = None
    sampling: str | None = None
    features: Path = Path("features")
    name: str | None = None
    only: tuple[str, ...] = ()
    split: str | None = None
    seed: int = 0
    share: Share = field(default_factory=Share)
    workers: int = max(1, (os.cpu_count() or 2) - 1)
    device: str = "cpu"
    precision: str = "fp32"
    batch: int | None = None
    download: bool = False
    ray: str | None = None
    encoders: int | None = None
    decoders: int | None = None


def sampling_for(options: Options) -> Sampling:
    """``--sampling``, or the data set's own."""
    return parse_sampling(options.sampling or get_dataset(options.dataset).default_sampling)


def heard_s(sampling: Sampling) -> float:
    """Of how many seconds the sound is heard: those that frames may be of, and of long videos no more than a part."""
    return MAX_AUDIO_S if sampling.span_s is None else min(MAX_AUDIO_S, sampling.span_s)


def clip_name(options: Options) -> str:
    """``--clip``, or what stands for it where nothing was said: the toy world has a CLIP of its own."""
    return options.clip or ("toy" if options.dataset == Toy.name else DEFAULT_CLIP)


def store_path(options: Options, collection: Collection) -> Path:
    """Where the store is: named after data set, CLIP and sampling; the passport, not the name, tells them apart."""
    if options.name:
        if not re.fullmatch(r"[\w.+-]+", options.name) or options.name.startswith("."):
            raise LabError(
                f"a store's name has letters, digits, '.', '-', '_' and '+' only, got --name '{options.name}'"
            )
        return options.features / (options.name.removesuffix(".zarr") + ".zarr")
    place = collection.root.resolve().name
    where = f"-{place}" if collection.name in ("folder", Toy.name) and place != collection.name else ""
    name = clip_name(options)
    clip = re.sub(r"[^\w.-]+", "-", Path(name).name if "/" in name else name)
    split = f"-{re.sub(r'[^0-9]+', '_', options.split)}-seed{options.seed}" if options.split else ""
    return options.features / re.sub(
        r"[^\w.+-]+", "-", f"{collection.name}{where}{split}-{clip}-{sampling_for(options).name}.zarr"
    )
