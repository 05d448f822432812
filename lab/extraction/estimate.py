"""What a pass would do and how long it would take, from a few of its videos: ``python -m lab.cache --dry-run``."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lab.backbones.weights import AbsentWeightsError
from lab.extraction.options import MODALITIES, Options, sampling_for, store_path
from lab.extraction.plan import backbones, collect, decoding_for
from lab.media import Clip

if TYPE_CHECKING:
    from lab.backbones.clip import ClipBackbone
    from lab.backbones.panns import PannsBackbone
    from lab.datasets import Dataset

log = logging.getLogger(__name__)


def dry_run(options: Options) -> str:
    """Videos, bytes and expected time, from decoding and encoding up to three of the videos; nothing is written.

    Without the weights of a network no time is told, and which they are.
    """
    dataset, collection = collect(options)
    clip, panns, absent = _networks(options, dataset)
    sampling = sampling_for(options)
    files = [video.file for video in collection.videos if video.file is not None]
    sizes = [file.stat().st_size for file in files if file.is_file()]
    captions = sum(collection.videos[caption.video].file is not None for caption in collection.captions)
    rows: list[list[object]] = [["videos with a file", len(files)], ["videos missing", len(collection.missing)],
            ["bytes of video", f"{sum(sizes):,}"], ["captions to encode", captions],
            ["store", store_path(options, collection)]]  # fmt: skip
    if absent:
        rows += [["expected time", f"unknown, {len(absent)} of the networks cannot be tried"]]
        return "\n".join([*_aligned(rows), *(f"! {error}" for error in absent)])
    job = decoding_for(clip, sampling).job(clip is not None, panns.sample_rate if panns else None)
    probed = [files[i] for i in sorted({0, len(files) // 2, len(files) - 1})] if files else []
    decode_s, encode_s = _trial(job, probed, clip, panns)
    if clip is not None and captions and "".join(options.only) != "frames":
        sample = [caption.text for caption in collection.captions[:64]]
        start = time.perf_counter()
        clip.encode_texts(sample)
        rows.append(["expected for captions", _clock((time.perf_counter() - start) / len(sample) * captions)])
    if probed:
        cores = os.cpu_count() or 1
        if options.device == "cpu":  # the stages share the cores; encoding already used them all
            seconds = (decode_s / cores + encode_s) * len(files) / len(probed)
        else:
            seconds = max(decode_s / options.workers, encode_s) * len(files) / len(probed)
        rows.append(["expected for videos", f"{_clock(seconds)} (from {len(probed)} of them)"])
    return "\n".join(_aligned(rows))


def _aligned(rows: Sequence[Sequence[object]]) -> list[str]:
    return [f"{row[0]:24}{row[1]}" for row in rows]


def _networks(
    options: Options, dataset: Dataset
) -> tuple[ClipBackbone | None, PannsBackbone | None, list[AbsentWeightsError]]:
    """The networks that have their weights here, and what is to be said of each that has not."""
    clip, panns, absent = None, None, list[AbsentWeightsError]()
    wanted = options.only or MODALITIES
    for kind in (("frames", "text"), ("audio",)):
        only = tuple(name for name in kind if name in wanted)
        try:
            found = backbones(replace(options, only=only), dataset) if only else (None, None)
        except AbsentWeightsError as error:
            absent.append(error)
        else:
            clip, panns = clip or found[0], panns or found[1]
    return clip, panns, absent


def _trial(
    job: Callable[[Path], Clip], files: Sequence[Path], clip: ClipBackbone | None, panns: PannsBackbone | None
) -> tuple[float, float]:
    """CPU seconds of decoding and wall seconds of encoding some files; those that fail cost nothing."""
    decoding = encoding = 0.0
    for file in files:
        try:
            decoded = job(file)
        except Exception as error:
            log.debug("%s: %s", file, error)
            continue
        decoding += decoded.seconds
        start = time.perf_counter()
        if clip is not None and len(decoded.pictures):
            clip.encode_frames(decoded.pictures)
        if panns is not None and decoded.audio is not None:
            panns.encode(decoded.audio)
        encoding += time.perf_counter() - start
    return decoding, encoding


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
